"""Tests that the meta-package re-exports the public names of the packages that it needs, only."""

import importlib
import re
import subprocess
import sys
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


def test_beside_the_other_pdequinox_the_import_says_what_to_do(tmp_path):
    other = tmp_path / "pdequinox-0.1.2.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: pdequinox\nVersion: 0.1.2\n")
    program = f"import sys; sys.path.append({str(tmp_path)!r}); import pdequinox"
    done = subprocess.run((sys.executable, "-c", program), capture_output=True, text=True)
    assert done.returncode and "ImportError" in done.stderr
    assert "Uninstall both" in done.stderr
