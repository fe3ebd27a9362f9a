"""Defines `halo_pad`, which extends a field that is split over devices.

Over a pole, a device needs the rows of the block half way around. If an even number of devices
share the longitude, that is one block; if the number is odd, it is parts of two.
"""

import functools
import math
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple, no_type_check, TypeAlias

import jax
import jax.lax as lax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array

from ._boundary import Boundary, BoundaryMode
from ._exchange import exchange, Halo
from ._pad import (
    AxisExtension,
    AxisWidths,
    by_place,
    extend_axis,
    extensions,
    on_opposite_meridian,
    pad_arguments,
    places,
    prepare,
    Signs,
    signs_of,
    values_of,
    WallPair,
    WallValue,
    with_signs,
)
from ._same import Pairs


AxisNames: TypeAlias = Sequence[str | Sequence[str] | None]
"""Describes what `axis_names` may be: one entry per axis, `None`, a name or several names."""


@no_type_check
def halo_pad(
    x: ArrayLike,
    widths: AxisWidths,
    boundary_mode: BoundaryMode,
    axis_names: AxisNames,
    value: WallValue = None,
) -> Array:
    """Extends a device's block of a field as [`pdequinox_padding.pad`][] extends the whole field.

    It is for functions that every device runs on its own block, inside `jax.shard_map`. Let the
    field have `N = n P` points on an axis that is split evenly over `P` devices, and let `e[j]` be
    its extension to every integer `j`. Block `d` holds `e[d n], ..., e[(d + 1) n - 1]`, and the
    result holds

    `e[d n - lower], ..., e[(d + 1) n + upper - 1]`:

    values of the neighbours within the field, and values by the boundary mode beyond its ends.

    The axes are extended one after the other, starting with the first, so that corners are right.
    For widths up to `n`, every width sends one message of that many points to the neighbour, by
    `jax.lax.ppermute`; wider ones fetch what they need from the devices that have it. (The only
    reflection that leaves the block at width `n` is that of `"neumann"`, by one point.) Axes that
    are not split send nothing. Over a pole, the devices there also exchange these points with the
    devices half way around it. The result is exactly linear in the field, and affine with a
    `value`. The transpose sends back what the halos received, and sums it.

    This is a "same" convolution with three taps per axis, on a field that is split in two
    directions:

    ```python
    def convolution(weight, block):
        halo = halo_pad(block, [1, 1], "neumann_cell", ("rows", "columns"))
        return jax.lax.conv_general_dilated(halo[None], weight, (1, 1), "VALID")[0]

    spec = PartitionSpec(None, "rows", "columns")
    jax.shard_map(convolution, mesh=mesh, in_specs=(PartitionSpec(), spec), out_specs=spec)
    ```

    **Arguments:**

    - `x`: The block, of shape `(*leading, n_1, ..., n_D)`.
    - `widths`, `boundary_mode`, `value`: As in [`pdequinox_padding.pad`][]. The boundary is that of
        the whole field. Modes and values per channel are for the channels of the block.
    - `axis_names`: `D` entries, as a `jax.sharding.PartitionSpec` has them for these axes: `None`
        for an axis that is not split, the name of the mesh axis over which it is split, or a tuple
        of names, the major one first.

    **Returns:**

    An array of the dtype of `x` and of shape `(*leading, lower_1 + n_1 + upper_1, ...)`.

    **Raises:** As [`pdequinox_padding.pad`][]. Also `TypeError` or `ValueError` for `axis_names` of
    another form or length, for repeated names, and for names that are not bound where the function
    is called. A tuple of names needs the order of the axes in the mesh. `jax.shard_map` makes it
    known, and so does `jax.sharding.use_abstract_mesh`; elsewhere there is a `ValueError`.
    """
    x, pairs, boundary, values = pad_arguments(x, widths, boundary_mode, value)
    _check_names(axis_names, len(pairs))
    counts = (math.prod(map(lax.axis_size, _listed(entry))) for entry in axis_names)
    points = x.shape[x.ndim - len(pairs) :]
    boundary.check_points([n * p for n, p in zip(points, counts, strict=True)])
    return extend_block(x, pairs, boundary, axis_names, values)


def extend_block(
    x: Array,
    widths: Pairs,
    boundary: Boundary,
    axis_names: AxisNames,
    values: Sequence[WallPair] | None = None,
    channel_names: Sequence[str] = (),
) -> Array:
    """Extends a device's block of a field as [`pdequinox_padding.halo_pad`][] does, without checks.
    For `values`, see `extend`, which extends a whole field.

    If the channels are split too, over the mesh axes `channel_names`, the boundary has the channels
    of all devices.
    """
    dtype = x.dtype
    blocks = [_blocks(entry) for entry in axis_names]
    sent = any(any(pair) and split.names for pair, split in zip(widths, blocks, strict=True))
    x, values = prepare(x, widths, boundary, values, neighbours=sent)
    first = x.ndim - len(widths)

    def extend_alike(x: Array, axes: Sequence[AxisExtension], run_of_channel: Any = None) -> Array:
        for extension, split in zip(axes, blocks, strict=True):
            ring = extension.ring
            around = blocks[ring.axis - first] if ring else None
            x = _extend_axis(x, extension, split, around, dtype, run_of_channel)
        return x

    if len(boundary.parts) > 1 and channel_names:
        x = _by_place_of_channels(extend_alike, x, widths, boundary, values, channel_names)
    else:
        x = by_place(extend_alike, x, widths, boundary, values)
    return x.astype(dtype)


def _by_place_of_channels(
    extend_alike: Any,
    x: Array,
    widths: Pairs,
    boundary: Boundary,
    values: Sequence[WallPair],
    names: Sequence[str],
) -> Array:
    """Extends a block of channels that are split over devices. Which channels a device has is known
    only when it runs. If their sources are in different places, it computes an extension for each
    of these, and takes for every channel the one of its own place.
    """
    channel = x.ndim - len(widths) - 1
    counts = [count for count, _ in boundary.channels]
    runs_of_all = np.repeat(np.arange(len(counts)), counts)
    start = lax.axis_index(tuple(names)) * x.shape[channel]
    run_of_channel = lax.dynamic_slice_in_dim(jnp.asarray(runs_of_all), start, x.shape[channel])
    where = places(boundary, widths)
    result = None
    for place in dict.fromkeys(where):
        here = [place == other for other in where]
        alike = [run for run, own in zip(boundary.channels, here, strict=True) if own]
        axes = extensions(x.ndim, widths, Boundary(alike[0][1], tuple(alike)), values)
        # The index of each run among the runs of this place.
        among = jnp.asarray(np.where(here, np.cumsum(here) - 1, 0))[run_of_channel]
        extended = extend_alike(x, axes, among)
        if result is None:
            result = extended
        else:
            own = jnp.asarray(here)[run_of_channel].reshape(-1, *(1 for _ in widths))
            result = jnp.where(jnp.broadcast_to(own, result.shape), extended, result)
    assert result is not None
    return result


class Blocks(NamedTuple):
    """Says how an axis is split: `names` are the axes of the mesh over which it is split, the major
    one first, without axes of one device; `ordered` are the same names in the order of the mesh;
    `devices` holds, for every block, the number that `ppermute` over `ordered` gives to its device.
    """

    names: tuple[str, ...]
    ordered: tuple[str, ...]
    devices: tuple[int, ...]


def _check_names(axis_names: Any, num_spatial_dims: int) -> None:
    allowed = (
        f"`axis_names` must be a sequence with one entry per padded axis ({num_spatial_dims} "
        "here), each None, the name of a mesh axis or a tuple of names; all names must differ, and "
        f"be bound where `halo_pad` is called, as inside `jax.shard_map`: got {axis_names!r}"
    )
    if not isinstance(axis_names, Sequence) or isinstance(axis_names, str):
        raise TypeError(f"{allowed}.")
    if len(axis_names) != num_spatial_dims:
        raise ValueError(f"{allowed}, which has {len(axis_names)} entries.")
    known: set[str] = set()
    for name in (name for entry in axis_names for name in _listed(entry)):
        if not isinstance(name, str):
            raise TypeError(f"{allowed}, where {name!r} is not a name.")
        if name in known:
            raise ValueError(f"{allowed}, where {name!r} appears twice.")
        known.add(name)
        try:
            lax.axis_size(name)
        except NameError as error:
            raise ValueError(f"{allowed}, where {name!r} is not bound.") from error


def _listed(entry: Any) -> tuple[Any, ...]:
    if entry is None:
        return ()
    listed = isinstance(entry, Sequence) and not isinstance(entry, str)
    return tuple(entry) if listed else (entry,)


def _blocks(entry: str | Sequence[str] | None) -> Blocks:
    """Finds the blocks of an axis that is split over the mesh axes in `entry`."""
    sizes = {name: lax.axis_size(name) for name in _listed(entry)}
    names = tuple(name for name, size in sizes.items() if size > 1)
    if len(names) < 2:
        ordered = names
    else:
        ordered = tuple(n for n in jax.sharding.get_abstract_mesh().axis_names if n in names)
    if len(ordered) < len(names):
        raise ValueError(
            f"`axis_names` must not have a tuple of names, here {entry!r}, where their order in "
            "the mesh is not known. It is known inside `jax.shard_map`, and inside "
            "`jax.sharding.use_abstract_mesh`."
        )
    # Blocks are numbered with the first name as the major one: the digits of a block's number are
    # the coordinates of its device. `ppermute` numbers devices with the mesh's first axis as major.
    numbers = np.arange(math.prod(sizes[n] for n in names)).reshape([sizes[n] for n in ordered])
    devices = numbers.transpose([ordered.index(n) for n in names]).ravel()
    return Blocks(names, ordered, tuple(devices.tolist()))


def _extend_axis(
    x: Array,
    extension: AxisExtension,
    blocks: Blocks,
    around: Blocks | None,
    sent_dtype: Any,
    run_of_channel: Any,
) -> Array:
    """Extends one axis, of which the device holds one of the `blocks`. `around` has the blocks of
    the axis that goes around the poles.
    """
    axis, widths, ends, values, *_ = extension
    names, ordered, devices = blocks
    if not any(widths):
        return x
    split_ring = around is not None and around.names
    if not names and not split_ring and run_of_channel is None:
        return extend_axis(x, extension)
    count, size = len(devices), x.shape[axis]
    transfers, *halos = exchange(size, count, widths, ends)
    strips = [x]
    for start, stop, pairs in transfers:
        permutation = [(devices[sender], devices[receiver]) for sender, receiver in pairs]
        sent = lax.slice_in_dim(x, start, stop, axis=axis).astype(sent_dtype)
        strips.append(lax.ppermute(sent, ordered, permutation).astype(x.dtype))

    def opposite(piece: Array, where: tuple[int, ...]) -> Array:
        if not split_ring:
            return on_opposite_meridian(piece, extension.ring)
        return _from_opposite_blocks(piece, extension, blocks, around, where, sent_dtype)

    if extension.channels:
        values = (None, None)
    below, above = (_pieces(halo, strips, axis, values, names, opposite) for halo in halos)
    if extension.channels:
        here = lax.axis_index(names) if names else 0
        offsets = np.arange(-widths[0], 0), np.arange(size, size + widths[1])
        below, above = (
            [
                with_signs(
                    lax.concatenate(side, axis),
                    extension,
                    _signs_of_blocks(where, size, count, here, extension),
                    run_of_channel,
                )
            ]
            if where.size
            else []
            for side, where in zip((below, above), offsets, strict=True)
        )
    return lax.concatenate([*below, x, *above], axis)


def _signs_of_blocks(
    places: np.ndarray, size: int, count: int, here: Any, extension: AxisExtension
) -> Signs:
    """Finds the signs at these places of a block, counted from its first point: one table if all
    blocks have the same signs, else that of this block.
    """
    of_blocks = [signs_of(block * size + places, size * count, extension) for block in range(count)]
    tables = (np.stack(column) for column in zip(*of_blocks, strict=True))
    same = lambda table: table[0] if (table == table[:1]).all() else jnp.asarray(table)[here]
    return Signs(*map(same, tables))


def _pieces(
    halo: Halo,
    strips: list[Array],
    axis: int,
    values: WallPair,
    names: tuple[str, ...],
    opposite: Any,
) -> list[Array]:
    """Takes what this device has at one side of its block. Devices at the ends of the field have
    something else there than the others.
    """
    (result, _), *others = (
        (
            [
                values_of(
                    run, strips[strip], axis, values, lambda piece, w=blocks: opposite(piece, w)
                )
                for strip, run in pieces
            ],
            blocks,
        )
        for pieces, blocks in halo
    )
    for pieces, blocks in others:
        here = functools.reduce(operator.or_, [lax.axis_index(names) == block for block in blocks])
        result = [jnp.where(here, lax.concatenate(pieces, axis), lax.concatenate(result, axis))]
    return result


def _from_opposite_blocks(
    piece: Array,
    extension: AxisExtension,
    blocks: Blocks,
    around: Blocks,
    where: tuple[int, ...],
    sent_dtype: Any,
) -> Array:
    """Takes a piece of a block from half way around the pole, on the devices whose places along the
    extended axis are in `where`.

    With `P` blocks of `n` points around the pole, half way is `P n / 2` points: `P/2` blocks if `P`
    is even, else `(P-1)/2` blocks and a half. The blocks are already extended by `l` and `u` points
    there. So, if `P` is odd, the first `l + n/2` places of block `d` start at place `n/2` of block
    `d + (P-1)/2`, and the others start at place `l` of the block after it.
    """
    axis, lower, upper = extension.ring
    count = len(around.devices)
    both = _blocks((*blocks.names, *around.names))

    def fetch(part: Array, distance: int) -> Array:
        pairs = [
            (row * count + (block + distance) % count, row * count + block)
            for row in where
            for block in range(count)
        ]
        permutation = [(both.devices[sender], both.devices[receiver]) for sender, receiver in pairs]
        return lax.ppermute(part.astype(sent_dtype), both.ordered, permutation).astype(piece.dtype)

    if count % 2 == 0:
        return fetch(piece, count // 2)
    half = (piece.shape[axis] - lower - upper) // 2
    first = lax.slice_in_dim(piece, half, lower + 2 * half, axis=axis)
    last = lax.slice_in_dim(piece, lower, lower + half + upper, axis=axis)
    return lax.concatenate([fetch(first, count // 2), fetch(last, count // 2 + 1)], axis)
