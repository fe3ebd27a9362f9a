"""Times training steps of two blocks of layers on the forced host devices that it is started with.

All devices share one core of this machine, so nothing gets faster. If sharding cost nothing, a
field of the same size would take as long on `n` devices as on one, and a field with `n` times as
many points would take `n` times as long. The difference from that is what is measured.
"""

import json
import os
import statistics
import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

from pdequinox_physconv import PhysicsConv
from pdequinox_pointwise import PointwiseLinearConv
from pdequinox_spectralconv import SpectralConv


CHANNELS, MODES = 8, 8
POINTS = {"strong": lambda devices: (64, 48, 48), "weak": lambda devices: (16 * devices, 48, 48)}
TURNS = 9


class Convolutions(eqx.Module):
    """Applies two convolutions, as on a level of a U-Net."""

    layers: list[PhysicsConv]

    def __init__(self, key: Any):
        arguments = dict(kernel_size=3, boundary_mode="periodic")
        self.layers = [
            PhysicsConv(3, CHANNELS, CHANNELS, **arguments, key=one) for one in jr.split(key)
        ]

    def __call__(self, x: Any) -> Any:
        for layer in self.layers:
            x = jax.nn.gelu(layer(x))
        return x


class FourierBlock(eqx.Module):
    """Applies a block of a Fourier neural operator."""

    spectral: SpectralConv
    pointwise: PointwiseLinearConv

    def __init__(self, key: Any):
        first, second = jr.split(key)
        self.spectral = SpectralConv(3, CHANNELS, CHANNELS, MODES, key=first)
        self.pointwise = PointwiseLinearConv(3, CHANNELS, CHANNELS, key=second)

    def __call__(self, x: Any) -> Any:
        return jax.nn.gelu(self.spectral(x) + self.pointwise(x))


BLOCKS = {"two convolutions": Convolutions, "Fourier block": FourierBlock}


def seconds(block: Any, points: tuple[int, ...]) -> list[float]:
    """Times training steps with the first axis of space shared by all devices."""
    devices = len(jax.devices())
    mesh = jax.make_mesh((devices,), ("x",), axis_types=(AxisType.Auto,))
    everywhere, split = (NamedSharding(mesh, spec) for spec in (P(), P(None, None, "x")))
    weights, static = eqx.partition(block(jr.key(0)), eqx.is_inexact_array)
    weights = jax.device_put(weights, everywhere)
    x = jax.device_put(jr.normal(jr.key(1), (1, CHANNELS, *points)), split)

    def loss(arguments: Any) -> Any:
        weights, x = arguments
        return jnp.mean(jax.vmap(eqx.combine(weights, static))(x) ** 2)

    gradients = (jax.tree.map(lambda _: everywhere, weights), split)
    step = jax.jit(jax.value_and_grad(loss), out_shardings=(everywhere, gradients))
    program = step.lower((weights, x)).compile()
    found = []
    for _ in range(TURNS + 1):
        start = time.perf_counter()
        jax.block_until_ready(program((weights, x)))
        found.append(time.perf_counter() - start)
    return found[1:]  # The first step touches new memory.


def main() -> None:
    """Runs the command line."""
    if hasattr(os, "sched_setaffinity"):
        # This comes before JAX starts its threads. Otherwise one device would use all cores for
        # some layers and one core for others, and the curve would show that.
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    devices = len(jax.devices())
    answers = []
    for name, block in BLOCKS.items():
        for kind, points in POINTS.items():
            found = seconds(block, points(devices))
            low, median, high = statistics.quantiles(found, n=4)
            answers.append(
                {
                    "block": name,
                    "kind": kind,
                    "devices": devices,
                    "median": median,
                    "quartiles": [low, high],
                }
            )
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
