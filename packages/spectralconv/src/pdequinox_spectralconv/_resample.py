"""Evaluates fields on other grids of the same domain, and applies activations between two grids."""

import math
from collections.abc import Callable
from numbers import Real
from typing import Any, no_type_check

import equinox as eqx
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, PRNGKeyArray

from pdequinox_operators.checks import array, Integers, integers
from pdequinox_padding import BoundaryMode

from ._basis import boundary_with_waves, runs_of_both_grids
from ._operator import evaluate_on


@no_type_check
def resample(x: ArrayLike, shape: Integers, boundary_mode: BoundaryMode = "periodic") -> Array:
    """Evaluates a field on another grid of the same domain.

    The field is expanded into the waves of its boundary condition, as many as both grids hold, and
    these are evaluated at the new points. So a field that consists of these waves is exact there.
    On a coarser grid, higher waves are left out, and do not come back as lower ones (no aliasing).

    Each axis is treated separately. From `N` points to `M`, with `K = min(N, M)`:

    - Periodic: `y(t) = 1/N sum over |k| < K/2 of X_k exp(2 pi i k t)`, with `X_k = sum over j of
        x_j exp(-2 pi i k j/N)` and `t = i/M`. If `K` is even, the wave of `K/2`, which alternates
        from point to point of the coarser grid, is added as a cosine: `Re(X_(K/2)) / N` times
        `cos(pi N t)` if the field is on the coarser grid, and twice that times `cos(pi M t)` if it
        is on the finer one.
    - Between walls: the first `K` of the sines or cosines of
        [`pdequinox_spectralconv.SpectralConv`][], with the coefficients of the expansion into all
        `N`. The walls stay where they are: `N` nodes of `"neumann"` become `M` nodes between the
        same two, and `N` cells become `M` cells.

    Devices that share an axis of space exchange blocks of it for whole lines, and back. These are
    two all-to-alls. No device has more of the field than before, as long as there are at least as
    many lines as devices. If the devices do not divide the new number of points, XLA gathers the
    axis.

    **Arguments:**

    - `x`: One sample, of shape `(channels, N_1, ..., N_D)`; batches go through `jax.vmap`. Half
        precision is summed in float32.
    - `shape`: The numbers of points of the other grid: an integer for all axes, or a sequence of
        `D` integers.
    - `boundary_mode`: What the field is outside the grid, in the forms that
        [`pdequinox_spectralconv.SpectralConv`][] takes.

    **Returns:**

    An array of shape `(channels, *shape)`.

    **Raises:** `ValueError` or `TypeError` for a field that has no points, is not real or has sizes
    that `jax.export` leaves open, for a `shape` of another form, and for a boundary mode without
    waves.
    """
    x = _field(x)
    points = integers(shape, x.ndim - 1, "shape")
    boundary = boundary_with_waves(boundary_mode, x.ndim - 1, x.shape[0], "boundary_mode")
    return evaluate_on(x, runs_of_both_grids(boundary, x.shape[0], x.shape[1:], points), points)


def _field(x: Any) -> Array:
    """Checks that `x` is one sample of a real field on a grid of known size."""
    x = array(x)
    if x.ndim < 2 or 0 in x.shape:
        raise ValueError(
            "`x` must have shape (channels, N_1, ..., N_D) with D and every size at least 1, got "
            f"{x.shape}."
        )
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"`x` must be an array of real floats, got dtype {x.dtype.name}.")
    if not all(isinstance(n, int) for n in x.shape):
        raise ValueError(
            "`x` must have known sizes, because its waves depend on them, got shape "
            f"{x.shape}; only the batch may be open."
        )
    return x


class AliasFree(eqx.Module):
    """Applies an activation on a finer grid; made by [`pdequinox_spectralconv.alias_free`][]."""

    activation: Callable[[Array], Array]
    factor: float = eqx.field(static=True)
    boundary_mode: Any = eqx.field(static=True)

    @no_type_check
    def __call__(self, x: ArrayLike, *, key: PRNGKeyArray | None = None) -> Array:
        """Applies the activation to one sample, `(channels, N_1, ..., N_D)`."""
        del key
        x = _field(x)
        finer = tuple(math.ceil(self.factor * n) for n in x.shape[1:])
        fine = resample(x, finer, self.boundary_mode)
        active = array(self.activation(fine), "activation(x)")
        if (active.shape, active.dtype) != (fine.shape, fine.dtype):
            raise ValueError(
                "`activation` must keep the shape and the dtype of a field, got "
                f"{active.shape} and {active.dtype} for {fine.shape} and {fine.dtype}."
            )
        return resample(active, x.shape[1:], self.boundary_mode)


@no_type_check
def alias_free(
    activation: Callable[[Array], Array],
    factor: int | float = 2,
    boundary_mode: BoundaryMode = "periodic",
) -> AliasFree:
    """Makes an activation that adds no aliasing. It evaluates the field on a finer grid, applies
    the activation there, and goes back without the waves that the first grid does not hold.

    A pointwise function of a field makes waves that a grid does not hold and takes for lower ones.
    On a grid more than `(p + 1) / 2` times as fine, a polynomial of degree `p` makes no such waves;
    at exactly that ratio, at most the wave that alternates from point to point is wrong. For other
    functions, aliasing shrinks as `factor` grows (Raonić et al., "Convolutional Neural Operators",
    https://arxiv.org/abs/2302.01178, who filter with windowed sincs).

    Between odd walls (`"dirichlet..."`), the activation must be odd, as `jax.numpy.tanh` is. Even
    parts of the result are projected onto sines, and values that are not 0 at the wall come back as
    oscillations near it.

    **Arguments:**

    - `activation`: A function of an array of any shape that acts on every number separately; or a
        module, whose parameters are trained with the others.
    - `factor`: The number of points of the finer grid on each axis, divided by that of the first
        grid: a number of at least 1. Numbers of points are rounded up.
    - `boundary_mode`: What the field is outside the grid, in the forms that
        [`pdequinox_spectralconv.SpectralConv`][] takes.

    **Returns:**

    An `equinox.Module` that takes one sample, of shape `(channels, N_1, ..., N_D)`, and gives a
    sample of the same shape.

    **Raises:** `TypeError` or `ValueError` for another kind of `factor` or `activation`. When it is
    called, it raises what [`pdequinox_spectralconv.resample`][] does.
    """
    if not callable(activation):
        raise TypeError(f"`activation` must be callable, got {activation!r}.")
    if isinstance(factor, bool) or not isinstance(factor, Real):
        raise TypeError(f"`factor` must be a number >= 1, got {factor!r}.")
    if not 1 <= factor < math.inf:
        raise ValueError(f"`factor` must be a number >= 1, got {factor!r}.")
    return AliasFree(activation, float(factor), _hashable(boundary_mode))


def _hashable(boundary_mode: Any) -> Any:
    """Turns lists into tuples: the static fields of a module are compared and hashed."""
    if type(boundary_mode) in (list, tuple):
        return tuple(_hashable(entry) for entry in boundary_mode)
    return boundary_mode
