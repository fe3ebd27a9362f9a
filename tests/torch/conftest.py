"""Leaves the tests of conversions from PyTorch and neuraloperator to the environment of these.

`hatch run torch:test` runs them. Where one of the two is missing, nothing is collected here, and a
run of only these tests fails because there are none.
"""

from importlib.util import find_spec


collect_ignore_glob = [] if find_spec("torch") and find_spec("neuralop") else ["test_*.py"]
