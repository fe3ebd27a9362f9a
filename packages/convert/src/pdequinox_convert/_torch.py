"""Converts the convolutions of PyTorch, as arguments and NumPy arrays; PyTorch is not imported."""

from collections.abc import Sequence
from typing import Any, no_type_check

import jax
import numpy as np
from jax.typing import ArrayLike

from pdequinox_operators.checks import groups as parse_groups, Integer, integer, Integers, integers
from pdequinox_physconv import MorePaddingConv, MorePaddingConvTranspose
from pdequinox_pointwise import PointwiseLinearConv

from ._layers import (
    CannotConvertError,
    convolution,
    layer_with,
    named,
    one_layer,
    parameter,
    spread,
)


# The modes of `torch.nn.Conv`, which have the same names here.
PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


@no_type_check
def conv_from_torch(
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    stride: Integers = 1,
    padding: str | Integers = 0,
    dilation: Integers = 1,
    groups: Integer = 1,
    padding_mode: str = "zeros",
    dtype: Any = None,
) -> MorePaddingConv | PointwiseLinearConv:
    """Makes the layer that computes what `torch.nn.Conv1d`, `Conv2d` or `Conv3d` does with these
    arrays and arguments.

    **Arguments:**

    - `weight`: The weight, of shape `(out_channels, in_channels // groups, *kernel_size)`: an array
        of NumPy, or anything that NumPy reads as an array, such as a tensor without a gradient in
        main memory.
    - `bias`: The bias, of shape `(out_channels,)`, or `None`.
    - `stride`: As in PyTorch: an integer for all axes, or a sequence of integers. (Keyword only.)
    - `padding`: In the form of `stride`, or `"valid"`, or `"same"`, which allows no stride and adds
        `(k - 1) * dilation` points to an axis, half of them, rounded down, at the lower end.
        (Keyword only.)
    - `dilation`: In the form of `stride`. (Keyword only.)
    - `groups`: As in PyTorch. (Keyword only.)
    - `padding_mode`: `"zeros"`, `"reflect"`, `"replicate"` or `"circular"`. (Keyword only.)
    - `dtype`: The dtype of the parameters; `None` means that of the arrays. (Keyword only.)

    **Returns:**

    A [`pdequinox_pointwise.PointwiseLinearConv`][] for a kernel of one point that has neither
    stride nor padding nor groups, else a [`pdequinox_physconv.MorePaddingConv`][].

    **Raises:** `TypeError` or `ValueError` for an argument that is not as described above.
    """
    weight, dims = _weight(weight, dtype)
    bias = _bias(bias, weight.shape[0], dims, dtype)
    kernel_size = weight.shape[2:]
    stride = integers(stride, dims, "stride")
    dilation = integers(dilation, dims, "dilation")
    count = integer(groups, "groups")
    _check_mode(padding_mode)
    if isinstance(padding, str):
        padding = _named_padding(padding, kernel_size, stride, dilation)
    else:
        padding = [(width, width) for width in integers(padding, dims, "padding", minimum=0)]
    return convolution(
        {"weight": weight, "bias": bias},
        num_spatial_dims=dims,
        in_channels=weight.shape[1] * count,
        out_channels=weight.shape[0],
        kernel_size=kernel_size,
        stride=stride,
        padding=padding,
        padding_mode=padding_mode,
        dilation=dilation,
        groups=count,
        use_bias=bias is not None,
    )


@no_type_check
def conv_transpose_from_torch(
    weight: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    stride: Integers = 1,
    padding: Integers = 0,
    output_padding: Integers = 0,
    groups: Integer = 1,
    dilation: Integers = 1,
    padding_mode: str = "zeros",
    dtype: Any = None,
) -> MorePaddingConvTranspose:
    """Makes the layer that computes what `torch.nn.ConvTranspose1d`, `ConvTranspose2d` or
    `ConvTranspose3d` does with these arrays and arguments.

    The kernel is flipped, and channels are swapped within every group, because PyTorch stores a
    transposed convolution as the convolution whose transpose it is.

    **Arguments:**

    - `weight`: The weight, of shape `(in_channels, out_channels // groups, *kernel_size)`: an array
        of NumPy, or anything that NumPy reads as an array, such as a tensor without a gradient in
        main memory.
    - `bias`: The bias, of shape `(out_channels,)`, or `None`.
    - `stride`: As in PyTorch: an integer for all axes, or a sequence of integers. (Keyword only.)
    - `padding`: In the form of `stride`. (Keyword only.)
    - `output_padding`: In the form of `stride`, and less than the stride. PyTorch also allows
        values that are only less than the dilation. (Keyword only.)
    - `groups`: As in PyTorch. (Keyword only.)
    - `dilation`: In the form of `stride`. (Keyword only.)
    - `padding_mode`: `"zeros"`, the only one that PyTorch has. (Keyword only.)
    - `dtype`: The dtype of the parameters; `None` means that of the arrays. (Keyword only.)

    **Returns:**

    A [`pdequinox_physconv.MorePaddingConvTranspose`][].

    **Raises:** `TypeError` or `ValueError` for an argument that is not as described above;
    `CannotConvertError`, a `ValueError`, for an `output_padding` of the stride or more.
    """
    weight, dims = _weight(weight, dtype)
    count = parse_groups(groups, weight.shape[0], weight.shape[0])
    bias = _bias(bias, weight.shape[1] * count, dims, dtype)
    stride = integers(stride, dims, "stride")
    more = integers(output_padding, dims, "output_padding", minimum=0)
    if any(o >= s for o, s in zip(more, stride, strict=True)):
        raise CannotConvertError(
            f"`output_padding` must be less than `stride` = {stride} on every axis, got "
            f"{output_padding!r}; PyTorch also allows values less than `dilation`."
        )
    if padding_mode != "zeros":
        raise CannotConvertError(
            f"`padding_mode` must be 'zeros', as PyTorch's transposed layers have no other, got "
            f"{padding_mode!r}."
        )
    arrays = {"weight": _swapped(weight, count), "bias": bias}
    return layer_with(
        arrays,
        MorePaddingConvTranspose,
        num_spatial_dims=dims,
        in_channels=weight.shape[0],
        out_channels=weight.shape[1] * count,
        kernel_size=weight.shape[2:],
        stride=stride,
        padding=integers(padding, dims, "padding", minimum=0),
        output_padding=more,
        dilation=integers(dilation, dims, "dilation"),
        groups=count,
        use_bias=bias is not None,
    )


@no_type_check
def conv_to_torch(
    layer: MorePaddingConv | MorePaddingConvTranspose | PointwiseLinearConv,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Gives the arguments and the arrays of the layer of PyTorch that computes the same.

    **Arguments:**

    - `layer`: A convolution, a transposed convolution or a pointwise layer in one to three
        dimensions. PyTorch has one of its four padding modes for all axes and ends (only zeros for
        transposed layers) and, except for `"same"`, as many points below as above. NumPy has no
        bfloat16.

    **Returns:**

    The arguments of `torch.nn.Conv1d`, `Conv2d` or `Conv3d` (or `ConvTranspose1d` etc.), by name,
    and the arrays for its `load_state_dict`, which `torch.from_numpy` must convert first.

    **Raises:** `TypeError` for another kind of layer; `CannotConvertError`, a `ValueError`, which
    names what PyTorch does not have.
    """
    if not isinstance(layer, MorePaddingConv | MorePaddingConvTranspose | PointwiseLinearConv):
        raise TypeError(
            f"`layer` must be a convolution of this project, got a `{named(type(layer))}`."
        )
    if layer.num_spatial_dims > 3:
        raise CannotConvertError(
            f"PyTorch has convolutions in 1 to 3 dimensions, got {layer.num_spatial_dims}."
        )
    one_layer(layer.weight, layer.num_spatial_dims + 2, "layer")
    names = ("in_channels", "out_channels", "kernel_size", "stride", "dilation", "groups")
    arguments = {name: getattr(layer, name) for name in names}
    arguments["bias"] = layer.bias is not None
    weight = layer.weight
    if isinstance(layer, MorePaddingConvTranspose):
        arguments["padding"] = _symmetric(layer.padding)
        arguments["output_padding"] = layer.output_padding
        if layer.padding_mode != "zeros":
            raise CannotConvertError(
                "PyTorch's transposed layers have no `padding_mode` but 'zeros', got "
                f"{layer.padding_mode!r}."
            )
        weight = _swapped(weight, layer.groups)
    else:
        is_same = {*layer.stride} == {1} and layer.padding == _named_padding(
            "same", layer.kernel_size, layer.stride, layer.dilation
        )
        arguments["padding"] = "same" if is_same else _symmetric(layer.padding)
        arguments["padding_mode"] = "zeros"
        if isinstance(layer, MorePaddingConv):
            arguments["padding_mode"] = layer.padding_mode
        if arguments["padding_mode"] not in PADDING_MODES:
            raise CannotConvertError(
                f"PyTorch has the padding modes {list(PADDING_MODES)}, one for all axes, ends and "
                f"channels, got {layer.padding_mode!r}."
            )
    arrays = {"weight": weight}
    if layer.bias is not None:
        arrays["bias"] = layer.bias.reshape(-1)
    if weight.dtype not in (np.float16, np.float32, np.float64):
        raise CannotConvertError(
            f"NumPy, through which arrays come to PyTorch, has no {weight.dtype.name}: convert the "
            "layer to float32 first."
        )
    return arguments, {name: np.array(array) for name, array in arrays.items()}


def _weight(weight: Any, dtype: Any) -> tuple[jax.Array, int]:
    weight = parameter(weight, "weight", dtype)
    if weight.ndim < 3 or 0 in weight.shape:
        raise ValueError(
            "`weight` must have two axes of channels and at least one of space, none of length 0, "
            f"got shape {weight.shape}."
        )
    return weight, weight.ndim - 2


def _bias(bias: Any, channels: int, dims: int, dtype: Any) -> jax.Array | None:
    if bias is None:
        return None
    bias = parameter(bias, "bias", dtype)
    if bias.shape != (channels,):
        raise ValueError(
            f"`bias` must have shape (out_channels,) = ({channels},), got {bias.shape}."
        )
    return spread(bias, dims)


def _swapped(weight: jax.Array, groups: int) -> jax.Array:
    """Swaps the channels of every group, and flips the kernel."""
    into, out, *kernel = weight.shape
    split = weight.reshape(groups, into // groups, out, *kernel).swapaxes(1, 2)
    swapped = split.reshape(groups * out, into // groups, *kernel)
    return jax.numpy.flip(swapped, range(2, swapped.ndim))


def _check_mode(padding_mode: str) -> None:
    if padding_mode not in PADDING_MODES:
        raise ValueError(
            f"`padding_mode` must be one of {list(PADDING_MODES)}, got {padding_mode!r}."
        )


def _named_padding(
    padding: str, kernel_size: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> tuple[tuple[int, int], ...]:
    if padding not in ("same", "valid"):
        raise ValueError(f"`padding` must be integers >= 0, 'same' or 'valid', got {padding!r}.")
    if padding == "valid":
        return ((0, 0),) * len(kernel_size)
    if {*stride} != {1}:
        raise ValueError(
            f"`padding` 'same' allows no `stride` in PyTorch, got a `stride` of {stride}."
        )
    totals = [(k - 1) * d for k, d in zip(kernel_size, dilation, strict=True)]
    return tuple((total // 2, total - total // 2) for total in totals)


def _symmetric(padding: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    if any(lower != upper for lower, upper in padding):
        raise CannotConvertError(
            f"PyTorch adds as many points above as below, got a `padding` of {padding}."
        )
    return tuple(lower for lower, _ in padding)
