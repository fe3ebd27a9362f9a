"""Splits the product over the devices of a mesh.

Nothing is exchanged between points or samples, and XLA splits products of matrices by itself, so
the operators declare no sharding of their own. This file only says how the result is split on a
mesh with explicit axes.
"""

from pdequinox_operators import Spec


def split_as(weight: Spec, x: Spec) -> Spec:
    """Splits the result's channels like the weight's rows, and its points like those of `x`."""
    return (weight[0], *x[1:])
