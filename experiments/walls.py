"""Trains the same U-Net on the steady heat problem between walls, with the right boundary modes and
with two wrong ones, and compares the errors near the walls. Run it by `hatch run
experiments:walls`.
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
from jaxtyping import Array, Float
from matplotlib import colormaps, pyplot as plt
from matplotlib.figure import Figure
from networks import UNet
from scipy import sparse
from scipy.sparse.linalg import splu

from pdequinox.conv import BoundaryMode


# On axis 0 (x) the temperature is 0 at the lower wall, and no heat flows through the upper one;
# axis 1 (y) is periodic. The points are the centres of the cells.
MODES: dict[str, BoundaryMode] = {
    "right modes": (("dirichlet_cell", "neumann_cell"), "periodic"),
    "zeros everywhere": "dirichlet",
    "periodic everywhere": "periodic",
}


@dataclass(frozen=True)
class Settings:
    num_points: int = 24  # per axis
    num_waves: int = 8  # in a random source
    num_train: int = 512
    num_test: int = 128
    num_steps: int = 400
    batch_size: int = 16
    learning_rate: float = 4e-3
    width: int = 16
    num_levels: int = 3
    num_seeds: int = 3
    num_near: int = 2  # cells closest to a wall that count as "at" it


SHORT = Settings(num_train=64, num_test=16, num_steps=60, num_seeds=1)


def heat_matrix(n: int) -> sparse.csc_array:
    """Gives the finite-volume matrix of `-u_xx - u_yy` on `n * n` cells of the unit square, x
    first.
    """
    along_x, along_y = (sparse.csr_array(m) for m in comparison.heat_matrices(n, n, 1 / n))
    eye = sparse.eye_array(n)
    return sparse.csc_array(sparse.kron(along_x, eye) + sparse.kron(eye, along_y))


def random_sources(settings: Settings, num_samples: int, seed: int) -> Float[np.ndarray, "S n n"]:
    """Sums of waves of random direction, phase and amplitude, periodic in y but not in x."""
    generator = np.random.default_rng(seed)
    shape = (num_samples, settings.num_waves, 1, 1)
    along_x = generator.uniform(0, 2, shape)
    along_y = generator.integers(-4, 5, shape)
    phase = generator.uniform(0, 2 * np.pi, shape)
    amplitude = generator.normal(size=shape) * np.sqrt(2 / settings.num_waves)
    centres = (np.arange(settings.num_points) + 0.5) / settings.num_points
    x, y = centres[:, None], centres[None, :]
    waves = amplitude * np.cos(2 * np.pi * (along_x * x + along_y * y) + phase)
    return waves.sum(axis=1)


def make_data(
    settings: Settings, seed: int
) -> tuple[Float[np.ndarray, "S 1 n n"], Float[np.ndarray, "S 1 n n"]]:
    """Makes heat sources, and the temperatures that they cause, in units of their standard
    deviation.
    """
    sources = random_sources(settings, settings.num_train + settings.num_test, seed)
    factors = splu(heat_matrix(settings.num_points))
    solutions = factors.solve(sources.reshape(len(sources), -1).T).T.reshape(sources.shape)
    solutions /= solutions[: settings.num_train].std()
    return sources[:, None].astype(np.float32), solutions[:, None].astype(np.float32)


def loss(
    network: UNet, sources: Float[Array, "B 1 n n"], solutions: Float[Array, "B 1 n n"]
) -> Float[Array, ""]:
    return jnp.mean((jax.vmap(network)(sources) - solutions) ** 2)


@eqx.filter_jit
def predict(network: UNet, sources: Float[Array, "S 1 n n"]) -> Float[Array, "S 1 n n"]:
    return jax.vmap(network)(sources)


def error_parts(
    errors: Float[np.ndarray, "runs n n"], near: int
) -> dict[str, Float[np.ndarray, "runs _ _"]]:
    """Gives the error maps on parts of the domain."""
    return {
        "whole domain": errors,
        "cold wall": errors[:, :near],
        "insulated wall": errors[:, -near:],
        "periodic ends": np.concatenate([errors[:, :, :near], errors[:, :, -near:]], axis=2),
    }


def draw(
    truth: Float[np.ndarray, "n n"],
    predictions: dict[str, Float[np.ndarray, "n n"]],
    errors: dict[str, Float[np.ndarray, "runs n n"]],
) -> Figure:
    """Draws a typical held-out sample with the error of each network, and the relative errors along
    x and y: the median of the runs as a line, their range as a band.
    """
    common.style()
    figure = plt.figure(figsize=(8, 4.8), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=[1, 1.15])

    shown = {"truth": truth}
    shown |= {f"error, {name}": prediction - truth for name, prediction in predictions.items()}
    limit = max(np.abs(values).max() for values in shown.values())
    panels = upper.subplots(1, 4)
    for panel, (title, values) in zip(panels, shown.items(), strict=True):
        image = common.draw_field(panel, values, (0, 1, 0, 1), limit)
        panel.set(title=title, xlabel="x", xticks=[0, 1], yticks=[0, 1])
        panel.tick_params(labelleft=panel is panels[0])
    panels[0].set_ylabel("y")
    upper.colorbar(image, ax=panels, label="temperature", pad=0.01, aspect=14, shrink=0.85)

    panels = lower.subplots(1, 2, sharey=True)
    for axis, panel in enumerate(panels):
        for (name, squares), colour in zip(
            errors.items(), colormaps["Dark2"].colors[:3], strict=True
        ):
            profiles = np.sqrt(squares.mean(axis=2 - axis))
            centres = (np.arange(profiles.shape[1]) + 0.5) / profiles.shape[1]
            common.draw_band(panel, centres, profiles, colour=colour, label=name)
    panels[0].set(
        xlabel="x, from the cold wall to the insulated wall",
        ylabel="relative error",
        xlim=(0, 1),
        ylim=(0, None),
    )
    panels[1].set(xlabel="y, periodic", xlim=(0, 1))
    common.legend_above(lower, panels[0])
    return figure


def main() -> None:
    options = common.parse_options(__doc__)
    settings = SHORT if options.short else Settings()
    sources, solutions = make_data(settings, options.seed)
    data = (sources[: settings.num_train], solutions[: settings.num_train])
    test, truth = sources[settings.num_train :], solutions[settings.num_train :]

    predictions = {name: [] for name in MODES}
    for run in range(settings.num_seeds):
        seed = options.seed + run
        for name, boundary_mode in MODES.items():
            # Equal keys give equal initial weights, whatever the boundary modes; equal seeds give
            # equal batches.
            network = UNet(
                2,
                1,
                1,
                width=settings.width,
                num_levels=settings.num_levels,
                boundary_mode=boundary_mode,
                key=jr.key(seed),
            )
            network, _ = common.train(
                network,
                loss,
                data,
                **comparison.training(settings),
                seed=seed,
                label=f"{name:<19} {run + 1}/{settings.num_seeds}",
            )
            predictions[name].append(np.asarray(predict(network, test)))

    errors = {
        name: np.stack([comparison.error_map(prediction, truth) for prediction in runs])
        for name, runs in predictions.items()
    }
    numbers = {
        name: comparison.relative_errors(error_parts(runs, settings.num_near))
        for name, runs in errors.items()
    }
    results = {
        "seed": options.seed,
        "settings": asdict(settings),
        "parameters": common.num_parameters(network),
        "results": numbers,
    }
    chosen = comparison.typical_sample([runs[0] for runs in predictions.values()], truth)
    samples = {name: runs[0][chosen, 0] for name, runs in predictions.items()}
    figure = lambda: draw(truth[chosen, 0], samples, errors)
    common.report(options.output, "walls", results, stored.walls, figure)

    comparison.demand_less("with the right modes", numbers["right modes"]["whole domain"], 1)


if __name__ == "__main__":
    main()
