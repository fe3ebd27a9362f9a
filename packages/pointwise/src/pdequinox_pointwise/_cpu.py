"""Carries out the product and its gradient on a CPU.

If all samples share a weight, their batch becomes one product, in which the channels of all samples
form one row. XLA's CPU backend moves the whole field to that order and back, which takes longer
than the product (docs/convolutions.md). A batch of products, one for each sample, takes the field
as it is. If copies of the weight would be large compared with the field, the weight stays shared.
"""

from math import prod

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from pdequinox_operators import sum_dtype

from ._convolution import gradient, product


def product_of_each(weight: Array, x: Array, *, points: int) -> Array:
    """Computes the product with a copy of the weight for each sample."""
    samples = tuple(range(x.ndim - 1 - points))
    if not samples or not _small(weight.shape, x, points):
        return product(weight, x, points=points)
    each = jnp.broadcast_to(weight, (*(x.shape[i] for i in samples), *weight.shape))
    dimensions = (((len(samples) + 1,), (len(samples),)), (samples, samples))
    out = lax.dot_general(each, x, dimensions, preferred_element_type=sum_dtype(x.dtype))
    return out.astype(x.dtype)


def gradient_of_each(y: Array, x: Array, *, points: int) -> Array:
    """Computes the gradient sample by sample, and sums the results."""
    samples = tuple(range(x.ndim - 1 - points))
    if not samples or not _small((y.shape[len(samples)], x.shape[len(samples)]), x, points):
        return gradient(y, x, points=points)
    summed = tuple(range(len(samples) + 1, x.ndim))
    dimensions = ((summed, summed), (samples, samples))
    out = lax.dot_general(y, x, dimensions, preferred_element_type=sum_dtype(x.dtype))
    return out.sum(samples).astype(x.dtype)


def _small(weight: tuple[int, ...], x: Array, points: int) -> bool:
    out_channels, in_channels = weight
    return 2 * prod(weight) <= (out_channels + in_channels) * prod(x.shape[x.ndim - points :])
