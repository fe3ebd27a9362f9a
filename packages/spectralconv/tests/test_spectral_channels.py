"""Tests the spectral layer with boundary modes per channel: the sum over its modes, the derivatives
that it is made for, and what it refuses.
"""

import math
import re

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import oracles
import pytest

from pdequinox_padding import free_slip, per_channel
from pdequinox_spectralconv import SpectralConv


KEY = jr.key(0)
P, N, C = "periodic", "neumann", "neumann_cell"
D, DN, DC = "dirichlet", "dirichlet_node", "dirichlet_cell"
VALUE = (True, True)


def normal(shape, dtype=None, seed=1):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def each(modes):
    """Gives one channel to each mode."""
    return per_channel(*((1, mode) for mode in modes))


def random_layer(modes, out_modes, num_modes, seed=2, **arguments):
    """Makes a layer with standard normal weights and one channel for each mode."""
    layer = eqx.filter_eval_shape(
        SpectralConv,
        len(num_modes),
        len(modes),
        len(out_modes),
        num_modes,
        key=KEY,
        boundary_mode=each(modes),
        out_boundary_mode=each(out_modes),
        **arguments,
    )
    generator = np.random.default_rng(seed)
    draw = lambda leaf: jnp.asarray(generator.standard_normal(leaf.shape), leaf.dtype)
    return jax.tree.map(draw, layer)


# The formula, in plain loops


def pairs(mode, dims):
    entries = [mode] * dims if isinstance(mode, str) else mode
    return [(entry, entry) if isinstance(entry, str) else tuple(entry) for entry in entries]


def parity(ends):
    """Tells whether the field is odd about each of the walls."""
    return tuple(oracles.WALLS[end][1] for end in ends)


def wave(k, t, ends):
    """Evaluates the function of wavenumber `k`, or `k + 1/2` if one end is odd and one even."""
    lower, upper = parity(ends)
    angle = np.pi * (k + 0.5 * (lower != upper)) * t
    return np.sin(angle) if lower else np.cos(angle)


def expansion(size, ends):
    """Gives, for each wavenumber of the grid, the factors of the points in the coefficient of the
    expansion into all functions of the grid.
    """
    own = range(1, size + 1) if parity(ends) == VALUE else range(size)
    points = oracles.wall_points(size, ends)
    functions = np.stack([wave(k, points, ends) for k in own], axis=1)
    return dict(zip(own, np.linalg.inv(functions), strict=True))


def formula(layer, modes, out_modes, x, output_shape=None):
    """Sums `y[o] = sum over k of c_k Re((sum over i of W_k[o, i] X_k[i]) f_k^o)` term by term, and
    bounds the magnitude of every output by the sums of absolute values.
    """
    x = np.asarray(x, np.float64)
    dims, spatial = x.ndim - 1, x.shape[1:]
    weights = np.asarray(layer.weights_real, np.float64)
    if layer.weights_imag is not None:
        weights = weights + 1j * np.asarray(layer.weights_imag, np.float64)
    ends, out_ends = ([pairs(mode, dims) for mode in side] for side in (modes, out_modes))
    output_shape = output_shape or spatial
    periodic = [axis for axis in range(dims) if ends[0][axis][0] == P]
    # If all functions are sines, the first wavenumber is 1.
    first = [
        int(axis not in periodic and {parity(own[axis]) for own in ends + out_ends} == {VALUE})
        for axis in range(dims)
    ]

    def sums(axis, k, own):
        n = spatial[axis]
        if axis in periodic:
            return np.exp(-2j * np.pi * k * np.arange(n) / n) / n
        return expansion(n, own[axis]).get(k + first[axis], np.zeros(n))

    def wave_of(axis, k, own):
        n = output_shape[axis]
        if axis in periodic:
            return np.exp(2j * np.pi * k * np.arange(n) / n)
        return wave(k + first[axis], oracles.wall_points(n, own[axis]), own[axis])

    y, bound = np.zeros((len(out_modes), *output_shape)), 0.0
    for wavenumbers, (group, *index) in oracles.kept_modes(layer.num_modes, ends[0]):
        count = 1
        if periodic and 0 < 2 * wavenumbers[periodic[-1]] < spatial[periodic[-1]]:
            count = 2
        for o, out_own in enumerate(out_ends):
            waves = np.ones(())
            for axis, k in enumerate(wavenumbers):
                waves = np.multiply.outer(waves, wave_of(axis, k, out_own))
            for i, own in enumerate(ends):
                coefficient, magnitude = x[i], np.abs(x[i])
                for axis, k in enumerate(wavenumbers):
                    factors = sums(axis, k, own)
                    coefficient = np.tensordot(factors, coefficient, (0, 0))
                    magnitude = np.tensordot(np.abs(factors), magnitude, (0, 0))
                weight = weights[(group, o, i, *index)]
                y[o] += count * np.real(weight * coefficient * waves)
                bound += count * abs(weight) * magnitude
    return y, float(bound)


def rounding_steps(layer, spatial, output_shape=None):
    """Bounds the error of the output, in `eps` of the sums of absolute values; for the terms see
    the function of this name in test_spectral_conv.py. The mirrored period of nodes that are not
    stored has at most `4 N + 4` points, and the factor of a coefficient adds one rounding.
    """
    output_shape = output_shape or spatial
    steps = 2 * layer.in_channels + 2
    for sizes, m in zip(zip(spatial, output_shape, strict=True), layer.num_modes, strict=True):
        steps += max(sizes[0] + 2 * m + 2, 8 * math.log2(4 * max(sizes) + 4)) + 5
    return 2 ** sum(lower.wraps for lower, _ in layer.boundary.axes) * steps


on_grid = jax.jit(lambda layer, x, shape: layer(x, output_shape=shape), static_argnums=2)


# Modes of the input and of the output, the grid, the modes, another grid.
CASES = {
    "cosines and sines": ([C, DC], [DC, C, C], (6,), (6,), None),
    "nodes and faces": ([N, DC, DN], [C, N], (5,), (4,), (7,)),
    "one mode more than sines": ([DC, DN], [C], (4,), (5,), (6,)),
    "from a point to cells": ([N], [C], (1,), (1,), (3,)),
    "quarter waves": ([[(N, DN)], [(DC, C)]], [[(C, DC)]], (5,), (5,), None),
    "the same signs, other mirrors": ([DC], [DN, D], (5,), (5,), None),
    "along a periodic axis": ([[P, C], [P, DC]], [[P, DC], [P, "outflow"]], (6, 5), (3, 4), (8, 4)),
    "two axes, one the same for all": ([[DC, C], [DC, N]], [[DC, DC]], (4, 5), (3, 4), None),
    "between periodic axes": ([[P, C, P], [P, DC, P]], [[P, D, P]], (4, 3, 6), (2, 3, 3), None),
}


@pytest.mark.parametrize("method", ["product", "fft"])
@pytest.mark.parametrize("name", CASES)
def test_sum_over_modes(name, method, x64):
    modes, out_modes, spatial, num_modes, output_shape = CASES[name]
    layer = random_layer(modes, out_modes, num_modes, method=method)
    x = normal((len(modes), *spatial))
    expected, bound = formula(layer, modes, out_modes, x, output_shape)
    actual = on_grid(layer, x, output_shape)
    atol = bound * rounding_steps(layer, spatial, output_shape) * np.finfo(float).eps
    np.testing.assert_allclose(actual, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_half_precision(name):
    """Transforms are in float32; one rounding of the output is left."""
    modes, out_modes, spatial, num_modes, _ = CASES["cosines and sines"]
    layer = random_layer(modes, out_modes, num_modes, dtype=name)
    x = normal((2, *spatial), name)
    expected, bound = formula(layer, modes, out_modes, x)
    actual = on_grid(layer, x, None)
    assert actual.dtype == name
    atol = bound * rounding_steps(layer, spatial) * float(jnp.finfo("float32").eps)
    rtol = float(jnp.finfo(name).eps)
    np.testing.assert_allclose(np.asarray(actual, float), expected, rtol=rtol, atol=atol)


# Derivatives


def with_weights(layer, multiplier):
    """Makes the layer with `multiplier(*indices)`, a matrix for each mode, where at most one axis
    is periodic.
    """
    shape = layer.weights_real.shape
    weights = np.zeros(shape, complex)
    for index in np.ndindex(shape[3:]):
        weights[(0, slice(None), slice(None), *index)] = multiplier(*index)
    layer = eqx.tree_at(lambda f: f.weights_real, layer, jnp.asarray(weights.real))
    if layer.weights_imag is None:
        assert not np.any(weights.imag)
        return layer
    return eqx.tree_at(lambda f: f.weights_imag, layer, jnp.asarray(weights.imag))


LENGTHS = (3.0, 2.0)


@pytest.mark.parametrize("method", ["product", "fft"])
def test_gradient_and_divergence_in_a_channel_are_exact(method, x64):
    """At the free walls of the second axis, pressure is even and the velocity across them odd."""
    spatial, num_modes, (period, width) = (12, 9), (4, 6), LENGTHS
    scalar, vector = [P, C], free_slip(2, [P, "slip_cell"])
    x = np.arange(12)[:, None] * period / 12
    y = (np.arange(9)[None] + 0.5) * width / 9
    generator = np.random.default_rng(3)
    # The modes of pressure, and of a velocity along and across.
    fields, along, across = np.zeros((3, 3, *spatial))
    total = 0.0
    for k, n in np.ndindex(num_modes):
        kx, ny = 2 * np.pi * k / period, np.pi * n / width
        for field in range(3):
            amplitude, phase = generator.uniform(-1, 1), generator.uniform(0, 2 * np.pi)
            total += abs(amplitude)
            cos, sin = np.cos(kx * x + phase), np.sin(kx * x + phase)
            odd = field == 2
            own = np.sin(ny * y) if odd else np.cos(ny * y)
            slope = ny * np.cos(ny * y) if odd else -ny * np.sin(ny * y)
            fields[field] += amplitude * cos * own
            along[field] -= amplitude * kx * sin * own
            across[field] += amplitude * cos * slope
    largest = max(2 * np.pi * 3 / period, np.pi * 5 / width)

    arguments = dict(key=KEY, method=method)
    gradient = with_weights(
        SpectralConv(
            2, 1, 2, num_modes, boundary_mode=scalar, out_boundary_mode=vector, **arguments
        ),
        lambda k, n: [[2j * np.pi * k / period], [-np.pi * n / width]],
    )
    divergence = with_weights(
        SpectralConv(
            2, 2, 1, num_modes, boundary_mode=vector, out_boundary_mode=scalar, **arguments
        ),
        lambda k, n: [[2j * np.pi * k / period, np.pi * n / width]],
    )
    # No coefficient exceeds the sum of the amplitudes, and no multiplier the largest of them. A
    # field has one rounding for each of its 24 waves, of a size of at most their sum.
    steps = 24 + rounding_steps(divergence, spatial)
    atol = total * largest * steps * np.finfo(float).eps
    expected = np.stack([along[0], across[0]])
    np.testing.assert_allclose(on_grid(gradient, fields[:1], None), expected, rtol=0, atol=atol)
    expected = (along[1] + across[2])[None]
    np.testing.assert_allclose(on_grid(divergence, fields[1:], None), expected, rtol=0, atol=atol)


@pytest.mark.parametrize("where", ["cell", "node"])
def test_gradient_in_a_box_is_exact(where, x64):
    """Tests four free walls. If they are at nodes, the component across a wall is not stored on it,
    so its points differ from those of the pressure, on the same domain.
    """
    spatial, num_modes = (7, 6), (5, 4)
    even, odd = {"cell": "neumann_cell", "node": "neumann"}[where], f"dirichlet_{where}"
    ends = [[(even, even)] * 2, [(odd, odd), (even, even)], [(even, even), (odd, odd)]]
    grids = [
        np.meshgrid(
            *(oracles.wall_points(n, pair) for n, pair in zip(spatial, own, strict=True)),
            indexing="ij",
        )
        for own in ends
    ]
    amplitudes = np.random.default_rng(4).uniform(-1, 1, num_modes)
    field, slopes = np.zeros(spatial), np.zeros((2, *spatial))
    for (k, n), amplitude in np.ndenumerate(amplitudes):
        a, b = np.pi * k, np.pi * n
        x, y = grids[0]
        field += amplitude * np.cos(a * x) * np.cos(b * y)
        x, y = grids[1]
        slopes[0] -= amplitude * a * np.sin(a * x) * np.cos(b * y)
        x, y = grids[2]
        slopes[1] -= amplitude * b * np.cos(a * x) * np.sin(b * y)
    walls = dict(boundary_mode=even, out_boundary_mode=free_slip(2, f"slip_{where}"))
    layer = with_weights(
        SpectralConv(2, 1, 2, num_modes, key=KEY, **walls),
        lambda k, n: [[-np.pi * k], [-np.pi * n]],
    )
    assert layer.weights_imag is None
    # As above, with 20 waves and a largest multiplier of `4 pi`. The absolute values of the factors
    # of an expansion add up to at most 2 on each axis, like those of its functions.
    steps = 20 + rounding_steps(layer, spatial)
    atol = 4 * np.abs(amplitudes).sum() * 4 * np.pi * steps * np.finfo(float).eps
    np.testing.assert_allclose(on_grid(layer, field[None], None), slopes, rtol=0, atol=atol)


# One mode for all channels


def test_equal_modes_are_one_mode():
    """The program and the numbers are the same, however the modes are written."""
    walls = [("neumann", "dirichlet_cell"), P]
    make = lambda **modes: SpectralConv(2, 3, 2, (4, 3), key=KEY, **modes)
    x = normal((3, 5, 6))
    uniform = make(boundary_mode=walls)
    expected, program = uniform(x), str(jax.make_jaxpr(uniform)(x))
    runs = per_channel((2, walls), (1, walls))
    for modes in (
        dict(boundary_mode=runs),
        dict(boundary_mode=walls, out_boundary_mode=walls),
        dict(boundary_mode=runs, out_boundary_mode=each([walls, walls])),
    ):
        layer = make(**modes)
        np.testing.assert_array_equal(layer(x), expected)
        assert str(jax.make_jaxpr(layer)(x)) == program


def test_boundary_modes_are_kept():
    layer = SpectralConv(1, 2, 2, 3, boundary_mode=each([C, DC]), key=KEY)
    assert layer.out_boundary == layer.boundary
    assert layer.boundary_mode == layer.out_boundary_mode == each([C, DC])
    assert SpectralConv(1, 2, 3, 3, boundary_mode=C, key=KEY).out_boundary_mode == C
    leaves = jax.tree.leaves(layer)
    assert [leaf.shape for leaf in leaves] == [(1, 2, 2, 3)]


# Derivatives by JAX, batches, export


@pytest.mark.parametrize("method", ["product", "fft"])
def test_gradients(method, x64):
    """`<c, A x>` is `<A^T c, x>`. Weights of a sine of wavenumber 0 have no gradient."""
    modes, out_modes, spatial, num_modes, _ = CASES["cosines and sines"]
    layer = random_layer(modes, out_modes, num_modes, method=method)
    x, c = normal((2, *spatial)), normal((3, *spatial), seed=5)

    @jax.jit
    def both(layer, x, c):
        product = lambda layer, x: jnp.sum(c * layer(x))
        value, by = jax.value_and_grad(product, (0, 1))(layer, x)
        return value, by, jax.linear_transpose(layer, x)(c)[0]

    value, (by_layer, by_x), transposed = both(layer, x, c)
    _, bound = formula(layer, modes, out_modes, x)
    atol = 2 * bound * np.abs(c).sum() * rounding_steps(layer, spatial) * np.finfo(float).eps
    np.testing.assert_allclose(transposed, by_x, rtol=0, atol=atol)
    np.testing.assert_allclose(jnp.vdot(by_x, x), value, rtol=0, atol=atol)
    np.testing.assert_allclose(
        jnp.vdot(by_layer.weights_real, layer.weights_real), value, rtol=0, atol=atol
    )
    expected = np.ones((1, 3, 2, 6), bool)
    expected[0, :, 1, 0] = expected[0, 0, :, 0] = False
    np.testing.assert_array_equal(by_layer.weights_real != 0, expected)


def test_ensembles_of_layers_and_batches(x64):
    modes, out_modes, spatial, num_modes, _ = CASES["along a periodic axis"]
    layers = [random_layer(modes, out_modes, num_modes, seed) for seed in range(2)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *layers)
    x = normal((3, 2, *spatial))

    @jax.jit
    def members(stacked, x):
        return jax.vmap(lambda layer: jax.vmap(layer)(x))(stacked)

    actual = members(stacked, x)
    for i, layer in enumerate(layers):
        for j in range(3):
            _, bound = formula(layer, modes, out_modes, x[j])
            atol = 2 * bound * rounding_steps(layer, spatial) * np.finfo(float).eps
            expected = on_grid(layer, x[j], None)
            np.testing.assert_allclose(actual[i, j], expected, rtol=0, atol=atol)


def test_export_with_an_open_batch():
    modes, out_modes, spatial, num_modes, _ = CASES["cosines and sines"]
    layer = random_layer(modes, out_modes, num_modes)
    (batch,) = jax.export.symbolic_shape("batch")
    like = jax.ShapeDtypeStruct((batch, 2, *spatial), "float32")
    exported = jax.export.export(jax.jit(jax.vmap(layer)))(like)
    x = normal((3, 2, *spatial), "float32")
    _, bound = formula(layer, modes, out_modes, x[0] * 0 + np.abs(x).max())
    atol = 2 * bound * rounding_steps(layer, spatial) * float(jnp.finfo("float32").eps)
    expected = np.stack([on_grid(layer, sample, None) for sample in x])
    np.testing.assert_allclose(exported.call(x), expected, rtol=0, atol=atol)


# What is refused


@pytest.mark.parametrize(
    "changes, text",
    [
        (dict(boundary_mode=each([C, DC, C])), "`boundary_mode` must have as many channels"),
        (dict(out_boundary_mode=each([C, DC])), "`out_boundary_mode` must have as many channels"),
        (
            dict(boundary_mode=each([C, DC])),
            "`out_boundary_mode` is required if `boundary_mode` is per channel and the output has "
            "another number of channels, 3 here: their modes do not follow from those of the 2",
        ),
        (dict(out_boundary_mode="reflect"), "`out_boundary_mode` must be one of"),
        (
            dict(boundary_mode=[C, P], out_boundary_mode=C),
            "`out_boundary_mode` must be periodic on the same axes as `boundary_mode`, got "
            "'neumann_cell' and (('neumann_cell', 'neumann_cell'), ('periodic', 'periodic')), "
            "which differ on spatial axis 1.",
        ),
        (
            dict(boundary_mode=C, out_boundary_mode=[C, (C, DC)]),
            "have no wavenumber in common, got [('neumann_cell', 'dirichlet_cell'), "
            "('neumann_cell', 'neumann_cell')] on spatial axis 1.",
        ),
        (
            dict(boundary_mode=["pole_cell", P]),
            "`boundary_mode` must not have poles, because there are no waves",
        ),
        (
            dict(boundary_mode=[C, P], out_boundary_mode=["pole_node_odd", P]),
            "`out_boundary_mode` must not have poles",
        ),
    ],
)
def test_modes_that_do_not_meet(changes, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        SpectralConv(2, 2, 3, 2, key=KEY, **changes)


def test_modes_that_do_not_fit():
    cosines_to_sines = random_layer([C], [DC], (5,))
    with pytest.raises(ValueError, match=re.escape("at most 4 on spatial axis 0, which has 4")):
        cosines_to_sines(normal((1, 4)))
    text = "at most 4 on spatial axis 0 of `output_shape`, which has 3 points (N + 1), got 5"
    with pytest.raises(ValueError, match=re.escape(text)):
        cosines_to_sines(normal((1, 5)), output_shape=3)
    assert cosines_to_sines(normal((1, 5)), output_shape=4).shape == (1, 4)
    # The grid of the output holds fewer waves than that of the input, whose sines have one more.
    with pytest.raises(ValueError, match=re.escape("at most 4 on spatial axis 0, which has 4")):
        random_layer([DC], [C], (5,))(normal((1, 4)))
