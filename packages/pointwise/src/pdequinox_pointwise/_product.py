"""The product of a matrix with the channels at every point, for any number of samples at once.

A product of matrices is faster than a convolution of one tap (docs/convolutions.md). The points
keep their axes, so that they may be split over a mesh along any of them.
"""

from functools import partial
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float


def pointwise(
    weight: Float[Array, "out_channels in_channels"], x: Float[Array, "in_channels *spatial"]
) -> Float[Array, "out_channels *spatial"]:
    """`weight x[:, j]` at every point `j`. On a mesh with explicit axes the result's channels are
    split as the rows of the weight, its points as those of `x`.
    """
    product = partial(product_p.bind, points=x.ndim - 1)
    if not hasattr(jax, "typeof"):
        return product(weight, x)
    if _varies(x) or _varies(weight):
        # Inside of `jax.shard_map`, where JAX sums gradients for its own primitives.
        return lax.dot_general(weight, x, (((1,), (0,)), ((), ())))
    shardings = [jax.typeof(value).sharding for value in (weight, x)]
    mesh = next((s.mesh for s in shardings if s.mesh.shape and s.mesh.explicit_axes), None)
    if mesh is None or not hasattr(jax.sharding, "auto_axes"):
        return product(weight, x)
    rows, space = shardings[0].spec[0], shardings[1].spec[1:]
    try:
        result = NamedSharding(mesh, PartitionSpec(rows, *space))
        axes = tuple(mesh.explicit_axes)
        return jax.sharding.auto_axes(product, axes=axes, out_sharding=result)(weight, x)
    except Exception as error:
        if type(error).__name__ != "DuplicateSpecError":
            raise
        found = [str(jax.typeof(value)) for value in (weight, x)]
        raise ValueError(
            "A weight must not be split over an axis of the mesh that splits the samples or points "
            f"of `x` too, if that axis is explicit, got {found}. "
            "Gather the weight by `jax.sharding.reshard` first, or use automatic axes."
        ) from error


def _varies(x: Array) -> bool:
    aval = jax.typeof(x)
    # Named anew in JAX 0.11.
    return bool(aval.mat.varying if hasattr(aval, "mat") else getattr(aval, "vma", ()))


def _product(weight: Array, x: Array, *, points: int) -> Array:
    """`y[*samples, :, j] = weight x[*samples, :, j]`, with so many axes of `points`."""
    channels = x.ndim - 1 - points
    return jnp.moveaxis(lax.dot_general(weight, x, (((1,), (channels,)), ((), ()))), 0, channels)


def _gradient(y: Array, x: Array, *, points: int) -> Array:
    """The sum over samples and points of `y[*samples, o, j] x[*samples, i, j]`."""
    summed = tuple(axis for axis in range(x.ndim) if axis != x.ndim - 1 - points)
    return lax.dot_general(y, x, ((summed, summed), ((), ())))


def _product_of_each(weight: Array, x: Array, *, points: int) -> Array:
    """The same with a copy of the weight for each sample.

    A weight that all samples share makes one product of their batch, in which the channels of all
    of them stand in one row: XLA's CPU backend moves the whole field to that order and back, which
    takes longer than the product. A batch of products takes the field as it is. Where the copies
    were large beside the field, the weight stays shared.
    """
    samples = tuple(range(x.ndim - 1 - points))
    if not samples or not _small(weight.shape, x, points):
        return _product(weight, x, points=points)
    each = jnp.broadcast_to(weight, (*(x.shape[i] for i in samples), *weight.shape))
    contracted = ((len(samples) + 1,), (len(samples),))
    return lax.dot_general(each, x, (contracted, (samples, samples)))


def _gradient_of_each(y: Array, x: Array, *, points: int) -> Array:
    """The same, sample by sample and then summed."""
    samples = tuple(range(x.ndim - 1 - points))
    if not samples or not _small((y.shape[len(samples)], x.shape[len(samples)]), x, points):
        return _gradient(y, x, points=points)
    summed = tuple(range(len(samples) + 1, x.ndim))
    return lax.dot_general(y, x, ((summed, summed), (samples, samples))).sum(samples)


def _small(weight: tuple[int, ...], x: Array, points: int) -> bool:
    out_channels, in_channels = weight
    number = prod(x.shape[x.ndim - points :])
    # `jax.export` may leave the number of points open.
    return isinstance(number, int) and 2 * prod(weight) <= (out_channels + in_channels) * number


def _by_weight(ct: Array, weight: Any, x: Array, **parameters: int) -> Array:
    return gradient_p.bind(ct, x, **parameters)


def _by_x(ct: Array, weight: Array, x: Any, **parameters: int) -> Array:
    return product_p.bind(weight.T, ct, **parameters)


def _by_either(transposed: bool, ct: Array, y: Any, x: Any, **parameters: int) -> Array:
    other = y if transposed else x
    return product_p.bind(ct.T if transposed else ct, other, **parameters)


def _batch_product(args: Any, axes: Any, *, points: int) -> tuple[Array, int]:
    (weight, x), (own, at) = args, axes
    if own is None:
        return product_p.bind(weight, jnp.moveaxis(x, at, 0), points=points), 0
    return jax.vmap(partial(_product, points=points), (own, at))(weight, x), 0


def _batch_gradient(args: Any, axes: Any, *, points: int) -> tuple[Array, int]:
    return jax.vmap(partial(_gradient, points=points), axes)(*args), 0


def _abstract(function: Any, a: Any, b: Any, **parameters: int) -> Any:
    # From JAX's own rules, which know about more than shapes.
    return jax.make_jaxpr(partial(function, **parameters))(a, b).out_avals[0]


product_p = Primitive("pdequinox_pointwise")
gradient_p = Primitive("pdequinox_pointwise_gradient")
ad.defbilinear(product_p, _by_weight, _by_x)
ad.defbilinear(gradient_p, partial(_by_either, False), partial(_by_either, True))
batching.primitive_batchers[product_p] = _batch_product
batching.primitive_batchers[gradient_p] = _batch_gradient


def _lower_gradient(context: Any, *operands: Any, **parameters: Any) -> Any:
    # Over several devices, a sum over samples and points comes before that over devices.
    alone = getattr(context.module_context.axis_context, "num_devices", 1) == 1
    function = partial(_gradient_of_each if alone else _gradient, **parameters)
    return mlir.lower_fun(function, multiple_results=False)(context, *operands)


for primitive, function, lower_on_cpu in (
    (product_p, _product, mlir.lower_fun(_product_of_each, multiple_results=False)),
    (gradient_p, _gradient, _lower_gradient),
):
    primitive.def_impl(jax.jit(primitive.bind, static_argnames="points"))
    primitive.def_abstract_eval(partial(_abstract, function))
    mlir.register_lowering(primitive, mlir.lower_fun(function, multiple_results=False))
    mlir.register_lowering(primitive, lower_on_cpu, platform="cpu")
