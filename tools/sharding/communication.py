"""Counts what the layers send between devices, and makes the page's tables and figure of it.

`python communication.py --output docs` writes docs/sharding.json, docs/sharding.png and the tables
of docs/sharding.md. It counts in compiled programs, and runs only the layers of `scaling.py`.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

from cases import DEVICES, LAYERS, PASSES, SHARDINGS


HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.append(str(ROOT / "tools" / "benchmark"))
import page  # noqa: E402
from run import processor, versions  # noqa: E402


COLUMNS = {
    "ours": ("ours", "Auto"),
    "explicit": ("ours", "Explicit"),
    "pdequinox": ("pdequinox", "Auto"),
    "pdequinox explicit": ("pdequinox", "Explicit"),
}
"""The library and the types of the mesh's axes, for each column."""

SCALING = (1, 2, 4, 8)
"""Numbers of devices."""


def start(script: str, devices: int, *arguments: str) -> "subprocess.Popen[str]":
    """Starts a script of this folder in a process with the given number of devices."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    return subprocess.Popen(
        [sys.executable, str(HERE / script), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ
        | {"XLA_FLAGS": flags.strip(), "JAX_PLATFORMS": "cpu", "PYTHONWARNINGS": "ignore"},
    )


Case = tuple[str, str, str]
"""The titles of a layer and a sharding, and the pass."""


def count(library: str, mesh: str, cases: list[Case]) -> Iterator[tuple[Case, dict[str, Any]]]:
    """Counts the cases, and gives each with its answer. XLA may abort the process of a case that it
    cannot compile. That is noted as the answer, and another process continues with the next case.
    """
    while cases:
        process = start("count.py", DEVICES, library, mesh, json.dumps(cases))
        out, errors = process.communicate()
        answers = [json.loads(line) for line in out.splitlines()]
        if len(answers) < len(cases):
            failed = [line for line in errors.splitlines() if "Check failed" in line]
            if not failed:
                raise RuntimeError(errors)
            answers.append({"error": f"the compiler ends: {failed[0].split('] ')[-1][:200]}"})
        yield from zip(cases, answers, strict=False)
        cases = cases[len(answers) :]


def scaling() -> list[dict[str, Any]]:
    """Runs `scaling.py` on each number of devices."""
    found = []
    for devices in SCALING:
        out, errors = (process := start("scaling.py", devices)).communicate()
        if process.returncode:
            raise RuntimeError(errors)
        found += json.loads(out.splitlines()[-1])
        print(f"{devices} devices", file=sys.stderr, flush=True)
    return found


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", default=[""], help="cases whose title contains a text")
    parser.add_argument("--libraries", nargs="+", choices=COLUMNS, default=list(COLUMNS))
    parser.add_argument("--no-scaling", action="store_true", help="compile only, run nothing")
    parser.add_argument("--output", type=Path, default=ROOT / "results", help="folder")
    options = parser.parse_args()

    cases = [
        (layer.title, sharding.title, what)
        for layer, sharding, what in product(LAYERS, SHARDINGS, PASSES)
        if any(text in f"{layer.title}: {sharding.title}" for text in options.only)
    ]
    if not cases:
        parser.error(f"`--only`: no case contains {' or '.join(map(repr, options.only))}")
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for column in options.libraries:
        for (layer, sharding, what), answer in count(*COLUMNS[column], cases):
            row = rows.setdefault((layer, sharding), {"layer": layer, "sharding": sharding})
            row.setdefault(column, {})[what] = answer
            if "error" in answer and column in ("ours", "explicit"):
                raise SystemExit(f"{layer}, {sharding}, {what}: {answer['error']}")
            print(column, layer, sharding, what, answer, file=sys.stderr, flush=True)
    results = {
        "machine": processor(),
        "versions": versions(["ours", "pdequinox"]),
        "scaling": [] if options.no_scaling else scaling(),
        "rows": list(rows.values()),
    }
    print(page.bytes_table(results))
    page.write(results, options.output)


if __name__ == "__main__":
    main()
