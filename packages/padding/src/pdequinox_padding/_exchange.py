"""Plans which points the blocks of an axis need from each other to be extended; pure functions on
integers.
"""

from bisect import bisect_right
from collections.abc import Iterator
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple, TypeAlias

from ._boundary import Kind
from ._extension import join, Run, runs


class Transfer(NamedTuple):
    """Sends points `start..stop-1` of one block to another, for every pair `(from, to)`."""

    start: int
    stop: int
    pairs: tuple[tuple[int, int], ...]


class Piece(NamedTuple):
    """Holds a run of an extension, whose sources are points of the block itself if `strip` is 0,
    and points of what the `k`-th transfer brought if `strip` is `k`.
    """

    strip: int
    run: Run


Halo: TypeAlias = tuple[tuple[tuple[Piece, ...], tuple[int, ...]], ...]
"""Describes what extends one side of the blocks: alternatives, each with the blocks that use it,
the most frequent one first.
"""


class Exchange(NamedTuple):
    """Says how the blocks of an axis are extended: by transfers first, then at the two sides."""

    transfers: tuple[Transfer, ...]
    below: Halo
    above: Halo


@lru_cache(4096)
def exchange(size: int, blocks: int, widths: tuple[int, int], ends: tuple[Kind, Kind]) -> Exchange:
    """Plans the extension of every block of an axis of `blocks` blocks of `size` points.

    Position `p` of block `d` is position `d * size + p` of the axis. Its source lies in some block,
    whose distance from `d` is the hop. Everything with the same hop can be sent at once: no block
    sends to two others, or receives from two. What is sent is the union of what any block needs, in
    one transfer for every interval of it: nothing that no block needs, and nothing twice.

    The work is proportional to the number of runs, cut where they go from one block to the next.
    """

    def locate(block: int, start: int, stop: int) -> Iterator[tuple[int, Run]]:
        for run in runs(block * size + start, block * size + stop, size * blocks, ends):
            for owner, part in _by_owner(run, size):
                hop = owner - block if part.first.sign else 0
                yield hop % blocks if ends[0].wraps else hop, part

    sides = [
        [list(locate(block, start, stop)) for block in range(blocks)]
        for start, stop in ((-widths[0], 0), (size, size + widths[1]))
    ]
    needs = {
        (hop, *_points(run), block)
        for side in sides
        for block, parts in enumerate(side)
        for hop, run in parts
        if hop
    }

    unions: list[tuple[int, int, int]] = []
    receivers: list[set[int]] = []
    for hop, start, stop, block in sorted(needs):
        if unions and unions[-1][0] == hop and start <= unions[-1][2]:
            unions[-1] = (*unions[-1][:2], max(stop, unions[-1][2]))
            receivers[-1].add(block)
        else:
            unions.append((hop, start, stop))
            receivers.append({block})
    begins = [(hop, start) for hop, start, _ in unions]
    transfers = tuple(
        Transfer(start, stop, tuple(((to + hop) % blocks, to) for to in sorted(these)))
        for (hop, start, stop), these in zip(unions, receivers, strict=True)
    )

    def place(hop: int, run: Run) -> tuple[int, Run]:
        if not hop:
            return 0, run
        strip = bisect_right(begins, (hop, run.first.index))
        return strip, _moved(run, -transfers[strip - 1].start)

    halos = []
    for side in sides:
        where: dict[tuple[Piece, ...], list[int]] = {}
        for block, parts in enumerate(side):
            placed = [place(*each) for each in parts]
            pieces = tuple(
                Piece(strip, run)
                for strip, group in groupby(placed, lambda each: each[0])
                for run in join(run for _, run in group)
            )
            where.setdefault(pieces, []).append(block)
        common_first = sorted(where.items(), key=lambda item: -len(item[1]))
        halos.append(tuple((pieces, tuple(these)) for pieces, these in common_first))
    return Exchange(transfers, *halos)


def _by_owner(run: Run, size: int) -> Iterator[tuple[int, Run]]:
    """Cuts a run where its sources go from one block of `size` points to the next. Yields the block
    of each part, and the part itself, with an index that counts from the start of this block.
    """
    first, step, length = run
    while length:
        owner, index = divmod(first.index, size)
        within = {1: size - index, 0: length, -1: index + 1}[step]
        part = min(within, length)
        yield owner, Run(first._replace(index=index), step if part > 1 else 0, part)
        first = first._replace(index=first.index + step * part)
        length -= part


def _points(run: Run) -> tuple[int, int]:
    """Finds the first point that a run repeats, and the point after the last one."""
    ends = run.first.index, run.first.index + run.step * (run.length - 1)
    return min(ends), max(ends) + 1


def _moved(run: Run, by: int) -> Run:
    return run._replace(first=run.first._replace(index=run.first.index + by))
