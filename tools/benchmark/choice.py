"""Measures every rule that chooses a form, on the jaxlib at hand and on the newest: in context, on
the rows on which the rule rests, against the reference. The status is 1 unless all rules hold.
"""

import signal
import sys
from collections.abc import Mapping
from typing import Any

import report
from rows import convolutions, Row, Task
from run import command_line, processor, versions_of
from tables import PASSES
from turns import measure, Process, processes, SETTINGS, VERSIONS

from pdequinox_physconv._cpu.choice import RULES


# A ratio below `report.LEAST` is measured again before it counts, in this many times the turns.
AGAIN = 3

# What takes turns: the form that the rule chooses, and the reference in its place.
SIDES = ("rule", "reference")


def ratios_of(
    index: int,
    task: Task,
    libraries: Mapping[tuple[str, str], Process],
    rounds: int,
    seconds: float,
) -> dict[str, float]:
    """Divides the time with the reference by the time with the rule, in every setting where the two
    are different programs.
    """
    forms = {"rule": RULES[index].form, "reference": "reference"}
    programs = {
        (setting, side): library.prepare(task, index=index, form=forms[side])["program"]
        for (setting, side), library in libraries.items()
    }
    settings = [s for s in SETTINGS if len({programs.get((s, side)) for side in SIDES}) > 1]
    found: dict[str, float] = {}
    for turns in (rounds, AGAIN * rounds):
        pairs = {(s, side): libraries[s, side] for s in settings for side in SIDES}
        times = {pair: answer["median"] for pair, answer in measure(pairs, turns, seconds).items()}
        found |= {s: times[s, "reference"] / times[s, "rule"] for s in settings}
        settings = [s for s in settings if found[s] < report.LEAST]
    return found


def entry_of(
    index: int,
    known: dict[str, Row],
    libraries: Mapping[tuple[str, str], Process],
    rounds: int,
    seconds: float,
) -> dict[str, Any]:
    """Measures a rule: the result has `entry["ratios"][setting][pass][row]`."""
    rule = RULES[index]
    ratios: dict[str, Any] = {s: {what: {} for what in PASSES} for s, _ in libraries}
    for title in rule.rows:
        for what in PASSES:
            task = Task(known[title], what, "context")
            for setting, value in ratios_of(index, task, libraries, rounds, seconds).items():
                ratios[setting][what][title] = value
    kept = {"jaxlib": rule.measured, "structural": rule.structural}
    return {"form": rule.form, "targets": rule.targets, **kept, "ratios": ratios}


def main() -> int:
    """Runs the command line."""
    options = command_line(__doc__, VERSIONS).parse_args()
    chosen = [i for i, r in enumerate(RULES) if any(text in r.form for text in options.only)]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    settings = options.settings or VERSIONS
    wanted = {(s, side): (SETTINGS[s], "ours_rule") for s in settings for side in SIDES}
    known = {row.title: row for row in convolutions()}
    results: dict[str, Any] = {"machine": processor(), "rounds": options.rounds, "rows": []}
    with processes(wanted, options.newest) as libraries:
        results["versions"] = versions_of({(s, "ours"): p for (s, _), p in libraries.items()})
        for i in chosen:
            entry = entry_of(i, known, libraries, options.rounds, options.seconds)
            results["rows"].append(entry)
            print(report.rule_line(entry), file=sys.stderr, flush=True)
    print(report.choice(results))
    if options.only == [""]:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "choice.json").write_text(report.dump(results), encoding="utf-8")
        report.fill_pages(options.output)
    return 0 if all(report.verdict(entry) == "holds" for entry in results["rows"]) else 1


if __name__ == "__main__":
    sys.exit(main())
