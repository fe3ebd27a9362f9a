"""Finds which grid point, with which sign, the extension of a field repeats; pure functions on
integers.

Over a pole, the point is on the opposite meridian, which is another line of the grid.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ._boundary import Kind


class Source(NamedTuple):
    """Says what a value of the extension is: `sign * x[index] + lower * v + upper * w`. All five
    fields are integers, or arrays of integers.

    `v` and `w` are the Dirichlet values at the two ends of the axis. A `sign` of 0 means that
    the field does not enter; `index` is then 0. `opposite` is 1 where `x[index]` is on the opposite
    meridian, else 0.
    """

    index: int | np.ndarray
    sign: int | np.ndarray
    lower: int | np.ndarray
    upper: int | np.ndarray
    opposite: int | np.ndarray


class Run(NamedTuple):
    """Describes `length` neighbouring values of the extension. The `index` of their sources changes
    by `step` (-1, 0 or 1) from one to the next; all else is as in `first`.
    """

    first: Source
    step: int
    length: int


# Between two mirrors, let t count half points from the lower one, with the upper one at t = L. Then
# point j is at t = 2j - A, where A = -(lower mirror), and L = 2(N-1) + (upper mirror) - A. The
# mirrors say
#
#     e(-t) = s_l e(t) + (1 - s_l) V    and    e(2L - t) = s_u e(t) + (1 - s_u) W.
#
# The second equation for -t, and then the first, give one period further on
#
#     e(t + 2L) = s_u e(-t) + (1 - s_u) W = sigma e(t) + c,
#     sigma = s_l s_u,    c = s_u (1 - s_l) V + (1 - s_u) W.
#
# So e(t + 2L q) = sigma^q e(t) + S_q c for every integer q, where S_q = q if sigma = 1, and q mod 2
# if sigma = -1. An odd mirror on a point that is not stored (t = 0 or t = L) says that this point
# has the wall's value. If L = 0, all points are images of the only one.
#
# Each passage over a pole leads to the opposite meridian. So e(t + 2L q) is there if the number of
# passages is odd: it is p_l q + p_u q, and p_u more beyond t = L, with p = 1 for a pole, else 0.
#
# A vector on a pole may be stored, although the odd mirror there says that it is minus the one on
# the opposite meridian. A row on a pole is therefore never taken as an image of itself: positions
# above the axis reach it through the upper mirror only, those below through the lower one only.


def source(positions: ArrayLike, size: int, ends: tuple[Kind, Kind]) -> Source:
    """Finds what the extension of an axis of `size` points holds at each of the positions."""
    j = np.asarray(positions, np.int64)
    nothing = np.zeros_like(j)
    low, up = ends
    if low.wraps:
        return Source(j % size, nothing + 1, nothing, nothing, nothing)
    if _constant(size, ends):
        return Source(nothing, nothing + 1, nothing, nothing, nothing)
    if low.mirror is not None and up.mirror is not None:
        start, length = -low.mirror, _length(size, ends)
        turns, t = np.divmod(2 * j - start, 2 * length)
        beyond = t > length
        if low.pole and low.mirror == 0:
            again = (j >= size) & (t == 0)
            turns, t, beyond = turns - again, t + 2 * length * again, beyond | again
        if up.pole and up.mirror == 0:
            beyond = beyond | ((j < 0) & (t == length))
        point = (np.where(beyond, 2 * length - t, t) + start) // 2
        even = low.sign == up.sign
        sums = turns if even else turns % 2
        swap = nothing + 1 if even else 1 - 2 * sums
        sign = swap * np.where(beyond, up.sign, 1)
        lower = sums * up.sign * _jump(low)
        upper = swap * np.where(beyond, _jump(up), 0) + sums * _jump(up)
        opposite = (turns * (low.pole + up.pole) + beyond * up.pole) % 2
    else:
        # At most one end has a mirror, so no point is mirrored twice.
        below, above = j < 0, j >= size
        point, sign, lower, upper = j, nothing + 1, nothing, nothing
        opposite = 1 * (below & low.pole) + 1 * (above & up.pole)
        if low.mirror is not None:
            point = np.where(below, -low.mirror - j, j)
            sign, lower = np.where(below, low.sign, 1), np.where(below, _jump(low), 0)
        if up.mirror is not None:
            point = np.where(above, 2 * (size - 1) + up.mirror - j, j)
            sign, upper = np.where(above, up.sign, 1), np.where(above, _jump(up), 0)
    # A point that is still off the grid is on a mirror, or beyond an end that has no mirror.
    below = (point < 0) & ~_copies(low)
    above = (point >= size) & ~_copies(up)
    lower, upper = lower + np.where(below, sign, 0), upper + np.where(above, sign, 0)
    sign = np.where(below | above, 0, sign)
    opposite = np.where(sign == 0, 0, opposite)
    return Source(np.where(sign == 0, 0, np.clip(point, 0, size - 1)), sign, lower, upper, opposite)


def _jump(kind: Kind) -> int:
    """Counts the wall values that the mirror adds; a pole adds none."""
    return 0 if kind.pole else 1 - kind.sign


def _copies(kind: Kind) -> np.bool_:
    """Tells whether everything beyond this end is the end node's value."""
    return np.bool_(kind.mirror is None and kind.sign == 1)


def _constant(size: int, ends: tuple[Kind, Kind]) -> bool:
    """Tells whether the whole extension is the axis's only point. It is not if there are poles,
    which take it from the opposite meridian, or wall nodes that are not stored.
    """
    even = all(kind.sign == 1 and not kind.pole and kind.mirror != 2 for kind in ends)
    return size == 1 and even


def _length(size: int, ends: tuple[Kind, Kind]) -> int:
    """Finds the distance between the mirrors in half points. It is also the distance, in points,
    between two images of the grid that are not reversed.
    """
    return 2 * (size - 1) + ends[0].mirror + ends[1].mirror


def period(size: int, ends: tuple[Kind, Kind]) -> int | None:
    """Finds after how many points the extension repeats, apart from the growth by wall values;
    `None` if it never does, or if it is constant.
    """
    if _constant(size, ends):
        return None
    if ends[0].wraps:
        return size
    if ends[0].mirror is None or ends[1].mirror is None:
        return None
    if any(kind.pole and kind.mirror == 0 for kind in ends):
        return None  # A row on a pole is not an image of any other.
    alike = ends[0].sign == ends[1].sign and ends[0].pole == ends[1].pole
    return _length(size, ends) * (1 if alike else 2)


@lru_cache(4096)
def runs(start: int, stop: int, size: int, ends: tuple[Kind, Kind]) -> tuple[Run, ...]:
    """Finds the values of the extension at `start..stop-1`, in as few runs as possible.

    The work is proportional to the number of runs: the grid and its images begin and end at known
    places, and between two of these the index changes by a constant step.
    """
    if start >= stop:
        return ()
    if _constant(size, ends):
        return (Run(Source(0, 1, 0, 0, 0), 0, stop - start),)
    low, up = ends
    edges = [0, size]
    if low.mirror is not None:
        edges += [1 - low.mirror - size, 1 - low.mirror]
    if up.mirror is not None:
        edges += [size - 1 + up.mirror, 2 * size - 1 + up.mirror]
    places = np.array(edges)
    if low.wraps or (low.mirror is not None and up.mirror is not None):
        turn = size if low.wraps else _length(size, ends)
        turns = np.arange(start // turn - 1, stop // turn + 2)
        places = np.add.outer(turns * turn, places).ravel()
    inside = places[(start < places) & (places < stop)]
    firsts = np.unique(np.append(inside, start))
    lengths = np.diff(np.append(firsts, stop))
    found = source(firsts, size, ends)
    steps = np.where(lengths > 1, source(firsts + 1, size, ends).index - found.index, 0)
    columns = (np.asarray(each, int).tolist() for each in (*found, steps, lengths))
    return join(Run(Source(*of), step, length) for *of, step, length in zip(*columns, strict=True))


def join(parts: Iterable[Run]) -> tuple[Run, ...]:
    """Joins neighbouring runs into as few as possible, as if their points came one by one."""
    result: list[Run] = []
    for part in parts:
        first, step, length = part
        if result:
            last = result[-1]
            jump = first.index - (last.first.index + last.step * (last.length - 1))
            fits = abs(jump) <= 1 and (last.length == 1 or jump == last.step)
            if fits and first[1:] == last.first[1:]:
                taken = length if length == 1 or step == jump else 1
                result[-1] = Run(last.first, jump, last.length + taken)
                first = first._replace(index=first.index + step)
                length -= taken
        if length:
            result.append(Run(first, step if length > 1 else 0, length))
    return tuple(result)
