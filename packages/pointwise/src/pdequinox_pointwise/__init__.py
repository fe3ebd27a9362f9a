"""Provides the pointwise (1x1) convolution, in any number of spatial dimensions."""

from ._pointwise_linear_conv import PointwiseLinearConv as PointwiseLinearConv


__version__ = "0.5.0"
