"""Leaves the tests of the export to ONNX to the environment that holds its tools.

`hatch run onnx:test` runs them. The exporter and the runtime need a hundred megabytes, and other
versions of JAX than the lowest. Where they are missing, nothing is collected here, and a run of
only these tests fails because there are none.
"""

from importlib.util import find_spec


collect_ignore_glob = [] if find_spec("jax2onnx") and find_spec("onnxruntime") else ["test_*.py"]
