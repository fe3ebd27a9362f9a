"""Defines the vocabulary of boundary modes: one row per kind of end, and the one parser, for fields
whose channels share their modes and for fields whose channels differ.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple, no_type_check, SupportsIndex, TypeAlias

from pdequinox_operators.checks import integer


@dataclass(frozen=True)
class PerChannel:
    """Holds a boundary mode for every run of neighbouring channels.
    [`pdequinox_padding.per_channel`][] makes one.
    """

    runs: tuple[tuple[int, Any], ...]

    @property
    def num_channels(self) -> int:
        """Counts the channels of all runs."""
        return sum(count for count, _ in self.runs)

    def __repr__(self) -> str:
        """Shows the call that makes an equal value."""
        return f"per_channel({', '.join(map(repr, self.runs))})"


BoundaryMode: TypeAlias = str | Sequence[str | Sequence[str]] | PerChannel
"""Describes what a `boundary_mode` may be: a name, or one entry per axis, each a name or a pair of
names; or one of these for every run of channels, made by [`pdequinox_padding.per_channel`][].
"""

Ends: TypeAlias = tuple[str, str]
"""Names the boundary modes at the lower and the upper end of one axis."""


class Kind(NamedTuple):
    """Says what a field is beyond an end of an axis: where its image is, and with which sign.

    - `name`: The boundary mode.
    - `mirror`: Twice the distance of the mirror, in points, outward from the end node. 0 is on the
        node, 1 on the face, 2 on a node that is not stored. `None` means that there is no mirror.
    - `sign`: The sign of what is repeated, or 0 if nothing is. Without a mirror, this is the end
        node's value or, if the axis `wraps`, the other end of the axis.
    - `wraps`: Whether the axis is closed to a ring. If so, both of its ends have this kind.
    - `pole`: Whether the mirror is a pole, so that the image is on the opposite meridian.
    - `takes_value`: Whether there is a wall that can be given a value.
    - `aliases`: The other names of the boundary mode.
    - `low_level`: The name of this extension in `equinox.nn.Conv` and PyTorch, if it has one.
    - `stand_in`: The mirror and the sign that a basis of waves uses where `mirror` is `None`.
    """

    name: str
    mirror: int | None
    sign: int
    wraps: bool = False
    pole: bool = False
    takes_value: bool = False
    aliases: tuple[str, ...] = ()
    low_level: str | None = None
    stand_in: tuple[int, int] | None = None

    @property
    def place(self) -> tuple[Any, ...]:
        """Says where the source of what is beyond this end lies. Channels that differ only in their
        signs have the same place.
        """
        return self.mirror, abs(self.sign), self.wraps, self.pole

    def as_wall(self) -> "Kind":
        """Gives an end without a mirror the mirror that a basis of waves uses there."""
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
            Kind("pole_cell", 1, 1, pole=True),
            Kind("pole_cell_odd", 1, -1, pole=True),
            Kind("pole_node", 0, 1, pole=True),
            Kind("pole_node_odd", 0, -1, pole=True),
        )
    }
)
"""Maps every boundary mode to its kind of end."""

BOUNDARY_MODES: tuple[str, ...] = tuple(name for name, kind in KINDS.items() if not kind.pole)
"""Lists the boundary modes that may be used at the ends of any axis, each by one of its names.
`pad` documents what each one means.
"""

POLE_MODES: tuple[str, ...] = tuple(name for name, kind in KINDS.items() if kind.pole)
"""Lists the boundary modes of the poles of latitude-longitude grids. They need exactly one periodic
axis, the longitude.
"""

# What `free_slip` makes of an end: the modes of the normal and of the tangential components.
_SLIP = {
    "slip_cell": ("dirichlet_cell", "neumann_cell"),
    "slip_node": ("dirichlet_node", "neumann_node"),
}

PADDING_MODES: Mapping[str, str] = MappingProxyType(
    {kind.low_level: kind.name for kind in KINDS.values() if kind.low_level is not None}
)
"""Maps the low-level names in `equinox.nn.Conv` and PyTorch to four of the boundary modes."""

_BY_BOUNDARY_MODE = {name: kind for kind in KINDS.values() for name in (kind.name, *kind.aliases)}
_BY_EITHER_NAME = {low: KINDS[name] for low, name in PADDING_MODES.items()} | _BY_BOUNDARY_MODE


Axes: TypeAlias = tuple[tuple[Kind, Kind], ...]


@dataclass(frozen=True)
class Boundary:
    """Says what a field is beyond the lower and the upper end of each of its axes, either for all
    channels or for every run of them.

    [`pdequinox_padding.Boundary.parse`][] makes one from what users write. Layers keep it as a
    static field: boundaries that mean the same are equal, and have the same hash.
    """

    axes: Axes
    """Holds the two ends of every axis; if channels differ, those of the first run."""
    channels: tuple[tuple[int, Axes], ...] = ()
    """Holds the runs of channels, with the axes of each; empty if all channels share the axes."""

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
        - `low_level`: Whether to accept the names in [`pdequinox_padding.PADDING_MODES`][] as well.

        **Raises:** As [`pdequinox_padding.parse_boundary_mode`][].
        """
        names = _BY_EITHER_NAME if low_level else _BY_BOUNDARY_MODE
        if not isinstance(boundary_mode, PerChannel):
            return cls(_parse(boundary_mode, num_spatial_dims, names, name))
        runs: list[tuple[int, Axes]] = []
        for count, mode in boundary_mode.runs:
            axes = _parse(mode, num_spatial_dims, names, name)
            if runs and runs[-1][1] == axes:
                count += runs.pop()[0]
            runs.append((count, axes))
        for axis, ends in enumerate(zip(*(axes for _, axes in runs), strict=True)):
            if len({lower.wraps for lower, _ in ends}) > 1:
                raise ValueError(
                    f"`{name}` must be periodic for all channels or for none on every axis, got "
                    f"{boundary_mode!r}, whose channels differ on axis {axis}."
                )
        return cls(runs[0][1], tuple(runs))

    @cached_property
    def parts(self) -> tuple[tuple[int | None, "Boundary"], ...]:
        """Lists the runs of channels, each with its number of channels and its boundary. If all
        channels share one boundary, the number is `None`.
        """
        if not self.channels:
            return ((None, self),)
        return tuple((count, Boundary(axes)) for count, axes in self.channels)

    @cached_property
    def num_channels(self) -> int | None:
        """Counts the channels that a field must have; `None` if any number will do."""
        return sum(count for count, _ in self.channels) if self.channels else None

    @cached_property
    def has_poles(self) -> bool:
        """Tells whether any end is a pole."""
        return any(kind.pole for _, part in self.parts for pair in part.axes for kind in pair)

    @cached_property
    def longitude(self) -> int:
        """Finds the axis that goes around the poles: the periodic one."""
        (axis,) = (axis for axis, (lower, _) in enumerate(self.axes) if lower.wraps)
        return axis

    @cached_property
    def ends(self) -> tuple[tuple[tuple[Kind, Kind], ...], ...]:
        """Lists, for every axis, the two ends in every run of channels."""
        return tuple(zip(*(part.axes for _, part in self.parts), strict=True))

    def check_channels(self, number: Any, name: str = "boundary_mode") -> None:
        """Checks that the boundary has a mode for each of `number` channels.

        **Raises:** `ValueError` that states both numbers.
        """
        if self.channels and self.num_channels != number:
            raise ValueError(
                f"`{name}` must have as many channels as the field that it extends, {number} here, "
                f"got {self.boundary_mode!r} with {self.num_channels}."
            )

    def check_points(self, shape: Sequence[Any], name: str = "x") -> None:
        """Checks that a grid of this shape has what a boundary with poles needs: an even number of
        meridians, and more than one row between two poles that have points on them.

        **Raises:** `ValueError` that names the axis and its size.
        """
        if not self.has_poles:
            return
        size = shape[self.longitude]
        if not isinstance(size, int) or size % 2:
            raise ValueError(
                f"`{name}` must have a known and even number of points along the longitude, the "
                f"periodic spatial axis {self.longitude}, to be extended over a pole, got {size}."
            )
        for _, part in self.parts:
            for axis, (lower, upper) in enumerate(part.axes):
                poles = lower.pole or upper.pole
                if poles and shape[axis] == 1 and lower.mirror == upper.mirror == 0:
                    raise ValueError(
                        f"`{name}` must have more than one point on spatial axis {axis}, because "
                        f"there is a node at both of its ends {(lower.name, upper.name)}."
                    )

    @cached_property
    def names(self) -> tuple[Ends, ...]:
        """Gives the boundary modes of every axis, each by one of its names.

        **Raises:** `ValueError` for a boundary per channel, whose `parts` have names.
        """
        if self.channels:
            raise ValueError(
                f"`names` must not be asked of a boundary per channel, got {self.boundary_mode!r}; "
                "ask each of its `parts`."
            )
        return tuple((lower.name, upper.name) for lower, upper in self.axes)

    @cached_property
    def boundary_mode(self) -> str | tuple[Ends, ...] | PerChannel:
        """Spells the boundary as briefly as possible: one name if all ends agree, else one pair per
        axis. If channels differ, each run of them is spelled like this.
        """
        return self._spelled(lambda kind: kind.name)

    @cached_property
    def padding_mode(self) -> str | tuple[Ends, ...] | PerChannel:
        """Spells the boundary briefly, with the low-level name of every mode that has one."""
        return self._spelled(lambda kind: kind.low_level or kind.name)

    def _spelled(self, name: Callable[[Kind], str]) -> Any:
        def spelling(axes: Axes) -> Any:
            return _shortest(tuple((name(lower), name(upper)) for lower, upper in axes))

        if not self.channels:
            return spelling(self.axes)
        return PerChannel(tuple((count, spelling(axes)) for count, axes in self.channels))

    def with_kinds(self, change: Callable[[Kind], Kind]) -> "Boundary":
        """Returns the boundary with `change` applied to every end."""
        changed = lambda axes: tuple((change(lower), change(upper)) for lower, upper in axes)
        channels = tuple((count, changed(axes)) for count, axes in self.channels)
        return Boundary(changed(self.axes), channels)

    def __repr__(self) -> str:
        """Shows the spelling if parsing it gives an equal boundary, else the fields."""
        kinds = [kind for _, part in self.parts for pair in part.axes for kind in pair]
        if kinds and all(kind == KINDS.get(kind.name) for kind in kinds):
            return f"Boundary.parse({self.boundary_mode!r}, {len(self.axes)})"
        more = f", {self.channels!r}" if self.channels else ""
        return f"Boundary({self.axes!r}{more})"


@no_type_check
def per_channel(*runs: tuple[SupportsIndex, BoundaryMode]) -> PerChannel:
    """Gives runs of channels their own boundary modes.

    The result may be used wherever a `boundary_mode` is expected. A field is extended as if each
    run of neighbouring channels were extended by its own mode, and the results put together again.
    In a convolution, these are the channels of the input.

    Consider walls along which the fluid slips, at the ends of the second axis of a cell-centred
    grid. The pressure is even at the walls, and the velocity normal to them is odd:

    ```python
    from pdequinox_padding import per_channel

    pressure = ["periodic", "neumann_cell"]  # one entry per axis
    velocity_across = ["periodic", "dirichlet_cell"]
    boundary_mode = per_channel((1, pressure), (1, velocity_across))  # one entry per run
    ```

    Without `per_channel`, a list is read per axis, and a pair in it per end:
    `[["neumann_cell"] * 2, ["dirichlet_cell"] * 2]` gives all channels one mode on the first axis
    and another on the second.

    **Arguments:**

    - `runs`: Pairs `(count, mode)`, in the order of the channels: the number of channels, and their
        boundary mode. The mode has any of the forms that
        [`pdequinox_padding.parse_boundary_mode`][] takes, or is a result of this function or of
        [`pdequinox_padding.free_slip`][] with `count` channels. An axis that is periodic for some
        channels must be periodic for all.

    **Returns:**

    A hashable value. Two values with the same runs are equal.

    **Raises:** `TypeError` or `ValueError` for anything else. Modes are checked where the result is
    used, as soon as the number of axes is known.
    """
    allowed = (
        "`per_channel` must be given pairs (count, mode), the number of channels and their "
        f"boundary mode, got {runs!r}"
    )
    if not runs:
        raise ValueError(f"{allowed}.")
    result: list[tuple[int, Any]] = []
    for run in runs:
        if not isinstance(run, Sequence) or isinstance(run, str) or len(run) != 2:
            raise TypeError(f"{allowed}, where {run!r} is not such a pair.")
        count, mode = integer(run[0], "count"), run[1]
        if not isinstance(mode, PerChannel):
            result.append((count, _as_tuples(mode)))
        elif mode.num_channels == count:
            result.extend(mode.runs)
        else:
            raise ValueError(f"{allowed}, where {mode!r} has {mode.num_channels} channels.")
    return PerChannel(tuple(result))


@no_type_check
def free_slip(num_spatial_dims: SupportsIndex, boundary_mode: BoundaryMode) -> PerChannel:
    """Gives the boundary modes of a velocity field between walls along which the fluid slips.

    Component `i` is the velocity along axis `i`. It is 0 and odd at walls normal to that axis, and
    even, without a slope, at all other walls.

    **Arguments:**

    - `num_spatial_dims`: The number `D` of axes, which is also the number of components.
    - `boundary_mode`: One name for all axes, or one entry per axis, each a name or a pair
        `(lower, upper)` of names. The names are those of
        [`pdequinox_padding.parse_boundary_mode`][] and two more. An end `"slip_cell"` becomes
        `"dirichlet_cell"` for the normal component and `"neumann_cell"` for the others. An end
        `"slip_node"` becomes `"dirichlet_node"` for the normal component, whose nodes on the wall
        are not stored, and `"neumann_node"` for the others, whose nodes on the wall are stored; it
        is for components with grids of their own. All other ends are shared by all components:
        poles are `"pole_cell_odd"` or `"pole_node_odd"`.

    **Returns:**

    A value like that of [`pdequinox_padding.per_channel`][], for `D` channels.

    **Raises:** As [`pdequinox_padding.parse_boundary_mode`][].
    """
    dims = integer(num_spatial_dims, "num_spatial_dims")
    if isinstance(boundary_mode, PerChannel):
        raise TypeError(
            f"`boundary_mode` must be one mode for all components, got {boundary_mode!r}, which "
            "has modes per channel."
        )
    slip = {name: Kind(name, None, 0) for name in _SLIP}
    axes = _parse(boundary_mode, dims, _BY_BOUNDARY_MODE | slip, "boundary_mode")

    def of(component: int, axis: int, kind: Kind) -> str:
        return _SLIP[kind.name][component != axis] if kind.name in _SLIP else kind.name

    modes = (
        tuple((of(i, j, lower), of(i, j, upper)) for j, (lower, upper) in enumerate(axes))
        for i in range(dims)
    )
    return PerChannel(tuple((1, mode) for mode in modes))


def _as_tuples(mode: Any) -> Any:
    """Turns sequences into tuples, which can be hashed."""
    if isinstance(mode, Sequence) and not isinstance(mode, str):
        return tuple(map(_as_tuples, mode))
    return mode


@no_type_check
def parse_boundary_mode(
    boundary_mode: BoundaryMode, num_spatial_dims: SupportsIndex, *, name: str = "boundary_mode"
) -> tuple[Ends, ...]:
    """Reads a boundary mode and gives the name of the mode at every end of every axis.

    **Arguments:**

    - `boundary_mode`: One of [`pdequinox_padding.BOUNDARY_MODES`][] for all axes, or a sequence of
        `num_spatial_dims` entries, one per axis. Each entry is a name, or a pair `(lower, upper)`
        of names for the two ends of that axis. Case does not matter. `"zeros"` is another name for
        `"dirichlet"`, and `"neumann_node"` for `"neumann"`. `"periodic"` must be at both ends of an
        axis or at neither. The [`pdequinox_padding.POLE_MODES`][] are for ends of the other axes,
        if exactly one axis is periodic.
    - `num_spatial_dims`: The number of spatial axes.
    - `name`: The name of the argument in error messages.

    **Returns:**

    A tuple with one `(lower, upper)` pair of [`pdequinox_padding.BOUNDARY_MODES`][] per axis.

    **Raises:** `TypeError` for values that are neither names nor sequences. `ValueError` for
    unknown names, wrong lengths, an axis that is periodic at one end only, poles without a
    longitude, and modes per channel, which [`pdequinox_padding.Boundary.parse`][] reads.
    """
    _check_uniform(boundary_mode, name)
    return Boundary.parse(boundary_mode, num_spatial_dims, name=name).names


@no_type_check
def parse_padding_mode(
    padding_mode: BoundaryMode, num_spatial_dims: SupportsIndex, *, name: str = "padding_mode"
) -> tuple[Ends, ...]:
    """Reads a boundary mode as [`pdequinox_padding.parse_boundary_mode`][] does, and also accepts
    the low-level names in [`pdequinox_padding.PADDING_MODES`][].
    """
    _check_uniform(padding_mode, name)
    return Boundary.parse(padding_mode, num_spatial_dims, name=name, low_level=True).names


def _check_uniform(mode: Any, name: str) -> None:
    if isinstance(mode, PerChannel):
        raise ValueError(
            f"`{name}` must be one mode for all channels, got {mode!r}; `Boundary.parse` reads "
            "modes per channel."
        )


def format_boundary_mode(ends: Sequence[Ends]) -> str | tuple[Ends, ...]:
    """Spells a parsed boundary mode as briefly as possible: one name if all ends agree, else one
    `(lower, upper)` pair per axis. Equal boundaries have equal spellings.
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
) -> Axes:
    def complain(error: type[Exception], what: str) -> Exception:
        return error(
            f"`{argument}` must be one of {list(names)}, or a sequence of one entry per spatial "
            f"axis ({num_spatial_dims} here), each a name or a pair (lower, upper) of names (use "
            f"`per_channel` for modes per channel): got {boundary_mode!r}, {what}."
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
        axes = (parse_entry(0, boundary_mode),) * num_spatial_dims
    elif len(boundary_mode) != num_spatial_dims:
        raise complain(ValueError, f"which has {len(boundary_mode)} entries")
    else:
        axes = tuple(parse_entry(axis, entry) for axis, entry in enumerate(boundary_mode))
    rings = sum(lower.wraps for lower, _ in axes)
    if rings != 1 and any(kind.pole for pair in axes for kind in pair):
        raise complain(
            ValueError,
            f"where poles need exactly one periodic axis, the longitude, and {rings} are periodic",
        )
    return axes
