"""Trains a network of the examples on a field that is on one device, or on all devices of several
processes, and is a program that `processes.run` can start.
"""

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P, Sharding


# It is loaded by its path, so that the tests do not find the other modules of that folder.
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "networks.py"
_spec = importlib.util.spec_from_file_location("networks", EXAMPLE)
networks = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(networks)


BATCH, IN_CHANNELS, OUT_CHANNELS, SPATIAL = 2, 3, 2, (32, 16)
MODE = ["periodic", ("dirichlet_cell", "neumann_cell")]
NUM_STEPS, LEARNING_RATE, MOMENTUM = 5, 0.2, 0.9

# The mesh, and the mesh axis that splits each axis of a batch of fields.
LAYOUTS = {
    "one_axis": ({"x": 4}, P(None, None, "x")),
    "two_axes": ({"x": 2, "y": 2}, P(None, None, "x", "y")),
}


class Outcome(NamedTuple):
    """Holds the loss before each step, and the final weights, in the order of their leaves."""

    losses: np.ndarray
    weights: list[np.ndarray]


def make_network(name: str) -> eqx.Module:
    key = jr.key(0)
    common = dict(width=4, boundary_mode=MODE, key=key)
    if name == "unet":
        return networks.UNet(2, IN_CHANNELS, OUT_CHANNELS, num_levels=1, **common)
    return networks.FNO(2, IN_CHANNELS, OUT_CHANNELS, num_modes=(6, 4), num_blocks=2, **common)


def field(num_channels: int, seed: int) -> tuple[tuple[int, ...], Callable]:
    """Gives the shape of a batch of sums of waves, and a function that evaluates a block of it."""
    generator = np.random.default_rng(seed)
    frequencies = generator.uniform(0, 1, (8, 2))
    phases = generator.uniform(0, 2 * np.pi, (BATCH, num_channels, 8))
    shape = (BATCH, num_channels, *SPATIAL)

    def block(index: tuple[slice, ...]) -> np.ndarray:
        x, y = (np.arange(n)[at] for n, at in zip(SPATIAL, index[2:], strict=True))
        angles = frequencies[:, 0, None, None] * x[:, None] + frequencies[:, 1, None, None] * y
        return np.sin(angles + phases[index[:2]][..., None, None]).mean(axis=2)

    return shape, block


def loss(network: eqx.Module, x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.mean((jax.vmap(network)(x) - y) ** 2)


@eqx.filter_jit
def step(network: Any, velocity: Any, x: jax.Array, y: jax.Array) -> tuple[Any, Any, jax.Array]:
    """Descends along the gradient with momentum, by hand, so that these tests do not need optax."""
    value, gradient = eqx.filter_value_and_grad(loss)(network, x, y)
    velocity = jax.tree.map(lambda v, g: MOMENTUM * v - LEARNING_RATE * g, velocity, gradient)
    return eqx.apply_updates(network, velocity), velocity, value


def train(network: eqx.Module, of_fields: Sharding, of_weights: Sharding) -> Outcome:
    """Trains a network. Every process evaluates only its own shards of the fields."""
    x, y = (
        jax.make_array_from_callback(shape, of_fields, block)
        for shape, block in (field(IN_CHANNELS, 1), field(OUT_CHANNELS, 2))
    )
    network = eqx.filter_shard(network, of_weights)
    velocity = jax.tree.map(jnp.zeros_like, network)
    losses = []
    for _ in range(NUM_STEPS):
        network, velocity, value = step(network, velocity, x, y)
        losses.append(float(value))
    leaves = jax.jit(lambda a: a, out_shardings=of_weights)(jax.tree.leaves(network))
    # All copies that this process has: shape (devices, *shape of the weight).
    copies = [np.stack([shard.data for shard in leaf.addressable_shards]) for leaf in leaves]
    return Outcome(np.array(losses), copies)


def train_sharded(network: eqx.Module, layout: str, axis_type: str) -> Outcome:
    sizes, spec = LAYOUTS[layout]
    # JAX 0.4.38 has automatic axes only, and no name for them.
    kinds = {}
    if hasattr(jax.sharding, "AxisType"):
        kinds["axis_types"] = (getattr(jax.sharding.AxisType, axis_type),) * len(sizes)
    mesh: Mesh = jax.make_mesh(tuple(sizes.values()), tuple(sizes), **kinds)
    return train(network, NamedSharding(mesh, spec), NamedSharding(mesh, P()))


def main() -> None:
    coordinator, num_processes, process_id, name, axis_type, folder = sys.argv[1:]
    # The default since JAX 0.5; 0.4.38 reads no environment variable for it.
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(coordinator, int(num_processes), int(process_id))
    network = make_network(name)
    for layout in LAYOUTS:
        outcome = train_sharded(network, layout, axis_type)
        weights = {f"weight_{i:03}": weight for i, weight in enumerate(outcome.weights)}
        np.savez(Path(folder) / f"{layout}_{process_id}.npz", losses=outcome.losses, **weights)


if __name__ == "__main__":
    main()
