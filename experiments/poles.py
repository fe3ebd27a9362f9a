"""Trains the same convolutional network on the advection of bells around a sphere, with fields
continued over the poles of its latitude-longitude grid, with zeros there and with copies of the
last row, and compares the errors near the poles. Run it by `hatch run experiments:poles`.
"""

from dataclasses import asdict, dataclass

import common
import comparison
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import sphere
import stored
from jaxtyping import Array, Float
from matplotlib import colormaps, pyplot as plt
from matplotlib.figure import Figure
from networks import ResNet

from pdequinox.conv import BoundaryMode, per_channel


@dataclass(frozen=True)
class Settings:
    num_latitudes: int = 24
    num_longitudes: int = 48
    angle: float = np.pi / 16  # of the rotation in a step: 1.5 cells
    num_bells: int = 3  # in a random sample
    radii: tuple[float, float] = (0.5, 1.0)  # of these: 4 to 8 cells
    crossing_radius: float = 2 / 3  # of the bell that crosses the pole; in the test case, 1/3
    num_train: int = 2048
    num_test: int = 256
    num_rollout: int = 8  # predictions of the network from its own, the pole half way
    num_steps: int = 800
    batch_size: int = 16
    learning_rate: float = 4e-3
    width: int = 16
    dilations: tuple[tuple[int, int], ...] = ((1, 1), (1, 2), (1, 4))  # of the network's blocks
    num_seeds: int = 3
    num_near: int = 2  # rows of cells next to a pole that count as "at" it


SHORT = Settings(num_train=256, num_test=32, num_steps=60, num_seeds=1)

POLES, ZEROS, COPIES = "over the pole", "zeros", "outflow"

# Axis 0 is the latitude. The inputs are the bells, the sine and the cosine of the latitude, which
# are scalars, and the wind's two components, which change their signs where the poles are crossed:
# east and north turn around there. Hidden channels are taken as scalars.
SCALAR: BoundaryMode = ("pole_cell", "periodic")
MODES: dict[str, tuple[BoundaryMode, BoundaryMode]] = {
    POLES: (per_channel((3, SCALAR), (2, ("pole_cell_odd", "periodic"))), SCALAR),
    ZEROS: (("zeros", "periodic"), ("zeros", "periodic")),
    COPIES: (("outflow", "periodic"), ("outflow", "periodic")),
}


class Emulator(eqx.Module):
    """Takes one step in time of the bells `h` in a steady wind `(u, v)`, `h + scale *
    network(...)`: with `scale` the size of a typical increment, the network's outputs have a size
    near 1. The latitude is an input, for the cells are narrower towards the poles.
    """

    network: ResNet
    scale: float = eqx.field(static=True)

    def __call__(self, x: Float[Array, "3 lat lon"]) -> Float[Array, "3 lat lon"]:
        _, num_latitudes, num_longitudes = x.shape
        rows = jnp.arange(num_latitudes, dtype=x.dtype)
        latitude = jnp.pi * ((rows + 0.5) / num_latitudes - 0.5)
        place = jnp.stack([jnp.sin(latitude), jnp.cos(latitude)])[:, :, None]
        place = jnp.broadcast_to(place, (2, num_latitudes, num_longitudes))
        change = self.network(jnp.concatenate([x[:1], place, x[1:]]))
        return jnp.concatenate([x[:1] + self.scale * change, x[1:]])


def random_vectors(generator: np.random.Generator, *shape: int) -> Float[np.ndarray, "*shape 3"]:
    """Draws unit vectors whose latitudes and longitudes are uniform, so that many are near the
    poles.
    """
    latitude = generator.uniform(-np.pi / 2, np.pi / 2, shape)
    return sphere.place(latitude, generator.uniform(0, 2 * np.pi, shape))


def make_data(
    settings: Settings, num_samples: int, seed: int
) -> tuple[Float[np.ndarray, "S 3 lat lon"], Float[np.ndarray, "S 3 lat lon"]]:
    """Bells of random centres, radii and heights in winds around random axes, and the same a step
    later: `h`, `u` and `v`.
    """
    generator = np.random.default_rng(seed)
    latitude, longitude = sphere.grid(settings.num_latitudes, settings.num_longitudes)
    points = sphere.place(latitude, longitude)
    axis = random_vectors(generator, num_samples)
    winds = sphere.wind(axis, latitude, longitude)
    centres = random_vectors(generator, num_samples, settings.num_bells)
    radii = generator.uniform(*settings.radii, (num_samples, settings.num_bells))
    heights = generator.uniform(-1, 1, (num_samples, settings.num_bells, 1, 1))
    moved = sphere.rotate(centres, np.broadcast_to(axis[:, None], centres.shape), settings.angle)
    fields = []
    for where in (centres, moved):
        h = np.sum(heights * sphere.bell(points, where, radii), axis=1, keepdims=True)
        fields.append(np.concatenate([h, winds], axis=1).astype(np.float32))
    return fields[0], fields[1]


def crossing(settings: Settings) -> Float[np.ndarray, "T+1 3 lat lon"]:
    """Makes test case 1 of Williamson et al. with `alpha = pi / 2`: a bell on its way over the
    north pole, from some steps before it to as many behind.
    """
    latitude, longitude = sphere.grid(settings.num_latitudes, settings.num_longitudes)
    points = sphere.place(latitude, longitude)
    axis, pole = np.array([-1.0, 0.0, 0.0]), np.array([0.0, 0.0, 1.0])
    angles = settings.angle * (np.arange(settings.num_rollout + 1) - settings.num_rollout // 2)
    centres = np.stack([sphere.rotate(pole, axis, angle) for angle in angles])
    h = sphere.bell(points, centres, np.full(len(centres), settings.crossing_radius))[:, None]
    winds = np.broadcast_to(sphere.wind(axis, latitude, longitude), (len(h), 2, *points.shape[:-1]))
    return np.concatenate([h, winds], axis=1).astype(np.float32)


def loss(
    emulator: Emulator, before: Float[Array, "B 3 lat lon"], after: Float[Array, "B 3 lat lon"]
) -> Float[Array, ""]:
    """Computes the mean squared one-step error, in units of the squared typical increment."""
    return jnp.mean(((jax.vmap(emulator)(before) - after)[:, 0] / emulator.scale) ** 2)


def error_parts(
    errors: Float[np.ndarray, "runs lat lon"], near: int
) -> dict[str, Float[np.ndarray, "runs _ lon"]]:
    """Gives the error maps on parts of the domain."""
    return {
        "whole grid": errors,
        "polar rows": np.concatenate([errors[:, :near], errors[:, -near:]], axis=1),
        "elsewhere": errors[:, near:-near],
    }


def draw(
    settings: Settings,
    truth: Float[np.ndarray, "T+1 lat lon"],
    rollouts: dict[str, Float[np.ndarray, "runs T lat lon"]],
    errors: dict[str, Float[np.ndarray, "runs lat lon"]],
    growth: dict[str, Float[np.ndarray, "runs T"]],
) -> Figure:
    """Draws the bell on its way over the pole, seen from above: the truth, and the network's
    predictions and errors after all steps, when the bell has crossed it. Below, the relative errors
    of one step by latitude, and those of the bell step after step: the median of the runs as a
    line, their range as a band.
    """
    common.style()
    figure = plt.figure(figsize=(9, 6.8), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=[1.7, 1])
    _, K = truth.shape[1:]
    edges = 2 * np.pi * (np.arange(K + 1) - 0.5) / K
    colatitudes = np.linspace(180, 0, settings.num_latitudes + 1)
    half, late = settings.num_rollout // 2, settings.num_rollout

    panels = upper.subplots(2, 4, subplot_kw={"projection": "polar"})
    shown = {
        "truth, on the pole": truth[half],
        **{f"{name}, {late} steps": runs[0, late - 1] for name, runs in rollouts.items()},
        f"truth, {late} steps": truth[late],
        **{f"error, {name}": runs[0, late - 1] - truth[late] for name, runs in rollouts.items()},
    }
    for panel, (title, values) in zip(panels.flat, shown.items(), strict=True):
        image = panel.pcolormesh(
            edges, colatitudes, values, cmap="RdBu_r", vmin=-1, vmax=1, rasterized=True
        )
        panel.set(title=title, ylim=(0, 90), yticks=[30, 60], xticks=[], yticklabels=[])
        panel.grid(color="0.7", linewidth=0.4)
    upper.colorbar(image, ax=panels, label="height of the bell", pad=0.01, aspect=30, shrink=0.8)

    profile, steps = lower.subplots(1, 2)
    colours = [colormaps["Dark2"].colors[i] for i in (0, 2, 1)]
    latitudes = 180 * ((np.arange(settings.num_latitudes) + 0.5) / settings.num_latitudes - 0.5)
    for (name, squares), colour in zip(errors.items(), colours, strict=True):
        rows = np.sqrt(squares.mean(axis=2))
        common.draw_band(profile, latitudes, rows, colour=colour, label=name)
        times = np.arange(1, settings.num_rollout + 1)
        common.draw_band(steps, times, growth[name], colour=colour, label=name)
    profile.set(
        xlabel="latitude",
        ylabel="relative error of one step",
        xlim=(-90, 90),
        xticks=[-90, -45, 0, 45, 90],
        ylim=(0, None),
    )
    steps.axvline(half, color="0.6", linewidth=0.6, linestyle="--")
    steps.set(
        xlabel="steps; the bell is on the pole at the dashed line",
        ylabel="relative error of the bell",
        xlim=(1, settings.num_rollout),
        ylim=(0, None),
    )
    common.legend_above(lower, profile)
    return figure


def main() -> None:
    options = common.parse_options(__doc__)
    settings = SHORT if options.short else Settings()
    data = make_data(settings, settings.num_train + settings.num_test, options.seed)
    before, after = (part[: settings.num_train] for part in data)
    test_before, test_after = (part[settings.num_train :] for part in data)
    scale = float(np.std((after - before)[:, 0]))
    truth = crossing(settings)
    # The area of a cell goes with the cosine of its latitude; the errors of the bell are by area.
    latitude, _ = sphere.grid(settings.num_latitudes, settings.num_longitudes)
    weights = np.sqrt(np.cos(latitude))

    predictions, rollouts, growth = {}, {}, {}
    for run in range(settings.num_seeds):
        seed = options.seed + run
        for name, (lift_mode, boundary_mode) in MODES.items():
            # Equal keys give equal initial weights, whatever the boundary modes; equal seeds give
            # equal batches.
            network = ResNet(
                2,
                5,
                1,
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
                label=f"{name:<13} {run + 1}/{settings.num_seeds}",
            )
            one_step = np.asarray(comparison.roll_out(emulator, test_before, 1))
            predictions.setdefault(name, []).append(one_step[:, 0, :1])
            rollout = np.asarray(comparison.roll_out(emulator, truth[:1], settings.num_rollout))
            rollouts.setdefault(name, []).append(rollout[0, :, 0])
            growth.setdefault(name, []).append(
                common.relative_error(rollout[0, :, 0] * weights, truth[1:, 0] * weights, 2)
            )

    errors = {
        name: np.stack([comparison.error_map(prediction, test_after[:, :1]) for prediction in runs])
        for name, runs in predictions.items()
    }
    growth = {name: np.stack(runs) for name, runs in growth.items()}
    still = float(np.sqrt(comparison.error_map(test_before[:, :1], test_after[:, :1]).mean()))
    half, last = settings.num_rollout // 2, settings.num_rollout
    numbers = {}
    for name, runs in errors.items():
        row = comparison.relative_errors(error_parts(runs, settings.num_near))
        for column, index in (("bell on the pole", half), ("bell beyond it", last)):
            row[column] = [float(f"{run[index - 1]:.4g}") for run in growth[name]]
        numbers[name] = row
    results = {
        "seed": options.seed,
        "settings": asdict(settings),
        "error of no change": float(f"{still:.4g}"),
        "parameters": common.num_parameters(emulator),
        "results": numbers,
    }
    rollouts = {name: np.stack(runs) for name, runs in rollouts.items()}
    figure = lambda: draw(settings, truth[:, 0], rollouts, errors, growth)
    common.report(options.output, "poles", results, stored.poles, figure)

    comparison.demand_less("with its poles continued", numbers[POLES]["whole grid"], still)


if __name__ == "__main__":
    main()
