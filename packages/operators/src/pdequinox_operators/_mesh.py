"""Splits operators over the devices of a mesh, as JAX does with its own operations.

While XLA partitions a program, it decides how every array is split, and asks the operator what each
device has to do with its blocks. The question is a `Request`, the answer a `Split`. JAX's custom
partitioning brings the question from XLA.
"""

import hashlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from itertools import combinations
from math import gcd, prod
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental.custom_partitioning import custom_partitioning
from jax.experimental.xla_metadata import set_xla_metadata
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array

from ._jax import DuplicateSpecError, for_export, mesh_of, varying
from .checks import sum_dtype


Shape: TypeAlias = tuple[Any, ...]
"""Holds the shape of an array: integers, or sizes that `jax.export` leaves open."""

Axes: TypeAlias = tuple[str, ...]
"""Names the axes of a mesh over which one axis of an array is split, the major one first."""

Spec: TypeAlias = tuple[Axes, ...]
"""Says how an array is split, with one entry per axis."""

Factors: TypeAlias = Sequence[Sequence[Any]]
"""Says what the axes of an operator's operands and of its result count. Axes that are split alike
share a name, and `None` stands for axes that are never split.
"""


class Split(NamedTuple):
    """Holds a program for every device: how the operands and the result are split over the mesh,
    and the function from the operands' blocks to the result's block. In this function the axes of
    the mesh have names (`jax.lax.psum`, `jax.lax.ppermute`).
    """

    operands: Sequence[Spec]
    result: Spec
    program: Callable[..., Array]


class Request(NamedTuple):
    """Holds what XLA asks: the sizes of the mesh's axes, the shapes of the operands and the result,
    and how XLA would split them.
    """

    sizes: Mapping[str, int]
    shapes: Sequence[Shape]
    specs: Sequence[Spec]

    def count(self, axes: Axes) -> int:
        """Counts the blocks of an array's axis that is split over these axes of the mesh."""
        return prod(self.sizes[axis] for axis in axes)

    def blocks(self, specs: Sequence[Spec]) -> list[Shape]:
        """Lists the shapes of a device's blocks of the operands and the result."""
        return [
            tuple(n // self.count(axes) for n, axes in zip(shape, spec, strict=True))
            for shape, spec in zip(self.shapes, specs, strict=True)
        ]

    def assign(
        self,
        factors: Factors,
        order: Iterable[tuple[Any, Sequence[int]]],
        multiples: Mapping[Any, int],
    ) -> dict[Any, Axes]:
        """Decides over which axes of the mesh every factor is split.

        Takes the factors in the given `order`. Splits each one as the first of its candidate arrays
        that XLA splits by it, over those axes of the mesh that divide it in all arrays, with as
        many devices as possible. No two factors share an axis of the mesh, so their order matters.
        `multiples` holds what must be divided in addition to the arrays' axes.
        """
        taken: dict[Any, Axes] = {}
        for factor, candidates in order:
            extents = [multiples.get(factor, 0)]
            for names, shape in zip(factors, self.shapes, strict=True):
                extents += [n for n, name in zip(shape, names, strict=True) if name == factor]
            for array in candidates:
                if factor in factors[array] and not taken.get(factor):
                    used = {axis for axes in taken.values() for axis in axes}
                    asked = self.specs[array][list(factors[array]).index(factor)]
                    free = [axis for axis in asked if axis not in used]
                    taken[factor] = _even(free, self.sizes, extents)
        return taken

    def sum_over(
        self, axes: Iterable[str], result: Spec, places: Iterable[int]
    ) -> tuple[Spec, Callable[[Array], Array]]:
        """Sums the devices' results over axes of the mesh. Returns how the sum is split, and the
        function that computes it.

        If XLA would split the sum over such an axis, along one of the `places`, every device gets
        only its part (a reduce-scatter sends half of what an all-reduce sends).
        """
        spec, wanted = list(result), self.specs[-1]
        together, scattered = [], []
        for axis in axes:
            for place in places:
                parts = self.count((*spec[place], axis))
                if axis in wanted[place] and self.shapes[-1][place] % parts == 0:
                    scattered.append((axis, place))
                    spec[place] += (axis,)
                    break
            else:
                together.append(axis)

        def summed(x: Array) -> Array:
            total = x.astype(sum_dtype(x.dtype)) if scattered or together else x
            for axis, place in scattered:
                total = lax.psum_scatter(total, axis, scatter_dimension=place, tiled=True)
            if together:
                total = lax.psum(total, tuple(together))
            return total.astype(x.dtype)

        return tuple(spec), summed


def on_auto_axes(
    function: Callable[..., Array],
    shape: Shape,
    spec: Callable[..., Spec],
    *operands: Array,
) -> Array:
    """Calls `function(*operands)` with all axes of the mesh automatic.

    On a mesh with explicit axes, JAX asks of every operation how its result is split. Here it does
    not ask about the arrays in between. The result, which has the given `shape`, is split as `spec`
    says, where the mesh divides it; `spec` is a function of how the operands are split.

    **Raises:** `ValueError` if the result would be split twice over an axis of the mesh.
    """
    shardings = [jax.typeof(value).sharding for value in operands]
    mesh = next((s.mesh for s in shardings if s.mesh.shape and s.mesh.explicit_axes), None)
    if mesh is None:
        return function(*operands)
    asked = spec(*(_axes(s, v.ndim) for s, v in zip(shardings, operands, strict=True)))
    result = tuple(_even(axes, mesh.shape, [n]) for n, axes in zip(shape, asked, strict=True))
    axes = tuple(mesh.explicit_axes)
    try:
        out_sharding = _named(mesh, result)
        return jax.sharding.auto_axes(function, axes=axes, out_sharding=out_sharding)(*operands)
    except DuplicateSpecError as error:
        # How a batch is split is known only here: `jax.vmap` adds it to how the result is split.
        raise ValueError(
            "A weight must not be split over an explicit axis of the mesh that also splits the "
            f"samples or points of `x`, got {[str(jax.typeof(v)) for v in operands]}. "
            "Gather the weight by `jax.sharding.reshard` first, or use automatic axes."
        ) from error


def _even(axes: Sequence[str], sizes: Mapping[str, int], extents: Sequence[int]) -> Axes:
    """Chooses those axes of the mesh whose number of devices divides all extents, with as many
    devices as possible.
    """
    count = lambda chosen: prod(sizes[axis] for axis in chosen)
    subsets = [
        chosen for length in range(len(axes), -1, -1) for chosen in combinations(axes, length)
    ]
    return max((s for s in subsets if all(n % count(s) == 0 for n in extents)), key=count)


def equally_varying(*values: Array) -> Sequence[Array]:
    """Makes values vary over the same axes of the mesh inside `jax.shard_map`, as JAX's own
    operations do with their operands. The transpose of this is the sum over devices that the
    gradient of a replicated array needs.
    """
    avals = [jax.typeof(value) for value in values]
    if not any(aval.sharding.mesh.manual_axes for aval in avals):
        return values
    axes = [varying(aval) for aval in avals]
    every = frozenset().union(*axes)
    missing = [tuple(sorted(every - own, key=str)) for own in axes]
    return [
        jax.lax.pcast(value, names, to="varying") if names else value
        for value, names in zip(values, missing, strict=True)
    ]


def transposed(function: Callable[[Array], Array], shape: Shape) -> Callable[[Array], Array]:
    """Makes the transpose of a linear function. The function's argument has the given shape, and
    varies over the mesh as its result does.
    """

    def transpose(value: Array) -> Array:
        like = jax.ShapeDtypeStruct(shape, value.dtype)
        if jax.typeof(value).sharding.mesh.manual_axes:
            like, _ = equally_varying(jnp.zeros(shape, value.dtype), value)
        return jax.linear_transpose(function, like)(value)[0]

    return transpose


class Sharding(NamedTuple):
    """Says how an operator is split over a mesh.

    - `factors(shapes, **parameters)`: what the axes of the operands and of the result count.
    - `split(request, **parameters)`: what to do with a [`pdequinox_operators.Request`][]. XLA moves
        blocks where the answer is not what it asked for. Programs that JAX keeps on disk are found
        again as long as the `__version__` of the package that defines `split` is the same.
    - `packages`: other packages whose code `split` runs, and whose `__version__` counts as well.
    """

    factors: Callable[..., Factors]
    split: Callable[..., Split]
    packages: tuple[str, ...] = ()

    def partitioned(
        self, name: str, context: Any, precision: str | None, **parameters: Any
    ) -> Callable[..., Array] | None:
        """Makes the operator a call that XLA partitions by asking `split`. Returns `None` where XLA
        cannot ask: if there is one device, the program is exported, or a size is open.
        """
        shapes = [aval.shape for aval in (*context.avals_in, *context.avals_out)]
        known = all(isinstance(n, int) for shape in shapes for n in shape)
        if not known or mesh_of(context) is None or for_export(context):
            return None
        (result,) = context.avals_out
        rule = _notation(shapes, self.factors(shapes, **parameters))
        call = _partitioned(
            partial(self.split, **parameters), rule, shapes, result.dtype, precision
        )
        # JAX's cache on disk does not see what `split` is. Without the key below, it could confuse
        # programs that differ only in the parameters, or in the version.
        names = [module.partition(".")[0] for module in (__name__, self.split.__module__)]
        modules = [sys.modules[module] for module in (*names, *self.packages)]
        versions = [getattr(module, "__version__", None) for module in modules]
        key = hashlib.sha256(repr((name, versions, precision, parameters)).encode()).hexdigest()

        def with_key(*operands: Array) -> Array:
            with set_xla_metadata(pdequinox=key):
                return call(*operands)

        return with_key


def _partitioned(
    split: Callable[[Request], Split],
    rule: tuple[str, dict[str, int]],
    shapes: Sequence[Shape],
    dtype: Any,
    precision: str | None,
) -> Callable[..., Array]:
    def partition(mesh: Any, operands: Any, result: Any) -> Any:
        shardings = [value.sharding for value in (*operands, result)]
        specs = [_found(mesh, s, shape) for s, shape in zip(shardings, shapes, strict=True)]
        decision = split(Request(mesh.shape, shapes, specs))

        def program(*blocks: Array) -> Array:
            # This runs long after the operator was called: the precision is that of the call. The
            # abstract mesh makes the order of the mesh's axes known.
            abstract_mesh = jax.sharding.use_abstract_mesh(mesh.abstract_mesh)
            with jax.default_matmul_precision(precision), abstract_mesh:
                return decision.program(*blocks)

        operand_shardings = tuple(_named(mesh, spec) for spec in decision.operands)
        return mesh, program, _named(mesh, decision.result), operand_shardings

    # JAX takes only the shape of the result from this function.
    call = custom_partitioning(lambda *operands: jnp.zeros(shapes[-1], dtype))
    words, sizes = rule
    call.def_partition(
        partition=partition,
        sharding_rule=words,
        # JAX's own decoding fails if XLA has split an axis over a part of an axis of the mesh.
        decode_shardings=False,
        **sizes,
    )
    return call


def _notation(shapes: Sequence[Shape], factors: Factors) -> tuple[str, dict[str, int]]:
    """Writes the rule in the notation of `custom_partitioning`. Axes that are split alike share a
    factor, the greatest common divisor of their sizes. What remains of each axis is a factor of its
    own, which is not split.
    """
    common: dict[Any, int] = {}
    for shape, names in zip(shapes, factors, strict=True):
        for n, name in zip(shape, names, strict=True):
            common[name] = gcd(n, common.get(name, 0))
    shared = {name: f"f{i}" for i, name in enumerate(common)}
    given: dict[str, int] = {}
    arrays = []
    for i, (shape, names) in enumerate(zip(shapes, factors, strict=True)):
        words = []
        for place, (n, name) in enumerate(zip(shape, names, strict=True)):
            own, part = f"a{i}x{place}", common[name]
            if name is None or (part == 1 and n > 1):
                words.append(own)
            elif part == n:
                words.append(shared[name])
            else:
                words.append(f"({shared[name]} {own})")
                given |= {shared[name]: part, own: n // part}
        arrays.append(words)
    whole = {word for words in arrays for word in words}
    *operands, result = (" ".join(words) for words in arrays)
    rule = f"{', '.join(operands)} -> {result}"
    return rule, {word: size for word, size in given.items() if word not in whole}


def _found(mesh: Any, sharding: Any, shape: Shape) -> Spec:
    """Finds over which axes of the mesh a sharding of XLA splits every axis of an array. An axis
    that is split in another way, such as over a part of an axis of the mesh, counts as not split.
    """
    # If an axis of the array is split over the mesh axes `a_1, ..., a_p`, the major one first, the
    # block of the device with the coordinates `i_1, ..., i_p` begins at the sum of `i_k l_k`. Here
    # `l_p` is the length of a block, and `l_k` is `l_p` times the number of devices along
    # `a_(k+1), ..., a_p`. So the device whose only nonzero coordinate is `i_k = 1` begins at `l_k`:
    # the axes are those along which the beginnings grow, the fastest one first. The array is split
    # in this way if the blocks of all other devices begin where the sum says.
    if sharding is None:
        return ((),) * len(shape)
    try:
        sharding.shard_shape(shape)
    except ValueError:  # XLA may ask for a slice whose size the devices do not divide.
        return ((),) * len(shape)
    blocks = sharding.devices_indices_map(shape)
    coordinates = dict(zip(mesh.axis_names, np.indices(mesh.devices.shape), strict=True))
    spec = []
    for axis, n in enumerate(shape):
        starts = [blocks[device][axis].indices(n)[0] for device in mesh.devices.flat]
        starts = np.reshape(starts, mesh.devices.shape)
        second = {name: starts[coordinates[name] == 1] for name in mesh.axis_names}
        growing = [name for name, found in second.items() if found.size and found.flat[0]]
        names = tuple(sorted(growing, key=lambda name: -second[name].flat[0]))
        expected, length = np.zeros_like(starts), n // prod(mesh.shape[name] for name in names)
        for name in reversed(names):
            expected += length * coordinates[name]
            length *= mesh.shape[name]
        spec.append(names if np.array_equal(starts, expected) else ())
    return tuple(spec)


def _axes(sharding: Any, rank: int) -> Spec:
    entries = tuple(getattr(sharding, "spec", ()))
    entries += (None,) * (rank - len(entries))
    return tuple(() if e is None else tuple(e) if isinstance(e, tuple) else (e,) for e in entries)


def _named(mesh: Any, spec: Spec) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec(*(axes or None for axes in spec)))


@cache
def partitioned_marker() -> Any:
    """Makes a program with a call that XLA partitions by asking Python. JAX looks for such calls in
    the parameters of primitives, and makes the mesh known to their lowering rules only if it finds
    one. So every primitive that has a `Sharding` carries this one.
    """
    call = custom_partitioning(lambda x: x)
    call.def_partition(partition=None, sharding_rule="i -> i")
    return jax.make_jaxpr(call)(jax.ShapeDtypeStruct((1,), jnp.float32))
