"""The spectral layer against the sum over its modes, exact derivatives, and its gradients."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import oracles
import pytest
from hypothesis import given, settings, strategies as st

from pdequinox_spectralconv import _fourier, SpectralConv


KEY = jr.key(0)


def normal(shape, dtype=None, seed=1):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def rounding_steps(spatial, in_channels):
    """Two fast transforms are off by at most about `4 eps` a stage each (N. J. Higham, "Accuracy
    and Stability of Numerical Algorithms", 2nd ed., theorem 24.2), with `log2` of twice the number
    of points as stages; a complex product of matrices adds `2 * in_channels + 2`.
    """
    return 8 * math.log2(2 * math.prod(spatial)) + 2 * in_channels + 2


def check(layer, x):
    expected, bound = oracles.spectral_convolution(x, layer.weights_real, layer.weights_imag)
    actual = eqx.filter_jit(layer)(x)
    assert actual.dtype == x.dtype and actual.shape == expected.shape
    eps = float(jnp.finfo(x.dtype).eps)
    working_eps = min(eps, float(jnp.finfo(jnp.float32).eps))
    # One rounding to the dtype of the output comes on top of those of the transforms.
    tolerance = bound * (eps + working_eps * rounding_steps(x.shape[1:], x.shape[0]))
    np.testing.assert_allclose(np.asarray(actual, float), expected, rtol=0, atol=tolerance)


CASES = [
    # Sizes odd and even, one mode, several, and all that fit: N // 2 + 1 with the Nyquist mode.
    ((1,), (1,)),
    ((2,), (2,)),
    ((3,), (2,)),
    ((8,), (1,)),
    ((8,), (3,)),
    ((8,), (5,)),
    ((9,), (5,)),
    ((13,), (4,)),
    ((4, 6), (1, 1)),
    ((6, 8), (2, 3)),
    ((6, 8), (3, 5)),
    ((7, 5), (3, 3)),
    ((2, 3), (1, 2)),
    ((4, 6, 8), (2, 3, 5)),
    ((5, 4, 7), (1, 2, 3)),
    ((6, 5, 4), (3, 1, 2)),
    ((4, 3, 2, 6), (2, 1, 1, 4)),
]


@pytest.mark.parametrize("channels", [(2, 3), (3, 1)], ids=str)
@pytest.mark.parametrize("spatial, num_modes", CASES, ids=str)
def test_sum_over_modes(spatial, num_modes, channels, dtype):
    layer = SpectralConv(len(spatial), *channels, num_modes, key=KEY)
    assert layer.weights_real.shape == (2 ** (len(spatial) - 1), *channels[::-1], *num_modes)
    check(layer, normal((channels[0], *spatial), dtype))


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_half_precision(name):
    check(SpectralConv(2, 2, 3, (2, 3), key=KEY, dtype=name), normal((2, 5, 6), name))


def test_one_number_of_modes_for_every_axis():
    layer = SpectralConv(2, 1, 1, np.int64(2), key=KEY)
    assert layer.num_modes == (2, 2)
    check(layer, normal((1, 4, 4)))


@settings(max_examples=20)
@given(data=st.data())
def test_random_layers(data):
    draw = data.draw
    spatial = draw(st.lists(st.integers(2, 6), min_size=1, max_size=3), "spatial")
    num_modes = [draw(st.integers(1, n // 2), "num_modes") for n in spatial[:-1]]
    num_modes.append(draw(st.integers(1, spatial[-1] // 2 + 1), "num_modes"))
    channels = draw(st.integers(1, 3), "in_channels"), draw(st.integers(1, 3), "out_channels")
    seed = draw(st.integers(0, 2**31 - 1), "seed")
    layer = SpectralConv(len(spatial), *channels, num_modes, key=jr.fold_in(KEY, seed))
    check(layer, normal((channels[0], *spatial), jnp.float32, seed))


def set_multipliers(layer, multiplier):
    """The layer with `multiplier(*wavenumbers)`, a complex matrix, as its weights."""
    weights = np.zeros(layer.weights_real.shape, complex)
    for wavenumbers, (group, *index) in oracles.kept_modes(layer.num_modes):
        weights[(group, slice(None), slice(None), *index)] = multiplier(*wavenumbers)
    real, imag = jnp.asarray(weights.real), jnp.asarray(weights.imag)
    return eqx.tree_at(lambda f: (f.weights_real, f.weights_imag), layer, (real, imag))


@pytest.mark.parametrize("spatial", [(16,), (15,), (12, 11), (7, 8, 10)], ids=str)
def test_derivatives_of_trigonometric_polynomials_are_exact(spatial, x64):
    """Every first and mixed second derivative, from one channel to all of them at once."""
    dims = len(spatial)
    num_modes = [3] * dims
    pairs = [(a, b) for a in range(dims) for b in range(a, dims)]
    waves = np.random.default_rng(2).integers(-2, 3, (6, dims))
    phases = np.random.default_rng(3).uniform(0, 2 * np.pi, 6)
    points = np.meshgrid(*(2 * np.pi * np.arange(n) / n for n in spatial), indexing="ij")

    field, exact = 0.0, [0.0] * (dims + len(pairs))
    for wave, phase in zip(waves, phases, strict=True):
        angle = sum(k * p for k, p in zip(wave, points, strict=True)) + phase
        field = field + np.cos(angle)
        for a in range(dims):
            exact[a] = exact[a] - wave[a] * np.sin(angle)
        for i, (a, b) in enumerate(pairs):
            exact[dims + i] = exact[dims + i] - wave[a] * wave[b] * np.cos(angle)

    def multiplier(*k):
        first = [1j * k[a] for a in range(dims)]
        return np.array(first + [-k[a] * k[b] for a, b in pairs])[:, None]

    layer = SpectralConv(dims, 1, len(exact), num_modes, key=KEY)
    layer = set_multipliers(layer, multiplier)
    actual = eqx.filter_jit(layer)(jnp.asarray(field[None]))
    # Multipliers are at most 9 = 3 * 3 in magnitude, and the field's coefficients sum to 6.
    atol = 9 * 6 * rounding_steps(spatial, 1) * np.finfo(float).eps
    np.testing.assert_allclose(actual, exact, rtol=0, atol=atol)


@pytest.mark.parametrize(
    "spatial, num_modes", [((8,), (3,)), ((9, 8), (2, 3)), ((6, 5, 7), (2, 2, 3))], ids=str
)
def test_identity_is_the_projection_onto_the_kept_modes(spatial, num_modes, x64):
    """One exception: a wavenumber `-m` with 0 on the last axis has no kept partner, counts half."""
    dims = len(spatial)
    layer = SpectralConv(dims, 2, 2, num_modes, key=KEY)
    layer = set_multipliers(layer, lambda *k: np.eye(2))
    x = normal((2, *spatial))
    spectrum = np.fft.fftn(np.asarray(x), axes=range(1, dims + 1))
    for wavenumbers in np.ndindex(*spatial):
        signed = [k if 2 * k <= n else k - n for k, n in zip(wavenumbers, spatial, strict=True)]
        if signed[-1] < 0:
            signed = [-k for k in signed]
        limits = zip(signed[:-1], num_modes[:-1], strict=True)
        kept = signed[-1] < num_modes[-1] and all(-m <= k < m for k, m in limits)
        factor = 1.0 if kept else 0.0
        if signed[-1] == 0:
            mirrored = zip(signed[:-1], num_modes[:-1], strict=True)
            partner = all(-m <= -k < m for k, m in mirrored)
            factor = (kept + partner) / 2
        spectrum[(slice(None), *wavenumbers)] *= factor
    expected = np.fft.ifftn(spectrum, axes=range(1, dims + 1)).real
    atol = rounding_steps(spatial, 2) * np.finfo(float).eps * float(jnp.max(jnp.abs(x))) * 8
    np.testing.assert_allclose(eqx.filter_jit(layer)(x), expected, rtol=0, atol=atol)


@pytest.mark.parametrize(
    "spatial, num_modes", [((8,), (5,)), ((9,), (5,)), ((6, 8), (3, 5)), ((4, 5, 6), (2, 2, 4))]
)
def test_every_weight_that_matters_has_a_gradient(spatial, num_modes, x64):
    """Only imaginary parts where the coefficient and the wave are both real do not matter: all
    wavenumbers 0 or half their axis. (`-m` with `2m = N` is such a half.)
    """
    layer = SpectralConv(len(spatial), 2, 3, num_modes, key=KEY)
    x = normal((2, *spatial))
    gradient = jax.jit(jax.grad(lambda f: jnp.sum(jnp.sin(f(x)))))(layer)
    # Far above the rounding of a sum, far below what a weight that matters has.
    threshold = 1e-10 * float(jnp.max(jnp.abs(gradient.weights_real)))
    for wavenumbers, (group, *index) in oracles.kept_modes(num_modes):
        place = (group, slice(None), slice(None), *index)
        real = all((2 * k) % n == 0 for k, n in zip(wavenumbers, spatial, strict=True))
        assert np.all(np.abs(gradient.weights_real[place]) > threshold)
        assert np.all((np.abs(gradient.weights_imag[place]) > threshold) != real)


def test_impossible_imaginary_parts_never_reach_the_inverse_transform(monkeypatch):
    """Backends differ in what they make of them: they are exactly zero in the program."""
    for size, places in [(8, [0, 4]), (7, [0])]:
        y = jax.lax.complex(normal((1, size // 2 + 1)), normal((1, size // 2 + 1), seed=2))
        seen = []
        monkeypatch.setattr(jnp.fft, "irfft", lambda z, seen=seen, **_: seen.append(z) or z.real)
        _fourier.synthesise_half(y, 1, size)
        (spectrum,) = seen
        np.testing.assert_array_equal(spectrum.real, y.real)
        cleared = np.asarray(y.imag).copy()
        cleared[:, places] = 0
        np.testing.assert_array_equal(spectrum.imag, cleared)


def test_rolls_of_the_field_roll_the_output():
    layer, x = SpectralConv(2, 2, 3, (2, 3), key=KEY), normal((2, 6, 7))
    actual = layer(jnp.roll(x, (2, -3), (1, 2)))
    _, bound = oracles.spectral_convolution(x, layer.weights_real, layer.weights_imag)
    atol = 2 * bound * rounding_steps((6, 7), 2) * float(jnp.finfo(x.dtype).eps)
    np.testing.assert_allclose(actual, jnp.roll(layer(x), (2, -3), (1, 2)), rtol=0, atol=atol)


def test_initial_weights():
    layer = SpectralConv(2, 3, 4, (5, 6), key=jr.key(7))
    real_key, imag_key = jr.split(jr.key(7))
    shape = (2, 4, 3, 5, 6)
    np.testing.assert_array_equal(layer.weights_real, jr.normal(real_key, shape) * (1 / 12))
    np.testing.assert_array_equal(layer.weights_imag, jr.normal(imag_key, shape) * (1 / 12))
    scaled = SpectralConv(2, 3, 4, (5, 6), key=jr.key(7), weight_scale=0.5)
    np.testing.assert_array_equal(scaled.weights_real, jr.normal(real_key, shape) * 0.5)


def test_receptive_field():
    """Infinite: every output depends on every input."""
    layer = SpectralConv(2, 1, 1, (2, 3), key=KEY)
    assert layer.receptive_field == ((math.inf, math.inf),) * 2
    jacobian = jax.jit(lambda x: jax.jacobian(layer)(x))(jnp.ones((1, 4, 5)))
    assert np.all(np.asarray(jacobian) != 0)
