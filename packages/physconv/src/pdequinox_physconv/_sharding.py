"""Splits a task over the devices of a mesh, and finds which block of the field each device needs.

Samples, members, groups and channels are split as for a product of matrices: whatever is split and
summed over is summed over the devices at the end. Space is the hard part. Suppose that `y` is split
evenly over `P` devices along an axis of `m` points. Device `j` computes its points from `j m/P` up
to `(j + 1) m/P`. For these, it reads `(m/P - 1) s + span` points of the extension of `x`, from
`j m/P s - lower` on (see `Axis`). Its own block of `x` begins at `j n/P`. So, in the coordinates of
its block, it needs the points from `start_j = j (m s - n)/P - lower - width` on, where the
extension begins `width` points below the field. With "same" padding and a stride that divides the
number of points, `m s = n`, and `start_j` is the same for all devices: there is one halo below and
one above. Otherwise all halos are as wide as the widest, and every device cuts out its own part.

The transposed task works backwards: device `j` has the points from `j n/P` up to `(j + 1) n/P` of
`x`, and needs every point `i` of the extension of `y` for which `i s + t d - lower` is among them
for some tap `t`. All devices must have the same window, so the array of `x` begins at a multiple of
the stride, `first_j` points below the block; these points are cut off again.

`extend_block` fetches the halos, and its transpose sends them back and adds them up.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from pdequinox_operators import Axes, Request, Shape, Split, transposed
from pdequinox_padding._halo import extend_block

from ._convolution import Axis, Extended, OPERANDS, Task, Window


Linear: TypeAlias = Callable[[Array], Array]


class Share(NamedTuple):
    """Says what a device does with its blocks along one axis that devices share. It takes `length`
    points of the extension from `start` on, where 0 is the first point of its block of the field.
    From the array of the other field, which is `whole` points long, it takes the points of its
    block, from `first` on. Both starts are given for each device. `window` is that of the arrays.
    """

    start: Shape
    length: int
    first: Shape
    whole: int
    window: Axis


def share_of(axis: Axis, width: int, block: int, count: int, *, forward: bool) -> Share:
    """Finds the share of each of `count` devices along an axis. Each has `block` points of the
    field, and the extension begins `width` points below the field; `forward` says that the extended
    field is `x`. The derivation is in the module's docstring.
    """
    devices = range(count)
    s = axis.stride
    if forward:
        outputs = axis.out // count
        length = (outputs - 1) * s + axis.span
        start = tuple(j * (outputs * s - block) - axis.lower - width for j in devices)
        local = axis._replace(size=length, out=outputs, lower=0)
        return Share(start, length, (0,) * count, outputs, local)
    points = axis.size // count
    first = tuple(j * points % s for j in devices)
    whole = points + max(first)
    # The smallest and the largest `i` that reach the array, `0 <= i s + t d - lower < whole`.
    low = -((axis.span - 1 - axis.lower) // s)
    length = max((whole - 1 + axis.lower) // s - low + 1, 1)
    start = tuple((j * points - first[j]) // s + low - width - j * block for j in devices)
    local = axis._replace(size=whole, out=length, lower=axis.lower - low * s)
    return Share(start, length, first, whole, local)


def _at(table: Shape, names: Axes) -> Any:
    """Looks up this device's entry: a plain number if all devices have the same entry."""
    if len(set(table)) == 1:
        return table[0]
    return jnp.asarray(table)[lax.axis_index(names)]


def _cut(x: Array, axis: int, start: Shape, length: int, names: Axes) -> Array:
    if x.shape[axis] == length:
        return x
    return lax.dynamic_slice_in_dim(x, _at(start, names), length, axis)


def blockwise(
    task: Task,
    shapes: Mapping[str, Shape],
    window: Window,
    extended: Extended,
    splits: Sequence[Axes],
    counts: Shape,
    channels: Axes,
) -> Callable[[str, Array, Array], Array]:
    """Makes the task on a device's blocks, whose shapes are `shapes`. Axis `i` of space is split
    over the mesh axes `splits[i]`, to `counts[i]` devices. The channels of the extended field are
    split over the mesh axes `channels`.
    """
    dims, field = len(window.axes), extended.field
    forward = field == "x"
    other = "y" if forward else "x"
    own = extended.own(window)
    shares = {
        i: share_of(axis, extended.widths[i][0], own[i] // counts[i], counts[i], forward=forward)
        for i, axis in enumerate(window.axes)
        if counts[i] > 1
    }
    axes = tuple(shares[i].window if i in shares else axis for i, axis in enumerate(window.axes))
    window = window._replace(axes=axes)

    def enter(x: Array) -> Array:
        """Goes from the block of the field to the array of the window."""
        lead = x.ndim - dims
        widths = list(extended.widths)
        for i, share in shares.items():
            beyond = max(share.start) + share.length - x.shape[lead + i]
            widths[i] = (max(0, -min(share.start)), max(0, beyond))
        names = [axes or None for axes in splits]
        x = extend_block(x, tuple(widths), extended.boundary, names, channel_names=channels)
        for i, share in shares.items():
            start = tuple(first + widths[i][0] for first in share.start)
            x = _cut(x, lead + i, start, share.length, splits[i])
        return x

    def leave(x: Array) -> Array:
        """Goes from the array of the other field to the device's block of it."""
        lead = x.ndim - dims
        for i, share in shares.items():
            x = _cut(x, lead + i, share.first, shapes[other][lead + i], splits[i])
        return x

    maps: dict[str, tuple[Linear, Linear]] = {field: (enter, transposed(enter, shapes[field]))}
    if any(max(share.first) for share in shares.values()):
        arrays = (*shapes[other][:-dims], *window.column("size" if other == "x" else "out"))
        maps[other] = (transposed(leave, arrays), leave)

    def local(target: str, a: Array, b: Array) -> Array:
        given = [
            maps[name][0](value) if name in maps else value
            for name, value in zip(OPERANDS[target], (a, b), strict=True)
        ]
        out = task(target, *given, window)
        return maps[target][1](out) if target in maps else out

    return local


def split_task(
    task: Task,
    request: Request,
    *,
    target: str,
    window: Window,
    extended: Extended,
    members: bool,
) -> Split:
    """Splits samples, members and points as the fields are split. Splits channels, or groups of
    them, first as the kernel is split, then as the fields are. Devices that share an axis of space
    exchange halos. Whatever is split and summed over is summed over the devices at the end.
    """
    names = (*OPERANDS[target], target)
    kinds = factors(request.shapes, target=target, window=window, members=members)
    kernel = [i for i, name in enumerate(names) if name == "w"]
    fields = [i for i, name in enumerate(names) if name != "w"]
    space = range(len(window.axes))
    order = [
        *((factor, (*fields, *kernel)) for factor in ("m", "b", *space)),
        *((factor, kernel) for factor in "goc"),
        *((factor, fields) for factor in "goc"),
    ]
    taken = request.assign(kinds, order, {"g": window.groups})
    specs = [tuple(taken.get(factor, ()) for factor in row) for row in kinds]
    splits = [taken.get(axis, ()) for axis in space]
    local = blockwise(
        task,
        dict(zip(names, request.blocks(specs), strict=True)),
        window._replace(groups=window.groups // request.count(taken.get("g", ()))),
        extended,
        splits,
        tuple(map(request.count, splits)),
        specs[names.index(extended.field)][1 + members],
    )
    summed = (axis for factor, axes in taken.items() if factor not in kinds[-1] for axis in axes)
    channels = [i for i, factor in enumerate(kinds[-1]) if factor in ("o", "c")]
    result, sum_up = request.sum_over(summed, specs[-1], channels)
    return Split(specs[:-1], result, lambda a, b: sum_up(local(target, a, b)))


def factors(
    shapes: Sequence[Shape], *, target: str, window: Window, members: bool, **_: Any
) -> list[tuple[Any, ...]]:
    """Names what the axes of the arrays count: members, samples, groups or channels, and the points
    along each axis of space.
    """
    del shapes
    lead = ("m",) if members else ()
    space = tuple(range(len(window.axes)))
    grouped = window.groups > 1
    arrays = {
        "x": (*lead, "b", "g" if grouped else "c", *space),
        "w": (*lead, *(("g", None) if grouped else "oc"), *(None for _ in space)),
        "y": (*lead, "b", "g" if grouped else "o", *space),
    }
    return [arrays[name] for name in (*OPERANDS[target], target)]
