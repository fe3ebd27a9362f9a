"""Trains Fourier neural operators of Kolmogorov flow whose spectral layers have dense, axiswise and
CP weights of several sizes, and shows their errors against their numbers of parameters.
Run it by `hatch run experiments:parameters`.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, TYPE_CHECKING

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Complex, Float, PRNGKeyArray

from pdequinox.conv import SpectralConv


# The tests import the solver, and know neither the folder of the examples nor how to draw. What is
# only there to train and to draw is imported where that is done.
if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Settings:
    num_fine: int = 64  # points per axis of the solver
    num_points: int = 32  # and of the emulator
    viscosity: float = 0.01
    drag: float = 0.1
    forcing: int = 4  # wavenumber of the force
    tau: float = 0.02  # step of the solver
    num_substeps: int = 15  # of the solver, between snapshots
    num_warmup: int = 60  # snapshots left out, until the initial condition is forgotten
    num_train: int = 40  # trajectories
    num_test: int = 8
    num_snapshots: int = 40  # per trajectory, after its first
    num_rollout: int = 10  # predictions of the network from its own
    num_steps: int = 500
    batch_size: int = 16
    learning_rate: float = 1e-2
    num_modes: int = 8
    num_blocks: int = 4
    widths: tuple[int, ...] = (6, 10, 16)  # with dense and with axiswise weights
    width: int = 16  # with CP weights, and without spectral layers
    ranks: tuple[int, ...] = (4, 16, 64)
    num_seeds: int = 3


SHORT = Settings(
    num_fine=32,
    num_points=16,
    num_warmup=5,
    num_train=8,
    num_test=4,
    num_snapshots=20,
    num_steps=60,
    num_modes=4,
    num_blocks=2,
    widths=(8,),
    width=8,
    ranks=(8,),
    num_seeds=2,
)


@dataclass(frozen=True)
class Kolmogorov:
    """Solves Kolmogorov flow, a fluid in two dimensions that is driven by a force `sin(n y)` along
    `x`, by a pseudo-spectral method (G. J. Chandler and R. R. Kerswell, J. Fluid Mech. 722, 2013,
    for the equation).

    On a square of side `2 pi`, periodic, with the stream function `u = psi_y`, `v = -psi_x` and the
    vorticity `w = v_x - u_y = -(psi_xx + psi_yy)`,

        w_t + (u w)_x + (v w)_y = viscosity (w_xx + w_yy) - drag w - n cos(n y).

    Products have modes up to `2 k`, of which the mode `m` takes the shape of the mode `N - m` on
    the `N` points: with wavenumbers `k < N / 3`, none of these is a kept one.
    """

    num_points: int
    viscosity: float
    drag: float
    forcing: int

    @cached_property
    def waves(self) -> tuple[Float[np.ndarray, "x 1"], Float[np.ndarray, "1 y"]]:
        """Gives the wavenumbers along `x`, and those along `y` without the negative ones, which the
        fields' being real gives.
        """
        along = np.fft.fftfreq(self.num_points, 1 / self.num_points)
        across = np.arange(self.num_points // 2 + 1.0)
        return along[:, None], across[None]

    @cached_property
    def squares(self) -> Float[np.ndarray, "x y"]:
        return self.waves[0] ** 2 + self.waves[1] ** 2

    @cached_property
    def kept(self) -> Float[np.ndarray, "x y"]:
        """Gives 1 for the modes that are kept, else 0. The mean of the vorticity is 0."""
        along, across = (3 * np.abs(waves) < self.num_points for waves in self.waves)
        return 1.0 * (along & across & (self.squares > 0))

    @cached_property
    def rates(self) -> Float[np.ndarray, "x y"]:
        """Says how fast viscosity and drag damp each mode."""
        return self.viscosity * self.squares + self.drag

    @cached_property
    def laminar(self) -> Complex[np.ndarray, "x y"]:
        """Gives the steady flow along `x`, in which the force and the damping are in balance."""
        modes = np.zeros(self.squares.shape, complex)
        modes[0, self.forcing] = -self.forcing / 2 / self.rates[0, self.forcing]
        return modes

    def values(self, modes: Complex[Array, "x k"]) -> Float[Array, "x y"]:
        """Computes the sum of the modes at the points."""
        return jnp.fft.irfft2(modes, (self.num_points,) * 2, norm="forward")

    def modes(self, values: Float[Array, "x y"]) -> Complex[Array, "x k"]:
        """Computes the amplitudes of the kept modes."""
        return self.kept * jnp.fft.rfft2(values, norm="forward")

    def tendency(self, vorticity: Complex[Array, "x k"]) -> Complex[Array, "x k"]:
        """Computes the time derivative without viscosity, drag and force."""
        along, across = (1j * waves for waves in self.waves)
        psi = vorticity / np.where(self.squares > 0, self.squares, 1)
        w = self.values(vorticity)
        u, v = self.values(across * psi), self.values(-along * psi)
        return -along * self.modes(u * w) - across * self.modes(v * w)

    def step(self, vorticity: Complex[Array, "x k"], tau: float) -> Complex[Array, "x k"]:
        """Takes a step of the classical Runge-Kutta method for the deviation from the laminar flow,
        times `exp(rates t)`: that leaves viscosity, drag and force exact.
        """
        half = np.exp(-self.rates * tau / 2)
        tendency = lambda deviation: self.tendency(self.laminar + deviation)
        deviation = vorticity - self.laminar
        first = tendency(deviation)
        second = tendency(half * (deviation + tau / 2 * first))
        third = tendency(half * deviation + tau / 2 * second)
        fourth = tendency(half * (half * deviation + tau * third))
        return (
            self.laminar
            + half * (half * (deviation + tau / 6 * first) + tau / 3 * (second + third))
            + tau / 6 * fourth
        )


def random_vorticity(solver: Kolmogorov, key: PRNGKeyArray) -> Complex[Array, "x k"]:
    """Draws white noise and keeps its waves of wavenumbers near 4 and below."""
    noise = jr.normal(key, (solver.num_points,) * 2)
    return 0.5 * solver.num_points * np.exp(-solver.squares / 16) * solver.modes(noise)


def coarsen(modes: Complex[Array, "x k"], num_points: int) -> Float[Array, "x y"]:
    """Evaluates the field on a grid of `num_points` per axis, from the modes that are waves on it,
    without those of two points per wave.
    """
    most = num_points // 2
    low = jnp.concatenate([modes[:most], jnp.zeros_like(modes[:1]), modes[1 - most :]])
    low = low[:, : most + 1].at[:, most].set(0)
    return jnp.fft.irfft2(low, (num_points,) * 2, norm="forward")


def simulate(settings: Settings, num_samples: int, seed: int) -> Float[np.ndarray, "S T+1 1 x y"]:
    """Trajectories of the vorticity from random initial conditions, once these are forgotten."""
    solver = Kolmogorov(settings.num_fine, settings.viscosity, settings.drag, settings.forcing)

    def advance(modes, _):
        substep = lambda _, modes: solver.step(modes, settings.tau)
        following = jax.lax.fori_loop(0, settings.num_substeps, substep, modes)
        return following, coarsen(modes, settings.num_points)

    def trajectory(key):
        length = settings.num_warmup + settings.num_snapshots + 1
        _, fields = jax.lax.scan(advance, random_vorticity(solver, key), length=length)
        return fields[settings.num_warmup :]

    with jax.enable_x64(True):
        fields = jax.jit(jax.vmap(trajectory))(jr.split(jr.key(seed), num_samples))
        return np.asarray(fields)[:, :, None].astype(np.float32)


class Emulator(eqx.Module):
    """Takes one step in time, `w + scale * network(w, force)`: with `scale` the size of a typical
    increment, the network's outputs have a size near 1. The curl of the force is an input, so that
    the network can know where it is.
    """

    network: eqx.Module
    scale: float = eqx.field(static=True)
    forcing: int = eqx.field(static=True)

    def __call__(self, w: Float[Array, "1 x y"]) -> Float[Array, "1 x y"]:
        angles = 2 * np.pi * np.arange(w.shape[2]) / w.shape[2]
        force = np.broadcast_to(-np.cos(self.forcing * angles), w.shape).astype(w.dtype)
        return w + self.scale * self.network(jnp.concatenate([w, force]))


def nothing(x: Float[Array, "C x y"]) -> Float[Array, ""]:
    """Takes the place of a spectral convolution: what the pointwise one beside it is added to."""
    return jnp.zeros((), x.dtype)


def make_emulator(
    settings: Settings, width: int, weights: Any, scale: float, key: PRNGKeyArray
) -> Emulator:
    """Makes an emulator with a kind of weights, or with `None` one without spectral convolutions.

    The weight scale is a tenth of what keeps the variance of most kept modes.
    """
    from networks import FNO

    network_key, *keys = jr.split(key, 1 + settings.num_blocks)
    network = FNO(
        2, 2, 1, width=width, num_modes=1, num_blocks=settings.num_blocks, key=network_key
    )
    spectral = settings.num_blocks * [nothing]
    if weights is not None:
        scaled = {"weights": weights, "weight_scale": 0.1 * (2 * width) ** -0.5}
        spectral = [
            SpectralConv(2, width, width, settings.num_modes, **scaled, key=key) for key in keys
        ]
    network = eqx.tree_at(lambda network: network.spectral, network, spectral)
    return Emulator(network, scale, settings.forcing)


DENSE, AXISWISE, CP, NONE = "dense", "axiswise", "CP", "no spectral layers"


def configurations(settings: Settings) -> list[tuple[str, str, int, Any]]:
    """Lists kind, size in words, width and weights of all networks."""
    sizes = [
        (kind, f"width {width}", width, kind)
        for kind in (DENSE, AXISWISE)
        for width in settings.widths
    ]
    sizes += [
        (CP, f"rank {rank}, width {settings.width}", settings.width, ("cp", rank))
        for rank in settings.ranks
    ]
    return [*sizes, (NONE, f"width {settings.width}", settings.width, None)]


def draw(rows: list[dict[str, Any]], still: dict[str, float]) -> "Figure":
    """Errors against numbers of parameters, of one step and of several: every run as a dot, the
    medians of each kind of weights as a line. A line across is a prediction of no change.
    """
    import common
    from matplotlib import colormaps, pyplot as plt
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

    common.style()
    figure, panels = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained", sharex=True)
    ticks = [a * 10.0**b for b in range(-3, 2) for a in (1, 1.5, 2, 3, 4, 5, 6, 7, 8)]
    for panel, (name, error) in zip(panels, still.items(), strict=True):
        for kind, colour in zip(
            (DENSE, AXISWISE, CP, NONE), colormaps["Dark2"].colors, strict=False
        ):
            found = [row for row in rows if row["weights"] == kind]
            sizes = [row["parameters"] for row in found]
            medians = [np.median(row[name]) for row in found]
            panel.plot(sizes, medians, color=colour, linewidth=1.4)
            panel.plot([], [], ".-", color=colour, label=kind, markersize=6, linewidth=1.4)
            for row in found:
                xs = [row["parameters"]] * len(row[name])
                panel.plot(xs, row[name], ".", color=colour, markersize=6)
        panel.axhline(error, color="0.4", linewidth=0.8, linestyle=":", label="no change")
        panel.set(xscale="log", yscale="log", xlabel="parameters", ylabel=f"relative error, {name}")
        panel.yaxis.set_major_locator(FixedLocator(ticks))
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.yaxis.set_minor_formatter(NullFormatter())
    common.legend_above(figure, panels[0])
    return figure


def main() -> None:
    import common
    import comparison
    import stored

    options = common.parse_options(__doc__)
    settings = SHORT if options.short else Settings()
    trajectories = simulate(settings, settings.num_train + settings.num_test, options.seed)
    train, test = np.split(trajectories, [settings.num_train])
    before, after = comparison.pairs(train)
    scale = float(np.std(after - before))
    one_step, rollout = "one step", f"{settings.num_rollout} steps"
    # Initial fields, and what follows.
    first, second = comparison.pairs(test)
    truths = {
        one_step: (first, second[:, None]),
        rollout: (test[:, 0], test[:, 1 : settings.num_rollout + 1]),
    }

    def errors(predict: Callable[..., np.ndarray]) -> dict[str, float]:
        """Computes the relative errors of the last step, means over the samples."""
        found = {}
        for name, (initial, truth) in truths.items():
            prediction = np.asarray(predict(initial, truth.shape[1]))[:, -1]
            error = common.relative_error(prediction, truth[:, -1], 3).mean()
            found[name] = float(f"{error:.4g}")
        return found

    still = errors(lambda initial, num_steps: initial[:, None])
    rows = []
    for kind, size, width, weights in configurations(settings):
        row = {one_step: [], rollout: []}
        for run in range(settings.num_seeds):
            seed = options.seed + run
            # Equal seeds give equal batches.
            emulator, _ = common.train(
                make_emulator(settings, width, weights, scale, jr.key(seed)),
                comparison.loss,
                (before, after),
                **comparison.training(settings),
                seed=seed,
                label=f"{kind}, {size} {run + 1}/{settings.num_seeds}",
            )
            for name, error in errors(
                lambda initial, num_steps, emulator=emulator: comparison.roll_out(
                    emulator, initial, num_steps
                )
            ).items():
                row[name].append(error)
        parameters = common.num_parameters(emulator)
        rows.append({"weights": kind, "size": size, "parameters": parameters, **row})

    results = {
        "seed": options.seed,
        "settings": asdict(settings),
        "errors of no change": still,
        "results": rows,
    }
    figure = lambda: draw(rows, still)
    common.report(options.output, "parameters", results, stored.parameters, figure)

    # The last has no spectral layers.
    for row in rows[:-1]:
        comparison.demand_less(f"{row['weights']}, {row['size']}", row[one_step], still[one_step])


if __name__ == "__main__":
    main()
