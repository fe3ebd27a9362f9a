"""Both convolutions of one sample: the field is extended, and what is then left is a `Window`."""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from pdequinox_padding import Ends, transposed_widths
from pdequinox_padding.meshes import on_auto_axes

from ._partition import Extension
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
    own, zeros = _without_zeros(padding, ends)
    extension = Extension("x", own, ends)
    taps, size = weight.shape[2:], _extended(x, own)
    span = [n + sum(pair) for n, pair in zip(size, zeros, strict=True)]
    _check_span(span, taps, dilation)
    out = tuple(
        (n - (k - 1) * d - 1) // s + 1
        for n, k, d, s in zip(span, taps, dilation, stride, strict=True)
    )
    lower = tuple(pair[0] for pair in zeros)
    window = Window(size, taps, out, stride, dilation, lower, groups)
    return _carry_out(lambda x, w: convolve(x, w, window, form, extension), x, weight, out)


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
    own, zeros = _without_zeros(before, ends)
    extension = Extension("y", own, ends)
    added = tuple(pair[0] - left[0] for pair, left in zip(before, zeros, strict=True))
    # The extension begins `added` points below the field.
    lower = tuple(pair[0] + n * s for pair, n, s in zip(padding, added, stride, strict=True))
    window = Window(out, taps, _extended(x, own), stride, dilation, lower, groups)
    return _carry_out(
        lambda x, w: convolve_transposed(x, flip(w, groups), window, form, extension),
        x,
        weight,
        out,
    )


def _check_span(size: Sequence[int], taps: Integers, dilation: Integers) -> None:
    for axis, (n, k, d) in enumerate(zip(size, taps, dilation, strict=True)):
        if n < (k - 1) * d + 1:
            raise ValueError(
                f"`kernel_size` = {k} with `dilation` = {d} spans {(k - 1) * d + 1} points, more "
                f"than the {n} that spatial axis {axis} of `x` has with its padding."
            )


def _without_zeros(widths: Pairs, ends: tuple[Ends, ...]) -> tuple[Pairs, Pairs]:
    """The widths of the extension, without those where it is zero; and the latter, which a
    convolution adds by itself.
    """
    own = tuple(
        (0 if low == "dirichlet" else lower, 0 if up == "dirichlet" else upper)
        for (lower, upper), (low, up) in zip(widths, ends, strict=True)
    )
    rest = tuple(
        (pair[0] - mine[0], pair[1] - mine[1]) for pair, mine in zip(widths, own, strict=True)
    )
    return own, rest


def _extended(x: Array, widths: Pairs) -> Integers:
    return tuple(n + sum(pair) for n, pair in zip(x.shape[1:], widths, strict=True))


def _carry_out(
    function: Callable[[Array, Array], Array], x: Array, weight: Array, out: Integers
) -> Array:
    """For one sample. On a mesh with explicit axes the result's channels are split as the kernel's,
    its points as the field's.
    """
    one = lambda x, w: jnp.squeeze(function(jnp.expand_dims(x, 0), w), 0)
    split = lambda x, w: (w[0], *x[1:])
    return on_auto_axes(one, (weight.shape[0], *out), split, x, weight)
