"""Tests fields on other grids: exactness on the waves of every basis, up and down, against sums of
waves; the transpose; and activations between two grids.
"""

import math
import re

import equinox as eqx
import jax
import jax.export
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import oracles
import pytest
from collectives import collectives
from hypothesis import given, settings, strategies as st
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jax.test_util import check_grads
from mesh_cases import KINDS

from pdequinox_padding import Boundary, per_channel
from pdequinox_spectralconv import alias_free, resample, SpectralConv
from pdequinox_spectralconv._basis import runs_of_both_grids
from pdequinox_spectralconv._operator import evaluate_on


P, N, C = "periodic", "neumann", "neumann_cell"
D, DN, DC = "dirichlet", "dirichlet_node", "dirichlet_cell"
RING = (P, P)
# From one size to another: up and down, odd and even, by a factor or not, to one point, and long
# enough for fast transforms to be faster.
SIZES = [
    (8, 16),
    (16, 8),
    (8, 9),
    (9, 8),
    (7, 12),
    (12, 7),
    (5, 15),
    (6, 6),
    (4, 1),
    (1, 5),
    (2, 3),
]
LONG = [(300, 200), (200, 301)]


def normal(shape, dtype=None, seed=1):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def close(actual, expected, size, steps):
    eps = float(jnp.finfo(actual.dtype).eps)
    np.testing.assert_allclose(np.asarray(actual, float), expected, rtol=0, atol=steps * size * eps)


def rounding_steps(*sizes):
    """Bounds the error of one axis, in units of the field's size times `growth`: a rounding for
    each term of both sums, and four `eps` for each stage of fast transforms; see `rounding_steps`
    in test_spectral_conv.py.
    """
    return 4 * (sum(sizes) + 8 * math.log2(4 * max(sizes) + 4))


def growth(size, to_size):
    """Bounds the sum of absolute values on the way, divided by the field's size: `K` coefficients
    of at most four times the field.
    """
    return 4 * min(size, to_size)


@pytest.mark.parametrize("method", ["product", "fft"])
@pytest.mark.parametrize("size, to_size", SIZES, ids=str)
def test_waves_of_every_basis_are_exact(size, to_size, method, x64):
    """Sums of the waves that both grids hold are the same function on both. All bases are tested by
    products. Programs of fast transforms take longer to compile, so each size has a quarter of the
    bases.
    """
    some = slice(SIZES.index((size, to_size)) % 4, None, 4) if method == "fft" else slice(None)
    for ends in (RING, *oracles.WALL_ENDS[some]):
        both = min(size, to_size)
        amplitudes = np.random.default_rng(0).standard_normal(both)
        x, y = (oracles.waves(ends, n, both) @ amplitudes for n in (size, to_size))
        actual = evaluated(x[None], [ends], (to_size,), method)
        scale = growth(size, to_size) * np.abs(amplitudes).sum()
        close(actual[0], y, scale, rounding_steps(size, to_size))


def evaluated(x, modes, shape, method):
    """Resamples by one method; the public function chooses one."""
    boundary = Boundary.parse(modes, len(shape))
    runs = runs_of_both_grids(boundary, x.shape[0], x.shape[1:], shape)
    return evaluate_on(jnp.asarray(x), runs, shape, method)


@pytest.mark.parametrize("method", ["product", "fft"])
@pytest.mark.parametrize("size, to_size", SIZES, ids=str)
def test_what_a_grid_does_not_hold_is_left_out(size, to_size, method, x64):
    """Tests random fields, which have all waves: values and the transpose."""
    for ends in (RING, (N, N), (C, DC), (DN, DN), (DC, N)):
        x, c = normal((2, size)), normal((2, to_size), seed=2)
        function = lambda x, ends=ends: evaluated(x, [ends], (to_size,), method)
        y, pull = jax.vjp(function, x)
        whole = oracles.resampling(ends, size, to_size)
        steps, scale = rounding_steps(size, to_size), growth(size, to_size)
        close(y, np.asarray(x) @ whole.T, scale * np.abs(x).max(), steps)
        close(pull(c)[0], np.asarray(c) @ whole, scale * np.abs(c).max(), steps)


@pytest.mark.parametrize("size, to_size", LONG, ids=str)
@pytest.mark.parametrize("ends", [RING, (N, N), (C, C), (DN, DC), (C, DC)], ids=str)
def test_long_axes(ends, size, to_size, dtype):
    x = normal((1, size), dtype)
    whole = oracles.resampling(ends, size, to_size)
    actual = resample(x, to_size, [ends])
    assert actual.dtype == dtype
    # Errors of fast transforms grow with the root mean square, not with the sum.
    scale = 4 * math.sqrt(min(size, to_size)) * np.abs(x).max()
    close(actual, np.asarray(x, float) @ whole.T, scale, rounding_steps(0, max(size, to_size)))


CASES = [
    (P, (6, 7), (9, 4)),
    ([N, P, DC], (3, 4, 5), (5, 3, 7)),
    ([(DN, C)], (6,), (11,)),
    (P, (4, 3, 2, 5), (5, 2, 4, 3)),
]


@pytest.mark.parametrize("mode, spatial, shape", CASES, ids=str)
def test_axes_one_after_the_other(mode, spatial, shape, x64):
    ends = [mode] * len(spatial) if isinstance(mode, str) else mode
    ends = [(e, e) if isinstance(e, str) else e for e in ends]
    x = normal((2, *spatial))
    expected = np.asarray(x)
    for axis, (pair, n, m) in enumerate(zip(ends, spatial, shape, strict=True), 1):
        expected = np.moveaxis(
            np.tensordot(expected, oracles.resampling(pair, n, m), (axis, 1)), -1, axis
        )
    scale = np.abs(x).max() * math.prod(growth(*s) for s in zip(spatial, shape, strict=True))
    close(resample(x, shape, mode), expected, scale, sum(map(rounding_steps, spatial, shape)))


@settings(max_examples=25)
@given(
    st.sampled_from((RING, *oracles.WALL_ENDS)),
    st.integers(1, 40),
    st.integers(1, 40),
    st.integers(0, 2**16),
)
def test_random_fields(ends, size, to_size, seed):
    x = normal((2, size), jnp.float32, seed)
    scale = growth(size, to_size) * np.abs(x).max()
    expected = np.asarray(x, float) @ oracles.resampling(ends, size, to_size).T
    close(resample(x, to_size, [ends]), expected, scale, rounding_steps(size, to_size))


@pytest.mark.parametrize("mode", [P, N, [(DC, C)]], ids=str)
def test_up_and_down_again(mode, x64):
    """A finer grid holds the whole field, and the same grid gives the field itself."""
    x = normal((2, 8))
    again = resample(resample(x, 13, mode), 8, mode)
    close(again, x, 32 * np.abs(x).max(), 2 * rounding_steps(8, 13))
    np.testing.assert_array_equal(resample(x, 8, mode), x)


def test_the_alternating_wave_is_a_cosine(x64):
    """Tests an example by hand: on the grid, between its points, and back."""
    x = jnp.asarray([[1.0, -1.0, 1.0, -1.0]])
    close(resample(x, 8)[0], [1, 0, -1, 0, 1, 0, -1, 0], 1, 30)
    # A wave of amplitude 1 and any phase, on a grid that holds it as two waves, as 4 points see it.
    phase = 0.3
    fine = np.cos(2 * np.pi * 2 * np.arange(8) / 8 + phase)[None]
    close(resample(fine, 4)[0], np.cos(phase) * np.array([1, -1, 1, -1]), 1, 30)


def test_no_aliasing(x64):
    """A wave that the coarse grid does not hold is not one of lower wavenumber there."""
    x = np.cos(2 * np.pi * 5 * np.arange(16) / 16)[None]
    assert np.allclose(x[:, ::2][0], np.cos(2 * np.pi * 3 * np.arange(8) / 8))
    close(resample(x, 8), np.zeros((1, 8)), 1, rounding_steps(16, 8))


def test_what_a_layer_does_on_another_grid(x64):
    """Resampling after a layer is the layer with an output shape, as long as all modes fit."""
    layer = SpectralConv(2, 2, 3, (3, 4), boundary_mode=[P, C], key=jr.key(0))
    x = normal((2, 9, 8))
    np.testing.assert_allclose(
        resample(layer(x), (12, 6), [P, C]), layer(x, output_shape=(12, 6)), rtol=0, atol=1e-13
    )


def test_channels_with_modes_of_their_own(x64):
    x = normal((3, 6, 5))
    mode = per_channel((1, [P, C]), (2, [P, DC]))
    expected = [resample(x[:1], (8, 7), [P, C]), resample(x[1:], (8, 7), [P, DC])]
    np.testing.assert_array_equal(resample(x, (8, 7), mode), jnp.concatenate(expected))


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_half_precision_is_summed_in_float32(half):
    x = normal((2, 9), half)
    expected = resample(x.astype("float32"), 14, N).astype(half)
    actual = resample(x, 14, N)
    assert actual.dtype == half
    np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("method", ["product", "fft"])
def test_under_transformations(method, x64):
    function = lambda x: evaluated(x, [RING, (N, DC)], (7, 4), method)
    x = normal((3, 2, 4, 6))
    singly = jnp.stack([function(sample) for sample in x])
    atol = 1e-13 * 16
    for axis in range(3):
        moved = jnp.moveaxis(x, 0, axis)
        batched = jax.jit(jax.vmap(function, in_axes=axis, out_axes=axis))(moved)
        np.testing.assert_allclose(jnp.moveaxis(batched, axis, 0), singly, rtol=0, atol=atol)
    check_grads(jax.jit(lambda x: jnp.sum(jnp.sin(function(x)))), (x[0],), 2, rtol=1e-5, atol=1e-6)


# On a mesh


MESHES = {
    "one axis": (dict(a=8), ("a",), (16, 12), (32, 9)),
    "down": (dict(a=4), (None, "a"), (6, 16), (5, 8)),
    "two axes": (dict(a=4, b=2), ("a", "b"), (16, 12), (8, 18)),
    "one over two": (dict(a=2, b=4), (("b", "a"),), (16, 5), (24, 7)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MESHES)
def test_on_a_mesh_nothing_is_gathered(name, kind, x64):
    """Lines are exchanged for blocks and back, in values and gradients; results stay split."""
    sizes, split, spatial, shape = MESHES[name]
    mesh = jax.make_mesh(
        tuple(sizes.values()), tuple(sizes), axis_types=(AxisType[kind],) * len(sizes)
    )
    spec = PartitionSpec(None, None, *split)
    mode = [P, C]
    function = lambda x: jax.vmap(lambda x: resample(x, shape, mode))(x)
    x, c = normal((2, 3, *spatial)), normal((2, 3, *shape), seed=2)
    there = jax.device_put(x, NamedSharding(mesh, spec))
    c_there = jax.device_put(c, NamedSharding(mesh, spec))
    forward = jax.jit(function).lower(there).compile()
    backward = jax.jit(lambda x, c: jax.vjp(function, x)[1](c)[0]).lower(there, c_there).compile()
    found, gradient = forward(there), backward(there, c_there)
    scale = 64 * 64
    close(found, function(x), scale, 100)
    close(gradient, jax.vjp(function, x)[1](c)[0], scale, 100)
    blocks = lambda v: v.sharding.shard_shape(v.shape)
    assert blocks(found) == blocks(c_there) and blocks(gradient) == blocks(there)
    for program in (forward, backward):
        sent = collectives(program)
        assert sent and {collective.kind for collective in sent} == {"all-to-all"}
        # For each axis, what a device has before and after: less than twice its part of the larger
        # field, with the lines rounded up to a multiple of the devices.
        most = 8 * 2 * 3 * max(math.prod(spatial), math.prod(shape)) * 2
        assert max(collective.bytes for collective in sent) <= most / math.prod(sizes.values())


# Arguments


@pytest.mark.parametrize(
    "x, shape, mode, error, text",
    [
        (np.zeros(4, "f4"), 4, P, ValueError, "`x` must have shape (channels, N_1, ..., N_D)"),
        (np.zeros((2, 0), "f4"), 4, P, ValueError, "got (2, 0)"),
        (np.zeros((2, 4), "i4"), 4, P, TypeError, "real floats, got dtype int32"),
        (np.zeros((2, 4), "c8"), 4, P, TypeError, "real floats, got dtype complex64"),
        ("field", 4, P, TypeError, "`x` must be an array"),
        (np.zeros((2, 4), "f4"), 0, P, ValueError, "`shape` must be an integer >= 1"),
        (np.zeros((2, 4), "f4"), (4, 4), P, ValueError, "`shape` must be"),
        (np.zeros((2, 4), "f4"), 4.0, P, TypeError, "`shape` must be"),
        (np.zeros((2, 4), "f4"), 4, "wall", ValueError, "`boundary_mode`"),
        (np.zeros((2, 4, 8), "f4"), 4, ["pole_cell", P], ValueError, "`boundary_mode` must not"),
        (np.zeros((2, 4), "f4"), 4, per_channel((3, N)), ValueError, "`boundary_mode`"),
    ],
)
def test_what_is_refused(x, shape, mode, error, text):
    with pytest.raises(error, match=re.escape(text)):
        resample(x, shape, mode)


@pytest.mark.parametrize("function", [lambda x: resample(x, 8), alias_free(jnp.tanh)])
def test_open_sizes_are_refused(function):
    """Sizes of space must be known; the size of a batch may be open."""
    (n,) = jax.export.symbolic_shape("n")
    with pytest.raises(ValueError, match="`x` must have known sizes"):
        jax.export.export(jax.jit(function))(jax.ShapeDtypeStruct((2, n), "float32"))
    batch = jax.ShapeDtypeStruct((n, 2, 6), "float32")
    exported = jax.export.export(jax.jit(jax.vmap(function)))(batch)
    x = normal((3, 2, 6), "float32")
    np.testing.assert_allclose(exported.call(x), jax.vmap(function)(x), rtol=0, atol=1e-5)


def test_large_matrices_are_no_part_of_a_program():
    """Tests from few points to very many, where one of the two transforms is short."""
    x = jax.ShapeDtypeStruct((1, 64), "float32")
    text = jax.jit(lambda x: resample(x, 2**16)).lower(x).as_text()
    assert len(text) < 2**20


# Activations


def test_alias_free_at_the_limit(x64):
    """On a grid exactly `(p + 1) / 2` times as fine, only the alternating wave is wrong: 3/4 of its
    cube is a wave of that wavenumber, and the other 1/4 is aliased to it.
    """
    x = jnp.asarray([[1.0, -1.0, 1.0, -1.0]])
    close(alias_free(lambda x: x**3, 2)(x)[0], [1, -1, 1, -1], 1, rounding_steps(4, 8))
    close(alias_free(lambda x: x**3, 2.5)(x)[0], [0.75, -0.75] * 2, 1, rounding_steps(4, 10))


def test_alias_free_products_are_exact(x64):
    """The square is exact on a grid more than 1.5 times as fine; on the grid itself it is not."""
    k, n = 3, 10
    t = np.arange(n) / n
    x = np.cos(2 * np.pi * k * t)[None]
    # cos^2 = 1/2 + cos(2 a)/2; the second wave, of wavenumber 6, is beyond those of 10 points.
    close(alias_free(lambda x: x**2, 1.6)(x), np.full((1, n), 0.5), 1, 2 * rounding_steps(n, 16))
    assert np.abs(x**2 - 0.5).max() > 0.4
    assert np.abs(alias_free(lambda x: x**2, 1)(x) - 0.5).max() > 0.4


@pytest.mark.parametrize("mode", [P, N, [(C, C)], DC], ids=str)
def test_alias_free_approaches_the_function(mode, x64):
    """The finer the grid between, the closer to the projection of the function itself."""
    ends = (mode, mode) if isinstance(mode, str) else mode[0]
    x = 0.7 * (oracles.waves(ends, 12, 12) @ np.r_[0, 1.0, 0.5, np.zeros(9)])[None]
    exact = resample(jnp.tanh(resample(x, 12 * 16, mode)), 12, mode)
    errors = [np.abs(alias_free(jnp.tanh, f, mode)(x) - exact).max() for f in (1, 2, 4)]
    assert errors[0] > 4 * errors[1] > 16 * errors[2]


def test_alias_free_is_a_module(x64):
    """The parameters of its activation are trained, as part of a network."""
    active = alias_free(eqx.nn.PReLU(0.3), 2, [(N, N)])
    x = normal((2, 6))
    gradient = eqx.filter_grad(lambda f, x: jnp.sum(f(x) ** 2))(active, x)
    assert float(gradient.activation.negative_slope) != 0
    network = eqx.nn.Sequential([active, eqx.nn.Lambda(jnp.sin)])
    assert network(x, key=jr.key(0)).shape == x.shape
    hash(jax.tree.structure(alias_free(jnp.tanh, 2, [["periodic", "periodic"], "neumann"])))


@pytest.mark.parametrize(
    "activation, factor, error, text",
    [
        ("gelu", 2, TypeError, "`activation` must be callable, got 'gelu'"),
        (jnp.tanh, 0.5, ValueError, "`factor` must be a number >= 1, got 0.5"),
        (jnp.tanh, math.nan, ValueError, "got nan"),
        (jnp.tanh, math.inf, ValueError, "got inf"),
        (jnp.tanh, "2", TypeError, "got '2'"),
        (jnp.tanh, True, TypeError, "got True"),
    ],
)
def test_alias_free_arguments(activation, factor, error, text):
    with pytest.raises(error, match=re.escape(text)):
        alias_free(activation, factor)
    for changing in (lambda x: x[:1], lambda x: x > 0, lambda x: 1.0):
        with pytest.raises(ValueError, match="`activation` must keep the shape and the dtype"):
            alias_free(changing)(jnp.zeros((2, 4)))
    with pytest.raises(ValueError, match=re.escape("got (0, 4)")):
        alias_free(jnp.tanh)(jnp.zeros((0, 4)))
    with pytest.raises(ValueError, match="`boundary_mode`"):
        alias_free(jnp.tanh, 2, "wall")(jnp.zeros((2, 4)))
