"""What the experiments share: finite volumes between two walls, steps of trajectories, emulators
applied over and over, and errors on parts of a domain.
"""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


def heat_matrices(
    num_across: int, num_along: int, spacing: float
) -> tuple[Float[np.ndarray, "across across"], Float[np.ndarray, "along along"]]:
    """Gives the finite-volume matrices of `-u_xx` on an axis from a cold to an insulated wall, and
    on a periodic one.

    Heat flows at `(u_1 - u_2) / h` between neighbouring cells of width `h`, and at `u / (h / 2)`
    through the cold wall, which is half a cell from its cell's centre: `(3 u_1 - u_2) / h^2` there,
    and `(u_n - u_{n-1}) / h^2` at the insulated wall. (S. V. Patankar, Numerical Heat Transfer and
    Fluid Flow, 1980, chapter 4.)
    """
    across = np.diag(np.r_[3.0, np.full(num_across - 2, 2.0), 1.0])
    across -= np.eye(num_across, k=1) + np.eye(num_across, k=-1)
    eye = np.eye(num_along)
    along = 2 * eye - np.roll(eye, 1, axis=0) - np.roll(eye, -1, axis=0)
    return across / spacing**2, along / spacing**2


def with_coordinate(u: Float[Array, "C across along"]) -> Float[Array, "C+1 across along"]:
    """Appends the coordinate across the domain as a channel, from -1 to 1 between the walls."""
    _, across, along = u.shape
    y = (2 * jnp.arange(across, dtype=u.dtype) + 1) / across - 1
    return jnp.concatenate([u, jnp.broadcast_to(y[:, None], (1, across, along))])


def training(settings: Any) -> dict[str, Any]:
    """Gives the settings that `common.train` takes."""
    return {
        "num_steps": settings.num_steps,
        "batch_size": settings.batch_size,
        "learning_rate": settings.learning_rate,
    }


def pairs(
    trajectories: Float[np.ndarray, "S T+1 *field"],
) -> tuple[Float[np.ndarray, "S*T *field"], Float[np.ndarray, "S*T *field"]]:
    """Gives all fields that a step starts from, and those that it leads to."""
    flat = lambda fields: fields.reshape(-1, *fields.shape[2:])
    return flat(trajectories[:, :-1]), flat(trajectories[:, 1:])


def loss(
    emulator: Any, before: Float[Array, "B C *space"], after: Float[Array, "B C *space"]
) -> Float[Array, ""]:
    """Gives the mean squared error of one step, in units of the squared typical increment."""
    return jnp.mean(((jax.vmap(emulator)(before) - after) / emulator.scale) ** 2)


@eqx.filter_jit
def roll_out(
    emulator: eqx.Module, initial: Float[Array, "S C *space"], num_steps: int
) -> Float[Array, "S T C *space"]:
    """Applies the emulator to its own output, over and over."""

    def step(u, _):
        u = jax.vmap(emulator)(u)
        return u, u

    return jnp.swapaxes(jax.lax.scan(step, initial, length=num_steps)[1], 0, 1)


def error_map(
    prediction: Float[np.ndarray, "S C *space"], truth: Float[np.ndarray, "S C *space"]
) -> Float[np.ndarray, "*space"]:
    """Gives the squared error of each cell, over the squared truth of the average cell: means over
    the samples. Its mean over any cells is the square of the relative error there.
    """
    return np.mean((prediction - truth) ** 2, axis=(0, 1)) / np.mean(truth**2)


def relative_errors(parts: dict[str, Float[np.ndarray, "runs *cells"]]) -> dict[str, list[float]]:
    """Gives the relative errors on parts of the domain, one per run, from the error maps there."""
    return {
        name: [float(f"{np.sqrt(run.mean()):.4g}") for run in part] for name, part in parts.items()
    }


def typical_sample(
    predictions: Sequence[Float[np.ndarray, "S C *space"]], truth: Float[np.ndarray, "S C *space"]
) -> int:
    """Finds the sample on which the errors of all networks are nearest to those on average."""
    squares = np.mean((np.stack(predictions) - truth) ** 2, axis=tuple(range(2, truth.ndim + 1)))
    ratios = squares / squares.mean(axis=1, keepdims=True)
    return int(np.argmin(np.abs(np.log(ratios)).max(axis=0)))


def demand_less(name: str, errors: Sequence[float], still: float) -> None:
    """Ends the program if the median of the errors is not below that of a prediction of no change,
    or of 0.
    """
    error = np.median(errors)
    if not error < still:
        raise SystemExit(
            f"{name}: the network is no better than a prediction without one: its error is {error} "
            f"against {still}."
        )
