"""Reads a checkout and its tags: the packages in order, what changed since a tag, changelogs."""

import ast
import re
import subprocess
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from check_wheels import Package
from packaging.utils import canonicalize_name
from packaging.version import Version


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


def tags(root: Path, package: Package) -> dict[Version, str]:
    """Finds the releases in the history of the present commit, the newest last."""
    prefix = f"{package.name}-v"
    names = git(root, "tag", "--merged", "HEAD", "--list", f"{prefix}*").split()
    return dict(sorted((Version(name.removeprefix(prefix)), name) for name in names))


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
    """Lists the files of a package whose released content differs from that of the tag."""
    source = package.source.relative_to(root).as_posix()
    names = git(root, "diff", "--name-only", "--relative", tag, "--", source).splitlines()
    names += git(root, "ls-files", "--others", "--exclude-standard", "--", source).splitlines()
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
