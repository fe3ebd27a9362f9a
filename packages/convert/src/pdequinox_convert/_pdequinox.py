"""The layers of pdequinox 0.1.2, which are known by their names: pdequinox is not imported.

Where that library differs from its documentation, a layer here that computes the same is found, or
the difference is named.
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

from ._layers import CannotConvertError, layer_with


def _arguments(layer: Any, *names: str) -> dict[str, Any]:
    names = ("num_spatial_dims", "in_channels", "out_channels", "use_bias", *names)
    return {name: getattr(layer, name) for name in names}


def _arrays(layer: Any) -> dict[str, Any]:
    return {"weight": layer.weight, "bias": layer.bias}


def _pointwise(layer: Any) -> PointwiseLinearConv:
    return layer_with(_arrays(layer), PointwiseLinearConv, **_arguments(layer))


def _explicit(layer: Any) -> MorePaddingConv:
    names = ("kernel_size", "stride", "padding", "padding_mode", "dilation", "groups")
    return layer_with(_arrays(layer), MorePaddingConv, **_arguments(layer, *names))


def _same(layer: Any) -> PhysicsConv:
    names = ("kernel_size", "stride", "dilation", "groups", "boundary_mode")
    return layer_with(_arrays(layer), PhysicsConv, **_arguments(layer, *names))


def _same_transposed(layer: Any) -> PhysicsConvTranspose | MorePaddingConvTranspose:
    if any(k % 2 == 0 for k in layer.kernel_size):
        return _explicit_transposed(layer)
    names = ("kernel_size", "stride", "output_padding", "dilation", "groups", "boundary_mode")
    return layer_with(_arrays(layer), PhysicsConvTranspose, **_arguments(layer, *names))


def _explicit_transposed(layer: Any) -> MorePaddingConvTranspose:
    """pdequinox takes its `padding` for the points that are added to the input with zeros between
    its points, and not for that of the convolution that is transposed: the layer with the padding
    `(k - 1) * d - p` is what it computes, and for even kernels, for which both differ by one point,
    not what it was meant to.

    Except for zeros, the input is extended by `ceil(w / s)` points, `w = (k - 1) * d - p` (and the
    output padding `o`, above), and `p` (and `o`) of what comes of them with zeros between is used.
    That reaches beyond the extended points, to where zeros stand in place of the extension, if
    there is another point of it within `p`.
    """
    padding = []
    for k, s, d, o, pair in zip(
        layer.kernel_size, layer.stride, layer.dilation, layer.output_padding, layer.padding,
        strict=True,
    ):  # fmt: skip
        own = [(k - 1) * d - p for p in pair]
        for w, p, more in zip(own, pair, (0, o), strict=True):
            if layer.padding_mode != "zeros" and p + more >= (-(-(w + more) // s) + 1) * s:
                raise CannotConvertError(
                    "it is shifted, because its kernel is even or its padding is wide, and extends "
                    "the field by too few points, beyond which pdequinox takes zeros in place of "
                    f"its extension (kernel of {k} points, stride {s}, dilation {d}, "
                    f"padding {pair}, output padding {o})"
                )
        padding.append(own)
    names = ("kernel_size", "stride", "padding_mode", "output_padding", "dilation", "groups")
    arguments = _arguments(layer, *names)
    return layer_with(_arrays(layer), MorePaddingConvTranspose, padding=padding, **arguments)


def _spectral(layer: Any) -> SpectralConv:
    """Of its integers, which are leaves there, nothing is left in the state of an optimiser: the
    shape of the weights tells them, `(2**(D - 1), C, C, *num_modes)` after any axes of an ensemble.
    """
    shape = getattr(layer.weights_real, "shape", None)
    if shape is None:
        raise CannotConvertError("its weights are not arrays, so that its channels are not known")
    dims = range(1, len(shape) - 2)
    if isinstance(layer.num_spatial_dims, int):
        dims = [layer.num_spatial_dims]
    else:
        dims = [d for d in dims if shape[-d - 3] == 2 ** (d - 1) and shape[-d - 1] == shape[-d - 2]]
    if len(dims) != 1:
        raise CannotConvertError(
            f"its weights of shape {shape} are those of layers in {len(dims)} numbers of dimensions"
        )
    out_channels, in_channels, *num_modes = shape[-dims[0] - 2 :]
    if out_channels != in_channels:
        raise CannotConvertError(
            f"pdequinox confuses its {out_channels} input and {in_channels} output channels, so "
            "that it is not the layer that it was made as"
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
    """Finds what converts the layers of a class of pdequinox."""
    if cls.__module__.split(".")[:2] == ["pdequinox", "conv"]:
        return LAYERS.get(cls.__name__)
    return None
