"""Leaves the tests of what comes from PyTorch and neuraloperator to the environment of these.

`hatch run torch:test` runs them. Where one of them is missing nothing is collected here, and a run
of nothing but these tests fails for lack of any.
"""

from importlib.util import find_spec


collect_ignore_glob = [] if find_spec("torch") and find_spec("neuralop") else ["test_*.py"]
