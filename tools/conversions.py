"""Writes the table of what can be converted into the readme of `packages/convert`, from the marks
of the tests that show it: `@pytest.mark.converts(what, library, name)`.
"""

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path


ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "packages" / "convert" / "README.md"
FILES = ("packages/convert/tests/*.py", "tests/agreement/*.py", "tests/torch/*.py")
BEGIN, END = "<!-- what the tests convert -->\n", "<!-- end -->"

# In the order of the table; a mark that names another is an error.
LIBRARIES = (
    "pdequinox",
    "APEBench",
    "Equinox",
    "PyTorch",
    "to PyTorch",
    "neuraloperator",
    "to neuraloperator",
    "more or fewer modes",
)
KINDS = (
    "convolution",
    "transposed convolution",
    "pointwise convolution",
    "spectral convolution",
    "network",
    "ensemble",
    "state of an optimiser",
)


def marks() -> Iterator[tuple[str, str, str]]:
    """Finds the arguments of every mark."""
    for pattern in FILES:
        for path in sorted(ROOT.glob(pattern)):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.converts":
                    what, library, name = map(ast.literal_eval, node.args)
                    yield what, library, name


def table() -> str:
    """Makes a row for each function of each library."""
    found: dict[tuple[str, str], set[str]] = defaultdict(set)
    for what, library, name in marks():
        found[LIBRARIES[LIBRARIES.index(library)], name].add(KINDS[KINDS.index(what)])
    rows = [["from, or to", "function", "of"], ["---"] * 3]
    for library, name in sorted(found, key=lambda row: (LIBRARIES.index(row[0]), row[1])):
        kinds = sorted(found[library, name], key=KINDS.index)
        rows.append([library, f"`{name}`", ", ".join(kinds)])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def fill(readme: str) -> str:
    """Puts the table into the readme."""
    head, _, rest = readme.partition(BEGIN)
    return head + BEGIN + table() + END + rest.partition(END)[2]


def main() -> None:
    """Writes the readme."""
    readme = README.read_text(encoding="utf-8")
    if BEGIN not in readme:
        sys.exit(f"{README}: the mark {BEGIN!r} is missing")
    README.write_text(fill(readme), encoding="utf-8")


if __name__ == "__main__":
    main()
