"""Compares the programs that two commits make of the same layers: what JAX hands to the compiler.

`python programs.py against COMMIT` compares the working tree with a commit. `record FILE` writes
the programs of the packages that can be imported, and `compare OLD NEW` compares two such files.
`--only TEXT` selects the programs whose name contains the text, and `--show TEXT` shows all
differences of the programs whose name contains the text. The status is 1 if programs differ.

A program is represented by its StableHLO for CPUs, CUDA and TPUs, without names and versions. What
a layer on a mesh does is decided later, when XLA asks how it is split, so these programs are also
compiled for eight CPU devices, and what they send is compared. The layers are made only by the
packages' public names, so that commits with other internals can be compared.
"""

import argparse
import difflib
import hashlib
import inspect
import io
import itertools
import json
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P


sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "support"))
from collectives import collectives


ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {
    "PhysicsConv": "pdequinox_physconv",
    "PhysicsConvTranspose": "pdequinox_physconv",
    "MorePaddingConv": "pdequinox_physconv",
    "MorePaddingConvTranspose": "pdequinox_physconv",
    "SpectralConv": "pdequinox_spectralconv",
    "PointwiseLinearConv": "pdequinox_pointwise",
    "pad": "pdequinox_padding",
}
PLATFORMS = ("cpu", "cuda", "tpu")
DEVICES, BATCH, MEMBERS = 8, 8, 3
SHOWN = 12
"""The lines of a difference that are shown without `--show`."""

MIXED = (("neumann", "dirichlet_cell"), "periodic")
CONV, TRANSPOSE, SPECTRAL = "PhysicsConv", "PhysicsConvTranspose", "SpectralConv"
PERIODIC: dict[str, Any] = dict(kernel_size=3, boundary_mode="periodic")
USUAL = {
    CONV: PERIODIC,
    TRANSPOSE: PERIODIC,
    SPECTRAL: dict(num_modes=4),
    "PointwiseLinearConv": {},
}


@dataclass(frozen=True)
class Layer:
    """Describes a layer by those arguments that are not the usual ones, and a sample's shape."""

    type: str
    shape: tuple[int, ...]
    arguments: dict[str, Any] = field(default_factory=dict)
    ways: tuple[str, ...] = ("forward", "gradient")
    dtype: str = "float32"
    call: dict[str, Any] = field(default_factory=dict)

    def make(self) -> Any:
        """Makes the layer with shapes in place of arrays."""
        channels, *points = self.shape
        given = dict(num_spatial_dims=len(points), in_channels=channels, out_channels=channels)
        given |= dict(dtype=jnp.dtype(self.dtype))
        given |= USUAL.get(self.type, {"kernel_size": 3}) | self.arguments
        make = getattr(import_module(PACKAGES[self.type]), self.type)
        if "method" in given and "method" not in inspect.signature(make).parameters:
            given["transform"] = given.pop("method")
        return eqx.filter_eval_shape(lambda key: make(**given, key=key), jax.random.key(0))


@dataclass(frozen=True)
class Padding:
    """Holds the arguments of an extension, and the shape of the array."""

    shape: tuple[int, ...]
    arguments: tuple[Any, ...]
    ways: tuple[str, ...] = ("forward", "gradient")
    dtype: str = "float32"


ALL = (
    *("forward", "gradient", "batch", "batch gradient", "ensemble", "ensemble gradient"),
    *("ensemble, shared input", "ensemble, shared input gradient", "jvp", "second"),
    *("highest", "checkpoint gradient", "scan", "scan gradient"),
)
BATCHES = ("batch", "batch gradient")

CASES: dict[str, Layer | Padding] = {
    "conv 1-D": Layer(CONV, (4, 32), ways=ALL),
    "conv 1-D dirichlet": Layer(CONV, (3, 33), dict(out_channels=5, boundary_mode="dirichlet")),
    "conv 1-D neumann": Layer(CONV, (3, 33), dict(kernel_size=5, boundary_mode="neumann")),
    "conv 1-D neumann_cell": Layer(CONV, (3, 32), dict(boundary_mode="neumann_cell")),
    "conv 1-D dirichlet_node": Layer(
        CONV, (3, 32), dict(kernel_size=5, boundary_mode="dirichlet_node")
    ),
    "conv 1-D dirichlet_cell": Layer(CONV, (3, 32), dict(boundary_mode="dirichlet_cell")),
    "conv 1-D outflow": Layer(CONV, (3, 32), dict(stride=2, boundary_mode="outflow")),
    "conv 1-D even": Layer(CONV, (3, 32), dict(kernel_size=4, dilation=2, use_bias=False)),
    "conv 1-D wide kernel": Layer(CONV, (2, 5), dict(kernel_size=17, boundary_mode="neumann")),
    "conv 1-D float64": Layer(CONV, (4, 32), dict(boundary_mode="neumann"), dtype="float64"),
    "conv 2-D": Layer(CONV, (4, 16, 20), ways=ALL[:6]),
    "conv 2-D mixed": Layer(CONV, (3, 17, 20), dict(boundary_mode=MIXED, stride=(1, 2))),
    "conv 2-D dilated": Layer(CONV, (4, 16, 20), dict(kernel_size=(3, 4), dilation=(2, 1))),
    "conv 2-D groups": Layer(CONV, (8, 16, 20), dict(groups=2), ways=ALL[:6]),
    "conv 2-D many groups": Layer(CONV, (144, 16, 20), dict(groups=48, out_channels=96)),
    "conv 2-D depthwise": Layer(CONV, (6, 16, 20), dict(groups=6), ALL[:4]),
    "conv 2-D channels": Layer(CONV, (32, 64, 64), dict(boundary_mode="dirichlet"), BATCHES),
    "conv 2-D large": Layer(CONV, (32, 256, 256), ways=BATCHES),
    "conv 2-D float64": Layer(CONV, (4, 16, 20), dtype="float64", ways=BATCHES),
    "conv 2-D bfloat16": Layer(CONV, (4, 16, 20), dtype="bfloat16"),
    "conv 2-D float16": Layer(CONV, (4, 16, 20), dict(boundary_mode=MIXED), dtype="float16"),
    "conv 2-D one tap": Layer(CONV, (4, 16, 20), dict(kernel_size=1, stride=2)),
    "conv 3-D": Layer(CONV, (3, 8, 9, 10), dict(boundary_mode="neumann_cell")),
    "conv 3-D strided": Layer(CONV, (4, 8, 8, 8), dict(stride=2, kernel_size=2, groups=2)),
    "padding 2-D": Layer(
        "MorePaddingConv",
        (4, 16, 20),
        dict(padding=((2, 0), (1, 3)), padding_mode=("reflect", "circular"), stride=2),
    ),
    "padding 1-D default": Layer("MorePaddingConv", (4, 16)),
    "transpose 1-D": Layer(TRANSPOSE, (4, 16), dict(stride=2, output_padding=1), ALL[:-2]),
    "transpose 1-D even": Layer(TRANSPOSE, (4, 16), dict(kernel_size=4, boundary_mode="outflow")),
    "transpose 1-D called": Layer(TRANSPOSE, (4, 16), dict(stride=3), call=dict(output_padding=2)),
    "transpose 2-D": Layer(
        TRANSPOSE, (4, 8, 10), dict(stride=2, output_padding=1, boundary_mode="neumann"), ALL[:4]
    ),
    "transpose 2-D mixed": Layer(TRANSPOSE, (4, 8, 10), dict(dilation=2, boundary_mode=MIXED)),
    "transpose 2-D groups": Layer(TRANSPOSE, (6, 8, 10), dict(stride=2, groups=3)),
    "transpose 2-D float16": Layer(TRANSPOSE, (4, 8, 10), dict(stride=2), dtype="float16"),
    "transpose 3-D": Layer(TRANSPOSE, (2, 6, 6, 6), dict(boundary_mode="dirichlet_node")),
    "transposed padding 2-D": Layer(
        "MorePaddingConvTranspose",
        (4, 8, 10),
        dict(padding=((1, 0), (0, 2)), padding_mode=("replicate", "circular"), stride=2),
    ),
    "spectral 1-D": Layer(SPECTRAL, (4, 32), ways=ALL),
    "spectral 1-D walls": Layer(SPECTRAL, (4, 33), dict(boundary_mode="neumann"), BATCHES),
    "spectral 1-D quarter": Layer(
        SPECTRAL, (4, 32), dict(boundary_mode=(("dirichlet_cell", "neumann_cell"),))
    ),
    "spectral 1-D product": Layer(SPECTRAL, (4, 64), dict(method="product")),
    "spectral 1-D FFT": Layer(SPECTRAL, (4, 64), dict(method="fft"), BATCHES),
    "spectral 1-D FFT walls": Layer(
        SPECTRAL, (4, 64), dict(method="fft", boundary_mode="dirichlet_node")
    ),
    "spectral 1-D long": Layer(SPECTRAL, (2, 2**17), dict(num_modes=16)),
    "spectral 1-D output_shape": Layer(SPECTRAL, (4, 32), call=dict(output_shape=48)),
    "spectral 2-D": Layer(SPECTRAL, (4, 16, 20), dict(num_modes=(4, 5)), ALL[:6]),
    "spectral 2-D mixed": Layer(SPECTRAL, (3, 17, 20), dict(boundary_mode=MIXED, out_channels=5)),
    "spectral 2-D walls": Layer(SPECTRAL, (3, 16, 20), dict(boundary_mode="dirichlet_cell")),
    "spectral 2-D output_shape": Layer(
        SPECTRAL, (3, 16, 20), dict(boundary_mode=MIXED), call=dict(output_shape=(12, 24))
    ),
    "spectral 2-D float64": Layer(SPECTRAL, (4, 16, 20), dtype="float64"),
    "spectral 2-D bfloat16": Layer(SPECTRAL, (4, 16, 20), dtype="bfloat16"),
    "spectral 3-D": Layer(SPECTRAL, (2, 8, 10, 12), ways=BATCHES),
    "pointwise 1-D": Layer("PointwiseLinearConv", (4, 32), ways=ALL),
    "pointwise 2-D": Layer("PointwiseLinearConv", (4, 16, 20), dict(out_channels=6), BATCHES),
    "pointwise 2-D float16": Layer("PointwiseLinearConv", (4, 16, 20), dtype="float16"),
    "pointwise 3-D float64": Layer("PointwiseLinearConv", (4, 8, 8, 8), dtype="float64"),
    "pad 1-D": Padding((3, 7), ([(9, 4)], "neumann"), ("forward", "gradient", "jvp")),
    "pad 2-D mixed": Padding((3, 7, 8), ([(2, 1), 3], MIXED)),
    "pad 2-D values": Padding((3, 7, 8), ([1, 2], "dirichlet_node", ((1.0, None), 2.0))),
    "pad 3-D bfloat16": Padding((3, 4, 5, 6), ([1, 2, 3], "dirichlet_cell"), dtype="bfloat16"),
}

NEUMANN = dict(boundary_mode="neumann_cell")
# A layer, the sizes of the mesh's axes, how the samples are split, and how the weights are split.
MESHES: dict[str, tuple[Layer, dict[str, int], P, P]] = {
    "conv, samples": (Layer(CONV, (4, 16, 16)), {"s": 8}, P("s"), P()),
    "conv, space": (Layer(CONV, (4, 32, 16)), {"x": 8}, P(None, None, "x"), P()),
    "conv, two axes": (
        Layer(CONV, (4, 16, 16), NEUMANN),
        {"x": 4, "y": 2},
        P(None, None, "x", "y"),
        P(),
    ),
    "conv, samples and space": (
        Layer(CONV, (4, 16, 16), dict(stride=2)),
        {"s": 2, "x": 4},
        P("s", None, "x"),
        P(),
    ),
    "conv, channels": (Layer(CONV, (16, 16, 16)), {"c": 8}, P(None, "c"), P("c")),
    "transpose, space": (
        Layer(TRANSPOSE, (4, 16, 16), dict(stride=2, output_padding=1)),
        {"x": 4, "y": 2},
        P(None, None, "x", "y"),
        P(),
    ),
    "spectral, one axis": (Layer(SPECTRAL, (4, 32, 16)), {"x": 8}, P(None, None, "x"), P()),
    "spectral, two axes": (
        Layer(SPECTRAL, (4, 32, 16), NEUMANN),
        {"x": 4, "y": 2},
        P(None, None, "x", "y"),
        P(),
    ),
    "spectral, channels": (Layer(SPECTRAL, (16, 16, 16)), {"c": 8}, P(None, "c"), P(None, "c")),
    "pointwise, space": (
        Layer("PointwiseLinearConv", (4, 16, 16)),
        {"s": 2, "x": 4},
        P("s", None, "x"),
        P(),
    ),
}
EXPLICIT = ("conv, samples and space", "spectral, one axis", "pointwise, space")


def many(tree: Any, count: int) -> Any:
    """Adds a first axis of `count` to all shapes."""
    return jax.tree.map(lambda v: jax.ShapeDtypeStruct((count, *v.shape), v.dtype), tree)


def gradients(apply: Callable[..., Any], *arguments: Any) -> tuple[Any, ...]:
    """Gives the gradients as a function of a cotangent and the arguments, and their shapes."""
    y = jax.eval_shape(apply, *arguments)
    return (lambda y, *arguments: jax.vjp(apply, *arguments)[1](y)), y, *arguments


def way(name: str, apply: Callable[..., Any], weights: Any, x: Any) -> tuple[Any, ...]:
    """Gives a function, and the shapes of its arguments, from the `apply` of a layer."""
    given = weights, x
    if name.endswith("gradient"):
        return gradients(*way(name.removesuffix("gradient").strip(), apply, *given))
    match name:
        case "" | "forward":
            return apply, *given
        case "batch":
            return jax.vmap(apply, (None, 0)), weights, many(x, BATCH)
        case "ensemble":
            return jax.vmap(apply), many(weights, MEMBERS), many(x, MEMBERS)
        case "ensemble, shared input":
            return jax.vmap(apply, (0, None)), many(weights, MEMBERS), x
        case "jvp":
            return (lambda a, b: jax.jvp(apply, a, b)), given, given
        case "second":
            slope = jax.grad(lambda a: jnp.sum(apply(*a) ** 2))
            return (lambda a, b: jax.jvp(slope, (a,), (b,))), given, given
        case "scan":
            turn = lambda weights: lambda x, _: (apply(weights, x), None)
            return (lambda weights, x: lax.scan(turn(weights), x, length=3)[0]), *given
        case "checkpoint":
            return jax.checkpoint(apply), *given
        case "highest":
            return jax.default_matmul_precision("highest")(apply), *given
    raise ValueError(f"There is no way {name!r}.")


def layer_function(layer: Layer) -> tuple[Callable[..., Any], Any]:
    """Gives the layer as a function of weights and a sample, and the shapes of the weights."""
    is_shape = lambda leaf: isinstance(leaf, jax.ShapeDtypeStruct)
    weights, static = eqx.partition(layer.make(), is_shape)
    return lambda weights, x: eqx.combine(weights, static)(x, **layer.call), weights


def on_one_device(case: Layer | Padding, name: str) -> Iterator[tuple[str, str]]:
    """Gives the program of a case for every platform."""
    with jax.enable_x64(case.dtype == "float64"):
        if isinstance(case, Padding):
            pad = import_module(PACKAGES["pad"]).pad
            apply, weights = (lambda _, x: pad(x, *case.arguments)), ()
        else:
            apply, weights = layer_function(case)
        x = jax.ShapeDtypeStruct(case.shape, jnp.dtype(case.dtype))
        function, *arguments = way(name, apply, weights, x)
        traced = jax.jit(function).trace(*arguments)
        for platform in PLATFORMS:
            yield platform, stable(traced.lower(lowering_platforms=(platform,)))


def on_mesh(name: str, what: str, kind: AxisType) -> Iterator[tuple[str, str]]:
    """Gives the program of a case of `MESHES`, and what a device sends when it runs."""
    layer, sizes, spec, spec_of_weights = MESHES[name]
    mesh = jax.make_mesh(tuple(sizes.values()), tuple(sizes), axis_types=(kind,) * len(sizes))
    apply, weights = layer_function(layer)
    place = lambda spec: lambda v: v.update(sharding=NamedSharding(mesh, spec))
    weights = jax.tree.map(place(spec_of_weights), weights)
    x = jax.ShapeDtypeStruct(layer.shape, jnp.float32)
    function, *arguments = way(f"batch {what}".removesuffix(" forward"), apply, weights, x)
    # These are the cotangent and the samples; the weights are placed already.
    arguments = [a if a is weights else place(spec)(a) for a in arguments]
    results = arguments[-1] if what == "forward" else tuple(arguments[-2:])
    shardings = jax.tree.map(lambda v: v.sharding, results)
    lowered = jax.jit(function, out_shardings=shardings).lower(*arguments)
    yield "cpu", stable(lowered)
    found = Counter(
        f"{c.kind} {c.dtypes} {c.shapes} among {c.group}, {c.times} times"
        for c in collectives(lowered.compile())
    )
    yield "sent", "\n".join(f"{count} x {text}" for text, count in sorted(found.items()))


def stable(lowered: Any) -> str:
    """Removes from the text what differs between equal programs: how they are divided into
    functions and the names of these, unused constants, the names of results, addresses of Python
    objects, and the version that custom calls have for JAX's cache. Long constants are replaced by
    their hash.
    """
    text = without_unread(inlined(lowered.as_text()))
    short = lambda m: f'dense<"{hashlib.sha256(m[1].encode()).hexdigest()}">'
    text = re.sub(r'dense<"(0x\w{64,})">', short, text)
    text = re.sub(r"jax\.result_info = \"[^\"]*\"(, )?", "", text)
    text = re.sub(r'pdequinox = "\w+"', 'pdequinox = ""', text)
    return re.sub(r'(@CustomSPMDPartitioning\(.*backend_config = )"[^"]*"', r'\1""', text)


def inlined(text: str) -> str:
    """Writes the functions of the text where they are called, and renumbers its values."""
    head, *functions = re.split(r"^  func\.func \w+ @", text, flags=re.MULTILINE)
    bodies = {}
    for function in functions:
        name, rest = function.split("(", 1)
        bodies[name] = rest.partition("\n  }\n")[0].splitlines()
    count, lines = itertools.count(), [head]

    def write(name: str, indent: str, given: list[str] | None = None) -> list[str]:
        """Writes the lines of a function, and gives the values that it returns."""
        header, *body = bodies[name]
        values: dict[str, str] = {}

        def use(m: re.Match[str]) -> str:
            # A value is defined where `=` or a type follows. Another region may reuse the name.
            if m[3]:
                values[m[1]] = f"%{next(count)}"
            return values.get(m[1] + m[2]) or values[m[1]] + m[2]

        rename = lambda line: re.sub(r"(%\w+)((?:#\d+)?)(?=(: |(?::\d+)? = )?)", use, line)
        if given is None:
            lines.append(f"main({rename(header)}")
        else:
            values |= zip(re.findall(r"(%\w+): ", header), given, strict=True)
        for line in body:
            call = re.match(r"( *)(?:(%\w+)(?::\d+)? = )?(?:func\.)?call @([^(]+)\((.*?)\) :", line)
            if call is not None:
                operands = rename(call[4]).split(", ") if call[4] else []
                results = write(call[3], indent + call[1][4:], operands)
                values |= {f"{call[2]}#{i}": value for i, value in enumerate(results)}
                values |= dict.fromkeys([call[2]], *results[:1])
            elif given is not None and line.startswith("    return"):
                return re.findall(r"%\w+(?:#\d+)?", rename(line.partition(" : ")[0]))
            else:
                lines.append(indent + rename(line))
        return []

    write("main", "")
    return "\n".join(lines)


def without_unread(text: str) -> str:
    """Removes unused constants from the text, as XLA does, and renumbers its values."""
    made = re.compile(r" *(%\d+) = stablehlo\.(?:constant|broadcast_in_dim) ")
    while True:
        counts = Counter(re.findall(r"%\d+", text))
        lines = text.splitlines(keepends=True)
        kept = [line for line in lines if not ((m := made.match(line)) and counts[m[1]] == 1)]
        if len(kept) == len(lines):
            break
        text = "".join(kept)
    numbers: dict[str, str] = {}
    return re.sub(r"%\d+", lambda m: numbers.setdefault(m[0], f"%{len(numbers)}"), text)


def programs() -> Iterator[tuple[str, Callable[[], Iterator[tuple[str, str]]]]]:
    """Gives the programs that can be recorded, by name."""
    for name, case in CASES.items():
        for what in case.ways:
            yield f"{name}: {what}", partial(on_one_device, case, what)
    for name in MESHES:
        for kind in (AxisType.Auto, AxisType.Explicit)[: 1 + (name in EXPLICIT)]:
            for what in ("forward", "gradient"):
                yield f"mesh, {kind.name}, {name}: {what}", partial(on_mesh, name, what, kind)


def record(file: Path, only: str) -> None:
    """Writes the programs and the places of the packages, in JSON."""
    jax.config.update("jax_num_cpu_devices", DEVICES)
    found: dict[str, str] = {}
    start = time.monotonic()
    for name, texts in programs():
        if only not in name:
            continue
        try:
            found |= {f"{name}, {where}": text for where, text in texts()}
        except Exception as error:
            # An error is a result too: the commit cannot do this.
            found[f"{name}, error"] = f"{type(error).__name__}: {error}"
    folders = {name: str(import_module(name).__file__) for name in sorted(set(PACKAGES.values()))}
    written = {"jax": jax.__version__, "packages": folders, "programs": found}
    file.write_text(json.dumps(written, indent=1))
    print(f"{file}: {len(found)} programs, {time.monotonic() - start:.0f} s", file=sys.stderr)


def compare(old: Path, new: Path, show: str | None) -> bool:
    """Prints what differs, for each case, and returns whether anything does."""
    before, after = (json.loads(file.read_text())["programs"] for file in (old, new))
    names = before | after
    different = {name for name in names if before.get(name) != after.get(name)}
    for case, group in itertools.groupby(names, key=lambda name: name.partition(":")[0]):
        recorded, last = list(group), []
        differing = len(different.intersection(recorded))
        print(f"{case}: {differing or 'none'} of {len(recorded)} programs differ")
        for name in recorded:
            pair = [programs.get(name) for programs in (before, after)]
            if name.endswith(", error"):
                print(f"  {name}, {pair}"[:400])
            elif None in pair:
                print(f"  {name}: only in the {'new' if pair[0] is None else 'old'} file")
            elif name in different:
                lines = differences(*pair)
                print(f"  {name}{', the same' if lines == last else ''}")
                if show is not None and show in name:
                    print("\n".join(lines))
                elif lines != last:
                    print("\n".join(f"    {line[:160]}" for line in lines[:SHOWN]))
                    if len(lines) > SHOWN:
                        print(f"    ... and {len(lines) - SHOWN} more lines")
                last = lines
    print(f"{len(different)} of {len(names)} programs differ.")
    return bool(different)


def differences(old: str, new: str) -> list[str]:
    """Finds the lines that differ. The numbers of values count only if nothing else differs."""
    plain = [re.sub(r"%\d+", "%", text) for text in (old, new)]
    before, after = (text.splitlines() for text in (plain if plain[0] != plain[1] else (old, new)))
    return list(difflib.unified_diff(before, after, n=1, lineterm=""))[2:]


def against(commit: str, only: str, show: str | None) -> bool:
    """Compares the working tree with a commit."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = ["git", "archive", commit, "src", "packages"]
        archive = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            files.extractall(folder / "tree", filter="data")
        recorded = []
        for root in (folder / "tree", ROOT):
            recorded.append(folder / f"{len(recorded)}.json")
            sources = [root / "src", *sorted(root.glob("packages/*/src"))]
            environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, sources))}
            command = [sys.executable, __file__, "record", str(recorded[-1]), f"--only={only}"]
            subprocess.run(command, check=True, env=environment)
            packages = json.loads(recorded[-1].read_text())["packages"]
            if not all(Path(file).is_relative_to(root) for file in packages.values()):
                raise RuntimeError(f"Not all packages are those of {root}: {packages}.")
        return compare(recorded[0], recorded[1], show)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name, files in {"record": ["file"], "compare": ["old", "new"], "against": []}.items():
        command = commands.add_parser(name)
        for file in files:
            command.add_argument(file, type=Path)
        if name == "against":
            command.add_argument("commit")
        if name != "compare":
            command.add_argument("--only", default="", help="a text in the names of programs")
        if name != "record":
            command.add_argument("--show", help="a text in the names of programs")
    given = vars(parser.parse_args())
    action = {"record": record, "compare": compare, "against": against}[given.pop("command")]
    sys.exit(1 if action(**given) else 0)


if __name__ == "__main__":
    main()
