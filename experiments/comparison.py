"""What the experiments share: finite volumes between two walls, emulators applied over and over,
and errors on parts of a domain.
"""

from collections.abc import Sequence

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


def median_and_range(runs: Sequence[float], digits: int = 3) -> str:
    """Writes `median (least-greatest)`, or the number if there is one run."""
    middle, low, high = (f"{f(runs):.{digits}f}" for f in (np.median, np.min, np.max))
    return middle if len(runs) == 1 else f"{middle} ({low}-{high})"
