"""The transforms of all axes as one primitive, so that a field may be split over a mesh: every
device analyses what it has, and the sum over the devices is all that they exchange.
"""

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching
from jaxtyping import Array, Float

from pdequinox_padding.meshes import (
    abstract,
    partitioned,
    register_partitioned,
    Request,
    Split,
    transpose,
)

from ._basis import Basis
from ._transform import Block, to_modes, to_points, Transform


def modes_of(
    x: Float[Array, "channels *points"], bases: tuple[Basis, ...], transform: Transform | None
) -> Float[Array, "parts groups channels *modes"]:
    """The kept coefficients of a field."""
    points = x.shape[1:]
    return _bind(x, x, bases=bases, points=points, grid=points, transform=transform, analysis=True)


def field_of(
    z: Float[Array, "parts groups channels *modes"],
    like: Float[Array, "in_channels *grid"],
    bases: tuple[Basis, ...],
    shape: tuple[int, ...],
    transform: Transform | None,
) -> Float[Array, "channels *points"]:
    """The field on `shape` points that has these coefficients on the points of another, `like`. It
    is split over a mesh as that one is.
    """
    grid = like.shape[1:]
    return _bind(z, like, bases=bases, points=shape, grid=grid, transform=transform, analysis=False)


def _bind(value: Array, like: Array, **parameters: Any) -> Array:
    precision = jax.config.jax_default_matmul_precision
    return transform_p.bind(
        value,
        like,
        transposed=False,
        precision=precision,
        partitioned=partitioned(),
        **parameters,
    )


def _transform(
    value: Array,
    *,
    bases: tuple[Basis, ...],
    points: tuple[int, ...],
    grid: tuple[int, ...],
    transform: Transform | None,
    analysis: bool,
    transposed: bool,
    precision: str | None,
    blocks: dict[int, Block] | None = None,
) -> Array:
    """The analysis of a field on `points`, the synthesis of one, or the transpose of either."""
    blocks, dims = blocks or {}, len(bases)
    if analysis:
        function = lambda x: to_modes(x, bases, transform, blocks)
    else:
        function = lambda z: to_points(z, bases, points, grid, transform, blocks)
    if transposed:
        own = [blocks[i].length if i in blocks else n for i, n in enumerate(points)]
        periodic = [basis for basis in bases if basis.periodic]
        parts, groups = (2, 2 ** (len(periodic) - 1)) if periodic else (1, 1)
        modes = [basis.num_modes for basis in bases]
        channels = value.shape[-1 - dims]
        shape = (channels, *own) if analysis else (parts, groups, channels, *modes)
        function = transpose(function, shape)
    for _ in range(value.ndim - dims - (1 if analysis != transposed else 3)):
        function = jax.vmap(function)
    with jax.default_matmul_precision(precision):
        return function(value)


def _whole(value: Array, like: Array, **parameters: Any) -> Array:
    return _transform(value, **parameters)


def _factors(
    shapes: Any, *, bases: tuple[Basis, ...], analysis: bool, transposed: bool, **_: Any
) -> list[tuple[Any, ...]]:
    """Batches, channels, and the points along each axis of space. Modes are not split."""
    value, like, _ = shapes
    space, modes = tuple(range(len(bases))), (None,) * len(bases)
    batch = len(value) - len(bases) - (1 if analysis != transposed else 3)
    lead = tuple(f"batch {i}" for i in range(batch))
    field, kept = (*lead, "channels", *space), (*lead, None, None, "channels", *modes)
    other = (None,) * (len(like) - len(space))
    ends = (field, kept) if analysis != transposed else (kept, field)
    return [ends[0], (*other, *space), ends[1]]


def _split(request: Request, **parameters: Any) -> Split:
    """Batches, channels and points are split as the field is, or as `like` is."""
    bases, points = parameters["bases"], parameters["points"]
    kinds = _factors(request.shapes, **parameters)
    sums = parameters["analysis"] != parameters["transposed"]
    field = 0 if sums else 2
    order = [(factor, (field, 2 - field, 1)) for factor in kinds[field]]
    taken = request.assign(kinds, order, {})
    specs = [tuple(taken.get(factor, ()) for factor in row) for row in kinds]
    splits = {axis: taken[axis] for axis in range(len(bases)) if taken.get(axis)}

    def carry_out(value: Array, like: Array) -> Array:
        blocks = {}
        for axis, names in splits.items():
            length = points[axis] // request.count(names)
            blocks[axis] = Block(points[axis], lax.axis_index(names) * length, length)
        return _transform(value, **parameters, blocks=blocks)

    if not sums:
        return Split(specs[:2], specs[2], carry_out)
    places = range(len(kinds[2]) - len(bases) - 1, len(kinds[2]))
    summed = [name for names in splits.values() for name in names]
    result, sum_up = request.sum_over(summed, specs[2], places)
    return Split(specs[:2], result, lambda *values: sum_up(carry_out(*values)))


transform_p = Primitive("pdequinox_transform")


@transform_p.def_abstract_eval
@cache
def _(value: Any, like: Any, *, partitioned: Any, **parameters: Any) -> Any:
    return abstract(partial(_transform, **parameters), value)


_jitted = jax.jit(
    lambda value, like, **parameters: transform_p.bind(value, like, **parameters),
    static_argnames=(
        "bases", "points", "grid", "transform", "analysis", "transposed", "precision",
        "partitioned",
    ),
)  # fmt: skip


@transform_p.def_impl
def _(value: Array, like: Array, *, partitioned: Any, **parameters: Any) -> Array:
    if jax.config.jax_disable_jit:
        return _transform(value, **parameters)
    return _jitted(value, like, partitioned=partitioned, **parameters)


def _transpose(ct: Any, value: Any, like: Any, *, transposed: bool, **parameters: Any) -> Any:
    if type(ct) is ad.Zero:
        return [ad.Zero(value.aval), None]
    if ad.is_undefined_primal(like):
        like = jnp.zeros(like.aval.shape, like.aval.dtype)
    return [transform_p.bind(ct, like, transposed=not transposed, **parameters), None]


def _batch(args: Any, axes: Any, **parameters: Any) -> tuple[Array, int | None]:
    front = [v if i is None else jnp.moveaxis(v, i, 0) for v, i in zip(args, axes, strict=True)]
    return transform_p.bind(*front, **parameters), None if axes[0] is None else 0


ad.defjvp(
    transform_p, lambda g, _, like, **parameters: transform_p.bind(g, like, **parameters), None
)
ad.primitive_transposes[transform_p] = _transpose
batching.primitive_batchers[transform_p] = _batch
register_partitioned(transform_p, _whole, _split, _factors)
