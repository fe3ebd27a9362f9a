"""Tests the product of the modes and its gradient, as CPUs and as other platforms compute them,
with and without JAX's transformations.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pdequinox_spectralconv import _convolution
from pdequinox_spectralconv._cpu import choice, forms
from pdequinox_spectralconv._operator import multiplied
from pdequinox_spectralconv._weights import Structure


MODES = {"lines": (4, 9), "few": (2, 3)}


def multiply(z, weights):
    """Multiplies modes by weights that have one dense array for each part."""
    return multiplied(z, tuple((w,) for w in weights), Structure("dense", ()))


def normal(shape, dtype=float, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def close(actual, expected, terms):
    """Allows the rounding of sums of products of numbers of order 1, below 5 in magnitude."""
    assert actual.shape == expected.shape
    eps = float(jnp.finfo(actual.dtype).eps)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=25 * terms * (terms + 1) * eps)


def test_long_lines_of_modes_are_multiplied_as_lines_with_few_samples():
    assert choice.lines(MODES["lines"], 16) and not choice.lines(MODES["few"], 16)
    assert not choice.lines(MODES["lines"], 32)


def test_samples_are_counted_and_members_are_not(monkeypatch):
    rows = []
    monkeypatch.setattr(forms, "lines", lambda modes, count: rows.append(count))
    w, z = normal((9, 2, 4, 5, 4, 9)), normal((3, 8, 9, 2, 2, 5, 4, 9))
    counts = dict(members=1, space=2)
    forms.product_of_lines(w, z, adjoint=False, **counts)
    forms.gradient_of_lines(z, z, **counts)
    assert rows == [48, 48]


@pytest.mark.parametrize("modes", MODES.values(), ids=MODES)
@pytest.mark.parametrize("samples", [(), (5,), (2, 4)], ids=str)
@pytest.mark.parametrize("members", [(), (3,), (1, 2)], ids=str)
@pytest.mark.parametrize("channels", [(1, 7), (10, 8)], ids=str)
def test_products_and_gradients(channels, members, samples, modes, dtype):
    o, i = channels
    w = normal((*members, 2, o, i, *modes), dtype)
    y = normal((*samples, *members, 2, 2, o, *modes), dtype, seed=1)
    z = normal((*samples, *members, 2, 2, i, *modes), dtype, seed=2)
    counts = dict(members=len(members), space=len(modes))
    letters = "uv"[: len(members)]
    weight, out, into = f"{letters}goikl", f"...{letters}pgokl", f"...{letters}pgikl"
    exact = [np.asarray(v, float) for v in (w, y, z)]
    both = [
        (_convolution.product, _convolution.gradient),
        (forms.product_of_lines, forms.gradient_of_lines),
    ]
    for product, gradient in both:
        actual = jax.jit(lambda w, z, f=product: f(w, z, adjoint=False, **counts))(w, z)
        close(actual, np.einsum(f"{weight},{into}->{out}", exact[0], exact[2]), i)
        actual = jax.jit(lambda w, y, f=product: f(w, y, adjoint=True, **counts))(w, y)
        close(actual, np.einsum(f"{weight},{out}->{into}", exact[0], exact[1]), o)
        actual = jax.jit(lambda y, z, f=gradient: f(y, z, **counts))(y, z)
        flat = [v.reshape(-1, *v.shape[len(samples) :]) for v in exact[1:]]
        out_of_one, into_one = (text.replace("...", "s") for text in (out, into))
        expected = np.einsum(f"{out_of_one},{into_one}->{weight}", *flat)
        close(actual, expected, 2 * len(flat[0]))


@pytest.mark.parametrize("modes", MODES.values(), ids=MODES)
def test_batches_of_either_operand_and_of_both(modes, x64):
    """Tests batches in any order, and their derivatives."""
    w = [normal((3, 2, 4, 5, *modes), seed=seed) for seed in (0, 1)]
    z = normal((3, 2, 2, 5, *modes), seed=2)
    c = normal((2, 2, 4, *modes), seed=3)

    def step(real, imag, z):
        return jax.grad(lambda *v: jnp.sum(jnp.sin(multiply(v[2], v[:2])) * c), (0, 1, 2))(
            real, imag, z
        )

    for axes in [(0, 0, 0), (0, 0, None), (None, None, 0), (0, None, 0)]:
        arguments = [v if at == 0 else v[0] for v, at in zip((*w, z), axes, strict=True)]
        batched = jax.jit(jax.vmap(step, axes))(*arguments)
        for k in range(3):
            one = [v[k] if at == 0 else v for v, at in zip(arguments, axes, strict=True)]
            for actual, expected in zip(batched, step(*one), strict=True):
                np.testing.assert_allclose(actual[k], expected, rtol=0, atol=1e-11)
    of_both = lambda w, z: jax.vmap(lambda z: multiply(z, w), 0)(z)
    ensemble = jax.jit(jax.vmap(of_both, (0, None)))(w, z)
    for k in range(3):
        for j in range(3):
            expected = multiply(z[j], [v[k] for v in w])
            np.testing.assert_allclose(ensemble[k, j], expected, rtol=0, atol=1e-12)
    loss = lambda w: jnp.sum(jax.vmap(of_both, (0, None))(w, z) ** 2)
    singly = lambda w: jnp.sum(jnp.stack([of_both([v[k] for v in w], z) for k in range(3)]) ** 2)
    for actual, expected in zip(jax.grad(loss)(w), jax.grad(singly)(w), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-10)
