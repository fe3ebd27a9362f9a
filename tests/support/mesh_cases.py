"""Layers on a mesh of devices: what they give and what they send, against the same on one device.

`on_mesh` is for the tests of each package. It runs their cases in a process that has eight devices,
in float64, on meshes with automatic and with explicit axes.
"""

import hashlib
import json
import math
import os
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from collectives import collectives, on_devices


# With JAX's newer partitioner, Shardy.
ON_MESHES = jax.__version_info__ >= (0, 7)
KINDS = ("Auto", "Explicit")

PROGRAM = """
import json, jax
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
from mesh_cases import measure
from jax.sharding import PartitionSpec as P
{imports}

key = jax.random.key(0)
found = {{}}
for name, case in {{{cases}}}.items():
    for kind, measured in measure(*case).items():
        found[f"{{name}} {{kind}}"] = measured
print(json.dumps(found))
"""


def on_mesh(folder: Any, imports: str, cases: Mapping[str, str]) -> dict[str, Any]:
    """What [`measure`][] says of each case, by `"name kind"`: a case is the source of the tuple of
    its arguments, in which `key` is a key and `P` a `PartitionSpec`.

    `folder` is pytest's `tmp_path_factory`. Of several processes that share the tests of a run, one
    measures, and the others wait for what it writes there.
    """
    text = ", ".join(f"{name!r}: ({case})" for name, case in cases.items())
    program = PROGRAM.format(imports=imports, cases=text)
    root = folder.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    lock = root / hashlib.sha256(program.encode()).hexdigest()
    found = lock.with_suffix(".json")
    try:
        lock.touch(exist_ok=False)
    except FileExistsError:
        patience = time.monotonic() + 1800
        while not found.exists() and time.monotonic() < patience:
            time.sleep(0.1)
        assert found.exists() and found.read_text(), "It failed in another process."
        return json.loads(found.read_text())
    result = None
    try:
        result = on_devices(program)
        return result
    finally:
        written = lock.with_suffix(".part")
        written.write_text("" if result is None else json.dumps(result))
        written.rename(found)


def measure(
    layer: Any,
    shape: tuple[int, ...],
    sizes: Mapping[str, int],
    spec: Any,
    spec_of_weights: Any = (),
    call: Mapping[str, Any] | None = None,
) -> dict[str, dict[str, Any]]:
    """A layer on a batch of that shape, split over a mesh of these sizes by `spec`, and called with
    the arguments `call`; for each of `KINDS`, the types of the mesh's axes.

    The results hold the shape of the layer's output; how it and the gradient by the field are
    split; the collectives of the forward pass and of both gradients; and, of the output and both
    gradients, the largest difference from one device over what rounding can make of it.
    """
    weights, static = eqx.partition(layer, eqx.is_inexact_array)
    weights = jax.tree.map(lambda leaf: leaf.astype(jnp.float64), weights)
    normal = np.random.default_rng(0).standard_normal
    x = jnp.asarray(normal(shape))

    def apply(weights: Any, x: Any) -> Any:
        return jax.vmap(lambda x: eqx.combine(weights, static)(x, **(call or {})))(x)

    def product(arguments: Any, cotangent: Any) -> Any:
        return jnp.sum(apply(*arguments) * cotangent)

    cotangent = jnp.asarray(normal(jax.eval_shape(apply, weights, x).shape))
    both = lambda *arguments: (apply(*arguments), *jax.grad(product)(arguments, cotangent))
    expected = jax.jit(both)(weights, x)

    # Every sum is one of products of two of the three arrays, at most as many as the field or the
    # cotangent has points. The sum of their absolute values is at most the product of the two
    # norms, times 4, which bounds the norms of the transforms of spectral layers, on any axes.
    norm = lambda tree: math.sqrt(sum(float(jnp.sum(v**2)) for v in jax.tree.leaves(tree)))
    terms = max(x.size, cotangent.size)
    ones = 1.0 if getattr(layer, "bias", None) is None else math.sqrt(cotangent.size)
    bounds = (
        norm(weights) * (norm(x) + 1),
        norm(cotangent) * (norm(x) + ones),
        norm(weights) * norm(cotangent),
    )

    def error(actual: Any, expected: Any, bound: float) -> float:
        pairs = zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True)
        largest = max(float(np.max(np.abs(np.asarray(a) - np.asarray(b)))) for a, b in pairs)
        return largest / (4 * terms * float(jnp.finfo(jnp.float64).eps) * bound)

    described = lambda compiled: [
        dict(kind=c.kind, size=c.size, bytes=c.bytes, shapes=c.shapes, group=c.group, times=c.times)
        for c in collectives(compiled)
    ]
    measured = {}
    for kind in KINDS:
        axis_types = (getattr(jax.sharding.AxisType, kind),) * len(sizes)
        mesh = jax.make_mesh(tuple(sizes.values()), tuple(sizes), axis_types=axis_types)
        placed = (
            jax.tree.map(partial(_place, mesh, spec_of_weights), weights),
            _place(mesh, spec, x),
        )
        forward = jax.jit(apply).lower(*placed).compile()
        own = jax.device_put(cotangent, forward.output_shardings)
        backward = jax.jit(jax.grad(product)).lower(placed, own).compile()
        found = (forward(*placed), *backward(placed, own))
        names = ("output", "by_weights", "by_x")
        measured[kind] = dict(
            shape=cotangent.shape,
            split=_entries(found[0].sharding.spec, cotangent.ndim),
            split_by_x=_entries(found[2].sharding.spec, x.ndim),
            forward=described(forward),
            gradients=described(backward),
            errors=dict(zip(names, map(error, found, expected, bounds), strict=True)),
            shard=x.nbytes // math.prod(sizes[a] for a in jax.tree.leaves(tuple(spec))),
            weights=sum(leaf.nbytes for leaf in jax.tree.leaves(weights)),
            devices=mesh.size,
        )
    return measured


def _place(mesh: Any, spec: Any, value: Any) -> Any:
    """Split so; on every device, where the mesh does not divide it."""
    spec = tuple(spec)[: value.ndim]
    even = all(
        n % math.prod(mesh.shape[axis] for axis in jax.tree.leaves(axes)) == 0
        for n, axes in zip(value.shape, spec, strict=False)
    )
    spec = jax.sharding.PartitionSpec(*(spec if even else ()))
    return jax.device_put(value, jax.sharding.NamedSharding(mesh, spec))


def _entries(spec: Any, rank: int) -> list[Any]:
    entries = [None if e is None else list(e) if isinstance(e, tuple) else [e] for e in spec]
    return entries + [None] * (rank - len(entries))


def assert_close(measured: Mapping[str, Any]) -> None:
    """Values and gradients are those of one device."""
    for what, ratio in measured["errors"].items():
        assert ratio <= 1, (what, ratio)


def assert_sent(
    measured: Mapping[str, Any], forward: Mapping[str, int], gradients: Mapping[str, int]
) -> None:
    """The collectives are of these kinds alone, and their results have these bytes in all. None is
    as large as the field.
    """
    for what, expected in (("forward", forward), ("gradients", gradients)):
        total: dict[str, int] = {}
        for collective in measured[what]:
            assert collective["times"] == 1, collective
            assert collective["size"] < measured["shard"] * measured["devices"], collective
            kind = collective["kind"]
            total[kind] = total.get(kind, 0) + collective["bytes"]
        assert total == {kind: size for kind, size in expected.items() if size}, (what, total)
