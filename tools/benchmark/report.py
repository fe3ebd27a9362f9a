"""The results of the benchmark as a table, a plot and a file of numbers."""

import json
from math import exp, log
from pathlib import Path
from typing import Any


def ratio(entry: dict[str, Any], other: str, what: str, key: str = "median") -> float | None:
    """How many times as much the other library needs."""
    results = entry[what]
    if other not in results or key not in results[other] or key not in results.get("ours", {}):
        return None
    return results[other][key] / max(results["ours"][key], 1e-12)


def line(entry: dict[str, Any]) -> str:
    """A row, while it runs."""
    parts = [f"{entry['row']['group']}: {entry['name']}"]
    for what in ("forward", "train"):
        if "median" not in entry[what].get("ours", {}):
            continue
        parts.append(f"{what} {entry[what]['ours']['median'] * 1e3:.2f} ms")
        for other in entry[what]:
            if other != "ours" and (r := ratio(entry, other, what)) is not None:
                parts.append(f"{other} {r:.2f}")
    m, c = (ratio(entry, "pdequinox", "train", key) for key in ("temporary", "compile"))
    if m is not None and c is not None:
        parts.append(f"memory {m:.2f} compile {c:.2f}")
    return " | ".join(parts)


def geometric_mean(values: list[float]) -> float:
    """Of positive numbers."""
    return exp(sum(map(log, values)) / len(values))


def write(results: dict[str, Any], folder: Path, name: str) -> None:
    """All three."""
    (folder / f"{name}.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (folder / f"{name}.md").write_text("\n".join(line(e) for e in results["rows"]) + "\n")
