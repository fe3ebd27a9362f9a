"""The transposed layers: construction and documentation. The arithmetic is in `_convolution`."""

from typing import Any, no_type_check

import equinox as eqx
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, PRNGKeyArray

from pdequinox_operators import add_bias
from pdequinox_operators.checks import flag, Integer, Integers, integers, sample, Widths
from pdequinox_padding import BoundaryMode

from ._conv import Bounded, same
from ._convolution import backward
from ._operator import convolve_transposed


class MorePaddingConvTranspose(Bounded, eqx.nn.ConvTranspose):
    """Applies a transposed convolution with explicit padding in any boundary mode.

    Let `e` be the field's extension (see [`pdequinox_padding.pad`][]) and `z` the same with
    `stride - 1` zeros between neighbours, `z[i * stride] = e[i]`. Output `j` is
    `bias + sum over t of weight[:, :, t] z[j + t * dilation - ((k - 1) * dilation - lower)]`, with
    `lower` the padding below. With `"zeros"` this is `equinox.nn.ConvTranspose`, and the adjoint
    of [`pdequinox_physconv.MorePaddingConv`][], if the kernel is flipped and the channels are
    swapped.
    """

    @no_type_check
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
        """Initialises the weights.

        **Arguments:**

        - `num_spatial_dims`: The number `D >= 1` of spatial axes.
        - `in_channels`: The number of input channels.
        - `out_channels`: The number of output channels.
        - `kernel_size`: The number `k` of taps, an integer for every axis or a sequence of `D`
            integers.
        - `stride`: The distance between neighbouring inputs, in points of the output; as
            `kernel_size`.
        - `padding`: That of the convolution that is transposed, at least 0: an integer, or a
            sequence of `D` entries, each an integer or a pair `(lower, upper)`.
        - `padding_mode`: `"zeros"`, `"reflect"`, `"replicate"` or `"circular"`, or any boundary
            mode, in the forms that [`pdequinox_physconv.PhysicsConv`][] takes. Upper and lower case
            are the same.
        - `output_padding`: How many more outputs there are above, an integer or a sequence of `D`
            integers `o` with `0 <= o < stride`. A convolution maps several sizes to one; this
            tells which of them to restore.
        - `dilation`: The distance between neighbouring taps, in points; as `kernel_size`.
        - `groups`: Must divide both channel counts. The channels are split into this many groups,
            in order, and each group of outputs sees its own group of inputs only.
        - `use_bias`: Whether to add a bias.
        - `key`: A `jax.random.key` for the initial weights. (Keyword only.)
        - `dtype`: Of the parameters: `float16`, `bfloat16`, `float32` or `float64`. `None` is JAX's
            default float. (Keyword only.)

        The initial `weight`, of shape `(out_channels, in_channels // groups, *kernel_size)`, and
        `bias`, of shape `(out_channels, 1, ..., 1)` or `None`, are those of
        `equinox.nn.ConvTranspose`: uniform within
        `1 / sqrt(in_channels // groups * prod(kernel_size))`.

        **Raises:** `TypeError` or `ValueError` for what is not as said above.
        """
        super().__init__(
            num_spatial_dims, in_channels, out_channels, kernel_size, stride, padding, padding_mode,
            dilation, groups, use_bias, key=key, dtype=dtype, output_padding=0,
        )  # fmt: skip
        self.output_padding = _less_than_stride(output_padding, self.stride)

    @no_type_check
    def __call__(
        self,
        x: ArrayLike,
        *,
        output_padding: Integers | None = None,
        key: PRNGKeyArray | None = None,
    ) -> Array:
        """Applies the layer to one sample; batches go through `jax.vmap`.

        **Arguments:**

        - `x`: One sample, of shape `(in_channels, N_1, ..., N_D)` and of the parameters' dtype.
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
        more = self.output_padding
        if output_padding is not None:
            more = _less_than_stride(output_padding, self.stride)
        x = sample(x, self.num_spatial_dims, self.in_channels, self.weight.dtype)
        window, extended = backward(
            x.shape[1:], self.kernel_size, self.stride, self.padding, more, self.dilation,
            self.groups, self.boundary,
        )  # fmt: skip
        return add_bias(convolve_transposed(x, self.weight, window, extended), self.bias)

    @property
    def receptive_field(self) -> tuple[tuple[float, float], ...]:
        """Gives, per axis, how many points of the output grid the kernel reaches below and above
        its centre tap `k // 2`: `(k // 2 * dilation, (k - 1) // 2 * dilation)`, as floats.
        """
        return tuple(
            (float(k // 2 * d), float((k - 1) // 2 * d))
            for k, d in zip(self.kernel_size, self.dilation, strict=True)
        )


class PhysicsConvTranspose(MorePaddingConvTranspose):
    """Applies a transposed convolution that knows the boundary condition of the field: the way back
    up from a strided [`pdequinox_physconv.PhysicsConv`][].

    With `k, s, d` the kernel size, stride and dilation of an axis, `e` the extension of the field
    that `boundary_mode` names (see [`pdequinox_padding.pad`][]) and `z[i * s] = e[i]`, else 0, tap
    `t` of output `j` reads `z[j + (t - k // 2) * d]`. An axis of `N` points has
    `(N - 1) * s + 1 + output_padding` outputs.

    With the kernel flipped and the channels swapped this is the exact adjoint of
    [`pdequinox_physconv.PhysicsConv`][] for `"zeros"`, if `output_padding` restores the size,
    and for `"periodic"`, if `s` divides the size and `output_padding = s - 1`. In the other modes
    the same stencil runs over the extension of the field; its output is consistent with the
    boundary, but no adjoint.
    """

    @no_type_check
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
        """Initialises the weights.

        **Arguments:**

        - `num_spatial_dims`: The number `D >= 1` of spatial axes.
        - `in_channels`: The number of input channels.
        - `out_channels`: The number of output channels.
        - `kernel_size`: The number `k` of taps, an integer for every axis or a sequence of `D`
            integers.
        - `stride`: The distance between neighbouring inputs, in points of the output; as
            `kernel_size`.
        - `output_padding`: How many more outputs there are above, an integer or a sequence of `D`
            integers `o` with `0 <= o < stride`. A convolution maps several sizes to one; this
            tells which of them to restore.
        - `dilation`: The distance between neighbouring taps, in points; as `kernel_size`.
        - `groups`: Must divide both channel counts. The channels are split into this many groups,
            in order, and each group of outputs sees its own group of inputs only.
        - `use_bias`: Whether to add a bias.
        - `key`: A `jax.random.key` for the initial weights. (Keyword only.)
        - `boundary_mode`: What the field is outside of the grid: one of
            [`pdequinox_padding.BOUNDARY_MODES`][] for every axis, or a sequence of `D` entries, one
            per axis, each a name or a pair `(lower, upper)` of names for the two ends of that axis.
            So `[["neumann_cell"] * 2, ["dirichlet_cell"] * 2]` has two axes; input channels that
            differ are given their own by `per_channel((1, "neumann_cell"), (1, "dirichlet_cell"))`.
            See [`pdequinox_padding.pad`][] and [`pdequinox_padding.per_channel`][]. (Keyword only.)
        - `zero_bias_init`: Whether the bias starts at zero. (Keyword only.)
        - `dtype`: Of the parameters: `float16`, `bfloat16`, `float32` or `float64`. `None` is JAX's
            default float. (Keyword only.)

        The initial `weight`, of shape `(out_channels, in_channels // groups, *kernel_size)`, and
        `bias`, of shape `(out_channels, 1, ..., 1)` or `None`, are those of
        `equinox.nn.ConvTranspose`: uniform within
        `1 / sqrt(in_channels // groups * prod(kernel_size))`.

        **Raises:** `TypeError` or `ValueError` for what is not as said above.
        """
        super().__init__(
            num_spatial_dims, in_channels, out_channels, kernel_size, stride,
            **same(num_spatial_dims, kernel_size, dilation, boundary_mode),
            output_padding=output_padding, dilation=dilation, groups=groups, use_bias=use_bias,
            key=key, dtype=dtype,
        )  # fmt: skip
        if flag(zero_bias_init, "zero_bias_init") and self.bias is not None:
            self.bias = jnp.zeros_like(self.bias)


def _less_than_stride(value: Any, stride: tuple[int, ...]) -> tuple[int, ...]:
    """Checks that `0 <= output_padding < stride` on every axis."""
    result = integers(value, len(stride), "output_padding", minimum=0)
    if any(o >= s for o, s in zip(result, stride, strict=True)):
        raise ValueError(
            f"`output_padding` must be at least 0 and less than `stride` = {stride} on every axis, "
            f"got {value!r}."
        )
    return result
