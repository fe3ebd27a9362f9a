"""How a task is split over the devices of a mesh; which block of the field each of them needs."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from pdequinox_padding import Ends, halo_pad
from pdequinox_padding.meshes import Axes, Request, Split, transpose

from ._window import Integers, OPERANDS, Pairs, Window


Map = Callable[[Array], Array]
Task = Callable[[str, Array, Array, Window], Array]


class Extension(NamedTuple):
    """Which of the two fields of a `Window` is the extension of a field, by how many points, and
    over which boundary. Its points in the `Window` are those with its extension.
    """

    field: str
    widths: Pairs
    ends: tuple[Ends, ...]

    @classmethod
    def none(cls, window: Window) -> "Extension":
        """Of no points."""
        dims = len(window.size)
        return cls("x", ((0, 0),) * dims, (("dirichlet", "dirichlet"),) * dims)

    def own(self, window: Window) -> Integers:
        """The points of the field itself."""
        extended = window.size if self.field == "x" else window.out
        return tuple(n - sum(pair) for n, pair in zip(extended, self.widths, strict=True))


class Share(NamedTuple):
    """What a device has to do with its blocks: of the extension, `length` points from `start` on,
    where 0 is the first point of its block of the field; and, of the other field's array, which is
    `whole` points long, those of its block from `first` on. Both starts are given for each of the
    devices that share an axis. The window is that of the two arrays, along this axis.
    """

    start: Integers
    length: int
    first: Integers
    whole: int
    window: Window


def share(window: Window, extension: Extension, axis: int, count: int) -> Share:
    """Of each of `count` devices, along an axis that they share evenly."""
    one = window.along(slice(axis, axis + 1))
    (n,), (k,), (m,), (s,), (d,), (lower,) = one[:6]
    width = extension.widths[axis][0]
    block = extension.own(window)[axis] // count
    span = (k - 1) * d
    devices = range(count)
    if extension.field == "x":
        # Point `i` of `y` reads the extension from `i * s - lower - width` on.
        outputs = m // count
        length = (outputs - 1) * s + span + 1
        start = tuple(j * (outputs * s - block) - lower - width for j in devices)
        local = one._replace(size=(length,), out=(outputs,), lower=(0,))
        return Share(start, length, (0,) * count, outputs, local)
    # Point `j` of `x` reads point `i` of the extension of `y` where `i * s + t * d - lower = j` for
    # a tap `t`. For all devices to have the same window, the array of `x` begins at a multiple of
    # the stride.
    points = n // count
    first = tuple(j * points % s for j in devices)
    whole = points + max(first)
    low = -((span - lower) // s)
    length = max((whole - 1 + lower) // s - low + 1, 1)
    start = tuple((j * points - first[j]) // s + low - width - j * block for j in devices)
    local = one._replace(size=(whole,), out=(length,), lower=(lower - low * s,))
    return Share(start, length, first, whole, local)


def _at(table: Integers, names: Axes) -> Any:
    """This device's entry; a number, where all have the same."""
    if len(set(table)) == 1:
        return table[0]
    return jnp.asarray(table)[lax.axis_index(names)]


def _cut(x: Array, axis: int, start: Integers, length: int, names: Axes) -> Array:
    if x.shape[axis] == length:
        return x
    return lax.dynamic_slice_in_dim(x, _at(start, names), length, axis)


def between(
    task: Task,
    target: str,
    a: Array,
    b: Array,
    window: Window,
    maps: Mapping[str, tuple[Map, Map]],
) -> Array:
    """A task on fields that are not the arrays of its window: for some of the names, `maps` holds
    the linear function that makes the array of the field, and the transpose of that function.
    """
    given = [
        maps[name][0](value) if name in maps else value
        for name, value in zip(OPERANDS[target], (a, b), strict=True)
    ]
    out = task(target, *given, window)
    return maps[target][1](out) if target in maps else out


def blockwise(
    task: Task,
    shapes: Mapping[str, Integers],
    window: Window,
    extension: Extension,
    splits: Sequence[Axes],
    counts: Integers,
) -> Callable[[str, Array, Array], Array]:
    """A task on a device's blocks, of which `shapes` are the shapes. Axis `i` of space is split
    over the mesh's axes `splits[i]`, to `counts[i]` devices.
    """
    dims, field = len(window.size), extension.field
    other = "y" if field == "x" else "x"
    shares = [
        share(window, extension, axis, count) if count > 1 else None
        for axis, count in enumerate(counts)
    ]
    for axis, one in enumerate(shares):
        if one is not None:
            parts = zip(window[:6], one.window[:6], strict=True)
            changed = [(*old[:axis], *new, *old[axis + 1 :]) for old, new in parts]
            window = Window(*changed, window.groups)

    def enter(x: Array) -> Array:
        lead = x.ndim - dims
        widths = list(extension.widths)
        for axis, one in enumerate(shares):
            if one is not None:
                beyond = max(one.start) + one.length - x.shape[lead + axis]
                widths[axis] = (max(0, -min(one.start)), max(0, beyond))
        x = halo_pad(x, widths, extension.ends, [axes or None for axes in splits])
        for axis, one in enumerate(shares):
            if one is not None:
                start = tuple(first + widths[axis][0] for first in one.start)
                x = _cut(x, lead + axis, start, one.length, splits[axis])
        return x

    def leave(x: Array) -> Array:
        lead = x.ndim - dims
        for axis, one in enumerate(shares):
            if one is not None:
                length = shapes[other][lead + axis]
                x = _cut(x, lead + axis, one.first, length, splits[axis])
        return x

    maps = {field: (enter, transpose(enter, shapes[field]))}
    if any(one is not None and max(one.first) for one in shares):
        arrays = (*shapes[other][:-dims], *(window.size if other == "x" else window.out))
        maps[other] = (transpose(leave, arrays), leave)
    return lambda target, a, b: between(task, target, a, b, window, maps)


def split_task(
    task: Task,
    request: Request,
    *,
    target: str,
    window: Window,
    extension: Extension,
    members: bool,
) -> Split:
    """Samples, members and points are split as the fields are; channels, or groups of them, as the
    kernel is, then as the fields are. Devices that share an axis of space exchange halos. What is
    split and summed over is summed over the devices at the end.
    """
    names = (*OPERANDS[target], target)
    kinds = factors(request.shapes, target=target, window=window, members=members)
    kernel = [i for i, name in enumerate(names) if name == "w"]
    fields = [i for i, name in enumerate(names) if name != "w"]
    space = range(len(window.size))
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
        extension,
        splits,
        tuple(map(request.count, splits)),
    )
    summed = (axis for factor, axes in taken.items() if factor not in kinds[-1] for axis in axes)
    channels = [i for i, factor in enumerate(kinds[-1]) if factor in ("o", "c")]
    result, sum_up = request.sum_over(summed, specs[-1], channels)
    return Split(specs[:-1], result, lambda a, b: sum_up(local(target, a, b)))


def factors(
    shapes: Sequence[Integers], *, target: str, window: Window, members: bool
) -> list[tuple[Any, ...]]:
    """Members, samples, groups or channels, and the points along each axis of space."""
    lead = ("m",) if members else ()
    space = tuple(range(len(window.size)))
    grouped = window.groups > 1
    arrays = {
        "x": (*lead, "b", "g" if grouped else "c", *space),
        "w": (*lead, *(("g", None) if grouped else "oc"), *(None for _ in space)),
        "y": (*lead, "b", "g" if grouped else "o", *space),
    }
    return [arrays[name] for name in (*OPERANDS[target], target)]
