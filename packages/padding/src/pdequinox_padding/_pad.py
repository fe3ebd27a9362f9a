"""`pad`: the extension of a field over its boundary, as slices and concatenations."""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple, no_type_check, SupportsIndex, TypeAlias

import jax.lax as lax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array

from pdequinox_operators import one_program
from pdequinox_operators.checks import array, sum_dtype, widths as parse_widths

from ._boundary import Boundary, BoundaryMode, Kind, KINDS
from ._extension import period, Run, runs, source
from ._same import Pairs


WallValue: TypeAlias = ArrayLike | tuple["WallValue", ...] | None
AxisWidths: TypeAlias = Sequence[SupportsIndex | Sequence[SupportsIndex]]
"""What `widths` may be: one entry per axis, each an integer or a pair of them."""

WallPair: TypeAlias = tuple[Array | None, Array | None]

# An axis is put together from so many pieces at most. Longer extensions repeat a period of it.
_MOST_PIECES = 16

_WITH_VALUE = [kind.name for kind in KINDS.values() if kind.takes_value]


@no_type_check
def pad(
    x: ArrayLike,
    widths: AxisWidths,
    boundary_mode: BoundaryMode,
    value: WallValue = None,
) -> Array:
    """Extends the trailing axes of an array over the boundary of the grid.

    With `x[0..N-1]` one axis and `e[j]` its extension to every integer `j`:

    - `"periodic"`: `e[j] = x[j mod N]`. For periodic domains.
    - `"zeros"` or `"dirichlet"`: 0 outside. For fields that vanish outside of the grid.
    - `"neumann_node"` or `"neumann"`: even about the end nodes, `e[-j] = x[j]` and
        `e[N-1+j] = x[N-1-j]`. For no flux through walls with nodes on them.
    - `"neumann_cell"`: even about the end faces, `e[-1-j] = x[j]` and `e[N+j] = x[N-1-j]`. For no
        flux through the walls of a cell-centred grid.
    - `"dirichlet_node"`: odd about wall nodes that are not stored, `e[-1] = 0`, `e[-2-j] = -x[j]`,
        `e[N] = 0` and `e[N+1+j] = -x[N-1-j]`. For the value 0 on walls whose nodes the grid lacks.
    - `"dirichlet_cell"`: odd about the end faces, `e[-1-j] = -x[j]` and `e[N+j] = -x[N-1-j]`. For
        the value 0 on the walls of a cell-centred grid.
    - `"outflow"`: `x[0]` before, `x[N-1]` after. For open boundaries.

    In the codes that users come from, plain "Dirichlet" and "Neumann" on a cell-centred grid mean
    what is called `"dirichlet_cell"` and `"neumann_cell"` here.

    Extensions repeat, however short the axis and wide the padding. Where the modes at the two ends
    differ, each end's formula is applied in turn. (Symmetric extensions of all kinds: S. A.
    Martucci, "Symmetric convolution and the discrete sine and cosine transforms", IEEE Trans.
    Signal Process. 42, 1994.)

    The axes are extended one after the other, the first one first. The result is exactly linear
    in `x`, affine with a `value`. In half precision, the transpose sums up in float32.

    An axis whose size `jax.export` has left open is extended where JAX can decide that the widths
    stay within the first image: by `"zeros"` and `"outflow"` always, by other modes if a constraint
    such as `n >= 4` says so.

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
    for axes without points. For open sizes, JAX's error if it cannot decide.
    """
    x, pairs, boundary, values = pad_arguments(x, widths, boundary_mode, value)
    return extend(x, pairs, boundary, values)


@partial(one_program, static_argnames=("widths", "boundary"))
def extend(
    x: Array,
    widths: Pairs,
    boundary: Boundary,
    values: Sequence[WallPair] | None = None,
) -> Array:
    """Extends the trailing axes of an array as [`pdequinox_padding.pad`][] does, without a check.

    One program, so that calls outside of `jax.jit` send no numbers to the device; part of the
    program around it, if there is one.

    **Arguments:**

    - `x`: The array.
    - `widths`: A pair of integers for every axis of the boundary, the last ones of `x`.
    - `boundary`: The boundary of these axes.
    - `values`: For every axis the wall values at its two ends, of the rank of `x`, with 1 for the
        size of these axes; `None` where there is none.
    """
    dtype = x.dtype
    x, axes = prepare(x, widths, boundary, values)
    for each in axes:
        x = extend_axis(x, *each)
    return x.astype(dtype)


class AxisExtension(NamedTuple):
    """Says how one axis is extended: which, by what widths, and what is beyond its ends."""

    axis: int
    widths: tuple[int, int]
    ends: tuple[Kind, Kind]
    values: WallPair


def prepare(
    x: Array,
    widths: Pairs,
    boundary: Boundary,
    values: Sequence[WallPair] | None,
    *,
    neighbours: bool = False,
) -> tuple[Array, list[AxisExtension]]:
    """Lists how the axes are extended in turn, and converts the field to the dtype in which the
    transpose sums.

    The transpose sums what goes to the images of a point, to a wall value, and to the `neighbours`
    of a block. The extension itself is exact in either dtype, except with wall values, where it is
    rounded once.
    """
    values = ((None, None),) * len(widths) if values is None else values
    summed = neighbours or any(
        width and (kind.sign or value is not None)
        for each in zip(widths, boundary.axes, values, strict=True)
        for width, kind, value in zip(*each, strict=True)
    )
    if summed:
        x = x.astype(sum_dtype(x.dtype))
    convert = lambda value: None if value is None else value.astype(x.dtype)
    pairs = [(convert(lower), convert(upper)) for lower, upper in values]
    axes = range(x.ndim - len(widths), x.ndim)
    return x, [AxisExtension(*of) for of in zip(axes, widths, boundary.axes, pairs, strict=True)]


def pad_arguments(
    x: Any, widths: Any, boundary_mode: Any, value: Any
) -> tuple[Array, Pairs, Boundary, tuple[WallPair, ...]]:
    """Checks the arguments of `pad`, and gives those of `extend`."""
    x = array(x)
    num_spatial_dims = _number_of_axes(widths, x)
    pairs = parse_widths(widths, num_spatial_dims, "widths")
    boundary = Boundary.parse(boundary_mode, num_spatial_dims)
    if 0 in x.shape[x.ndim - num_spatial_dims :]:
        raise ValueError(f"`x` must have at least one point on every padded axis, got {x.shape}.")
    odd = sorted({kind.name for pair in boundary.axes for kind in pair if kind.sign < 0})
    if odd and (jnp.issubdtype(x.dtype, jnp.unsignedinteger) or x.dtype == bool):
        raise TypeError(f"`x` must be of a signed dtype to be extended by {odd}, got {x.dtype}.")
    return x, pairs, boundary, _wall_values(value, boundary, x)


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


def _rank_of_dtype(x: Array) -> int:
    ranks = (jnp.bool_, jnp.integer, jnp.floating, jnp.complexfloating)
    return next(rank for rank, kind in enumerate(ranks) if jnp.issubdtype(x.dtype, kind))


def _wall_values(value: Any, boundary: Boundary, x: Array) -> tuple[WallPair, ...]:
    """Finds the `value` at the two ends of every axis; `None` where it is 0, or has no wall.

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

    num_spatial_dims, result = len(boundary.axes), []
    # One array for all uses of a value, whose gradients are summed before they are rounded.
    walls_of: dict[int, Array] = {}
    for axis, entry in enumerate(split(value, num_spatial_dims, "padded axis")):
        pair = split(entry, 2, "end of an axis")
        walls = [kind.takes_value for kind in boundary.axes[axis]]
        given = [part is not None for part in pair]
        if isinstance(entry, tuple):
            misplaced = any(g and not w for g, w in zip(given, walls, strict=True))
        else:
            misplaced = isinstance(value, tuple) and any(given) and not any(walls)
        if misplaced:
            raise ValueError(
                f"`value` must be None where no end is one of {_WITH_VALUE}, got {entry!r} "
                f"for axis {axis}, whose ends are {boundary.names[axis]}."
            )
        for part, is_given, has_wall in zip(pair, given, walls, strict=True):
            if is_given and has_wall and id(part) not in walls_of:
                walls_of[id(part)] = _wall_value(part, x, num_spatial_dims)
        lower, upper = (
            walls_of[id(part)] if is_given and has_wall else None
            for part, is_given, has_wall in zip(pair, given, walls, strict=True)
        )
        result.append((lower, upper))
    used = any(part is not None for pair in result for part in pair)
    if not used and value is not None and not isinstance(value, tuple):
        raise ValueError(
            f"`value` needs an end that is one of {_WITH_VALUE}, got `boundary_mode` "
            f"{boundary.names}."
        )
    return tuple(result)


def _wall_value(value: Any, x: Array, num_spatial_dims: int) -> Array:
    """Gives a wall value the number of axes of `x`, and the dtype in which it is summed."""
    wall, leading = jnp.asarray(value), x.shape[: x.ndim - num_spatial_dims]
    shape, ones = wall.shape, (1,) * num_spatial_dims
    if wall.ndim == x.ndim and shape[len(leading) :] == ones:
        shape = shape[: len(leading)]
    if _rank_of_dtype(wall) > _rank_of_dtype(x):
        raise TypeError(
            f"`value` must be of a dtype that fits `x` of {x.dtype.name}, got {wall.dtype.name}."
        )
    missing = len(leading) - len(shape)
    if missing < 0 or any(n not in (1, m) for n, m in zip(shape, leading[missing:], strict=True)):
        raise ValueError(
            f"`value` must be a scalar or broadcast against the leading axes of `x`, {leading}, "
            f"got shape {wall.shape}; one value per axis or end goes in a tuple."
        )
    return wall.reshape((1,) * missing + shape + ones).astype(sum_dtype(x.dtype))


def extend_axis(
    x: Array, axis: int, widths: tuple[int, int], ends: tuple[Kind, Kind], values: WallPair
) -> Array:
    """Extends one axis, as [`pdequinox_padding.pad`][] says."""
    lower, upper = widths
    size = x.shape[axis]
    if not lower and not upper:
        return x
    if not isinstance(size, int):
        below, above = _runs_of_open_size(widths, size, ends)
    else:
        every = period(size, ends)
        if every is not None and lower + upper > _MOST_PIECES * every:
            return _repeat_period(x, axis, widths, ends, values, every)
        below, above = runs(-lower, 0, size, ends), runs(size, size + upper, size, ends)
        if every is not None and len(below) + len(above) >= _MOST_PIECES:
            return _repeat_period(x, axis, widths, ends, values, every)
    pieces = [values_of(run, x, axis, values) for run in below]
    pieces.append(x)
    pieces.extend(values_of(run, x, axis, values) for run in above)
    return lax.concatenate(pieces, axis)


def _runs_of_open_size(
    widths: tuple[int, int], size: Any, ends: tuple[Kind, Kind]
) -> tuple[list[Run], list[Run]]:
    """Finds the runs below and above an axis whose size `jax.export` has left open.

    Within the first image, or the first turn, they are those of any other axis that is long enough,
    but for the distance between what is counted from the lower and from the upper end. Whether
    this axis is long enough, JAX decides by the constraints on its size, or says that it cannot.
    """
    for width, kind in zip(widths, ends, strict=True):
        reach = 0 if kind.wraps else None if kind.mirror is None else kind.mirror - 1
        if width and reach is not None and not size + reach >= width:
            raise ValueError(
                f"`widths` must be at most the size of an axis that is left open, got {widths}."
            )
    like = 2 * sum(widths) + 4

    def moved(run: Run) -> Run:
        first = run.first
        if first.sign == 0 or first.index < like // 2:
            return run
        return run._replace(first=first._replace(index=size - (like - first.index)))

    below, above = runs(-widths[0], 0, like, ends), runs(like, like + widths[1], like, ends)
    return [moved(run) for run in below], [moved(run) for run in above]


def _repeat_period(
    x: Array,
    axis: int,
    widths: tuple[int, int],
    ends: tuple[Kind, Kind],
    values: WallPair,
    every: int,
) -> Array:
    """Extends one axis by copies of one period of its extension, to which every period adds what
    two walls of different values add.
    """
    size = x.shape[axis]
    start, total = -widths[0], widths[0] + size + widths[1]
    copies = -(-total // every)
    one = [values_of(run, x, axis, values) for run in runs(start, start + every, size, ends)]
    x = jnp.expand_dims(lax.concatenate(one, axis), axis)
    x = jnp.broadcast_to(x, (*x.shape[:axis], copies, *x.shape[axis + 1 :]))
    ahead = source([start, start + every], size, ends)
    turns = np.arange(copies).reshape([-1 if i == axis else 1 for i in range(x.ndim)])
    for weights, value in ((ahead.lower, values[0]), (ahead.upper, values[1])):
        growth = int(weights[1] - weights[0])
        if growth and value is not None:
            more = (growth * turns).astype(x.dtype)
            x += jnp.broadcast_to(jnp.expand_dims(value, axis) * more, x.shape)
    x = x.reshape(*x.shape[:axis], copies * every, *x.shape[axis + 2 :])
    return lax.slice_in_dim(x, 0, total, axis=axis)


def values_of(run: Run, x: Array, axis: int, values: WallPair) -> Array:
    """Takes the values of the extension in `run`, whose sources are points of `x`."""
    first, step, length = run
    shape = (*x.shape[:axis], length, *x.shape[axis + 1 :])
    if first.sign == 0:
        piece = None
    else:
        last = first.index + step * (length - 1)
        low, high = (last, first.index) if step < 0 else (first.index, last)
        piece = _slice(x, low, high + 1, axis)
        if step < 0:
            piece = lax.rev(piece, (axis,))
        if first.sign < 0:
            piece = -piece
        piece = jnp.broadcast_to(piece, shape)
    for weight, value in ((first.lower, values[0]), (first.upper, values[1])):
        if weight and value is not None:
            constant = jnp.broadcast_to(value * np.asarray(weight, x.dtype), shape)
            piece = constant if piece is None else piece + constant
    return jnp.zeros(shape, x.dtype) if piece is None else piece


def _slice(x: Array, start: Any, stop: Any, axis: int) -> Array:
    """Takes a slice of one axis. `jax.lax.slice_in_dim` does not for open sizes, which it compares
    with 0.
    """
    starts, stops = [0] * x.ndim, list(x.shape)
    starts[axis], stops[axis] = start, stop
    return lax.slice(x, starts, stops)
