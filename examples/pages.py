"""What programs put into the pages of docs/: tables and captions in Markdown, between two marks.

All of it is made of the numbers that are stored beside a page, and no other library is imported, so
that `tools/check_docs.py` can make it once more and compare.
"""

import re
import statistics
from collections.abc import Sequence
from typing import Any


PART = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def fill(page: str, parts: dict[str, str]) -> str:
    """Gives the page with each part between the mark `<!-- generated: NAME -->` and the next mark
    `<!-- end -->`.
    """
    found = [mark[2] for mark in PART.finditer(page)]
    if sorted(found) != sorted(parts):
        raise ValueError(
            "The page must have one mark `<!-- generated: NAME -->`, followed by `<!-- end -->`, "
            f"for each of {', '.join(parts)}; it has them for {', '.join(found) or 'none'}."
        )
    return PART.sub(lambda mark: f"{mark[1]}{parts[mark[2]]}\n{mark[3]}", page)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligns the columns of a table, the first to the left and the others to the right."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    rule = [":" + "-" * (widths[0] - 1), *("-" * (width - 1) + ":" for width in widths[1:])]

    def line(cells: Sequence[str]) -> str:
        padded = [cells[0].ljust(widths[0])]
        padded += [cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True)]
        return "| " + " | ".join(padded) + " |"

    return "\n".join(line(cells) for cells in (header, rule, *rows))


def median_and_range(runs: Sequence[float], digits: int = 3) -> str:
    """Writes `median (least-greatest)`, or the number if there is one run."""
    middle, low, high = (f"{f(runs):.{digits}f}" for f in (statistics.median, min, max))
    return middle if len(runs) == 1 else f"{middle} ({low}\N{NON-BREAKING HYPHEN}{high})"


def machine(found: dict[str, Any]) -> str:
    """Tells in a line where the numbers are from: what `common.machine` gave."""
    device = "" if found["jax_device"] == "cpu" else f", JAX on {found['jax_device']}"
    return (
        f"Machine: {found['cpu']}, {found['cores']} cores{device}; Python {found['python']}, "
        f"JAX {found['jax']}, Equinox {found['equinox']}."
    )


def part(
    header: Sequence[str], rows: Sequence[Sequence[str]], caption: str, results: dict[str, Any]
) -> str:
    """Puts the table, what its numbers are, and where they are from together."""
    return "\n\n".join([table(header, rows), caption, machine(results["machine"])])


def emulators(results: dict[str, Any]) -> dict[str, str]:
    """Gives the generated parts of the page of `emulators.py`."""
    settings, numbers = results["settings"], results["results"]
    columns = list(numbers["persistence"])
    rows = [
        [
            name,
            f"{row['parameters']:,}" if "parameters" in row else "0",
            f"{row['training time in s']:.0f} s" if "parameters" in row else "-",
            *(f"{row[column]:.2g}" for column in columns),
        ]
        for name, row in numbers.items()
    ]
    caption = (
        "Relative error ‖prediction − truth‖ / ‖truth‖ over space, mean over "
        f"{settings['num_test']} held-out trajectories. A step is {settings['dt']:g} in time; "
        "persistence predicts no change."
    )
    return {"errors": part(["", "parameters", "training", *columns], rows, caption, results)}
