"""Computes the padding of "same" convolutions and their transposes; pure functions on integers."""

from collections.abc import Sequence
from typing import TypeAlias


Pairs: TypeAlias = tuple[tuple[int, int], ...]
"""Holds two integers for every axis, one for each of its ends."""


def same_padding(kernel_size: Sequence[int], dilation: Sequence[int]) -> Pairs:
    """Finds by how many points a "same" convolution reads beyond the two ends of each axis.

    For an axis with kernel size `k` and dilation `d`, the pair is
    `((k - 1) // 2 * d, k // 2 * d)`: tap `t` of output `i` reads the field at
    `i * stride + (t - (k - 1) // 2) * d`. Even kernels have their extra tap on the upper side.
    With this padding, an axis of `N` points has `ceil(N / stride)` outputs.

    **Arguments:**

    - `kernel_size`, `dilation`: One integer >= 1 per axis, not checked.

    **Returns:**

    One `(lower, upper)` pair of widths per axis.
    """
    return tuple(((k - 1) // 2 * d, k // 2 * d) for k, d in zip(kernel_size, dilation, strict=True))


def transposed_widths(
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Pairs,
    output_padding: Sequence[int],
    dilation: Sequence[int],
) -> tuple[Pairs, Pairs]:
    """Finds how to extend the input of a transposed convolution, before and after `stride - 1`
    zeros are put between its points.

    The transpose of a convolution with padding `(l, u)` is an ordinary convolution over the
    zero-interleaved field, extended by `(k - 1) * d - l` below and `(k - 1) * d - u + o` above
    (Dumoulin and Visin, "A guide to convolution arithmetic for deep learning",
    https://arxiv.org/abs/1603.07285, Relationship 14). Beyond an end, one of every `stride` points
    belongs to the field's own extension, so a width `w` on the fine grid takes `w // stride`
    points of that extension, and `w % stride` zeros beyond them.

    **Arguments:**

    - `kernel_size`, `stride`, `output_padding`, `dilation`: One integer per axis, not checked.
    - `padding`: One `(lower, upper)` pair per axis: the padding of the convolution that is
        transposed. For a "same" convolution, use [`pdequinox_padding.same_padding`][].

    **Returns:**

    Two tuples of `(lower, upper)` pairs: the points of the extension to add before the
    interleaving, and the zeros to add after it. The latter are negative where `padding` is larger
    than `(k - 1) * d`: then that many points are cut off.
    """
    before, after = [], []
    for k, s, (lower, upper), o, d in zip(
        kernel_size, stride, padding, output_padding, dilation, strict=True
    ):
        fine = ((k - 1) * d - lower, (k - 1) * d - upper + o)
        coarse = (max(fine[0], 0) // s, max(fine[1], 0) // s)
        before.append(coarse)
        after.append((fine[0] - coarse[0] * s, fine[1] - coarse[1] * s))
    return tuple(before), tuple(after)
