"""The spectral convolution of Fourier neural operators, periodic and between walls."""

from ._spectral_conv import SpectralConv as SpectralConv


__version__ = "0.5.0"
