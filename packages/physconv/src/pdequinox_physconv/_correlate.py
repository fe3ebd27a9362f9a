"""Both convolutions of one sample: the field is extended, and what is then left is a `Window`."""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from pdequinox_padding import Ends, pad, transposed_widths

from ._trilinear import convolve, convolve_transposed
from ._window import flip, Integers, Pairs, Window


def correlate(
    x: Float[Array, "in_channels *spatial"],
    weight: Float[Array, "out_channels in_channels_per_group *kernel"],
    *,
    stride: Integers,
    padding: Pairs,
    ends: tuple[Ends, ...],
    dilation: Integers,
    groups: int,
    form: str | None = None,
) -> Float[Array, "out_channels *spatial_out"]:
    """Cross-correlation of the extended field: tap `t` of output `i` reads the extension at
    `i * stride + t * dilation - padding[0]`.

    `form` names the form of `_forms` that carries it out; `None` leaves the choice to `_choice`.
    """
    x, zeros = _extend(x, padding, ends)
    taps, size = weight.shape[2:], x.shape[1:]
    span = [n + sum(pair) for n, pair in zip(size, zeros, strict=True)]
    _check_span(span, taps, dilation)
    out = tuple(
        (n - (k - 1) * d - 1) // s + 1
        for n, k, d, s in zip(span, taps, dilation, stride, strict=True)
    )
    lower = tuple(pair[0] for pair in zeros)
    window = Window(size, taps, out, stride, dilation, lower, groups)
    return jnp.squeeze(convolve(jnp.expand_dims(x, 0), weight, window, form), 0)


def correlate_transposed(
    x: Float[Array, "in_channels *spatial"],
    weight: Float[Array, "out_channels in_channels_per_group *kernel"],
    *,
    stride: Integers,
    padding: Pairs,
    output_padding: Integers,
    ends: tuple[Ends, ...],
    dilation: Integers,
    groups: int,
    form: str | None = None,
) -> Float[Array, "out_channels *spatial_out"]:
    """Cross-correlation of the extended field with `stride - 1` zeros between its points: tap `t`
    of output `j` reads that field at `j + t * dilation - ((k - 1) * dilation - padding[0])`, `k`
    taps to the axis.

    It is the transpose of the convolution with the same padding and with the kernel flipped and its
    channels swapped: point `i * stride` of that field adds the flipped kernel's tap `t` to output
    `i * stride + t * dilation - padding[0]`.
    """
    taps, size = weight.shape[2:], x.shape[1:]
    out = tuple(
        (n - 1) * s + 1 + (k - 1) * d - sum(pair) + o
        for n, s, k, d, pair, o in zip(
            size, stride, taps, dilation, padding, output_padding, strict=True
        )
    )
    span = [m + (k - 1) * d for m, k, d in zip(out, taps, dilation, strict=True)]
    _check_span(span, taps, dilation)
    before, _ = transposed_widths(taps, stride, padding, output_padding, dilation)
    x, zeros = _extend(x, before, ends)
    added = tuple(pair[0] - left[0] for pair, left in zip(before, zeros, strict=True))
    # The extension begins `added` points below the field.
    lower = tuple(pair[0] + n * s for pair, n, s in zip(padding, added, stride, strict=True))
    window = Window(out, taps, x.shape[1:], stride, dilation, lower, groups)
    return jnp.squeeze(
        convolve_transposed(jnp.expand_dims(x, 0), flip(weight, groups), window, form), 0
    )


def _check_span(size: Sequence[int], taps: Integers, dilation: Integers) -> None:
    for axis, (n, k, d) in enumerate(zip(size, taps, dilation, strict=True)):
        if n < (k - 1) * d + 1:
            raise ValueError(
                f"`kernel_size` = {k} with `dilation` = {d} spans {(k - 1) * d + 1} points, more "
                f"than the {n} that spatial axis {axis} of `x` has with its padding."
            )


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
