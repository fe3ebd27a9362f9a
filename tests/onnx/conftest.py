"""Leaves the tests of the export to ONNX to the environment that holds its tools.

`hatch run onnx:test` runs them: what exports and what runs need a hundred megabytes, and other
versions of JAX than the floor. Where they are missing nothing is collected here, and a run of
nothing but these tests fails for lack of any.
"""

from importlib.util import find_spec


collect_ignore_glob = [] if find_spec("jax2onnx") and find_spec("onnxruntime") else ["test_*.py"]
