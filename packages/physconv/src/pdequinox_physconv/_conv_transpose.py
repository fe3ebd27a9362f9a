"""The transposed layers: construction and documentation. The arithmetic is in `_correlate`."""

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

from ._arguments import conv_arguments, output_padding as parse_output_padding, same_arguments
from ._correlate import correlate_transposed


class MorePaddingConvTranspose(eqx.nn.ConvTranspose):
    """Transposed convolution with explicit padding in any boundary mode.

    Let `e` be the field's extension (see [`pdequinox_padding.pad`][]) and `z` the same with
    `stride - 1` zeros between neighbours, `z[i * stride] = e[i]`. Output `j` is
    `bias + sum over t of weight[:, :, t] z[j + t * dilation - ((k - 1) * dilation - lower)]`, with
    `lower` the padding below. With `"zeros"` this is `equinox.nn.ConvTranspose`, and the adjoint
    of [`pdequinox_physconv.MorePaddingConv`][], if the kernel is flipped and the channels are
    swapped.
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
        output_padding: Integers = 0,
        dilation: Integers = 1,
        groups: Integer = 1,
        use_bias: bool = True,
        *,
        key: PRNGKeyArray,
        dtype: Any = None,
    ):
        """**Arguments:**

        As [`pdequinox_physconv.MorePaddingConv`][], where `stride` and `padding` are those of the
        convolution that is transposed, and:

        - `output_padding`: How many more outputs there are above, an integer or a sequence of `D`
            integers `o` with `0 <= o < stride`. A convolution maps several sizes to one; this
            tells which of them to restore.

        The initial arrays are those of `equinox.nn.ConvTranspose`.
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
        super().__init__(
            **arguments,
            output_padding=parse_output_padding(output_padding, arguments["stride"]),
            use_bias=use_bias,
            key=key,
        )
        self.padding_mode = format_padding_mode(ends)
        self.boundary_mode = format_boundary_mode(ends)

    def __call__(
        self,
        x: ArrayLike,
        *,
        output_padding: Integers | None = None,
        key: PRNGKeyArray | None = None,
    ) -> Array:
        """**Arguments:**

        - `x`: One sample, of shape `(in_channels, N_1, ..., N_D)` and of the parameters' dtype.
            Batches go through `jax.vmap`.
        - `output_padding`: Takes the place of the constructor's, if given.
        - `key`: Ignored; layers of `equinox.nn.Sequential` are given one.

        **Returns:**

        An array of shape `(out_channels, M_1, ..., M_D)` with
        `M = (N - 1) * stride + 1 + (k - 1) * dilation - lower - upper + output_padding`;
        `(N - 1) * stride + 1 + output_padding` for [`pdequinox_physconv.PhysicsConvTranspose`][].

        **Raises:** `ValueError` or `TypeError` for an input of another shape or dtype, and for an
        `output_padding` outside of its range.
        """
        del key
        if output_padding is None:
            output_padding = self.output_padding
        x = field(x, self.num_spatial_dims, self.in_channels, self.weight.dtype)
        out = correlate_transposed(
            x,
            self.weight,
            stride=self.stride,
            padding=self.padding,
            output_padding=parse_output_padding(output_padding, self.stride),
            ends=parse_boundary_mode(self.boundary_mode, self.num_spatial_dims),
            dilation=self.dilation,
            groups=self.groups,
        )
        return out if self.bias is None else out + self.bias

    @property
    def receptive_field(self) -> tuple[tuple[float, float], ...]:
        """How many points of the output grid below and above its centre tap `k // 2` the kernel
        reaches: per axis the pair `(k // 2 * dilation, (k - 1) // 2 * dilation)`, as floats.
        """
        return tuple(
            (float(k // 2 * d), float((k - 1) // 2 * d))
            for k, d in zip(self.kernel_size, self.dilation, strict=True)
        )


class PhysicsConvTranspose(MorePaddingConvTranspose):
    """Transposed convolution that knows the boundary condition of the field: the way back up from
    a strided [`pdequinox_physconv.PhysicsConv`][].

    With `k, s, d` the kernel size, stride and dilation of an axis, `e` the extension of the field
    that `boundary_mode` names (see [`pdequinox_padding.pad`][]) and `z[i * s] = e[i]`, else 0, tap
    `t` of output `j` reads `z[j + (t - k // 2) * d]`. An axis of `N` points has
    `(N - 1) * s + 1 + output_padding` outputs.

    With the kernel flipped and the channels swapped this is the exact adjoint of
    [`pdequinox_physconv.PhysicsConv`][] for `"dirichlet"`, if `output_padding` restores the size,
    and for `"periodic"`, if `s` divides the size and `output_padding = s - 1`. In the other modes
    the same stencil runs over the extension of the field; its output is consistent with the
    boundary, but no adjoint.
    """

    def __init__(
        self,
        num_spatial_dims: Integer,
        in_channels: Integer,
        out_channels: Integer,
        kernel_size: Integers,
        stride: Integers = 1,
        output_padding: Integers = 0,
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

        As [`pdequinox_physconv.MorePaddingConvTranspose`][], without the padding, and with the
        `boundary_mode` and `zero_bias_init` of [`pdequinox_physconv.PhysicsConv`][].
        """
        super().__init__(
            num_spatial_dims=num_spatial_dims,
            in_channels=in_channels,
            out_channels=out_channels,
            kernel_size=kernel_size,
            stride=stride,
            **same_arguments(num_spatial_dims, kernel_size, dilation, boundary_mode),
            output_padding=output_padding,
            dilation=dilation,
            groups=groups,
            use_bias=use_bias,
            key=key,
            dtype=dtype,
        )
        if zero_bias_init and self.bias is not None:
            self.bias = jnp.zeros_like(self.bias)
