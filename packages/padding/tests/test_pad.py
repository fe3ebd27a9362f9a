"""Tests `pad` against the formulas, against the extension of the whole field, and for linearity."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from hypothesis import given, settings, strategies as st
from jax.test_util import check_grads
from jaxprs import primitives

from pdequinox_padding import BOUNDARY_MODES, pad


SIZES = (1, 2, 3, 4, 7)


def dyadic(shape, seed=0):
    """Draws random numbers with few binary digits, whose sums and differences here are exact."""
    return np.random.default_rng(seed).integers(-512, 512, shape) / 64


def padded(fields, widths, ends):
    """Compiles one program for all fields, because most of the time here is compiling."""
    pads = jax.jit(lambda xs: [pad(x, [w], [ends]) for x, w in zip(xs, widths, strict=True)])
    return pads(fields)


@pytest.mark.parametrize("ends", oracles.ALL_ENDS, ids="-".join)
def test_extension_is_the_formula(ends, dtype):
    fields = [dyadic((2, size)) for size in SIZES]
    widths = [(2 * size + 3, 3 * size + 2) for size in SIZES]
    results = padded([jnp.asarray(x, dtype) for x in fields], widths, ends)
    for size, x, (lower, upper), actual in zip(SIZES, fields, widths, results, strict=True):
        rows, _ = oracles.extension_matrix(range(-lower, size + upper), size, ends)
        assert actual.dtype == dtype
        np.testing.assert_array_equal(actual, x @ rows.T)


@pytest.mark.parametrize(
    "ends",
    [e for e in oracles.ALL_ENDS if {*e} <= {"periodic", *oracles.MIRROR_MODES}],
    ids="-".join,
)
def test_extension_is_that_of_the_whole_field(ends):
    fields = [dyadic(size) for size in SIZES]
    widths = [(3 * size + 2, 2 * size + 3) for size in SIZES]
    results = padded([jnp.asarray(x) for x in fields], widths, ends)
    for size, x, (lower, upper), actual in zip(SIZES, fields, widths, results, strict=True):
        expected = oracles.unfolded_field(x, ends, range(-lower, size + upper))
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("mode", BOUNDARY_MODES)
def test_list_of_the_documentation_on_one_example(mode):
    written_out = {
        "periodic": [3, 4, 1, 2, 3, 4, 1, 2, 3],
        "dirichlet": [0, 0, 1, 2, 3, 4, 0, 0, 0],
        "neumann": [3, 2, 1, 2, 3, 4, 3, 2, 1],
        "neumann_cell": [2, 1, 1, 2, 3, 4, 4, 3, 2],
        "dirichlet_node": [-1, 0, 1, 2, 3, 4, 0, -4, -3],
        "dirichlet_cell": [-2, -1, 1, 2, 3, 4, -4, -3, -2],
        "outflow": [1, 1, 1, 2, 3, 4, 4, 4, 4],
    }
    np.testing.assert_array_equal(pad(jnp.arange(1, 5), [(2, 3)], mode), written_out[mode])


def test_axes_are_extended_independently():
    x = dyadic((3, 4, 1, 5))
    ends = (("neumann", "dirichlet_cell"), ("periodic", "periodic"), ("outflow", "dirichlet"))
    widths = ((5, 2), (2, 0), (0, 6))
    expected = x
    for axis, (pair, (lower, upper)) in enumerate(zip(ends, widths, strict=True), start=1):
        size = x.shape[axis]
        rows, _ = oracles.extension_matrix(range(-lower, size + upper), size, pair)
        expected = np.moveaxis(np.tensordot(rows, expected, (1, axis)), 0, axis)
    modes = (ends[0], "Periodic", ends[2])
    np.testing.assert_array_equal(pad(jnp.asarray(x), widths, modes), expected)


def test_only_trailing_axes_are_extended():
    x = dyadic((2, 3, 4))
    actual = pad(jnp.asarray(x), [1], "outflow")
    np.testing.assert_array_equal(actual, np.pad(x, [(0, 0), (0, 0), (1, 1)], "edge"))


def test_integers_and_complex_numbers_keep_their_dtype():
    integers = jnp.arange(3, dtype=jnp.int32)
    assert pad(integers, [1], "dirichlet_cell").dtype == jnp.int32
    np.testing.assert_array_equal(pad(integers, [1], "dirichlet_cell", 2), [4, 0, 1, 2, 2])
    assert pad(jnp.zeros(3, jnp.complex64), [1], "dirichlet_cell").dtype == jnp.complex64


@pytest.mark.parametrize("mode", ["dirichlet", "dirichlet_node", "dirichlet_cell"])
def test_wall_value_shifts_the_homogeneous_extension(mode):
    x, value = dyadic((2, 5, 3)), np.array([2.5, -1.25])
    shift = value[:, None, None]
    actual = pad(jnp.asarray(x), [(7, 4), (1, 5)], mode, jnp.asarray(value))
    homogeneous = pad(jnp.asarray(x - shift), [(7, 4), (1, 5)], mode)
    np.testing.assert_array_equal(actual, homogeneous + shift)


@pytest.mark.parametrize("ends", oracles.ALL_ENDS, ids="-".join)
@pytest.mark.parametrize("size", [1, 3])
def test_wall_values_of_the_two_ends(ends, size):
    x, (lower, upper) = dyadic(size), (2 * size + 3, 3 * size + 2)
    given = zip(ends, (1.5, -0.25), strict=True)
    values = [value if mode.startswith("dirichlet") else None for mode, value in given]
    argument = None if values == [None, None] else (tuple(values),)
    actual = pad(jnp.asarray(x), [(lower, upper)], [ends], argument)
    rows, constant = oracles.extension_matrix(
        range(-lower, size + upper), size, ends, [v or 0.0 for v in values]
    )
    np.testing.assert_array_equal(actual, rows @ x + constant)


def test_wall_values_per_axis_and_shapes():
    x = jnp.zeros((2, 3, 1, 1))
    per_axis = pad(x, [1, 1], "dirichlet", (1.0, None))
    np.testing.assert_array_equal(per_axis[0, 0, :, 1], [1, 0, 1])
    np.testing.assert_array_equal(per_axis[0, 0, 1, :], [0, 0, 0])
    leading = pad(x, [1, 0], "dirichlet", jnp.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(leading[:, :, 0, 0], np.arange(6).reshape(2, 3))
    like_the_field = pad(x, [1, 0], "dirichlet", jnp.arange(3.0).reshape(1, 3, 1, 1))
    np.testing.assert_array_equal(like_the_field[:, :, 0, 0], [[0, 1, 2]] * 2)
    mixed = pad(x, [1, 1], ["neumann", "dirichlet_cell"], jnp.array(2.0))
    np.testing.assert_array_equal(mixed[1, 2], [[4, 0, 4]] * 3)


@pytest.mark.parametrize("ends", oracles.ALL_ENDS, ids="-".join)
def test_transpose_is_exact(ends):
    size, widths = 3, (5, 4)
    rows, _ = oracles.extension_matrix(range(-widths[0], size + widths[1]), size, ends)
    y = dyadic(len(rows))
    transpose = jax.linear_transpose(lambda x: pad(x, [widths], [ends]), jnp.zeros(size))
    np.testing.assert_array_equal(jax.jit(transpose)(jnp.asarray(y, jnp.float32))[0], y @ rows)


def test_derivatives_and_batches(x64):
    ends = [("neumann", "dirichlet_node"), "dirichlet_cell"]
    x, value = jnp.asarray(dyadic((4, 2, 3, 2))), jnp.asarray(dyadic(2, seed=1))
    apply = jax.jit(lambda x, v: pad(x, [(2, 4), 3], ends, v))
    check_grads(apply, (x[0], value), order=2, modes=["fwd", "rev"])
    batched = jax.jit(jax.vmap(apply, in_axes=(0, None)))(x, value)
    np.testing.assert_array_equal(batched, jnp.stack([apply(sample, value) for sample in x]))


@pytest.mark.parametrize("mode", BOUNDARY_MODES)
def test_made_of_slices_without_gathers(mode):
    jaxpr = jax.make_jaxpr(lambda x: pad(x, [(3, 2)] * 2, mode))(jnp.zeros((2, 8, 8)))
    names = list(primitives(jaxpr))
    assert set(names) <= {"slice", "rev", "neg", "concatenate", "broadcast_in_dim"}
    # Widths within the field take one slice for each of the four ends.
    assert names.count("slice") <= 4


def test_no_widths_no_work():
    jaxpr = jax.make_jaxpr(lambda x: pad(x, [0, (0, 0)], "neumann"))(jnp.zeros((1, 2, 2)))
    assert not list(primitives(jaxpr))


@settings(max_examples=20)
@given(data=st.data())
def test_random_extensions(data):
    dims = data.draw(st.integers(1, 3), "dims")
    shape = data.draw(st.lists(st.integers(1, 4), min_size=dims, max_size=dims), "shape")
    ends = [data.draw(st.sampled_from(oracles.ALL_ENDS), "ends") for _ in shape]
    widths = [(data.draw(st.integers(0, 9)), data.draw(st.integers(0, 9))) for _ in shape]
    x = expected = dyadic((2, *shape), data.draw(st.integers(0, 99), "seed"))
    for axis, (pair, (lower, upper)) in enumerate(zip(ends, widths, strict=True), start=1):
        size = x.shape[axis]
        rows, _ = oracles.extension_matrix(range(-lower, size + upper), size, pair)
        expected = np.moveaxis(np.tensordot(rows, expected, (1, axis)), 0, axis)
    actual = jax.jit(lambda x: pad(x, widths, ends))(jnp.asarray(x))
    np.testing.assert_array_equal(actual, expected)
