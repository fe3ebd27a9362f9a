"""How JAX sees the transforms: those of all axes are one operator, so that a field may be split
over a mesh. Every device analyses what it has, and the sum over the devices is all that they
exchange.
"""

from functools import partial
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from pdequinox_operators import on_auto_axes, one_program, Operator, Shape, Sharding, sum_dtype

from ._basis import Basis
from ._convolution import multiply
from ._cpu.choice import fits, Method
from ._sharding import factors, split
from ._transform import parts_and_groups, transform


@partial(one_program, static_argnames=("bases", "output_shape", "method"))
def spectral_convolve(
    x: Float[Array, "in_channels *spatial"],
    weights: tuple[Float[Array, "groups out_channels in_channels *num_modes"], ...],
    bases: tuple[Basis, ...],
    output_shape: tuple[int, ...],
    method: Method = "auto",
) -> Float[Array, "out_channels *output_shape"]:
    """Analyses every axis of one sample, multiplies the kept coefficients, and synthesises every
    axis. The weights are the real parts, and the imaginary ones if there is a periodic axis.

    Half-precision fields are transformed in float32.
    """
    dtype = sum_dtype(x.dtype)
    out = on_auto_axes(
        partial(_convolve, bases=bases, shape=output_shape, method=method),
        (weights[0].shape[1], *output_shape),
        lambda x, w, *_: (w[1], *x[1:]),
        x.astype(dtype),
        *(w.astype(dtype) for w in weights),
    )
    return out.astype(x.dtype)


def _convolve(
    x: Array, *weights: Array, bases: tuple[Basis, ...], shape: tuple[int, ...], method: Method
) -> Array:
    grid = x.shape[1:]
    whole = partial(_transform, bases=bases, grid=grid, method=method, transpose=False)
    z = whole(x, x, points=grid, analysis=True)
    return whole(multiply(z, weights), x, points=shape, analysis=False)


def _apply(value: Array, like: Array, **parameters: Any) -> Array:
    """Transforms a field, or coefficients to one that is split over a mesh as another, `like`."""
    del like
    return transform(value, **parameters)


def _plain(value: Array, like: Array, *, bases: Any, method: Method, **parameters: Any) -> Array:
    """By products, if that was left open: other formats than JAX's have no complex numbers, or few
    operations on them.
    """
    del like
    if method == "auto" and all(map(partial(fits, dtype=value.dtype), bases, parameters["points"])):
        method = "product"
    return transform(value, bases=bases, method=method, **parameters)


def _shape(
    value: Shape,
    like: Shape,
    *,
    bases: tuple[Basis, ...],
    points: tuple[int, ...],
    analysis: bool,
    transpose: bool,
    **_: Any,
) -> Shape:
    del like
    dims = len(bases)
    if analysis == transpose:
        return (*value[: -dims - 3], value[-dims - 1], *points)
    parts, groups = parts_and_groups(bases)
    modes = (basis.num_modes for basis in bases)
    return (*value[: -dims - 1], parts, groups, value[-dims - 1], *modes)


def _transposed(cotangent: Array, _: Any, like: Array, *, transpose: bool, **rest: Any) -> Array:
    return _transform(cotangent, like, transpose=not transpose, **rest)


def _batch(operands: Any, axes: Any, **parameters: Any) -> tuple[Array, int | None]:
    front = [v if i is None else jnp.moveaxis(v, i, 0) for v, i in zip(operands, axes, strict=True)]
    return _transform(*front, **parameters), None if axes[0] is None else 0


_transform = Operator(
    "pdequinox_transform",
    _apply,
    transpose=_transposed,
    shape=_shape,
    batch=_batch,
    sharding=Sharding(factors, split),
    saved_as=("product", "convolution"),
    plain=_plain,
)
