"""Converts the layers of pdequinox 0.1.2, which it knows by their names: pdequinox is not imported.

Where pdequinox differs from its documentation, this file finds a layer here that computes the same,
or names the difference.
"""

from collections.abc import Callable
from typing import Any

from pdequinox_physconv import (
    MorePaddingConv,
    MorePaddingConvTranspose,
    PhysicsConv,
    PhysicsConvTranspose,
)
from pdequinox_pointwise import PointwiseLinearConv
from pdequinox_spectralconv import SpectralConv

from ._layers import arguments_of, CannotConvertError, layer_with


def _arrays(layer: Any) -> dict[str, Any]:
    return {"weight": layer.weight, "bias": layer.bias}


def _pointwise(layer: Any) -> PointwiseLinearConv:
    return layer_with(_arrays(layer), PointwiseLinearConv, **arguments_of(layer))


def _explicit(layer: Any) -> MorePaddingConv:
    names = ("kernel_size", "stride", "padding", "padding_mode", "dilation", "groups")
    return layer_with(_arrays(layer), MorePaddingConv, **arguments_of(layer, *names))


def _same(layer: Any) -> PhysicsConv:
    names = ("kernel_size", "stride", "dilation", "groups", "boundary_mode")
    return layer_with(_arrays(layer), PhysicsConv, **arguments_of(layer, *names))


def _same_transposed(layer: Any) -> PhysicsConvTranspose | MorePaddingConvTranspose:
    if any(k % 2 == 0 for k in layer.kernel_size):
        return _explicit_transposed(layer)
    names = ("kernel_size", "stride", "output_padding", "dilation", "groups", "boundary_mode")
    return layer_with(_arrays(layer), PhysicsConvTranspose, **arguments_of(layer, *names))


def _explicit_transposed(layer: Any) -> MorePaddingConvTranspose:
    """Finds the layer with the padding `(k - 1) * d - p`.

    pdequinox takes its `padding` as that of the input with zeros between its points: output 0
    begins at `-p`, and not at `-((k - 1) * d - p)`. The two differ for even kernels, for which the
    layer is not what it was meant to be.

    Except for zeros, the input is extended by `e = ceil(w / s)` points, `w = (k - 1) * d - p` (plus
    the output padding at the upper end). The next point would be at `(e + 1) * s` beyond the last.
    If that is within `p`, the extension is too short, because a zero is there.
    """
    padding = []
    for k, s, d, o, pair in zip(
        layer.kernel_size, layer.stride, layer.dilation, layer.output_padding, layer.padding,
        strict=True,
    ):  # fmt: skip
        reach = (k - 1) * d
        if max(pair) > reach:
            raise CannotConvertError(
                f"its padding of {pair} is wider than its kernel reaches, which is {reach} points"
            )
        for p, more in zip(pair, (0, o), strict=True):
            extended = -(-(reach - p + more) // s)
            if layer.padding_mode != "zeros" and p + more >= (extended + 1) * s:
                raise CannotConvertError(
                    "it is shifted, because its kernel is even or its padding is wide, and extends "
                    "the field by too few points, beyond which pdequinox takes zeros instead of "
                    f"its extension (kernel of {k} points, stride {s}, dilation {d}, "
                    f"padding {pair}, output padding {o})"
                )
        padding.append([reach - p for p in pair])
    names = ("kernel_size", "stride", "padding_mode", "output_padding", "dilation", "groups")
    arguments = arguments_of(layer, *names)
    return layer_with(_arrays(layer), MorePaddingConvTranspose, padding=padding, **arguments)


def _spectral(layer: Any) -> SpectralConv:
    """Finds the integers of a layer from the shape of its weights, `(2**(D - 1), C, C, *num_modes)`
    after any axes of an ensemble. They are leaves in pdequinox, so an optimiser's state lacks them.
    """
    shape = getattr(layer.weights_real, "shape", None)
    if shape is None:
        raise CannotConvertError("its weights are not arrays, so its channels are not known")
    dims = range(1, len(shape) - 2)
    if isinstance(layer.num_spatial_dims, int):
        dims = [layer.num_spatial_dims]
    else:
        dims = [d for d in dims if shape[-d - 3] == 2 ** (d - 1) and shape[-d - 1] == shape[-d - 2]]
    if len(dims) != 1:
        raise CannotConvertError(
            f"its number of dimensions is not known: weights of shape {shape} are those of layers "
            f"in {len(dims)} different numbers of dimensions"
        )
    out_channels, in_channels, *num_modes = shape[-dims[0] - 2 :]
    if out_channels != in_channels:
        raise CannotConvertError(
            f"pdequinox confuses its {out_channels} input and {in_channels} output channels, so "
            "that it is not the layer that it was meant to be"
        )
    return layer_with(
        {"weights_real": layer.weights_real, "weights_imag": layer.weights_imag},
        SpectralConv,
        num_spatial_dims=dims[0],
        in_channels=in_channels,
        out_channels=out_channels,
        num_modes=num_modes,
    )


LAYERS: dict[str, Callable[[Any], Any]] = {
    "MorePaddingConv": _explicit,
    "MorePaddingConvTranspose": _explicit_transposed,
    "PhysicsConv": _same,
    "PhysicsConvTranspose": _same_transposed,
    "PointwiseLinearConv": _pointwise,
    "SpectralConv": _spectral,
}


def known(cls: type) -> Callable[[Any], Any] | None:
    """Finds the function that converts the layers of a class of pdequinox."""
    if cls.__module__.split(".")[:2] == ["pdequinox", "conv"]:
        return LAYERS.get(cls.__name__)
    return None
