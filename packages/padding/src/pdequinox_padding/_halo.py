"""`halo_pad`: the extension of a field that is split over devices."""

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
    extend_axis,
    pad_arguments,
    prepare,
    values_of,
    WallPair,
    WallValue,
)
from ._same import Pairs


AxisNames: TypeAlias = Sequence[str | Sequence[str] | None]


@no_type_check
def halo_pad(
    x: ArrayLike,
    widths: AxisWidths,
    boundary_mode: BoundaryMode,
    axis_names: AxisNames,
    value: WallValue = None,
) -> Array:
    """Extends a device's block of a field as [`pdequinox_padding.pad`][] extends the whole field.

    For functions that every device runs on its own block, inside of `jax.shard_map`. If the field
    has `N = n P` points on an axis that is split evenly over `P` devices, and `e[j]` is its
    extension to every integer `j`, then block `d` holds `e[d n], ..., e[(d + 1) n - 1]`, and the
    result holds

    `e[d n - lower], ..., e[(d + 1) n + upper - 1]`:

    within the field the values of the neighbours, and beyond its ends what the boundary mode says.

    The axes are extended one after the other, the first one first, so that corners are right. For
    widths up to `n`, every width sends one message of so many points to the neighbour, by
    `jax.lax.ppermute`; wider ones fetch what they need from the devices that have it. (The one
    reflection that leaves the block at the width `n` is that of `"neumann"`, for one point more.)
    Axes that are not split send nothing. The result is exactly linear in the field, affine with a
    `value`; the transpose sends what the halos received back, and sums it up.

    A "same" convolution with three taps per axis of a field that is split in two directions:

    ```python
    def convolution(weight, block):
        halo = halo_pad(block, [1, 1], "neumann_cell", ("rows", "columns"))
        return jax.lax.conv_general_dilated(halo[None], weight, (1, 1), "VALID")[0]

    spec = PartitionSpec(None, "rows", "columns")
    jax.shard_map(convolution, mesh=mesh, in_specs=(PartitionSpec(), spec), out_specs=spec)
    ```

    **Arguments:**

    - `x`: The block, of shape `(*leading, n_1, ..., n_D)`.
    - `widths`, `boundary_mode`, `value`: As in [`pdequinox_padding.pad`][]; the boundary is that of
        the whole field. A `value` per channel is that of the channels of the block.
    - `axis_names`: `D` entries, what a `jax.sharding.PartitionSpec` says of these axes: `None` for
        an axis that is not split, the name of the mesh axis that it is split over, or a tuple of
        names, the major one first.

    **Returns:**

    An array of the dtype of `x` and of shape `(*leading, lower_1 + n_1 + upper_1, ...)`.

    **Raises:** As [`pdequinox_padding.pad`][]; `TypeError` or `ValueError` for `axis_names` of
    another form or length, for names that stand twice, and for names that are not bound where the
    function is called. A tuple of names asks for the order of the axes in the mesh, which
    `jax.shard_map` makes known, and `jax.sharding.use_abstract_mesh` elsewhere; without it,
    `ValueError`.
    """
    x, pairs, boundary, values = pad_arguments(x, widths, boundary_mode, value)
    _check_names(axis_names, len(pairs))
    return extend_block(x, pairs, boundary, axis_names, values)


def extend_block(
    x: Array,
    widths: Pairs,
    boundary: Boundary,
    axis_names: AxisNames,
    values: Sequence[WallPair] | None = None,
) -> Array:
    """Extends a device's block of a field as [`pdequinox_padding.halo_pad`][] does, without a
    check. For `values`, see `extend`, which extends a whole field.
    """
    dtype = x.dtype
    blocks = [_blocks(entry) for entry in axis_names]
    sent = any(any(pair) and split.names for pair, split in zip(widths, blocks, strict=True))
    x, axes = prepare(x, widths, boundary, values, neighbours=sent)
    for extension, split in zip(axes, blocks, strict=True):
        x = _extend_axis(x, extension, split, dtype)
    return x.astype(dtype)


class Blocks(NamedTuple):
    """Says how an axis is split: over which axes of the mesh, the major one first, without those of
    one device; the same in their order in the mesh; and the number that `ppermute`, for the latter,
    gives to the device of every block.
    """

    names: tuple[str, ...]
    ordered: tuple[str, ...]
    devices: tuple[int, ...]


def _check_names(axis_names: Any, num_spatial_dims: int) -> None:
    allowed = (
        f"`axis_names` must be a sequence of one entry per padded axis ({num_spatial_dims} here), "
        "each None, the name of a mesh axis or a tuple of names, all of them different and bound "
        f"where `halo_pad` is called, as inside of `jax.shard_map`: got {axis_names!r}"
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
            raise ValueError(f"{allowed}, where {name!r} stands twice.")
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
    """Finds the blocks of an axis that is split over these axes of the mesh."""
    sizes = {name: lax.axis_size(name) for name in _listed(entry)}
    names = tuple(name for name, size in sizes.items() if size > 1)
    if len(names) < 2:
        ordered = names
    else:
        ordered = tuple(n for n in jax.sharding.get_abstract_mesh().axis_names if n in names)
    if len(ordered) < len(names):
        raise ValueError(
            f"`axis_names` has a tuple of names, {entry!r}, of which the order in the mesh is not "
            "known here: it is inside of `jax.shard_map`, and inside of "
            "`jax.sharding.use_abstract_mesh`."
        )
    # Block number `i`, counted with the first name as the major one, is on the device whose
    # coordinates along the names are its digits; `ppermute` counts with the mesh's first as major.
    numbers = np.arange(math.prod(sizes[n] for n in names)).reshape([sizes[n] for n in ordered])
    devices = numbers.transpose([ordered.index(n) for n in names]).ravel()
    return Blocks(names, ordered, tuple(devices.tolist()))


def _extend_axis(x: Array, extension: AxisExtension, blocks: Blocks, sent_dtype: Any) -> Array:
    axis, widths, ends, values = extension
    names, ordered, devices = blocks
    if not names:
        return extend_axis(x, *extension)
    transfers, *halos = exchange(x.shape[axis], len(devices), widths, ends)
    strips = [x]
    for start, stop, pairs in transfers:
        permutation = [(devices[sender], devices[receiver]) for sender, receiver in pairs]
        sent = lax.slice_in_dim(x, start, stop, axis=axis).astype(sent_dtype)
        strips.append(lax.ppermute(sent, ordered, permutation).astype(x.dtype))
    below, above = (_pieces(halo, strips, axis, values, names) for halo in halos)
    return lax.concatenate([*below, x, *above], axis)


def _pieces(
    halo: Halo, strips: list[Array], axis: int, values: WallPair, names: tuple[str, ...]
) -> list[Array]:
    """Takes what this device has at one side of its block: the devices at the ends of the field
    have something else there than the others.
    """
    (result, _), *others = (
        ([values_of(run, strips[strip], axis, values) for strip, run in pieces], blocks)
        for pieces, blocks in halo
    )
    for pieces, blocks in others:
        here = functools.reduce(operator.or_, [lax.axis_index(names) == block for block in blocks])
        result = [jnp.where(here, lax.concatenate(pieces, axis), lax.concatenate(result, axis))]
    return result
