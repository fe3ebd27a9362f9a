"""Trains a Fourier neural operator and a U-Net on fields that are spread over many devices, in one
process or several, and continues from its last checkpoint when it is started again.

`python examples/sharded.py --checkpoints FOLDER` runs on all devices of one process. To run as
process I of N, add `--processes N --process I --coordinator HOST:PORT`. On a cluster that JAX knows
(Slurm, Open MPI, Kubernetes, TPU pods), start it once for every process, with `--cluster` added.
`hatch run experiments:sharded` starts this program in several ways and compares the results.
"""

import argparse
import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import orbax.checkpoint as ocp
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P
from jaxtyping import Array, Float, PRNGKeyArray
from networks import FNO, UNet


NETWORKS = ("FNO", "U-Net")


@dataclass(frozen=True)
class Settings:
    num_points: int = 64  # along each of two axes
    viscosity: float = 0.5
    dt: float = 0.2  # from a field to the field that the networks predict
    num_waves: int = 12
    largest_wavenumber: int = 3
    batch_size: int = 8
    num_steps: int = 150
    steps_between_checkpoints: int = 20
    learning_rate: float = 3e-3
    width: int = 16
    num_modes: int = 12
    num_blocks: int = 3
    num_levels: int = 2


SHORT = Settings(
    num_points=32,
    batch_size=4,
    num_steps=20,
    steps_between_checkpoints=4,
    width=6,
    num_modes=6,
    num_blocks=1,
    num_levels=1,
)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--short", action="store_true", help="a run of seconds, to test the code")
    parser.add_argument("--seed", type=int, default=0, help="of data and weights")
    parser.add_argument("--checkpoints", type=Path, help="a folder that all processes can reach")
    parser.add_argument(
        "--batch-devices",
        type=int,
        default=1,
        help="into how many parts a batch is cut; the rest of the devices cut the fields",
    )
    parser.add_argument("--cluster", action="store_true", help="JAX asks the cluster for the next")
    parser.add_argument("--processes", type=int, default=1, help="how many there are")
    parser.add_argument("--process", type=int, default=0, help="which of them this one is")
    parser.add_argument("--coordinator", help="HOST:PORT, free on the host of process 0")
    return parser.parse_args()


def connect(options: argparse.Namespace) -> None:
    """Makes the devices of all processes known to each, before anything else asks for a device."""
    if options.cluster:
        jax.distributed.initialize()
    elif options.processes > 1:
        jax.distributed.initialize(options.coordinator, options.processes, options.process)


def make_mesh(batch_devices: int) -> Mesh:
    shape = (batch_devices, jax.device_count() // batch_devices)
    return jax.make_mesh(shape, ("batch", "space"))


def burgers(
    settings: Settings, seed: tuple[int, ...], time: float, index: tuple[slice, ...]
) -> np.ndarray:
    """Evaluates a block, of shape `(samples, 2, x, y)`, of a batch of solutions of
    `u_t + (u . grad) u = nu laplace(u)` on a periodic square.

    By E. Hopf (Comm. Pure Appl. Math. 3, 1950) and J. D. Cole (Quart. Appl. Math. 9, 1951), `u = -2
    nu grad(phi) / phi` solves it if `phi` solves the heat equation. Here `phi` is 1 plus waves `a
    exp(-nu |k|^2 t) cos(k . x + p)`, whose amplitudes `|a|` have the sum 0.9, so `phi > 0`. So the
    solution at a point depends on no other point, and each process evaluates only its own points.
    """
    samples, _, *blocks = index
    grid = np.arange(settings.num_points) * (2 * np.pi / settings.num_points)
    x, y = (grid[block] for block in blocks)
    fields = []
    for sample in range(settings.batch_size)[samples]:
        generator = np.random.default_rng((*seed, sample))
        largest, shape = settings.largest_wavenumber, (2, settings.num_waves)
        k = generator.integers(-largest, largest, shape, endpoint=True)
        a = generator.uniform(0, 1, settings.num_waves)
        p = generator.uniform(0, 2 * np.pi, settings.num_waves)
        decay = np.exp(-settings.viscosity * np.sum(k**2, axis=0) * time)
        waves = 0.9 * a / a.sum() * decay * np.exp(1j * p)
        # phi - 1 and its derivatives along x and y
        weights = np.stack([waves, 1j * k[0] * waves, 1j * k[1] * waves])
        along_x, along_y = np.exp(1j * np.outer(x, k[0])), np.exp(1j * np.outer(k[1], y))
        phi, *gradient = ((weights[:, None, :] * along_x) @ along_y).real
        fields.append(-2 * settings.viscosity * np.stack(gradient) / (1 + phi))
    return np.stack(fields).astype(np.float32)


def batches(
    settings: Settings, seed: int, mesh: Mesh, first_step: int
) -> Iterator[tuple[Float[Array, "B 2 N N"], Float[Array, "B 2 N N"]]]:
    """Gives new fields, and the fields that the networks are to predict, from step `first_step` on.
    Every process makes the blocks of its own devices.
    """
    shape = (settings.batch_size, 2, settings.num_points, settings.num_points)
    sharding = NamedSharding(mesh, P("batch", None, "space"))
    for step in range(first_step, settings.num_steps):
        block = functools.partial(burgers, settings, (seed, step))
        yield tuple(
            jax.make_array_from_callback(shape, sharding, functools.partial(block, time))
            for time in (0.0, settings.dt)
        )


def loss(
    network: eqx.Module, before: Float[Array, "B 2 N N"], after: Float[Array, "B 2 N N"]
) -> Float[Array, ""]:
    """Divides the squared error by that of persistence, which predicts no change."""
    error = before + jax.vmap(network)(before) - after
    return jnp.mean(error**2) / jnp.mean((after - before) ** 2)


def make_network(name: str, settings: Settings, key: PRNGKeyArray) -> eqx.Module:
    shared = dict(width=settings.width, boundary_mode="periodic", key=key)
    if name == "FNO":
        modes, blocks = settings.num_modes, settings.num_blocks
        return FNO(2, 2, 2, num_modes=modes, num_blocks=blocks, **shared)
    return UNet(2, 2, 2, num_levels=settings.num_levels, **shared)


def first_state(
    name: str, settings: Settings, seed: int, mesh: Mesh
) -> tuple[tuple[eqx.Module, optax.OptState], optax.GradientTransformation]:
    """Makes the network and its optimiser's state, copied to every device, and the optimiser."""
    optimiser = common.make_optimiser(settings.num_steps, settings.learning_rate)

    @eqx.filter_jit
    def make():
        # "rbg" compiles in a tenth of the time of the default generator.
        network = make_network(name, settings, jr.key(seed, impl="rbg"))
        state = network, optimiser.init(eqx.filter(network, eqx.is_inexact_array))
        return eqx.filter_shard(state, NamedSharding(mesh, P()))

    return make(), optimiser


class Checkpoints:
    """Stores the state of one training in a folder. Every process writes what no other process has,
    and reads what its devices need. Without a folder, nothing is stored.
    """

    def __init__(self, folder: Path | None, settings: Settings, seed: int):
        self.num_steps, self.seed, self.manager = settings.num_steps, seed, None
        if folder is not None:
            interval = settings.steps_between_checkpoints
            options = ocp.CheckpointManagerOptions(max_to_keep=2, save_interval_steps=interval)
            self.manager = ocp.CheckpointManager(folder.resolve(), options=options)

    def save(self, state: Any, losses: list[float]) -> None:
        """Stores the state after the step of the last loss, if it is time. The files are written
        while the training continues.
        """
        if self.manager is None:
            return
        # The seed and the number of batches so far determine the batches to come.
        progress = {"seed": self.seed, "losses": losses}
        items = ocp.args.Composite(
            arrays=ocp.args.StandardSave(eqx.filter(state, eqx.is_array)),
            progress=ocp.args.JsonSave(progress),
        )
        self.manager.save(len(losses), args=items, force=len(losses) == self.num_steps)

    def restore(self, state: Any) -> tuple[Any, list[float]]:
        """Reads the latest state, with the shapes, dtypes and shardings of `state`, and the losses
        until then. Without a stored state, gives `state` itself.
        """
        step = None if self.manager is None else self.manager.latest_step()
        if step is None:
            return state, []
        arrays, rest = eqx.partition(state, eqx.is_array)
        wanted = jax.tree.map(ocp.utils.to_shape_dtype_struct, arrays)
        items = ocp.args.Composite(
            arrays=ocp.args.StandardRestore(wanted), progress=ocp.args.JsonRestore()
        )
        found = self.manager.restore(step, args=items)
        if found.progress["seed"] != self.seed:
            raise SystemExit(f"The checkpoints have the seed {found.progress['seed']}.")
        return eqx.combine(found.arrays, rest), found.progress["losses"]

    def close(self) -> None:
        """Waits until all files are written."""
        if self.manager is not None:
            self.manager.close()


def train(
    name: str, settings: Settings, seed: int, mesh: Mesh, folder: Path | None
) -> tuple[eqx.Module, list[float]]:
    """Gives the trained network and the loss of every step, including those before a restart."""
    state, optimiser = first_state(name, settings, seed, mesh)
    checkpoints = Checkpoints(None if folder is None else folder / name, settings, seed)
    state, losses = checkpoints.restore(state)
    say(f"{name} starts after step {len(losses)}")
    for batch in batches(settings, seed, mesh, len(losses)):
        network, optimiser_state, value = common.train_step(*state, batch, loss, optimiser)
        state = network, optimiser_state
        losses.append(float(value))
        checkpoints.save(state, losses)
        if len(losses) % max(1, settings.steps_between_checkpoints // 4) == 0:
            say(f"{name} has done step {len(losses)}, loss {losses[-1]:.3g}")
    checkpoints.close()
    return state[0], losses


def say(text: str) -> None:
    if jax.process_index() == 0:
        print(text, flush=True)


def main() -> None:
    options = parse_options()
    connect(options)
    settings = SHORT if options.short else Settings()
    mesh = make_mesh(options.batch_devices)
    say(f"{jax.process_count()} processes, {jax.device_count()} devices, mesh {dict(mesh.shape)}")
    for name in NETWORKS:
        network, losses = train(name, settings, options.seed, mesh, options.checkpoints)
        last = losses[-math.ceil(len(losses) / 10) :]
        say(
            f"{name}: {common.num_parameters(network):,} parameters, mean loss of the last "
            f"{len(last)} steps {np.mean(last):.3g}, where persistence has 1"
        )


if __name__ == "__main__":
    main()
