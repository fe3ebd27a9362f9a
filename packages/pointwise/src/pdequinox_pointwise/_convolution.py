"""Defines what the layer computes: the product of a matrix with the channels at every point, and
its gradient by the matrix.

Any number of axes of samples comes before the channels. The points keep their axes, so that they
can be split over a mesh along any of them.
"""

import jax.lax as lax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pdequinox_operators import sum_dtype


def product(
    weight: Float[Array, "out_channels in_channels"],
    x: Float[Array, "*samples_and_channels_and_points"],
    *,
    points: int,
) -> Float[Array, "*samples_and_channels_and_points_out"]:
    """Computes `y[*samples, :, j] = weight x[*samples, :, j]`, with `points` axes of points."""
    channels = x.ndim - 1 - points
    dimensions = (((1,), (channels,)), ((), ()))
    y = lax.dot_general(weight, x, dimensions, preferred_element_type=sum_dtype(x.dtype))
    return jnp.moveaxis(y.astype(x.dtype), 0, channels)


def gradient(
    y: Float[Array, "*samples_and_channels_and_points_out"],
    x: Float[Array, "*samples_and_channels_and_points"],
    *,
    points: int,
) -> Float[Array, "out_channels in_channels"]:
    """Sums `y[*samples, o, j] x[*samples, i, j]` over samples and points."""
    summed = tuple(axis for axis in range(x.ndim) if axis != x.ndim - 1 - points)
    dimensions = ((summed, summed), ((), ()))
    out = lax.dot_general(y, x, dimensions, preferred_element_type=sum_dtype(x.dtype))
    return out.astype(x.dtype)
