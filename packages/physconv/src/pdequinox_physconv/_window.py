"""The one trilinear form behind both convolutions, and the integers that it has."""

from typing import Any, NamedTuple

import jax.lax as lax
import jax.numpy as jnp
from jaxtyping import Array


Integers = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]

# By what `T` can be differentiated (see `Window`), and what is then given, in this order.
OPERANDS = {"x": "yw", "w": "xy", "y": "xw"}
TARGETS = tuple(OPERANDS)


class Window(NamedTuple):
    """The integers of the trilinear form in a field `x`, a kernel `w` and a field `y`

        T(x, w, y) = sum over b, o, c, i, t of x[b, c, i * stride + t * dilation - lower]
                                               * w[o, c, t] * y[b, o, i],

    where `b` counts samples, `x` is zero outside of its points, and `c` runs over the channels of
    the group of `o`. Given the other two, the derivative of `T` by `y` is the strided convolution,
    that by `x` the transposed one, and that by `w` what reverse-mode differentiation adds. Each is
    bilinear, and their derivatives and transposes are again these three: the set is closed.

    Per spatial axis: the points of `x`, the taps of `w`, the points of `y`, and the rest.
    """

    size: Integers
    taps: Integers
    out: Integers
    stride: Integers
    dilation: Integers
    lower: Integers
    groups: int

    @property
    def padding(self) -> Pairs:
        """How far beyond its points `x` is read; negative, how many points are not read."""
        return tuple(
            (lower, (m - 1) * s + (k - 1) * d + 1 - lower - n)
            for n, k, m, s, d, lower in zip(*self[:6], strict=True)
        )

    def along(self, axes: slice) -> "Window":
        """The window of some of the axes."""
        return Window(*(field[axes] for field in self[:6]), self.groups)

    def shape(self, target: str, samples: Any, channels: tuple[int, int]) -> Integers:
        """Of `x`, `w` or `y`, where `x` and `y` have so many channels in all."""
        c, o = channels
        return {
            "x": (samples, c, *self.size),
            "w": (o, c // self.groups, *self.taps),
            "y": (samples, o, *self.out),
        }[target]


def flip(w: Array, groups: int) -> Array:
    """The kernel of the transpose: taps reversed, channels swapped within each group."""
    (o, c), taps = w.shape[:2], w.shape[2:]
    w = lax.rev(w, tuple(range(2, w.ndim)))
    w = w.reshape(groups, o // groups, c, *taps).swapaxes(1, 2)
    return w.reshape(groups * c, o // groups, *taps)


def pad_zeros(x: Array, padding: Pairs) -> Array:
    """`x` with zeros added to its last axes; with points taken away where negative."""
    if not any(map(any, padding)):
        return x
    rest = ((0, 0),) * (x.ndim - len(padding))
    return lax.pad(x, jnp.zeros((), x.dtype), [(a, b, 0) for a, b in (*rest, *padding)])
