"""Layers on more than one device, and exported to others, each in a process of its own."""

import os
import subprocess
import sys
import textwrap

import jax
import pytest


def on_two_devices(program):
    """Runs it in a process of its own, with two devices on this machine."""
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )


SETTING = """
import equinox as eqx, jax, jax.numpy as jnp, numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from pdequinox_physconv import PhysicsConv, PhysicsConvTranspose

mesh = Mesh(np.array(jax.devices()), ("devices",))
assert len(jax.devices()) == 2
x = jax.random.normal(jax.random.key(1), (4, 3, 8, 6))

def check(actual, expected):
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        # Sums of at most 4 * 8 * 12 * 6 terms of order 1.
        assert np.max(np.abs(a - b)) <= 3000 * np.finfo(np.float32).eps * np.max(np.abs(b))

for layer_type in (PhysicsConv, PhysicsConvTranspose):
    for stride in (1, 2):
        layer = layer_type(2, 3, 4, 3, stride, boundary_mode="periodic", key=jax.random.key(0))
        weights, static = eqx.partition(layer, eqx.is_inexact_array)

        def loss(weights, x):
            return jnp.sum(jax.vmap(eqx.combine(weights, static))(x) ** 2)

        expected = jax.grad(loss, (0, 1))(weights, x)
"""


@pytest.mark.skipif(not hasattr(jax, "shard_map"), reason="this version has no jax.shard_map")
def test_gradient_of_replicated_weights_is_summed_over_devices():
    finished = on_two_devices(
        SETTING
        + """
        step = jax.shard_map(
            jax.grad(loss, (0, 1)), mesh=mesh, in_specs=(P(), P("devices")),
            out_specs=(P(), P("devices")),
        )
        check(jax.jit(step)(weights, x), expected)
"""
    )
    assert finished.returncode == 0, finished.stderr


def test_batch_over_devices():
    finished = on_two_devices(
        SETTING
        + """
        own = jax.device_put(x, NamedSharding(mesh, P("devices")))
        check(jax.jit(jax.grad(loss, (0, 1)))(weights, own), expected)
"""
    )
    assert finished.returncode == 0, finished.stderr


def test_export_with_any_number_of_samples():
    # JAX 0.4.38 imports absl there without asking for it.
    pytest.importorskip("jax.export")
    finished = on_two_devices(
        """
        import jax, jax.numpy as jnp
        from jax import export
        from pdequinox_physconv import PhysicsConv

        layer = PhysicsConv(2, 3, 4, 3, key=jax.random.key(0), boundary_mode="periodic")
        (samples,) = export.symbolic_shape("samples")
        spec = jax.ShapeDtypeStruct((samples, 3, 8, 8), jnp.float32)
        exported = export.export(jax.jit(jax.vmap(layer)))(spec)
        x = jnp.ones((5, 3, 8, 8))
        error = jnp.max(jnp.abs(exported.call(x) - jax.vmap(layer)(x)))
        # Sums of 27 products and a bias, each below 1.
        assert error <= 28 * jnp.finfo(x.dtype).eps
        """
    )
    assert finished.returncode == 0, finished.stderr
