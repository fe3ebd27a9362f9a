"""Tests that the formulas of docs/sharding.md give what the compiled programs send."""

import json
import subprocess
import sys
from pathlib import Path

import equinox as eqx
import jax
import pytest
from jax.sharding import AxisType

from pdequinox_spectralconv import SpectralConv


ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
NUMBERS = json.loads((DOCS / "sharding.json").read_text(encoding="utf-8"))
LAYERS = sorted({row["layer"] for row in NUMBERS["rows"]})


@pytest.fixture
def tool(monkeypatch):
    """Imports a module of tools/sharding, whose folder is not a package because its modules are
    made for the command line.
    """
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(ROOT / "tools" / "sharding"))
    yield __import__
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(ROOT / "tools")):
            del sys.modules[name]


def assert_sent(tool, layer, sharding, what, counted):
    page = tool("page")
    expected = tool("formulas").sent(page.LAYER[layer], page.SHARDING[sharding], what, page.SIZES)
    # The formulas leave out the gradient of the bias and the loss, some bytes.
    assert abs(counted - expected) <= 256, (layer, sharding, what, counted, expected)


def test_stored_counts_are_those_of_the_formulas(tool):
    assert {"ours", "explicit", "pdequinox"} <= set(NUMBERS["rows"][0])
    for row in NUMBERS["rows"]:
        for what in ("forward", "train"):
            for column in ("ours", "explicit"):
                if column in row:
                    counted = row[column][what]["sent"]
                    assert_sent(tool, row["layer"], row["sharding"], what, counted)


@pytest.mark.parametrize("sharding", ["two axes", "channels"])
@pytest.mark.parametrize("layer", LAYERS)
def test_counts_of_today_are_those_of_the_formulas(tool, layer, sharding):
    page, count = tool("page"), tool("count")
    for what in ("forward", "train"):
        program = count.compiled(
            "ours", AxisType.Auto, page.LAYER[layer], page.SHARDING[sharding], what
        )
        assert_sent(tool, layer, sharding, what, count.counted(program)["sent"])


def test_the_sizes_of_factors_are_those_of_layers(tool):
    """Tests every kind of weights that the page names, in 1-D to 3-D."""
    formulas, page = tool("formulas"), tool("page")
    for dims in (1, 2, 3):
        sizes = formulas.Sizes(1, 6, 6, (32,) * dims, 5)
        for kind, _ in page.FACTORS.values():
            make = lambda dims=dims, kind=kind: SpectralConv(
                dims, 6, 6, 5, weights=kind, key=jax.random.key(0)
            )
            leaves = jax.tree.leaves(eqx.filter_eval_shape(make))
            assert formulas.weights_of(kind, sizes) == 4 * sum(leaf.size for leaf in leaves)


def test_the_command_line_counts_and_writes(tool, tmp_path):
    layer, sharding = "PointwiseLinearConv", "channels"
    command = [sys.executable, ROOT / "tools" / "sharding" / "communication.py"]
    command += ["--output", tmp_path, "--no-scaling", "--libraries", "ours"]
    command += ["--only", f"{layer}: {sharding}"]
    finished = subprocess.run(command, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    (row,) = json.loads((tmp_path / "sharding.json").read_text(encoding="utf-8"))["rows"]
    assert (row["layer"], row["sharding"]) == (layer, sharding)
    for what in ("forward", "train"):
        assert_sent(tool, layer, sharding, what, row["ours"][what]["sent"])
