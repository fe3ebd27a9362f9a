"""Defines what the layers compute: one trilinear form behind both convolutions, its integers axis
by axis, and its three derivatives in JAX's own operations.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.lax as lax
import jax.numpy as jnp
from jaxtyping import Array

from pdequinox_operators import Shape, transposed
from pdequinox_padding import Boundary, transposed_widths
from pdequinox_padding._pad import extend


Pairs: TypeAlias = tuple[tuple[Any, Any], ...]

OPERANDS = {"x": "yw", "w": "xy", "y": "xw"}
"""Maps each target, by which the trilinear form of `Window` is differentiated, to the arrays that
are then given, in this order.
"""
TARGETS = tuple(OPERANDS)


class Axis(NamedTuple):
    """Describes one axis of a `Window`: the number of points of `x`, of taps of `w` and of points
    of `y`; the distances between neighbouring points of `y`, and between taps, in points of `x`;
    and how far the first tap of the first output is below the first point of `x`.
    """

    size: int
    taps: int
    out: int
    stride: int
    dilation: int
    lower: int

    @property
    def span(self) -> int:
        """Counts the points of `x` from the first tap to the last, both included."""
        return (self.taps - 1) * self.dilation + 1

    @property
    def padding(self) -> tuple[Any, Any]:
        """Says how far beyond its points `x` is read; if negative, how many points are not read."""
        upper = (self.out - 1) * self.stride + self.span - self.lower - self.size
        return (self.lower, upper)

    @property
    def transposed_padding(self) -> tuple[Any, Any]:
        """Says how far beyond its points `y` is read, with `stride - 1` zeros between them, when
        the flipped kernel makes `x` of it: tap `t` of `x[j]` reads its point
        `j + lower - (span - 1) + t * dilation`.
        """
        lower = self.span - 1 - self.lower
        return (lower, self.size - 1 - (self.out - 1) * self.stride + self.lower)


class Window(NamedTuple):
    """Holds the integers of the trilinear form in a field `x`, a kernel `w` and a field `y`

        T(x, w, y) = sum over b, o, c, i, t of x[b, c, i * stride + t * dilation - lower]
                                               * w[o, c, t] * y[b, o, i],

    where `b` counts samples, `x` is zero outside its points, and `c` runs over the channels of the
    group of `o`. The derivative of `T` by `y`, given the other two, is the strided convolution;
    that by `x` is the transposed one, and that by `w` is what reverse-mode differentiation adds.
    Each is bilinear, and their derivatives and transposes are again these three: the set is closed.
    """

    axes: tuple[Axis, ...]
    groups: int = 1

    def column(self, name: str) -> Shape:
        """Lists one of the integers for every axis."""
        return tuple(getattr(axis, name) for axis in self.axes)

    size = property(lambda self: self.column("size"))
    taps = property(lambda self: self.column("taps"))
    out = property(lambda self: self.column("out"))
    stride = property(lambda self: self.column("stride"))
    dilation = property(lambda self: self.column("dilation"))
    lower = property(lambda self: self.column("lower"))
    padding = property(lambda self: self.column("padding"))
    transposed_padding = property(lambda self: self.column("transposed_padding"))

    def but(self, **columns: Sequence[int]) -> "Window":
        """Replaces the integers of these columns."""
        changes = [
            dict(zip(columns, values, strict=False))
            for values in zip(*columns.values(), strict=True)
        ]
        pairs = zip(self.axes, changes, strict=True)
        return self._replace(axes=tuple(axis._replace(**change) for axis, change in pairs))

    def shape(self, target: str, samples: Any, channels: tuple[Any, Any]) -> Shape:
        """Finds the shape of `x`, `w` or `y`; `channels` counts all those of `x` and of `y`."""
        c, o = channels
        return {
            "x": (samples, c, *self.size),
            "w": (o, c // self.groups, *self.taps),
            "y": (samples, o, *self.out),
        }[target]

    def channels(self, target: str, a: Shape, b: Shape) -> tuple[Any, Any]:
        """Counts the channels of `x` and `y`, from the shapes of the two arrays that are given."""
        if target == "x":
            return b[1] * self.groups, a[1]
        return a[1], b[0] if target == "y" else b[1]


class Extended(NamedTuple):
    """Says which of the two fields of a `Window` is the extension of a field, by how many points,
    and over which boundary. The points of this field in the `Window` include the extension.
    """

    field: str
    widths: Pairs
    boundary: Boundary

    def own(self, window: Window) -> Shape:
        """Counts the points of the field itself, without its extension."""
        extended = window.column("size" if self.field == "x" else "out")
        return tuple(n - sum(pair) for n, pair in zip(extended, self.widths, strict=True))

    def shape(self, target: str, a: Shape, b: Shape, window: Window, members: bool) -> Shape:
        """Finds the shape of a task's result from the shapes of the two arrays that are given."""
        lead = int(members)
        channels = window.channels(target, a[lead:], b[lead:])
        shape = window.shape(target, a[lead], channels)
        if target == self.field:
            shape = (*shape[:2], *self.own(window))
        return (*a[:lead], *shape)


Task: TypeAlias = Callable[[str, Array, Array, Window], Array]
"""Takes `(target, a, b, window)`, and gives the derivative of a window's trilinear form by its
target from the two arrays that are given.
"""


def forward(
    size: Shape, taps: Shape, stride: Shape, padding: Pairs, dilation: Shape,
    groups: int, boundary: Boundary,
) -> tuple[Window, Extended]:  # fmt: skip
    """Finds the window of the cross-correlation of an extended field of this size: tap `t` of
    output `i` reads the extension at `i * stride + t * dilation - padding[0]`.
    """
    if boundary.has_poles:
        boundary.check_points(size)
    own, zeros = _without_zeros(padding, boundary)
    axes = []
    for i, (n, k, s, d) in enumerate(zip(size, taps, stride, dilation, strict=True)):
        span = n + sum(padding[i])
        _check_span(i, span, k, d)
        out = (span - (k - 1) * d - 1) // s + 1
        axes.append(Axis(n + sum(own[i]), k, out, s, d, zeros[i][0]))
    return Window(tuple(axes), groups), Extended("x", own, boundary)


def backward(
    size: Shape, taps: Shape, stride: Shape, padding: Pairs, output_padding: Shape,
    dilation: Shape, groups: int, boundary: Boundary,
) -> tuple[Window, Extended]:  # fmt: skip
    """Finds the window of the transposed convolution: tap `t` of output `j` reads the extended
    field, with `stride - 1` zeros between its points, at
    `j + t * dilation - ((k - 1) * dilation - padding[0])`, where `k` is the number of taps.

    It is the transpose of the convolution with the same padding, whose kernel is flipped and whose
    channels are swapped: point `i * stride` of the field with zeros adds the flipped kernel's tap
    `t` to output `i * stride + t * dilation - padding[0]`.
    """
    if boundary.has_poles:
        boundary.check_points(size)
    before, _ = transposed_widths(taps, stride, padding, output_padding, dilation)
    own, zeros = _without_zeros(before, boundary)
    axes = []
    for i, (n, k, s, d) in enumerate(zip(size, taps, stride, dilation, strict=True)):
        out = (n - 1) * s + 1 + (k - 1) * d - sum(padding[i]) + output_padding[i]
        _check_span(i, out + (k - 1) * d, k, d)
        # The extension begins this many points below the field.
        added = before[i][0] - zeros[i][0]
        axes.append(Axis(out, k, n + sum(own[i]), s, d, padding[i][0] + added * s))
    return Window(tuple(axes), groups), Extended("y", own, boundary)


def _check_span(axis: int, size: Any, taps: int, dilation: int) -> None:
    span = (taps - 1) * dilation + 1
    if isinstance(size, int) and size < span:
        raise ValueError(
            f"`kernel_size` = {taps} with `dilation` = {dilation} spans {span} points, more than "
            f"the {size} that spatial axis {axis} of `x` has with its padding."
        )


def _without_zeros(widths: Pairs, boundary: Boundary) -> tuple[Pairs, Pairs]:
    """Splits widths into those of the extension, and those where the extension is zero for all
    channels. A convolution adds the latter by itself.
    """
    zero = lambda kinds: not any(kind.sign for kind in kinds)
    zeros = tuple(
        tuple(
            width if zero(kinds) else 0
            for width, kinds in zip(pair, zip(*boundary.ends[axis], strict=True), strict=True)
        )
        for axis, pair in enumerate(widths)
    )
    own = tuple((a - c, b - d) for (a, b), (c, d) in zip(widths, zeros, strict=True))
    return own, zeros


def flip(w: Array, groups: int) -> Array:
    """Makes the kernel of the transpose: reverses taps, and swaps channels within each group."""
    (o, c), taps = w.shape[:2], w.shape[2:]
    w = lax.rev(w, tuple(range(2, w.ndim)))
    w = w.reshape(groups, o // groups, c, *taps).swapaxes(1, 2)
    return w.reshape(groups * c, o // groups, *taps)


def pad_zeros(x: Array, padding: Pairs) -> Array:
    """Adds zeros to the ends of the last axes, or removes points where the padding is negative."""
    if not any(map(any, padding)):
        return x
    rest = ((0, 0),) * (x.ndim - len(padding))
    return lax.pad(x, jnp.zeros((), x.dtype), [(a, b, 0) for a, b in (*rest, *padding)])


def reference(target: str, a: Array, b: Array, window: Window, members: bool = False) -> Array:
    """Carries out a task by XLA's convolution, and by its transposes as JAX derives them. With
    `members`, the first axis counts members of an ensemble, which become a grouped convolution.
    """
    convolution = xla_convolution(window)
    lead = int(members)
    if members:
        convolution = jax.vmap(convolution)
    if target == "y":
        return convolution(a, b)
    channels = window.channels(target, a.shape[lead:], b.shape[lead:])
    shape = (*a.shape[:lead], *window.shape(target, a.shape[lead], channels))
    if target == "x":
        return transposed(lambda x: convolution(x, b), shape)(a)
    return transposed(lambda w: convolution(a, w), shape)(b)


def plain(target: str, a: Array, b: Array, window: Window, members: bool = False) -> Array:
    """Carries out a task for readers of programs that know no other layout of a kernel than
    `(out, in, *taps)`, and no cropping. The transpose that JAX derives has another layout.
    """
    padding = window.transposed_padding
    if target != "x" or not _known(padding):
        return reference(target, a, b, window, members)
    # With one tap, zeros around `y` are zeros around `x`; see also `is_padded_product`.
    alone = set(window.taps) == {1}
    inside = tuple((min(p, 0), min(q, 0)) for p, q in padding) if alone else padding
    around = tuple((max(p, 0), max(q, 0)) for p, q in padding) if alone else ()

    def convolve(y: Array, w: Array) -> Array:
        x = lax.conv_general_dilated(
            y,
            flip(w, window.groups),
            (1,) * len(window.axes),
            inside,
            lhs_dilation=window.stride,
            rhs_dilation=window.dilation,
            feature_group_count=window.groups,
        )
        return pad_zeros(x, around)

    return (jax.vmap(convolve) if members else convolve)(a, b)


def xla_convolution(window: Window) -> Callable[[Array, Array], Array]:
    """Makes the function that computes `y` from `x` and `w`."""

    def convolve(x: Array, w: Array, window: Window = window) -> Array:
        padding = window.padding
        if not _known(padding):
            # XLA's convolution takes numbers; its padding also takes sizes that are left open.
            x, padding = pad_zeros(x, padding), ((0, 0),) * len(window.axes)
        else:
            # There is no additional output, as long as less than a stride is added.
            padding = tuple(
                (p, 0 if -s < q < 0 else q)
                for (p, q), s in zip(padding, window.stride, strict=True)
            )
        return lax.conv_general_dilated(
            x,
            w,
            window.stride,
            padding,
            rhs_dilation=window.dilation,
            feature_group_count=window.groups,
        )

    if not is_padded_product(window):
        return convolve

    def padded_product(x: Array, w: Array) -> Array:
        inner, around = without_padding(window)
        return pad_zeros(convolve(sampled(x, window), w, inner), around)

    return padded_product


def is_padded_product(window: Window) -> bool:
    """Tells whether there is only one tap, and also padding, where `y` is zero. XLA's CPU backend
    (jaxlib 0.10.2) reads beyond the field in such a convolution.
    """
    padding = window.padding
    return _known(padding) and set(window.taps) == {1} and max(map(max, padding)) > 0


def _known(padding: Pairs) -> bool:
    return all(isinstance(n, int) for pair in padding for n in pair)


def _hits(axis: Axis) -> tuple[int, int]:
    """Finds the outputs `first, ..., last - 1` whose only tap lies on a point of `x`."""
    first = max(0, -(-axis.lower // axis.stride))
    last = min(axis.out, (axis.size - 1 + axis.lower) // axis.stride + 1)
    return first, max(first, last)


def without_padding(window: Window) -> tuple[Window, Pairs]:
    """Finds, for a padded product, the window of what is not padding, and the zeros around."""
    hits = [_hits(axis) for axis in window.axes]
    counts = [last - first for first, last in hits]
    axes = tuple(Axis(n, 1, n, 1, 1, 0) for n in counts)
    around = tuple(
        (first, axis.out - last) for (first, last), axis in zip(hits, window.axes, strict=True)
    )
    return Window(axes, window.groups), around


def sampled(x: Array, window: Window) -> Array:
    """Takes the points of `x` that a padded product reads."""
    start, stop = [], []
    for axis in window.axes:
        first, last = _hits(axis)
        # If no point is read, `first` may lie beyond the points.
        begin = min(max(first * axis.stride - axis.lower, 0), axis.size)
        start.append(begin)
        stop.append(begin + (last - first - 1) * axis.stride + 1 if last > first else begin)
    return lax.slice(x, (0, 0, *start), (*x.shape[:2], *stop), (1, 1, *window.stride))


def extended_task(
    task: Task,
    target: str,
    a: Array,
    b: Array,
    window: Window,
    extended: Extended,
    members: bool,
) -> Array:
    """Carries out a task on fields, one of which is extended to the array of the window.

    Let `E` be the extension of `x`. The derivative of `T(E x, w, y)` by `x` itself is `E^T dT/dx`;
    its derivatives by `w` and `y` are those of `T`, at `E x`. The same holds for an extension of
    `y`.
    """
    enter = lambda field: extend(field, extended.widths, extended.boundary)
    given = [
        enter(value) if name == extended.field else value
        for name, value in zip(OPERANDS[target], (a, b), strict=True)
    ]
    out = task(target, *given, window)
    if target != extended.field:
        return out
    return transposed(enter, extended.shape(target, a.shape, b.shape, window, members))(out)
