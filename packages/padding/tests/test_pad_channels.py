"""Tests modes per channel and poles in `pad`: against the formulas in plain loops, against each run
of channels extended by itself, and against fields that are known on the whole sphere.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from hypothesis import given, settings, strategies as st
from jax.test_util import check_grads
from jaxprs import primitives

from pdequinox_padding import (
    Boundary,
    free_slip,
    pad,
    parse_boundary_mode,
    per_channel,
    PerChannel,
    POLE_MODES,
)
from pdequinox_padding._extension import period, runs, source


SIGNS = ("neumann_cell", "dirichlet_cell")
"""Modes with their sources in the same places."""


def dyadic(shape, seed=0):
    """Draws random numbers with few binary digits, whose sums and differences here are exact."""
    return np.random.default_rng(seed).integers(-512, 512, shape) / 64


def by_loops(x, widths, ends):
    """Extends the trailing axes of one run of channels by the formulas."""
    for axis, (pair, (lower, upper)) in enumerate(zip(ends, widths, strict=True), -len(widths)):
        size = x.shape[axis]
        rows, _ = oracles.extension_matrix(range(-lower, size + upper), size, pair)
        x = np.moveaxis(np.tensordot(rows, x, (1, axis)), 0, axis)
    return x


def each_by_loops(x, widths, all_runs):
    """Extends all runs of channels, `(count, ends)`, by the formulas."""
    edges = np.cumsum([count for count, _ in all_runs])[:-1]
    parts = np.split(x, edges, axis=-len(widths) - 1)
    return np.concatenate(
        [by_loops(part, widths, ends) for part, (_, ends) in zip(parts, all_runs, strict=True)],
        axis=-len(widths) - 1,
    )


@settings(max_examples=30)
@given(data=st.data())
def test_random_modes_per_channel(data):
    dims = data.draw(st.integers(1, 3), "dims")
    shape = data.draw(st.lists(st.integers(1, 4), min_size=dims, max_size=dims), "shape")
    widths = [(data.draw(st.integers(0, 9)), data.draw(st.integers(0, 9))) for _ in shape]
    rings = data.draw(st.lists(st.booleans(), min_size=dims, max_size=dims), "periodic axes")
    signs = data.draw(st.booleans(), "signs differ, places do not")
    names = SIGNS if signs else oracles.END_MODES
    ends = lambda ring: (
        st.just(("periodic", "periodic")) if ring else st.tuples(*[st.sampled_from(names)] * 2)
    )
    run = st.tuples(st.integers(1, 2), st.tuples(*map(ends, rings)))
    all_runs = data.draw(st.lists(run, min_size=1, max_size=4), "runs")
    count = sum(count for count, _ in all_runs)
    x = dyadic((2, count, *shape), data.draw(st.integers(0, 99), "seed"))
    mode = per_channel(*all_runs)
    actual = jax.jit(lambda x: pad(x, widths, mode))(jnp.asarray(x))
    np.testing.assert_array_equal(actual, each_by_loops(x, widths, all_runs))


@pytest.mark.parametrize("lower", SIGNS)
@pytest.mark.parametrize("upper", SIGNS)
@pytest.mark.parametrize("size", [1, 3])
def test_signs_and_wall_values_far_beyond_the_walls(size, lower, upper):
    """Compares with each run by itself; the last widths repeat a period of the extension."""
    x, value = dyadic((4, size)), jnp.asarray(dyadic(4, seed=1))
    first, second = ("neumann_cell", "dirichlet_cell"), (lower, upper)
    mode = per_channel((1, [first]), (3, [second]))
    given = lambda of, *ends: (
        tuple(
            v[of] if any(name.startswith("dirichlet") for name in names) else None
            for names, v in zip(zip(*ends, strict=True), (value, 2 * value), strict=True)
        ),
    )
    for widths in ((2, 0), (0, 3), (7, 5), (40 * size, 60 * size)):
        actual = pad(jnp.asarray(x), [widths], mode, given(slice(None), first, second))
        alone = []
        for of, ends in ((slice(1), first), (slice(1, 4), second)):
            own = given(of, ends)
            own = None if own == ((None, None),) else own
            alone.append(pad(jnp.asarray(x[of]), [widths], [ends], own))
        np.testing.assert_array_equal(actual, np.concatenate(alone))


def test_channels_of_equal_places_are_one_extension():
    """Signs take as many pieces as one mode, and a product for each side of an axis."""
    x = jnp.zeros((8, 6, 6))
    uniform = list(primitives(jax.make_jaxpr(lambda x: pad(x, [1, 1], "neumann_cell"))(x)))
    mode = per_channel((3, "neumann_cell"), (5, ["dirichlet_cell", "neumann_cell"]))
    mixed = list(primitives(jax.make_jaxpr(lambda x: pad(x, [1, 1], mode))(x)))
    for name in ("slice", "concatenate", "rev"):
        assert mixed.count(name) == uniform.count(name), name
    assert mixed.count("mul") == 2  # of the axis on which signs differ

    apart = per_channel((3, "neumann_cell"), (5, "neumann_node"))
    two = list(primitives(jax.make_jaxpr(lambda x: pad(x, [1, 1], apart))(x)))
    assert two.count("concatenate") == 2 * uniform.count("concatenate") + 1


@pytest.mark.parametrize("mode", SIGNS)
def test_runs_that_agree_are_one(mode):
    boundary = Boundary.parse(per_channel((1, mode), (2, mode.upper()), (1, [mode, mode])), 2)
    assert boundary == Boundary.parse(per_channel((4, mode)), 2)
    x = dyadic((4, 3, 3))
    same = pad(jnp.asarray(x), [2, 2], per_channel((4, mode)))
    np.testing.assert_array_equal(same, pad(jnp.asarray(x), [2, 2], mode))


def test_free_slip():
    between = ["periodic", ("slip_cell", "slip_node"), "outflow"]
    normal = (("periodic",) * 2, ("dirichlet_cell", "dirichlet_node"), ("outflow",) * 2)
    along = (("periodic",) * 2, ("neumann_cell", "neumann_node"), ("outflow",) * 2)
    found = free_slip(3, between)
    assert found == per_channel((1, along), (1, normal), (1, along))
    assert found == eval(repr(found), {"per_channel": per_channel})
    flow = per_channel((1, ["periodic", "neumann_cell", "outflow"]), (3, found))
    assert flow.num_channels == 4 and flow.runs[1:] == found.runs
    assert free_slip(2, "slip_cell") == free_slip(2, "SLIP_CELL")


def test_a_reflected_flow_is_the_extension_between_slip_walls():
    """Tests the flow of the stream function sin(pi x) sin(pi y), known beyond the walls."""
    n, w = 6, 4
    place = (np.arange(-w, n + w) + 0.5) / n
    s, c = np.sin(np.pi * place), np.cos(np.pi * place)
    whole = np.stack([np.outer(s, c), -np.outer(c, s)])
    inside = jnp.asarray(whole[:, w:-w, w:-w], jnp.float32)
    found = pad(inside, [w, w], free_slip(2, "slip_cell"))
    # Numbers up to 1 are rounded once to float32; sines at mirror images in float64 are as exact.
    np.testing.assert_allclose(found, whole, rtol=0, atol=np.finfo(np.float32).eps)


@pytest.mark.parametrize("lower", [*oracles.POLE_MODES, "neumann_cell", "dirichlet_node"])
@pytest.mark.parametrize("upper", [*oracles.POLE_MODES, "neumann", "outflow"])
@pytest.mark.parametrize("first", ["latitude", "longitude"])
def test_poles_are_the_formula(lower, upper, first):
    widths, ends = ((7, 8), (3, 2)), (lower, upper)
    on_nodes = all(end in ("pole_node", "pole_node_odd", "neumann") for end in ends)
    for rows in (2, 4) if on_nodes else (1, 2, 4):
        x = dyadic((2, rows, 6))
        expected = oracles.extension_over_poles(x, widths, ends)
        mode = [ends, "periodic"]
        if first == "latitude":
            found = pad(jnp.asarray(x), widths, mode)
        else:
            found = pad(jnp.asarray(x.swapaxes(1, 2)), widths[::-1], mode[::-1]).swapaxes(1, 2)
        np.testing.assert_array_equal(found, expected, str(rows))


def test_a_pole_beyond_the_other_end():
    """Tests a width at the wall only, which on a short axis continues over the pole."""
    x, widths, ends = dyadic((2, 2, 6)), ((0, 5), (1, 0)), ("pole_cell_odd", "neumann_cell")
    expected = oracles.extension_over_poles(x, widths, ends)
    np.testing.assert_array_equal(pad(jnp.asarray(x), widths, [ends, "periodic"]), expected)


def test_poles_per_channel():
    x = dyadic((6, 4, 8))
    around = "periodic"
    mode = per_channel(
        (1, ["pole_cell", around]), (2, ["pole_cell_odd", around]), (3, ["pole_node", around])
    )
    found = pad(jnp.asarray(x), [(3, 5), (1, 2)], mode)
    for channels, name in ((slice(1), "pole_cell"), (slice(1, 3), "pole_cell_odd"),
                           (slice(3, 6), "pole_node")):  # fmt: skip
        expected = oracles.extension_over_poles(x[channels], ((3, 5), (1, 2)), (name, name))
        np.testing.assert_array_equal(found[channels], expected, name)


def test_wall_values_stay_at_the_walls():
    """Tests a field whose other channels go over a pole there, to the same places or to others."""
    for pole in ("pole_cell_odd", "pole_node_odd", "pole_cell"):
        mode = per_channel(
            (1, [(pole, "outflow"), "periodic"]), (1, ["dirichlet_cell", "periodic"])
        )
        x = dyadic((2, 3, 4))
        found = pad(jnp.asarray(x), [2, 1], mode, ((5.0, None), None))
        over = oracles.extension_over_poles(x[:1], ((2, 2), (1, 1)), (pole, "outflow"))
        np.testing.assert_array_equal(found[:1], over)
        wall = pad(jnp.asarray(x[1:]), [2, 1], ["dirichlet_cell", "periodic"], ((5.0, None), None))
        np.testing.assert_array_equal(found[1:], wall)


@pytest.mark.parametrize("size", [2, 3, 5])
@pytest.mark.parametrize("lower", [*POLE_MODES, "neumann", "dirichlet_node"])
@pytest.mark.parametrize("upper", [*POLE_MODES, "dirichlet_cell"])
def test_runs_and_periods_over_poles(size, lower, upper):
    """Tests all positions far beyond the poles, one by one."""
    pair = Boundary.parse([(lower, upper), "periodic"], 2).axes[0]
    positions = range(-7 * size, 8 * size)
    expected = []
    for j in positions:
        row, sign, passages = oracles.pole_source(j, size, (lower, upper))
        expected.append((row, sign, passages % 2) if sign else (0, 0, 0))
    found = source(np.array(positions), size, pair)
    assert (
        list(zip(*map(np.ndarray.tolist, (found.index, found.sign, found.opposite)), strict=False))
        == expected
    )
    listed = [
        (run.first.index + run.step * i, run.first.sign, run.first.opposite)
        for run in runs(positions.start, positions.stop, size, pair)
        for i in range(run.length)
    ]
    assert listed == expected
    if (every := period(size, pair)) is not None:
        assert expected[every:] == expected[:-every]


def sphere(nodes, rows=8, columns=12):
    """Gives latitudes and longitudes of a grid, also `w = 3` rows beyond the poles."""
    w, step = 3, np.pi / (rows - 1 if nodes else rows)
    latitude = -np.pi / 2 + (np.arange(-w, rows + w) + (0 if nodes else 0.5)) * step
    return w, latitude[:, None], 2 * np.pi / columns * np.arange(columns)[None]


@pytest.mark.parametrize("nodes", [False, True])
def test_scalars_on_the_sphere(nodes):
    """Tests polynomials of the position in space, as spherical harmonics are. Over the pole, the
    longitude is turned by half and the latitude is mirrored. So `cos(latitude)` changes its sign in
    the formula, and the point in space is the same.
    """
    w, phi, lam = sphere(nodes)
    x, y = np.cos(phi) * np.cos(lam), np.cos(phi) * np.sin(lam)
    z = np.sin(phi) + 0 * lam
    harmonics = np.stack([x * z, x * y, 5 * z**3 - 3 * z, x**3 - 3 * x * y**2 + z])
    inside = jnp.asarray(harmonics[:, w:-w], jnp.float32)
    found = pad(inside, [w, 0], ["pole_node" if nodes else "pole_cell", "periodic"])
    # Polynomials of degree 3, with coefficients that add up to 8, are rounded once.
    np.testing.assert_allclose(found, harmonics, rtol=0, atol=8 * np.finfo(np.float32).eps)


@pytest.mark.parametrize("nodes", [False, True])
def test_vectors_on_the_sphere(nodes):
    """Tests a solid-body wind `a x r` about a tilted axis `a`, in components to the east and to the
    north (Williamson et al., "A standard test set for numerical approximations to the shallow water
    equations in spherical geometry", J. Comput. Phys. 102, 1992, equations 75 and 76). Beyond the
    pole, the formula continues with unit vectors that have turned around, like the extension.
    """
    w, phi, lam = sphere(nodes)
    alpha = 1.1
    u = np.cos(phi) * np.cos(alpha) + np.sin(phi) * np.cos(lam) * np.sin(alpha)
    v = -np.sin(lam) * np.sin(alpha) + 0 * phi
    wind = np.stack([u, v])
    inside = jnp.asarray(wind[:, w:-w], jnp.float32)
    mode = ["pole_node_odd" if nodes else "pole_cell_odd", "periodic"]
    found = pad(inside, [w, 0], mode)
    np.testing.assert_allclose(found, wind, rtol=0, atol=4 * np.finfo(np.float32).eps)


def test_transposes_derivatives_and_batches(x64):
    modes = {
        "channels": per_channel(
            (1, ["neumann_cell", "periodic"]),
            (2, [("dirichlet_cell", "neumann_cell"), "periodic"]),
            (1, ["outflow", "periodic"]),
        ),
        "poles": per_channel(
            (2, [("pole_cell", "pole_node"), "periodic"]),
            (2, [("pole_cell_odd", "pole_node_odd"), "periodic"]),
        ),
    }
    widths = [(3, 4), (1, 2)]
    for name, mode in modes.items():
        apply = jax.jit(lambda x, mode=mode: pad(x, widths, mode))
        x = jnp.asarray(dyadic((5, 4, 3, 4)))
        y = jnp.asarray(dyadic(jax.eval_shape(apply, x[0]).shape, seed=1))
        (pulled,) = jax.linear_transpose(apply, x[0])(y)
        assert np.vdot(apply(x[0]), y) == np.vdot(x[0], pulled), name
        check_grads(apply, (x[0],), order=2, modes=["fwd", "rev"])
        batched = jax.vmap(apply)(x)
        np.testing.assert_array_equal(batched, jnp.stack([apply(each) for each in x]), name)
        np.testing.assert_array_equal(batched, apply(x), name)


def test_half_precision_and_integers():
    mode = per_channel((1, "neumann_cell"), (2, "dirichlet_cell"))
    x = jnp.arange(9, dtype=jnp.int32).reshape(3, 3)
    expected = each_by_loops(np.asarray(x), [(2, 1)], [(1, [SIGNS[:1] * 2]), (2, [SIGNS[1:] * 2])])
    for dtype in ("int32", "bfloat16", "float16", "complex64"):
        found = pad(x.astype(dtype), [(2, 1)], mode)
        assert found.dtype == dtype
        np.testing.assert_array_equal(np.asarray(found).astype(complex), expected)


@pytest.mark.parametrize(
    "call, error, text",
    [
        (lambda: per_channel(), ValueError, "`per_channel` must be given pairs (count, mode)"),
        (lambda: per_channel("zeros"), TypeError, "where 'zeros' is not such a pair"),
        (lambda: per_channel((1, "zeros", 2)), TypeError, "is not such a pair"),
        (lambda: per_channel((0, "zeros")), ValueError, "`count` must be an integer >= 1"),
        (lambda: per_channel((1.0, "zeros")), TypeError, "`count` must be an integer"),
        (
            lambda: per_channel((3, free_slip(2, "slip_cell"))),
            ValueError,
            "has 2 channels",
        ),
        (
            lambda: pad(jnp.ones((3, 4)), [1], per_channel((1, "zeros"), (1, "outflow"))),
            ValueError,
            "as many channels as the field that it extends, 3 here, got per_channel((1, "
            "'dirichlet'), (1, 'outflow')) with 2",
        ),
        (
            lambda: pad(jnp.ones(4), [1], per_channel((1, "zeros"))),
            ValueError,
            "`x` must have a channel axis",
        ),
        (
            lambda: Boundary.parse(per_channel((1, "wall")), 1),
            ValueError,
            "'wall' is unknown",
        ),
        (
            lambda: Boundary.parse(per_channel((1, "zeros"), (1, "periodic")), 1),
            ValueError,
            "must be periodic for all channels or for none on every axis",
        ),
        (
            lambda: parse_boundary_mode(per_channel((1, "zeros")), 1),
            ValueError,
            "`boundary_mode` must be one mode for all channels, got per_channel((1, 'zeros'))",
        ),
        (lambda: free_slip(2, free_slip(2, "slip_cell")), TypeError, "one mode for all components"),
        (lambda: free_slip(2, "slip"), ValueError, "'slip' is unknown"),
        (lambda: Boundary.parse("slip_cell", 1), ValueError, "'slip_cell' is unknown"),
        (
            lambda: Boundary.parse(["pole_cell", "zeros"], 2),
            ValueError,
            "poles need exactly one periodic axis, the longitude, and 0 are periodic",
        ),
        (
            lambda: Boundary.parse(["pole_cell", "periodic", "periodic"], 3),
            ValueError,
            "and 2 are periodic",
        ),
        (
            lambda: pad(jnp.ones((4, 5)), [1, 0], ["pole_cell", "periodic"]),
            ValueError,
            "`x` must have a known and even number of points along the longitude, the periodic "
            "spatial axis 1, to be extended over a pole, got 5",
        ),
        (
            lambda: pad(jnp.ones((1, 4)), [1, 0], [("pole_node", "neumann"), "periodic"]),
            ValueError,
            "`x` must have more than one point on spatial axis 0",
        ),
        (
            lambda: pad(jnp.ones((2, 3), "uint8"), [1], per_channel((1, "zeros"), (1, SIGNS[1]))),
            TypeError,
            "signed dtype to be extended by ['dirichlet_cell']",
        ),
    ],
)
def test_bad_arguments(call, error, text):
    with pytest.raises(error, match=re.escape(text)):
        call()


def test_modes_per_channel_are_values():
    listed = per_channel((2, ["neumann_cell", ["zeros", "outflow"]]))
    assert listed == per_channel((2, ("neumann_cell", ("zeros", "outflow"))))
    assert isinstance(listed, PerChannel) and hash(listed) == hash(per_channel(*listed.runs))
