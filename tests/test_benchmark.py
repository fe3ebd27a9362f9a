"""Tests that the benchmark runs, and that its rows survive being stored."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pdequinox_physconv._cpu.choice import RULES


ROOT = Path(__file__).resolve().parents[1]
BENCHMARK = ROOT / "tools" / "benchmark"


def run(*arguments):
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
    )


QUICK = ("--rounds", 2, "--seconds", 0.001, "--settings", "present")


def test_a_row(tmp_path):
    name = "PhysicsConv: 2-D 8^2, 64, k=3, batch 1, dilation 4"
    libraries = ("ours", "equinox", "product", "copy")
    options = (*QUICK, "--output", tmp_path, "--only", name)
    finished = run(BENCHMARK / "run.py", "convolutions", *options, "--libraries", *libraries)
    assert finished.returncode == 0, finished.stderr
    results = json.loads((tmp_path / "convolutions.json").read_text())
    (row,) = results["rows"]
    assert f"{row['row']['group']}: {row['name']}" == name
    layers = ("ours", "equinox")
    for what, measured in (("forward", libraries), ("train", layers)):
        answers = row["context"][what]["present"]
        assert set(answers) == set(measured)
        for answer in answers.values():
            assert answer["quartiles"][0] <= answer["median"] <= answer["quartiles"][1]
            assert answer["compile"] > 0 and answer["temporary"] >= 0
        assert set(row["alone"][what]["present"]) == {"ours"}
    # Both libraries start from the same weights.
    ours, theirs = (row["context"]["train"]["present"][library]["loss"] for library in layers)
    assert abs(ours - theirs) <= 1e-4 * abs(theirs)
    # In context there are activations; alone there are none.
    alone = row["alone"]["train"]["present"]["ours"]["loss"]
    assert abs(ours - alone) > 0.01 * abs(alone)
    assert "PhysicsConv" in finished.stdout


def test_rows_of_the_spectral_table(tmp_path):
    libraries = ("ours", "periodic", "transforms")
    options = (*QUICK, "--output", tmp_path, "--libraries", *libraries, "--only")
    both = ("SpectralConv: 1-D 160, 16, 8 modes", "walls: 1-D 160, ")
    finished = run(BENCHMARK / "run.py", "spectral", *options, *both)
    assert finished.returncode == 0, finished.stderr
    rows = json.loads((tmp_path / "spectral.json").read_text())["rows"]
    assert {row["row"]["group"] for row in rows} == {"SpectralConv", "walls"}
    for row in rows:
        able = {
            what: {n for n, answer in row["context"][what]["present"].items() if "median" in answer}
            for what in ("forward", "train")
        }
        if row["row"]["group"] == "walls":
            assert able["forward"] == able["train"] == {"ours", "periodic"}
        else:
            assert able == {"forward": {"ours", "transforms"}, "train": {"ours"}}
        assert f"| {row['name']} " in finished.stdout

    # One of the rows is measured again; the others keep their numbers.
    (again, *_), others = [
        [r for r in rows if (r is rows[1]) == chosen] for chosen in (True, False)
    ]
    only = f"{again['row']['group']}: {again['name']}"
    finished = run(BENCHMARK / "run.py", "spectral", *options, only, "--update")
    assert finished.returncode == 0, finished.stderr
    updated = json.loads((tmp_path / "spectral.json").read_text())["rows"]
    assert [row["name"] for row in updated] == [row["name"] for row in rows]
    assert all(row in updated for row in others) and again not in updated


@pytest.mark.skipif(
    shutil.which("git") is None or not (ROOT / ".git").exists(),
    reason="what a checkout holds, git tells",
)
def test_a_folder_that_keeps_the_newest_jax(tmp_path):
    # This Python takes the place of a newer one.
    (tmp_path / "kept" / "venv" / "bin").mkdir(parents=True)
    python = tmp_path / "kept" / "venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    options = (
        "--rounds",
        2,
        "--seconds",
        0.001,
        "--output",
        tmp_path,
        "--newest",
        tmp_path / "kept",
    )
    only = ("--libraries", "ours", "--only", "PhysicsConv: 2-D 8^2, 64, k=3, batch 1, dilation 4")
    finished = run(
        BENCHMARK / "run.py", "convolutions", *options, *only, "--settings", "present", "newest"
    )
    assert finished.returncode == 0, finished.stderr
    results = json.loads((tmp_path / "convolutions.json").read_text())
    assert results["versions"]["present"] == results["versions"]["newest"]
    for where in ("context", "alone"):
        for what in ("forward", "train"):
            assert set(results["rows"][0][where][what]) == {"present", "newest"}
    assert (tmp_path / "kept" / "checkout" / "pyproject.toml").is_file()


TITLES = """
import sys; sys.path.insert(0, sys.argv[1])
import rows
print("\\n".join(row.title for row in getattr(rows, sys.argv[2])()))
"""


def test_flags(tmp_path):
    options = (*QUICK, "--output", tmp_path, "--only", "PointwiseLinearConv")
    finished = run(BENCHMARK / "flags.py", *options)
    assert finished.returncode == 0, finished.stderr
    (row,) = json.loads((tmp_path / "cpu.json").read_text())["rows"]
    for what in ("forward", "train"):
        assert all(seconds > 0 for seconds in row[what]["present"].values())
        assert {"none", "oneDNN", "one core"} <= row[what]["present"].keys()
    assert f"| {row['name']} " in finished.stdout


def test_the_rows_of_flags_are_rows_of_the_tables():
    check = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import flags\n"
        "from rows import convolutions, spectral\n"
        "titles = {row.title for row in (*convolutions(), *spectral())}\n"
        "assert set(flags.ROWS) <= titles, set(flags.ROWS) - titles"
    )
    finished = run("-c", check, BENCHMARK)
    assert finished.returncode == 0, finished.stderr


def test_rows_of_a_gpu_are_left_out_without_one(tmp_path):
    only = ("--only", "large: PhysicsConv")
    finished = run(BENCHMARK / "run.py", "convolutions", *only)
    assert finished.returncode == 2 and "no row contains" in finished.stderr
    finished = run(BENCHMARK / "run.py", "convolutions_gpu", "spectral_gpu")
    assert finished.returncode == 2 and "no accelerator" in finished.stderr

    options = (*QUICK[:4], "--output", tmp_path, "--libraries", "ours")
    only = ("--only", "crossover: 1-D 64, 8, 4 modes")
    finished = run(BENCHMARK / "run.py", "convolutions_gpu", "spectral_gpu", *options, *only)
    assert finished.returncode == 0 and "these are the times of a CPU" in finished.stderr
    (row,) = json.loads((tmp_path / "spectral_gpu.json").read_text())["rows"]
    for setting in ("float32", "tf32", "bf16x3"):
        assert row["context"]["forward"][setting]["ours"]["error"] < 1e-5


def test_rules_rest_on_rows():
    titles = set(run("-c", TITLES, BENCHMARK, "convolutions").stdout.splitlines())
    assert RULES and len(titles) > 100
    for rule in RULES:
        assert rule.rows and set(rule.rows) <= titles, f"{rule.form} of {rule.targets}"


def test_a_rule_is_measured(tmp_path):
    form = RULES[0].form
    finished = run(BENCHMARK / "choice.py", *QUICK, "--output", tmp_path, "--only", form)
    assert finished.returncode in (0, 1), finished.stderr
    assert f"| `{form}` " in finished.stdout and "unused" not in finished.stdout


def test_rows_are_told_apart_and_survive_json():
    check = (
        "import json, sys; sys.path.insert(0, sys.argv[1])\n"
        "from rows import Row; from tables import TABLES\n"
        "for table in TABLES.values():\n"
        "    rows = table.rows()\n"
        "    assert len({(row.group, row.name) for row in rows}) == len(rows)\n"
        "    assert [Row.from_json(json.loads(json.dumps(r.as_json()))) for r in rows] == rows"
    )
    assert run("-c", check, BENCHMARK).returncode == 0


def test_what_there_is_not():
    for options, text in [
        (["--only", "no such row"], "no row contains 'no such row'"),
        (["--rounds", "1"], "must be at least 2, got 1"),
        (["--libraries", "none"], "invalid choice: 'none'"),
        (["--libraries", "ours", "neuralop"], "not in this table: neuralop"),
        (["--settings", "none"], "invalid choice: 'none'"),
    ]:
        finished = run(BENCHMARK / "run.py", "convolutions", *options)
        assert finished.returncode == 2 and text in finished.stderr


def test_the_page_for_cpus_names_every_setting(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARK)
    import flags
    from turns import KEPT_MEMORY

    page = (ROOT / "docs" / "cpu.md").read_text(encoding="utf-8")
    columns = {line.split("|")[1].strip() for line in page.splitlines() if line.startswith("| ")}
    assert {name for name in (*flags.FLAGS, *flags.OTHERS) if name != "none"} <= columns
    assert all(f"`{flag}`" in page for flag in flags.FLAGS.values() if flag)
    assert " ".join(f"{name}={value}" for name, value in KEPT_MEMORY.items()) in page
