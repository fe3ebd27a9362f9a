"""Runs a table of the benchmark: every library in a process of its own, in turns."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import report
from rows import Row
from tables import LIBRARIES, TABLES


HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]


class Process:
    """A library, in a process that answers."""

    def __init__(self, module: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "worker.py"), module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=HERE,
            env=os.environ | {"PYTHONWARNINGS": "ignore"},
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        """Sends one line, waits for one."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args} ended without an answer to {request}.")
        return json.loads(line)

    def end(self) -> None:
        """Ends the process."""
        self.process.communicate()


def measure(
    libraries: dict[str, Process], row: Row, what: str, rounds: int, seconds: float
) -> dict[str, Any]:
    """One pass of one row in every library."""
    results: dict[str, Any] = {}
    for name, library in libraries.items():
        results[name] = library.ask(do="prepare", row=row.as_json(), **{"pass": what})
    able = [name for name, answer in results.items() if "unsupported" not in answer]
    times: dict[str, list[float]] = {name: [] for name in able}
    for turn in range(rounds):
        # Another order every time, so that none always comes after the same one.
        for name in able[turn % len(able) :] + able[: turn % len(able)]:
            times[name].append(libraries[name].ask(do="time", seconds=seconds)["seconds"])
            # Idle threads of some libraries go on spinning for some milliseconds.
            time.sleep(0.01)
    for name in able:
        low, median, high = (
            statistics.quantiles(times[name], n=4) if rounds > 1 else times[name] * 3
        )
        results[name] |= {"median": median, "quartiles": [low, high]}
    return results


def versions(libraries: list[str]) -> dict[str, str]:
    """Of the machine and of what ran."""
    names = [name for library in libraries for name in LIBRARIES[library].versions]
    found = {"Python": platform.python_version()}
    for name in dict.fromkeys(names):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def processor() -> str:
    """Its name, as far as the system tells, and that of an accelerator."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    cores = f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"
    # In a process of its own, or it would hold the accelerator.
    ask = "import jax; print(jax.devices()[0].device_kind)"
    kind = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True).stdout
    return cores if kind.strip() in ("", "cpu") else f"{kind.strip()} ({cores})"


def updated(path: Path, results: dict[str, Any], order: list[Any]) -> dict[str, Any]:
    """The results in the file, with the rows of these in the place of theirs. The ratios of a row
    come of one run, so that rows of two runs on one machine, with the same versions, make a table.
    """
    stored = json.loads(path.read_text(encoding="utf-8"))
    for key in ("machine", "versions"):
        if stored[key] != results[key]:
            raise SystemExit(f"{path} has another {key}: {stored[key]}, not {results[key]}")
    # Fields that rows got since have their defaults.
    key = lambda entry: Row.from_json(entry["row"])
    rows = {key(entry): entry for entry in [*stored["rows"], *results["rows"]]}
    places = {Row.from_json(row): place for place, row in enumerate(order)}
    known = [row for row in rows if row in places]
    return stored | {"rows": [rows[row] for row in sorted(known, key=places.__getitem__)]}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("table", choices=TABLES)
    parser.add_argument("--rounds", type=int, default=9, help="turns of every library")
    parser.add_argument("--seconds", type=float, default=0.03, help="of a turn, at least")
    parser.add_argument(
        "--only", nargs="+", default=[""], help="rows whose group and name have a text"
    )
    parser.add_argument("--update", action="store_true", help="keep the other rows of the file")
    parser.add_argument("--passes", nargs="+", choices=report.PASSES, default=report.PASSES)
    parser.add_argument("--libraries", nargs="+", choices=LIBRARIES, help="default: all it has")
    parser.add_argument("--output", type=Path, default=ROOT / "results", help="folder")
    parser.add_argument("--name", help="of the files in it; default: that of the table")
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error(f"`--rounds` must be at least 2, got {options.rounds}")

    table = TABLES[options.table]
    wanted = options.libraries or table.libraries
    if strangers := set(wanted) - set(table.libraries):
        parser.error(f"not in this table: {', '.join(sorted(strangers))}")
    missing = [n for n in wanted if any(find_spec(m) is None for m in LIBRARIES[n].needs)]
    if missing and options.libraries:
        parser.error(f"not installed: {', '.join(missing)}")
    for name in missing:
        print(f"{name} is not installed: its column stays empty", file=sys.stderr)
    libraries = {n: Process(LIBRARIES[n].module) for n in wanted if n not in missing}
    title = lambda row: f"{row.group}: {row.name}"
    rows = [row for row in table.rows() if any(text in title(row) for text in options.only)]
    if not rows:
        parser.error(f"`--only`: no row contains {' or '.join(map(repr, options.only))}")
    results = {
        "table": options.table,
        "machine": processor(),
        "versions": versions(list(libraries)),
        "rounds": options.rounds,
        "rows": [],
    }
    for i, row in enumerate(rows):
        entry = {"row": row.as_json(), "name": row.name}
        for what in options.passes:
            entry[what] = measure(libraries, row, what, options.rounds, options.seconds)
        results["rows"].append(entry)
        print(f"{i + 1}/{len(rows)}", report.line(entry), file=sys.stderr, flush=True)
    for library in libraries.values():
        library.end()
    name = options.name or options.table
    print(report.summary(results))
    if options.only != [""]:
        print(report.rows(results))
    if options.update:
        results = updated(
            options.output / f"{name}.json", results, [r.as_json() for r in table.rows()]
        )
    report.write(results, options.output, name)


if __name__ == "__main__":
    main()
