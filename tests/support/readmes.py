"""Examples of the readmes and pages that need another library, for the tests in the environment
that has it, and what their tables put side by side.
"""

import re
import subprocess
import sys
from pathlib import Path


ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted(ROOT.glob("packages/*/README.md")), *sorted(ROOT.glob("docs/**/*.md"))]


def examples(library: str) -> list[str]:
    """Finds the blocks of Python that a mark `<!-- run with LIBRARY -->` stands before."""
    pattern = rf"^<!-- run with {library} -->\n```python\n(.*?)^```"
    texts = (page.read_text(encoding="utf-8") for page in PAGES)
    found = [block for text in texts for block in re.findall(pattern, text, re.M | re.S)]
    assert found, library
    return found


def run(example: str) -> None:
    """Runs one in a process of its own, for some are about what is imported first."""
    subprocess.run((sys.executable, "-c", example), check=True)


def side_by_side(page: str, theirs: str) -> list[tuple[str, str]]:
    """Finds the rows of a page's tables whose first two cells are one piece of code each, the first
    of which begins with `theirs`.
    """
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    found = re.findall(rf"^\| `({theirs}[^`]*)` \| `([^`]*)` \|$", text, re.M)
    assert found, page
    return found
