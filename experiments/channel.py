"""Trains the same Fourier neural operator on waves in a channel between two different walls, with
periodic modes, with these on a zero-padded domain, and with the modes that satisfy the boundary
conditions, and compares the errors near the walls. Run it by `hatch run experiments:channel`.
"""

import time
from dataclasses import asdict, dataclass
from typing import Any

import common
import comparison
import equinox as eqx
import jax
import jax.random as jr
import numpy as np
import stored
from jaxtyping import Array, Complex, Float
from matplotlib import colormaps, pyplot as plt
from matplotlib.figure import Figure
from networks import FNO
from scipy import linalg


@dataclass(frozen=True)
class Settings:
    num_across: int = 32  # points from wall to wall
    num_along: int = 48
    spacing: float = 0.5  # of the points, along and across
    dispersion: float = 2.0  # b and c of the equation; 1 + b c < 0 makes it chaotic
    shift: float = -1.2
    dt: float = 0.5  # between snapshots
    num_substeps: int = 5  # of the solver, between snapshots
    num_warmup: int = 40  # snapshots left out, until the initial condition is forgotten
    num_train: int = 40  # trajectories
    num_test: int = 12
    num_snapshots: int = 40  # per trajectory, after its first
    num_rollout: int = 10  # predictions of the network from its own, without the solver
    num_steps: int = 1000
    batch_size: int = 16
    learning_rate: float = 5e-3
    width: int = 16
    num_blocks: int = 4
    modes_across: int = 16
    modes_along: int = 12
    padding: int = 8  # zeros beyond the upper wall, for the network with a padded domain
    num_seeds: int = 3
    num_near: int = 2  # cells closest to a wall that count as "at" it


SHORT = Settings(
    num_warmup=10,
    num_train=8,
    num_test=4,
    num_snapshots=20,
    num_steps=60,
    num_blocks=2,
    num_seeds=1,
)

PERIODIC, PADDED, OWN = "periodic", "zero-padded", "own modes"


def variants(settings: Settings) -> dict[str, dict[str, Any]]:
    """Lists the three ways to have a spectral convolution between walls, as arguments of the
    network.

    Axis 0 is across the channel: 0 at the lower wall, no flux through the upper one, points at the
    centres of the cells. A periodic axis that is not the last has the wavenumbers `-m..m-1`, so as
    many numbers belong to `m` of them as to `2 m` modes between walls, and the finest wavelength of
    either is about `N / m` points. On the padded domain `m` grows with the number of
    points, for the same finest wavelength, and with it the parameters.
    """
    across, along = settings.modes_across, settings.modes_along
    padded = across * (settings.num_across + settings.padding) // settings.num_across
    return {
        PERIODIC: {"num_modes": (across // 2, along)},
        PADDED: {"num_modes": (padded // 2, along), "padding": (settings.padding, 0)},
        OWN: {
            "num_modes": (across, along),
            "boundary_mode": (("dirichlet_cell", "neumann_cell"), "periodic"),
        },
    }


class Emulator(eqx.Module):
    """Takes one step in time, `u + scale * network(u, y)`: with `scale` the size of a typical
    increment, the network's outputs have a size near 1. The coordinate across the channel is an
    input, so that every network can know where the walls are.
    """

    network: FNO
    scale: float = eqx.field(static=True)

    def __call__(self, u: Float[Array, "2 across along"]) -> Float[Array, "2 across along"]:
        return u + self.scale * self.network(comparison.with_coordinate(u))


def random_waves(settings: Settings, num_samples: int, seed: int) -> Complex[np.ndarray, "S y x"]:
    """Sums of waves of random amplitude and phase that satisfy the boundary conditions."""
    generator = np.random.default_rng(seed)
    y = (np.arange(settings.num_across)[:, None] + 0.5) / settings.num_across
    x = (np.arange(settings.num_along) + 0.5) / settings.num_along
    u = np.zeros((num_samples, settings.num_across, settings.num_along), complex)
    for _ in range(12):
        shape = (num_samples, 1, 1)
        along, across = generator.integers(0, 6, (2, *shape))
        phase, turn = generator.uniform(0, 2 * np.pi, (2, *shape))
        wave = np.sin(np.pi * (across + 0.5) * y) * np.cos(2 * np.pi * along * x + phase)
        u += 0.4 * np.exp(1j * turn) * wave
    return u


def simulate(settings: Settings, num_samples: int, seed: int) -> Float[np.ndarray, "S T+1 2 y x"]:
    """Trajectories of the complex Ginzburg-Landau equation
    `u_t = u + (1 + i b) (u_xx + u_yy) - (1 + i c) |u|^2 u`, the normal form of oscillating
    reactions with diffusion, as real and imaginary part, from random initial conditions.

    Strang splitting: half a step of the reaction, which has a solution in closed form, a step of
    the diffusion, by the exponential of the finite-volume matrices, and half a step of the reaction
    again.
    """
    b, c = settings.dispersion, settings.shift
    tau = settings.dt / settings.num_substeps
    matrices = comparison.heat_matrices(settings.num_across, settings.num_along, settings.spacing)
    across, along = (linalg.expm(-(1 + 1j * b) * tau * matrix) for matrix in matrices)

    def react(u, time):
        growth = np.log1p((u.real**2 + u.imag**2) * np.expm1(2 * time))
        return u * np.exp(time - 0.5 * (1 + 1j * c) * growth)

    u = random_waves(settings, num_samples, seed)
    snapshots = [u]
    for _ in range(settings.num_warmup + settings.num_snapshots):
        u = react(u, tau / 2)
        for substep in range(1, settings.num_substeps + 1):
            # Two half steps of the reaction, one after the other, are a whole one.
            u = react(across @ u @ along, tau / 2 if substep == settings.num_substeps else tau)
        snapshots.append(u)
    kept = np.stack(snapshots[settings.num_warmup :], axis=1)
    return np.stack([kept.real, kept.imag], axis=2).astype(np.float32)


def step_times(
    networks: dict[str, Emulator],
    loss: common.Loss,
    data: common.Batch,
    *,
    num_steps: int,
    batch_size: int,
    learning_rate: float,
    num_timed: int = 20,
) -> dict[str, float]:
    """Times a training step of each network: the median in milliseconds, without compilation.

    The networks take turns, so that whatever else the machine does befalls all of them. The other
    arguments are those of `common.train`, so that what it compiled is used again.
    """
    optimiser = common.make_optimiser(num_steps, learning_rate)
    states = {
        name: optimiser.init(eqx.filter(network, eqx.is_inexact_array))
        for name, network in networks.items()
    }
    batch = tuple(array[:batch_size] for array in data)
    times = {name: [] for name in networks}
    for _ in range(num_timed + 1):
        for name, network in networks.items():
            start = time.perf_counter()
            jax.block_until_ready(
                common.train_step(network, states[name], batch, loss, optimiser)[2]
            )
            times[name].append(1000 * (time.perf_counter() - start))
    return {name: float(np.median(values[1:])) for name, values in times.items()}


def error_parts(
    errors: Float[np.ndarray, "runs y x"], near: int
) -> dict[str, Float[np.ndarray, "runs _ x"]]:
    """Gives the error maps on parts of the domain."""
    return {
        "whole channel": errors,
        "wall at 0": errors[:, :near],
        "wall without flux": errors[:, -near:],
        "between": errors[:, near:-near],
    }


def draw(
    settings: Settings,
    truth: Float[np.ndarray, "y x"],
    predictions: dict[str, Float[np.ndarray, "y x"]],
    errors: dict[str, Float[np.ndarray, "runs y x"]],
    rollouts: dict[str, Float[np.ndarray, "runs T"]],
) -> Figure:
    """Draws a typical held-out snapshot with the error of each network after one step, the relative
    errors across the channel after one step, and on the whole of it after several: the median of
    the runs as a line, their range as a band.
    """
    common.style()
    figure = plt.figure(figsize=(8, 5), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=[1.1, 1.2])
    height, length = (settings.spacing * n for n in truth.shape)
    extent = (0, length, 0, height)

    panels = upper.subplots(1, 4)
    limit = np.abs(truth).max()
    image = common.draw_field(panels[0], truth.T, extent, limit)
    panels[0].set(title="truth, real part", ylabel="y, across")
    upper.colorbar(image, ax=panels[0], location="bottom", aspect=14)
    differences = {name: prediction - truth for name, prediction in predictions.items()}
    limit = max(np.abs(values).max() for values in differences.values())
    for panel, (name, values) in zip(panels[1:], differences.items(), strict=True):
        image = common.draw_field(panel, values.T, extent, limit)
        panel.set(title=f"error, {name}")
        panel.tick_params(labelleft=False)
    for panel in panels:
        panel.set(xlabel="x, along", xticks=[0, 10, 20], yticks=[0, 5, 10, 15])
    upper.colorbar(image, ax=panels[1:], location="bottom", aspect=44)

    profile, growth = lower.subplots(1, 2)
    colours = (colormaps["Dark2"].colors[i] for i in (2, 1, 0))
    for name, colour in zip(errors, colours, strict=True):
        centres = settings.spacing * (np.arange(settings.num_across) + 0.5)
        across = np.sqrt(errors[name].mean(axis=2))
        common.draw_band(profile, centres, across, colour=colour, label=name)
        times = settings.dt * np.arange(1, settings.num_rollout + 1)
        common.draw_band(growth, times, rollouts[name], colour=colour, label=name)
    profile.set(
        xlabel="y, from the wall at 0 to the wall without flux",
        ylabel="relative error of one step",
        xlim=(0, height),
        ylim=(0, None),
    )
    growth.set(
        xlabel="time t, one step after the other",
        ylabel="relative error",
        xlim=(0, times[-1]),
        ylim=(0, None),
    )
    common.legend_above(lower, profile)
    return figure


def main() -> None:
    options = common.parse_options(__doc__)
    settings = SHORT if options.short else Settings()
    trajectories = simulate(settings, settings.num_train + settings.num_test, options.seed)
    train, test = np.split(trajectories, [settings.num_train])
    before, after = comparison.pairs(train)
    test_before, test_after = comparison.pairs(test)
    scale = float(np.std(after - before))
    training = comparison.training(settings)

    predictions, rollouts, networks = {}, {}, {}
    for run in range(settings.num_seeds):
        seed = options.seed + run
        for name, arguments in variants(settings).items():
            network = FNO(
                2,
                3,
                2,
                width=settings.width,
                num_blocks=settings.num_blocks,
                **arguments,
                key=jr.key(seed),
            )
            # Equal seeds give equal batches.
            emulator, _ = common.train(
                Emulator(network, scale),
                comparison.loss,
                (before, after),
                **training,
                seed=seed,
                label=f"{name:<11} {run + 1}/{settings.num_seeds}",
            )
            networks[name] = emulator
            one_step = comparison.roll_out(emulator, test_before, 1)[:, 0]
            predictions.setdefault(name, []).append(np.asarray(one_step))
            rollout = np.asarray(comparison.roll_out(emulator, test[:, 0], settings.num_rollout))
            truth = test[:, 1 : settings.num_rollout + 1]
            rollouts.setdefault(name, []).append(common.relative_error(rollout, truth, 3).mean(0))

    errors = {
        name: np.stack([comparison.error_map(prediction, test_after) for prediction in runs])
        for name, runs in predictions.items()
    }
    rollouts = {name: np.stack(runs) for name, runs in rollouts.items()}
    milliseconds = step_times(networks, comparison.loss, (before, after), **training)
    still = float(np.sqrt(np.mean((test_after - test_before) ** 2) / np.mean(test_after**2)))
    numbers = {}
    for name, runs in errors.items():
        numbers[name] = {
            "parameters": common.num_parameters(networks[name]),
            "modes across": variants(settings)[name]["num_modes"][0],
            "milliseconds per training step": float(f"{milliseconds[name]:.3g}"),
            **comparison.relative_errors(error_parts(runs, settings.num_near)),
            f"after {settings.num_rollout} steps": [
                float(f"{value:.4g}") for value in rollouts[name][:, -1]
            ],
        }
    results = {
        "seed": options.seed,
        "settings": asdict(settings),
        "error of no change": float(f"{still:.4g}"),
        "results": numbers,
    }
    chosen = comparison.typical_sample([runs[0] for runs in predictions.values()], test_after)
    samples = {name: runs[0][chosen, 0] for name, runs in predictions.items()}
    figure = lambda: draw(settings, test_after[chosen, 0], samples, errors, rollouts)
    common.report(options.output, "channel", results, stored.channel, figure)

    comparison.demand_less("with its own modes", numbers[OWN]["whole channel"], still)


if __name__ == "__main__":
    main()
