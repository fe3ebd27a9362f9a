"""Defines ways to carry out a convolution: equivalent functions of two arrays and a `Window`.

A form carries out a task: the derivative of the trilinear form of `Window` by its `target`, from
the other two arrays, which are `OPERANDS[target]`. It may express the task by others, and hand
these to `inner`. To add a form, write the function with its `@form` line here, and its rule in
`choice`; the tests find it in `FORMS`.

The forms follow from the structure of the work, and from what XLA's CPU backend has done in all
versions measured (jaxlib 0.10.2 and 0.12.0.1; `hatch run benchmark:choice`):

- It has fast code for convolutions in one and two dimensions whose channels come last. It brings
  others into that order, but not inside loops (`jax.lax.scan`, `map`, `while_loop`), where they run
  many times slower.
- Its code is slower in three dimensions, with zeros between the points (`lhs_dilation`), and on one
  axis in float64.
- A grouped convolution is up to hundreds of times slower than one convolution for each group.
- Temporary memory beyond 32 MB takes new pages from the system at every call.
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
    """Holds a way to carry out a task, and says which targets and windows it accepts."""

    accepts: Callable[[str, Window], bool]
    run: Callable[[str, Array, Array, Window, Task], Array]


FORMS: dict[str, Form] = {}


def form(accepts: Callable[[str, Window], bool]) -> Callable:
    """Enters a function in `FORMS` under its name."""

    def enter(function: Callable) -> Callable:
        FORMS[function.__name__] = Form(accepts, function)
        return function

    return enter


# The size of the fields that one piece of a loop reads and writes: it fits in the cache of a core,
# and is well below what takes new pages from the system.
_PIECE_BYTES = 2.5e6


def piece(count: int, each: int, turns: int = 1) -> int:
    """Finds the largest divisor `n` of `count` for which `n * each` bytes fit in one piece of a
    loop, and the loop has at least `turns` turns; 1 if there is none.
    """
    fits = lambda n: count % n == 0 and n * turns <= count and n * each <= _PIECE_BYTES
    return max((n for n in range(1, count + 1) if fits(n)), default=1)


def in_turns(task: Callable[..., Array], *operands: Array, most: int = 8) -> Array:
    """Carries out a task for every entry of the operands' first axis. Up to `most` of them are
    written out, which takes time to compile; more of them run in a loop of turns of equal size.
    """
    count = operands[0].shape[0]

    def write_out(*parts: Array) -> Array:
        return jnp.stack([task(*(v[i] for v in parts)) for i in range(parts[0].shape[0])])

    if count <= most:
        return write_out(*operands)
    each = max(n for n in range(1, most + 1) if count % n == 0)
    turns = [v.reshape(-1, each, *v.shape[1:]) for v in operands]
    out = lax.map(lambda parts: write_out(*parts), tuple(turns))
    return out.reshape(count, *out.shape[2:])


def sample_bytes(window: Window, channels: tuple[int, int], dtype: jnp.dtype) -> int:
    """Counts the bytes of one sample of `x` and `y`."""
    c, o = channels
    return (c * prod(window.size) + o * prod(window.out)) * dtype.itemsize


def _unit(values: Shape) -> bool:
    return all(v == 1 for v in values)


def _convolve(
    x: Array, w: Array, window: Window, padding: Pairs, lhs_dilation: Shape | None = None
) -> Array:
    """Calls XLA's convolution with the channels last, and with other padding than the window's."""
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


def _correlate(x: Array, y: Array, window: Window) -> Array:
    """Computes the kernel's derivative by XLA's convolution of `x` with `y`: channels are samples,
    samples are channels, and stride and dilation change places.
    """
    swapped = window.but(stride=window.dilation, dilation=window.stride)._replace(groups=1)
    return _convolve(x.swapaxes(0, 1), y.swapaxes(0, 1), swapped, window.padding).swapaxes(0, 1)


@form(lambda target, window: True)
def reference(target: str, a: Array, b: Array, window: Window, inner: Task) -> Array:
    """Calls XLA's convolution, and its transposes as JAX derives them."""
    return reference_task(target, a, b, window)


@form(lambda target, window: target == "x" and _unit(window.stride))
def flipped(target: str, y: Array, w: Array, window: Window, inner: Task) -> Array:
    """Turns the transpose of a convolution of stride 1 into one with the flipped kernel."""
    lower = tuple(pair[0] for pair in window.transposed_padding)
    back = window.but(size=window.out, out=window.size, lower=lower)
    return inner("y", y, flip(w, window.groups), back)


def _last_accepts(target: str, window: Window) -> bool:
    if len(window.axes) > 3 or (target == "w" and window.groups > 1):
        return False
    return target != "x" or min(map(min, window.transposed_padding)) >= 0


@form(_last_accepts)
def last(target: str, a: Array, b: Array, window: Window, inner: Task) -> Array:
    """Calls XLA's convolution with the channels last, dilated on the left for the transpose."""
    if target == "y":
        return _convolve(a, b, window, window.padding)
    if target == "w":
        return _correlate(a, b, window)
    one = window.but(stride=(1,) * len(window.axes))
    padding = window.transposed_padding
    return _convolve(a, flip(b, window.groups), one, padding, window.stride)


@form(lambda target, window: len(window.axes) == 1)
def line(target: str, a: Array, b: Array, window: Window, inner: Task) -> Array:
    """Treats one dimension as two."""
    plane = window._replace(axes=(Axis(1, 1, 1, 1, 1, 0), *window.axes))
    return jnp.squeeze(inner(target, jnp.expand_dims(a, 2), jnp.expand_dims(b, 2), plane), 2)


@form(lambda target, window: len(window.axes) > 1 and target != "x" and window.groups == 1)
def planes(target: str, a: Array, b: Array, window: Window, inner: Task) -> Array:
    """Removes a dimension: the points of the first axis are samples, and its taps are channels."""
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


# The most products that `shifted` writes out for a channel. For the kernel, each is its own array.
PRODUCTS = {"y": 64, "w": 12}


@form(lambda target, window: target != "x" and prod(window.taps) > 1)
def taps(target: str, a: Array, b: Array, window: Window, inner: Task) -> Array:
    """Takes a few taps at a time, in a loop, as slices of the first axis with several taps."""
    i = next(i for i, k in enumerate(window.taps) if k > 1)
    _, k, m, s, d, _ = window.axes[i]
    c, o = (n // window.groups for n in window.channels(target, a.shape, b.shape))
    each_tap = prod(window.taps[i + 1 :]) * (c if target == "y" else c * o)
    most = max(1, PRODUCTS[target] // each_tap)
    turns = -(-k // most)
    each, rest = divmod(k, turns)
    dtype = a.dtype
    a, b = (v.astype(sum_dtype(dtype)) for v in (a, b))
    x = pad_zeros(a, window.padding)
    padded = window.but(size=x.shape[2:], lower=(0,) * len(window.axes))

    def some(first: int | Array, count: int) -> Array:
        """Computes what the taps `first, ..., first + count - 1` contribute."""
        size = (m - 1) * s + (count - 1) * d + 1
        axes = list(padded.axes)
        axes[i] = axes[i]._replace(size=size, taps=count)
        part = lax.dynamic_slice_in_dim(x, first * d, size, axis=2 + i)
        w = b if target == "w" else lax.dynamic_slice_in_dim(b, first, count, axis=2 + i)
        return inner(target, part, w, padded._replace(axes=tuple(axes)))

    if target == "y":
        zero = jnp.zeros(window.shape("y", a.shape[0], (a.shape[1], b.shape[0])), a.dtype)
        out = lax.fori_loop(0, turns, lambda n, total: total + some(n * each, each), zero)
        return (out + some(k - rest, rest) if rest else out).astype(dtype)
    out = jnp.moveaxis(lax.map(lambda n: some(n * each, each), jnp.arange(turns)), 0, 2 + i)
    out = out.reshape(*out.shape[: 2 + i], -1, *out.shape[4 + i :])
    if rest:
        out = jnp.concatenate([out, some(k - rest, rest)], axis=2 + i)
    return out.astype(dtype)


def _row(window: Window) -> int:
    """Chooses how many outputs form a row of `band`: no fewer than the kernel's span."""
    return max(_ROW, 1 << (window.axes[0].span - 1).bit_length())


_ROW = 16


@form(
    lambda target, window: len(window.axes) == 1 and target == "w" and window.out[0] >= _row(window)
)
def band(target: str, x: Array, y: Array, window: Window, inner: Task) -> Array:
    """Computes the kernel's derivative in one dimension by a product of matrices for each group. It
    multiplies all points in a row of `x` with all points in a row of `y`; sums along diagonals are
    the taps.
    """
    (axis,), row, dtype = window.axes, _row(window), sum_dtype(x.dtype)
    x = pad_zeros(x, window.padding)
    samples, stride = x.shape[0], axis.stride
    count, rest = divmod(axis.out, row)
    # Rows of `x` end with what the last outputs read of the next row.
    size = (row - 1) * stride + axis.span
    rows = pad_zeros(x, ((0, (count + 1) * row * stride - x.shape[2]),))
    rows = rows.reshape(samples, window.groups, -1, count + 1, row * stride)
    rows = jnp.concatenate([rows[:, :, :, :-1], rows[:, :, :, 1:]], axis=4)[..., :size]
    of_y = y[:, :, : count * row].reshape(samples, window.groups, -1, count, row)
    summed = (((0, 3), (0, 3)), ((1,), (1,)))
    out = lax.dot_general(of_y, rows, summed, preferred_element_type=dtype)
    # [groups, o, row, c, size]: output `i` sees tap `t` at `i * stride + t * dilation`. With all
    # rows in one line, this is place `i * (size + stride) + t * dilation`.
    out = jnp.moveaxis(out, 2, 3).reshape(*(out.shape[i] for i in (0, 1, 3)), row * size)
    out = jnp.pad(out, ((0, 0),) * 3 + ((0, row * stride),))
    out = out.reshape(*out.shape[:3], row, size + stride)[..., : axis.span : axis.dilation]
    w = out.sum(3).reshape(-1, *out.shape[2:3], axis.taps).astype(x.dtype)
    if rest:
        line = axis._replace(size=x.shape[2] - count * row * stride, out=rest, lower=0)
        ends = (x[:, :, count * row * stride :], y[:, :, count * row :])
        w += inner("w", *ends, window._replace(axes=(line,)))
    return w


@form(lambda target, window: target != "x")
def shifted(target: str, a: Array, b: Array, window: Window, inner: Task) -> Array:
    """Sums products of shifted fields, tap by tap and channel by channel, without any convolution.
    XLA fuses them to one loop.
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

        # The loop has at least two turns: without it, XLA sums again in every use of `y`.
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
    # One reduction of many arrays reads the fields once. The last axis is kept, as the lanes of
    # vector instructions, and is summed in a second step.
    zero = jnp.zeros((), dtype)
    add = lambda p, q: tuple(u + v for u, v in zip(p, q, strict=True))
    sums = lax.reduce(tuple(products), (zero,) * len(products), add, (0, *range(2, 1 + dims)))
    w = jnp.stack(sums, axis=1).sum(-1).reshape(g, *window.taps, o, c)
    w = jnp.moveaxis(w, (1 + dims, 2 + dims), (1, 2))
    return w.reshape(g * o, c, *window.taps).astype(x.dtype)


@form(
    lambda target, window: target == "x"
    and not _unit(window.stride)
    and all(s == 1 or d == 1 for s, d in zip(window.stride, window.dilation, strict=True))
)
def phases(target: str, y: Array, w: Array, window: Window, inner: Task) -> Array:
    """Computes the transpose of a strided convolution at stride 1: the points of `x` whose position
    plus `lower` is `r` modulo the stride `s` see only the taps `r + s * a` of the kernel. Phases
    with equally many taps are channels of one convolution. (Shi et al. 2016, "Is the deconvolution
    layer the same as a convolutional layer?", arXiv:1609.07009, fill the kernel up with zeros, so
    that all phases have equally many; the zeros would carry a NaN to points that do not see it.)
    """
    s, c, dims = window.stride, w.shape[1], len(window.axes)
    channels = window.groups * c
    # Point `r + s * m - lower` of `x` is point `m - first` of phase `r`.
    first = tuple(low // step for low, step in zip(window.lower, s, strict=True))
    last = tuple((a.size - 1 + a.lower) // a.stride for a in window.axes)
    coarse = window.but(
        size=tuple(b - a + 1 for a, b in zip(first, last, strict=True)),
        stride=(1,) * dims,
        lower=first,
    )

    def of_phases(chosen: tuple[range, ...], taps: Shape) -> Array:
        """Computes these phases, as the axes after the channels."""
        counts = tuple(map(len, chosen))
        if 0 in taps:
            return jnp.zeros((y.shape[0], channels, *counts, *coarse.size), y.dtype)
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
        return part.reshape(part.shape[0], channels, *counts, *coarse.size)

    # The first phases of an axis have one tap more than the others, unless all have equally many.
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
    """Convolves every group separately."""
    one = window._replace(groups=1)
    own = 1 if target == "w" else 0
    parts = [
        jnp.moveaxis(v.reshape(*v.shape[:at], window.groups, -1, *v.shape[at + 1 :]), at, 0)
        for v, at in ((a, 1), (b, own))
    ]
    out = jnp.moveaxis(in_turns(lambda a, b: inner(target, a, b, one), *parts), 0, 1 - own)
    return out.reshape(*out.shape[: 1 - own], -1, *out.shape[3 - own :])


def _is_product(window: Window) -> bool:
    plain = _unit(window.stride) and not any(map(any, window.padding))
    return _unit(window.taps) and (plain or is_padded_product(window))


@form(lambda target, window: window.groups == 1 and _is_product(window))
def matrix(target: str, a: Array, b: Array, window: Window, inner: Task) -> Array:
    """Turns a kernel of one tap into a product of matrices, with one column for each point, and
    with zeros around it where `y` reads padding.
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
    # With a small matrix copied for each sample, XLA takes the fields as they are. Without copies,
    # it brings the channels of all samples together for the product, and back.
    small = lambda w: 2 * prod(w) <= sum(w) * prod(window.size)
    if target == "w":
        each = small((a.shape[1], b.shape[1]))
        out = einsum("bcn,bon->boc" if each else "bcn,bon->oc", flat(a), flat(b))
        out = out.sum(0) if each else out
        return out.reshape(*out.shape, *window.taps).astype(a.dtype)
    w = b.reshape(b.shape[:2])
    copies = "b" if small(w.shape) else ""
    w = jnp.broadcast_to(w, (*a.shape[: len(copies)], *w.shape))
    out = einsum(f"{copies}{'oc,bcn->bon' if target == 'y' else 'oc,bon->bcn'}", w, flat(a))
    return out.reshape(*out.shape[:2], *window.size).astype(a.dtype)
