"""Convolution layers for neural PDE emulators; the layers are in `pdequinox.conv`."""

from . import conv as conv


__version__ = "0.6.0"
