"""Chooses the share of the cases that runs on the lowest and on the newest JAX."""

import zlib
from collections.abc import Iterable
from itertools import groupby


def share(names: Iterable[str], part: str) -> set[str]:
    """Chooses cases of every test function: of `part="k/n"` each `n`-th, from the `k`-th on.

    The cases are counted in the order of a checksum, which spreads the values of parameters over
    the shares. The shares `1/n` to `n/n` together are all cases. Each has some case of every
    function: of functions with fewer than `n`, some are in several shares.

    **Arguments:**

    - `names`: What pytest calls the cases, `path::function[parameters]`.
    - `part`: Two integers `1 <= k <= n`.

    **Raises:** `ValueError` for another `part`.
    """
    first, _, count = part.partition("/")
    if not (first.isdecimal() and count.isdecimal() and 1 <= int(first) <= int(count)):
        raise ValueError(f"`--share` must be K/N with 1 <= K <= N, got {part!r}.")
    k, n = int(first) - 1, int(count)
    chosen = set()
    for _, group in groupby(sorted(names), lambda name: name.partition("[")[0]):
        cases = sorted(group, key=lambda name: zlib.crc32(name.encode()))
        chosen |= {*cases[k::n]} or {cases[k % len(cases)]}
    return chosen
