"""Tests what CONTRIBUTING.md says of the project, as far as a program can see it: what stands
where, which way imports point, and that no place of its recipes is forgotten.
"""

import ast
import importlib
import inspect
import pkgutil
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import oracles
import pytest
from columns import COLUMNS

import pdequinox.conv
from pdequinox_operators import Operator
from pdequinox_padding._boundary import BOUNDARY_MODES, KINDS, PADDING_MODES
from pdequinox_physconv import PhysicsConv
from pdequinox_spectralconv import SpectralConv
from pdequinox_spectralconv._resample import AliasFree


ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {
    f"pdequinox_{folder.name}": folder / "src" / f"pdequinox_{folder.name}"
    for folder in sorted((ROOT / "packages").iterdir())
    if (folder / "pyproject.toml").is_file()
}
SOURCES = sorted(file for folder in PACKAGES.values() for file in folder.rglob("*.py"))
LAYERS = [
    value
    for value in vars(pdequinox.conv).values()
    if inspect.isclass(value) and issubclass(value, eqx.Module)
]
LAYER_PACKAGES = sorted({layer.__module__.partition(".")[0] for layer in LAYERS})


def short(value):
    return value.name if isinstance(value, Path) else getattr(value, "__name__", str(value))


def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def dotted(node: ast.AST) -> str:
    """Reads `a.b.c` from an expression that is only that, else nothing."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute) and dotted(node.value):
        return f"{dotted(node.value)}.{node.attr}"
    return ""


def imports(file: Path) -> Iterator[str]:
    """Lists what a file imports, by full names: modules, and names that are imported from them."""
    (source,) = (folder for folder in PACKAGES.values() if folder in file.parents)
    package = file.relative_to(source.parent).parts[:-1]
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = [*base, *(node.module.split(".") if node.module else [])]
            yield from (".".join([*module, name.name]) for name in node.names)


def values() -> Iterator[Any]:
    """Finds every object that has a name in some module of the packages."""
    for package in PACKAGES:
        root = importlib.import_module(package)
        for module in pkgutil.walk_packages(root.__path__, f"{package}."):
            yield from vars(importlib.import_module(module.name)).values()


def within(name: str, module: str) -> bool:
    return name == module or name.startswith(f"{module}.")


# Where things stand


INTERNALS = ("jax._src", "jax.extend", "jax.interpreters", "jax.experimental", "jaxlib")


@pytest.mark.parametrize("file", SOURCES, ids=short)
def test_internals_of_jax_are_touched_in_the_operators_alone(file):
    if PACKAGES["pdequinox_operators"] in file.parents:
        return
    names = [*imports(file), *(dotted(node) for node in ast.walk(tree_of(file)))]
    touched = {name for name in names for module in INTERNALS if within(name, module)}
    assert not touched


@pytest.mark.parametrize("file", SOURCES, ids=short)
def test_the_version_of_jax_is_asked_for_in_one_file(file):
    probes = []
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Call) and dotted(node.func) == "hasattr":
            probes.append(node)
        if isinstance(node, ast.Call) and dotted(node.func) == "getattr":
            root = dotted(node.args[0]).partition(".")[0]
            probes += [node] * (root in ("jax", "jnp", "lax"))
        if dotted(node) in ("jax.__version__", "jax.__version_info__", "jax.version"):
            probes.append(node)
    if file.name != "_jax.py":
        assert not [ast.unparse(node) for node in probes]
        return
    functions = [node for node in tree_of(file).body if isinstance(node, ast.FunctionDef)]
    for probe in probes:
        (function,) = (f for f in functions if f.lineno <= probe.lineno <= f.end_lineno)
        assert re.search(r"floor of JAX \d+\.\d+", ast.get_docstring(function)), function.name


MODES = {name for kind in KINDS.values() for name in (kind.name, *kind.aliases)} | {*PADDING_MODES}


@pytest.mark.parametrize("file", SOURCES, ids=short)
def test_boundary_modes_are_named_in_the_table_alone(file):
    """Exceptions are documentation, defaults of arguments, and names of other libraries."""
    if PACKAGES["pdequinox_convert"] in file.parents:
        return
    tree = tree_of(file)
    allowed = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            allowed.append(node.value)
        if isinstance(node, ast.arguments):
            names = [argument.arg for argument in (*node.posonlyargs, *node.args)]
            given = [*zip(names[len(names) - len(node.defaults) :], node.defaults, strict=True)]
            names = [argument.arg for argument in node.kwonlyargs]
            given += zip(names, node.kw_defaults, strict=True)
            allowed += [value for name, value in given if name.endswith("_mode")]
    strings = [node for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    named = {node.value for node in strings if node not in allowed} & MODES
    assert named == (MODES if file.name == "_boundary.py" else set())


# Which way imports point


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_the_siblings_that_they_declare(package):
    folder = PACKAGES[package]
    project = tomllib.loads((folder.parents[1] / "pyproject.toml").read_text())["project"]
    declared = {re.match(r"[\w-]+", text)[0].replace("-", "_") for text in project["dependencies"]}
    imported = {name.partition(".")[0] for file in folder.rglob("*.py") for name in imports(file)}
    assert imported & {*PACKAGES} - {package} == declared & {*PACKAGES}


ORDER = ("pdequinox_operators", "pdequinox_padding")


def test_siblings_point_down():
    """The layers may import the padding and the operators, but not each other. Nothing imports the
    converting package, which may import all.
    """
    for package, folder in PACKAGES.items():
        if package == "pdequinox_convert":
            continue
        below = ORDER[: ORDER.index(package)] if package in ORDER else ORDER
        for file in folder.rglob("*.py"):
            siblings = {name.partition(".")[0] for name in imports(file)} & {*PACKAGES}
            assert siblings <= {package, *below}, file.name


# What each file of a layer package may import from its package, except the file of the class.
FILES = {
    "_operator": {"_sharding", "_cpu", "_convolution"},
    "_sharding": {"_convolution"},
    "_cpu": {"_convolution"},
    "_convolution": set(),
}


@pytest.mark.parametrize("package", LAYER_PACKAGES)
def test_a_layer_is_five_files_and_their_imports_point_down(package):
    folder = PACKAGES[package]
    modules = {layer.__module__ for layer in LAYERS if within(layer.__module__, package)}
    there = {path.stem for path in folder.iterdir()}
    # What users see besides the classes stands beside them.
    classes = {module.split(".")[1] for module in modules} | ({"_mask", "_resample"} & there)
    assert classes <= there and FILES.keys() <= there
    assert not classes & FILES.keys()
    # The parts of `_convolution`, if it is more than one file: all files may import them.
    more = {name for name in there if name[:2] != "__" and "." not in name} - classes - {*FILES}
    for file in folder.rglob("*.py"):
        own = file.relative_to(folder).parts[0].removesuffix(".py")
        if own.startswith("__"):
            continue
        used = {name.split(".")[1] for name in imports(file) if within(name, package)} - {own}
        allowed = FILES.get(own, {"_cpu"})
        if own in classes:
            allowed = classes | {*FILES} - {"_sharding"}
        assert used <= allowed | more, file.name


# A boundary mode and a basis


@pytest.mark.parametrize("mode", BOUNDARY_MODES)
def test_every_basis_is_in_the_tables_and_has_an_oracle(mode):
    assert f'"{mode}"' in SpectralConv.__doc__ or KINDS[mode].wraps
    assert mode in oracles.WALLS or KINDS[mode].wraps
    for page in ("boundary_modes.md", "spectral_bases.md"):
        names, text = "|".join((mode, *KINDS[mode].aliases)), (ROOT / "docs" / page).read_text()
        assert re.search(rf'^\|.*`"({names})"`', text, re.MULTILINE), page


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_every_mode_is_in_the_table_of_what_it_does(kind):
    page = (ROOT / "docs" / "boundary_modes.md").read_text(encoding="utf-8")
    table = page.partition("\n## What each mode does\n")[2].partition("\n## ")[0]
    for name in (kind.name, *kind.aliases):
        assert re.search(rf'^\| .*`"{name}"`.* \| ', table, re.MULTILINE), name


# An operator


def reached(jaxpr, known: dict[str, Operator], found: set[tuple[str, str]]) -> None:
    """Adds the operators of a program, of the programs in it, and those that the operators consist
    of: each with its parameters, on which its parts depend.
    """
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        for parameter in jax.tree.leaves([*equation.params.values()]):
            if hasattr(parameter, "eqns") or hasattr(parameter, "jaxpr"):
                reached(parameter, known, found)
        parameters = {k: v for k, v in equation.params.items() if k != "partitioned"}
        if name in known and (name, str(parameters)) not in found:
            found.add((name, str(parameters)))
            apply = lambda *operands, of=known[name], given=parameters: of._plain(
                *operands, **given
            )
            avals = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in equation.invars]
            reached(jax.make_jaxpr(apply)(*avals), known, found)


def test_every_operator_is_in_the_registry_of_transformations():
    """Each is part of some layer or of its derivative."""
    known = {value.name: value for value in values() if isinstance(value, Operator)}
    found: set[tuple[str, str]] = set()
    for column in COLUMNS.values():
        layer = jax.eval_shape(column.make, jr.key(0))
        x = jax.ShapeDtypeStruct((column.in_channels, *column.spatial), "float32")
        loss = lambda layer, x: jnp.sum(layer(x) ** 2)
        reached(jax.make_jaxpr(jax.grad(loss, (0, 1)))(layer, x), known, found)
    assert known and known.keys() == {name for name, _ in found}


# A layer


def test_every_layer_is_exported():
    modules = {v for v in values() if inspect.isclass(v) and issubclass(v, eqx.Module)}
    # Networks of other libraries are not layers.
    packages = PACKAGES.keys() - {"pdequinox_convert"}
    own = {v for v in modules if v.__module__.partition(".")[0] in packages}
    # A module that cannot be called is part of a layer; one without weights is an activation.
    called = {v for v in own if any("__call__" in vars(base) for base in v.__mro__)}
    assert called == {*LAYERS, AliasFree}


def test_the_readme_installs_every_package():
    commands = re.findall(r"^pip install (\./.*)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert {*commands[0].split()} == {".", *(f"./packages/{name[10:]}" for name in PACKAGES)}


def test_every_layer_is_a_column_of_the_registry_of_transformations():
    columns = {type(jax.eval_shape(column.make, jr.key(0))) for column in COLUMNS.values()}
    assert {*LAYERS} <= columns


@pytest.mark.parametrize("layer", LAYERS, ids=short)
def test_every_layer_is_on_its_page_and_among_the_programs(layer):
    table = (ROOT / "docs" / "layers.md").read_text(encoding="utf-8")
    assert re.search(rf"^\|.*`{layer.__name__}`", table, re.MULTILINE)
    (programs,) = (
        node.value
        for node in tree_of(ROOT / "tools" / "programs.py").body
        if isinstance(node, ast.Assign) and dotted(node.targets[0]) == "PACKAGES"
    )
    package = layer.__module__.partition(".")[0]
    assert ast.literal_eval(programs)[layer.__name__] == package


def test_every_package_is_type_checked_while_tests_run():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    (text,) = (text for text in settings["addopts"] if text.startswith("--jaxtyping-packages="))
    named = text.partition("=")[2].split(",")[:-1]
    assert {*named} == {"pdequinox", *PACKAGES}


# Arguments that mean something else in a transposed layer, so that their descriptions differ.
TRANSPOSED = {"stride", "padding"}


def described(function) -> dict[str, str]:
    """Finds the items of the documentation of a function, without line breaks."""
    text = inspect.cleandoc(function.__doc__)
    found = re.findall(r"^- `(\w+)`: (.*(?:\n +.*)*)", text, re.MULTILINE)
    return {name: " ".join(words.split()) for name, words in found}


@pytest.mark.parametrize("method", ["__init__", "__call__"])
def test_an_argument_has_one_description(method):
    seen: dict[str, str] = {}
    for layer in LAYERS:
        function = getattr(layer, method)
        given = [name for name in inspect.signature(function).parameters if name != "self"]
        assert {*described(function)} == {*given}, layer
        for name, text in described(function).items():
            if name in TRANSPOSED and "Transpose" in layer.__name__:
                name += " of a transposed layer"
            assert seen.setdefault(name, text) == text, (layer, name)


def files_of(call) -> set[Path]:
    """Lists the files of the packages, wherever installed, whose functions are called."""
    files = set()
    before = sys.getprofile()
    sys.setprofile(lambda frame, event, argument: files.add(frame.f_code.co_filename))
    try:
        call()
    finally:
        sys.setprofile(before)
    folders = {Path(importlib.import_module(package).__file__).parent for package in PACKAGES}
    return {Path(file) for file in files if folders & {*Path(file).parents}}


def test_a_trace_stays_in_six_files_and_reads_no_boundary_mode():
    modes = ["periodic", ("neumann", "dirichlet_cell")]
    layer = PhysicsConv(2, 3, 4, 3, boundary_mode=modes, key=jr.key(0))
    loss = lambda layer, x: jnp.sum(layer(x) ** 2)
    for function, lead in ((loss, ()), (jax.grad(loss), ()), (jax.vmap(loss, (None, 0)), (2,))):
        # The first call imports modules and is left out; the second has a shape not traced before.
        first, second = (jax.ShapeDtypeStruct((*lead, 3, 11, n), "float32") for n in (12, 13))
        jax.eval_shape(function, layer, first)
        files = files_of(lambda f=function, x=second: jax.eval_shape(f, layer, x))
        assert 0 < len(files) <= 6, files
        assert "_boundary.py" not in {file.name for file in files}
