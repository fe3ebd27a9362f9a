"""Checks that the docs show the numbers that are stored beside them, and says what mends them.

A part of `hatch check`: `hatch check types` runs it, in the environment of the type checker.
"""

import json
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path


# Made for the command line: their folders are not packages.
sys.path.append(str(Path(__file__).with_name("benchmark")))
sys.path.append(str(Path(__file__).with_name("sharding")))
sys.path.append(str(Path(__file__).parents[1] / "examples"))
sys.path.append(str(Path(__file__).parents[1] / "experiments"))
import conversions
import page
import report


ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"

# By name, because types are not checked in these folders.
pages, stored = import_module("pages"), import_module("stored")


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def readme_problems(readme: str) -> Iterator[str]:
    """What the readme shows after `<!-- docs/quickstart.txt ... -->` is that file."""
    shown = re.findall(r"<!-- docs/quickstart\.\w+\b[^>]*-->\n(.*?)<!-- end -->", readme, re.DOTALL)
    if len(shown) != 1:
        yield f"README.md: {len(shown)} parts, and not 1, begin with `<!-- docs/quickstart.txt -->`"
    elif shown[0] != text_of(DOCS / "quickstart.txt"):
        command = "hatch run examples:quickstart --output docs"
        yield f"README.md: not what docs/quickstart.txt has. Copy it from there, after `{command}`"


def experiment_problems() -> Iterator[str]:
    """The generated parts of the pages of the experiments are those of the stored numbers."""
    folder = DOCS / "experiments"
    found = {path.stem for path in folder.glob("*.json")}
    for name in sorted(found ^ set(stored.PAGES)):
        yield f"docs/experiments/{name}.json: not there, or not in `PAGES` of experiments/stored.py"
    for name in sorted(found & set(stored.PAGES)):
        text, where = text_of(folder / f"{name}.md"), f"docs/experiments/{name}.md"
        try:
            shown = pages.fill(text, stored.parts(folder, name))
        except ValueError as error:
            yield f"{where}: {error}"
        else:
            if shown != text:
                command = "hatch run experiments:report"
                yield f"{where}: not what {name}.json gives. Run `{command}`"


def benchmark_problems(name: str, part: str) -> Iterator[str]:
    """The tables of a page of the benchmark are those of the stored numbers."""
    text, where = text_of(DOCS / f"{name}.md"), f"docs/{name}.md"
    if f"<!-- {part} of" not in text:
        yield f"{where}: the mark `<!-- {part} of ... -->` is missing"
    if report.fill(text, DOCS) != text:
        yield f"{where}: not what docs/*.json give. Run `hatch run benchmark:report`"


def conversion_problems() -> Iterator[str]:
    """The readme of `packages/convert` has the table of its tests."""
    text, where = text_of(conversions.README), "packages/convert/README.md"
    if conversions.fill(text) != text:
        yield f"{where}: not what the tests convert. Run `hatch run packages:conversions`"


def sharding_problems() -> Iterator[str]:
    """The generated parts of the page on meshes are all there, and those of the stored numbers."""
    text, where = text_of(DOCS / "sharding.md"), "docs/sharding.md"
    for name in page.PARTS:
        if f"generated: {name} -->" not in text:
            yield f"{where}: the mark `<!-- generated: {name} -->` is missing"
    if page.fill(text, json.loads(text_of(DOCS / "sharding.json"))) != text:
        yield f"{where}: not what docs/sharding.json gives. Run `hatch run sharding:report`"


def main() -> int:
    problems = [
        *readme_problems(text_of(ROOT / "README.md")),
        *experiment_problems(),
        *benchmark_problems("convolutions", "summary"),
        *benchmark_problems("spectral", "summary"),
        *benchmark_problems("cpu", "flags"),
        *benchmark_problems("weights", "kinds"),
        *benchmark_problems("weights", "precision"),
        *benchmark_problems("coming_from/pdequinox", "scenarios"),
        *sharding_problems(),
        *conversion_problems(),
    ]
    print("\n".join(problems) or "The docs show the stored numbers.")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
