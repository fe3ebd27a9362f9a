"""The constructor arguments that the forward and the transposed layers share, checked once."""

from typing import Any

from pdequinox_padding import BoundaryMode, parse_boundary_mode, parse_padding_mode, same_padding
from pdequinox_padding.arguments import (
    groups as parse_groups,
    Integer,
    integer,
    Integers,
    integers,
    parameter_dtype,
    Widths,
    widths,
)


def conv_arguments(
    *,
    num_spatial_dims: Integer,
    in_channels: Integer,
    out_channels: Integer,
    kernel_size: Integers,
    stride: Integers,
    padding: Widths,
    padding_mode: BoundaryMode,
    dilation: Integers,
    groups: Integer,
    dtype: Any,
) -> dict[str, Any]:
    """The arguments in the form in which Equinox's constructors take them, and the parsed
    `padding_mode` as `"ends"`, which they know nothing of.
    """
    dims = integer(num_spatial_dims, "num_spatial_dims")
    channels = (integer(in_channels, "in_channels"), integer(out_channels, "out_channels"))
    return {
        "num_spatial_dims": dims,
        "in_channels": channels[0],
        "out_channels": channels[1],
        "kernel_size": integers(kernel_size, dims, "kernel_size"),
        "stride": integers(stride, dims, "stride"),
        "padding": widths(padding, dims, "padding"),
        "ends": parse_padding_mode(padding_mode, dims),
        "dilation": integers(dilation, dims, "dilation"),
        "groups": parse_groups(groups, *channels),
        "dtype": parameter_dtype(dtype),
    }


def same_arguments(
    num_spatial_dims: Integer,
    kernel_size: Integers,
    dilation: Integers,
    boundary_mode: BoundaryMode,
) -> dict[str, Any]:
    """The `padding` and `padding_mode` of the layers that keep the size of the field."""
    dims = integer(num_spatial_dims, "num_spatial_dims")
    return {
        "padding": same_padding(
            integers(kernel_size, dims, "kernel_size"), integers(dilation, dims, "dilation")
        ),
        "padding_mode": parse_boundary_mode(boundary_mode, dims),
    }


def output_padding(value: Integers, stride: tuple[int, ...]) -> tuple[int, ...]:
    """`value` as one integer `o` per axis, checked for `0 <= o < stride`."""
    result = integers(value, len(stride), "output_padding", minimum=0)
    if any(o >= s for o, s in zip(result, stride, strict=True)):
        raise ValueError(
            f"`output_padding` must be at least 0 and less than `stride` = {stride} on every axis, "
            f"got {value!r}."
        )
    return result
