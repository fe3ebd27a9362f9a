"""Which points the blocks of an axis need from each other to be extended; pure functions on
integers.
"""

import functools
from itertools import groupby
from typing import NamedTuple, TypeAlias

import numpy as np

from ._boundary import Kind
from ._extension import join, Run, Source, source


class Transfer(NamedTuple):
    """Points `start..stop-1` of one block, sent to another one, for every pair `(from, to)`."""

    start: int
    stop: int
    pairs: tuple[tuple[int, int], ...]


class Piece(NamedTuple):
    """A run of an extension. `strip` says what its sources are points of: 0 of the block itself,
    `k` of what the `k`-th transfer brought.
    """

    strip: int
    run: Run


Halo: TypeAlias = tuple[tuple[tuple[Piece, ...], tuple[int, ...]], ...]
"""What one side of the blocks is extended by, each with the blocks where it is that; first what it
is for most of them.
"""


class Exchange(NamedTuple):
    """How the blocks of an axis are extended: by transfers first, then at the two sides."""

    transfers: tuple[Transfer, ...]
    below: Halo
    above: Halo


@functools.cache
def exchange(size: int, blocks: int, widths: tuple[int, int], ends: tuple[Kind, Kind]) -> Exchange:
    """Plans the extension of every block of an axis of `blocks` blocks of `size` points.

    Position `p` of block `d` is position `d * size + p` of the axis, and its source lies in some
    block, whose distance from `d` is the hop. All that is sent over one hop can be sent at once,
    since no two blocks are sent to from the same one, or from two. It is the union of what any of
    them needs, one transfer for every interval of it: nothing that none needs, and nothing twice.
    """

    def locate(block: int, positions: range) -> list[tuple[int, Source]]:
        found = source(block * size + np.arange(len(positions)) + positions.start, total, ends)
        owners, indices = np.divmod(found.index, size)
        hops = (owners - block) % blocks if ends[0].wraps else owners - block
        hops = np.where(found.sign == 0, 0, hops)
        columns = (each.tolist() for each in (hops, indices, *found[1:]))
        return [(hop, Source(*of)) for hop, *of in zip(*columns, strict=True)]

    total = size * blocks
    sides = [
        [locate(block, positions) for block in range(blocks)]
        for positions in (range(-widths[0], 0), range(size, size + widths[1]))
    ]

    needed: dict[tuple[int, int], set[int]] = {}
    for side in sides:
        for block, sources in enumerate(side):
            for hop, (index, *_) in sources:
                if hop:
                    needed.setdefault((hop, index), set()).add(block)

    transfers: list[Transfer] = []
    strips: dict[tuple[int, int], tuple[int, int]] = {}
    # Over an interval, the index goes up with the place in the order.
    ordered = enumerate(sorted(needed))
    for (hop, _), group in groupby(ordered, lambda each: (each[1][0], each[1][1] - each[0])):
        points = [point for _, point in group]
        receivers = sorted({block for point in points for block in needed[point]})
        pairs = tuple(((block + hop) % blocks, block) for block in receivers)
        transfers.append(Transfer(points[0][1], points[-1][1] + 1, pairs))
        strips |= {point: (len(transfers), offset) for offset, point in enumerate(points)}

    def place(hop: int, found: Source) -> tuple[int, Source]:
        strip, index = strips.get((hop, found.index), (0, found.index))
        return strip, found._replace(index=index)

    halos = []
    for side in sides:
        where: dict[tuple[Piece, ...], list[int]] = {}
        for block, sources in enumerate(side):
            placed = [place(*each) for each in sources]
            pieces = tuple(
                Piece(strip, run)
                for strip, group in groupby(placed, lambda each: each[0])
                for run in join(Run(found, 0, 1) for _, found in group)
            )
            where.setdefault(pieces, []).append(block)
        common_first = sorted(where.items(), key=lambda item: -len(item[1]))
        halos.append(tuple((pieces, tuple(these)) for pieces, these in common_first))
    return Exchange(tuple(transfers), *halos)
