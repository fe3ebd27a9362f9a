"""The meta-package re-exports the public names of the packages that it needs, and nothing else."""

import importlib
import re
import tomllib
import types
from pathlib import Path

import pdequinox
import pdequinox_physconv


PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
PACKAGES = [
    importlib.import_module(re.match(r"[\w-]+", dependency)[0].replace("-", "_"))
    for dependency in tomllib.loads(PYPROJECT.read_text())["project"]["dependencies"]
]


def public_names(module: types.ModuleType) -> dict[str, object]:
    return {
        name: value
        for name, value in vars(module).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }


def test_conv_holds_the_public_names_of_the_packages():
    expected = {}
    for package in PACKAGES:
        expected |= public_names(package)
    assert public_names(pdequinox.conv) == expected


def test_layers_are_reached_through_the_attribute():
    assert pdequinox.conv.PhysicsConv is pdequinox_physconv.PhysicsConv
