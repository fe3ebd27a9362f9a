"""Trains the same convolutional network on thermal convection between two plates, with a boundary
mode for each field, with one for all fields and with zeros, and compares the errors at the plates.
Run it by `hatch run experiments:convection`.
"""

from dataclasses import asdict, dataclass

import common
import comparison
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import stored
from boussinesq import Boussinesq
from jaxtyping import Array, Float
from matplotlib import colormaps, pyplot as plt
from matplotlib.figure import Figure
from networks import ResNet

from pdequinox.conv import BoundaryMode, free_slip, per_channel


@dataclass(frozen=True)
class Settings:
    rayleigh: float = 2e4  # about 30 times what sets the fluid in motion
    prandtl: float = 1.0
    num_across: int = 24  # points from plate to plate
    num_along: int = 48
    length: float = 4.0  # of the channel, in distances of the plates
    dt: float = 2e-3  # between snapshots
    num_substeps: int = 8  # of the solver, between snapshots
    num_warmup: int = 5  # snapshots left out, while motion sets in
    num_train: int = 32  # trajectories
    num_test: int = 8
    num_snapshots: int = 40  # per trajectory, after its first
    num_rollout: int = 10  # predictions of the network from its own, without the solver
    num_steps: int = 500
    batch_size: int = 16
    learning_rate: float = 4e-3
    width: int = 16
    dilations: tuple[int, ...] = (1, 2, 4)  # of the blocks of the network
    num_seeds: int = 3
    num_near: int = 2  # rows of cells next to a plate that count as "at" it


SHORT = Settings(num_train=6, num_test=2, num_snapshots=15, num_steps=60, num_seeds=1)

FIELDS = ("velocity across", "velocity along", "temperature", "pressure")
PER_FIELD, ONE, ZEROS = "modes per field", "one mode for all", "zeros"

# Axis 0 is across the channel, axis 1, along it, periodic; the points are the centres of the cells.
# About a free-slip plate the velocity across is odd, the velocity along even, the temperature, as
# its deviation from conduction at rest, odd, and the pressure even: see `Boussinesq`. The last
# input is the coordinate across. Hidden channels are of no such kind.
EVEN: BoundaryMode = ("neumann_cell", "periodic")
MODES: dict[str, tuple[BoundaryMode, BoundaryMode]] = {
    PER_FIELD: (
        per_channel(
            (2, free_slip(2, ("slip_cell", "periodic"))),
            (1, ("dirichlet_cell", "periodic")),
            (2, EVEN),
        ),
        EVEN,
    ),
    ONE: (EVEN, EVEN),
    ZEROS: (("zeros", "periodic"), ("zeros", "periodic")),
}


class Emulator(eqx.Module):
    """Takes one step in time, `x + scale * network(x, z)`: with `scale` the sizes of the fields'
    typical increments, the network's outputs have a size near 1. The coordinate across the channel
    is an input, so that every network can know where the plates are.
    """

    network: ResNet
    scale: tuple[float, ...] = eqx.field(static=True)

    def __call__(self, x: Float[Array, "4 across along"]) -> Float[Array, "4 across along"]:
        scale = jnp.asarray(self.scale, x.dtype)[:, None, None]
        return x + scale * self.network(comparison.with_coordinate(x))


def simulate(settings: Settings, num_samples: int, seed: int) -> Float[np.ndarray, "S T+1 4 z x"]:
    """Trajectories of `FIELDS`, from random temperatures of long waves in a fluid at rest."""
    solver = Boussinesq(
        settings.rayleigh,
        settings.prandtl,
        settings.num_across,
        settings.num_along,
        settings.length,
    )
    generator = np.random.default_rng(seed)
    state = np.zeros((2, num_samples, *solver.squares.shape), complex)
    shape = state[1, :, :3, 1:6].shape
    state[1, :, :3, 1:6] = 0.05 * (generator.normal(size=shape) + 1j * generator.normal(size=shape))
    snapshots = []
    for index in range(settings.num_warmup + settings.num_snapshots + 1):
        if index >= settings.num_warmup:
            snapshots.append(solver.fields(state))
        for _ in range(settings.num_substeps):
            state = solver.step(state, settings.dt / settings.num_substeps)
    return np.stack(snapshots, axis=1)


def loss(
    emulator: Emulator, before: Float[Array, "B 4 z x"], after: Float[Array, "B 4 z x"]
) -> Float[Array, ""]:
    """Computes the mean squared one-step error, each field in units of its squared typical
    increment.
    """
    scale = jnp.asarray(emulator.scale, after.dtype)[:, None, None]
    return jnp.mean(((jax.vmap(emulator)(before) - after) / scale) ** 2)


def field_maps(
    prediction: Float[np.ndarray, "S 4 z x"], truth: Float[np.ndarray, "S 4 z x"]
) -> Float[np.ndarray, "4 z x"]:
    """Gives the error map of each field, over the truth of that field."""
    return np.stack(
        [
            comparison.error_map(prediction[:, i : i + 1], truth[:, i : i + 1])
            for i in range(len(FIELDS))
        ]
    )


def error_parts(
    errors: Float[np.ndarray, "runs z x"], near: int
) -> dict[str, Float[np.ndarray, "runs _ x"]]:
    """Gives the error maps on parts of the domain."""
    return {
        "whole channel": errors,
        "at the plates": np.concatenate([errors[:, :near], errors[:, -near:]], axis=1),
        "between": errors[:, near:-near],
    }


def draw(
    settings: Settings,
    truth: Float[np.ndarray, "z x"],
    predictions: dict[str, Float[np.ndarray, "z x"]],
    later: dict[str, Float[np.ndarray, "z x"]],
    errors: dict[str, Float[np.ndarray, "runs 4 z x"]],
) -> Figure:
    """Draws a typical held-out snapshot of the temperature with the error of each network after one
    step, what the networks make of a trajectory after several, and the relative errors of the
    fields across the channel after one step: the median of the runs as a line, their range as a
    band.
    """
    common.style()
    figure = plt.figure(figsize=(9, 6), layout="constrained")
    top, middle, bottom = figure.subfigures(3, 1, height_ratios=[1, 1, 1.5])
    extent = (0, settings.length, 0, 1)
    z = (np.arange(settings.num_across) + 0.5) / settings.num_across

    def draw_temperature(panel, theta):
        return panel.imshow(
            1 - z[:, None] + theta,
            extent=extent,
            origin="lower",
            cmap="inferno",
            vmin=0,
            vmax=1,
            interpolation="bilinear",
            interpolation_stage="data",
        )

    panels = top.subplots(1, 4)
    draw_temperature(panels[0], truth)
    panels[0].set(title="temperature, truth")
    differences = {name: prediction - truth for name, prediction in predictions.items()}
    limit = max(np.abs(values).max() for values in differences.values())
    for panel, (name, values) in zip(panels[1:], differences.items(), strict=True):
        image = common.draw_field(panel, values.T, extent, limit)
        panel.set(title=f"error, {name}")
    below = {"location": "bottom", "aspect": 60}
    top.colorbar(image, ax=list(panels), label="error of the temperature after one step", **below)

    after_steps = middle.subplots(1, 4)
    for panel, (name, theta) in zip(after_steps, later.items(), strict=True):
        image = draw_temperature(panel, theta)
        panel.set(title=name)
    middle.colorbar(image, ax=list(after_steps), label="temperature", **below)
    for panel in (*panels, *after_steps):
        panel.set(xticks=[], yticks=[0, 1])
        panel.tick_params(labelleft=panel in (panels[0], after_steps[0]))
    for panel in (panels[0], after_steps[0]):
        panel.set_ylabel("z")

    colours = [colormaps["Dark2"].colors[i] for i in (0, 1, 2)]
    profiles = bottom.subplots(1, 4)
    for index, (panel, field) in enumerate(zip(profiles, FIELDS, strict=True)):
        for (name, squares), colour in zip(errors.items(), colours, strict=True):
            across = np.sqrt(squares[:, index].mean(axis=2))
            common.draw_band(panel, z, across, colour=colour, label=name)
        panel.set(title=field, xlabel="z", xlim=(0, 1), xticks=[0, 1], ylim=(0, None))
    profiles[0].set_ylabel("relative error of one step")
    common.legend_above(bottom, profiles[0])
    return figure


def main() -> None:
    options = common.parse_options(__doc__)
    settings = SHORT if options.short else Settings()
    trajectories = simulate(settings, settings.num_train + settings.num_test, options.seed)
    # Every field in units of its standard deviation.
    sizes = trajectories[: settings.num_train].std(axis=(0, 1, 3, 4))
    trajectories = (trajectories / sizes[:, None, None]).astype(np.float32)
    train, test = np.split(trajectories, [settings.num_train])
    before, after = comparison.pairs(train)
    test_before, test_after = comparison.pairs(test)
    scale = tuple(float(size) for size in (after - before).std(axis=(0, 2, 3)))

    predictions, rollouts, later = {}, {}, {}
    for run in range(settings.num_seeds):
        seed = options.seed + run
        for name, (lift_mode, boundary_mode) in MODES.items():
            # Equal keys give equal initial weights, whatever the boundary modes; equal seeds give
            # equal batches.
            network = ResNet(
                2,
                len(FIELDS) + 1,
                len(FIELDS),
                width=settings.width,
                dilations=settings.dilations,
                lift_mode=lift_mode,
                boundary_mode=boundary_mode,
                key=jr.key(seed),
            )
            emulator, _ = common.train(
                Emulator(network, scale),
                loss,
                (before, after),
                **comparison.training(settings),
                seed=seed,
                label=f"{name:<16} {run + 1}/{settings.num_seeds}",
            )
            one_step = comparison.roll_out(emulator, test_before, 1)[:, 0]
            predictions.setdefault(name, []).append(np.asarray(one_step))
            rollout = comparison.roll_out(emulator, test[:, 0], settings.num_rollout)[:, -1]
            rollout, truth = np.asarray(rollout), test[:, settings.num_rollout]
            rollouts.setdefault(name, []).append(
                common.relative_error(rollout, truth, 2).mean(axis=0)
            )
            later.setdefault(name, rollout[0, 2])

    errors = {
        name: np.stack([field_maps(prediction, test_after) for prediction in runs])
        for name, runs in predictions.items()
    }
    still = np.sqrt(field_maps(test_before, test_after).mean(axis=(1, 2)))
    after_steps = f"after {settings.num_rollout} steps"
    numbers = {}
    for index, field in enumerate(FIELDS):
        numbers[field] = {"error of no change": float(f"{still[index]:.4g}")}
        for name, runs in errors.items():
            row = comparison.relative_errors(error_parts(runs[:, index], settings.num_near))
            row[after_steps] = [float(f"{run[index]:.4g}") for run in rollouts[name]]
            numbers[field][name] = row
    results = {
        "seed": options.seed,
        "settings": asdict(settings),
        "parameters": common.num_parameters(emulator),
        "results": numbers,
    }
    chosen = comparison.typical_sample([runs[0] for runs in predictions.values()], test_after)
    # In units of the difference of the plates' temperatures.
    truth = sizes[2] * test_after[chosen, 2]
    samples = {name: sizes[2] * runs[0][chosen, 2] for name, runs in predictions.items()}
    later = {f"truth, {after_steps}": test[0, settings.num_rollout, 2], **later}
    later = {name: sizes[2] * theta for name, theta in later.items()}
    figure = lambda: draw(settings, truth, samples, later, errors)
    common.report(options.output, "convection", results, stored.convection, figure)

    for field, value in zip(FIELDS, still, strict=True):
        errors_there = numbers[field][PER_FIELD]["whole channel"]
        comparison.demand_less(f"{field}, with modes per field", errors_there, value)


if __name__ == "__main__":
    main()
