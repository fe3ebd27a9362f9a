"""Provides the spectral convolution of Fourier neural operators, periodic and between walls, and
evaluates fields on other grids.
"""

from ._resample import alias_free as alias_free, resample as resample
from ._spectral_conv import dense_weights as dense_weights, SpectralConv as SpectralConv


__version__ = "0.6.0"
