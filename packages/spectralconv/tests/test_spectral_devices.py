"""Layers on more than one device, and exported to others, in a process of its own."""

import os
import subprocess
import sys
import textwrap

import pytest


PROGRAM = """
import equinox as eqx, jax, jax.numpy as jnp, numpy as np
from jax import export
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from pdequinox_spectralconv import SpectralConv

mesh = Mesh(np.array(jax.devices()), ("devices",))
assert len(jax.devices()) == 2
x = jax.random.normal(jax.random.key(1), (4, 3, 8, 6))

def check(actual, expected):
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        # Sums of at most 4 * 4 * 48 terms of order 1, of fewer than 100 roundings each.
        assert np.max(np.abs(a - b)) <= 3000 * np.finfo(np.float32).eps * np.max(np.abs(b))

between_walls = SpectralConv(
    2, 3, 4, (2, 3), boundary_mode=[("neumann", "dirichlet"), "periodic"],
    method="fft", key=jax.random.key(0),
)
periodic = SpectralConv(2, 3, 4, (2, 3), method="product", key=jax.random.key(0))

for layer in (between_walls, periodic):
    weights, static = eqx.partition(layer, eqx.is_inexact_array)

    def loss(weights, x):
        return jnp.sum(jax.vmap(eqx.combine(weights, static))(x) ** 2)

    expected = jax.grad(loss, (0, 1))(weights, x)

    # A batch over devices.
    own = jax.device_put(x, NamedSharding(mesh, P("devices")))
    check(jax.jit(jax.grad(loss, (0, 1)))(weights, own), expected)

    # The gradient of replicated weights is summed over devices.
    if hasattr(jax, "shard_map"):
        step = jax.shard_map(
            jax.grad(loss, (0, 1)), mesh=mesh, in_specs=(P(), P("devices")),
            out_specs=(P(), P("devices")),
        )
        check(jax.jit(step)(weights, x), expected)

    # Any number of samples.
    (samples,) = export.symbolic_shape("samples")
    spec = jax.ShapeDtypeStruct((samples, 3, 8, 6), jnp.float32)
    exported = export.export(jax.jit(jax.vmap(layer)))(spec)
    check(exported.call(x), jax.vmap(layer)(x))
"""


def test_on_two_devices():
    # JAX 0.4.38 imports absl there without asking for it.
    pytest.importorskip("jax.export")
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=2"
    finished = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(PROGRAM)],
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr
