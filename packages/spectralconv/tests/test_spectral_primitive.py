"""Tests the transform of real lines, a primitive, against NumPy under JAX's transformations."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pdequinox_spectralconv._fourier import fourier, fourier_transposed


SIZES = [(1, 1), (2, 2), (7, 4), (8, 5), (8, 2), (9, 3)]


def random(shape, dtype, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def functions(size, count):
    """Gives real and imaginary parts of `exp(-2 pi i j k / N)`, of shape `(N, 2, count)`."""
    angle = 2 * np.pi / size * np.arange(size)[:, None] * np.arange(count)
    return np.stack([np.cos(angle), -np.sin(angle)], axis=1)


def forth(x, count):
    return np.tensordot(np.asarray(x, float), functions(x.shape[-1], count), 1)


def back(both, size):
    f = functions(size, both.shape[-1])
    return np.tensordot(np.asarray(both, float), f, ((-2, -1), (1, 2)))


def close(actual, expected, given, size):
    """Allows the rounding of sums of at most `2 N` terms of the size of what is `given`, with
    `4 eps` for each stage of a transform.
    """
    assert actual.shape == expected.shape and actual.dtype == given.dtype
    steps = 4 * np.log2(2 * size) + 4
    bound = 2 * size * float(np.max(np.abs(given)))
    atol = steps * bound * float(jnp.finfo(given.dtype).eps)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("size, count", SIZES)
def test_truncated_transforms(size, count, dtype):
    x, both = random((3, size), dtype), random((3, 2, count), dtype)
    transposed = lambda v: fourier_transposed(v, size)
    there, and_back = jax.jit(lambda x, both: (fourier(x, count), transposed(both)))(x, both)
    close(there, forth(x, count), x, size)
    close(and_back, back(both, size), both, size)
    close(transposed(both), back(both, size), both, size)
    with jax.disable_jit():
        close(fourier(x, count), forth(x, count), x, size)


@pytest.mark.parametrize("size, count", [(1, 1), (8, 5), (7, 3)])
def test_derivatives(size, count, x64):
    """The two are transposes of each other, and linear, so each is its own derivative."""
    x, both = random((size,), "float64"), random((2, count), "float64", seed=1)
    f = lambda x: fourier(x, count)
    g = lambda both: fourier_transposed(both, size)
    pull = lambda function, like: lambda ct: jax.vjp(function, jnp.zeros_like(like))[1](ct)[0]
    by_x, by_both = pull(f, x), pull(g, both)

    @jax.jit
    def derivatives(x, both):
        gradients = by_x(both), by_both(x), pull(by_x, both)(x)
        tangents = jax.jvp(f, (0 * x,), (x,))[1], jax.jvp(g, (0 * both,), (both,))[1]
        return *gradients, *tangents, jax.hessian(lambda x: jnp.sum(f(x) ** 2) / 2)(x)

    *found, hessian = derivatives(x, both)
    there, and_back = (forth(x, count), x, size), (back(both, size), both, size)
    expected = and_back, there, there, there, and_back
    for actual, wanted in zip(found, expected, strict=True):
        close(actual, *wanted)
    basis = functions(size, count)
    gram = np.tensordot(basis, basis, ((1, 2), (1, 2)))
    # These are transforms of transformed unit vectors.
    close(hessian, gram, np.ones(1) * size, size)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_vmap_in_every_position(axis):
    x, both = random((3, 2, 8), "float32"), random((3, 2, 5), "float32")
    run = jax.vmap(lambda v: fourier(v, 5), in_axes=axis, out_axes=axis)
    actual = jax.jit(run)(jnp.moveaxis(x, 0, axis))
    close(jnp.moveaxis(actual, axis, 0), forth(x, 5), x, 8)
    out = min(axis, 1)
    run = jax.vmap(lambda v: fourier_transposed(v, 8), in_axes=axis, out_axes=out)
    actual = jax.jit(run)(jnp.moveaxis(both, 0, axis))
    close(jnp.moveaxis(actual, out, 0), back(both, 8), both, 8)


def test_nested_vmap_and_empty_batches():
    x = random((2, 3, 7), "float32")
    run = jax.jit(jax.vmap(jax.vmap(lambda v: fourier(v, 4)), in_axes=1, out_axes=3))
    close(jnp.moveaxis(run(x), 3, 1), forth(x, 4), x, 7)
    assert run(jnp.zeros((0, 3, 7))).shape == (0, 2, 4, 3)


def test_a_transform_and_its_derivative_are_one_fast_transform_each():
    # JAX's own rule uses a complex transform of the whole line for the derivative.
    x = random((4, 64), "float32")
    step = jax.grad(lambda x: jnp.sum(fourier(x, 5) ** 2))
    program = jax.jit(step).lower(x).as_text()
    assert re.findall(r"stablehlo\.fft .*?(I?R?FFT),", program) == ["RFFT", "IRFFT"]


def test_without_numbers():
    out = jax.eval_shape(lambda x: fourier(x, 3), jax.ShapeDtypeStruct((2, 8), jnp.float32))
    assert out.shape == (2, 2, 3) and out.dtype == jnp.float32
