"""The vocabulary of boundary modes and its one parser."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, TYPE_CHECKING, TypeAlias

from .arguments import Integer, integer


if TYPE_CHECKING:
    BoundaryMode: TypeAlias = str | Sequence[str | Sequence[str]]
else:
    # Run-time type checkers see `Any`, so that a wrong argument reaches the parser below, whose
    # message says what is allowed.
    BoundaryMode = Any

Ends: TypeAlias = tuple[str, str]
"""The boundary modes at the lower and at the upper end of one axis."""

BOUNDARY_MODES: tuple[str, ...] = (
    "periodic",
    "dirichlet",
    "neumann",
    "neumann_cell",
    "dirichlet_node",
    "dirichlet_cell",
    "outflow",
)
"""All boundary modes. `pad` documents what each one means."""

PADDING_MODES: Mapping[str, str] = MappingProxyType(
    {"zeros": "dirichlet", "reflect": "neumann", "replicate": "outflow", "circular": "periodic"}
)
"""The low-level names of four of the boundary modes, as `equinox.nn.Conv` and PyTorch use them."""

_BY_BOUNDARY_MODE = {mode: mode for mode in BOUNDARY_MODES}
_BY_EITHER_NAME = {**PADDING_MODES, **_BY_BOUNDARY_MODE}
_LOW_LEVEL_NAME = {mode: name for name, mode in PADDING_MODES.items()}


def parse_boundary_mode(
    boundary_mode: BoundaryMode, num_spatial_dims: Integer, *, name: str = "boundary_mode"
) -> tuple[Ends, ...]:
    """The boundary mode of every end of every axis.

    **Arguments:**

    - `boundary_mode`: One of [`pdequinox_padding.BOUNDARY_MODES`][] for every axis, or a sequence
        of `num_spatial_dims` entries, one per axis, each of them a name or a pair
        `(lower, upper)` of names for the two ends of that axis. Upper and lower case are the same.
        `"periodic"` stands at both ends of an axis or at neither.
    - `num_spatial_dims`: The number of spatial axes.
    - `name`: What the error messages call the argument.

    **Returns:**

    A tuple with one `(lower, upper)` pair of lower-case names per axis.

    **Raises:** `TypeError` for what is neither a name nor a sequence, `ValueError` for unknown
    names, wrong lengths, and an axis that is periodic at one end only.
    """
    return _parse(boundary_mode, num_spatial_dims, _BY_BOUNDARY_MODE, name)


def parse_padding_mode(
    padding_mode: BoundaryMode, num_spatial_dims: Integer, *, name: str = "padding_mode"
) -> tuple[Ends, ...]:
    """As [`pdequinox_padding.parse_boundary_mode`][], but the low-level names
    [`pdequinox_padding.PADDING_MODES`][] are understood as well.
    """
    return _parse(padding_mode, num_spatial_dims, _BY_EITHER_NAME, name)


def format_boundary_mode(ends: Sequence[Ends]) -> str | tuple[Ends, ...]:
    """The shortest spelling of a parsed boundary mode: one name where all ends agree, else one
    `(lower, upper)` pair per axis. Equal boundaries have equal spellings.
    """
    modes = {mode for pair in ends for mode in pair}
    return modes.pop() if len(modes) == 1 else tuple(ends)


def format_padding_mode(ends: Sequence[Ends]) -> str | tuple[Ends, ...]:
    """As [`pdequinox_padding.format_boundary_mode`][], with the low-level name of every mode that
    has one.
    """
    return format_boundary_mode(
        [(_LOW_LEVEL_NAME.get(low, low), _LOW_LEVEL_NAME.get(up, up)) for low, up in ends]
    )


def _parse(
    boundary_mode: BoundaryMode, num_spatial_dims: Integer, names: Mapping[str, str], argument: str
) -> tuple[Ends, ...]:
    def complain(error: type[Exception], what: str) -> Exception:
        return error(
            f"`{argument}` must be one of {list(names)}, or a sequence of one entry per spatial "
            f"axis ({num_spatial_dims} here), each a name or a pair (lower, upper) of names: "
            f"got {boundary_mode!r}, {what}."
        )

    def parse_name(mode: Any) -> str:
        if not isinstance(mode, str):
            raise complain(TypeError, f"where {mode!r} is not a name")
        if mode.lower() not in names:
            raise complain(ValueError, f"where {mode!r} is unknown")
        return names[mode.lower()]

    def parse_entry(axis: int, entry: Any) -> Ends:
        if not isinstance(entry, Sequence) or isinstance(entry, str):
            mode = parse_name(entry)
            return (mode, mode)
        if len(entry) != 2:
            raise complain(ValueError, f"where {entry!r} has {len(entry)} names instead of 2")
        lower, upper = map(parse_name, entry)
        if lower != upper and "periodic" in (lower, upper):
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
