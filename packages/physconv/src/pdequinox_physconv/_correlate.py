"""How the convolutions are carried out: pure functions on arrays and tuples of integers."""

from collections.abc import Sequence

import jax.lax as lax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pdequinox_padding import Ends, pad, transposed_widths


Pairs = tuple[tuple[int, int], ...]


def correlate(
    x: Float[Array, "in_channels *spatial"],
    weight: Float[Array, "out_channels in_channels_per_group *kernel"],
    *,
    stride: tuple[int, ...],
    padding: Pairs,
    ends: tuple[Ends, ...],
    dilation: tuple[int, ...],
    groups: int,
) -> Float[Array, "out_channels *spatial_out"]:
    """Cross-correlation of the extended field: tap `t` of output `i` reads the extension at
    `i * stride + t * dilation - padding[0]`.
    """
    x, zeros = _extend(x, padding, ends)
    return _correlate(x, weight, stride, (1,) * len(stride), zeros, dilation, groups)


def correlate_transposed(
    x: Float[Array, "in_channels *spatial"],
    weight: Float[Array, "out_channels in_channels_per_group *kernel"],
    *,
    stride: tuple[int, ...],
    padding: Pairs,
    output_padding: tuple[int, ...],
    ends: tuple[Ends, ...],
    dilation: tuple[int, ...],
    groups: int,
) -> Float[Array, "out_channels *spatial_out"]:
    """Cross-correlation of the extended field with `stride - 1` zeros between its points: tap `t`
    of output `j` reads that field at `j + t * dilation - ((k - 1) * dilation - padding[0])`, `k`
    taps to the axis.
    """
    kernel_size = weight.shape[2:]
    before, after = transposed_widths(kernel_size, stride, padding, output_padding, dilation)
    x, zeros = _extend(x, before, ends)
    zeros = tuple(
        (lower * s + remainder[0], upper * s + remainder[1])
        for (lower, upper), s, remainder in zip(zeros, stride, after, strict=True)
    )
    return _correlate(x, weight, (1,) * len(stride), stride, zeros, dilation, groups)


def _extend(x: Array, widths: Pairs, ends: tuple[Ends, ...]) -> tuple[Array, Pairs]:
    """Extends `x`, except where the extension is zero, which a convolution adds by itself; the
    second result holds the widths that remain to be added.
    """
    zero = [tuple(mode == "dirichlet" for mode in pair) for pair in ends]
    own = [
        tuple(0 if z else w for w, z in zip(pair, flags, strict=True))
        for pair, flags in zip(widths, zero, strict=True)
    ]
    rest = tuple(
        (pair[0] - mine[0], pair[1] - mine[1]) for pair, mine in zip(widths, own, strict=True)
    )
    return pad(x, own, ends), rest


def _correlate(
    x: Array,
    weight: Array,
    stride: Sequence[int],
    interleaving: Sequence[int],
    zeros: Pairs,
    dilation: Sequence[int],
    groups: int,
) -> Array:
    for axis, (n, k, s, (lower, upper), d) in enumerate(
        zip(x.shape[1:], weight.shape[2:], interleaving, zeros, dilation, strict=True)
    ):
        size, span = (n - 1) * s + 1 + lower + upper, (k - 1) * d + 1
        if size < span:
            raise ValueError(
                f"`kernel_size` = {k} with `dilation` = {d} spans {span} points, more than the "
                f"{size} that spatial axis {axis} of `x` has with its padding."
            )
    out = lax.conv_general_dilated(
        lhs=jnp.expand_dims(x, 0),
        rhs=weight,
        window_strides=stride,
        padding=zeros,
        lhs_dilation=interleaving,
        rhs_dilation=dilation,
        feature_group_count=groups,
    )
    return jnp.squeeze(out, 0)
