"""Defines `pad`, which extends a field over its boundary by slices and concatenations.

Channels whose sources are in the same places are extended together; the added points then get each
channel's signs and wall values. Other channels are extended separately.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
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
"""Describes what `value` may be: one value for all walls, or a tuple with one entry per axis, each
a value or a pair of values; `None` means 0.
"""

AxisWidths: TypeAlias = Sequence[SupportsIndex | Sequence[SupportsIndex]]
"""Describes what `widths` may be: one entry per axis, each an integer or a pair of integers."""

WallPair: TypeAlias = tuple[Array | None, Array | None]

# An axis is put together from at most this many pieces. Longer extensions repeat one period.
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

    Let `x[0..N-1]` be one axis, and `e[j]` its extension to every integer `j`:

    - `"periodic"`: `e[j] = x[j mod N]`. For periodic domains.
    - `"zeros"` or `"dirichlet"`: 0 outside. For fields that vanish outside the grid.
    - `"neumann_node"` or `"neumann"`: even about the end nodes, `e[-j] = x[j]` and
        `e[N-1+j] = x[N-1-j]`. For no flux through walls with nodes on them.
    - `"neumann_cell"`: even about the end faces, `e[-1-j] = x[j]` and `e[N+j] = x[N-1-j]`. For no
        flux through the walls of a cell-centred grid.
    - `"dirichlet_node"`: odd about wall nodes that are not stored, `e[-1] = 0`, `e[-2-j] = -x[j]`,
        `e[N] = 0` and `e[N+1+j] = -x[N-1-j]`. For the value 0 on walls whose nodes are not stored.
    - `"dirichlet_cell"`: odd about the end faces, `e[-1-j] = -x[j]` and `e[N+j] = -x[N-1-j]`. For
        the value 0 on the walls of a cell-centred grid.
    - `"outflow"`: `x[0]` below, `x[N-1]` above. For open boundaries.

    On latitude-longitude grids, the ends of the other axes may be poles. The longitude is the
    periodic axis; it has an even number `K` of points, which `k` counts:

    - `"pole_cell"`: `e[-1-j, k] = x[j, (k + K/2) mod K]`, and likewise at the upper end. For
        scalars on grids without points on the pole.
    - `"pole_cell_odd"`: the same with a minus sign. For the components of vectors, whose unit
        vectors reverse across the pole.
    - `"pole_node"`: `e[-j, k] = x[j, (k + K/2) mod K]`, and likewise at the upper end. For scalars
        on grids with a row of points on the pole.
    - `"pole_node_odd"`: the same with a minus sign.

    On cell-centred grids, many codes call `"dirichlet_cell"` and `"neumann_cell"` simply
    "Dirichlet" and "Neumann".

    Extensions repeat, so any width works on any axis, however short. Where the modes at the two
    ends differ, the formulas of the two ends are applied in turn. (Symmetric extensions of all
    kinds: S. A. Martucci, "Symmetric convolution and the discrete sine and cosine transforms", IEEE
    Trans. Signal Process. 42, 1994.)

    The axes are extended one after the other, starting with the first. The result is exactly linear
    in `x`, and affine with a `value`. In half precision, the transpose sums in float32.

    An axis whose size `jax.export` leaves open can be extended if JAX can decide that the widths
    stay within the first image. It always can for `"zeros"` and `"outflow"`; for other modes it
    needs a constraint such as `n >= 4`.

    **Arguments:**

    - `x`: An array of shape `(*leading, N_1, ..., N_D)`, usually `(channels, N_1, ..., N_D)`. Any
        dtype will do, but an odd extension needs a signed one.
    - `widths`: `D` entries, one per padded axis, each an integer or a pair `(lower, upper)` of
        integers, at least 0: the number of points to add at the two ends.
    - `boundary_mode`: One name for all axes, or a sequence of `D` entries, each a name or a pair
        `(lower, upper)` of names. See [`pdequinox_padding.parse_boundary_mode`][]. If channels (the
        axis before the padded ones) have different modes, use [`pdequinox_padding.per_channel`][].
    - `value`: The Dirichlet value `v` of inhomogeneous walls, in the units of the field; `None`
        means 0. For `"dirichlet"` it is the constant outside. For `"dirichlet_node"` and
        `"dirichlet_cell"` it is the wall value about which the extension is odd: `-x` above becomes
        `2 v - x`, and the wall node holds `v`. The value is a scalar, or an array or list that
        broadcasts against the leading axes: usually one number per channel, of shape `(channels,)`
        or `(channels, 1, ..., 1)`. A tuple has another meaning: it has `D` entries, one per axis,
        each `None`, a value, or a tuple of the values at the lower and the upper end.

    **Returns:**

    An array of the dtype of `x` and of shape `(*leading, lower_1 + N_1 + upper_1, ...)`.

    **Raises:** `ValueError` or `TypeError` for widths, modes and values that do not fit `x`, for
    modes with another number of channels, for axes without points, and for an odd number of points
    around a pole. JAX raises its own error if it cannot decide about an open size.
    """
    x, pairs, boundary, values = pad_arguments(x, widths, boundary_mode, value)
    boundary.check_points(x.shape[x.ndim - len(pairs) :])
    return extend(x, pairs, boundary, values)


@partial(one_program, static_argnames=("widths", "boundary"))
def extend(
    x: Array,
    widths: Pairs,
    boundary: Boundary,
    values: Sequence[WallPair] | None = None,
) -> Array:
    """Extends the trailing axes of an array as [`pdequinox_padding.pad`][] does, without checks.

    It is one program, so that calls outside `jax.jit` send no numbers to the device. Inside another
    program it becomes part of that program.

    **Arguments:**

    - `x`: The array.
    - `widths`: A pair of integers for every axis of the boundary; these are the last axes of `x`.
    - `boundary`: The boundary of these axes.
    - `values`: For every axis, the wall values at its two ends. Each has the rank of `x`, with size
        1 on these axes, or is `None` if there is no value.
    """
    dtype = x.dtype
    x, values = prepare(x, widths, boundary, values)
    return by_place(extend_axes, x, widths, boundary, values).astype(dtype)


class Ring(NamedTuple):
    """Says which axis goes around the poles, and by how many points it is already extended."""

    axis: int
    lower: int
    upper: int


class AxisExtension(NamedTuple):
    """Says how one axis is extended: which axis, by what widths, and what is beyond its ends, with
    the wall values there.

    `ends` are those of the first run of channels. If other runs have other signs there, `channels`
    has the `ends` of every run, counted along the axis `channel`; else it is empty. If there are
    poles, `ring` is the axis that goes around them.
    """

    axis: int
    widths: tuple[int, int]
    ends: tuple[Kind, Kind]
    values: WallPair
    channel: int
    channels: tuple[tuple[int, tuple[Kind, Kind]], ...] = ()
    ring: Ring | None = None


def prepare(
    x: Array,
    widths: Pairs,
    boundary: Boundary,
    values: Sequence[WallPair] | None,
    *,
    neighbours: bool = False,
) -> tuple[Array, list[WallPair]]:
    """Converts the field and its wall values to the dtype in which the transpose sums.

    The transpose sums over the images of a point, over all uses of a wall value, and, if there are
    `neighbours`, over the blocks that a point is sent to. The extension itself is exact in either
    dtype, except with wall values, where it is rounded once.
    """
    values = ((None, None),) * len(widths) if values is None else values
    summed = neighbours or any(
        width and (value is not None or any(kind.sign for kind in kinds))
        for axis, (pair, of_axis) in enumerate(zip(widths, values, strict=True))
        for width, value, kinds in zip(
            pair, of_axis, zip(*boundary.ends[axis], strict=True), strict=True
        )
    )
    if summed:
        x = x.astype(sum_dtype(x.dtype))
    convert = lambda value: None if value is None else value.astype(x.dtype)
    return x, [(convert(lower), convert(upper)) for lower, upper in values]


def places(boundary: Boundary, widths: Pairs) -> list[tuple[Any, ...]]:
    """Lists, for each run of channels, where the sources of its extension by these widths are. Both
    ends count, even if one width is 0: on a short axis, one extension reaches the other end.
    """
    return [
        tuple(
            tuple(kind.place for kind in ends) if any(pair) else None
            for pair, ends in zip(widths, part.axes, strict=True)
        )
        for _, part in boundary.parts
    ]


def by_place(
    extend_alike: Callable[[Array, list[AxisExtension]], Array],
    x: Array,
    widths: Pairs,
    boundary: Boundary,
    values: Sequence[WallPair],
) -> Array:
    """Extends neighbouring channels together if their sources are in the same places, and others
    separately.

    Calls `extend_alike` for each such stretch of channels, with their part of the field and the
    extensions of its axes, in order.
    """
    if len(boundary.parts) == 1 or len(set(where := places(boundary, widths))) == 1:
        return extend_alike(x, extensions(x.ndim, widths, boundary, values))
    channel, start, results = x.ndim - len(widths) - 1, 0, []
    for _, group in groupby(zip(where, boundary.channels, strict=True), lambda pair: pair[0]):
        runs = tuple(run for _, run in group)
        stop = start + sum(count for count, _ in runs)
        of_runs = lambda v, start=start, stop=stop: (
            v
            if v is None or v.shape[channel] == 1
            else lax.slice_in_dim(v, start, stop, axis=channel)
        )
        own = [(of_runs(lower), of_runs(upper)) for lower, upper in values]
        piece = lax.slice_in_dim(x, start, stop, axis=channel)
        alike = extensions(x.ndim, widths, Boundary(runs[0][1], runs), own)
        results.append(extend_alike(piece, alike))
        start = stop
    return lax.concatenate(results, channel)


def extensions(
    ndim: int, widths: Pairs, boundary: Boundary, values: Sequence[WallPair]
) -> list[AxisExtension]:
    """Lists how to extend, in turn, the axes of a field whose channels all have their sources in
    the same places.
    """
    first = ndim - len(widths)
    result = []
    for axis, (pair, of_axis) in enumerate(zip(widths, values, strict=True)):
        ends, ring = boundary.ends[axis], None
        if any(pair) and any(kind.pole for kind in ends[0]):
            around = boundary.longitude
            ring = Ring(first + around, *(widths[around] if around < axis else (0, 0)))
        counts = (count for count, _ in boundary.channels)
        channels = tuple(zip(counts, ends, strict=True)) if len(set(ends)) > 1 else ()
        result.append(
            AxisExtension(first + axis, pair, ends[0], of_axis, first - 1, channels, ring)
        )
    return result


def extend_axes(x: Array, axes: Sequence[AxisExtension]) -> Array:
    """Extends the axes of a whole field in turn."""
    for extension in axes:
        x = extend_axis(x, extension)
    return x


def pad_arguments(
    x: Any, widths: Any, boundary_mode: Any, value: Any
) -> tuple[Array, Pairs, Boundary, tuple[WallPair, ...]]:
    """Checks the arguments of `pad`, and gives those of `extend`."""
    x = array(x)
    num_spatial_dims = _number_of_axes(widths, x)
    pairs = parse_widths(widths, num_spatial_dims, "widths")
    boundary = Boundary.parse(boundary_mode, num_spatial_dims)
    leading = x.shape[: x.ndim - num_spatial_dims]
    if 0 in x.shape[len(leading) :]:
        raise ValueError(f"`x` must have at least one point on every padded axis, got {x.shape}.")
    if boundary.channels and not leading:
        raise ValueError(
            "`x` must have a channel axis before the padded axes, because `per_channel` gives "
            f"a mode to each, got shape {x.shape} for {num_spatial_dims} entries of `widths`."
        )
    boundary.check_channels(*leading[-1:] or (None,))
    odd = sorted(
        {k.name for _, part in boundary.parts for pair in part.axes for k in pair if k.sign < 0}
    )
    if odd and (jnp.issubdtype(x.dtype, jnp.unsignedinteger) or x.dtype == bool):
        raise TypeError(f"`x` must be of a signed dtype to be extended by {odd}, got {x.dtype}.")
    return x, pairs, boundary, _wall_values(value, boundary, x)


def _number_of_axes(widths: Any, x: Array) -> int:
    try:
        number = None if isinstance(widths, str) else len(widths)
    except TypeError:
        number = None
    allowed = (
        f"`widths` must be a sequence with one entry per padded axis, at most {x.ndim} for `x` of "
        f"shape {x.shape}, got {widths!r}."
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
    """Finds the wall value at the two ends of every axis; `None` if it is 0 or there is none.

    A value for all ends applies to the walls that exist. A value that a tuple gives to one axis or
    one end must have a wall there.
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
    # A value that is used several times is one array: its gradients are summed before rounding.
    walls_of: dict[int, Array] = {}
    for axis, entry in enumerate(split(value, num_spatial_dims, "padded axis")):
        pair = split(entry, 2, "end of an axis")
        ends = zip(*boundary.ends[axis], strict=True)
        walls = [any(kind.takes_value for kind in kinds) for kinds in ends]
        given = [part is not None for part in pair]
        if isinstance(entry, tuple):
            misplaced = any(g and not w for g, w in zip(given, walls, strict=True))
        else:
            misplaced = isinstance(value, tuple) and any(given) and not any(walls)
        if misplaced:
            raise ValueError(
                f"`value` must be None where no end is one of {_WITH_VALUE}, got {entry!r} "
                f"for axis {axis} of `boundary_mode` {boundary.boundary_mode!r}."
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
            f"{boundary.boundary_mode!r}."
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
            f"got shape {wall.shape}; use a tuple for one value per axis or end."
        )
    return wall.reshape((1,) * missing + shape + ones).astype(sum_dtype(x.dtype))


def extend_axis(x: Array, extension: AxisExtension) -> Array:
    """Extends one axis of a whole field, as [`pdequinox_padding.pad`][] describes."""
    axis, widths, ends, values, *_ = extension
    lower, upper = widths
    size = x.shape[axis]
    if not lower and not upper:
        return x
    if extension.channels:
        values = (None, None)
    opposite = partial(on_opposite_meridian, ring=extension.ring)
    if not isinstance(size, int):
        below, above = _runs_of_open_size(widths, size, ends)
    else:
        every = period(size, ends)
        below, above = (), ()
        many = every is not None and lower + upper > _MOST_PIECES * every
        if not many:
            below, above = runs(-lower, 0, size, ends), runs(size, size + upper, size, ends)
            many = every is not None and len(below) + len(above) >= _MOST_PIECES
        if many:
            assert every is not None
            whole = _repeat_period(x, axis, widths, ends, values, every, opposite)
            if not extension.channels:
                return whole
            cut = partial(lax.slice_in_dim, whole, axis=axis)
            beyond = [[cut(0, lower)], [cut(lower + size, lower + size + upper)]]
            return _joined(x, beyond, extension)
    beyond = [
        [values_of(run, x, axis, values, opposite) for run in side] for side in (below, above)
    ]
    return _joined(x, beyond, extension)


def _joined(x: Array, beyond: Sequence[Sequence[Array]], extension: AxisExtension) -> Array:
    """Joins a field and what is beyond the two ends of one axis, with each channel's signs."""
    axis, widths, *_ = extension
    below, above = beyond
    if extension.channels:
        size = x.shape[axis]
        # With an open size, everything is within the first image, as on any axis long enough.
        size = size if isinstance(size, int) else _long_enough(widths)
        places = np.arange(-widths[0], 0), np.arange(size, size + widths[1])
        below, above = (
            [with_signs(lax.concatenate(side, axis), extension, signs_of(where, size, extension))]
            if where.size
            else []
            for side, where in zip(beyond, places, strict=True)
        )
    return lax.concatenate([*below, x, *above], axis)


class Signs(NamedTuple):
    """Says how each run of channels differs, at every place along an axis, from the field extended
    by the ends of the first run without wall values: it is `sign` times that, plus `lower` and
    `upper` times the wall values. All have shape `(runs, places)`.
    """

    sign: Any
    lower: Any
    upper: Any


def signs_of(places: np.ndarray, size: int, extension: AxisExtension) -> Signs:
    """Finds the signs of all runs of channels at these places of an axis of `size` points."""
    found = [source(places, size, ends) for _, ends in extension.channels]
    column = lambda name: np.stack([getattr(each, name) for each in found])
    return Signs(column("sign") * found[0].sign, column("lower"), column("upper"))


def with_signs(
    piece: Array, extension: AxisExtension, signs: Signs, run_of_channel: Any = None
) -> Array:
    """Gives each channel of a piece of the extension its own signs and wall values.

    `run_of_channel` holds, for every channel, the index of its run; by default, the runs follow
    each other.
    """
    axis, channel = extension.axis, extension.channel
    if run_of_channel is None:
        counts = [count for count, _ in extension.channels]
        run_of_channel = np.repeat(np.arange(len(counts)), counts)

    def of_channels(table: Any) -> Array:
        shape = [1] * piece.ndim
        shape[channel], shape[axis] = len(run_of_channel), piece.shape[axis]
        known = isinstance(table, np.ndarray) and isinstance(run_of_channel, np.ndarray)
        rows = (table if known else jnp.asarray(table))[run_of_channel]
        return jnp.asarray(rows, piece.dtype).reshape(shape)

    def times(factors: Any, value: Array) -> Array:
        both = jnp.broadcast_shapes(factors.shape, value.shape)
        return jnp.broadcast_to(factors, both) * jnp.broadcast_to(value, both)

    if not _all(signs.sign, 1):
        piece = times(of_channels(signs.sign), piece)
    for weights, value in ((signs.lower, extension.values[0]), (signs.upper, extension.values[1])):
        if value is not None and not _all(weights, 0):
            wall = times(of_channels(weights), value)
            piece = piece + jnp.broadcast_to(wall, piece.shape)
    return piece


def _all(table: Any, value: int) -> bool:
    return isinstance(table, np.ndarray) and bool((table == value).all())


def on_opposite_meridian(piece: Array, ring: Ring) -> Array:
    """Takes a piece of the field from half way around the pole.

    The axis around the pole has `K` points, with `h = K/2`, and is extended by `l` and `u` points
    that repeat them. Place `k` of the result, `-l <= k < K + u`, is place `k + h` of the piece if
    `k < h`, and else place `k - h`, which holds the same value.
    """
    axis, lower, upper = ring
    half = (piece.shape[axis] - lower - upper) // 2
    first = lax.slice_in_dim(piece, half, lower + 2 * half, axis=axis)
    last = lax.slice_in_dim(piece, lower, lower + half + upper, axis=axis)
    return lax.concatenate([first, last], axis)


def _long_enough(widths: tuple[int, int]) -> int:
    """Gives a size for which these widths stay within the first image."""
    return 2 * sum(widths) + 4


def _runs_of_open_size(
    widths: tuple[int, int], size: Any, ends: tuple[Kind, Kind]
) -> tuple[list[Run], list[Run]]:
    """Finds the runs below and above an axis whose size `jax.export` leaves open.

    Within the first image, or the first turn, they are the runs of any axis that is long enough,
    except that indices near the upper end move with the size. JAX decides from the constraints on
    the size whether this axis is long enough, or says that it cannot decide.
    """
    for width, kind in zip(widths, ends, strict=True):
        reach = 0 if kind.wraps else None if kind.mirror is None else kind.mirror - 1
        if width and reach is not None and not size + reach >= width:
            raise ValueError(
                f"`widths` must be at most the size of an axis that is left open, got {widths}."
            )
    like = _long_enough(widths)

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
    opposite: Callable[[Array], Array],
) -> Array:
    """Extends one axis by copies of one period of its extension. From each copy to the next, the
    values grow by what two walls of different values add in a period.
    """
    size = x.shape[axis]
    start, total = -widths[0], widths[0] + size + widths[1]
    copies = -(-total // every)
    found = runs(start, start + every, size, ends)
    one = [values_of(run, x, axis, values, opposite) for run in found]
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


def values_of(
    run: Run, x: Array, axis: int, values: WallPair, opposite: Callable[[Array], Array]
) -> Array:
    """Takes the values of the extension in `run` from their sources. These are points of `x`;
    `opposite` takes those on the opposite meridian.
    """
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
        if first.opposite:
            piece = opposite(piece)
        if first.sign < 0:
            piece = -piece
        piece = jnp.broadcast_to(piece, shape)
    for weight, value in ((first.lower, values[0]), (first.upper, values[1])):
        if weight and value is not None:
            constant = jnp.broadcast_to(value * np.asarray(weight, x.dtype), shape)
            piece = constant if piece is None else piece + constant
    return jnp.zeros(shape, x.dtype) if piece is None else piece


def _slice(x: Array, start: Any, stop: Any, axis: int) -> Array:
    """Takes a slice of one axis. `jax.lax.slice_in_dim` compares the size with 0, which fails for
    open sizes.
    """
    starts, stops = [0] * x.ndim, list(x.shape)
    starts[axis], stops[axis] = start, stop
    return lax.slice(x, starts, stops)
