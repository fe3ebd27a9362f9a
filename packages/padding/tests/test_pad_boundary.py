"""The value that a boundary mode is read into, and that no place forgets a mode."""

import copy
import inspect
import pickle
import re
from typing import Any

import jax.numpy as jnp
import jaxtyping
import oracles
import pytest

from pdequinox_padding import (
    Boundary,
    halo_pad,
    pad,
    parse_boundary_mode,
    parse_padding_mode,
    per_channel,
)
from pdequinox_padding._boundary import Kind, KINDS
from pdequinox_padding._pad import extend


BOUNDARIES = [
    Boundary.parse("neumann", 2),
    Boundary.parse("neumann", 3),
    Boundary.parse("zeros", 2),
    Boundary.parse([("neumann", "outflow"), "periodic"], 2),
    Boundary.parse([("outflow", "neumann"), "periodic"], 2),
    Boundary.parse(per_channel((2, "neumann"), (1, ["outflow", "zeros"])), 2),
    Boundary.parse(per_channel((3, "neumann")), 2),
    Boundary.parse([("pole_node", "pole_cell_odd"), "periodic"], 2),
]

# The attributes in the text that shows a boundary.
NAMES = {"Boundary": Boundary, "Kind": Kind, "per_channel": per_channel}


@pytest.mark.parametrize("alias, name", [("zeros", "dirichlet"), ("neumann_node", "neumann")])
def test_aliases(alias, name):
    assert Boundary.parse(alias.upper(), 2) == Boundary.parse(name, 2)
    assert parse_boundary_mode([(alias, "outflow")], 1) == ((name, "outflow"),)
    assert parse_padding_mode(alias, 1) == ((name, name),)
    x = jnp.arange(4.0)
    assert (pad(x, [3], alias) == pad(x, [3], name)).all()
    with pytest.raises(
        ValueError, match=f"must be one of .*'{name}', '{alias}'.*'wall' is unknown"
    ):
        parse_boundary_mode("wall", 1)


def test_low_level_names_are_for_those_who_ask():
    assert Boundary.parse("replicate", 1, low_level=True) == Boundary.parse("outflow", 1)
    with pytest.raises(ValueError, match=r"`walls` must be one of .*'replicate' is unknown"):
        Boundary.parse("replicate", 1, name="walls")


def test_equal_means_the_same_everywhere():
    spelled = Boundary.parse([["NEUMANN", "Outflow"], "periodic"], 2)
    assert spelled == BOUNDARIES[3] and hash(spelled) == hash(BOUNDARIES[3])
    assert len({*BOUNDARIES, spelled}) == len(BOUNDARIES)


@pytest.mark.parametrize("boundary", BOUNDARIES, ids=repr)
def test_copies_are_equal(boundary):
    copies = [copy.copy(boundary), copy.deepcopy(boundary), pickle.loads(pickle.dumps(boundary))]
    copies.append(eval(repr(boundary), NAMES))
    copies.append(Boundary.parse(boundary.boundary_mode, len(boundary.axes)))
    copies.append(Boundary.parse(boundary.padding_mode, len(boundary.axes), low_level=True))
    for other in copies:
        assert other == boundary and hash(other) == hash(boundary)


@pytest.mark.parametrize("boundary", BOUNDARIES, ids=repr)
def test_boundaries_of_walls_are_shown_as_such(boundary):
    walls = boundary.with_kinds(Kind.as_wall)
    assert eval(repr(walls), NAMES) == walls
    assert (repr(walls) == repr(boundary)) == (walls == boundary)
    assert (repr(walls.parts) == repr(boundary.parts)) == (walls == boundary)


def test_boundaries_do_not_change():
    with pytest.raises(AttributeError):
        BOUNDARIES[0].axes = ()


# A mode is a row of `KINDS`, a line in the documentation of `pad`, and a formula in the oracle.


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_every_kind_is_documented_by_all_its_names(kind):
    aliases_first = " or ".join(f'`"{name}"`' for name in (*kind.aliases, kind.name))
    assert f"\n    - {aliases_first}: " in inspect.cleandoc(pad.__doc__).replace("\n- ", "\n    - ")


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_every_kind_has_a_formula_in_the_oracle(kind):
    if kind.pole:
        assert kind.name in oracles.POLE_MODES
        assert oracles.pole_source(-2, 4, (kind.name, kind.name))[2] == 1
        return
    for position in (-1, 4):
        oracles.extension_row(position, 4, (kind.name, kind.name))
    ordinary = {name: other for name, other in KINDS.items() if not other.pole}
    others = [name for name, other in ordinary.items() if other.wraps == kind.wraps]
    assert {(kind.name, other) for other in others} <= {*oracles.ALL_ENDS}
    with pytest.raises(AssertionError):
        oracles.extension_row(-1, 4, ("unknown", "unknown"))


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_rows_hold_together(kind):
    assert (kind.mirror is None) == (kind.mirror not in (0, 1, 2))
    assert kind.sign in ((-1, 1) if kind.mirror is not None else (0, 1))
    # An odd mirror on a stored node would fix that node at the wall's value. On a pole it says what
    # is on the opposite meridian.
    assert (kind.mirror, kind.sign) != (0, -1) or kind.pole
    # Between walls, every end has a mirror for the waves of a spectral layer.
    wall = kind.as_wall()
    assert (wall.mirror is None) == kind.wraps
    assert kind.wraps or (wall.mirror in (0, 1, 2) and wall.sign in (-1, 1))


# A person and a run-time type checker see this.


@pytest.mark.parametrize("function", [pad, halo_pad, parse_boundary_mode, Boundary.parse])
def test_help_shows_the_types(function):
    parameters = inspect.signature(function).parameters.values()
    assert all(parameter.annotation not in (Any, parameter.empty) for parameter in parameters)


@pytest.mark.parametrize(
    "call, text",
    [
        (lambda: pad(jnp.ones(3), 1.5, "neumann"), "`widths` must be"),
        (lambda: pad(jnp.ones(3), [1], 3), "3 is not a name"),
        (lambda: halo_pad(jnp.ones(3), [1], "neumann", 3), "`axis_names` must be"),
        (lambda: halo_pad(jnp.ones(3), [1], "neumann", [3]), "3 is not a name"),
        (lambda: parse_boundary_mode(3, 1), "3 is not a name"),
        (lambda: parse_padding_mode(3, 1), "3 is not a name"),
        (lambda: Boundary.parse(3, 1), "3 is not a name"),
    ],
)
def test_public_functions_give_their_own_errors(call, text):
    with pytest.raises(TypeError, match=re.escape(text)) as caught:
        call()
    assert not isinstance(caught.value, jaxtyping.TypeCheckError)


def test_inner_functions_are_checked_when_they_run():
    with pytest.raises(jaxtyping.TypeCheckError):
        extend(jnp.ones(3), ((1, 1),), "neumann")
