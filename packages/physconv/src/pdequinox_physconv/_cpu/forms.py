"""Ways to carry out a convolution: functions of two arrays and a `Window`, all with one meaning.

A form carries out a task: the derivative of the trilinear form of `Window` by its `target`, from
the other two, which are `OPERANDS[target]`. It may word the task as others, and hands these to
`inner`. To add a form: write the function with its `@form` line here, and its line in `choice`;
the tests find it in `FORMS`.

What most of this is about is XLA's CPU backend (jaxlib 0.10.2; openxla's
`xla/backends/cpu/ynn_support.cc`, `backends/cpu/runtime/convolution_lib.h` and
`service/cpu/conv_canonicalization.cc`; docs/convolutions.md has the times):

- It has fast code for convolutions whose channels come last. It brings others into that order, but
  not inside of loops (`jax.lax.scan`, `map`, `while_loop`), where they run many times slower.
- In two dimensions YNNPACK takes a convolution that has no more outputs than inputs on any axis.
  Without any padding it first copies all patches, on one core; with some it does not.
- Eigen takes the others, in float32 and float16. In two dimensions it is as fast or faster; in
  three five times slower, and with `lhs_dilation` more than that.
- A grouped convolution is up to hundreds of times slower than one convolution for each group.
- More than 32 MB of temporary memory are new pages from the system at every call.
"""

from collections.abc import Callable
from functools import partial
from itertools import product
from math import prod
from typing import NamedTuple

import jax
import jax.lax as lax
import jax.numpy as jnp
from jaxtyping import Array

from pdequinox_operators import Shape, sum_dtype

from .._convolution import (
    Axis,
    flip,
    is_padded_product,
    pad_zeros,
    Pairs,
    reference as reference_task,
    sampled,
    Task,
    Window,
    without_padding,
)


class Form(NamedTuple):
    """A way to carry out a task, and for which targets and windows it is one."""

    accepts: Callable[[str, Window], bool]
    run: Callable[[str, Array, Array, Window, Task], Array]


FORMS: dict[str, Form] = {}


def form(accepts: Callable[[str, Window], bool]) -> Callable:
    """Enters a function in `FORMS` under its name."""

    def enter(function: Callable) -> Callable:
        FORMS[function.__name__] = Form(accepts, function)
        return function

    return enter


# Of the fields that one piece of a loop reads and writes: the cache of a core, and well below what
# takes new pages from the system.
_PIECE_BYTES = 2.5e6


def piece(count: int, each: int, turns: int = 1) -> int:
    """The largest divisor of `count` for which so many times `each` bytes are a piece of a loop of
    at least so many turns; 1 if there is none.
    """
    fits = lambda n: count % n == 0 and n * turns <= count and n * each <= _PIECE_BYTES
    return max((n for n in range(1, count + 1) if fits(n)), default=1)


def sample_bytes(window: Window, channels: tuple[int, int], dtype: jnp.dtype) -> int:
    """Counts the bytes of one sample of `x` and `y`."""
    c, o = channels
    return (c * prod(window.size) + o * prod(window.out)) * dtype.itemsize


def _unit(values: Shape) -> bool:
    return all(v == 1 for v in values)


def _convolve(
    x: Array, w: Array, window: Window, padding: Pairs, lhs_dilation: Shape | None = None
) -> Array:
    """XLA's convolution with the channels last, and with other padding than the window's."""
    d = len(window.axes)
    spatial = "DHW"[-d:]
    out = lax.conv_general_dilated(
        jnp.moveaxis(x, 1, -1),
        jnp.transpose(w, (*range(2, 2 + d), 1, 0)),
        window.stride,
        padding,
        lhs_dilation=lhs_dilation,
        rhs_dilation=window.dilation,
        feature_group_count=window.groups,
        dimension_numbers=(f"N{spatial}C", f"{spatial}IO", f"N{spatial}C"),
    )
    return jnp.moveaxis(out, -1, 1)


def _correlate(x: Array, y: Array, window: Window, padding: Pairs) -> Array:
    """The kernel's derivative as XLA's convolution of `x` with `y`: channels are samples, samples
    are channels, stride and dilation change places.
    """
    swapped = window.but(stride=window.dilation, dilation=window.stride)._replace(groups=1)
    x = pad_zeros(x, window.padding)
    w = _convolve(x.swapaxes(0, 1), y.swapaxes(0, 1), swapped, padding).swapaxes(0, 1)
    return lax.slice(w, (0,) * w.ndim, (*w.shape[:2], *window.taps))


@form(lambda target, window: True)
def reference(target: str, a: Array, b: Array, window: Window, inner: Task) -> Array:
    """XLA's convolution, and its transposes as JAX derives them."""
    return reference_task(target, a, b, window)


@form(lambda target, window: target == "x" and _unit(window.stride))
def flipped(target: str, y: Array, w: Array, window: Window, inner: Task) -> Array:
    """The transpose of a convolution of stride 1: a convolution with the flipped kernel."""
    lower = tuple(pair[0] for pair in window.transposed_padding)
    back = window.but(size=window.out, out=window.size, lower=lower)
    return inner("y", y, flip(w, window.groups), back)


def _last_accepts(target: str, window: Window) -> bool:
    if len(window.axes) > 3 or (target == "w" and window.groups > 1):
        return False
    return target != "x" or min(map(min, window.transposed_padding)) >= 0


@form(_last_accepts)
def last(target: str, a: Array, b: Array, window: Window, inner: Task) -> Array:
    """XLA's convolution with the channels last, dilated on the left for the transpose."""
    if target == "y":
        return _convolve(a, b, window, window.padding)
    if target == "w":
        return _correlate(a, b, window, ((0, 0),) * len(window.axes))
    one = window.but(stride=(1,) * len(window.axes))
    padding = window.transposed_padding
    return _convolve(a, flip(b, window.groups), one, padding, window.stride)


@form(
    lambda target, window: len(window.axes) == 2
    and target == "y"
    and _unit(window.stride)
    and min(map(min, window.padding)) >= 0
)
def wide(target: str, x: Array, w: Array, window: Window, inner: Task) -> Array:
    """For Eigen: one more output than there are inputs on one axis, which is dropped."""
    more = [max(0, n + 1 - m) for n, m in zip(window.size, window.out, strict=True)]
    axis = min((0, 1), key=lambda i: more[i] / window.size[i])
    padding = list(window.padding)
    padding[axis] = (padding[axis][0], padding[axis][1] + more[axis])
    out = _convolve(x, w, window, tuple(padding))
    return lax.slice(out, (0,) * 4, (*out.shape[:2], *window.out))


@form(
    lambda target, window: len(window.axes) == 2
    and (target == "y" or (target == "w" and window.groups == 1))
)
def nudged(target: str, a: Array, b: Array, window: Window, inner: Task) -> Array:
    """For YNNPACK: all of the padding is in the array, and one point more in the convolution, whose
    outputs, if any, are dropped.
    """
    x = pad_zeros(a, window.padding)
    padding = ((0, 1), (0, 0)) if x.shape[2] >= x.shape[3] else ((0, 0), (0, 1))
    if target == "w":
        return _correlate(a, b, window, padding)
    out = _convolve(x, b, window, padding)
    return lax.slice(out, (0,) * 4, (*out.shape[:2], *window.out))


@form(
    lambda target, window: len(window.axes) == 2
    and target == "w"
    and _unit(window.stride)
    and window.groups == 1
)
def rows(target: str, x: Array, y: Array, window: Window, inner: Task) -> Array:
    """Row by row of the kernel, each a task in one dimension: with both fields written one row
    after the other, at the width of the padded `x`, a tap `(a, b)` is a shift by `a * width + b`.
    """
    (k, kw), (d, dw), (m, mw) = window.taps, window.dilation, window.out
    x = pad_zeros(x, window.padding)
    width = x.shape[3]
    points = m * width - (width - mw)
    y = pad_zeros(y, ((0, 0), (0, width - mw))).reshape(*y.shape[:2], m * width)[:, :, :points]
    x = x.reshape(*x.shape[:2], -1)
    size = points + (kw - 1) * dw
    line = Window((Axis(size, kw, points, 1, dw, 0),))
    out: list[Array] = []
    for tap in range(k):
        row = lax.slice_in_dim(x, tap * d * width, tap * d * width + size, axis=2)
        out.append(inner("w", row, y, line))
    return jnp.stack(out, axis=2)


@form(lambda target, window: len(window.axes) == 1)
def line(target: str, a: Array, b: Array, window: Window, inner: Task) -> Array:
    """One dimension as two."""
    plane = window._replace(axes=(Axis(1, 1, 1, 1, 1, 0), *window.axes))
    return jnp.squeeze(inner(target, jnp.expand_dims(a, 2), jnp.expand_dims(b, 2), plane), 2)


@form(lambda target, window: len(window.axes) > 1 and target != "x" and window.groups == 1)
def planes(target: str, a: Array, b: Array, window: Window, inner: Task) -> Array:
    """One dimension less: the points of the first axis are samples, its taps are channels."""
    _, k, m, s, d, _ = window.axes[0]
    x = pad_zeros(a, (window.padding[0], *((0, 0),) * (a.ndim - 3)))
    samples, channels = x.shape[:2]
    rest = window._replace(axes=window.axes[1:])
    if target == "y":
        w = jnp.moveaxis(b, 2, 1).reshape(b.shape[0], k * channels, *rest.taps)

    def some(first: int | Array, count: int) -> Array:
        """Computes the outputs `first, ..., first + count - 1` of the first axis."""
        part = lax.dynamic_slice_in_dim(x, first * s, (count - 1) * s + (k - 1) * d + 1, axis=2)
        at = [
            lax.slice_in_dim(part, t * d, t * d + (count - 1) * s + 1, s, axis=2) for t in range(k)
        ]
        part = jnp.moveaxis(jnp.concatenate(at, axis=1), 2, 1)
        part = part.reshape(samples * count, k * channels, *rest.size)
        if target == "y":
            return inner("y", part, w, rest).reshape(samples, count, -1, *rest.out)
        y = jnp.moveaxis(lax.dynamic_slice_in_dim(b, first, count, axis=2), 2, 1)
        return inner("w", part, y.reshape(samples * count, -1, *rest.out), rest)

    each = samples * k * channels * prod(rest.size) * x.dtype.itemsize
    count = piece(m, each)
    if count == m:
        out = some(0, m)
        if target == "y":
            return jnp.moveaxis(out, 1, 2)
    elif target == "y":
        out = lax.map(lambda i: some(i * count, count), jnp.arange(m // count))
        # [m // count, samples, count, o, ...] to [samples, o, m, ...]
        out = jnp.moveaxis(out, (0, 3), (2, 1))
        return out.reshape(*out.shape[:2], m, *rest.out)
    else:
        dtype = sum_dtype(x.dtype)
        zero = jnp.zeros((b.shape[1], k * channels, *rest.taps), dtype)
        add = lambda i, total: total + some(i * count, count).astype(dtype)
        out = lax.fori_loop(0, m // count, add, zero).astype(x.dtype)
    return jnp.moveaxis(out.reshape(-1, k, channels, *rest.taps), 1, 2)


@form(lambda target, window: True)
def pieces(target: str, a: Array, b: Array, window: Window, inner: Task) -> Array:
    """A few samples at a time, in a loop."""
    samples = a.shape[0]
    count = piece(samples, sample_bytes(window, window.channels(target, a.shape, b.shape), a.dtype))
    split = lambda v: v.reshape(samples // count, count, *v.shape[1:])
    if target != "w":
        out = lax.map(lambda part: inner(target, part, b, window), split(a))
        return out.reshape(samples, *out.shape[2:])
    shape = window.shape("w", count, (a.shape[1], b.shape[1]))
    dtype = sum_dtype(a.dtype)
    add = lambda total, pair: (total + inner("w", *pair, window).astype(dtype), None)
    return lax.scan(add, jnp.zeros(shape, dtype), (split(a), split(b)))[0].astype(a.dtype)


@form(lambda target, window: target != "x")
def shifted(target: str, a: Array, b: Array, window: Window, inner: Task) -> Array:
    """Tap by tap and channel by channel, without any convolution: sums of products of shifted
    fields, which XLA fuses to one loop.
    """
    g, dims = window.groups, len(window.axes)
    x = pad_zeros(a, window.padding)
    samples, c = x.shape[0], x.shape[1] // g
    dtype = sum_dtype(x.dtype)

    def at(x: Array, tap: Shape) -> Array:
        start = [t * d for t, d in zip(tap, window.dilation, strict=True)]
        stop = [
            p + (m - 1) * s + 1 for p, m, s in zip(start, window.out, window.stride, strict=True)
        ]
        field = lax.slice(x, (0, 0, *start), (*x.shape[:2], *stop), (1, 1, *window.stride))
        return field.astype(dtype).reshape(x.shape[0], -1, c, *window.out)

    taps = list(product(*map(range, window.taps)))
    if target == "y":
        o = b.shape[0] // g
        w = b.astype(dtype).reshape(g, o, c, *window.taps)

        def some(x: Array, w: Array) -> Array:
            """Convolves some of the samples and groups."""
            y = jnp.zeros((), dtype)
            for tap in taps:
                field = at(x, tap)
                for i in range(c):
                    weight = w[:, :, i, *tap].reshape(1, -1, o, *(1,) * dims)
                    y = y + field[:, :, i, None] * weight
            return y.reshape(x.shape[0], -1, *window.out).astype(x.dtype)

        # In a loop of two turns or more: without it XLA sums anew in every use of `y`.
        if samples > 1:
            count = piece(samples, sample_bytes(window, (c * g, o * g), x.dtype), turns=2)
            parts = x.reshape(-1, count, *x.shape[1:])
            return lax.map(lambda x: some(x, w), parts).reshape(samples, -1, *window.out)
        if g > 1:
            count = piece(g, sample_bytes(window, (c, o), x.dtype), turns=2)
            parts = (
                x.reshape(-1, 1, count * c, *x.shape[2:]),
                w.reshape(-1, count, *w.shape[1:]),
            )
            return lax.map(lambda xw: some(*xw), parts).reshape(1, -1, *window.out)
        return some(x, w)

    y = b.astype(dtype).reshape(samples, g, -1, *window.out)
    o = y.shape[2]
    pairs = list(product(taps, range(o), range(c)))
    products = [at(x, tap)[:, :, j] * y[:, :, i] for tap, i, j in pairs]
    # One reduction of many arrays reads the fields once. The last axis stays, as the lanes of
    # vector instructions, and is summed in a second step.
    zero = jnp.zeros((), dtype)
    add = lambda p, q: tuple(u + v for u, v in zip(p, q, strict=True))
    sums = lax.reduce(tuple(products), (zero,) * len(products), add, (0, *range(2, 1 + dims)))
    w = jnp.stack(sums, axis=1).sum(-1).reshape(g, *window.taps, o, c)
    w = jnp.moveaxis(w, (1 + dims, 2 + dims), (1, 2))
    return w.reshape(g * o, c, *window.taps).astype(x.dtype)


@form(
    lambda target, window: target == "x"
    and window.groups == 1
    and all(s == 1 or d == 1 for s, d in zip(window.stride, window.dilation, strict=True))
)
def phases(target: str, y: Array, w: Array, window: Window, inner: Task) -> Array:
    """The transpose of a strided convolution, at stride 1: the points of `x` whose position plus
    `lower` is `r` modulo the stride `s` see the taps `r + s * a` of the kernel only. Phases with as
    many taps are channels of one convolution. (Shi et al. 2016, "Is the deconvolution layer the
    same as a convolutional layer?", arXiv:1609.07009, which fills the kernel up with zeros to taps
    for all: these would carry a NaN to points that do not see it.)
    """
    s, c, dims = window.stride, w.shape[1], len(window.axes)
    # Point `r + s * m - lower` of `x` is point `m - first` of phase `r`.
    first = tuple(low // step for low, step in zip(window.lower, s, strict=True))
    last = tuple((a.size - 1 + a.lower) // a.stride for a in window.axes)
    coarse = window.but(
        size=tuple(b - a + 1 for a, b in zip(first, last, strict=True)),
        stride=(1,) * dims,
        lower=first,
    )

    def of_phases(chosen: tuple[range, ...], taps: Shape) -> Array:
        """Those phases, as the axes after the channels."""
        counts = tuple(map(len, chosen))
        if 0 in taps:
            return jnp.zeros((y.shape[0], c, *counts, *coarse.size), y.dtype)
        start = (0, 0, *(phases.start for phases in chosen))
        kernel = w
        for axis, (k, step, count) in enumerate(zip(taps, s, counts, strict=True)):
            # The taps `r + step * a` of the chosen `r`, at place `(a, r)`.
            at = [start[2 + axis] + step * a for a in range(k)]
            rows = [lax.slice_in_dim(kernel, i, i + count, axis=2 + 2 * axis) for i in at]
            kernel = jnp.stack(rows, axis=2 + 2 * axis)
        order = (*(3 + 2 * i for i in range(dims)), *(2 + 2 * i for i in range(dims)))
        kernel = kernel.transpose(0, 1, *order).reshape(w.shape[0], c * prod(counts), *taps)
        part = inner("x", y, kernel, coarse.but(taps=taps))
        return part.reshape(part.shape[0], c, *counts, *coarse.size)

    # The first phases of an axis have one tap more than the others, unless all have as many.
    choices = []
    for k, step in zip(window.taps, s, strict=True):
        more = (k - 1) % step + 1
        most = -(-k // step)
        choices.append([(range(more), most), (range(more, step), most - 1)][: 1 + (more < step)])

    def together(chosen: list[tuple[range, int]]) -> Array:
        axis = len(chosen)
        if axis == dims:
            return of_phases(tuple(r for r, _ in chosen), tuple(k for _, k in chosen))
        parts = [together([*chosen, choice]) for choice in choices[axis]]
        return parts[0] if len(parts) == 1 else jnp.concatenate(parts, axis=2 + axis)

    x = together([])
    x = x.transpose(0, 1, *(v for i in range(dims) for v in (2 + dims + i, 2 + i)))
    x = x.reshape(*x.shape[:2], *(n * step for n, step in zip(coarse.size, s, strict=True)))
    start = tuple(low % step for low, step in zip(window.lower, s, strict=True))
    stop = tuple(a + n for a, n in zip(start, window.size, strict=True))
    return lax.slice(x, (0, 0, *start), (*x.shape[:2], *stop))


@form(lambda target, window: window.groups > 1)
def split(target: str, a: Array, b: Array, window: Window, inner: Task) -> Array:
    """Every group by itself."""
    one = window._replace(groups=1)
    a_parts = jnp.split(a, window.groups, axis=1)
    b_parts = jnp.split(b, window.groups, axis=1 if target == "w" else 0)
    parts = [inner(target, *pair, one) for pair in zip(a_parts, b_parts, strict=True)]
    return jnp.concatenate(parts, axis=0 if target == "w" else 1)


def _is_product(window: Window) -> bool:
    plain = _unit(window.stride) and not any(map(any, window.padding))
    return _unit(window.taps) and (plain or is_padded_product(window))


@form(lambda target, window: window.groups == 1 and _is_product(window))
def matrix(target: str, a: Array, b: Array, window: Window, inner: Task) -> Array:
    """A kernel of one tap: a product of matrices, with one column for each point; and zeros around,
    where `y` reads padding.
    """
    if is_padded_product(window):
        product, around = without_padding(window)
        crop = tuple((-low, -up) for low, up in around)
        if target == "y":
            return pad_zeros(matrix("y", sampled(a, window), b, product, inner), around)
        if target == "w":
            return matrix("w", sampled(a, window), pad_zeros(b, crop), product, inner)
        like = jax.ShapeDtypeStruct((a.shape[0], b.shape[1], *window.size), a.dtype)
        x = matrix("x", pad_zeros(a, crop), b, product, inner)
        return jax.linear_transpose(lambda x: sampled(x, window), like)(x)[0]

    flat = lambda field: field.reshape(*field.shape[:2], -1)
    einsum = partial(jnp.einsum, preferred_element_type=sum_dtype(a.dtype))
    if target == "w":
        out = einsum("bcn,bon->oc", flat(a), flat(b))
        return out.reshape(*out.shape, *window.taps).astype(a.dtype)
    w = b.reshape(b.shape[:2])
    out = einsum("oc,bcn->bon" if target == "y" else "oc,bon->bcn", w, flat(a))
    return out.reshape(*out.shape[:2], *window.size).astype(a.dtype)
