"""Primitives on meshes of devices: what JAX does for its own primitives, for others.

For authors of layers: `pdequinox_physconv` and `pdequinox_spectralconv` use it.
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
from jax.extend.core import Primitive
from jax.interpreters import mlir
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array


Axes: TypeAlias = tuple[str, ...]
"""The axes of a mesh that an axis of an array is split over, the major one first."""

Spec: TypeAlias = tuple[Axes, ...]
"""How an array is split: one entry per axis."""

Factors: TypeAlias = Sequence[Sequence[Any]]
"""What the axes of the operands and of the result of a primitive count, one name for what is split
alike, and `None` for what is never split.
"""


class Split(NamedTuple):
    """A program for every device: how the operands and the result are split over the mesh, and
    the function of the operands' blocks that gives the result's, where the mesh's axes have names
    (`jax.lax.psum`, `jax.lax.ppermute`).
    """

    operands: Sequence[Spec]
    result: Spec
    carry_out: Callable[..., Array]


class Request(NamedTuple):
    """What XLA asks for: the sizes of the mesh's axes, and, of the operands and the result, the
    shapes, and how it would have them split.
    """

    sizes: Mapping[str, int]
    shapes: Sequence[tuple[int, ...]]
    specs: Sequence[Spec]

    def count(self, axes: Axes) -> int:
        """The number of blocks of an axis that is split over these."""
        return prod(self.sizes[axis] for axis in axes)

    def blocks(self, specs: Sequence[Spec]) -> list[tuple[int, ...]]:
        """The shapes of a device's blocks."""
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
        """Which axes of the mesh every factor is split over: in this order, as the first of the
        given arrays that is split by it, over those axes that divide it in all arrays, with as many
        devices as possible. No two factors share an axis of the mesh. `multiples` has what must be
        divided other than the arrays' axes.
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
        """The sum of the devices' results over axes of the mesh: how it is then split, and the
        function that takes it. Where XLA would have the sum split over such an axis, along one of
        the `places`, every device is given its part alone.
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
            for axis, place in scattered:
                x = lax.psum_scatter(x, axis, scatter_dimension=place, tiled=True)
            return lax.psum(x, tuple(together)) if together else x

        return tuple(spec), summed


def on_auto_axes(
    function: Callable[..., Array],
    shape: tuple[int, ...],
    spec: Callable[..., Spec],
    *operands: Array,
) -> Array:
    """`function(*operands)`, in which no axis of the mesh has the explicit type, that is, JAX asks
    nobody how the arrays in between are split. The result, of that shape, is split as `spec` says,
    a function of how the operands are, where the mesh divides it.
    """
    if not hasattr(jax.sharding, "auto_axes"):
        return function(*operands)
    shardings = [jax.typeof(value).sharding for value in operands]
    mesh = next((s.mesh for s in shardings if s.mesh.shape and s.mesh.explicit_axes), None)
    if mesh is None:
        return function(*operands)
    asked = spec(*(_axes(s, v.ndim) for s, v in zip(shardings, operands, strict=True)))
    result = tuple(_even(axes, mesh.shape, [n]) for n, axes in zip(shape, asked, strict=True))
    try:
        out_sharding = _named(mesh, result)
        axes = tuple(mesh.explicit_axes)
        return jax.sharding.auto_axes(function, axes=axes, out_sharding=out_sharding)(*operands)
    except Exception as error:
        if type(error).__name__ != "DuplicateSpecError":
            raise
        raise ValueError(
            "A weight must not be split over an axis of the mesh that splits the samples or points "
            f"of `x` too, if that axis is explicit, got {[str(jax.typeof(v)) for v in operands]}. "
            "Gather the weight by `jax.sharding.reshard` first, or use automatic axes."
        ) from error


def _even(axes: Sequence[str], sizes: Mapping[str, int], extents: Sequence[int]) -> Axes:
    """Those axes of the mesh, as many devices as possible, whose number divides all extents."""
    count = lambda chosen: prod(sizes[axis] for axis in chosen)
    subsets = [
        chosen for length in range(len(axes), -1, -1) for chosen in combinations(axes, length)
    ]
    return max((s for s in subsets if all(n % count(s) == 0 for n in extents)), key=count)


def equally_varying(*values: Array) -> list[Array]:
    """Inside of `jax.shard_map`: varying over the same axes of the mesh, as the operands of JAX's
    own primitives are made to be. The transpose of this is the sum over devices that the gradient
    of a replicated array needs.
    """
    if not hasattr(jax, "typeof"):
        return list(values)
    varying = []
    for value in values:
        # Named anew in JAX 0.11.
        aval = jax.typeof(value)
        axes = aval.mat.varying if hasattr(aval, "mat") else getattr(aval, "vma", ())
        varying.append(frozenset(axes))
    every = frozenset().union(*varying)
    missing = [tuple(sorted(every - own, key=str)) for own in varying]
    if hasattr(jax.lax, "pcast"):
        cast = partial(jax.lax.pcast, to="varying")
    else:
        cast = getattr(jax.lax, "pvary", None)
    return [cast(v, axes) if axes else v for v, axes in zip(values, missing, strict=True)]


def abstract(function: Callable[..., Array], *operands: Any) -> Any:
    """What JAX's own rules say of the result of `function`, for operands that vary alike."""
    out = jax.make_jaxpr(function)(*operands).out_avals[0]
    like = operands[0]
    if hasattr(like, "manual_axis_type"):
        return out.update(manual_axis_type=like.manual_axis_type)
    return out.update(vma=like.vma) if hasattr(like, "vma") else out


def transpose(
    function: Callable[[Array], Array], shape: tuple[int, ...]
) -> Callable[[Array], Array]:
    """Of a linear function of an array of that shape, which varies as the function's result."""

    def transposed(value: Array) -> Array:
        like, _ = equally_varying(jnp.zeros(shape, value.dtype), value)
        return jax.linear_transpose(function, like)(value)[0]

    return transposed


def register_partitioned(
    primitive: Primitive,
    whole: Callable[..., Array],
    split: Callable[..., Split],
    factors: Callable[..., Factors],
) -> None:
    """Lowers a primitive, of one result, to a program for every device.

    **Arguments:**

    - `primitive`: Every `bind` has the parameter `partitioned=partitioned()`, which the
        functions below do not get.
    - `whole`: `whole(*operands, **parameters)`, the program for one device.
    - `split`: `split(request, **parameters)`, what to do with a [`Request`][]. XLA moves blocks
        where the answer is not what it asked for.
    - `factors`: `factors(shapes, **parameters)`, of the operands and the result.
    """

    def lowering(context: Any, *operands: Any, partitioned: Any, **parameters: Any) -> Any:
        function = partial(whole, **parameters)
        mesh = _named_mesh(context)
        if partitioned is not None and mesh is not None:
            shapes = [aval.shape for aval in (*context.avals_in, *context.avals_out)]
            rule = notation(shapes, factors(shapes, **parameters))
            (result,) = context.avals_out
            call = _partitioned(partial(split, **parameters), rule, shapes, result.dtype)
            # Without this, JAX's cache on disk could take programs that differ in nothing but the
            # parameters, or the version of this code, for the same.
            names = (__name__.partition(".")[0], split.__module__.partition(".")[0])
            versions = [sys.modules[name].__version__ for name in names]
            identity = (primitive.name, versions, parameters)
            key = hashlib.sha256(repr(identity).encode()).hexdigest()
            function = partial(_with_metadata, call, key)
        return mlir.lower_fun(function, multiple_results=False)(context, *operands)

    mlir.register_lowering(primitive, lowering)


def _with_metadata(call: Callable[..., Array], key: str, *operands: Array) -> Array:
    with set_xla_metadata(pdequinox=key):
        return call(*operands)


def _named_mesh(context: Any) -> Any:
    """The mesh, if XLA is to partition the program, and over axes that have names. A program that
    is exported cannot ask Python any more, and one whose shapes are open cannot be asked about.
    """
    module = context.module_context
    exported = getattr(getattr(module, "lowering_parameters", None), "for_export", False)
    shapes = [aval.shape for aval in (*context.avals_in, *context.avals_out)]
    if exported or not all(isinstance(n, int) for shape in shapes for n in shape):
        return None
    devices = getattr(module.axis_context, "device_assignment", None) or ()
    return getattr(module.axis_context, "abstract_mesh", None) if len(devices) > 1 else None


def _partitioned(
    split: Callable[[Request], Split],
    rule: tuple[str, dict[str, int]],
    shapes: Sequence[tuple[int, ...]],
    dtype: Any,
) -> Callable[..., Array]:
    def partition(mesh: Any, operands: Any, result: Any) -> Any:
        shardings = [value.sharding for value in (*operands, result)]
        specs = [_found(mesh, s, shape) for s, shape in zip(shardings, shapes, strict=True)]
        decision = split(Request(mesh.shape, shapes, specs))

        def carry_out(*blocks: Array) -> Array:
            # Makes the order of the mesh's axes known.
            with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
                return decision.carry_out(*blocks)

        operand_shardings = tuple(_named(mesh, spec) for spec in decision.operands)
        return mesh, carry_out, _named(mesh, decision.result), operand_shardings

    # Of this function JAX takes the shape of the result alone.
    call = custom_partitioning(lambda *operands: jnp.zeros(shapes[-1], dtype))
    words, sizes = rule
    call.def_partition(
        partition=partition,
        sharding_rule=words,
        # JAX's own fails where XLA has split an axis over a part of one of the mesh.
        decode_shardings=False,
        **sizes,
    )
    return call


def notation(shapes: Sequence[tuple[int, ...]], factors: Factors) -> tuple[str, dict[str, int]]:
    """That of `jax.experimental.custom_partitioning`: of axes that are split alike, the greatest
    common divisor of their sizes is, and the rest of each is not.
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


def _found(mesh: Any, sharding: Any, shape: tuple[int, ...]) -> Spec:
    """How a sharding of XLA's splits an array: over the axes of the mesh along which the first
    points of the devices' blocks grow, the major one first, where they grow the most. An axis that
    is split in another way, as over a part of an axis of the mesh, counts as not split.
    """
    if sharding is None:
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
def partitioned() -> Any:
    """The parameter of that name of a primitive of [`register_partitioned`][]: a program with a
    call that XLA partitions by asking Python. JAX looks for such calls in the parameters of
    primitives, and only if it finds one is the mesh known when they are lowered.
    """
    if not getattr(jax.config, "jax_use_shardy_partitioner", False):
        return None  # Before JAX 0.7: all partitioning is left to XLA.
    call = custom_partitioning(lambda x: x)
    call.def_partition(partition=None, sharding_rule="i -> i")
    return jax.make_jaxpr(call)(jax.ShapeDtypeStruct((1,), jnp.float32))
