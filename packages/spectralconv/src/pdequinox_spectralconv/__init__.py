"""The spectral convolution of Fourier neural operators, in any number of spatial dimensions."""

from ._spectral_conv import SpectralConv as SpectralConv


__version__ = "0.1.0"
