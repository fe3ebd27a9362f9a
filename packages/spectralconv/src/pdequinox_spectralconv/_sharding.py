"""Splits the transforms over the devices of a mesh.

The coefficients are sums over the points. Let the points of an axis be split into blocks `b`: the
coefficients `X_k = sum over j of a_kj x_j` are `sum over b of sum over j in b of a_kj x_j`. A
device multiplies its block with the columns of the matrix that belong to it. The sum over the
devices of an axis is taken once, at the end of the analysis of all axes, because the transforms of
different axes commute; it has the size of the kept modes. The synthesis needs no exchange: every
device has all coefficients, and makes the points of its own block.

A field that is evaluated on another grid has as many modes as points, and not every device should
hold all of them. Instead, lines along a split axis are sent: each device exchanges its block of all
lines for the whole of some lines, evaluates these, and exchanges them back.
"""

from math import prod
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from pdequinox_operators import Request, Split

from ._basis import Basis
from ._transform import Block, resampled, transform


def factors(
    shapes: Any, *, bases: tuple[Basis, ...], analysis: bool, transpose: bool, **_: Any
) -> list[tuple[Any, ...]]:
    """Names what the axes of the arrays count: batches, channels, and the points along each axis of
    space. Modes are not split.
    """
    value, like, _ = shapes
    space, modes = tuple(range(len(bases))), (None,) * len(bases)
    batch = len(value) - len(bases) - (1 if analysis != transpose else 3)
    lead = tuple(f"batch {i}" for i in range(batch))
    field, kept = (*lead, "channels", *space), (*lead, None, None, "channels", *modes)
    other = (None,) * (len(like) - len(space))
    ends = (field, kept) if analysis != transpose else (kept, field)
    return [ends[0], (*other, *space), ends[1]]


def split(request: Request, **parameters: Any) -> Split:
    """Splits batches, channels and points as the field is split, or as `like` is."""
    bases, points = parameters["bases"], parameters["points"]
    kinds = factors(request.shapes, **parameters)
    sums = parameters["analysis"] != parameters["transpose"]
    field = 0 if sums else 2
    order = [(factor, (field, 2 - field, 1)) for factor in kinds[field]]
    taken = request.assign(kinds, order, {})
    specs = [tuple(taken.get(factor, ()) for factor in row) for row in kinds]
    splits = {axis: taken[axis] for axis in range(len(bases)) if taken.get(axis)}

    def program(value: Array, like: Array) -> Array:
        del like
        blocks = {}
        for axis, names in splits.items():
            length = points[axis] // request.count(names)
            blocks[axis] = Block(points[axis], lax.axis_index(names) * length, length)
        return transform(value, **parameters, blocks=blocks)

    if not sums:
        return Split(specs[:2], specs[2], program)
    places = range(len(kinds[2]) - len(bases) - 1, len(kinds[2]))
    summed = [name for names in splits.values() for name in names]
    result, sum_up = request.sum_over(summed, specs[2], places)
    return Split(specs[:2], result, lambda *values: sum_up(program(*values)))


def resampled_factors(shapes: Any, *, bases: tuple[Basis, ...], **_: Any) -> list[tuple[Any, ...]]:
    """Names what the axes count, as `factors` does."""
    space = range(len(bases))
    field = (*(f"batch {i}" for i in range(len(shapes[0]) - len(space))), *space)
    return [field, field]


def split_resampled(request: Request, **parameters: Any) -> Split:
    """Splits the result like the field."""
    kinds = resampled_factors(request.shapes, **parameters)
    taken = request.assign(kinds, [(factor, (0, 1)) for factor in kinds[0]], {})
    spec = tuple(taken.get(factor, ()) for factor in kinds[0])
    bases, dims = parameters.pop("bases"), len(parameters["grid"])
    sizes = parameters.pop("grid"), parameters.pop("points")
    after = sizes[0] if parameters["transpose"] else sizes[1]

    def program(x: Array) -> Array:
        for axis in range(dims):
            names, place = spec[x.ndim - dims + axis], x.ndim - dims + axis
            own = slice(axis, axis + 1)
            along = dict(bases=bases[own], grid=sizes[0][own], points=sizes[1][own])
            x = jnp.moveaxis(x, place, -1)
            if names and sizes[0][axis] != sizes[1][axis]:
                count = request.count(names)
                lines = x.reshape(-1, x.shape[-1])
                missing = -len(lines) % count
                lines = jnp.pad(lines, ((0, missing), (0, 0)))
                lines = lax.all_to_all(lines, names, 0, 1, tiled=True)
                lines = resampled(lines, **along, **parameters)
                lines = lax.all_to_all(lines, names, 1, 0, tiled=True)
                lines = lines[: prod(x.shape[:-1])]
                x = lines.reshape(*x.shape[:-1], after[axis] // count)
            elif not names:
                x = resampled(x, **along, **parameters)
            x = jnp.moveaxis(x, -1, place)
        return x

    return Split([spec], spec, program)
