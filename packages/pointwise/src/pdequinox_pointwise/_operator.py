"""Makes operators of the product and its gradient, each the derivative of the other."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pdequinox_operators import on_auto_axes, Operator, Shape

from ._convolution import gradient, product
from ._cpu import gradient_of_each, product_of_each
from ._sharding import split_as


def pointwise(
    weight: Float[Array, "out_channels in_channels"], x: Float[Array, "in_channels *spatial"]
) -> Float[Array, "out_channels *spatial"]:
    """Applies the matrix to the channels at every point of one sample."""
    shape = (weight.shape[0], *x.shape[1:])
    apply = partial(_product, points=x.ndim - 1)
    return on_auto_axes(apply, shape, split_as, weight, x)


def _by_either(place: int, cotangent: Array, weight: Any, x: Any, *, points: int) -> Array:
    """Transposes `y = W x`: by `x` to `W^T y`, and by `W` to the sum of `y x^T`."""
    if place == 0:
        return _gradient(cotangent, x, points=points)
    return _product(weight.T, cotangent, points=points)


def _of_gradient(place: int, cotangent: Array, y: Any, x: Any, *, points: int) -> Array:
    """Transposes `G = sum y x^T`: by `y` to `G x`, and by `x` to `G^T y`."""
    if place == 0:
        return _product(cotangent, x, points=points)
    return _product(cotangent.T, y, points=points)


def _batch(operands: Any, axes: Any, *, points: int) -> tuple[Array, int]:
    """Treats a batch of fields as more samples, and a batch of weights as a batch of products."""
    (weight, x), (own, at) = operands, axes
    if own is None:
        return _product(weight, jnp.moveaxis(x, at, 0), points=points), 0
    return jax.vmap(partial(product, points=points), (own, at))(weight, x), 0


def _product_shape(weight: Shape, x: Shape, *, points: int) -> Shape:
    channels = len(x) - 1 - points
    return (*x[:channels], weight[0], *x[channels + 1 :])


def _gradient_shape(y: Shape, x: Shape, *, points: int) -> Shape:
    channels = len(x) - 1 - points
    return (y[channels], x[channels])


_product = Operator(
    "pdequinox_pointwise",
    product,
    bilinear=_by_either,
    shape=_product_shape,
    batch=_batch,
    lower={"cpu": product_of_each},
    saved_as=("product", "convolution"),
)

# Over several devices, the sum over samples and points comes before the sum over devices.
_gradient = Operator(
    "pdequinox_pointwise_gradient",
    gradient,
    bilinear=_of_gradient,
    shape=_gradient_shape,
    lower={"cpu": gradient_of_each},
    lower_alone=True,
    saved_as=("product", "convolution"),
)
