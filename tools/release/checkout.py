"""Reads a checkout and its tags: the packages in order, what changed since a tag, changelogs, what
packages take from one another.
"""

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from check_wheels import Package
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from release.surface import parsed


def packages(root: Path) -> dict[str, Package]:
    """Finds the packages of a workspace, by name, each after those that it needs."""
    members = Package(root).pyproject["tool"]["uv"]["workspace"]["members"]
    files = [file for member in members for file in sorted(root.glob(f"{member}/pyproject.toml"))]
    found = {
        canonicalize_name(package.name): package
        for package in (*(Package(file.parent) for file in files), Package(root))
    }
    needs = {name: [n for n in p.dependencies if n in found] for name, p in found.items()}
    return {name: found[name] for name in TopologicalSorter(needs).static_order()}


def git(root: Path, *arguments: str) -> str:
    done = subprocess.run(("git", *arguments), cwd=root, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"`git {' '.join(arguments)}` failed: {done.stderr.strip()}")
    return done.stdout


def tag_of(package: Package) -> str:
    """Names the tag that releases the present version."""
    return f"{package.name}-v{package.version}"


def is_shallow(root: Path) -> bool:
    return git(root, "rev-parse", "--is-shallow-repository").strip() == "true"


def tag_names(root: Path, package: Package) -> list[str]:
    """Finds the tags of a package in the history of the present commit."""
    return git(root, "tag", "--merged", "HEAD", "--list", f"{package.name}-v*").split()


def version_of(package: Package, tag: str) -> Version | None:
    with suppress(InvalidVersion):
        return Version(tag.removeprefix(f"{package.name}-v"))
    return None


def at(root: Path, tag: str, file: Path) -> str | None:
    """Reads a file of the checkout as it was at a tag; `None` if it did not exist."""
    name = file.relative_to(root).as_posix()
    if not git(root, "ls-tree", "--name-only", tag, "--", name):
        return None
    return git(root, "show", f"{tag}:./{name}")


def metadata(text: str) -> dict[str, Any]:
    """Selects what a `pyproject.toml` says of the built files, without the settings of tools."""
    pyproject = tomllib.loads(text)
    hatch = {key: value for key, value in pyproject["tool"]["hatch"].items() if key != "envs"}
    return {"hatch": hatch, **{key: pyproject.get(key) for key in ("build-system", "project")}}


def changed(root: Path, package: Package, tag: str) -> list[str]:
    """Lists the files of a package whose released content differs from that of the tag. The
    changelog, which is checked by itself, is none of them.
    """
    released = (package.source, package.folder / "README.md", package.folder / "LICENSE")
    paths = [path.relative_to(root).as_posix() for path in released]
    names = git(root, "diff", "--name-only", "--relative", tag, "--", *paths).splitlines()
    names += git(root, "ls-files", "--others", "--exclude-standard", "--", *paths).splitlines()
    file = package.folder / "pyproject.toml"
    before = at(root, tag, file)
    if before is None or metadata(before) != metadata(file.read_text(encoding="utf-8")):
        names.append(file.relative_to(root).as_posix())
    return names


def sections(changelog: str) -> dict[str, str]:
    """Splits a changelog into the texts of its versions."""
    _, *parts = re.split(r"^## (\S+).*$", changelog, flags=re.MULTILINE)
    return {name: text.strip() for name, text in zip(parts[::2], parts[1::2], strict=True)}


def bound_names(source: str) -> set[str]:
    """Collects the names that a module defines or imports."""
    names = set()
    for node in ast.parse(source).body:
        for inner in ast.walk(node) if not hasattr(node, "name") else [node]:
            if isinstance(inner, ast.alias):
                names.add((inner.asname or inner.name).partition(".")[0])
            elif isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
                names.add(inner.id)
            elif isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                names.add(inner.name)
    return names


def missing_names(root: Path, package: Package, needed: Package, tag: str) -> list[str]:
    """Lists what the package takes by `from ... import ...` from another one, `needed`, and what
    that one did not have at one of its tags.
    """
    used: dict[str, set[str]] = {}
    for file in sorted(package.source.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.ImportFrom) or node.level or node.module is None:
                continue
            if node.module.partition(".")[0] == needed.module:
                used.setdefault(node.module, set()).update(name.name for name in node.names)
    missing = []
    for module, names in sorted(used.items()):
        folder = needed.source.parent.joinpath(*module.split("."))
        sources = [at(root, tag, f) for f in (folder.with_suffix(".py"), folder / "__init__.py")]
        there = set().union(*(bound_names(source) for source in sources if source is not None))
        missing += [
            f"{module}.{name}"
            for name in sorted(names - there)
            if at(root, tag, folder / f"{name}.py") is None  # A module is imported the same way.
        ]
    return missing


def calls(file: Path) -> Iterator[tuple[str, ast.Call]]:
    """Finds the calls of what a file imports by its full name, with that name."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    full: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not node.level:
            full |= {n.asname or n.name: f"{node.module}.{n.name}" for n in node.names}
        elif isinstance(node, ast.Import):
            first = {n.name.partition(".")[0] for n in node.names if n.asname is None}
            full |= {name: name for name in first}
            full |= {n.asname: n.name for n in node.names if n.asname is not None}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            first, dot, rest = ast.unparse(node.func).partition(".")
            if first in full:
                yield full[first] + dot + rest, node


def refused_calls(package: Package, callables: dict[str, str]) -> list[str]:
    """Lists the calls of a package with arguments that recorded parameters do not admit. Calls of
    methods of instances are not seen.
    """
    found = []
    for file in sorted(package.source.rglob("*.py")):
        for name, call in calls(file):
            if name not in callables:
                continue
            given = [argument for argument in call.args if not isinstance(argument, ast.Starred)]
            named = {keyword.arg: ... for keyword in call.keywords if keyword.arg is not None}
            try:
                parsed(callables[name]).bind_partial(*given, **named)
            except TypeError as error:
                place = f"{file.relative_to(package.folder).as_posix()}:{call.lineno}"
                found.append(f"{name} as {place} calls it ({error})")
    return found
