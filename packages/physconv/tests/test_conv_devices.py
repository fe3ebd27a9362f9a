"""Tests layers on two devices, and exported to other devices."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P

from pdequinox_physconv import PhysicsConv, PhysicsConvTranspose


def assert_close(actual, expected):
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        # Sums of at most 4 * 8 * 12 * 6 terms of order 1.
        a, b = np.asarray(a), np.asarray(b)
        assert np.max(np.abs(a - b)) <= 3000 * np.finfo(np.float32).eps * np.max(np.abs(b))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("layer_type", [PhysicsConv, PhysicsConvTranspose])
def test_training_on_two_devices(layer_type, stride):
    mesh = Mesh(np.array(jax.devices()[:2]), ("devices",))
    layer = layer_type(2, 3, 4, 3, stride, boundary_mode="periodic", key=jax.random.key(0))
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


def test_export_with_any_number_of_samples():
    layer = PhysicsConv(2, 3, 4, 3, key=jax.random.key(0), boundary_mode="periodic")
    (samples,) = export.symbolic_shape("samples")
    spec = jax.ShapeDtypeStruct((samples, 3, 8, 8), jnp.float32)
    exported = export.export(jax.jit(jax.vmap(layer)))(spec)
    x = jnp.ones((5, 3, 8, 8))
    error = jnp.max(jnp.abs(exported.call(x) - jax.vmap(layer)(x)))
    # Sums of 27 products and a bias, each below 1.
    assert error <= 28 * jnp.finfo(x.dtype).eps
