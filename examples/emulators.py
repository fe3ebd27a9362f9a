"""Trains two emulators of the Kuramoto-Sivashinsky equation, a U-Net and a Fourier neural operator,
and compares them on trajectories that they have not seen. Run it by `hatch run examples:emulators`.
"""

from dataclasses import asdict, dataclass

import common
import equinox as eqx
import exponax as ex
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pages
from jaxtyping import Array, Float, PRNGKeyArray
from matplotlib import colormaps, pyplot as plt
from matplotlib.figure import Figure
from networks import FNO, UNet


@dataclass(frozen=True)
class Settings:
    domain_extent: float = 60.0
    num_points: int = 128
    dt: float = 1.0  # between snapshots
    num_substeps: int = 10  # of the solver, between snapshots
    num_warmup: int = 150  # snapshots left out, until the chaotic regime is reached
    num_train: int = 64  # trajectories
    num_test: int = 32
    num_snapshots: int = 120  # per training trajectory, after its first
    num_rollout: int = 50  # steps of a held-out trajectory
    unet_steps: int = 2000
    fno_steps: int = 1500
    batch_size: int = 16


SHORT = Settings(num_train=16, num_test=8, unet_steps=250, fno_steps=100)

# Steps of the rollout at which the table has a column, and the last step of its mean.
STEPS = (10, 20, 30)
MEAN_TO = 20


class Emulator(eqx.Module):
    """Takes one step in time, `u + scale * network(u)`: with `scale` the size of a typical
    increment, the network's outputs have a size near 1.
    """

    network: eqx.Module
    scale: float = eqx.field(static=True)

    def __call__(self, u: Float[Array, "1 N"]) -> Float[Array, "1 N"]:
        return u + self.scale * self.network(u)


def simulate(settings: Settings, num_samples: int, key: PRNGKeyArray) -> Float[Array, "S T+1 1 N"]:
    """Trajectories of `u_t + (u^2 / 2)_x + u_xx + u_xxxx = 0` on a periodic domain, from random
    initial conditions, by the exponential time differencing of exponax.
    """
    stepper = ex.RepeatedStepper(
        ex.stepper.KuramotoSivashinskyConservative(
            1, settings.domain_extent, settings.num_points, settings.dt / settings.num_substeps
        ),
        settings.num_substeps,
    )
    initial = ex.build_ic_set(
        ex.ic.RandomTruncatedFourierSeries(1, cutoff=8, max_one=True),
        num_points=settings.num_points,
        num_samples=num_samples,
        key=key,
    )
    num_steps = settings.num_warmup + settings.num_snapshots
    trajectories = jax.jit(jax.vmap(ex.rollout(stepper, num_steps, include_init=True)))(initial)
    return trajectories[:, settings.num_warmup :]


def loss(
    emulator: Emulator, before: Float[Array, "B 1 N"], after: Float[Array, "B 1 N"]
) -> Float[Array, ""]:
    """Computes the mean squared one-step error, in units of the squared typical increment."""
    error = (jax.vmap(emulator)(before) - after) / emulator.scale
    return jnp.mean(error**2)


@eqx.filter_jit
def predict(emulator: Emulator, states: Float[Array, "S T 1 N"]) -> Float[Array, "S T 1 N"]:
    """Predicts one step from every state."""
    return jax.vmap(jax.vmap(emulator))(states)


@eqx.filter_jit
def roll_out(
    emulator: Emulator, initial: Float[Array, "S 1 N"], num_steps: int
) -> Float[Array, "S T 1 N"]:
    """Applies the emulator to its own output, over and over."""
    return jax.vmap(ex.rollout(emulator, num_steps))(initial)


def evaluate(
    one_step: np.ndarray, rollout: np.ndarray, test: np.ndarray
) -> tuple[dict[str, float], np.ndarray]:
    """Computes the numbers of a row, and the rollout errors as an array of shape `(samples,
    steps)`.

    **Arguments:**

    - `one_step`: Of shape `(samples, steps, 1, N)`, each state predicted from the true one before.
    - `rollout`: The same, predicted only from the first state.
    - `test`: The truth, of shape `(samples, steps + 1, 1, N)`.
    """
    errors = common.relative_error(rollout, test[:, 1:], 2)
    numbers = {"one step": common.relative_error(one_step, test[:, 1:], 2).mean()}
    numbers |= {f"step {step}": errors[:, step - 1].mean() for step in STEPS}
    numbers[f"mean of steps 1-{MEAN_TO}"] = errors[:, :MEAN_TO].mean()
    return {name: float(f"{value:.4g}") for name, value in numbers.items()}, errors


def draw(
    settings: Settings, truth: np.ndarray, rollouts: dict[str, np.ndarray], errors: dict
) -> Figure:
    """Draws truth, predictions and their errors over time (horizontal) and space (vertical), and
    the growth of the error.

    **Arguments:**

    - `truth`: Of shape `(T + 1, N)`.
    - `rollouts`: The predictions of each emulator, of the same shape.
    - `errors`: The errors of each row of the table, of shape `(samples, T)`.
    """
    common.style(title_size=9.5)
    figure, axes = plt.subplots(2, 3, figsize=(8, 4), layout="constrained")
    times = settings.dt * np.arange(1, len(truth))
    extent = (0, times[-1], 0, settings.domain_extent)
    limit = np.ceil(np.abs(truth).max())

    def field(panel, values, title):
        panel.set_title(title)
        return common.draw_field(panel, values, extent, limit, aspect="auto")

    field(axes[0, 0], truth, "Truth")
    for column, (name, rollout) in enumerate(rollouts.items(), start=1):
        shown = field(axes[0, column], rollout, name)
        difference = field(axes[1, column], rollout - truth, f"{name} − truth")
    figure.colorbar(shown, ax=axes[0, :], label="field u", pad=0.01, aspect=14)
    figure.colorbar(difference, ax=axes[1, :], label="error in u", pad=0.01, aspect=14)

    curve = axes[1, 0]
    colours = ["0.45", *colormaps["Dark2"].colors[:2]]
    for (name, error), colour in zip(errors.items(), colours, strict=True):
        common.draw_band(curve, times, error, colour=colour, label=name, quantiles=(0.1, 0.9))
    curve.set(
        yscale="log",
        xlim=extent[:2],
        ylabel="relative error",
        title=f"Error on {settings.num_test} held-out runs",
    )
    curve.legend(frameon=False, loc="lower right", handlelength=1.4)

    for panel in (axes[0, 0], axes[1, 1]):
        panel.set_ylabel("space x")
    for panel in axes[1]:
        panel.set_xlabel("time t")
    for panel in axes[:, 2]:
        panel.tick_params(labelleft=False)
    for panel in axes[0]:
        panel.tick_params(labelbottom=False)
    return figure


def main() -> None:
    options = common.parse_options(__doc__)
    settings = SHORT if options.short else Settings()
    data_key, unet_key, fno_key = jr.split(jr.key(options.seed), 3)

    trajectories = simulate(settings, settings.num_train + settings.num_test, data_key)
    train, test = np.split(np.asarray(trajectories), [settings.num_train])
    test = test[:, : settings.num_rollout + 1]
    before, after = (
        part.reshape(-1, 1, settings.num_points) for part in (train[:, :-1], train[:, 1:])
    )
    scale = float(np.std(after - before))

    networks = {
        "U-Net": (
            UNet(1, 1, 1, width=24, num_levels=3, boundary_mode="periodic", key=unet_key),
            settings.unet_steps,
            4e-3,
        ),
        "FNO": (
            FNO(1, 1, 1, width=32, num_modes=32, num_blocks=4, key=fno_key),
            settings.fno_steps,
            3e-3,
        ),
    }
    still = np.broadcast_to(test[:, :1], test[:, 1:].shape)
    numbers, errors, rollouts = {}, {}, {}
    numbers["persistence"], errors["persistence"] = evaluate(test[:, :-1], still, test)
    for name, (network, num_steps, learning_rate) in networks.items():
        emulator, seconds = common.train(
            Emulator(network, scale),
            loss,
            (before, after),
            num_steps=num_steps,
            batch_size=settings.batch_size,
            learning_rate=learning_rate,
            seed=options.seed,
            label=f"{name:<5}",
        )
        one_step = np.asarray(predict(emulator, test[:, :-1]))
        rollouts[name] = np.asarray(roll_out(emulator, test[:, 0], settings.num_rollout))
        numbers[name], errors[name] = evaluate(one_step, rollouts[name], test)
        numbers[name]["parameters"] = common.num_parameters(network)
        numbers[name]["training time in s"] = round(seconds, 1)

    results = {"seed": options.seed, "settings": asdict(settings), "results": numbers}
    shown = {
        name: np.concatenate([test[0, :1, 0], rollout[0, :, 0]])
        for name, rollout in rollouts.items()
    }
    figure = lambda: draw(settings, test[0, :, 0], shown, errors)
    common.report(options.output, "emulators", results, pages.emulators, figure)

    for name in networks:
        for column in ("one step", f"mean of steps 1-{MEAN_TO}"):
            if not numbers[name][column] < numbers["persistence"][column]:
                raise SystemExit(
                    f"{name} does not beat persistence: its error is {numbers[name][column]} "
                    f"against {numbers['persistence'][column]} ({column})."
                )


if __name__ == "__main__":
    main()
