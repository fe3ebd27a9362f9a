"""The vocabulary of boundary modes: one row per kind of end, and the one parser."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple, no_type_check, SupportsIndex, TypeAlias

from pdequinox_operators.checks import integer


BoundaryMode: TypeAlias = str | Sequence[str | Sequence[str]]
"""What a `boundary_mode` may be: a name, or one entry per axis, each a name or a pair of names."""

Ends: TypeAlias = tuple[str, str]
"""The boundary modes at the lower and at the upper end of one axis."""


class Kind(NamedTuple):
    """Says what a field is beyond an end of an axis: where the image stands, and with which sign.

    - `name`: The boundary mode.
    - `mirror`: Where the mirror stands: twice the distance, in points, outward from the end node.
        0 is on the node, 1 on the face, 2 on a node that is not stored. `None`: there is none.
    - `sign`: That of what is repeated, or 0 if nothing is. Without a mirror, this is the end
        node's value, or, if the axis `wraps`, the other end of the axis.
    - `wraps`: Whether the axis is closed to a ring; then it is at both of its ends.
    - `takes_value`: Whether there is a wall that a value may be given for.
    - `aliases`: The other names of the boundary mode.
    - `low_level`: The name of this extension in `equinox.nn.Conv` and PyTorch, if it has one.
    - `stand_in`: The mirror and the sign that a basis of waves has where `mirror` is `None`.
    """

    name: str
    mirror: int | None
    sign: int
    wraps: bool = False
    takes_value: bool = False
    aliases: tuple[str, ...] = ()
    low_level: str | None = None
    stand_in: tuple[int, int] | None = None

    def as_wall(self) -> "Kind":
        """Gives an end without a mirror the one that a basis of waves has there."""
        if self.stand_in is None:
            return self
        mirror, sign = self.stand_in
        return self._replace(mirror=mirror, sign=sign)


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            Kind("periodic", None, 1, wraps=True, low_level="circular"),
            Kind(
                "dirichlet",
                None,
                0,
                takes_value=True,
                aliases=("zeros",),
                low_level="zeros",
                stand_in=(2, -1),
            ),
            Kind("neumann", 0, 1, aliases=("neumann_node",), low_level="reflect"),
            Kind("neumann_cell", 1, 1),
            Kind("dirichlet_node", 2, -1, takes_value=True),
            Kind("dirichlet_cell", 1, -1, takes_value=True),
            Kind("outflow", None, 1, low_level="replicate", stand_in=(1, 1)),
        )
    }
)
"""All kinds of ends, by their boundary modes."""

BOUNDARY_MODES: tuple[str, ...] = tuple(KINDS)
"""All boundary modes, each by one of its names. `pad` documents what each one means."""

PADDING_MODES: Mapping[str, str] = MappingProxyType(
    {kind.low_level: kind.name for kind in KINDS.values() if kind.low_level is not None}
)
"""The low-level names of four of the boundary modes, as `equinox.nn.Conv` and PyTorch use them."""

_BY_BOUNDARY_MODE = {name: kind for kind in KINDS.values() for name in (kind.name, *kind.aliases)}
_BY_EITHER_NAME = {low: KINDS[name] for low, name in PADDING_MODES.items()} | _BY_BOUNDARY_MODE


@dataclass(frozen=True)
class Boundary:
    """Says what a field is beyond the lower and the upper end of each of its axes.

    [`pdequinox_padding.Boundary.parse`][] makes one from what users write. Layers keep it as a
    static field: boundaries that mean the same are equal, and have the same hash.
    """

    axes: tuple[tuple[Kind, Kind], ...]

    @classmethod
    @no_type_check
    def parse(
        cls,
        boundary_mode: BoundaryMode,
        num_spatial_dims: SupportsIndex,
        *,
        name: str = "boundary_mode",
        low_level: bool = False,
    ) -> "Boundary":
        """Reads a boundary mode.

        **Arguments:**

        - `boundary_mode`, `num_spatial_dims`, `name`: As in
            [`pdequinox_padding.parse_boundary_mode`][].
        - `low_level`: Whether the names [`pdequinox_padding.PADDING_MODES`][] are understood too.

        **Raises:** As [`pdequinox_padding.parse_boundary_mode`][].
        """
        names = _BY_EITHER_NAME if low_level else _BY_BOUNDARY_MODE
        return cls(_parse(boundary_mode, num_spatial_dims, names, name))

    @cached_property
    def names(self) -> tuple[Ends, ...]:
        """Names the boundary modes of every axis, each by one of its names."""
        return tuple((lower.name, upper.name) for lower, upper in self.axes)

    @cached_property
    def boundary_mode(self) -> str | tuple[Ends, ...]:
        """Spells the boundary shortly: one name where all ends agree, else one pair per axis."""
        return _shortest(self.names)

    @cached_property
    def padding_mode(self) -> str | tuple[Ends, ...]:
        """Spells the boundary shortly, with the low-level name of every mode that has one."""
        name = lambda kind: kind.low_level or kind.name
        return _shortest(tuple((name(lower), name(upper)) for lower, upper in self.axes))

    def along(self, axes: slice) -> "Boundary":
        """Returns the boundary of some of the axes."""
        return Boundary(self.axes[axes])

    def __repr__(self) -> str:
        """Shows the spelling if parsing it gives an equal boundary, else the axes."""
        kinds = [kind for pair in self.axes for kind in pair]
        if kinds and all(kind == KINDS.get(kind.name) for kind in kinds):
            return f"Boundary.parse({self.boundary_mode!r}, {len(self.axes)})"
        return f"Boundary({self.axes!r})"


@no_type_check
def parse_boundary_mode(
    boundary_mode: BoundaryMode, num_spatial_dims: SupportsIndex, *, name: str = "boundary_mode"
) -> tuple[Ends, ...]:
    """Reads a boundary mode, and gives the name of the mode at every end of every axis.

    **Arguments:**

    - `boundary_mode`: One of [`pdequinox_padding.BOUNDARY_MODES`][] for every axis, or a sequence
        of `num_spatial_dims` entries, one per axis, each of them a name or a pair
        `(lower, upper)` of names for the two ends of that axis. Upper and lower case are the same.
        `"zeros"` is another name of `"dirichlet"`, `"neumann_node"` of `"neumann"`. `"periodic"`
        stands at both ends of an axis or at neither.
    - `num_spatial_dims`: The number of spatial axes.
    - `name`: What the error messages call the argument.

    **Returns:**

    A tuple with one `(lower, upper)` pair of [`pdequinox_padding.BOUNDARY_MODES`][] per axis.

    **Raises:** `TypeError` for what is neither a name nor a sequence, `ValueError` for unknown
    names, wrong lengths, and an axis that is periodic at one end only.
    """
    return Boundary.parse(boundary_mode, num_spatial_dims, name=name).names


@no_type_check
def parse_padding_mode(
    padding_mode: BoundaryMode, num_spatial_dims: SupportsIndex, *, name: str = "padding_mode"
) -> tuple[Ends, ...]:
    """Reads a boundary mode as [`pdequinox_padding.parse_boundary_mode`][] does, and understands
    the low-level names [`pdequinox_padding.PADDING_MODES`][] as well.
    """
    return Boundary.parse(padding_mode, num_spatial_dims, name=name, low_level=True).names


def format_boundary_mode(ends: Sequence[Ends]) -> str | tuple[Ends, ...]:
    """Spells a parsed boundary mode as shortly as possible: one name where all ends agree, else
    one `(lower, upper)` pair per axis. Equal boundaries have equal spellings.
    """
    return Boundary.parse(ends, len(ends)).boundary_mode


def format_padding_mode(ends: Sequence[Ends]) -> str | tuple[Ends, ...]:
    """Spells a parsed boundary mode as [`pdequinox_padding.format_boundary_mode`][] does, with the
    low-level name of every mode that has one.
    """
    return Boundary.parse(ends, len(ends)).padding_mode


def _shortest(names: tuple[Ends, ...]) -> str | tuple[Ends, ...]:
    different = {name for pair in names for name in pair}
    return different.pop() if len(different) == 1 else names


def _parse(
    boundary_mode: Any, num_spatial_dims: Any, names: Mapping[str, Kind], argument: str
) -> tuple[tuple[Kind, Kind], ...]:
    def complain(error: type[Exception], what: str) -> Exception:
        return error(
            f"`{argument}` must be one of {list(names)}, or a sequence of one entry per spatial "
            f"axis ({num_spatial_dims} here), each a name or a pair (lower, upper) of names: "
            f"got {boundary_mode!r}, {what}."
        )

    def parse_name(mode: Any) -> Kind:
        if not isinstance(mode, str):
            raise complain(TypeError, f"where {mode!r} is not a name")
        if mode.lower() not in names:
            raise complain(ValueError, f"where {mode!r} is unknown")
        return names[mode.lower()]

    def parse_entry(axis: int, entry: Any) -> tuple[Kind, Kind]:
        if not isinstance(entry, Sequence) or isinstance(entry, str):
            kind = parse_name(entry)
            return (kind, kind)
        if len(entry) != 2:
            raise complain(ValueError, f"where {entry!r} has {len(entry)} names instead of 2")
        lower, upper = map(parse_name, entry)
        if lower.wraps != upper.wraps:
            raise complain(
                ValueError,
                f"where axis {axis} is periodic at one end only; "
                "an axis is periodic at both ends or at neither",
            )
        return (lower, upper)

    num_spatial_dims = integer(num_spatial_dims, "num_spatial_dims")
    if not isinstance(boundary_mode, Sequence) or isinstance(boundary_mode, str):
        return (parse_entry(0, boundary_mode),) * num_spatial_dims
    if len(boundary_mode) != num_spatial_dims:
        raise complain(ValueError, f"which has {len(boundary_mode)} entries")
    return tuple(parse_entry(axis, entry) for axis, entry in enumerate(boundary_mode))
