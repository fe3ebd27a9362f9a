"""Writes the results of the benchmark as a file of numbers, tables and a plot.

`python report.py FOLDER` makes the tables and the plots again from the numbers in that folder.
"""

import json
import re
import sys
from importlib.util import find_spec
from math import exp, log
from pathlib import Path
from statistics import median
from typing import Any

from rows import Row
from tables import Aim, Column, LIBRARIES, PASSES, Table, TABLES
from turns import SETTINGS, VERSIONS


# No ratio of a rule that chooses a form may be below this.
LEAST = 0.95

WORDS = {"train": "a training step", "forward": "a forward pass"}


def table_of(results: dict[str, Any]) -> Table:
    """Finds the table that the results belong to."""
    return TABLES[results["table"]]


def answer(
    entry: dict[str, Any], what: str, library: str = "ours", setting: str = "present",
    where: str = "context",
) -> dict[str, Any]:  # fmt: skip
    """Finds what a library answered about a row; an empty dictionary if it did not."""
    return entry.get(where, {}).get(what, {}).get(setting, {}).get(library, {})


def ratio(entry: dict[str, Any], column: Column, key: str = "median") -> float | None:
    """Divides what the other library needs by what this project needs; `None` if unknown."""
    ours, theirs = (
        answer(entry, column.what, library, column.setting, column.where).get(key)
        for library in ("ours", column.library)
    )
    return theirs / ours if ours and theirs else None


def line(entry: dict[str, Any]) -> str:
    """Describes a row in context in one line, while the benchmark runs."""
    parts = [f"{entry['row']['group']}: {entry['name']}"]
    for what in PASSES:
        for setting, answers in entry["context"].get(what, {}).items():
            if seconds := answers.get("ours", {}).get("median"):
                parts.append(f"{what}, {setting}: {seconds * 1e3:.2f} ms")
            others = [Column(what, other, setting) for other in answers if other != "ours"]
            ratios = {column.library: ratio(entry, column) for column in others}
            parts += [f"{other} {value:.2f}" for other, value in ratios.items() if value]
    return " | ".join(parts)


def geometric_mean(values: list[float]) -> float:
    """Computes the geometric mean of positive numbers."""
    return exp(sum(map(log, values)) / len(values))


def table(head: list[str], body: list[list[str]]) -> str:
    """Writes a table in Markdown, the first column aligned left and the others right."""
    columns = [[row[i] for row in [head, *body]] for i in range(len(head))]
    widths = [max(map(len, column)) for column in columns]
    pad = lambda row: [row[0].ljust(widths[0])] + [
        cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)
    ]
    rule = [":" + "-" * (widths[0] - 1)] + ["-" * (width - 1) + ":" for width in widths[1:]]
    lines = [pad(head), rule, *map(pad, body)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def groups_of(results: dict[str, Any]) -> list[str]:
    """Lists the groups of rows, in the order of the table."""
    return list(dict.fromkeys(entry["row"]["group"] for entry in results["rows"]))


def rows_of(results: dict[str, Any], group: str) -> list[dict[str, Any]]:
    """Lists the rows of a group."""
    return [entry for entry in results["rows"] if entry["row"]["group"] == group]


def ratios(results: dict[str, Any], group: str, column: Column, key: str = "median") -> list[float]:
    """Lists the ratios of a group of rows that are known."""
    found = (ratio(entry, column, key) for entry in rows_of(results, group))
    return [value for value in found if value]


def costs(columns: list[Column]) -> list[tuple[str, str, Column]]:
    """Lists the columns of memory and compile time of training steps against pdequinox, without
    settings that have a flag or a lower precision: the title, the key in an answer, and the column.
    """
    beside = [
        column for column in columns
        if (column.what, column.library, column.where) == ("train", "pdequinox", "context")
        and not SETTINGS[column.setting].flags
        and SETTINGS[column.setting].precision in ("", "highest")
    ]  # fmt: skip
    return [
        (title if column is beside[0] else SETTINGS[column.setting].title, key, column)
        for title, key in (("memory", "temporary"), ("compile time", "compile"))
        for column in beside
    ]


def summary(results: dict[str, Any]) -> str:
    """Writes the geometric mean, and the worst row in brackets, of every group of rows that is
    compared: training steps in one table, forward passes in another.
    """

    def cell(group: str, column: Column) -> str:
        found = ratios(results, group, column)
        return f"{geometric_mean(found):.1f} ({min(found):.2f})" if found else "-"

    def less(group: str, key: str, column: Column) -> str:
        """Writes memory or compile time as ours divided by theirs: less is better."""
        found = [1 / value for value in ratios(results, group, column, key)]
        return f"{geometric_mean(found):.2f} ({max(found):.2f})" if found else "-"

    texts = []
    for what in ("train", "forward"):
        columns = [
            column for column in table_of(results).columns
            if column.summary and column.what == what
            and any(ratios(results, group, column) for group in groups_of(results))
        ]  # fmt: skip
        head = [f"{WORDS[what]}:", "rows", *map(table_of(results).heading, columns)]
        head += [title for title, *_ in costs(columns)]
        body = []
        for group in groups_of(results):
            cells = [cell(group, column) for column in columns]
            if any(cell != "-" for cell in cells):
                name = f"`{group}`" if group[0].isupper() else group
                cells += [less(group, key, column) for _, key, column in costs(columns)]
                body.append([name, str(len(rows_of(results, group))), *cells])
        if body:
            texts.append(table(head, body))
    return "\n".join(texts)


def aims(results: dict[str, Any]) -> str:
    """Writes what was aimed at, what was reached on each JAX, and how many rows fall short."""

    def cell(aim: Aim, setting: str) -> str:
        if setting == "newest" and not aim.newest:
            return ""
        column = Column(aim.what, aim.library, setting)
        found = [
            value for entry in results["rows"] if aim.rows(Row.from_json(entry["row"]))
            if (value := ratio(entry, column, aim.key))
        ]  # fmt: skip
        if not found:
            return "-"
        found = [1 / value for value in found] if aim.at_most else found
        far = sum(
            aim.worst is not None and (value > aim.worst if aim.at_most else value < aim.worst)
            for value in found
        )
        worst = max(found) if aim.at_most else min(found)
        short = f", {far} of {len(found)} short" if far else ""
        return f"{geometric_mean(found):.2f} ({worst:.2f}{short})"

    body = []
    for aim in table_of(results).aims:
        sign = "at most" if aim.at_most else "at least"
        wanted = "" if aim.mean is None else f"{sign} {aim.mean:g}"
        limit = "" if aim.worst is None else f"({sign} {aim.worst:g})"
        body.append([aim.title, f"{wanted} {limit}".strip(), *(cell(aim, s) for s in VERSIONS)])
    return table(["", "aim: mean (worst)", *(SETTINGS[s].title for s in VERSIONS)], body)


def rows(results: dict[str, Any]) -> str:
    """Writes every row, training steps and forward passes separately: milliseconds with half the
    interquartile range, and how many times as long the others take.
    """

    def time(ours: dict[str, Any]) -> str:
        if "median" not in ours:
            return "-"
        spread = (ours["quartiles"][1] - ours["quartiles"][0]) / 2
        return f"{ours['median'] * 1e3:.3g} ± {spread * 1e3:.1g}"

    def times(value: float | None) -> str:
        return f"{value:.3g}" if value else "-"

    text = ""
    for group in groups_of(results):
        text += f"### {group}\n\n"
        for what in ("train", "forward"):
            chosen = [entry for entry in rows_of(results, group) if what in entry["context"]]
            columns = [
                column for column in table_of(results).columns
                if column.what == what and ratios(results, group, column)
            ]  # fmt: skip
            settings = [
                name for name in table_of(results).settings
                if any(answer(entry, what, setting=name) for entry in chosen)
            ]  # fmt: skip
            head = [f"{WORDS[what]}, ms:", *(SETTINGS[name].title for name in settings)]
            wrong = [
                (name, library) for name in settings for library in ("ours", "pdequinox")
                if any("error" in answer(entry, what, library, name) for entry in chosen)
            ]  # fmt: skip
            head += [f"error of {LIBRARIES[lib].title}: {SETTINGS[s].title}" for s, lib in wrong]
            head += map(table_of(results).heading, columns)
            head += [title for title, *_ in costs(columns)]
            body = []
            for entry in chosen:
                cells = [entry["name"]]
                cells += [time(answer(entry, what, setting=name)) for name in settings]
                for name, library in wrong:
                    value = answer(entry, what, library, name).get("error")
                    cells.append("-" if value is None else f"{value:.1e}")
                cells += [times(ratio(entry, column)) for column in columns]
                for _, key, column in costs(columns):
                    value = ratio(entry, column, key)
                    cells.append(f"{1 / value:.2f}" if value else "-")
                body.append(cells)
            if body:
                text += f"{table(head, body)}\n"
    return text


def losses(results: dict[str, Any]) -> str:
    """Writes a sentence on how far the losses of this project and pdequinox differ."""
    found: dict[str, list[float]] = {}
    setting = table_of(results).settings[0]
    for entry in results["rows"]:
        ours, theirs = (answer(entry, "train", name, setting) for name in ("ours", "pdequinox"))
        if "loss" in ours and "loss" in theirs:
            difference = abs(ours["loss"] - theirs["loss"]) / abs(theirs["loss"])
            found.setdefault(entry["row"]["dtype"], []).append(difference)
    parts = [
        f"{max(v):.0e} ({len(v)} row{'s' * (len(v) > 1)} in {dtype})" for dtype, v in found.items()
    ]
    return (
        "This project and pdequinox start from the same weights. The losses of their training "
        f"steps differ by at most {' and '.join(parts)}, relative to their size.\n"
    )


def ratios_of_rule(entry: dict[str, Any], setting: str) -> dict[str, float]:
    """Collects the ratios of a rule, by pass and row."""
    passes = entry["ratios"][setting].items()
    return {f"{what}, {row}": v for what, rows in passes for row, v in rows.items()}


def verdict(entry: dict[str, Any]) -> str:
    """Says in a word what becomes of a rule."""
    found = [list(ratios_of_rule(entry, setting).values()) for setting in entry["ratios"]]
    if not all(found):
        return "unused"  # It is in no program of the rows that it names.
    return "holds" if min(min(values) for values in found) >= LEAST else "loses"


def rule_line(entry: dict[str, Any]) -> str:
    """Describes a rule in one line, while it is measured: the worst row in every setting."""
    parts = [f"{entry['form']} of {entry['targets']}: {verdict(entry)}"]
    for setting in entry["ratios"]:
        if found := ratios_of_rule(entry, setting):
            worst = min(found, key=found.__getitem__)
            mean = geometric_mean(list(found.values()))
            parts.append(f"{setting} {mean:.2f}, worst {found[worst]:.2f} ({worst})")
    return " | ".join(parts)


def choice(results: dict[str, Any]) -> str:
    """Writes every rule: the time of the reference divided by the time of the form."""

    def cell(entry: dict[str, Any], setting: str, what: str) -> str:
        found = list(entry["ratios"][setting][what].values())
        return f"{geometric_mean(found):.2f} ({min(found):.2f})" if found else "-"

    columns = [(s, what) for what in ("train", "forward") for s in results["versions"]]
    head = ["form", "of", "rows", *(f"{what}, {SETTINGS[s].title}" for s, what in columns)]
    body = [
        [
            f"`{entry['form']}`",
            ", ".join(entry["targets"]),
            str(len({row for s in entry["ratios"].values() for w in s.values() for row in w})),
            *(cell(entry, *column) for column in columns),
            "any" if entry["structural"] else ", ".join(entry["jaxlib"]),
            verdict(entry),
        ]
        for entry in results["rows"]
    ]
    return table([*head, "on jaxlib", ""], body)


def flags(results: dict[str, Any]) -> str:
    """Writes the time of this project's layers without a flag divided by the time with it, in a
    training step and in a forward pass: a table for every version of JAX.
    """
    passes = ("train", "forward")
    texts = []
    for version, known in results["versions"].items():
        none, *names = results["rows"][0]["train"][version]
        head = [f"jaxlib {known['jaxlib']}", "train / forward, ms", *names]
        gains: dict[str, list[list[float]]] = {name: [] for name in names}
        body = []
        for entry in results["rows"]:
            times = [entry[what][version] for what in passes]
            for name in names:
                gains[name].append([found[none] / found[name] for found in times])
            last = [" / ".join(f"{value:.2f}" for value in gains[name][-1]) for name in names]
            ours = " / ".join(f"{found[none] * 1e3:.3g}" for found in times)
            body.append([entry["name"], ours, *last])
        means = [map(geometric_mean, map(list, zip(*gains[name], strict=True))) for name in names]
        body.append(["geometric mean", ""])
        body[-1] += [" / ".join(f"{value:.2f}" for value in pair) for pair in means]
        texts.append(table(head, body))
    return "\n".join(texts)


def commutation(results: dict[str, Any]) -> str:
    """Writes the table of `resampling.py`."""
    head = ["", "this project", "neuraloperator", "neuraloperator, same grid"]
    keys = ("ours", "neuralop", "same_grid")
    body = [[row["name"], *(f"{row[key]:.1e}" for key in keys)] for row in results["rows"]]
    found = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    return f"{table(head, body)}\nWith {found}.\n"


def precision(results: dict[str, Any]) -> str:
    """Writes the table of `precision.py`."""
    names = [name for name in results["rows"][0] if name not in ("policy", "mean", "field")]
    head = ["", "mean", "the field itself", *names]
    body = [
        [row["policy"], f"{row['mean']}", *(f"{row[name]:.0e}" for name in ("field", *names))]
        for row in results["rows"]
    ]
    known = ", ".join(f"{name} {number}" for name, number in results["versions"].items())
    return f"{table(head, body)}\nMachine: {results['machine']}; {known}.\n"


def scenarios(results: dict[str, Any]) -> str:
    """Writes the table of `scenarios.py`."""
    head = ["network", "step, pdequinox", "step, here", "ratio", "losses differ by"]
    body = []
    for row in results["rows"]:
        before, after = row["pdequinox"]["step"], row["provided"]["step"]
        name = f"`{row['network']}`, {row['dims']}-D"
        times = [f"{1e3 * seconds:.3g} ms" for seconds in (before, after)]
        body.append([name, *times, f"{before / after:.2f}", f"{row['difference']:.0e}"])
    known = ", ".join(f"{name} {number}" for name, number in results["versions"].items())
    return f"{table(head, body)}\nMachine: {results['machine']}; {known}.\n"


def channels(results: dict[str, Any]) -> str:
    """Writes the table of `channels.py`."""
    versions = list(results["versions"])
    kinds = list(results["kinds"])
    columns = [(kind, version) for kind in kinds for version in versions]
    head = ["train / forward", *(f"{kind}, {SETTINGS[version].title}" for kind, version in columns)]
    body, found = [], {column: ([], []) for column in columns}
    for entry in results["rows"]:
        cells = [entry["name"]]
        for kind, version in columns:
            pair = [entry[what].get(version, {}).get(kind) for what in ("train", "forward")]
            cells.append("-" if None in pair else " / ".join(f"{value:.2f}" for value in pair))
            for values, value in zip(found[kind, version], pair, strict=True):
                if value is not None:
                    values.append(value)
        body.append(cells)
    middle = (" / ".join(f"{median(v):.2f}" for v in found[column]) for column in columns)
    body.append(["median", *middle])
    return table(head, body)


def kinds(results: dict[str, Any]) -> str:
    """Writes every kind of weights: what a training step in context takes, as a share of what it
    takes with dense weights, and how many times as long neuraloperator takes.
    """
    dense = [Column("train", "dense", setting) for setting in ("present", "newest")]
    peer = Column("train", "neuralop")
    head = ["", "parameters", "/ dense", "memory, MB", "/ dense", "ms"]
    head += [f"/ dense, {SETTINGS[column.setting].title}" for column in dense]
    head.append("neuraloperator / this project")
    share = lambda value: f"{1 / value:.2g}" if value else ""
    body = []
    for entry in results["rows"]:
        ours = answer(entry, "train")
        of_dense = [ratio(entry, dense[0], key) for key in ("parameters", "temporary")]
        times = [ratio(entry, column) for column in dense]
        theirs = ratio(entry, peer)
        body.append([
            entry["name"],
            f"{ours['parameters']:,}", share(of_dense[0]),
            f"{ours['temporary'] / 1e6:.3g}", share(of_dense[1]),
            f"{ours['median'] * 1e3:.3g}", *map(share, times),
            f"{theirs:.2g}" if theirs else "-",
        ])  # fmt: skip
    return table(head, body)


def machine(results: dict[str, Any]) -> str:
    """Writes a sentence on the machine and the versions of the run."""
    found = [
        f"{SETTINGS[setting].title}: " + ", ".join(f"{k} {v}" for k, v in versions.items())
        for setting, versions in results["versions"].items()
        if not SETTINGS[setting].flags
    ]
    flags = [
        f"{SETTINGS[setting].title}: the same with `{versions['XLA_FLAGS']}`"
        for setting, versions in results["versions"].items()
        if SETTINGS[setting].flags
    ]
    return (
        f"Machine: {results['machine']}. {'; '.join([*found, *flags])}. "
        f"Medians of {results['rounds']} turns.\n"
    )


def plot(results: dict[str, Any], path: Path) -> None:
    """Draws every row as a dot, by group, against each peer, in the first two settings."""
    import matplotlib.pyplot as plt

    settings = dict(zip(table_of(results).settings, ("#1f77b4", "#e08214"), strict=False))
    panels_of = {
        pair: [
            column for column in table_of(results).columns
            if (column.what, column.library) == pair
            and column.where == "context" and column.setting in settings
        ]
        for pair in table_of(results).plots
    }  # fmt: skip
    names = [
        group for group in groups_of(results)
        if any(ratios(results, group, c) for columns in panels_of.values() for c in columns)
    ]  # fmt: skip
    if not names:
        return
    passes = {what for what, _ in panels_of}
    figure, panels = plt.subplots(
        1,
        len(panels_of),
        figsize=(1.5 + 3.75 * len(panels_of), 0.6 * len(names) + 1.6),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    panels = panels[0]
    for panel, ((what, library), columns) in zip(panels, panels_of.items(), strict=True):
        columns = [c for c in columns if any(ratios(results, group, c) for group in names)]
        for j, column in enumerate(columns):
            color, title = settings[column.setting], SETTINGS[column.setting].title
            for i, group in enumerate(names):
                found = ratios(results, group, column)
                if not found:
                    continue
                place = i + 0.36 * (j - (len(columns) - 1) / 2)
                panel.plot(found, [place] * len(found), "o", color=color, alpha=0.35, markersize=5)
                panel.plot(geometric_mean(found), place, "|", color="k", markersize=13, mew=2.5)
            panel.plot([], [], "o", color=color, label=title)
        if len(columns) > 1:
            panel.legend(loc="best", fontsize=8)
        panel.axvline(1, color="0.4", linewidth=1)
        panel.set_xscale("log")
        ticks = [t for t in (0.1, 0.25, 0.5, 1, 2, 4, 10, 30, 100, 300, 1000)
                 if panel.get_xlim()[0] <= t <= panel.get_xlim()[1]]  # fmt: skip
        panel.set_xticks(ticks, [f"{t:g}" for t in ticks])
        panel.minorticks_off()
        panel.grid(axis="x", color="0.9")
        panel.set_axisbelow(True)
        panel.set_xlabel(f"time of {LIBRARIES[library].title} / time of this project")
        if len(passes) > 1:
            panel.set_title(WORDS[what].capitalize(), fontsize=10)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    head = "" if len(passes) > 1 else f"{WORDS[next(iter(passes))].capitalize()}: "
    text = f"{head}every row of the table in context, and the geometric mean"
    figure.suptitle(text[0].upper() + text[1:], fontsize=11)
    figure.savefig(path, dpi=130)


PARTS = {
    "choice": choice,
    "flags": flags,
    "summary": summary,
    "aims": aims,
    "rows": rows,
    "kinds": kinds,
    "machine": machine,
    "losses": losses,
    "channels": channels,
    "commutation": commutation,
    "scenarios": scenarios,
    "precision": precision,
}


def fill(page: str, folder: Path) -> str:
    """Fills a page with its tables. Each table stands between a mark, for example
    `<!-- rows of convolutions -->`, which names a file of numbers in the folder, and the mark
    `<!-- end -->`. Without that file the table stays as it is.
    """

    def filled(found: re.Match[str]) -> str:
        numbers = folder / f"{found[3]}.json"
        if not numbers.exists():
            return found[0]
        results = json.loads(numbers.read_text(encoding="utf-8"))
        return found[1] + PARTS[found[2]](results) + "<!-- end -->"

    pattern = rf"(<!-- ({'|'.join(PARTS)}) of (\w+) -->\n).*?<!-- end -->"
    return re.sub(pattern, filled, page, flags=re.DOTALL)


def dump(results: dict[str, Any]) -> str:
    """Writes the results as JSON with one line for each row."""
    head = {key: value for key, value in results.items() if key != "rows"}
    rounded = lambda value: float(f"{value:.4g}") if isinstance(value, float) else value
    lines = [json.dumps(deep(entry, rounded)) for entry in results["rows"]]
    return json.dumps(head)[:-1] + ', "rows": [\n' + ",\n".join(lines) + "\n]}\n"


def deep(value: Any, change: Any) -> Any:
    """Applies `change` to every leaf."""
    if isinstance(value, dict):
        # All digits of the loss are kept, because it is compared.
        return {k: v if k == "loss" else deep(v, change) for k, v in value.items()}
    if isinstance(value, list):
        return [deep(v, change) for v in value]
    return change(value)


def write(results: dict[str, Any], folder: Path, name: str) -> None:
    """Writes the numbers, the plot, and the tables of the pages in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(dump(results), encoding="utf-8")
    if find_spec("matplotlib"):
        plot(results, folder / f"{name}.png")
    elif table_of(results).plots:
        print("matplotlib is not installed: no plot", file=sys.stderr)
    fill_pages(folder)


def fill_pages(folder: Path) -> None:
    """Fills all pages in the folder, and in folders within it."""
    for path in folder.rglob("*.md"):
        page = path.read_text(encoding="utf-8")
        path.write_text(fill(page, folder), encoding="utf-8")


if __name__ == "__main__":
    for path in Path(sys.argv[1]).glob("*.json"):
        if path.with_suffix(".png").exists():
            content = json.loads(path.read_text(encoding="utf-8"))
            if "rounds" in content:
                write(content, path.parent, path.stem)
    fill_pages(Path(sys.argv[1]))
