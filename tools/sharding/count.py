"""Compiles layers of one library for sharded fields, and counts what a device sends.

`python count.py LIBRARY MESH CASES` runs with eight devices. The cases are a list of layer,
sharding and pass, in JSON. A line of JSON is written for each as soon as it is known.
"""

import json
import sys
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from cases import CHANNELS, Layer, LAYERS, MODES, POINTS, SAMPLES, Sharding, SHARDINGS
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P


sys.path.append(str(Path(__file__).resolve().parents[2] / "tests" / "support"))
from collectives import collectives, largest, sent


OURS = {
    "PhysicsConv": "pdequinox_physconv",
    "PhysicsConvTranspose": "pdequinox_physconv",
    "SpectralConv": "pdequinox_spectralconv",
    "PointwiseLinearConv": "pdequinox_pointwise",
}


def make(library: str, layer: Layer) -> Any:
    """Makes the layer."""
    module = import_module(OURS[layer.type] if library == "ours" else "pdequinox.conv")
    arguments = layer.arguments(CHANNELS, MODES)
    return getattr(module, layer.type)(**arguments, key=jax.random.key(0))


def compiled(library: str, axis_type: AxisType, layer: Layer, sharding: Sharding, what: str) -> Any:
    """Compiles the program for sharded arguments. Its results are sharded like the arguments: a
    field like the field, and the gradient of a weight like the weight.
    """
    weights, static = eqx.partition(make(library, layer), eqx.is_inexact_array)
    counts = {"s": sharding.samples, "c": sharding.channels}
    counts |= dict(zip("xyz", sharding.space, strict=True))
    counts = {name: count for name, count in counts.items() if count > 1}
    mesh = jax.make_mesh(
        tuple(counts.values()), tuple(counts), axis_types=(axis_type,) * len(counts)
    )

    def on_mesh(shape: tuple[int, ...], *names: str | None) -> Any:
        spec = P(*(name if name in counts else None for name in names))
        return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, spec))

    before = (None,) if layer.type == "SpectralConv" else ()
    weights = jax.tree.map(lambda w: on_mesh(w.shape, *before, "c"), weights)
    field = on_mesh((SAMPLES, CHANNELS, *POINTS), *"scxyz")
    result = on_mesh((SAMPLES, CHANNELS, *layer.points_out(POINTS)), *"scxyz")
    shardings = lambda tree: jax.tree.map(lambda v: v.sharding, tree)

    def forward(weights: Any, x: Any) -> Any:
        return jax.vmap(eqx.combine(weights, static))(x)

    def loss(arguments: Any, cotangent: Any) -> Any:
        return jnp.sum(forward(*arguments) * cotangent)

    if what == "forward":
        function = jax.jit(forward, out_shardings=result.sharding)
        return function.lower(weights, field).compile()
    gradients = shardings((weights, field))
    function = jax.jit(
        jax.value_and_grad(loss), out_shardings=(NamedSharding(mesh, P()), gradients)
    )
    return function.lower((weights, field), result).compile()


def counted(program: Any) -> dict[str, Any]:
    """Counts what a device sends in a run, the largest collective, the collectives of each kind,
    and the memory that the program needs on a device beyond its arguments and results.
    """
    found = collectives(program)
    return {
        "temporary": program.memory_analysis().temp_size_in_bytes,
        "sent": round(sent(found)),
        "largest": largest(found),
        "kinds": dict(Counter(collective.kind for collective in found)),
    }


def main() -> None:
    """Runs the command line."""
    library, mesh, asked = sys.argv[1], AxisType[sys.argv[2]], json.loads(sys.argv[3])
    layers = {layer.title: layer for layer in LAYERS}
    shardings = {sharding.title: sharding for sharding in SHARDINGS}
    for layer, sharding, what in asked:
        try:
            answer = counted(compiled(library, mesh, layers[layer], shardings[sharding], what))
        except Exception as error:
            # An error is a result too: the library cannot do this case.
            answer = {"error": f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
