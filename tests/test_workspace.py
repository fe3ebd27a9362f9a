"""Tests that what stands in several packages is the same everywhere."""

import re
import tomllib
from pathlib import Path

import pytest


ROOT = Path(__file__).resolve().parents[1]
PACKAGES = sorted(file.parent for file in ROOT.glob("packages/*/pyproject.toml"))
FOLDERS = [ROOT, *PACKAGES]


def pyproject(folder):
    return tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))


def version(folder):
    path = pyproject(folder)["tool"]["hatch"]["version"]["path"]
    return re.search(r'^__version__ = "(.+)"$', (folder / path).read_text(), re.MULTILINE)[1]


@pytest.mark.parametrize("folder", PACKAGES, ids=lambda path: path.name)
def test_shared_settings(folder):
    own, root = pyproject(folder), pyproject(ROOT)
    assert own["build-system"] == root["build-system"]
    for key in ("license", "license-files", "requires-python", "readme", "dynamic"):
        assert own["project"][key] == root["project"][key], key
    test_environments = [p["tool"]["hatch"]["envs"]["hatch-test"] for p in (own, root)]
    assert len({str(env["extra-dependencies"]) for env in test_environments}) == 1
    assert (folder / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def test_a_dependency_has_one_range():
    ranges = {}
    for folder in FOLDERS:
        for dependency in pyproject(folder)["project"]["dependencies"]:
            name = re.match(r"[\w-]+", dependency)[0]
            assert ranges.setdefault(name, dependency) == dependency


def test_every_sibling_is_taken_from_the_workspace():
    names = {pyproject(folder)["project"]["name"] for folder in PACKAGES}
    for folder in FOLDERS:
        own = pyproject(folder)
        needed = {re.match(r"[\w-]+", d)[0] for d in own["project"]["dependencies"]} & names
        assert set(own["tool"].get("uv", {}).get("sources", {})) == needed
    # The operators, which are for authors of layers, come with the layers. The converting package
    # is left to users who have something to convert.
    needed = {re.match(r"[\w-]+", d)[0] for d in pyproject(ROOT)["project"]["dependencies"]}
    assert needed == names - {"pdequinox-convert", "pdequinox-operators"}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_changelog_begins_with_the_version(folder):
    headings = re.findall(r"^## (\S+)", (folder / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == version(folder)
