"""Tests layers on two devices, and exported to other devices."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P

from pdequinox_spectralconv import SpectralConv


LAYERS = {
    "between walls": dict(boundary_mode=[("neumann", "dirichlet"), "periodic"], method="fft"),
    "periodic": dict(method="product"),
}


def assert_close(actual, expected):
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        # Sums of at most 4 * 4 * 48 terms of order 1, of fewer than 100 roundings each.
        a, b = np.asarray(a), np.asarray(b)
        assert np.max(np.abs(a - b)) <= 3000 * np.finfo(np.float32).eps * np.max(np.abs(b))


@pytest.mark.parametrize("name", LAYERS)
def test_on_two_devices(name):
    mesh = Mesh(np.array(jax.devices()[:2]), ("devices",))
    layer = SpectralConv(2, 3, 4, (2, 3), key=jax.random.key(0), **LAYERS[name])
    weights, static = eqx.partition(layer, eqx.is_inexact_array)
    x = np.random.default_rng(0).standard_normal((4, 3, 8, 6)).astype("float32")

    def loss(weights, x):
        return jnp.sum(jax.vmap(eqx.combine(weights, static))(x) ** 2)

    gradient = jax.grad(loss, (0, 1))
    expected = jax.jit(gradient)(weights, x)

    # The batch is split over devices.
    own = jax.device_put(x, NamedSharding(mesh, P("devices")))
    assert_close(jax.jit(gradient)(weights, own), expected)

    # The gradient of weights that all devices have is summed over the devices.
    specs = (P(), P("devices"))
    step = jax.shard_map(gradient, mesh=mesh, in_specs=specs, out_specs=specs)
    assert_close(jax.jit(step)(weights, x), expected)


@pytest.mark.parametrize("name", LAYERS)
def test_export_with_any_number_of_samples(name):
    layer = SpectralConv(2, 3, 4, (2, 3), key=jax.random.key(0), **LAYERS[name])
    x = np.random.default_rng(0).standard_normal((4, 3, 8, 6)).astype("float32")
    (samples,) = export.symbolic_shape("samples")
    spec = jax.ShapeDtypeStruct((samples, 3, 8, 6), x.dtype)
    exported = export.export(jax.jit(jax.vmap(layer)))(spec)
    assert_close(exported.call(x), jax.jit(jax.vmap(layer))(x))
