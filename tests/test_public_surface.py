"""What was released still imports, and is called as before: the public names and the arguments of
tools/release/public_surface.toml, but those that it calls deprecated.
"""

import copy
import importlib.util
import inspect
import tomllib
from pathlib import Path

import pytest


ROOT = Path(__file__).resolve().parents[1]
RELEASE = ROOT / "tools" / "release"
RECORD = tomllib.loads((RELEASE / "public_surface.toml").read_text(encoding="utf-8"))

SPEC = importlib.util.spec_from_file_location("release_surface", RELEASE / "surface.py")
surface = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(surface)


@pytest.mark.parametrize("package", RECORD)
def test_what_was_released_is_still_there(package):
    assert not [*surface.missing(RECORD[package])]


def test_every_package_is_recorded():
    files = [ROOT / "pyproject.toml", *ROOT.glob("packages/*/pyproject.toml")]
    names = {tomllib.loads(file.read_text(encoding="utf-8"))["project"]["name"] for file in files}
    assert names == RECORD.keys()
    assert all(recorded["names"] or recorded["callables"] for recorded in RECORD.values())


@pytest.mark.parametrize(
    "name",
    [
        "pdequinox_padding.gone",
        "pdequinox_padding.meshes.gone",
        "pdequinox_padding.Boundary.gone",
        "pdequinox_gone.gone",
    ],
)
def test_a_name_that_is_gone_is_seen(name):
    recorded = copy.deepcopy(RECORD["pdequinox-padding"])
    recorded["names"].append(name)
    assert [*surface.missing(recorded)] == [f"{name} is gone"]
    recorded["deprecated"].append(name)
    assert not [*surface.missing(recorded)]


@pytest.mark.parametrize(
    "package, name",
    [
        ("pdequinox-padding", "pdequinox_padding.pad"),
        ("pdequinox-padding", "pdequinox_padding.Boundary.parse"),
        ("pdequinox-spectralconv", "pdequinox_spectralconv.SpectralConv"),
        ("pdequinox-spectralconv", "pdequinox_spectralconv.SpectralConv.__call__"),
    ],
)
def test_an_argument_that_is_gone_is_seen(package, name):
    recorded = copy.deepcopy(RECORD[package])
    parameters = recorded["callables"][name]
    keyword_only = "gone=..." if "*" in parameters else "*, gone=..."
    recorded["callables"][name] = f"{parameters}, {keyword_only}"
    assert [*surface.missing(recorded)] == [f"{name}: got an unexpected keyword argument 'gone'"]
    recorded["deprecated"].append(f"{name}(gone)")
    assert not [*surface.missing(recorded)]


def signature(parameters):
    return inspect.signature(eval(f"lambda {parameters}: None"))


@pytest.mark.parametrize(
    "before, now",
    [
        ("x, y=...", "x, y=..., z=..., *, t=..."),
        ("x, *, y", "x, y=..."),
        ("x, /", "x"),
        ("x, /", "y"),
        ("x", "x, **rest"),
        ("*x, **y", "*x, z=..., **y"),
    ],
)
def test_what_takes_more_than_before_is_as_good(before, now):
    assert not surface.refused(signature(before), signature(now), set())


@pytest.mark.parametrize(
    "before, now, reason",
    [
        ("x, y", "y, x", "'x' in its place is taken for 'y'"),
        ("x, y=...", "x, z=..., y=...", "'y' in its place is taken for 'z'"),
        ("x, y=...", "x, *, y=...", "too many positional arguments"),
        ("x, y=...", "x, *, z=...", "got an unexpected keyword argument 'y'"),
        ("x, y=...", "x, y", "missing a required argument: 'y'"),
        ("x", "x, *, y", "missing a required"),
        ("x", "x, /", "'x'"),
        ("*x", "", "too many positional arguments"),
        ("x, **y", "x", "got an unexpected keyword argument 'any_y'"),
    ],
)
def test_what_takes_less_than_before_is_seen(before, now, reason):
    reasons = surface.refused(signature(before), signature(now), set())
    assert any(reason in found for found in reasons), reasons


def test_an_argument_that_was_deprecated_may_be_missing_and_no_other():
    before, now = signature("x, old=..., y=..."), signature("x, y=...")
    assert surface.refused(before, now, set())
    assert not surface.refused(before, now, {"old"})
    assert surface.refused(before, signature("x"), {"old"})
