"""Checks what users do with every layer.

A `Subject` makes layers. Each check takes a subject and the dtype in which JAX works.
"""

import dataclasses
import io
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.test_util import check_grads


@dataclasses.dataclass(frozen=True)
class Subject:
    """Makes layers: `make(key, **arguments)` gives one of `in_channels` on `spatial` points.

    An output is the result of `terms` operations, one after the other, and at most `gain(layer)`
    times as large as the largest input or 1. `square` makes a layer whose output can be its input.
    """

    make: Callable
    square: Callable
    in_channels: int
    spatial: tuple[int, ...]
    terms: int
    gain: Callable

    def field(self, seed, dtype, *batch):
        shape = (*batch, self.in_channels, *self.spatial)
        return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def tolerance(subject, layer, x):
    """Computes the tolerance: orders of the same operations differ by `2 * terms` roundings."""
    size = jnp.maximum(1, jnp.max(jnp.abs(x.astype(jnp.float32))))
    eps = jnp.finfo(x.dtype).eps.astype(jnp.float32)
    return 2 * subject.terms * float(eps * subject.gain(layer) * size)


def assert_equal_to_rounding(subject, layer, x, actual, expected):
    assert actual.shape == expected.shape and actual.dtype == expected.dtype == x.dtype
    np.testing.assert_allclose(
        np.asarray(actual, np.float64),
        np.asarray(expected, np.float64),
        rtol=0,
        atol=tolerance(subject, layer, x),
    )


call = jax.jit(lambda layer, x: layer(x))


def leaves_are_arrays(subject, dtype):
    layer = subject.make(jr.key(0))
    leaves = jax.tree.leaves(layer)
    assert leaves and all(isinstance(leaf, jax.Array) for leaf in leaves)
    assert all(leaf.dtype == dtype for leaf in leaves)
    doubled = jax.tree.map(lambda leaf: 2 * leaf, layer)
    assert isinstance(doubled, type(layer))


def jit(subject, dtype):
    layer, x = subject.make(jr.key(0)), subject.field(1, dtype)
    expected = layer(x)
    for compiled in (call, eqx.filter_jit(lambda f, a: f(a))):
        assert_equal_to_rounding(subject, layer, x, compiled(layer, x), expected)


def vmap_over_samples(subject, dtype):
    layer, x = subject.make(jr.key(0)), subject.field(1, dtype, 3)
    expected = jnp.stack([call(layer, sample) for sample in x])
    actual = jax.jit(lambda f, a: jax.vmap(f)(a))(layer, x)
    assert_equal_to_rounding(subject, layer, x, actual, expected)
    last = jax.jit(lambda f, a: jax.vmap(f, in_axes=-1, out_axes=1)(a))(
        layer, jnp.moveaxis(x, 0, -1)
    )
    assert_equal_to_rounding(subject, layer, x, jnp.moveaxis(last, 1, 0), expected)


def ensembles(subject, dtype):
    # A batch of keys gives the numbers of every single key with this generator only.
    keys, x = jr.split(jr.key(0, impl="threefry2x32"), 3), subject.field(1, dtype)
    stacked = eqx.filter_vmap(subject.make)(keys)
    apply = eqx.filter_vmap(lambda layer, a: layer(a), in_axes=(eqx.if_array(0), None))
    actual = eqx.filter_jit(apply)(stacked, x)
    members = [subject.make(key) for key in keys]
    expected = jnp.stack([call(layer, x) for layer in members])
    assert_equal_to_rounding(subject, members[0], x, actual, expected)


def derivatives(subject, dtype):
    """Checks `jax.grad` by the layer itself, and derivatives against finite differences."""
    layer, x = subject.make(jr.key(0)), subject.field(1, dtype)
    loss = jax.jit(lambda f, a: jnp.mean(f(a) ** 2))
    by_layer, by_input = jax.jit(jax.grad(loss, argnums=(0, 1)))(layer, x)
    assert jax.tree.structure(by_layer) == jax.tree.structure(layer)
    assert all(jnp.any(leaf != 0) for leaf in jax.tree.leaves((by_layer, by_input)))
    if dtype == jnp.float64:
        check_grads(loss, (layer, x), order=2, modes=["fwd", "rev"], rtol=1e-5, atol=1e-6)


def checkpoint(subject, dtype):
    layer, x = subject.make(jr.key(0)), subject.field(1, dtype)
    loss = lambda f, a: jnp.mean(jnp.tanh(f(a)))
    plain = jax.jit(jax.grad(loss))(layer, x)
    rematerialised = jax.jit(jax.grad(jax.checkpoint(loss)))(layer, x)
    for a, b in zip(jax.tree.leaves(rematerialised), jax.tree.leaves(plain), strict=True):
        # Another program has the same operations, and is off by some roundings of a sum.
        atol = 2 * subject.terms * float(jnp.finfo(dtype).eps * jnp.max(jnp.abs(b)))
        np.testing.assert_allclose(a, b, rtol=0, atol=atol)


def scan_over_stacked_layers(subject, dtype):
    x = subject.field(1, dtype)
    layers = [subject.square(key) for key in jr.split(jr.key(0), 3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *layers)
    actual, _ = jax.lax.scan(lambda a, layer: (jnp.tanh(layer(a)), None), x, stacked)
    expected = x
    for layer in layers:
        expected = jnp.tanh(call(layer, expected))
    assert_equal_to_rounding(subject, layers[0], x, actual, expected)


def sequential(subject, dtype):
    first, second = subject.square(jr.key(0)), subject.make(jr.key(1))
    x = subject.field(1, dtype)
    network = eqx.nn.Sequential([first, eqx.nn.Lambda(jnp.tanh), second])
    expected = call(second, jnp.tanh(call(first, x)))
    actual = eqx.filter_jit(network)(x, key=jr.key(2))
    assert_equal_to_rounding(subject, second, x, actual, expected)


def serialisation(subject, dtype):
    layer, x, file = subject.make(jr.key(0)), subject.field(1, dtype), io.BytesIO()
    eqx.tree_serialise_leaves(file, layer)
    file.seek(0)
    loaded = eqx.tree_deserialise_leaves(file, subject.make(jr.key(1)))
    np.testing.assert_array_equal(call(loaded, x), call(layer, x))


def dtypes(subject, dtype):
    """Checks that the output has the dtype of parameters and input. The tests of each layer compare
    the values in half precision with an oracle.
    """
    for name in ("float16", "bfloat16", dtype.name):
        layer = subject.make(jr.key(0), dtype=name)
        actual = call(layer, subject.field(1, name))
        assert actual.dtype == name
        assert all(leaf.dtype == name for leaf in jax.tree.leaves(layer))
        assert jnp.all(jnp.isfinite(actual))


CHECKS = [
    leaves_are_arrays,
    jit,
    vmap_over_samples,
    ensembles,
    derivatives,
    checkpoint,
    scan_over_stacked_layers,
    sequential,
    serialisation,
    dtypes,
]
