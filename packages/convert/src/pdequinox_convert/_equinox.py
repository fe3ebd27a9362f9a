"""Converts the convolutions of Equinox."""

from typing import no_type_check

import equinox as eqx
from jax import lax

from pdequinox_operators.checks import Integers, integers
from pdequinox_physconv import MorePaddingConv, MorePaddingConvTranspose
from pdequinox_pointwise import PointwiseLinearConv

from ._layers import (
    arguments_of,
    CannotConvertError,
    convolution,
    layer_with,
    named,
    only_made_differently,
)


BASES = (eqx.nn.Conv, eqx.nn.ConvTranspose)


@no_type_check
def conv_from_equinox(
    layer: eqx.nn.Conv | eqx.nn.ConvTranspose, *, spatial_shape: Integers | None = None
) -> MorePaddingConv | MorePaddingConvTranspose | PointwiseLinearConv:
    """Makes the layer of this project that computes what a convolution of Equinox does.

    **Arguments:**

    - `layer`: An `equinox.nn.Conv` or `equinox.nn.ConvTranspose`, or a layer of a class that is
        derived from one of them and differs only in its constructor, such as `equinox.nn.Conv2d`,
        with any padding and padding mode. Its arrays are taken as they are, with the axes of an
        ensemble if there are any.
    - `spatial_shape`: The numbers of points of the fields that the layer is for: an integer for all
        axes, or a sequence of integers. It is only needed for `padding="SAME"` on an axis with a
        stride and a kernel of more than one point: the number of points to add depends on the size
        of the field, and the layer here adds the same number to every field. (Keyword only.)

    **Returns:**

    A [`pdequinox_pointwise.PointwiseLinearConv`][] for a kernel of one point that has neither
    stride nor padding nor groups, else a [`pdequinox_physconv.MorePaddingConv`][] or
    [`pdequinox_physconv.MorePaddingConvTranspose`][].

    **Raises:** `TypeError` for any other layer; `CannotConvertError`, a `ValueError`, for arguments
    that are not as described above, and for complex parameters.
    """
    base = next((b for b in BASES if isinstance(layer, b)), None)
    if base is None or not only_made_differently(type(layer), base):
        raise TypeError(
            "`layer` must be an `equinox.nn.Conv` or `equinox.nn.ConvTranspose`, or differ from it "
            f"only in its constructor, got a `{named(type(layer))}`."
        )
    if base is eqx.nn.ConvTranspose:
        return _transposed(layer)
    names = ("kernel_size", "stride", "dilation", "groups", "padding_mode")
    padding = _padding(layer, spatial_shape)
    arrays = {"weight": layer.weight, "bias": layer.bias}
    return convolution(arrays, padding=padding, **arguments_of(layer, *names))


def _padding(layer: eqx.nn.Conv, spatial_shape: Integers | None) -> tuple[tuple[int, int], ...]:
    """Finds the widths that `padding` adds; JAX itself reads names such as `"SAME"`."""
    shape = None
    if spatial_shape is not None:
        shape = integers(spatial_shape, layer.num_spatial_dims, "spatial_shape")
    if not isinstance(layer.padding, str):
        return tuple((lower, upper) for lower, upper in layer.padding)
    reach = tuple((k - 1) * d + 1 for k, d in zip(layer.kernel_size, layer.dilation, strict=True))
    depends = any(r > 1 and s > 1 for r, s in zip(reach, layer.stride, strict=True))
    if shape is None and layer.padding != "VALID" and depends:
        raise CannotConvertError(
            f"`padding` is {layer.padding!r} and `stride` is {layer.stride}, so that the padding "
            "depends on the size of the field: give this size to `conv_from_equinox` as "
            "`spatial_shape`."
        )
    # Otherwise any size will do.
    pads = lax.padtype_to_pads(shape or reach, reach, layer.stride, layer.padding)
    return tuple((int(lower), int(upper)) for lower, upper in pads)


def _transposed(layer: eqx.nn.ConvTranspose) -> MorePaddingConvTranspose:
    """Converts a transposed layer. Equinox chooses the padding of the convolution that is
    transposed so that `"SAME"` gives `stride` times as many outputs as inputs. In all it is
    `(k - 1) * d - s + o + 1`. If that is negative, there is no padding, and that many more outputs.
    """
    padding, more = [], []
    for axis, (k, s, d, o) in enumerate(
        zip(layer.kernel_size, layer.stride, layer.dilation, layer.output_padding, strict=True)
    ):
        if not isinstance(layer.padding, str):
            padding.append(tuple(layer.padding[axis]))
            more.append(o)
        elif layer.padding == "VALID":
            padding.append((0, 0))
            more.append(o)
        else:
            total = (k - 1) * d - s + o + 1
            lower = (max(total, 0) + (layer.padding == "SAME_LOWER")) // 2
            padding.append((lower, max(total, 0) - lower))
            more.append(max(-total, 0))
    names = ("kernel_size", "stride", "dilation", "groups", "padding_mode")
    return layer_with(
        {"weight": layer.weight, "bias": layer.bias},
        MorePaddingConvTranspose,
        padding=padding,
        output_padding=more,
        **arguments_of(layer, *names),
    )
