"""Holds the convolution layers for neural PDE emulators, in `pdequinox.conv`."""

from importlib.metadata import distributions as _distributions


if any(_distributions(name="pdequinox")):
    raise ImportError(
        "the distributions pdequinox-conv and pdequinox are both installed, and share the import "
        "`pdequinox`, so that files of one have replaced some of the other. Uninstall both; then "
        "install pdequinox with pdequinox-physconv, pdequinox-spectralconv, pdequinox-pointwise and"
        " pdequinox-convert for its architectures on these layers, or pdequinox-conv without it."
    )

from . import conv as conv


__version__ = "0.7.0"
