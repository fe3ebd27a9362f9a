"""The formulas of docs/sharding.md are what the compiled programs send."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from mesh_cases import ON_MESHES


ROOT = Path(__file__).resolve().parents[1]
SHARDING = ROOT / "tools" / "sharding"
NUMBERS = json.loads((ROOT / "docs" / "sharding.json").read_text(encoding="utf-8"))

# The modules are made for the command line: their folder is not a package.
FORMULA = """
import json, sys
sys.path.insert(0, sys.argv[1])
from formulas import sent
from page import LAYER, SHARDING, SIZES
for row in json.loads(sys.stdin.read()):
    for what in ("forward", "train"):
        expected = sent(LAYER[row["layer"]], SHARDING[row["sharding"]], what, SIZES)
        for column in ("ours", "explicit"):
            if column in row:
                counted = row[column][what]["sent"]
                # The bias's gradient and the loss, some bytes, are not in the formulas.
                good = abs(counted - expected) <= 256
                if not good:
                    print(row["layer"], row["sharding"], what, column, counted, expected)
"""


def run(*arguments, text=None):
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        input=text,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )


def against_formulas(rows):
    finished = run("-c", FORMULA, SHARDING, text=json.dumps(rows))
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


def test_stored_counts_are_those_of_the_formulas():
    assert {"ours", "explicit", "pdequinox"} <= set(NUMBERS["rows"][0])
    assert against_formulas(NUMBERS["rows"]) == ""


@pytest.mark.skipif(not ON_MESHES, reason="this version leaves meshes to XLA")
def test_counts_of_today_are_those_of_the_formulas(tmp_path):
    options = ("--output", tmp_path, "--no-scaling", "--libraries", "ours")
    finished = run(SHARDING / "communication.py", *options, "--only", "two axes", "channels")
    assert finished.returncode == 0, finished.stderr
    rows = json.loads((tmp_path / "sharding.json").read_text(encoding="utf-8"))["rows"]
    stored = {(row["layer"], row["sharding"]) for row in NUMBERS["rows"]}
    assert len(rows) == len([title for _, title in stored if title in ("two axes", "channels")])
    assert against_formulas(rows) == ""
