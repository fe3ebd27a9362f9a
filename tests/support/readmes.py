"""Examples of a readme that need another library, for the tests in the environment that has it."""

import re
import subprocess
import sys
from pathlib import Path


README = Path(__file__).resolve().parents[2] / "packages" / "convert" / "README.md"


def examples(library: str) -> list[str]:
    """Finds the blocks of Python that a mark `<!-- run with LIBRARY -->` stands before."""
    pattern = rf"^<!-- run with {library} -->\n```python\n(.*?)^```"
    found = re.findall(pattern, README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert found, library
    return found


def run(example: str) -> None:
    """Runs one in a process of its own, for some are about what is imported first."""
    subprocess.run((sys.executable, "-c", example), check=True)
