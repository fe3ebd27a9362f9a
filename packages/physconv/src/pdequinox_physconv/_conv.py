"""The forward layers: construction and documentation. The arithmetic is in `_correlate`."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, PRNGKeyArray

from pdequinox_padding import (
    BoundaryMode,
    Ends,
    format_boundary_mode,
    format_padding_mode,
    parse_boundary_mode,
)
from pdequinox_padding.arguments import field, Integer, Integers, Widths

from ._arguments import conv_arguments, same_arguments
from ._correlate import correlate


class MorePaddingConv(eqx.nn.Conv):
    """Convolution with explicit padding in any boundary mode.

    Output `i` is the cross-correlation
    `bias + sum over t of weight[:, :, t] e[i * stride + t * dilation - lower]`, where `e` is the
    field's extension (see [`pdequinox_padding.pad`][]) and `lower` the padding below.
    """

    padding_mode: str | tuple[Ends, ...] = eqx.field(static=True)
    boundary_mode: str | tuple[Ends, ...] = eqx.field(static=True)

    def __init__(
        self,
        num_spatial_dims: Integer,
        in_channels: Integer,
        out_channels: Integer,
        kernel_size: Integers,
        stride: Integers = 1,
        padding: Widths = 0,
        padding_mode: BoundaryMode = "zeros",
        dilation: Integers = 1,
        groups: Integer = 1,
        use_bias: bool = True,
        *,
        key: PRNGKeyArray,
        dtype: Any = None,
    ):
        """**Arguments:**

        - `num_spatial_dims`: The number `D >= 1` of spatial axes.
        - `in_channels`: The number of input channels.
        - `out_channels`: The number of output channels.
        - `kernel_size`: The number `k` of taps.
        - `stride`: The distance between neighbouring outputs, in points.
        - `padding`: How many points to extend the field by, at least 0: an integer, or a sequence
            of `D` entries, each an integer or a pair `(lower, upper)`.
        - `padding_mode`: `"zeros"`, `"reflect"`, `"replicate"` or `"circular"`, or any boundary
            mode in any of the forms that
            [`pdequinox_padding.parse_boundary_mode`][] takes. Upper and lower case are the same.
        - `dilation`: The distance between neighbouring taps, in points.
        - `groups`: Must divide both channel counts. The channels are split into so many groups,
            in order, and each group of outputs sees its own group of inputs only.
        - `use_bias`: Whether to add a bias.
        - `key`: A `jax.random.key` for the initial weights. (Keyword only.)
        - `dtype`: Of the parameters: `float16`, `bfloat16`, `float32` or `float64`. `None` is JAX's
            default float. (Keyword only.)

        `kernel_size`, `stride` and `dilation` are an integer for every axis, or a sequence of `D`
        integers.

        The initial `weight`, of shape `(out_channels, in_channels // groups, *kernel_size)`, and
        `bias`, of shape `(out_channels, 1, ..., 1)` or `None`, are those of `equinox.nn.Conv`:
        uniform within `1 / sqrt(in_channels // groups * prod(kernel_size))`.

        **Raises:** `TypeError` or `ValueError` for what is not as said above.
        """
        arguments = conv_arguments(
            num_spatial_dims=num_spatial_dims,
            in_channels=in_channels,
            out_channels=out_channels,
            kernel_size=kernel_size,
            stride=stride,
            padding=padding,
            padding_mode=padding_mode,
            dilation=dilation,
            groups=groups,
            dtype=dtype,
        )
        ends = arguments.pop("ends")
        super().__init__(**arguments, use_bias=use_bias, key=key)
        self.padding_mode = format_padding_mode(ends)
        self.boundary_mode = format_boundary_mode(ends)

    def __call__(self, x: ArrayLike, *, key: PRNGKeyArray | None = None) -> Array:
        """**Arguments:**

        - `x`: One sample, of shape `(in_channels, N_1, ..., N_D)` and of the parameters' dtype.
            Batches go through `jax.vmap`.
        - `key`: Ignored; layers of `equinox.nn.Sequential` are given one.

        **Returns:**

        An array of shape `(out_channels, M_1, ..., M_D)` with
        `M = (N + lower + upper - (k - 1) * dilation - 1) // stride + 1`; `ceil(N / stride)` for
        [`pdequinox_physconv.PhysicsConv`][].

        **Raises:** `ValueError` or `TypeError` for an input of another shape or dtype.
        """
        del key
        x = field(x, self.num_spatial_dims, self.in_channels, self.weight.dtype)
        out = correlate(
            x,
            self.weight,
            stride=self.stride,
            padding=self.padding,
            ends=parse_boundary_mode(self.boundary_mode, self.num_spatial_dims),
            dilation=self.dilation,
            groups=self.groups,
        )
        return out if self.bias is None else out + self.bias

    @property
    def receptive_field(self) -> tuple[tuple[float, float], ...]:
        """How many points below and above its centre tap `(k - 1) // 2` the kernel reaches,
        whatever the padding: per axis `((k - 1) // 2 * dilation, k // 2 * dilation)`, as floats.
        With "same" padding, output `i` has its centre tap at point `i * stride`.
        """
        return tuple(
            (float((k - 1) // 2 * d), float(k // 2 * d))
            for k, d in zip(self.kernel_size, self.dilation, strict=True)
        )


class PhysicsConv(MorePaddingConv):
    """Convolution with "same" padding that knows the boundary condition of the field.

    With `k, s, d` the kernel size, stride and dilation of an axis, tap `t` of output `i` reads
    `e[i * s + (t - (k - 1) // 2) * d]`, where `e` is the extension of the field that
    `boundary_mode` names (see [`pdequinox_padding.pad`][]). An axis of `N` points has
    `ceil(N / s)` outputs.
    """

    def __init__(
        self,
        num_spatial_dims: Integer,
        in_channels: Integer,
        out_channels: Integer,
        kernel_size: Integers,
        stride: Integers = 1,
        dilation: Integers = 1,
        groups: Integer = 1,
        use_bias: bool = True,
        *,
        key: PRNGKeyArray,
        boundary_mode: BoundaryMode,
        zero_bias_init: bool = False,
        dtype: Any = None,
    ):
        """**Arguments:**

        As [`pdequinox_physconv.MorePaddingConv`][], without the padding, and:

        - `boundary_mode`: One of [`pdequinox_padding.BOUNDARY_MODES`][] for every axis, or a
            sequence of `D` entries, one per axis, each a name or a pair `(lower, upper)` of names
            for the two ends of that axis. (Keyword only.)
        - `zero_bias_init`: Whether the bias starts at zero. (Keyword only.)
        """
        super().__init__(
            num_spatial_dims=num_spatial_dims,
            in_channels=in_channels,
            out_channels=out_channels,
            kernel_size=kernel_size,
            stride=stride,
            **same_arguments(num_spatial_dims, kernel_size, dilation, boundary_mode),
            dilation=dilation,
            groups=groups,
            use_bias=use_bias,
            key=key,
            dtype=dtype,
        )
        if zero_bias_init and self.bias is not None:
            self.bias = jnp.zeros_like(self.bias)
