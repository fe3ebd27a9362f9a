"""Which grid point, with which sign, a field's extension repeats; pure functions on integers."""

from collections.abc import Iterable
from typing import NamedTuple

from ._boundary import Ends


class Source(NamedTuple):
    """A value of the extension: `sign * x[index] + lower * v + upper * w`.

    `v` and `w` are the Dirichlet values at the two ends of the axis. A `sign` of 0 means that
    the field does not enter; `index` is 0 then.
    """

    index: int
    sign: int
    lower: int
    upper: int


class Run(NamedTuple):
    """`length` neighbouring values of the extension, the `index` of whose sources goes up by
    `step` (-1, 0 or 1) from one to the next, while all else in `first` stays the same.
    """

    first: Source
    step: int
    length: int


# Distance (in points) from an end node to the mirror image of the point that lies one point
# outside of it, and the sign of the image. The mirror stands on the end node, on the face half a
# point outside, or on the wall node one point outside.
_MIRRORS = {
    "neumann": (1, 1),
    "neumann_cell": (0, 1),
    "dirichlet_cell": (0, -1),
    "dirichlet_node": (-1, -1),
}


def source(position: int, size: int, ends: Ends) -> Source:
    """What the extension of an axis of `size` points holds at `position`.

    An end's formula moves a position outside of it to one on its other side; that position may
    lie beyond the other end, whose formula moves it again, and so on until it is on the grid: the
    unfolding of the field between two mirrors.
    """
    sign, walls = 1, [0, 0]
    while not 0 <= position < size:
        end = 0 if position < 0 else 1
        outside = -position if end == 0 else position - (size - 1)
        mode = ends[end]
        if mode == "periodic":
            position %= size
            continue
        if mode == "outflow":
            inside = 0
        elif mode == "dirichlet" or (mode == "dirichlet_node" and outside == 1):
            walls[end] += sign
            return Source(0, 0, *walls)
        elif ends == ("neumann", "neumann") and size == 1:
            inside = 0  # The two mirrors coincide on the only node: the extension is constant.
        else:
            offset, parity = _MIRRORS[mode]
            inside = outside - 1 + offset
            if parity < 0:
                walls[end] += 2 * sign
                sign = -sign
        position = inside if end == 0 else size - 1 - inside
    return Source(position, sign, *walls)


def runs(sources: Iterable[Source]) -> list[Run]:
    """The sources of neighbouring values, in as few runs as possible."""
    result: list[Run] = []
    for new in sources:
        if result:
            first, step, length = result[-1]
            jump = new.index - (first.index + step * (length - 1))
            if new[1:] == first[1:] and abs(jump) <= 1 and (length == 1 or jump == step):
                result[-1] = Run(first, jump, length + 1)
                continue
        result.append(Run(new, 0, 1))
    return result
