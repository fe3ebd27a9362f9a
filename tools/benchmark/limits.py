"""What no layer can beat: the operations as one product of two square matrices, and the numbers
read and written once. A training step has three convolutions, and reads and writes gradients too.
"""

from typing import Any

import jax
import jax.numpy as jnp
from rows import Row, UnsupportedError
from with_jax import program


def product(row: Row, what: str) -> Any:
    """A product of square matrices."""
    if row.group in ("networks", "scans"):
        raise UnsupportedError("of layers only")
    jax.config.update("jax_enable_x64", row.dtype == "float64")
    n = max(1, round((row.operations * (1 if what == "forward" else 3) / 2) ** (1 / 3)))
    a = jnp.ones((n, n), row.dtype)
    return program(lambda a: a @ a, a)


def copy(row: Row, what: str) -> Any:
    """A read of half of the numbers, and a write of as many."""
    if row.group in ("networks", "scans"):
        raise UnsupportedError("of layers only")
    jax.config.update("jax_enable_x64", row.dtype == "float64")
    a = jnp.ones(row.numbers // 2 * (1 if what == "forward" else 2), row.dtype)
    return program(lambda a: a + jnp.ones((), row.dtype), a)
