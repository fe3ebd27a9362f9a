"""Tests the spectral layer: sums over modes, derivatives, projections, other grids, symmetries."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import oracles
import pytest
from hypothesis import given, settings, strategies as st

from pdequinox_spectralconv import SpectralConv
from pdequinox_spectralconv._operator import multiplied
from pdequinox_spectralconv._weights import Structure


KEY = jr.key(0)
P, N, C = "periodic", "neumann", "neumann_cell"
D, DN, DC = "dirichlet", "dirichlet_node", "dirichlet_cell"


def multiply(z, weights):
    """Multiplies modes by weights that have one dense array for each part."""
    return multiplied(z, tuple((w,) for w in weights), Structure("dense", ()))


def normal(shape, dtype=None, seed=1):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def pairs(boundary_mode, dims):
    """Gives a pair of names for each axis."""
    entries = [boundary_mode] * dims if isinstance(boundary_mode, str) else boundary_mode
    return [(entry, entry) if isinstance(entry, str) else tuple(entry) for entry in entries]


def random_layer(boundary_mode, num_modes, channels=(2, 3), seed=2, **arguments):
    """Makes a layer with standard normal weights."""
    layer = eqx.filter_eval_shape(
        SpectralConv,
        len(num_modes),
        *channels,
        num_modes,
        key=KEY,
        boundary_mode=boundary_mode,
        **arguments,
    )
    generator = np.random.default_rng(seed)
    draw = lambda leaf: jnp.asarray(generator.standard_normal(leaf.shape), leaf.dtype)
    return jax.tree.map(draw, layer)


def set_multipliers(layer, multiplier):
    """Makes the layer with `multiplier(*wavenumbers)`, a matrix for each mode, as its weights."""
    ends = pairs(layer.boundary_mode, layer.num_spatial_dims)
    weights = np.zeros(layer.weights_real.shape, complex)
    for wavenumbers, (group, *index) in oracles.kept_modes(layer.num_modes, ends):
        weights[(group, slice(None), slice(None), *index)] = multiplier(*wavenumbers)
    parts = [jnp.asarray(weights.real), jnp.asarray(weights.imag)]
    if layer.weights_imag is None:
        assert not np.any(weights.imag)
        return eqx.tree_at(lambda f: f.weights_real, layer, parts[0])
    return eqx.tree_at(lambda f: (f.weights_real, f.weights_imag), layer, parts)


def identity_layer(boundary_mode, num_modes, channels, **arguments):
    layer = random_layer(boundary_mode, num_modes, (channels, channels), **arguments)
    return set_multipliers(layer, lambda *k: np.eye(channels))


call = jax.jit(lambda layer, x: layer(x))


on_grid = jax.jit(lambda layer, x, shape: layer(x, output_shape=shape), static_argnums=2)


def rounding_steps(layer, spatial, output_shape=None):
    """Bounds the error of the output, in `eps` of the sums of absolute values.

    On each axis, the product of `N` points with a matrix, and that of its functions with another,
    take as many roundings as they have terms (N. J. Higham, "Accuracy and Stability of Numerical
    Algorithms", 2nd ed., section 3.1). Fast transforms take at most about `4 eps` for each stage
    (theorem 24.2), with periods of at most `4 N + 4` points. Four more are for the factors and the
    sums of sines and cosines. The matrix of a mode adds `2 * in_channels + 2`. On a periodic axis,
    `|cos| + |sin|` is at most the square root of 2, there and back.
    """
    output_shape = output_shape or spatial
    steps = 2 * layer.in_channels + 2
    for sizes, m in zip(zip(spatial, output_shape, strict=True), layer.num_modes, strict=True):
        product = sizes[0] + 2 * m + 2
        fast = 8 * math.log2(4 * max(sizes) + 4)
        chosen = {"product": product, "fft": fast, "auto": max(product, fast)}
        steps += chosen[layer.method] + 4
    periodic = sum(lower == P for lower, _ in pairs(layer.boundary_mode, len(spatial)))
    return 2**periodic * steps


def check(layer, x, output_shape=None):
    ends = pairs(layer.boundary_mode, layer.num_spatial_dims)
    expected, bound = oracles.spectral_convolution(
        x, layer.weights_real, layer.weights_imag, ends, output_shape
    )
    actual = on_grid(layer, x, output_shape)
    assert actual.dtype == x.dtype and actual.shape == expected.shape
    eps = float(jnp.finfo(x.dtype).eps)
    # Half-precision fields are transformed in float32, which leaves one rounding of the output.
    working_eps = min(eps, float(jnp.finfo(jnp.float32).eps))
    atol = bound * working_eps * rounding_steps(layer, x.shape[1:], output_shape)
    np.testing.assert_allclose(np.asarray(actual, float), expected, rtol=eps, atol=atol)


def assert_equal_to_rounding(layer, x, actual, expected):
    """Bounds the difference of two ways to compute the layer for a field of the size of `x`."""
    ends = pairs(layer.boundary_mode, layer.num_spatial_dims)
    _, bound = oracles.spectral_convolution(x, layer.weights_real, layer.weights_imag, ends)
    atol = 2 * bound * rounding_steps(layer, x.shape[1:]) * float(jnp.finfo(x.dtype).eps)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=atol)


# Odd and even sizes; one mode, several, and all that fit: N // 2 + 1 with the Nyquist mode.
PERIODIC_CASES = [
    ((1,), (1,)),
    ((2,), (2,)),
    ((8,), (3,)),
    ((8,), (5,)),
    ((9,), (5,)),
    ((13,), (4,)),
    ((4, 6), (1, 1)),
    ((6, 8), (3, 5)),
    ((7, 5), (3, 3)),
    ((2, 3), (1, 2)),
    ((4, 6, 8), (2, 3, 5)),
    ((5, 4, 7), (1, 2, 3)),
    ((4, 3, 2, 6), (2, 1, 1, 4)),
]
WALL_CASES = [
    (N, (1,), (1,)),
    (N, (2,), (2,)),
    (N, (7,), (7,)),
    (C, (6,), (4,)),
    (DN, (5,), (5,)),
    (DC, (8,), (8,)),
    (D, (1,), (1,)),
    ([(N, DC)], (6,), (6,)),
    ([(DN, N)], (1,), (1,)),
    ([(C, DC)], (7,), (5,)),
    ([(D, C)], (6,), (6,)),
    ([(DC, DN)], (5,), (5,)),
    ([(C, N)], (1,), (1,)),
    ([N, (DC, C)], (5, 4), (5, 2)),
    ([(D, N), P], (5, 6), (3, 4)),
    ([P, DC], (5, 4), (3, 4)),
    ([(N, C), DN, (C, D)], (3, 4, 2), (2, 3, 2)),
    ([P, (N, DN), P], (4, 5, 6), (2, 3, 4)),
    ([P, P, DC], (5, 6, 3), (2, 3, 3)),
    ([DN, P, P, P], (2, 4, 3, 5), (2, 2, 1, 3)),
    ([P, C, P, (N, DC)], (3, 2, 4, 3), (1, 2, 3, 2)),
]
CASES = [(P, *case) for case in PERIODIC_CASES] + WALL_CASES


@pytest.mark.parametrize(
    "method, dtype", [("product", "float32"), ("fft", "float64")], indirect=["dtype"]
)
@pytest.mark.parametrize("boundary_mode, spatial, num_modes", CASES, ids=str)
def test_sum_over_modes(boundary_mode, spatial, num_modes, method, dtype):
    # Both have cases with more channels out than in, and with fewer.
    channels = (2, 3) if dtype == jnp.float32 else (3, 1)
    layer = random_layer(boundary_mode, num_modes, channels, method=method)
    periodic = sum(lower == P for lower, _ in pairs(boundary_mode, len(spatial)))
    shape = (2 ** max(periodic - 1, 0), *channels[::-1], *num_modes)
    assert layer.weights_real.shape == shape
    assert (layer.weights_imag is None) == (periodic == 0)
    check(layer, normal((channels[0], *spatial), dtype))


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
@pytest.mark.parametrize(
    "boundary_mode, method",
    [(P, "product"), (P, "fft"), ([(N, D), P], "auto"), (DC, "auto")],
)
def test_half_precision(boundary_mode, method, name):
    layer = random_layer(boundary_mode, (2, 3), method=method, dtype=name)
    check(layer, normal((2, 5, 6), name))


def test_one_number_of_modes_for_every_axis():
    layer = SpectralConv(2, 1, 1, np.int64(2), key=KEY, boundary_mode=[P, N])
    assert layer.num_modes == (2, 2)
    check(layer, normal((1, 4, 4)))


@settings(max_examples=25)
@given(data=st.data())
def test_random_layers(data):
    draw = data.draw
    walls_or_not = st.one_of(st.just((P, P)), st.sampled_from(oracles.WALL_ENDS))
    ends = draw(st.lists(walls_or_not, min_size=1, max_size=3), "boundary_mode")
    periodic = [axis for axis, pair in enumerate(ends) if pair == (P, P)]
    spatial, output_shape, num_modes = [], [], []
    for axis, pair in enumerate(ends):
        full = axis in periodic[:-1]
        spatial.append(draw(st.integers(1 + full, 6), "N"))
        output_shape.append(draw(st.integers(1 + full, 6), "output_shape"))
        n = min(spatial[-1], output_shape[-1])
        limit = n if pair != (P, P) else n // 2 if full else n // 2 + 1
        num_modes.append(draw(st.integers(1, limit), "num_modes"))
    channels = draw(st.integers(1, 3), "in_channels"), draw(st.integers(1, 3), "out_channels")
    method = draw(st.sampled_from(["auto", "product", "fft"]), "method")
    seed = draw(st.integers(0, 2**31 - 1), "seed")
    layer = random_layer(ends, num_modes, channels, seed, method=method)
    x = normal((channels[0], *spatial), jnp.float32, seed + 1)
    check(layer, x, tuple(output_shape) if draw(st.booleans(), "other grid") else None)


# Derivatives


@pytest.mark.parametrize("spatial", [(16,), (15,), (12, 11), (7, 8, 10)], ids=str)
def test_derivatives_of_trigonometric_polynomials_are_exact(spatial, x64):
    """Tests every first and mixed second derivative, from one channel to all of them at once."""
    dims = len(spatial)
    num_modes = [3] * dims
    seconds = [(a, b) for a in range(dims) for b in range(a, dims)]
    waves = np.random.default_rng(2).integers(-2, 3, (6, dims))
    phases = np.random.default_rng(3).uniform(0, 2 * np.pi, 6)
    points = np.meshgrid(*(2 * np.pi * np.arange(n) / n for n in spatial), indexing="ij")

    field, exact = 0.0, [0.0] * (dims + len(seconds))
    for wave, phase in zip(waves, phases, strict=True):
        angle = sum(k * p for k, p in zip(wave, points, strict=True)) + phase
        field = field + np.cos(angle)
        for a in range(dims):
            exact[a] = exact[a] - wave[a] * np.sin(angle)
        for i, (a, b) in enumerate(seconds):
            exact[dims + i] = exact[dims + i] - wave[a] * wave[b] * np.cos(angle)

    def multiplier(*k):
        first = [1j * k[a] for a in range(dims)]
        return np.array(first + [-k[a] * k[b] for a, b in seconds])[:, None]

    layer = set_multipliers(random_layer(P, num_modes, (1, len(exact))), multiplier)
    actual = call(layer, jnp.asarray(field[None]))
    # Multipliers are at most 9 = 3 * 3 in magnitude, and the field's coefficients sum to 6.
    atol = 9 * 6 * rounding_steps(layer, spatial) * np.finfo(float).eps
    np.testing.assert_allclose(actual, exact, rtol=0, atol=atol)


@pytest.mark.parametrize("ends", oracles.WALL_ENDS, ids=str)
def test_second_derivatives_between_walls_are_exact(ends, x64):
    """Tests every basis with a periodic axis, along which there is a mixed derivative too."""
    size, m = 6, 4
    amplitudes = np.random.default_rng(2).uniform(-1, 1, m)
    points = oracles.wall_points(size, ends)[:, None]
    angle = 2 * np.pi * np.arange(5) / 5 + 0.3
    across = lambda order: sum(
        a * oracles.wall_function(k, points, ends, order) for k, a in enumerate(amplitudes)
    )
    field = across(0) * np.cos(angle)
    exact = [across(2) * np.cos(angle), across(2) * -np.sin(angle)]

    def multiplier(k, wavenumber):
        second = -((np.pi * oracles.wall_frequency(k, ends)) ** 2)
        return np.array([[second], [second * 1j * wavenumber]])

    layer = set_multipliers(random_layer([ends, P], (m, 2), (1, 2)), multiplier)
    actual = call(layer, jnp.asarray(field[None]))
    # The rate of the last function, for each of `m` amplitudes of at most 1. Coefficients are
    # at most about 4 times the largest value of the field.
    atol = 4 * m * (np.pi * m) ** 2 * rounding_steps(layer, (size, 5)) * np.finfo(float).eps
    np.testing.assert_allclose(actual, exact, rtol=0, atol=atol)


# Projections


@pytest.mark.parametrize(
    "boundary_mode, spatial, num_modes",
    [
        (P, (8,), (3,)),
        (P, (9, 8), (2, 3)),
        (P, (6, 5, 7), (2, 2, 3)),
        (P, (6, 8), (3, 5)),
        ([P, (N, DC), P], (6, 4, 5), (2, 3, 2)),
        ([(C, D), P, N], (4, 6, 3), (3, 4, 2)),
        ([DN, (DC, C)], (5, 6), (3, 4)),
    ],
    ids=str,
)
def test_identity_is_the_projection_onto_the_kept_modes(boundary_mode, spatial, num_modes, x64):
    """There is one exception: a wavenumber `-m` with 0 (or half the axis) on the last periodic axis
    has no kept partner, and counts half.
    """
    ends = pairs(boundary_mode, len(spatial))
    layer = identity_layer(boundary_mode, num_modes, 2)
    x = normal((2, *spatial))

    expected = np.asarray(x)
    for axis, (n, m, pair) in enumerate(zip(spatial, num_modes, ends, strict=True), 1):
        if pair[0] != P:
            functions = oracles.wall_functions(n, pair, n)
            projection = functions[:, :m] @ np.linalg.inv(functions)[:m]
            expected = np.moveaxis(np.tensordot(projection, expected, (1, axis)), 0, axis)
    axes = [axis for axis, pair in enumerate(ends, 1) if pair[0] == P]
    sizes = [x.shape[axis] for axis in axes]
    modes = [num_modes[axis - 1] for axis in axes]
    factors = np.ones(sizes)
    for place in np.ndindex(*sizes) if sizes else []:

        def kept(wavenumbers):
            # Of the two signs of half the points, the negative one is that of a full axis.
            signed = [(k + n // 2) % n - n // 2 for k, n in zip(wavenumbers, sizes, strict=True)]
            last = wavenumbers[-1] % sizes[-1]
            if 2 * last > sizes[-1] or last >= modes[-1]:
                return False
            return all(-m <= k < m for k, m in zip(signed[:-1], modes[:-1], strict=True))

        partner = [-k for k in place]
        alone = (2 * place[-1]) % sizes[-1] == 0
        factors[place] = (
            (kept(place) + kept(partner)) / 2 if alone else kept(place) or kept(partner)
        )
    if axes:
        shape = [n if axis in axes else 1 for axis, n in enumerate(x.shape)]
        spectrum = np.fft.fftn(expected, axes=axes) * factors.reshape(shape)
        expected = np.fft.ifftn(spectrum, axes=axes).real
    actual = call(layer, x)
    assert_equal_to_rounding(layer, x, actual, expected)
    if len(axes) <= 1:
        assert_equal_to_rounding(layer, actual, call(layer, actual), actual)


@pytest.mark.parametrize("method", ["product", "fft"])
@pytest.mark.parametrize("size", [1, 2, 5])
def test_all_modes_between_walls_give_the_field_back(size, method, x64):
    """Tests every basis, in one program for all of them."""
    layers = [identity_layer([ends], (size,), 1, method=method) for ends in oracles.WALL_ENDS]
    x = normal((1, size))
    fields = jax.jit(lambda layers, x: [layer(x) for layer in layers])(layers, x)
    for layer, field in zip(layers, fields, strict=True):
        assert_equal_to_rounding(layer, x, field, x)


# Other grids


def sample(waves, ends, shape):
    """Makes a field from the given waves: pairs of amplitudes, one for each channel, and
    wavenumbers.
    """
    field = 0.0
    for amplitudes, wavenumbers in waves:
        wave = amplitudes
        for n, k, pair in zip(shape, wavenumbers, ends, strict=True):
            if pair[0] == P:
                values = np.exp(2j * np.pi * k * np.arange(n) / n)
            else:
                values = oracles.wall_function(k, oracles.wall_points(n, pair), pair)
            wave = np.multiply.outer(wave, values)
        field = field + wave.real
    return jnp.asarray(field)


@pytest.mark.parametrize(
    "boundary_mode, grids, num_modes, method",
    [
        (P, ((8,), (11,)), (4,), "auto"),
        (P, ((8,), (20,)), (5,), "fft"),
        (P, ((7,), (24,)), (4,), "product"),
        (P, ((6, 5), (9, 8)), (3, 3), "auto"),
        (P, ((4, 8), (7, 7)), (2, 3), "fft"),
        (P, ((4, 5, 6), (6, 7, 5)), (2, 2, 3), "auto"),
        (N, ((1,), (4,)), (1,), "auto"),
        ([(N, DC)], ((5,), (9,)), (5,), "auto"),
        ([(C, DN)], ((5,), (8,)), (5,), "fft"),
        ([(DC, DN), (C, N)], ((4, 7), (6, 5)), (3, 5), "auto"),
        ([(D, C), P], ((4, 8), (7, 9)), (4, 4), "auto"),
        ([P, (DC, C)], ((6, 3), (7, 8)), (4, 3), "auto"),
        ([P, DC, P], ((4, 3, 7), (7, 5, 6)), (2, 3, 3), "auto"),
        ([DN, N, C], ((4, 5, 3), (3, 8, 4)), (3, 4, 3), "auto"),
    ],
    ids=str,
)
def test_resampling_commutes_with_the_layer(boundary_mode, grids, num_modes, method, x64):
    """Tests from coarser to finer grids and back, for fields in the span of the kept modes."""
    ends = pairs(boundary_mode, len(num_modes))
    periodic = [axis for axis, pair in enumerate(ends) if pair[0] == P]
    layer = random_layer(boundary_mode, num_modes, method=method)
    resample = identity_layer(boundary_mode, num_modes, 3, method=method)

    waves = []
    generator = np.random.default_rng(5)
    for wavenumbers, (group, *index) in oracles.kept_modes(num_modes, ends):
        amplitudes = generator.standard_normal(2) + 1j * generator.standard_normal(2)
        last = wavenumbers[periodic[-1]] if periodic else 0
        full = periodic[:-1]
        if last == 0 and any(wavenumbers[axis] == -num_modes[axis] for axis in full):
            continue  # The exception: its partner is not kept.
        if periodic and 2 * last == grids[0][periodic[-1]]:
            # On the coarse grid, this mode has no imaginary part, so it gets none on the other.
            assert not full
            amplitudes = amplitudes.real
            imag = layer.weights_imag.at[(group, slice(None), slice(None), *index)].set(0.0)
            layer = eqx.tree_at(lambda f: f.weights_imag, layer, imag)
        waves.append((amplitudes, wavenumbers))

    @jax.jit
    def results(layer, coarse, fine):
        """Tests both grids, and each of them from the other."""
        on_coarse, on_fine = layer(coarse), layer(fine)
        to_fine = layer(coarse, output_shape=grids[1])
        to_coarse = layer(fine, output_shape=grids[0])
        return on_coarse, on_fine, to_coarse, to_fine, resample(on_coarse, output_shape=grids[1])

    coarse, fine = (sample(waves, ends, grid) for grid in grids)
    on_coarse, on_fine, to_coarse, to_fine, resampled = results(layer, coarse, fine)
    _, bound = oracles.spectral_convolution(fine, layer.weights_real, layer.weights_imag, ends)
    # When an output within the bound is resampled, it has at most `prod(2 m)` coefficients.
    steps = (1 + math.prod(2 * m for m in num_modes)) * rounding_steps(layer, *grids)
    close = lambda actual, expected: np.testing.assert_allclose(
        actual, expected, rtol=0, atol=2 * steps * np.finfo(float).eps * bound
    )
    close(to_fine, on_fine)
    close(to_coarse, on_coarse)
    close(resampled, on_fine)


def test_one_number_of_points_for_every_axis():
    layer, x = random_layer([P, N], (2, 2)), normal((2, 5, 6))
    actual = on_grid(layer, x, np.int64(4))
    assert actual.shape == (3, 4, 4)
    np.testing.assert_array_equal(actual, on_grid(layer, x, (4, 4)))


def extrapolation(places, order):
    """Gives the weights of the values at `places` in the value (0) or the slope (1) at 0 of the
    polynomial through them.
    """
    powers = np.vander(places, increasing=True).T
    return np.linalg.solve(powers, np.eye(len(places))[order])


@pytest.mark.parametrize("ends", oracles.WALL_ENDS, ids=str)
def test_outputs_satisfy_the_boundary_conditions(ends, x64):
    """Tests random weights and any input: on a fine grid, the polynomial through the eight points
    next to a wall has either the value 0 or the slope 0 there, and not both.
    """
    m, size, count = 3, 256, 8
    layer, x = random_layer([ends, P], (m, 2)), normal((2, 5, 4))
    y = np.asarray(on_grid(layer, x, (size, 4)))
    _, bound = oracles.spectral_convolution(
        x, layer.weights_real, layer.weights_imag, [ends, (P, P)]
    )
    distances = [oracles.WALLS[end][0] for end in ends]
    # This is the angle by which the highest function turns from one point to the next. Its eighth
    # derivative gives the remainder of the interpolation, which for the slope has one power less,
    # times the 8 points.
    turn = np.pi * m / (size - 1 + sum(distances))
    for end, distance, near in zip(
        ends, distances, (y[:, :count], y[:, : -count - 1 : -1]), strict=True
    ):
        places = np.arange(count) + distance
        value, slope = (np.tensordot(extrapolation(places, o), near, (0, 1)) for o in (0, 1))
        eps = np.finfo(float).eps * rounding_steps(layer, (5, 4), (size, 4))
        for order, quantity in enumerate((value, slope)):
            spread = np.sum(np.abs(extrapolation(places, order)))
            atol = bound * (turn**count * count**order + eps * spread)
            # The value where the field is odd, else the slope.
            satisfied = np.max(np.abs(quantity)) <= atol
            assert satisfied == (order == (0 if oracles.WALLS[end][1] else 1))


# Fourier on the field that is extended over its boundaries


@pytest.mark.parametrize("method", ["product", "fft"])
@pytest.mark.parametrize("ends", oracles.WALL_ENDS, ids=str)
def test_between_walls_is_fourier_of_the_extended_field(ends, method, x64):
    """Multiplies the discrete Fourier transform of one period of the field's extension by the real
    number of each wavenumber.
    """
    size, m = 5, 5 if method == "product" else 4
    layer, x = random_layer([ends], (m,), method=method), normal((2, size))
    stand_ins = {"dirichlet": "dirichlet_node", "outflow": "neumann_cell"}
    mirrors = tuple(stand_ins.get(end, end) for end in ends)
    odd = [oracles.WALLS[end][1] for end in ends]
    lengths = 4 if odd[0] != odd[1] else 2
    period = round(lengths * (size - 1 + sum(oracles.WALLS[end][0] for end in ends)))
    extended = np.stack([oracles.unfolded_field(v, mirrors, range(period)) for v in np.asarray(x)])
    np.testing.assert_array_equal(
        extended[:, -2:],
        [oracles.unfolded_field(v, mirrors, [-2, -1]) for v in np.asarray(x)],
    )
    spectrum = np.fft.fft(extended)
    multiplied = np.zeros((3, period), complex)
    for k in range(m):
        # Half waves between the walls, of which the period has `lengths`.
        wavenumber = round(oracles.wall_frequency(k, ends) * lengths / 2)
        for place in {wavenumber, -wavenumber % period}:
            multiplied[:, place] = np.asarray(layer.weights_real)[0, :, :, k] @ spectrum[:, place]
    expected = np.fft.ifft(multiplied).real[:, :size]
    _, bound = oracles.spectral_convolution(x, layer.weights_real, None, [ends])
    atol = 2 * bound * rounding_steps(layer, (size,)) * np.finfo(float).eps
    np.testing.assert_allclose(call(layer, x), expected, rtol=0, atol=atol)


# Symmetries


@pytest.mark.parametrize("method", ["product", "fft"])
def test_rolls_of_the_field_roll_the_output(method):
    layer = random_layer([P, (N, D), P], (2, 2, 3), method=method)
    x = normal((2, 6, 4, 7))
    roll = lambda v: jnp.roll(v, (2, -3), (1, 3))
    assert_equal_to_rounding(layer, x, call(layer, roll(x)), roll(call(layer, x)))


@pytest.mark.parametrize(
    "ends", [(N, N), (C, DC), (DN, N), (DC, DN), (D, C), (C, N), (DC, DC)], ids=str
)
def test_reflections_of_the_field_reflect_the_output(ends):
    """Reflection exchanges the walls, and on a periodic axis conjugates the weights."""
    x = normal((2, 4, 5))
    layer = random_layer([ends, P], (3, 2))
    swapped = random_layer([ends[::-1], P], (3, 2))
    expected = jnp.flip(call(layer, x), 1)
    assert_equal_to_rounding(layer, x, call(swapped, jnp.flip(x, 1)), expected)
    conjugate = eqx.tree_at(lambda f: f.weights_imag, layer, -layer.weights_imag)
    reflect = lambda v: jnp.roll(jnp.flip(v, 2), 1, 2)
    assert_equal_to_rounding(layer, x, call(conjugate, reflect(x)), reflect(call(layer, x)))


# Weights


@pytest.mark.parametrize("complex_weights", [True, False])
def test_products_with_the_matrices_of_every_mode(complex_weights, x64):
    groups, c_out, c_in, modes = 2, 3, 4, (2, 3)
    parts = 2 if complex_weights else 1
    z = normal((parts, groups, c_in, *modes))
    weights = [normal((groups, c_out, c_in, *modes), seed=seed) for seed in range(2, 2 + parts)]
    in_one = lambda values: sum(np.asarray(v) * u for v, u in zip(values, (1, 1j), strict=False))
    expected = np.einsum("goikl,gikl->gokl", in_one(weights), in_one(z))
    actual = jax.jit(multiply)(z, weights)
    assert actual.shape == (parts, groups, c_out, *modes)
    # Sums of products of numbers of order 1, below 4 in magnitude: twice the channels in each part.
    atol = 2 * c_in * 16 * np.finfo(float).eps * (2 * c_in + 2)
    np.testing.assert_allclose(in_one(actual), expected, rtol=0, atol=atol)


@pytest.mark.parametrize(
    "boundary_mode, spatial, num_modes",
    [
        (P, (8,), (5,)),
        (P, (9,), (5,)),
        (P, (6, 8), (3, 5)),
        (P, (4, 5, 6), (2, 2, 4)),
        ([(N, DC), DN], (4, 5), (4, 3)),
        ([P, (C, D), P], (4, 3, 6), (2, 3, 4)),
    ],
)
def test_every_weight_that_matters_has_a_gradient(boundary_mode, spatial, num_modes, x64):
    """The only weights without effect are imaginary parts where both the coefficient and the wave
    are real: where all periodic wavenumbers are 0 or half their axis. (`-m` with `2m = N` is half.)
    """
    ends = pairs(boundary_mode, len(spatial))
    layer = random_layer(boundary_mode, num_modes)
    x = normal((2, *spatial))
    gradient = jax.jit(jax.grad(lambda f: jnp.sum(jnp.sin(f(x)))))(layer)
    # This is far above the rounding of a sum, and far below the effect of a weight that matters.
    threshold = 1e-10 * float(jnp.max(jnp.abs(gradient.weights_real)))
    for wavenumbers, (group, *index) in oracles.kept_modes(num_modes, ends):
        place = (group, slice(None), slice(None), *index)
        assert np.all(np.abs(gradient.weights_real[place]) > threshold)
        if layer.weights_imag is not None:
            real = all(
                (2 * k) % n == 0
                for k, n, pair in zip(wavenumbers, spatial, ends, strict=True)
                if pair[0] == P
            )
            assert np.all((np.abs(gradient.weights_imag[place]) > threshold) != real)


def test_initial_weights():
    key = jr.key(7)
    layer = SpectralConv(2, 3, 4, (5, 6), key=key)
    real_key, imag_key = jr.split(key)
    shape = (2, 4, 3, 5, 6)
    np.testing.assert_array_equal(layer.weights_real, jr.normal(real_key, shape) * (1 / 12))
    np.testing.assert_array_equal(layer.weights_imag, jr.normal(imag_key, shape) * (1 / 12))
    scaled = SpectralConv(2, 3, 4, (5, 6), key=key, weight_scale=0.5)
    np.testing.assert_array_equal(scaled.weights_real, jr.normal(real_key, shape) * 0.5)
    walls = SpectralConv(2, 3, 4, (5, 6), key=key, boundary_mode=[N, (DC, C)])
    assert walls.weights_imag is None
    expected = jr.normal(real_key, (1, *shape[1:])) * (1 / 12)
    np.testing.assert_array_equal(walls.weights_real, expected)
    mixed = SpectralConv(2, 3, 4, (5, 6), key=key, boundary_mode=[N, P], weight_scale=0.5)
    expected = jr.normal(imag_key, (1, *shape[1:])) * 0.5
    np.testing.assert_array_equal(mixed.weights_imag, expected)


@pytest.mark.parametrize("boundary_mode, parts", [(P, 2), ([C, P], 2), ([(C, D), DC], 1)], ids=str)
def test_recommended_weight_scale_keeps_the_variance(boundary_mode, parts, x64):
    """The variance is kept in the mean over the weights, for a field of kept modes that have a
    partner, and exactly so on grids whose points all count the same.
    """
    ends = pairs(boundary_mode, 2)
    kept = lambda k, wavenumber: ends[1][0] != P or wavenumber > 0
    field_of_modes = random_layer(boundary_mode, (2, 3), (2, 2))
    field_of_modes = set_multipliers(field_of_modes, lambda *k: kept(*k) * np.eye(2))
    x = call(field_of_modes, normal((2, 5, 6)))
    layer = random_layer(boundary_mode, (2, 3), (2, 2))
    jacobian = jax.jit(jax.jacobian(lambda f: f(x)))(layer)
    # The mean square of a sum of independent numbers of variance `1 / (parts * in_channels)`.
    total = sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(jacobian)) / (parts * 2)
    # Thousands of numbers, each with the rounding of a few dozen operations, and squared.
    np.testing.assert_allclose(total, jnp.sum(x**2), rtol=1e-10)


def test_receptive_field():
    """The receptive field is infinite, because every output depends on every input."""
    layer = random_layer([P, (N, DC)], (2, 3), (1, 1))
    assert layer.receptive_field == ((math.inf, math.inf),) * 2
    jacobian = jax.jit(lambda x: jax.jacobian(layer)(x))(jnp.ones((1, 4, 5)))
    assert np.all(np.asarray(jacobian) != 0)


# Ensembles


def test_ensembles_of_layers_and_inputs(x64):
    """Tests batches of layers, of inputs, and of both, in any order."""
    layers = [random_layer([P, (N, D)], (2, 3), seed=seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *layers)
    x = normal((3, 4, 2, 5, 6))
    expected = np.array([[call(f, v) for v in row] for f, row in zip(layers, x, strict=True)])
    _, bound = oracles.spectral_convolution(
        jnp.max(jnp.abs(x), axis=(0, 1)),
        jnp.max(jnp.abs(stacked.weights_real), axis=0),
        jnp.max(jnp.abs(stacked.weights_imag), axis=0),
        [(P, P), (N, D)],
    )
    atol = 2 * bound * rounding_steps(layers[0], (5, 6)) * np.finfo(float).eps
    over_both = eqx.filter_vmap(lambda f, v: f(v))
    over_layers = eqx.filter_vmap(lambda f, v: f(v), in_axes=(eqx.if_array(0), None))
    over_inputs = eqx.filter_vmap(lambda f, v: f(v), in_axes=(None, 0))
    for run, inputs, outputs in [
        (over_both, x[:, 1], expected[:, 1]),
        (eqx.filter_vmap(over_inputs), x, expected),
        (eqx.filter_vmap(over_both, in_axes=(None, 1), out_axes=1), x, expected),
    ]:
        actual = eqx.filter_jit(run)(stacked, inputs)
        np.testing.assert_allclose(actual, outputs, rtol=0, atol=atol)
    every = eqx.filter_jit(eqx.filter_vmap(over_layers, in_axes=(None, 0), out_axes=1))
    for i, row in enumerate(x):
        np.testing.assert_allclose(every(stacked, row)[i], expected[i], rtol=0, atol=atol)
