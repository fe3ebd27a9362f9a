"""Defines the transposed layers and documents them. The arithmetic is in `_convolution`."""

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

    Let `e` be the field's extension (see [`pdequinox_padding.pad`][]), and let `z` be `e` with
    `stride - 1` zeros between neighbours, `z[i * stride] = e[i]`. Output `j` is
    `bias + sum over t of weight[:, :, t] z[j + t * dilation - ((k - 1) * dilation - lower)]`, where
    `lower` is the padding at the lower end. With `"zeros"` this is `equinox.nn.ConvTranspose`;
    with the kernel flipped and the channels swapped, it is then the adjoint of
    [`pdequinox_physconv.MorePaddingConv`][].
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
        - `kernel_size`: The number `k` of taps: an integer for all axes, or a sequence of `D`
            integers.
        - `stride`: The distance between neighbouring inputs, in points of the output; given like
            `kernel_size`.
        - `padding`: The padding of the convolution that is transposed, at least 0: an integer, or a
            sequence of `D` entries, each an integer or a pair `(lower, upper)`.
        - `padding_mode`: `"zeros"`, `"reflect"`, `"replicate"` or `"circular"`, or any boundary
            mode, in the forms that [`pdequinox_physconv.PhysicsConv`][] takes. Upper and lower case
            are the same.
        - `output_padding`: The number of additional outputs at the upper end: an integer, or a
            sequence of `D` integers `o`, with `0 <= o < stride`. A convolution maps several sizes
            to one; this says which of them to restore.
        - `dilation`: The distance between neighbouring taps, in points; given like `kernel_size`.
        - `groups`: The number of groups, which must divide both channel counts. The channels are
            split into this many groups, in order, and each group of outputs sees only its own group
            of inputs.
        - `use_bias`: Whether to add a bias.
        - `key`: A `jax.random.key` for the initial weights. (Keyword only.)
        - `dtype`: The dtype of the parameters: `float16`, `bfloat16`, `float32` or `float64`.
            `None` means JAX's default float. (Keyword only.)

        The initial `weight`, of shape `(out_channels, in_channels // groups, *kernel_size)`, and
        `bias`, of shape `(out_channels, 1, ..., 1)` or `None`, are those of
        `equinox.nn.ConvTranspose`: uniform between `-b` and `b`, with
        `b = 1 / sqrt(in_channels // groups * prod(kernel_size))`.

        **Raises:** `TypeError` or `ValueError` for an argument that is not as described above.
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
        - `output_padding`: Replaces the constructor's `output_padding`, if given.
        - `key`: Ignored. It is here because `equinox.nn.Sequential` passes a key to every layer.

        **Returns:**

        An array of shape `(out_channels, M_1, ..., M_D)` with
        `M = (N - 1) * stride + 1 + (k - 1) * dilation - lower - upper + output_padding`. For
        [`pdequinox_physconv.PhysicsConvTranspose`][] this is
        `(N - 1) * stride + 1 + output_padding`.

        **Raises:** `ValueError` or `TypeError` for an input of another shape or dtype, and for an
        `output_padding` outside its range.
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
    """Applies a transposed convolution that knows the boundary condition of the field. It goes back
    to the grid from which a strided [`pdequinox_physconv.PhysicsConv`][] came.

    On an axis with kernel size `k`, stride `s` and dilation `d`, let `e` be the extension of the
    field by `boundary_mode` (see [`pdequinox_padding.pad`][]), and let `z[i * s] = e[i]`, else 0.
    Tap `t` of output `j` reads `z[j + (t - k // 2) * d]`. An axis of `N` points has
    `(N - 1) * s + 1 + output_padding` outputs.

    With the kernel flipped and the channels swapped, this is the exact adjoint of
    [`pdequinox_physconv.PhysicsConv`][] in two cases: for `"zeros"`, if `output_padding` restores
    the size, and for `"periodic"`, if `s` divides the size and `output_padding = s - 1`. In the
    other modes, the same stencil runs over the extension of the field: the output is consistent
    with the boundary, but the layer is not an adjoint.
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
        - `kernel_size`: The number `k` of taps: an integer for all axes, or a sequence of `D`
            integers.
        - `stride`: The distance between neighbouring inputs, in points of the output; given like
            `kernel_size`.
        - `output_padding`: The number of additional outputs at the upper end: an integer, or a
            sequence of `D` integers `o`, with `0 <= o < stride`. A convolution maps several sizes
            to one; this says which of them to restore.
        - `dilation`: The distance between neighbouring taps, in points; given like `kernel_size`.
        - `groups`: The number of groups, which must divide both channel counts. The channels are
            split into this many groups, in order, and each group of outputs sees only its own group
            of inputs.
        - `use_bias`: Whether to add a bias.
        - `key`: A `jax.random.key` for the initial weights. (Keyword only.)
        - `boundary_mode`: What the field is outside the grid: one of
            [`pdequinox_padding.BOUNDARY_MODES`][] for all axes, or a sequence of `D` entries, one
            per axis, each a name or a pair `(lower, upper)` of names for the two ends of that axis.
            So `[["neumann_cell"] * 2, ["dirichlet_cell"] * 2]` is for two axes. To give input
            channels different modes, use `per_channel((1, "neumann_cell"), (1, "dirichlet_cell"))`.
            See [`pdequinox_padding.pad`][] and [`pdequinox_padding.per_channel`][]. (Keyword only.)
        - `zero_bias_init`: Whether the bias starts at zero. (Keyword only.)
        - `dtype`: The dtype of the parameters: `float16`, `bfloat16`, `float32` or `float64`.
            `None` means JAX's default float. (Keyword only.)

        The initial `weight`, of shape `(out_channels, in_channels // groups, *kernel_size)`, and
        `bias`, of shape `(out_channels, 1, ..., 1)` or `None`, are those of
        `equinox.nn.ConvTranspose`: uniform between `-b` and `b`, with
        `b = 1 / sqrt(in_channels // groups * prod(kernel_size))`.

        **Raises:** `TypeError` or `ValueError` for an argument that is not as described above.
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
