"""Measures what modes per channel and poles cost: the time of a layer with them, divided by the
time of the same layer with one mode for all channels. Layers are in context, on the JAX at hand and
on the newest.
"""

import signal
import sys
from dataclasses import replace
from typing import Any

import report
from rows import Row, Task
from run import command_line, processor, versions_of
from tables import PASSES
from turns import measure, processes, SETTINGS, VERSIONS


# For every kind of `ours_channels`, the kind whose time its time is divided by.
KINDS = {"signs": "uniform", "places": "uniform", "poles": "globe"}


def rows() -> list[Row]:
    """Lists layers whose time depends on their boundary, and others."""
    one = Row("PhysicsConv", "PhysicsConv", (1024,), batch=16)
    two = Row("PhysicsConv", "PhysicsConv", (64, 64))
    three = Row("PhysicsConv", "PhysicsConv", (32, 32, 32), (16, 16), batch=2)
    up = Row("PhysicsConvTranspose", "PhysicsConvTranspose", (32, 32), stride=2)
    return [
        one,
        two,
        replace(two, spatial=(16, 16), batch=16),
        replace(two, kernel=7, batch=4),
        replace(two, stride=2),
        replace(two, groups=32),
        three,
        up,
    ]


def main() -> None:
    """Runs the command line."""
    options = command_line(__doc__, VERSIONS).parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    settings = options.settings or VERSIONS
    sides = dict.fromkeys([*KINDS, *KINDS.values()])
    wanted = {(s, side): (SETTINGS[s], "ours_channels") for s in settings for side in sides}
    results: dict[str, Any] = {
        "machine": processor(),
        "rounds": options.rounds,
        "kinds": list(KINDS),
        "rows": [],
    }
    with processes(wanted, options.newest) as libraries:
        results["versions"] = versions_of({(s, "ours"): p for (s, _), p in libraries.items()})
        for row in rows():
            if not any(text in row.title for text in options.only):
                continue
            entry: dict[str, Any] = {"name": f"{row.layer}, {row.name}"}
            for what in PASSES:
                able = {
                    pair: library
                    for pair, library in libraries.items()
                    if "unsupported"
                    not in library.prepare(Task(row, what, "context"), kind=pair[1])
                }
                times = measure(able, options.rounds, options.seconds)
                ratios: dict[str, Any] = {}
                for kind, base in KINDS.items():
                    for s in settings:
                        if (s, kind) in times:
                            ratio = times[s, kind]["median"] / times[s, base]["median"]
                            ratios.setdefault(s, {})[kind] = ratio
                entry[what] = ratios
            results["rows"].append(entry)
            print(entry, file=sys.stderr, flush=True)
    print(report.channels(results))
    if options.only == [""]:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "channels.json").write_text(report.dump(results), encoding="utf-8")
        report.fill_pages(options.output)


if __name__ == "__main__":
    main()
