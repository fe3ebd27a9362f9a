"""Measures what no layer can beat: the operations as one product of two square matrices, and the
numbers read and written once. A training step has three convolutions, and reads and writes
gradients too. No layer that transforms the whole field can beat a transform and its inverse.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rows import Task, UnsupportedError
from with_jax import program


def product(task: Task) -> Any:
    """Multiplies square matrices."""
    row = task.row
    if row.group in ("networks", "scans"):
        raise UnsupportedError("of layers only")
    jax.config.update("jax_enable_x64", row.dtype == "float64")
    n = max(1, round((row.operations * (1 if task.what == "forward" else 3) / 2) ** (1 / 3)))
    a = jnp.ones((n, n), row.dtype)
    return program(lambda a: a @ a, a)


def copy(task: Task) -> Any:
    """Reads half of the numbers, and writes as many."""
    row = task.row
    if row.group in ("networks", "scans"):
        raise UnsupportedError("of layers only")
    jax.config.update("jax_enable_x64", row.dtype == "float64")
    a = jnp.ones(row.numbers // 2 * (1 if task.what == "forward" else 2), row.dtype)
    return program(lambda a: a + jnp.ones((), row.dtype), a)


def transforms(task: Task) -> Any:
    """Computes `irfftn(rfftn(x))` of all channels."""
    row = task.row
    if row.layer != "SpectralConv" or row.boundary_mode != "periodic" or row.transform:
        raise UnsupportedError("of periodic layers only")
    if task.what != "forward":
        raise UnsupportedError("the forward pass only")
    if row.dtype not in ("float32", "float64"):
        raise UnsupportedError(f"no transform in {row.dtype}")
    if row.channels[0] != row.channels[1]:
        raise UnsupportedError("as many channels only")
    jax.config.update("jax_enable_x64", row.dtype == "float64")
    shape = (max(row.members, 1) * row.batch, row.channels[0], *row.spatial)
    x = jnp.asarray(np.random.default_rng(0).standard_normal(shape), row.dtype)
    axes = tuple(range(-row.dims, 0))
    return program(lambda x: jnp.fft.irfftn(jnp.fft.rfftn(x, axes=axes), row.spatial, axes), x)
