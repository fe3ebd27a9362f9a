"""Leaves the tests of releases to the environment that holds their tools.

`hatch run release:test` runs them: they build all packages, and publish them to an index on this
machine. Where the tools are missing nothing is collected here, and a run of nothing but these tests
fails for lack of any.
"""

import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest


ROOT = Path(__file__).resolve().parents[2]
collect_ignore_glob = [] if find_spec("pypiserver") and find_spec("twine") else ["test_*.py"]


@pytest.fixture
def checkout(tmp_path):
    """A copy of what the packages are built from, and of what builds them."""
    copy = tmp_path / "checkout"
    ignored = shutil.ignore_patterns("tests", "__pycache__", "docs")
    for name in ("src", "packages", "tools"):
        shutil.copytree(ROOT / name, copy / name, ignore=ignored, copy_function=shutil.copyfile)
    for name in (".gitignore", "CHANGELOG.md", "LICENSE", "README.md", "pyproject.toml"):
        shutil.copyfile(ROOT / name, copy / name)
    return copy
