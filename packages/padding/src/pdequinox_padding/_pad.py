"""`pad`: the extension of a field over its boundary, as slices and concatenations."""

from collections.abc import Sequence
from typing import Any, NamedTuple, TYPE_CHECKING, TypeAlias

import jax.lax as lax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array

from ._boundary import BoundaryMode, Ends, parse_boundary_mode
from ._extension import Run, runs, source
from .arguments import array, widths as parse_widths


if TYPE_CHECKING:
    from .arguments import Integer

    WallValue: TypeAlias = ArrayLike | tuple["WallValue | None", ...] | None
    AxisWidths: TypeAlias = Sequence[Integer | Sequence[Integer]]
else:
    # See `BoundaryMode`: the checks below have the better messages.
    WallValue = AxisWidths = Any

WallPair: TypeAlias = tuple[Array | None, Array | None]

_ODD = ("dirichlet_node", "dirichlet_cell")
_WITH_VALUE = ("dirichlet", *_ODD)


def pad(
    x: ArrayLike,
    widths: AxisWidths,
    boundary_mode: BoundaryMode,
    value: WallValue = None,
) -> Array:
    """Extends the trailing axes of an array over the boundary of the grid.

    With `x[0..N-1]` one axis and `e[j]` its extension to every integer `j`:

    - `"periodic"`: `e[j] = x[j mod N]`. For periodic domains.
    - `"dirichlet"`: 0 outside. For fields that vanish outside of the grid.
    - `"neumann"`: even about the end nodes, `e[-j] = x[j]` and `e[N-1+j] = x[N-1-j]`. For no flux
        through walls with nodes on them.
    - `"neumann_cell"`: even about the end faces, `e[-1-j] = x[j]` and `e[N+j] = x[N-1-j]`. For no
        flux through the walls of a cell-centred grid.
    - `"dirichlet_node"`: odd about wall nodes that are not stored, `e[-1] = 0`, `e[-2-j] = -x[j]`,
        `e[N] = 0` and `e[N+1+j] = -x[N-1-j]`. For the value 0 on walls whose nodes the grid lacks.
    - `"dirichlet_cell"`: odd about the end faces, `e[-1-j] = -x[j]` and `e[N+j] = -x[N-1-j]`. For
        the value 0 on the walls of a cell-centred grid.
    - `"outflow"`: `x[0]` before, `x[N-1]` after. For open boundaries.

    Extensions repeat, however short the axis and wide the padding. Where the modes at the two ends
    differ, each end's formula is applied in turn. (Symmetric extensions of all kinds: S. A.
    Martucci, "Symmetric convolution and the discrete sine and cosine transforms", IEEE Trans.
    Signal Process. 42, 1994.)

    The axes are extended one after the other, the first one first. The result is exactly linear
    in `x`, affine with a `value`.

    **Arguments:**

    - `x`: An array of shape `(*leading, N_1, ..., N_D)`, usually `(channels, N_1, ..., N_D)`, and
        of any dtype; of a signed one, where an extension is odd.
    - `widths`: `D` entries, one per padded axis, each an integer or a pair `(lower, upper)` of
        integers, at least 0: the number of points to add at the two ends.
    - `boundary_mode`: A name for every axis, or a sequence of `D` entries, each a name or a pair
        `(lower, upper)` of names. See [`pdequinox_padding.parse_boundary_mode`][].
    - `value`: The Dirichlet value `v` of inhomogeneous walls, in the units of the field; `None` is
        0. For `"dirichlet"` it is the constant outside. For `"dirichlet_node"` and
        `"dirichlet_cell"` it is the wall value that the odd extension is taken about, so that
        `-x` above becomes `2 v - x` and the wall node holds `v`. A scalar, or an array or list
        that broadcasts against the leading axes: one value per channel, usually, of shape
        `(channels,)` or `(channels, 1, ..., 1)`. A tuple is never that: it has `D` entries, one
        per axis, each `None`, a value, or a tuple of the two at the lower and the upper end.

    **Returns:**

    An array of the dtype of `x` and of shape `(*leading, lower_1 + N_1 + upper_1, ...)`.

    **Raises:** `ValueError` or `TypeError` for widths, modes and values that do not fit `x`, and
    for axes without points.
    """
    x, extensions = pad_arguments(x, widths, boundary_mode, value)
    for extension in extensions:
        x = pad_axis(x, extension)
    return x


class Extension(NamedTuple):
    """How one axis is to be extended: the widths, the modes and the wall values at its ends."""

    axis: int
    widths: tuple[int, int]
    ends: Ends
    values: WallPair


def pad_arguments(
    x: Any, widths: Any, boundary_mode: Any, value: Any
) -> tuple[Array, list[Extension]]:
    """The arguments of `pad`, checked: the array, and the axes to extend in their order."""
    x = array(x)
    num_spatial_dims = _number_of_axes(widths, x)
    pairs = parse_widths(widths, num_spatial_dims, "widths")
    ends = parse_boundary_mode(boundary_mode, num_spatial_dims)
    axes = range(x.ndim - num_spatial_dims, x.ndim)
    if 0 in x.shape[axes.start :]:
        raise ValueError(f"`x` must have at least one point on every padded axis, got {x.shape}.")
    odd = sorted({mode for pair in ends for mode in pair} & set(_ODD))
    if odd and (jnp.issubdtype(x.dtype, jnp.unsignedinteger) or x.dtype == bool):
        raise TypeError(f"`x` must be of a signed dtype to be extended by {odd}, got {x.dtype}.")
    values = _wall_values(value, ends, x, num_spatial_dims)
    return x, [Extension(*each) for each in zip(axes, pairs, ends, values, strict=True)]


def _number_of_axes(widths: Any, x: Array) -> int:
    try:
        number = None if isinstance(widths, str) else len(widths)
    except TypeError:
        number = None
    allowed = (
        "`widths` must be a sequence of one entry per padded axis, of which `x` of shape "
        f"{x.shape} has at most {x.ndim}, got {widths!r}."
    )
    if number is None:
        raise TypeError(allowed)
    if not 1 <= number <= x.ndim:
        raise ValueError(allowed)
    return number


def _kind(x: Array) -> int:
    kinds = (jnp.bool_, jnp.integer, jnp.floating, jnp.complexfloating)
    return next(rank for rank, kind in enumerate(kinds) if jnp.issubdtype(x.dtype, kind))


def _wall_values(
    value: Any, ends: tuple[Ends, ...], x: Array, num_spatial_dims: int
) -> list[WallPair]:
    """The `value` at the two ends of every axis; `None` where it is 0, or has no wall.

    A value for all ends is taken by the walls that there are. One that a tuple gives to an axis or
    an end must have a wall there.
    """

    def split(entry: Any, number: int, what: str) -> tuple[Any, ...]:
        if not isinstance(entry, tuple):
            return (entry,) * number
        if len(entry) != number:
            raise ValueError(
                f"`value` as a tuple must have one entry per {what}, {number} here, got {value!r}."
            )
        return entry

    result = []
    for axis, entry in enumerate(split(value, num_spatial_dims, "padded axis")):
        pair = split(entry, 2, "end of an axis")
        walls = [mode in _WITH_VALUE for mode in ends[axis]]
        given = [part is not None for part in pair]
        if isinstance(entry, tuple):
            misplaced = any(g and not w for g, w in zip(given, walls, strict=True))
        else:
            misplaced = isinstance(value, tuple) and any(given) and not any(walls)
        if misplaced:
            raise ValueError(
                f"`value` must be None where no end is one of {list(_WITH_VALUE)}, got {entry!r} "
                f"for axis {axis}, whose ends are {ends[axis]}."
            )
        lower, upper = (
            _wall_value(part, x, num_spatial_dims) if g and w else None
            for part, g, w in zip(pair, given, walls, strict=True)
        )
        result.append((lower, upper))
    used = any(part is not None for pair in result for part in pair)
    if not used and value is not None and not isinstance(value, tuple):
        raise ValueError(
            f"`value` needs an end that is one of {list(_WITH_VALUE)}, got `boundary_mode` {ends}."
        )
    return result


def _wall_value(value: Any, x: Array, num_spatial_dims: int) -> Array:
    """`value` with the dtype and the number of axes of `x`."""
    wall, leading = jnp.asarray(value), x.shape[: x.ndim - num_spatial_dims]
    shape, ones = wall.shape, (1,) * num_spatial_dims
    if wall.ndim == x.ndim and shape[len(leading) :] == ones:
        shape = shape[: len(leading)]
    if _kind(wall) > _kind(x):
        raise TypeError(
            f"`value` must be of a dtype that fits `x` of {x.dtype.name}, got {wall.dtype.name}."
        )
    missing = len(leading) - len(shape)
    if missing < 0 or any(n not in (1, m) for n, m in zip(shape, leading[missing:], strict=True)):
        raise ValueError(
            f"`value` must be a scalar or broadcast against the leading axes of `x`, {leading}, "
            f"got shape {wall.shape}; one value per axis or end goes in a tuple."
        )
    return wall.reshape((1,) * missing + shape + ones).astype(x.dtype)


def pad_axis(x: Array, extension: Extension) -> Array:
    """`x` with one axis extended."""
    axis, (lower, upper), ends, values = extension
    size = x.shape[axis]
    below, above = (
        runs(source(position, size, ends) for position in positions)
        for positions in (range(-lower, 0), range(size, size + upper))
    )
    if not below and not above:
        return x
    pieces = [values_of(run, x, axis, values) for run in below]
    pieces.append(x)
    pieces.extend(values_of(run, x, axis, values) for run in above)
    return lax.concatenate(pieces, axis)


def values_of(run: Run, x: Array, axis: int, values: WallPair) -> Array:
    """The values of the extension in `run`, whose sources are points of `x`."""
    first, step, length = run
    shape = (*x.shape[:axis], length, *x.shape[axis + 1 :])
    if first.sign == 0:
        piece = None
    else:
        last = first.index + step * (length - 1)
        low, high = min(first.index, last), max(first.index, last) + 1
        piece = lax.slice_in_dim(x, low, high, axis=axis)
        if step < 0:
            piece = lax.rev(piece, (axis,))
        if first.sign < 0:
            piece = -piece
        piece = jnp.broadcast_to(piece, shape)
    for weight, value in ((first.lower, values[0]), (first.upper, values[1])):
        if weight and value is not None:
            constant = jnp.broadcast_to(value * jnp.asarray(weight, x.dtype), shape)
            piece = constant if piece is None else piece + constant
    return jnp.zeros(shape, x.dtype) if piece is None else piece
