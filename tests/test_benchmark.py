"""The benchmark runs, and its page shows the numbers that are stored beside it."""

import json
import subprocess
import sys
from pathlib import Path


ROOT = Path(__file__).resolve().parents[1]
BENCHMARK = ROOT / "tools" / "benchmark"


def run(*arguments):
    return subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, cwd=ROOT
    )


def test_a_row(tmp_path):
    name = "PhysicsConv: 2-D 8^2, 64, k=3, batch 1, dilation 4"
    libraries = ("ours", "equinox", "product", "copy")
    options = ("--rounds", 2, "--seconds", 0.001, "--output", tmp_path, "--only", name)
    finished = run(BENCHMARK / "run.py", "convolutions", *options, "--libraries", *libraries)
    assert finished.returncode == 0, finished.stderr
    results = json.loads((tmp_path / "convolutions.json").read_text())
    (row,) = results["rows"]
    assert f"{row['row']['group']}: {row['name']}" == name
    for what in ("forward", "train"):
        for library in libraries:
            answer = row[what][library]
            assert answer["quartiles"][0] <= answer["median"] <= answer["quartiles"][1]
            assert answer["compile"] > 0 and answer["temporary"] >= 0
    # Both start from the same weights.
    ours, theirs = (row["train"][library]["loss"] for library in ("ours", "equinox"))
    assert abs(ours - theirs) <= 1e-4 * abs(theirs)
    assert "PhysicsConv" in finished.stdout


def test_what_there_is_not():
    for options, text in [
        (["--only", "no such row"], "no row contains 'no such row'"),
        (["--rounds", "1"], "must be at least 2, got 1"),
        (["--libraries", "none"], "invalid choice: 'none'"),
    ]:
        finished = run(BENCHMARK / "run.py", "convolutions", *options)
        assert finished.returncode == 2 and text in finished.stderr


def test_the_page_shows_the_stored_numbers():
    # The report is made for the command line: its folder is not a package.
    fill = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); import report\n"
        "docs = Path(sys.argv[2]); page = (docs / 'convolutions.md').read_text('utf-8')\n"
        "sys.exit(report.fill(page, docs) != page or '<!-- summary of' not in page)"
    )
    assert run("-c", fill, BENCHMARK, ROOT / "docs").returncode == 0
