"""How the product is split over the devices of a mesh.

There is nothing to exchange between points or samples, and XLA splits products of matrices by
itself, so the operators declare no sharding of their own. What is left to say is how the result is
split on a mesh with explicit axes.
"""

from pdequinox_operators import Spec


def split_as(weight: Spec, x: Spec) -> Spec:
    """Splits the result's channels as the rows of the weight, its points as those of `x`."""
    return (weight[0], *x[1:])
