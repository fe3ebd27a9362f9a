"""Tells what a program of JAX (a jaxpr) consists of."""

from collections.abc import Iterator
from typing import Any

import jax


def equations(jaxpr: Any) -> Iterator[Any]:
    """Lists the equations of a program and of the programs in it. Calls of `jax.jit` around these
    are left out, because not every version of JAX writes out a program that should be inlined.
    """
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
    for equation in jaxpr.eqns:
        if equation.primitive.name not in ("jit", "pjit"):
            yield equation
        for parameter in jax.tree.leaves(list(equation.params.values())):
            if hasattr(parameter, "eqns") or hasattr(parameter, "jaxpr"):
                yield from equations(parameter)


def primitives(jaxpr: Any) -> Iterator[str]:
    """Lists the names of the primitives of all equations."""
    return (equation.primitive.name for equation in equations(jaxpr))
