"""Defines the functions that stand for the kept modes of one axis, by integers and in float64.

Between two walls, one formula gives the sines and cosines of V. Britanak, P. Yip and K. R. Rao,
"Discrete Cosine and Sine Transforms" (2007), chapter 2: those of DCT-I for `("neumann",
"neumann")`, DCT-II for `"neumann_cell"`, DST-I for `"dirichlet_node"`, DST-II for
`"dirichlet_cell"`; DCT-III, DCT-IV, DST-III and DST-IV (quarter waves) for a value at one end and a
slope at the other; and their odd-length relatives where one wall is at a node and the other at a
face.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float, Int

from pdequinox_padding import Boundary
from pdequinox_padding._boundary import Kind


@dataclass(frozen=True)
class Basis:
    """Describes the functions of one axis, on any number of points.

    Periodic axes have the complex exponentials `exp(2 pi i k j / N)` at point `j`, with the
    wavenumbers `k = 0..m-1`. A `full` axis, where the field is already complex, has another group
    of them, `-m..-1`. Other axes have `m` real functions, given by the mirrors and signs of the two
    ends.

    If the output has other functions than the input, the analysis divides by the sum of the input
    functions' squares on the grid (`expanded`), because the output functions have another sum.
    Sines that meet cosines count `from_zero`, as the cosines do: the first of these sines is 0
    everywhere.
    """

    ends: tuple[Kind, Kind]
    num_modes: int
    full: bool = False
    expanded: bool = False
    from_zero: bool = False

    @property
    def periodic(self) -> bool:
        """Tells whether the axis is closed to a ring."""
        return self.ends[0].wraps

    def limit(self, size: int) -> tuple[int, str]:
        """Says how many modes `size` points hold, as a number and in words."""
        if not self.periodic:
            return (size + 1, "N + 1") if self.from_zero else (size, "N")
        if self.full:
            return size // 2, "N // 2"
        return size // 2 + 1, "N // 2 + 1 on the last periodic axis"

    @cached_property
    def quarter_waves(self) -> bool:
        """Tells whether one end has a value and the other a slope, so that odd multiples of a
        quarter wave fit in between.
        """
        return not self.periodic and self.ends[0].sign != self.ends[1].sign

    @cached_property
    def odd(self) -> bool:
        """Tells whether the functions are sines about the lower wall."""
        return not self.periodic and self.ends[0].sign < 0

    @property
    def start(self) -> int:
        """Gives twice the distance from the lower wall to the first point."""
        return self.ends[0].mirror

    def length(self, size: int) -> int:
        """Gives twice the distance between the walls; 0 for a single point on both of them."""
        return 2 * (size - 1) + self.ends[0].mirror + self.ends[1].mirror

    def period(self, size: int) -> int:
        """Counts the points of one period of the extended field."""
        if self.periodic:
            return size
        return self.length(size) * (2 if self.quarter_waves else 1)

    @cached_property
    def wavenumbers(self) -> Int[np.ndarray, " k"]:
        """Counts the waves of each function in a period."""
        k = np.arange(self.num_modes)
        if self.full:
            return np.concatenate([k, k - self.num_modes])
        if self.periodic:
            return k
        return 2 * k + 1 if self.quarter_waves else k + (self.odd and not self.from_zero)

    def analysis(self, size: int) -> Float[np.ndarray, "..."]:
        """Makes the matrix from the points of an axis to the coefficients.

        On a half axis, it is the matrix of the unnormalised forward transform, of shape
        `(N, 2, m)`: every real point gives a real and an imaginary part. On a full axis, where
        points also have two parts, it has the cosines and minus the sines of both groups' waves,
        whose numbers are 0 to `m`: its shape is `(N, 2, m + 1)`. Between walls, it has the
        functions themselves, `(N, m)`; a point on a wall, which is its own mirror image, counts
        half. If the functions are `expanded`, they are divided by the sum of their squares on the
        grid.
        """
        if self.periodic:
            return self._exponentials(size)
        if self._single(size):
            return np.ones((1, 1))
        weights = np.ones(size)
        for end, point in zip(self.ends, (0, -1), strict=True):
            weights[point] *= 0.5 if end.mirror == 0 else 1.0
        return weights[:, None] * self._waves(size) * self.scales(size)[0]

    def synthesis(self, size: int, from_size: int) -> Float[np.ndarray, "..."]:
        """Makes the matrix from the coefficients, of a field on `from_size` points, to `size`
        points. It has the shape of the analysis, although the sum is over its last axes.

        On periodic axes, it gives the real parts of products with the exponentials, times `c_k / N`
        on a half axis and `1 / N` on a full one. Between walls, it has the functions over the sum
        of their squares on the grid, unless they are `expanded`.
        """
        _, scale = self.scales(from_size)
        if self.periodic:
            return self._exponentials(size) * (scale[0] if self.full else scale)
        return (np.ones((1, 1)) if self._single(size) else self._waves(size)) * scale

    def scale(self, size: int) -> Float[np.ndarray, " modes"]:
        """Gives the factors of the coefficients between the sums over the points and the sums over
        the functions.

        Between walls, the sum of a squared function over the grid is a quarter of `length`, or half
        of it if the function is 1 or -1 at every point.
        """
        if self.full:
            return np.full(self.num_modes, 1.0 / size)
        if self._single(size):
            return np.ones(1)
        alone = (2 * self.wavenumbers) % self.period(size) == 0
        if self.periodic:
            return np.where(alone, 1.0, 2.0) / size
        return np.where(alone, 2.0, 4.0) / self.length(size)

    def scales(self, size: int) -> tuple[Float[np.ndarray, " modes"], Float[np.ndarray, " modes"]]:
        """Gives the part of `scale` that the analysis has, and the part that the synthesis has."""
        scale = self.scale(size)
        ones = np.ones_like(scale)
        return (scale, ones) if self.expanded else (ones, scale)

    @property
    def walls(self) -> tuple[tuple[int | None, int], ...]:
        """Gives the mirrors and signs of both ends. Bases with the same walls have the same
        functions, whatever their boundary modes are called.
        """
        return tuple((kind.mirror, kind.sign) for kind in self.ends)

    def _single(self, size: int) -> bool:
        """Tells whether the only point is on both walls, so that its field is constant."""
        return not self.periodic and self.length(size) == 0

    def _waves(self, size: int) -> Float[np.ndarray, "points modes"]:
        turns = (2 * np.arange(size)[:, None] + self.start) * self.wavenumbers
        return (_sin if self.odd else _cos)(turns, 2 * self.period(size))

    def _exponentials(self, size: int) -> Float[np.ndarray, "points 2 k"]:
        waves = np.arange(self.num_modes + self.full)
        turns = np.arange(size)[:, None] * waves
        return np.stack([_cos(turns, size), -_sin(turns, size)], axis=1)


def bases(boundary: Boundary, num_modes: Sequence[int]) -> tuple[Basis, ...]:
    """Finds the basis of every axis. The last periodic axis needs no negative wavenumbers, because
    the field is real.
    """
    periodic = [axis for axis, (lower, _) in enumerate(boundary.axes) if lower.wraps]
    return tuple(
        Basis((lower.as_wall(), upper.as_wall()), modes, full=axis in periodic[:-1])
        for axis, ((lower, upper), modes) in enumerate(zip(boundary.axes, num_modes, strict=True))
    )


def boundary_with_waves(
    boundary_mode: Any, num_spatial_dims: int, channels: int, name: str
) -> Boundary:
    """Parses the argument `name` for these channels, and checks that there are waves for it."""
    boundary = Boundary.parse(boundary_mode, num_spatial_dims, name=name)
    boundary.check_channels(channels, name)
    if boundary.has_poles:
        raise ValueError(
            f"`{name}` must not have poles, because there are no waves that satisfy them on "
            f"every axis, got {boundary.boundary_mode!r}. Convolutions take them "
            "(`PhysicsConv` of pdequinox-physconv)."
        )
    return boundary


Runs: TypeAlias = tuple[tuple[int, tuple[Basis, ...]], ...]
"""Holds the runs of a field's channels: the number of channels, and their functions per axis."""


def runs(
    boundary: Boundary,
    out_boundary: Boundary,
    channels: tuple[int, int],
    num_modes: Sequence[int],
) -> tuple[Runs, Runs]:
    """Finds the bases of all input and of all output channels.

    On an axis where all channels have the same functions, these are the basis of either boundary.
    Otherwise the channels meet by their wavenumbers.

    **Raises:** `ValueError` if quarter waves would meet others.
    """
    sides = [
        [[count or number, *bases(part, num_modes)] for count, part in side.parts]
        for side, number in zip((boundary, out_boundary), channels, strict=True)
    ]
    for axis in range(len(num_modes)):
        met = [run[1 + axis] for side in sides for run in side]
        if len({basis.walls for basis in met}) == 1:
            continue
        if len({basis.quarter_waves for basis in met}) == 2:
            names = sorted({tuple(kind.name for kind in basis.ends) for basis in met})
            raise ValueError(
                "`boundary_mode` and `out_boundary_mode` must not have both quarter waves (a value "
                "at one end, a slope at the other) and whole ones on the same axis, because they "
                f"have no wavenumber in common, got {names} on spatial axis {axis}."
            )
        # Quarter waves count from one half, both sines and cosines; sines by themselves from 1.
        zero = len({basis.odd for basis in met}) == 2 and not met[0].quarter_waves
        for side in sides:
            for run in side:
                odd = run[1 + axis].odd
                run[1 + axis] = replace(run[1 + axis], expanded=True, from_zero=zero and odd)
    inputs, outputs = (_merged(side) for side in sides)
    return inputs, outputs


def runs_of_both_grids(
    boundary: Boundary, channels: int, grid: Sequence[int], points: Sequence[int]
) -> Runs:
    """Finds, for every run of channels and for each axis separately, the functions that both a
    `grid` and another grid of `points` hold. On a periodic axis, the last of them may be the wave
    that alternates from point to point of the coarser grid; there, it has only a real part.
    """
    return _merged(
        [
            [
                count or channels,
                *(
                    Basis(
                        (lower.as_wall(), upper.as_wall()),
                        min(sizes) // 2 + 1 if lower.wraps else min(sizes),
                    )
                    for (lower, upper), *sizes in zip(part.axes, grid, points, strict=True)
                ),
            ]
            for count, part in boundary.parts
        ]
    )


def _merged(side: Sequence[Sequence[Any]]) -> Runs:
    """Joins neighbouring runs whose functions are the same."""
    alike = lambda run: [basis.walls for basis in run[1:]]
    merged = [list(group) for _, group in groupby(side, alike)]
    return tuple((sum(run[0] for run in group), tuple(group[0][1:])) for group in merged)


def _cos(turns: Int[np.ndarray, "*shape"], period: int) -> Float[np.ndarray, "*shape"]:
    """Computes `cos(2 pi turns / period)` from an angle of at most an eighth of a turn, so that it
    is exact where it is 0, 1 or -1.
    """
    # The unit of the angle is a quarter of a turn over `period`.
    angle = 4 * turns % (4 * period)
    angle = np.minimum(angle, 4 * period - angle)
    negative = angle > period
    angle = np.where(negative, 2 * period - angle, angle)
    unit = np.pi / (2 * period)
    value = np.where(2 * angle <= period, np.cos(unit * angle), np.sin(unit * (period - angle)))
    return np.where(negative, -value, value)


def _sin(turns: Int[np.ndarray, "*shape"], period: int) -> Float[np.ndarray, "*shape"]:
    """Computes `sin(2 pi turns / period)` as the cosine a quarter of a turn later."""
    return _cos(4 * turns - period, 4 * period)
