"""The results of the benchmark as a file of numbers, tables and a plot.

`python report.py FOLDER` makes the tables and the plot anew from the numbers in that folder.
"""

import json
import re
import sys
from importlib.util import find_spec
from math import exp, log
from pathlib import Path
from typing import Any


PASSES = ("forward", "train")
NAMES = {"pdequinox": "pdequinox", "equinox": "Equinox", "torch": "PyTorch"}


def ratio(entry: dict[str, Any], other: str, what: str, key: str = "median") -> float | None:
    """How many times as much the other library needs, or `None` if that is not known."""
    ours, theirs = (entry.get(what, {}).get(name, {}).get(key) for name in ("ours", other))
    return theirs / ours if ours and theirs else None


def line(entry: dict[str, Any]) -> str:
    """A row, while the benchmark runs."""
    parts = [f"{entry['row']['group']}: {entry['name']}"]
    for what in PASSES:
        if seconds := entry.get(what, {}).get("ours", {}).get("median"):
            parts.append(f"{what} {seconds * 1e3:.2f} ms")
        others = [other for other in entry.get(what, {}) if other != "ours"]
        ratios = {other: ratio(entry, other, what) for other in others}
        parts += [f"{other} {value:.2f}" for other, value in ratios.items() if value]
    return " | ".join(parts)


def geometric_mean(values: list[float]) -> float:
    """Of positive numbers."""
    return exp(sum(map(log, values)) / len(values))


def table(head: list[str], body: list[list[str]]) -> str:
    """In Markdown, the first column to the left and the others to the right."""
    columns = [[row[i] for row in [head, *body]] for i in range(len(head))]
    widths = [max(map(len, column)) for column in columns]
    pad = lambda row: [row[0].ljust(widths[0])] + [
        cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)
    ]
    rule = [":" + "-" * (widths[0] - 1)] + ["-" * (width - 1) + ":" for width in widths[1:]]
    lines = [pad(head), rule, *map(pad, body)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def groups_of(results: dict[str, Any]) -> list[str]:
    """In the order of the table."""
    return list(dict.fromkeys(entry["row"]["group"] for entry in results["rows"]))


def summary(results: dict[str, Any]) -> str:
    """Geometric mean, and in brackets the worst, of every group of rows."""

    def cell(group: str, other: str, what: str, key: str = "median") -> str:
        found = [
            value
            for entry in results["rows"]
            if entry["row"]["group"] == group and (value := ratio(entry, other, what, key))
        ]
        if not found:
            return "-"
        if key == "median":
            return f"{geometric_mean(found):.1f} ({min(found):.2f})"
        # Memory and compile time as ours to theirs: less is better.
        found = [1 / value for value in found]
        return f"{geometric_mean(found):.2f} ({max(found):.2f})"

    head = ["", "rows", "train: pdequinox", "Equinox", "PyTorch", "forward: pdequinox", "PyTorch"]
    head += ["memory", "compile time"]
    body = []
    for group in groups_of(results):
        rows = sum(entry["row"]["group"] == group for entry in results["rows"])
        body.append([
            f"`{group}`" if group[0].isupper() else group,
            str(rows),
            *(cell(group, other, "train") for other in NAMES),
            cell(group, "pdequinox", "forward"),
            cell(group, "torch", "forward"),
            cell(group, "pdequinox", "train", "temporary"),
            cell(group, "pdequinox", "train", "compile"),
        ])  # fmt: skip
    return table(head, body)


def rows(results: dict[str, Any]) -> str:
    """Every row: milliseconds with the range of the middle half, and how many times as long others
    take.
    """

    def time(entry: dict[str, Any], what: str) -> str:
        ours = entry.get(what, {}).get("ours", {})
        if "median" not in ours:
            return "-"
        spread = (ours["quartiles"][1] - ours["quartiles"][0]) / 2
        return f"{ours['median'] * 1e3:.3g} ± {spread * 1e3:.1g}"

    def times(value: float | None) -> str:
        return f"{value:.3g}" if value else "-"

    text = ""
    for group in groups_of(results):
        chosen = [entry for entry in results["rows"] if entry["row"]["group"] == group]
        limits = any(ratio(entry, "product", "forward") for entry in chosen)
        head = ["", "train, ms", *NAMES.values(), "forward, ms", *NAMES.values()]
        head += ["product", "copy"] if limits else []
        head += ["memory", "compile"]
        body = []
        for entry in chosen:
            cells = [entry["name"]]
            for what in ("train", "forward"):
                cells.append(time(entry, what))
                cells += [times(ratio(entry, other, what)) for other in NAMES]
            if limits:
                cells += [times(ratio(entry, other, "forward")) for other in ("product", "copy")]
            for key in ("temporary", "compile"):
                value = ratio(entry, "pdequinox", "train", key)
                cells.append(f"{1 / value:.2f}" if value else "-")
            body.append(cells)
        text += f"### {group}\n\n{table(head, body)}\n"
    return text


def machine(results: dict[str, Any]) -> str:
    """A sentence on what it ran on."""
    found = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    return f"Machine: {results['machine']}; {found}. Medians of {results['rounds']} turns.\n"


def plot(results: dict[str, Any], path: Path) -> None:
    """Every row as a dot, by group, against each peer."""
    import matplotlib.pyplot as plt

    names = groups_of(results)
    figure, panels = plt.subplots(
        1, 2, figsize=(9, 0.45 * len(names) + 1.4), sharey=True, layout="constrained"
    )
    for panel, other in zip(panels, ("pdequinox", "torch"), strict=True):
        for i, group in enumerate(names):
            found = [
                value
                for entry in results["rows"]
                if entry["row"]["group"] == group and (value := ratio(entry, other, "train"))
            ]
            if not found:
                continue
            panel.plot(found, [i] * len(found), "o", color="#1f77b4", alpha=0.35, markersize=6)
            panel.plot(geometric_mean(found), i, "|", color="#b2182b", markersize=18, mew=2.5)
        panel.axvline(1, color="0.4", linewidth=1)
        panel.set_xscale("log")
        ticks = [t for t in (0.25, 0.5, 1, 2, 4, 10, 30, 100, 300, 1000)
                 if panel.get_xlim()[0] <= t <= panel.get_xlim()[1]]  # fmt: skip
        panel.set_xticks(ticks, [f"{t:g}" for t in ticks])
        panel.minorticks_off()
        panel.grid(axis="x", color="0.9")
        panel.set_axisbelow(True)
        panel.set_xlabel(f"time of {NAMES[other]} / time of this project")
    panels[0].set_yticks(range(len(names)), names)
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    figure.suptitle("A training step: every row of the table, and the geometric mean", fontsize=11)
    figure.savefig(path, dpi=130)


def fill(page: str, folder: Path) -> str:
    """The page with its tables: each stands between a mark such as `<!-- rows of convolutions -->`,
    which names a file of numbers in the folder, and the mark `<!-- end -->`.
    """

    def filled(found: re.Match[str]) -> str:
        make = {"summary": summary, "rows": rows, "machine": machine}[found[2]]
        results = json.loads((folder / f"{found[3]}.json").read_text(encoding="utf-8"))
        return found[1] + make(results) + "<!-- end -->"

    pattern = r"(<!-- (summary|rows|machine) of (\w+) -->\n).*?<!-- end -->"
    return re.sub(pattern, filled, page, flags=re.DOTALL)


def dump(results: dict[str, Any]) -> str:
    """JSON with one line for each row."""
    head = {key: value for key, value in results.items() if key != "rows"}
    rounded = lambda value: float(f"{value:.4g}") if isinstance(value, float) else value
    lines = [json.dumps(deep(entry, rounded)) for entry in results["rows"]]
    return json.dumps(head)[:-1] + ', "rows": [\n' + ",\n".join(lines) + "\n]}\n"


def deep(value: Any, change: Any) -> Any:
    """`change` of every leaf."""
    if isinstance(value, dict):
        return {k: deep(v, change) for k, v in value.items()}
    if isinstance(value, list):
        return [deep(v, change) for v in value]
    return change(value)


def write(results: dict[str, Any], folder: Path, name: str) -> None:
    """The numbers, the plot, and the tables of the pages in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(dump(results), encoding="utf-8")
    if find_spec("matplotlib"):
        plot(results, folder / f"{name}.png")
    else:
        print("matplotlib is not installed: no plot", file=sys.stderr)
    fill_pages(folder)


def fill_pages(folder: Path) -> None:
    """All pages in the folder."""
    for path in folder.glob("*.md"):
        page = path.read_text(encoding="utf-8")
        path.write_text(fill(page, folder), encoding="utf-8")


if __name__ == "__main__":
    for path in Path(sys.argv[1]).glob("*.json"):
        if path.with_suffix(".png").exists():
            content = json.loads(path.read_text(encoding="utf-8"))
            if "rounds" in content:
                write(content, path.parent, path.stem)
    fill_pages(Path(sys.argv[1]))
