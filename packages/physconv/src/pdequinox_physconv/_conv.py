"""Defines the forward layers and documents them. The arithmetic is in `_convolution`."""

from typing import Any, no_type_check

import equinox as eqx
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, PRNGKeyArray

from pdequinox_operators import add_bias
from pdequinox_operators.checks import (
    flag,
    groups as parse_groups,
    Integer,
    integer,
    Integers,
    integers,
    parameter_dtype,
    sample,
    Widths,
    widths,
)
from pdequinox_padding import Boundary, BoundaryMode, Ends, PerChannel, same_padding

from ._convolution import forward
from ._mask import parse_mask, share
from ._operator import convolve


class Bounded(eqx.Module):
    """Gives a layer of Equinox the boundary of the field; the base of the forward and the
    transposed layers.
    """

    padding_mode: str | tuple[Ends, ...] | PerChannel = eqx.field(static=True)
    boundary: Boundary = eqx.field(static=True)

    @no_type_check
    def __init__(
        self,
        num_spatial_dims: Integer,
        in_channels: Integer,
        out_channels: Integer,
        kernel_size: Integers,
        stride: Integers,
        padding: Widths,
        padding_mode: BoundaryMode | Boundary,
        dilation: Integers,
        groups: Integer,
        use_bias: bool,
        *,
        dtype: Any,
        **others: Any,
    ):
        """Checks the arguments, and passes them to the layer of Equinox."""
        dims = integer(num_spatial_dims, "num_spatial_dims")
        channels = (integer(in_channels, "in_channels"), integer(out_channels, "out_channels"))
        boundary = padding_mode
        if isinstance(boundary, Boundary):
            boundary.check_channels(channels[0], "boundary_mode")
        else:
            boundary = Boundary.parse(boundary, dims, name="padding_mode", low_level=True)
            boundary.check_channels(channels[0], "padding_mode")
        super().__init__(
            num_spatial_dims=dims,
            in_channels=channels[0],
            out_channels=channels[1],
            kernel_size=integers(kernel_size, dims, "kernel_size"),
            stride=integers(stride, dims, "stride"),
            padding=widths(padding, dims, "padding"),
            dilation=integers(dilation, dims, "dilation"),
            groups=parse_groups(groups, *channels),
            use_bias=flag(use_bias, "use_bias"),
            dtype=parameter_dtype(dtype),
            **others,
        )
        self.padding_mode = boundary.padding_mode
        self.boundary = boundary

    @property
    def boundary_mode(self) -> str | tuple[Ends, ...] | PerChannel:
        """Gives the boundary mode in its shortest spelling: a name, or a pair of names per axis. If
        channels differ, every run of them has one of these.
        """
        return self.boundary.boundary_mode


@no_type_check
def same(
    num_spatial_dims: Integer,
    kernel_size: Integers,
    dilation: Integers,
    boundary_mode: BoundaryMode,
) -> dict[str, Any]:
    """Finds the `padding` and `padding_mode` of the layers that keep the size of the field."""
    dims = integer(num_spatial_dims, "num_spatial_dims")
    taps, distance = (
        integers(kernel_size, dims, "kernel_size"),
        integers(dilation, dims, "dilation"),
    )
    return {
        "padding": same_padding(taps, distance),
        "padding_mode": Boundary.parse(boundary_mode, dims),
    }


class MorePaddingConv(Bounded, eqx.nn.Conv):
    """Convolves with explicit padding in any boundary mode.

    Output `i` is the cross-correlation
    `bias + sum over t of weight[:, :, t] e[i * stride + t * dilation - lower]`, where `e` is the
    field's extension (see [`pdequinox_padding.pad`][]) and `lower` is the padding at the lower end.
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
        - `stride`: The distance between neighbouring outputs, in points; given like `kernel_size`.
        - `padding`: The number of points by which to extend the field, at least 0: an integer, or a
            sequence of `D` entries, each an integer or a pair `(lower, upper)`.
        - `padding_mode`: `"zeros"`, `"reflect"`, `"replicate"` or `"circular"`, or any boundary
            mode, in the forms that [`pdequinox_physconv.PhysicsConv`][] takes. Upper and lower case
            are the same.
        - `dilation`: The distance between neighbouring taps, in points; given like `kernel_size`.
        - `groups`: The number of groups, which must divide both channel counts. The channels are
            split into this many groups, in order, and each group of outputs sees only its own group
            of inputs.
        - `use_bias`: Whether to add a bias.
        - `key`: A `jax.random.key` for the initial weights. (Keyword only.)
        - `dtype`: The dtype of the parameters: `float16`, `bfloat16`, `float32` or `float64`.
            `None` means JAX's default float. (Keyword only.)

        The initial `weight`, of shape `(out_channels, in_channels // groups, *kernel_size)`, and
        `bias`, of shape `(out_channels, 1, ..., 1)` or `None`, are those of `equinox.nn.Conv`:
        uniform between `-b` and `b`, with
        `b = 1 / sqrt(in_channels // groups * prod(kernel_size))`.

        **Raises:** `TypeError` or `ValueError` for an argument that is not as described above.
        """
        super().__init__(
            num_spatial_dims, in_channels, out_channels, kernel_size, stride, padding, padding_mode,
            dilation, groups, use_bias, key=key, dtype=dtype,
        )  # fmt: skip

    @no_type_check
    def __call__(
        self, x: ArrayLike, *, mask: ArrayLike | None = None, key: PRNGKeyArray | None = None
    ) -> Array:
        """Applies the layer to one sample; batches go through `jax.vmap`.

        With a `mask`, the points outside it are missing, such as land in an ocean or obstacles in a
        flow: whatever they hold, even NaN, has no influence. Every sum over taps, before the bias,
        is multiplied by the number of all taps over the number of those that are present, and is 0
        if none is present (Liu et al., "Image Inpainting for Irregular Holes Using Partial
        Convolutions", https://arxiv.org/abs/1804.07723). A point beyond a wall is missing if the
        point that it repeats is missing. The zeros beyond `"zeros"`, and on a wall node that is not
        stored, are present. A mask of ones changes nothing. [`pdequinox_physconv.dilate_mask`][]
        gives the mask of the output.

        **Arguments:**

        - `x`: One sample, of shape `(in_channels, N_1, ..., N_D)` and of the parameters' dtype.
        - `mask`: The points of `x` that are present: booleans, or numbers, of which all but 0 count
            as present, of shape `(N_1, ..., N_D)` or of the shape of `x`. `None` means all points.
            (Keyword only.)
        - `key`: Ignored. It is here because `equinox.nn.Sequential` passes a key to every layer.

        **Returns:**

        An array of shape `(out_channels, M_1, ..., M_D)` with
        `M = (N + lower + upper - (k - 1) * dilation - 1) // stride + 1`. For
        [`pdequinox_physconv.PhysicsConv`][] this is `ceil(N / stride)`.

        **Raises:** `ValueError` or `TypeError` for an input of another shape or dtype.
        """
        del key
        x = sample(x, self.num_spatial_dims, self.in_channels, self.weight.dtype)
        factor = None
        if mask is not None:
            there = parse_mask(mask, self, x.shape[1:])
            x = jnp.where(jnp.broadcast_to(there, x.shape), x, jnp.zeros((), x.dtype))
            factor = share(there, self)
        window, extended = forward(
            x.shape[1:], self.kernel_size, self.stride, self.padding, self.dilation, self.groups,
            self.boundary,
        )  # fmt: skip
        out = convolve(x, self.weight, window, extended)
        if factor is not None:
            out = out * jnp.broadcast_to(factor, out.shape)
        return add_bias(out, self.bias)

    @property
    def receptive_field(self) -> tuple[tuple[float, float], ...]:
        """Gives, per axis, how many points the kernel reaches below and above its centre tap
        `(k - 1) // 2`, regardless of the padding:
        `((k - 1) // 2 * dilation, k // 2 * dilation)`, as floats.
        With "same" padding, output `i` has its centre tap at point `i * stride`.
        """
        return tuple(
            (float((k - 1) // 2 * d), float(k // 2 * d))
            for k, d in zip(self.kernel_size, self.dilation, strict=True)
        )


class PhysicsConv(MorePaddingConv):
    """Convolves with "same" padding that knows the boundary condition of the field.

    On an axis with kernel size `k`, stride `s` and dilation `d`, tap `t` of output `i` reads
    `e[i * s + (t - (k - 1) // 2) * d]`, where `e` is the extension of the field by `boundary_mode`
    (see [`pdequinox_padding.pad`][]). An axis of `N` points has `ceil(N / s)` outputs.
    """

    @no_type_check
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
        """Initialises the weights.

        **Arguments:**

        - `num_spatial_dims`: The number `D >= 1` of spatial axes.
        - `in_channels`: The number of input channels.
        - `out_channels`: The number of output channels.
        - `kernel_size`: The number `k` of taps: an integer for all axes, or a sequence of `D`
            integers.
        - `stride`: The distance between neighbouring outputs, in points; given like `kernel_size`.
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
        `bias`, of shape `(out_channels, 1, ..., 1)` or `None`, are those of `equinox.nn.Conv`:
        uniform between `-b` and `b`, with
        `b = 1 / sqrt(in_channels // groups * prod(kernel_size))`.

        **Raises:** `TypeError` or `ValueError` for an argument that is not as described above.
        """
        super().__init__(
            num_spatial_dims, in_channels, out_channels, kernel_size, stride,
            **same(num_spatial_dims, kernel_size, dilation, boundary_mode),
            dilation=dilation, groups=groups, use_bias=use_bias, key=key, dtype=dtype,
        )  # fmt: skip
        if flag(zero_bias_init, "zero_bias_init") and self.bias is not None:
            self.bias = jnp.zeros_like(self.bias)
