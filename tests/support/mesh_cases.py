"""Compares layers on a mesh of devices with the same layers on one device, and what they send.

A test file lists its `Case`s, and compares what `measure` finds for each with what the mathematics
of the layer needs, in float64, on meshes with automatic and with explicit axes.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from collectives import Collective, collectives
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P


KINDS = ("Auto", "Explicit")
"""Types of the axes of a mesh."""

NOT_SPLIT = P()


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """Describes a layer on a batch of that shape, split by `spec` over a mesh of these sizes."""

    layer: Callable[..., eqx.Module]
    """Its constructor, without `key`."""
    shape: tuple[int, ...]
    sizes: Mapping[str, int]
    spec: P
    spec_of_weights: P = NOT_SPLIT
    call: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Further arguments of the layer's call."""

    @functools.cached_property
    def on_one_device(self) -> "Subject":
        """The functions that are measured, with their arguments and results."""
        return Subject.of(self)


@dataclasses.dataclass(frozen=True)
class Subject:
    """Holds a layer with random weights, a random field, and the results of both on one device."""

    forward: Callable
    """A function of the weights and the field."""
    gradients: Callable
    """A function of both, and of the cotangent of the result."""
    weights: Any
    has_bias: bool
    x: np.ndarray
    cotangent: np.ndarray
    results: tuple[Any, Any, Any]
    """The layer's result, and the gradients by the weights and the field."""

    @classmethod
    def of(cls, case: Case) -> "Subject":
        """Compiles and runs only one program, and none for the weights."""
        normal = np.random.default_rng(0).standard_normal
        layer = eqx.filter_eval_shape(case.layer, key=jax.random.key(0))
        layer = jax.tree.map(lambda leaf: normal(leaf.shape), layer)
        weights, static = eqx.partition(layer, eqx.is_array)

        def forward(weights: Any, x: Any) -> Any:
            return jax.vmap(lambda x: eqx.combine(weights, static)(x, **case.call))(x)

        def gradients(weights: Any, x: Any, cotangent: Any) -> Any:
            product = lambda weights, x: jnp.sum(forward(weights, x) * cotangent)
            return jax.grad(product, (0, 1))(weights, x)

        x = normal(case.shape)
        cotangent = normal(jax.eval_shape(forward, weights, x).shape)
        both = jax.jit(lambda *given: (forward(*given[:2]), *gradients(*given)))
        results = jax.device_get(both(weights, x, cotangent))
        has_bias = getattr(layer, "bias", None) is not None
        return cls(forward, gradients, weights, has_bias, x, cotangent, results)


@dataclasses.dataclass(frozen=True)
class Measured:
    """Holds what a layer does on a mesh."""

    shape: tuple[int, ...]
    """The shape of the result."""
    split: list[Any]
    """The axes of the mesh that split each axis of the result."""
    split_by_x: list[Any]
    """The same for the gradient by the field."""
    forward: list[Collective]
    gradients: list[Collective]
    errors: dict[str, float]
    """For the result and for both gradients, the largest difference from one device, divided by
    what rounding can make of it.
    """
    weights: int
    """The bytes of all weights."""
    result: int
    """The bytes of the whole result."""


def measure(case: Case, kind: str) -> Measured:
    """Runs the case on a mesh whose axes are of the `kind`."""
    one = case.on_one_device
    axis_types = (AxisType[kind],) * len(case.sizes)
    mesh = jax.make_mesh(tuple(case.sizes.values()), tuple(case.sizes), axis_types=axis_types)
    place = functools.partial(_place, mesh)
    weights = jax.tree.map(lambda leaf: place(case.spec_of_weights, leaf), one.weights)
    x = place(case.spec, one.x)
    forward = jax.jit(one.forward).lower(weights, x).compile()
    cotangent = jax.device_put(one.cotangent, forward.output_shardings)
    gradients = jax.jit(one.gradients).lower(weights, x, cotangent).compile()
    found = (forward(weights, x), *gradients(weights, x, cotangent))
    names = ("output", "by_weights", "by_x")
    compared = zip(names, found, one.results, _bounds(one), strict=True)
    return Measured(
        shape=found[0].shape,
        split=_entries(found[0].sharding.spec, found[0].ndim),
        split_by_x=_entries(found[2].sharding.spec, found[2].ndim),
        forward=collectives(forward),
        gradients=collectives(gradients),
        errors={name: _error(*pair) / bound for name, *pair, bound in compared},
        weights=sum(leaf.nbytes for leaf in jax.tree.leaves(one.weights)),
        result=one.cotangent.nbytes,
    )


def _bounds(one: Subject) -> tuple[float, float, float]:
    """Bounds what rounding can make of the results.

    Every sum is a sum of products of two of the three arrays, with at most as many terms as the
    field or the cotangent has points. The sum of their absolute values is at most the product of
    the two norms, times 4, which bounds the norms of the transforms of spectral layers on any axes.
    """
    norm = lambda tree: math.sqrt(sum(float(np.sum(v**2)) for v in jax.tree.leaves(tree)))
    terms = max(one.x.size, one.cotangent.size)
    each = 4 * terms * float(np.finfo(np.float64).eps)
    weights, x, cotangent = norm(one.weights), norm(one.x), norm(one.cotangent)
    ones = math.sqrt(one.cotangent.size) if one.has_bias else 1.0
    return each * weights * (x + 1), each * cotangent * (x + ones), each * weights * cotangent


def _error(actual: Any, expected: Any) -> float:
    pairs = zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True)
    return max(float(np.max(np.abs(np.asarray(a) - b))) for a, b in pairs)


def _place(mesh: Any, spec: P, value: np.ndarray) -> jax.Array:
    """Splits an array by the spec, or copies it to every device if the mesh does not divide it."""
    entries = tuple(spec)[: value.ndim]
    even = all(
        n % math.prod(mesh.shape[axis] for axis in jax.tree.leaves(axes)) == 0
        for n, axes in zip(value.shape, entries, strict=False)
    )
    return jax.device_put(value, NamedSharding(mesh, P(*(entries if even else ()))))


def _entries(spec: P, rank: int) -> list[Any]:
    entries = [None if e is None else list(e) if isinstance(e, tuple) else [e] for e in spec]
    return entries + [None] * (rank - len(entries))


def assert_close(measured: Measured) -> None:
    """Checks that values and gradients are those of one device."""
    for what, ratio in measured.errors.items():
        assert ratio <= 1, (what, ratio)


def assert_sent(
    measured: Measured, forward: Mapping[str, float], gradients: Mapping[str, float]
) -> None:
    """Checks that all collectives are of these kinds, and that their results have these bytes in
    all on one device.
    """
    for what, expected in (("forward", forward), ("gradients", gradients)):
        found: dict[str, int] = {}
        for collective in getattr(measured, what):
            assert collective.times == 1, (what, collective)
            found[collective.kind] = found.get(collective.kind, 0) + collective.bytes
        wanted = {kind: size for kind, size in expected.items() if size}
        assert found == wanted, (what, getattr(measured, what))
