"""Which grid point, with which sign, a field's extension repeats; pure functions on integers.

Over a pole, the point is on the opposite meridian: another line of the grid.
"""

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ._boundary import Kind


class Source(NamedTuple):
    """Says what a value of the extension is: `sign * x[index] + lower * v + upper * w`, where all
    five are integers, or arrays of integers.

    `v` and `w` are the Dirichlet values at the two ends of the axis. A `sign` of 0 means that
    the field does not enter; `index` is 0 then. Where `opposite` is 1, `x[index]` is meant on the
    opposite meridian; else it is 0.
    """

    index: int | np.ndarray
    sign: int | np.ndarray
    lower: int | np.ndarray
    upper: int | np.ndarray
    opposite: int | np.ndarray


class Run(NamedTuple):
    """Stands for `length` neighbouring values of the extension, the `index` of whose sources goes
    up by `step` (-1, 0 or 1) from one to the next, while all else in `first` stays the same.
    """

    first: Source
    step: int
    length: int


# Between two mirrors, in half points t from the lower one, with the other at t = L: point j is at
# t = 2j - A, where A = -(lower mirror), and L = 2(N-1) + (upper mirror) - A. The mirrors say
#
#     e(-t) = s_l e(t) + (1 - s_l) V    and    e(2L - t) = s_u e(t) + (1 - s_u) W,
#
# the latter with -t for t, and then the former, that a period on
#
#     e(t + 2L) = s_u e(-t) + (1 - s_u) W = sigma e(t) + c,
#     sigma = s_l s_u,    c = s_u (1 - s_l) V + (1 - s_u) W,
#
# and so e(t + 2L q) = sigma^q e(t) + S_q c, where S_q = q if sigma = 1, and q mod 2 if it is -1,
# for every integer q. An odd mirror on a point that is not stored (t = 0 or t = L) says that this
# point has the wall's value. If L = 0, all points are images of the only one.
#
# Each passage of a pole goes to the opposite meridian, so that e(t + 2L q) is there if the number
# of passages is odd: p_l q + p_u q, and p_u more beyond t = L, with p = 1 for a pole, else 0.
#
# A vector on a pole may be stored, although the odd mirror there says that it is minus the one on
# the opposite meridian. A row on a pole is therefore never taken as an image of itself: from above
# it is reached through the upper mirror, from below through the lower one, and no further.


def source(positions: ArrayLike, size: int, ends: tuple[Kind, Kind]) -> Source:
    """Finds what the extension of an axis of `size` points holds at every one of the positions."""
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
        # What is moved by the one mirror that there may be cannot come back to it.
        below, above = j < 0, j >= size
        point, sign, lower, upper = j, nothing + 1, nothing, nothing
        opposite = 1 * (below & low.pole) + 1 * (above & up.pole)
        if low.mirror is not None:
            point = np.where(below, -low.mirror - j, j)
            sign, lower = np.where(below, low.sign, 1), np.where(below, _jump(low), 0)
        if up.mirror is not None:
            point = np.where(above, 2 * (size - 1) + up.mirror - j, j)
            sign, upper = np.where(above, up.sign, 1), np.where(above, _jump(up), 0)
    # What is not on the grid now is the point on a mirror, or beyond an end that has none.
    below = (point < 0) & ~_copies(low)
    above = (point >= size) & ~_copies(up)
    lower, upper = lower + np.where(below, sign, 0), upper + np.where(above, sign, 0)
    sign = np.where(below | above, 0, sign)
    opposite = np.where(sign == 0, 0, opposite)
    return Source(np.where(sign == 0, 0, np.clip(point, 0, size - 1)), sign, lower, upper, opposite)


def _jump(kind: Kind) -> int:
    """Counts the wall values that the mirror adds; a pole has none."""
    return 0 if kind.pole else 1 - kind.sign


def _copies(kind: Kind) -> np.bool_:
    """Tells whether all beyond this end is the end node's value."""
    return np.bool_(kind.mirror is None and kind.sign == 1)


def _constant(size: int, ends: tuple[Kind, Kind]) -> bool:
    """Tells whether all is the only point: not between poles, which take it from the opposite
    meridian, nor beside a point on a wall that is not stored.
    """
    even = all(kind.sign == 1 and not kind.pole and kind.mirror != 2 for kind in ends)
    return size == 1 and even


def _length(size: int, ends: tuple[Kind, Kind]) -> int:
    """Finds twice the distance between the mirrors, which is in points the distance between two
    images of the grid that are not reversed.
    """
    return 2 * (size - 1) + ends[0].mirror + ends[1].mirror


def period(size: int, ends: tuple[Kind, Kind]) -> int | None:
    """Finds after how many points everything that enters the extension repeats, but for the growth
    of wall values; `None` if it never does, or all is the same.
    """
    if _constant(size, ends):
        return None
    if ends[0].wraps:
        return size
    if ends[0].mirror is None or ends[1].mirror is None:
        return None
    if any(kind.pole and kind.mirror == 0 for kind in ends):
        return None  # A row on a pole is the image of no other.
    alike = ends[0].sign == ends[1].sign and ends[0].pole == ends[1].pole
    return _length(size, ends) * (1 if alike else 2)


@lru_cache(4096)
def runs(start: int, stop: int, size: int, ends: tuple[Kind, Kind]) -> tuple[Run, ...]:
    """Finds the values of the extension at `start..stop-1`, in as few runs as possible.

    The work is that of the number of runs: the grid and its images begin and end at known places,
    and between two of these the index goes up by the same step.
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
    """Joins neighbouring runs to as few as possible, as if their points came one by one."""
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
