"""Re-exports the public names of four packages under the name that users of pdequinox import."""

from pdequinox_padding import (
    Boundary as Boundary,
    BOUNDARY_MODES as BOUNDARY_MODES,
    BoundaryMode as BoundaryMode,
    Ends as Ends,
    format_boundary_mode as format_boundary_mode,
    format_padding_mode as format_padding_mode,
    free_slip as free_slip,
    halo_pad as halo_pad,
    pad as pad,
    PADDING_MODES as PADDING_MODES,
    parse_boundary_mode as parse_boundary_mode,
    parse_padding_mode as parse_padding_mode,
    per_channel as per_channel,
    PerChannel as PerChannel,
    POLE_MODES as POLE_MODES,
    same_padding as same_padding,
    transposed_widths as transposed_widths,
)
from pdequinox_physconv import (
    dilate_mask as dilate_mask,
    MorePaddingConv as MorePaddingConv,
    MorePaddingConvTranspose as MorePaddingConvTranspose,
    PhysicsConv as PhysicsConv,
    PhysicsConvTranspose as PhysicsConvTranspose,
)
from pdequinox_pointwise import PointwiseLinearConv as PointwiseLinearConv
from pdequinox_spectralconv import (
    alias_free as alias_free,
    dense_weights as dense_weights,
    resample as resample,
    SpectralConv as SpectralConv,
)
