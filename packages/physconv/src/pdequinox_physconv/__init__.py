"""Provides the convolution and its transpose, which know the boundary condition of the field."""

from ._conv import MorePaddingConv as MorePaddingConv, PhysicsConv as PhysicsConv
from ._conv_transpose import (
    MorePaddingConvTranspose as MorePaddingConvTranspose,
    PhysicsConvTranspose as PhysicsConvTranspose,
)
from ._mask import dilate_mask as dilate_mask


__version__ = "0.5.0"
