"""Tests the arguments of the padding package: what is accepted and refused, and the messages."""

import re

import jax.numpy as jnp
import pytest

from pdequinox_padding import (
    BOUNDARY_MODES,
    format_boundary_mode,
    format_padding_mode,
    pad,
    PADDING_MODES,
    parse_boundary_mode,
    parse_padding_mode,
    same_padding,
    transposed_widths,
)


PERIODIC = ("periodic", "periodic")
MIXED = ("neumann", "dirichlet_cell")


@pytest.mark.parametrize("mode", BOUNDARY_MODES)
def test_names_are_case_insensitive(mode):
    assert parse_boundary_mode(mode.upper(), 2) == ((mode, mode),) * 2
    assert parse_boundary_mode([mode.title()], 1) == ((mode, mode),)
    assert parse_boundary_mode([[mode.title(), mode]], 1) == ((mode, mode),)


def test_one_mode_per_axis_and_end():
    expected = (PERIODIC, MIXED)
    assert parse_boundary_mode(("periodic", ("neumann", "dirichlet_cell")), 2) == expected
    assert parse_boundary_mode([PERIODIC, ["Neumann", "DIRICHLET_cell"]], 2) == expected
    # Two names for two axes are one mode per axis, not one per end.
    assert parse_boundary_mode(("periodic", "neumann"), 2) == (PERIODIC, ("neumann", "neumann"))


def test_low_level_names_are_synonyms():
    for low_level, mode in PADDING_MODES.items():
        assert parse_padding_mode(low_level.upper(), 1) == ((mode, mode),)
        assert parse_padding_mode(mode, 1) == ((mode, mode),)
    for low_level in ("reflect", "replicate", "circular"):
        with pytest.raises(ValueError, match=f"'{low_level}' is unknown"):
            parse_boundary_mode(low_level, 1)


@pytest.mark.parametrize("ends", [(PERIODIC,), (PERIODIC, PERIODIC), (MIXED,), (MIXED, PERIODIC)])
def test_spelling_and_parsing_are_inverse(ends):
    assert parse_boundary_mode(format_boundary_mode(ends), len(ends)) == ends
    assert parse_padding_mode(format_padding_mode(ends), len(ends)) == ends


def test_spelling_is_the_shortest():
    assert format_boundary_mode((PERIODIC, PERIODIC)) == "periodic"
    assert format_boundary_mode((PERIODIC, MIXED)) == (PERIODIC, MIXED)
    assert format_padding_mode((PERIODIC,)) == "circular"
    assert format_padding_mode((("neumann", "neumann_cell"),)) == (("reflect", "neumann_cell"),)


@pytest.mark.parametrize(
    "mode, dims, error, text",
    [
        ("wall", 2, ValueError, "got 'wall', where 'wall' is unknown"),
        ("", 1, ValueError, "'' is unknown"),
        (None, 1, TypeError, "None is not a name"),
        (["periodic", 3], 2, TypeError, "3 is not a name"),
        (["periodic"], 2, ValueError, "which has 1 entries"),
        (["dirichlet", "neumann"], 1, ValueError, "which has 2 entries"),
        ([("dirichlet", "neumann", "neumann")], 1, ValueError, "3 names instead of 2"),
        ([("periodic", "neumann")], 1, ValueError, "axis 0 is periodic at one end only"),
        (["neumann", ("outflow", "Periodic")], 2, ValueError, "axis 1 is periodic at one end"),
        ([("dirichlet", "walls")], 1, ValueError, "'walls' is unknown"),
    ],
)
def test_bad_modes(mode, dims, error, text):
    with pytest.raises(error, match=re.escape(text)) as caught:
        parse_boundary_mode(mode, dims)
    assert "`boundary_mode` must be one of ['periodic', 'dirichlet'" in str(caught.value)
    with pytest.raises(error, match="`walls` must be one of"):
        parse_boundary_mode(mode, dims, name="walls")


@pytest.mark.parametrize(
    "shape, widths, mode, value, error, text",
    [
        ((3,), [(-1, 0)], "neumann", None, ValueError, "`widths` must be an integer >= 0"),
        ((3,), [(1, 2, 3)], "neumann", None, ValueError, "has 3 entries instead of 2"),
        ((3,), [True], "neumann", None, TypeError, "`widths` must be"),
        ((3,), [(0.5, 1)], "neumann", None, TypeError, "got [(0.5, 1)]"),
        ((3,), 1, "neumann", None, TypeError, "`widths` must be a sequence"),
        ((3,), [], "neumann", None, ValueError, "`widths` must be a sequence"),
        ((3,), [1, 1], "neumann", None, ValueError, "at most 1 for `x` of shape (3,)"),
        ((2, 0), [1], "neumann", None, ValueError, "at least one point on every padded axis"),
        ((2, 3), [1], "wall", None, ValueError, "`boundary_mode` must be one of"),
        ((2, 3), [1], "neumann", 1.0, ValueError, "`value` needs an end that is one of"),
        ((2, 3), [1], "dirichlet", jnp.ones(3), ValueError, "(2,), got shape (3,)"),
        ((2, 3), [1], "dirichlet", jnp.ones((2, 3)), ValueError, "got shape (2, 3)"),
        ((2, 3), [1], "dirichlet", 1j, TypeError, "fits `x` of float32, got complex64"),
        ((2, 3), [1], "dirichlet", (1.0, 2.0), ValueError, "one entry per padded axis, 1 here"),
        ((2, 3), [1], "dirichlet", ((1.0,),), ValueError, "one entry per end of an axis, 2 here"),
        ((2, 3), [1], [MIXED], ((1.0, 2.0),), ValueError, "got (1.0, 2.0) for axis 0"),
        ((2, 3), [1], "neumann", (1.0,), ValueError, "got 1.0 for axis 0"),
    ],
)
def test_bad_padding(shape, widths, mode, value, error, text):
    with pytest.raises(error, match=re.escape(text)):
        pad(jnp.zeros(shape), widths, mode, value)


@pytest.mark.parametrize("dtype_name", ["uint8", "bool"])
def test_odd_extensions_need_a_sign(dtype_name):
    x = jnp.ones(3, dtype_name)
    assert pad(x, [1], "neumann").dtype == dtype_name
    with pytest.raises(TypeError, match=f"signed dtype .*'dirichlet_cell'.* got {dtype_name}"):
        pad(x, [1], "dirichlet_cell")


def test_number_of_axes_of_a_mode():
    with pytest.raises(ValueError, match="`num_spatial_dims` must be an integer >= 1, got 0"):
        parse_boundary_mode("neumann", 0)


def test_value_that_would_be_rounded_is_refused():
    with pytest.raises(TypeError, match="fits `x` of int32, got float32"):
        pad(jnp.arange(3, dtype=jnp.int32), [1], "dirichlet", 0.5)


@pytest.mark.parametrize("k, d, lower, upper", [(1, 5, 0, 0), (2, 3, 0, 3), (5, 2, 4, 4)])
def test_same_padding(k, d, lower, upper):
    assert same_padding((k,), (d,)) == ((lower, upper),)


@pytest.mark.parametrize("k", range(1, 6))
@pytest.mark.parametrize("s", range(1, 4))
@pytest.mark.parametrize("d", range(1, 4))
def test_transposed_widths_hold_what_the_taps_read(k, s, d):
    """Output `j = 0` reads down to `-(k // 2) * d`, and the last output up to `(k - 1) // 2 * d`
    beyond `(N - 1) * s + o`. The extension holds every `s`-th of the points between.
    """
    for o in range(s):
        padding = same_padding((k,), (d,))
        ((lower, upper),), ((lower_zeros, upper_zeros),) = transposed_widths(
            (k,), (s,), padding, (o,), (d,)
        )
        assert lower * s + lower_zeros == k // 2 * d
        assert upper * s + upper_zeros == (k - 1) // 2 * d + o
        assert 0 <= lower_zeros < s and 0 <= upper_zeros < s


def test_transposed_widths_cut_off_what_padding_removes():
    assert transposed_widths((1,), (2,), ((3, 4),), (1,), (1,)) == (((0, 0),), ((-3, -3),))
