"""Leaves the comparison with pdequinox to the environment that holds it.

`hatch run agreement:test` runs it. That project and the meta-package provide the same import, so no
environment may hold both. Where pdequinox is missing, nothing is collected here, and a run of only
these tests fails because there are none.
"""

from importlib.metadata import distribution, PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import pytest


def installed(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


collect_ignore_glob = [] if installed("pdequinox") else ["test_*.py"]


@pytest.fixture(scope="session", autouse=True)
def only_the_other_projects_pdequinox():
    """Refuses this project's `pdequinox`, which would be compared with itself."""
    found = {name: installed(name) for name in ("pdequinox", "pdequinox-conv")}
    assert found == {"pdequinox": "0.1.2", "pdequinox-conv": None}
    spec = find_spec("pdequinox")
    assert spec is not None
    assert spec.origin is not None
    own = distribution("pdequinox").locate_file("pdequinox/__init__.py")
    assert Path(spec.origin).samefile(str(own))
