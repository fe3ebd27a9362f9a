"""Provides boundary modes of fields on structured grids, and padding that follows them."""

from ._boundary import (
    Boundary as Boundary,
    BOUNDARY_MODES as BOUNDARY_MODES,
    BoundaryMode as BoundaryMode,
    Ends as Ends,
    format_boundary_mode as format_boundary_mode,
    format_padding_mode as format_padding_mode,
    free_slip as free_slip,
    PADDING_MODES as PADDING_MODES,
    parse_boundary_mode as parse_boundary_mode,
    parse_padding_mode as parse_padding_mode,
    per_channel as per_channel,
    PerChannel as PerChannel,
    POLE_MODES as POLE_MODES,
)
from ._halo import halo_pad as halo_pad
from ._pad import pad as pad
from ._same import (
    same_padding as same_padding,
    transposed_widths as transposed_widths,
)


__version__ = "0.4.0"
