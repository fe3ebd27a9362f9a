"""Trains Fourier neural operators of the Kuramoto-Sivashinsky equation whose spectral convolutions
start with small and with large weights, and measures the size of a spectral convolution's output.
Run it by `hatch run experiments:weight_scale`.
"""

from dataclasses import asdict, dataclass

import common
import comparison
import emulators
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import stored
from emulators import Emulator
from jaxtyping import Array, Float, PRNGKeyArray
from matplotlib import colormaps, pyplot as plt
from matplotlib.figure import Figure
from networks import FNO

from pdequinox.conv import BoundaryMode, PointwiseLinearConv, SpectralConv


@dataclass(frozen=True)
class Settings:
    num_train: int = 48  # trajectories
    num_test: int = 16
    num_snapshots: int = 80  # per trajectory, after its first
    widths: tuple[int, ...] = (8, 64)
    num_modes: int = 32
    num_blocks: int = 4
    num_steps: int = 800
    batch_size: int = 16
    learning_rate: float = 3e-3
    num_seeds: int = 3
    num_layers: int = 256  # random layers, for the size of the output


SHORT = Settings(
    num_train=8,
    num_test=4,
    num_snapshots=40,
    widths=(8, 16),
    num_steps=60,
    num_seeds=1,
    num_layers=16,
)

# The axes of the layers whose output is measured: numbers of points and modes, boundary modes.
WALLS = ("dirichlet_cell", "neumann_cell")
AXES: dict[str, tuple[tuple[int, ...], tuple[int, ...], BoundaryMode]] = {
    "1 periodic": ((64,), (16,), "periodic"),
    "2 periodic": ((32, 32), (8, 8), "periodic"),
    "3 periodic": ((16, 16, 16), (4, 4, 4), "periodic"),
    "1 between walls": ((64,), (32,), (WALLS,)),
    "2 between walls": ((32, 32), (16, 16), (WALLS, WALLS)),
    "1 between walls, 1 periodic": ((32, 32), (16, 8), (WALLS, "periodic")),
    "1 between walls, 2 periodic": ((16, 16, 16), (8, 4, 4), (WALLS, "periodic", "periodic")),
}


class SpectralOnly(eqx.Module):
    """Is a Fourier neural operator without pointwise convolutions beside the spectral ones."""

    lift: PointwiseLinearConv
    spectral: list[SpectralConv]
    head: PointwiseLinearConv

    def __init__(self, network: FNO):
        self.lift, self.spectral, self.head = network.lift, network.spectral, network.head

    def __call__(self, x: Float[Array, "in_channels ..."]) -> Float[Array, "out_channels ..."]:
        x = self.lift(x)
        for spectral in self.spectral:
            x = jax.nn.silu(spectral(x))
        return self.head(x)


NETWORKS = {"with bypass": lambda network: network, "without bypass": SpectralOnly}


def keeping(channels: int, periodic: bool = True) -> float:
    """Gives the weight scale that keeps the variance of most kept modes.

    With weights of variance `s^2`, real and imaginary part each, a coefficient of the output is a
    sum of `channels` products, of mean square `2 s^2 channels` times that of the input's. Real
    weights have no imaginary part.
    """
    return (2 * channels) ** -0.5 if periodic else channels**-0.5


def scales(width: int) -> dict[str, float]:
    """Lists the weight scales that are compared, from the layer's default to the largest."""
    return {
        "default": width**-2.0,
        "variance-keeping / 10": keeping(width) / 10,
        "variance-keeping": keeping(width),
    }


def variance_ratios(
    shape: tuple[int, ...],
    num_modes: tuple[int, ...],
    boundary_mode: BoundaryMode,
    key: PRNGKeyArray,
    num_layers: int,
    channels: int = 8,
) -> dict[str, float]:
    """Means of squares of the output over those of the input, for white noise and random layers:
    of all that there is, of the kept modes, of the part of these that is constant along the last
    periodic axis, and of the rest.
    """
    dims = len(shape)
    ends = boundary_mode if isinstance(boundary_mode, tuple) else (boundary_mode,) * dims
    periodic = [axis for axis, mode in enumerate(ends) if mode == "periodic"]

    def squares(key):
        layer_key, field_key = jr.split(key)
        layer = SpectralConv(
            dims,
            channels,
            channels,
            num_modes,
            boundary_mode=boundary_mode,
            weight_scale=keeping(channels, bool(periodic)),
            key=layer_key,
        )
        eye = jnp.eye(channels).reshape(1, channels, channels, *(1,) * dims)
        identity = [jnp.broadcast_to(eye, layer.weights_real.shape)]
        leaves = lambda layer: [layer.weights_real]
        if periodic:
            identity.append(jnp.zeros_like(layer.weights_imag))
            leaves = lambda layer: [layer.weights_real, layer.weights_imag]
        x = jr.normal(field_key, (channels, *shape))
        kept, y = eqx.tree_at(leaves, layer, identity)(x), layer(x)
        values = {"all": (x, y), "kept": (kept, y)}
        if periodic:
            constant = [jnp.mean(u, axis=periodic[-1] + 1, keepdims=True) for u in (kept, y)]
            values["constant"] = tuple(constant)
            values["waves"] = (kept - constant[0], y - constant[1])
        return {
            name: jnp.stack([jnp.mean(u**2) for u in pair]) for name, pair in values.items()
        } | {"fraction": jnp.stack([jnp.mean(x**2), jnp.mean(kept**2)])}

    means = jax.jit(lambda keys: jax.tree.map(lambda s: s.mean(0), jax.lax.map(squares, keys)))
    found = means(jr.split(key, num_layers))
    return {name: float(f"{after / before:.4g}") for name, (before, after) in found.items()}


def branch_size(emulator: Emulator, states: Float[np.ndarray, "S 1 N"]) -> float:
    """Computes the standard deviation of the first spectral convolution's output over that of its
    input.
    """

    @eqx.filter_jit
    def sizes(network, states):
        lifted = jax.vmap(network.lift)(states)
        return jnp.std(lifted), jnp.std(jax.vmap(network.spectral[0])(lifted))

    before, after = sizes(emulator.network, states)
    return float(f"{after / before:.3g}")


def draw(histories: dict[tuple[int, str], dict[str, np.ndarray]]) -> Figure:
    """Draws the training loss over the steps, means over 20 of them: the median of the runs as a
    line, their range as a band. One panel for each width, with bypass above and without below.

    **Arguments:**

    - `histories`: For each width and kind of network the losses of each scale, of shape
        `(runs, steps)`.
    """
    common.style()
    widths = sorted({width for width, _ in histories})
    figure, axes = plt.subplots(
        len(NETWORKS),
        len(widths),
        figsize=(8, 5),
        layout="constrained",
        sharex=True,
        sharey=True,
        squeeze=False,
    )
    panels = {
        (width, kind): axes[i, j]
        for i, kind in enumerate(NETWORKS)
        for j, width in enumerate(widths)
    }
    for (width, kind), losses in histories.items():
        panel = panels[width, kind]
        for (name, runs), colour in zip(losses.items(), colormaps["Dark2"].colors[:3], strict=True):
            means = runs.reshape(len(runs), -1, 20).mean(axis=2)
            steps = 20 * (np.arange(means.shape[1]) + 0.5)
            common.draw_band(panel, steps, means, colour=colour, label=name)
        panel.set(yscale="log", xlim=(0, runs.shape[1]), title=f"{width} channels, {kind}")
    for panel in axes[-1]:
        panel.set_xlabel("training step")
    for panel in axes[:, 0]:
        panel.set_ylabel("training loss")
    common.legend_above(figure, axes[0, 0])
    return figure


def main() -> None:
    options = common.parse_options(__doc__)
    settings = SHORT if options.short else Settings()
    data_key, layer_key = jr.split(jr.key(options.seed))

    ratios = {
        name: variance_ratios(*axes, layer_key, settings.num_layers) for name, axes in AXES.items()
    }
    problem = emulators.Settings(num_snapshots=settings.num_snapshots)
    trajectories = emulators.simulate(problem, settings.num_train + settings.num_test, data_key)
    train, test = np.split(np.asarray(trajectories), [settings.num_train])
    before, after = (
        part.reshape(-1, 1, problem.num_points) for part in (train[:, :-1], train[:, 1:])
    )
    scale = float(np.std(after - before))

    histories, numbers = {}, {}
    for width in settings.widths:
        for name, weight_scale in scales(width).items():
            row = {"channels": width, "weight scale": float(f"{weight_scale:.4g}"), "size": []}
            for kind, make in NETWORKS.items():
                row[kind], losses = [], []
                for run in range(settings.num_seeds):
                    seed = options.seed + run
                    network = FNO(
                        1,
                        1,
                        1,
                        width=width,
                        num_modes=settings.num_modes,
                        num_blocks=settings.num_blocks,
                        weight_scale=weight_scale,
                        key=jr.key(seed),
                    )
                    emulator = Emulator(make(network), scale)
                    if kind == "with bypass":
                        row["size"].append(branch_size(emulator, before[:256]))
                    losses.append([])
                    emulator, _ = common.train(
                        emulator,
                        emulators.loss,
                        (before, after),
                        **comparison.training(settings),
                        seed=seed,
                        label=f"{width}, {name}, {kind} {run + 1}/{settings.num_seeds}",
                        history=losses[-1],
                    )
                    one_step = np.asarray(emulators.predict(emulator, test[:, :-1]))
                    error = common.relative_error(one_step, test[:, 1:], 2).mean()
                    row[kind].append(float(f"{error:.4g}"))
                histories.setdefault((width, kind), {})[name] = np.array(losses)
            numbers[f"{width} channels, {name}"] = row

    still = float(common.relative_error(test[:, :-1], test[:, 1:], 2).mean())
    results = {
        "seed": options.seed,
        "settings": asdict(settings),
        "error of no change": float(f"{still:.4g}"),
        "results": numbers,
        "variance ratios": ratios,
    }
    figure = lambda: draw(histories)
    common.report(options.output, "weight_scale", results, stored.weight_scale, figure)

    for name, row in numbers.items():
        comparison.demand_less(f"{name}, with bypass", row["with bypass"], still)


if __name__ == "__main__":
    main()
