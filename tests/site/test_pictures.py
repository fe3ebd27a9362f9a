"""The pictures of the boundary modes are what `pad` draws."""

import subprocess
import sys
from pathlib import Path

import pytest


ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    subprocess.run((sys.executable, ROOT / "tools" / "extensions.py", folder), check=True)
    return folder


@pytest.mark.parametrize("name", ["extensions.svg", "extensions_poles.svg"])
def test_a_picture_is_up_to_date(drawn, name):
    stored = ROOT / "docs" / name
    assert (drawn / name).read_bytes() == stored.read_bytes(), "run `hatch run docs:pictures`"
