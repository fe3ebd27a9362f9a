"""Handles coasts and obstacles: the share of taps that are present, and the mask of the output.

For each output, the taps that read a missing point are counted, by a convolution of the missing
points, as ones, with a kernel of ones (G. Liu et al., "Image Inpainting for Irregular Holes Using
Partial Convolutions", https://arxiv.org/abs/1804.07723, equation 1). A point beyond a wall is
missing if the point that it repeats is missing, whatever the sign; where no point is repeated, as
by `"zeros"`, it is present.
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
    """Checks a mask for one sample of a layer's input, and that it is on the grid `shape`, if
    given. The first axis of the result has size 1 if all channels have the same points.
    """
    mask, dims = array(mask, "mask"), layer.num_spatial_dims
    of_all = mask.ndim == dims
    if not (of_all or (mask.ndim == dims + 1 and mask.shape[0] == layer.in_channels)):
        raise ValueError(
            f"`mask` must have the spatial axes ({dims} here), or the channels "
            f"({layer.in_channels} here) and these axes, got shape {mask.shape}; batches go "
            "through `jax.vmap`."
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
    """Counts the missing taps of every output, and gives the number of all taps. The first axis has
    size 1 if all channels have the same points; then the taps of one input channel are counted.
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
    # There are fewer than 2^24 taps, so counts are exact, if rounded where a convolution is not.
    count = jnp.round(convolve(missing, ones, window, extended))
    if groups > 1:
        count = jnp.repeat(count, layer.out_channels // groups, axis=0)
    return count, prod(ones.shape[1:])


def share(mask: Bool[Array, "channels *spatial"], layer: "MorePaddingConv") -> Array:
    """Finds the factor of every output's sum: the number of all taps over the number of those that
    are present. It is exactly 1 where none is missing, and 0 where all are.
    """
    missing, taps = missing_taps(mask, layer)
    dtype = layer.weight.dtype
    there = (taps - missing).astype(sum_dtype(dtype))
    return jnp.where(there > 0, taps / jnp.maximum(there, 1.0), 0.0).astype(dtype)


def dilate_mask(mask: ArrayLike, layer: "MorePaddingConv") -> Bool[Array, "*shape"]:
    """Finds the points of a layer's output to which some tap on the mask contributes. They are the
    mask of the next layer.

    **Arguments:**

    - `mask`: The mask of the layer's input: booleans, or numbers, of which all but 0 count as
        present, of shape `(N_1, ..., N_D)` or `(in_channels, N_1, ..., N_D)`.
    - `layer`: A [`pdequinox_physconv.PhysicsConv`][] or [`pdequinox_physconv.MorePaddingConv`][].

    **Returns:**

    A boolean array of the shape of the layer's output, without the channels if the mask has none.
    Where it is false, the layer gives only its bias.

    **Raises:** `ValueError` or `TypeError` for a mask of another shape or dtype, and for another
    kind of layer.
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
