"""Runs tables of the benchmark: every library in a process of its own, in turns."""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import report
import worker
from rows import LARGE, Row, Task
from tables import LIBRARIES, PASSES, Table, TABLES
from turns import measure, Process, processes, SETTINGS


ROOT = Path(__file__).resolve().parents[2]

# At most this many turns for layers alone, which are not in the summary.
ALONE = 3


def entry_of(
    table: Table,
    row: Row,
    libraries: Mapping[tuple[str, str], Process],
    passes: list[str],
    rounds: int,
    seconds: float,
) -> dict[str, Any]:
    """Measures a row in context, and layers also alone: `entry[where][pass][setting][library]`."""
    entry: dict[str, Any] = {"row": row.as_json(), "name": row.name}
    for where in ("context",) if row.group == "networks" else ("context", "alone"):
        for what in passes:
            task = Task(row, what, where, table.errors)
            chosen = [pair for pair in table.pairs(what, where) if pair in libraries]
            answers = {pair: libraries[pair].prepare(task) for pair in chosen}
            able = {p: libraries[p] for p in chosen if "unsupported" not in answers[p]}
            turns = rounds if where == "context" else min(rounds, ALONE)
            for pair, times in measure(able, turns, seconds).items():
                answers[pair] |= times
            found = entry.setdefault(where, {}).setdefault(what, {})
            for (setting, name), answer in answers.items():
                found.setdefault(setting, {})[name] = answer
    return entry


def versions(libraries: list[str]) -> dict[str, str]:
    """Finds the versions of what runs in this environment."""
    return worker.versions(names_of(libraries))


def names_of(libraries: list[str]) -> list[str]:
    """Lists the distributions whose versions are noted."""
    return [name for library in libraries for name in LIBRARIES[library].versions]


def versions_of(libraries: Mapping[tuple[str, str], Process]) -> dict[str, dict[str, str]]:
    """Finds the versions of what runs in every setting, and its flags."""
    found: dict[str, dict[str, str]] = {}
    for (setting, name), process in libraries.items():
        answer = process.ask(do="versions", names=names_of([name]))
        found[setting] = found.get(setting, {}) | answer
    for setting, known in found.items():
        if flags := SETTINGS[setting].flags:
            known["XLA_FLAGS"] = flags
    return found


def processor() -> str:
    """Finds the name of the processor, as far as the system tells, and of an accelerator."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    cores = f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"
    kind = accelerator()
    return f"{kind} ({cores})" if kind else cores


@cache
def accelerator() -> str:
    """Finds the kind of accelerator, in another process, because this one would hold it."""
    ask = "import jax; print(jax.devices()[0].device_kind)"
    kind = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True).stdout
    return kind.strip().removeprefix("cpu")


def updated(path: Path, results: dict[str, Any], order: list[Any]) -> dict[str, Any]:
    """Replaces rows of the results in the file by those of these results. The ratios of a row come
    from one run, so rows of two runs may share a table if machine and versions are the same.
    """
    stored = json.loads(path.read_text(encoding="utf-8"))
    for key in ("machine", "versions"):
        if stored[key] != results[key]:
            raise SystemExit(f"{path} has another {key}: {stored[key]}, not {results[key]}")
    # Fields that were added to rows since then have their defaults.
    key = lambda entry: Row.from_json(entry["row"])
    rows = {key(entry): entry for entry in [*stored["rows"], *results["rows"]]}
    places = {Row.from_json(row): place for place, row in enumerate(order)}
    known = [row for row in rows if row in places]
    return stored | {"rows": [rows[row] for row in sorted(known, key=places.__getitem__)]}


def rows_of(table: Table, only: list[str]) -> list[Row]:
    """Lists the rows of the table that can run here and whose title contains one of the texts."""
    rows = [row for row in table.rows() if table.gpu or row.group != LARGE or accelerator()]
    return [row for row in rows if any(text in row.title for text in only)]


def run(name: str, rows: list[Row], libraries: list[str], options: Namespace) -> None:
    """Measures rows of a table, and writes them."""
    table = TABLES[name]
    pairs = dict.fromkeys(
        (setting, library)
        for where in ("context", "alone")
        for what in options.passes
        for setting, library in table.pairs(what, where)
        if setting in (options.settings or table.settings) and library in libraries
    )
    modules = {pair: (SETTINGS[pair[0]], LIBRARIES[pair[1]].module) for pair in pairs}
    results: dict[str, Any] = {
        "table": name,
        "machine": processor(),
        "versions": {},
        "rounds": options.rounds,
        "rows": [],
    }
    ask = (options.passes, options.rounds, options.seconds)
    with processes(modules, options.newest) as found:
        results["versions"] = versions_of(found)
        for i, row in enumerate(rows):
            if row.group == LARGE:
                # One process after another: together they would need too much memory of a device.
                entry: dict[str, Any] = {}
                for pair, module in modules.items():
                    with processes({pair: module}, options.newest) as one:
                        merge(entry, entry_of(table, row, one, *ask))
            else:
                entry = entry_of(table, row, found, *ask)
            results["rows"].append(entry)
            print(f"{i + 1}/{len(rows)}", report.line(entry), file=sys.stderr, flush=True)
    print(report.summary(results))
    if options.only != [""]:
        print(report.rows(results))
    if options.update:
        order = [row.as_json() for row in table.rows()]
        results = updated(options.output / f"{name}.json", results, order)
    report.write(results, options.output, name)


def merge(into: dict[str, Any], other: dict[str, Any]) -> None:
    """Adds the entries of another dictionary, at every depth."""
    for key, value in other.items():
        if isinstance(value, dict) and key in into:
            merge(into[key], value)
        else:
            into[key] = value


def command_line(description: str | None, settings: Iterable[str]) -> argparse.ArgumentParser:
    """Makes a parser with the options that all commands of the benchmark have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=7, help="turns of every process")
    parser.add_argument("--seconds", type=float, default=0.03, help="length of a turn, at least")
    parser.add_argument(
        "--only", nargs="+", default=[""], help="rows whose title, or rules whose form, has a text"
    )
    parser.add_argument("--settings", nargs="+", choices=settings, help="default: all of them")
    parser.add_argument(
        "--newest", type=Path, help="folder that keeps the environment with the newest JAX"
    )
    parser.add_argument("--output", type=Path, default=ROOT / "results", help="folder")
    return parser


def main() -> None:
    """Runs the command line."""
    parser = command_line(__doc__, SETTINGS)
    parser.add_argument("table", nargs="+", choices=TABLES)
    parser.add_argument("--update", action="store_true", help="keep the other rows of the file")
    parser.add_argument("--passes", nargs="+", choices=PASSES, default=PASSES)
    parser.add_argument("--libraries", nargs="+", choices=LIBRARIES, help="default: the table's")
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error(f"`--rounds` must be at least 2, got {options.rounds}")
    tables = [TABLES[name] for name in options.table]
    for given, known in (
        (options.libraries, {name for table in tables for name in table.libraries}),
        (options.settings, {name for table in tables for name in table.settings}),
    ):
        if strangers := set(given or ()) - known:
            parser.error(f"not in this table: {', '.join(sorted(strangers))}")
    wanted = options.libraries or [name for table in tables for name in table.libraries]
    missing = {n for n in wanted if any(find_spec(m) is None for m in LIBRARIES[n].needs)}
    if missing and options.libraries:
        parser.error(f"not installed: {', '.join(sorted(missing))}")
    for name in sorted(missing):
        print(f"{name} is not installed: its column stays empty", file=sys.stderr)
    rows = {name: rows_of(TABLES[name], options.only) for name in options.table}
    if not any(rows.values()):
        parser.error(f"`--only`: no row contains {' or '.join(map(repr, options.only))}")
    if any(table.gpu for table in tables) and not accelerator():
        if options.only == [""]:
            parser.error("JAX finds no accelerator here: only with `--only`, to try the command")
        print("JAX finds no accelerator: these are the times of a CPU", file=sys.stderr)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    for name in options.table:
        if rows[name]:
            run(name, rows[name], [n for n in wanted if n not in missing], options)


if __name__ == "__main__":
    main()
