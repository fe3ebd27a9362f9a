"""Coasts and obstacles: the share of a convolution's taps that are on the field, and the mask of
what comes of it.

For each output, the taps are counted that read a point which is missing: a convolution of what is
missing, as ones, with a kernel of ones (G. Liu et al., "Image Inpainting for Irregular Holes Using
Partial Convolutions", https://arxiv.org/abs/1804.07723, equation 1). A point beyond a wall is
missing if the point that it repeats is, whatever the sign; where none is repeated, as by `"zeros"`,
it is there.
"""

from math import prod
from typing import Any, TYPE_CHECKING

import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float

from pdequinox_operators import Shape
from pdequinox_operators.checks import array, sum_dtype

from ._convolution import forward
from ._operator import convolve


if TYPE_CHECKING:
    from ._conv import MorePaddingConv


def parse_mask(
    mask: Any, layer: "MorePaddingConv", shape: Shape | None = None
) -> Bool[Array, "channels *spatial"]:
    """Checks a mask for one sample of a layer's input, on a grid of that shape if it is given. The
    first axis of the result counts one channel if all have the same points.
    """
    mask, dims = array(mask, "mask"), layer.num_spatial_dims
    of_all = mask.ndim == dims
    if not (of_all or (mask.ndim == dims + 1 and mask.shape[0] == layer.in_channels)):
        raise ValueError(
            f"`mask` must be of the shape of the spatial axes ({dims} here), or of the channels "
            f"({layer.in_channels} here) and these, got shape {mask.shape}; batches go through "
            "`jax.vmap`."
        )
    if shape is not None and mask.shape[mask.ndim - dims :] != shape:
        raise ValueError(f"`mask` must be on the grid of `x`, {shape}, got shape {mask.shape}.")
    if jnp.issubdtype(mask.dtype, jnp.complexfloating):
        raise TypeError(f"`mask` must be boolean, or 0 and 1, got {mask.dtype.name}.")
    mask = mask if mask.dtype == bool else mask != 0
    return mask[None] if of_all else mask


def missing_taps(
    mask: Bool[Array, "channels *spatial"], layer: "MorePaddingConv"
) -> tuple[Float[Array, "out_channels *spatial_out"], int]:
    """Counts, for every output, the taps that are missing, and says of how many. The first axis
    counts one channel if all have the same points; these are counted for one input channel then.
    """
    boundary = layer.boundary.with_kinds(lambda kind: kind._replace(sign=abs(kind.sign)))
    groups = 1
    places = {tuple((low.place, up.place) for low, up in part.axes) for _, part in boundary.parts}
    if len(places) == 1:
        boundary = boundary.parts[0][1]
    elif len(mask) == 1:
        mask = jnp.broadcast_to(mask, (layer.in_channels, *mask.shape[1:]))
    channels = len(mask)
    if channels > 1:
        groups = layer.groups
    missing = jnp.where(mask, 0.0, 1.0).astype(jnp.float32)
    ones = jnp.ones((groups, channels // groups, *layer.kernel_size), jnp.float32)
    window, extended = forward(
        mask.shape[1:], layer.kernel_size, layer.stride, layer.padding, layer.dilation, groups,
        boundary,
    )  # fmt: skip
    # Less than 2^24 taps: exact, once it is rounded where a platform's convolution is not.
    count = jnp.round(convolve(missing, ones, window, extended))
    if groups > 1:
        count = jnp.repeat(count, layer.out_channels // groups, axis=0)
    return count, prod(ones.shape[1:])


def share(mask: Bool[Array, "channels *spatial"], layer: "MorePaddingConv") -> Array:
    """Finds, for every output, what its sum is multiplied with: all taps over those that are there,
    1 exactly where none is missing, and 0 where all are.
    """
    missing, taps = missing_taps(mask, layer)
    dtype = layer.weight.dtype
    there = (taps - missing).astype(sum_dtype(dtype))
    return jnp.where(there > 0, taps / jnp.maximum(there, 1.0), 0.0).astype(dtype)


def dilate_mask(mask: ArrayLike, layer: "MorePaddingConv") -> Bool[Array, "*shape"]:
    """Finds the points of a layer's output that some tap on the mask contributes to: the mask of
    the next layer.

    **Arguments:**

    - `mask`: That of the layer's input, boolean or a number, of which all but 0 count as there: of
        shape `(N_1, ..., N_D)`, or `(in_channels, N_1, ..., N_D)`.
    - `layer`: A [`pdequinox_physconv.PhysicsConv`][] or [`pdequinox_physconv.MorePaddingConv`][].

    **Returns:**

    A boolean array of the shape of the layer's output, without the channels if the mask has none.
    The others are the points where the layer gives its bias only.

    **Raises:** `ValueError` or `TypeError` for a mask of another shape or dtype, and for another
    layer.
    """
    from ._conv import MorePaddingConv

    if not isinstance(layer, MorePaddingConv):
        raise TypeError(
            f"`layer` must be a `PhysicsConv` or a `MorePaddingConv`, got {type(layer).__name__}."
        )
    parsed = parse_mask(mask, layer)
    missing, taps = missing_taps(parsed, layer)
    there = missing < taps
    if jnp.ndim(mask) == layer.num_spatial_dims:
        return there.any(axis=0)
    return jnp.broadcast_to(there, (layer.out_channels, *there.shape[1:]))
