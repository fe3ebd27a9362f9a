"""The spectral convolution of neuraloperator 2.0.0: its weights alone, on NumPy arrays.

Its axes but the last have the wavenumbers `-(n // 2)..n - n // 2 - 1` in order, the last one
`0..n // 2`, of which a weight has `n // 2 + 1`.
"""

from itertools import product
from typing import Any, no_type_check

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from pdequinox_operators.checks import integer, Integers
from pdequinox_spectralconv import SpectralConv

from ._layers import as_numpy, CannotConvertError, chosen_dtype, layer_with, named, one_layer


@no_type_check
def spectral_from_neuraloperator(
    weight: ArrayLike, n_modes: Integers | None = None, *, dtype: Any = None
) -> SpectralConv:
    """Makes the layer that has the weights of a `SpectralConv` of neuraloperator.

    Outputs are equal on grids with even numbers of points along all axes but the last. On odd ones
    neuraloperator shifts the wavenumbers by one on their way back. A wave that a field does not
    hold is an error here; there, as many modes as fit are taken.

    **Arguments:**

    - `weight`: Its dense `weight.tensor`, complex, of shape `(in_channels, out_channels, *modes)`;
        an array of NumPy, or what NumPy reads as one. That of a layer with `complex_data`, whose
        last axis has both signs, cannot be told from others, and must not be given. A bias is left
        to the caller: layers here have none ([`pdequinox_convert.load_neuraloperator_fno`][] adds
        it).
    - `n_modes`: What the layer was made with, one integer per axis, if it has fewer modes in use
        than weights (`max_n_modes`). `None` is all.
    - `dtype`: Of the parameters; `None` is that of the weight's real part. (Keyword only.)

    **Returns:**

    A periodic [`pdequinox_spectralconv.SpectralConv`][] with `num_modes` of `(n + 1) // 2` for an
    axis with `n` of its `n_modes`, and of `n // 2 + 1` for the last one.

    **Raises:** `TypeError` or `ValueError` for what is not as said above; `CannotConvertError`, a
    `ValueError`, for weights of a layer that is `separable`, where `n_modes` tells them.
    """
    array = as_numpy(weight, "weight")
    if not np.issubdtype(array.dtype, np.complexfloating):
        raise TypeError(f"`weight` must be an array of complex numbers, got dtype {array.dtype}.")
    if n_modes is not None:
        array = _in_use(array, n_modes)
    if array.ndim < 3 or 0 in array.shape:
        raise ValueError(
            "`weight` must have shape (in_channels, out_channels, *modes), no axis of length 0, "
            f"got {array.shape}."
        )
    in_channels, out_channels, *counts = array.shape
    num_modes = (*((n + 1) // 2 for n in counts[:-1]), counts[-1])
    groups = []
    for signs in _signs(len(counts)):
        group = array
        for axis, (n, m, negative) in enumerate(zip(counts[:-1], num_modes, signs, strict=False)):
            half = np.split(group, [n // 2], axis + 2)[0 if negative else 1]
            # An odd number has one negative wavenumber less.
            missing = m - half.shape[axis + 2]
            widths = [(0, 0)] * group.ndim
            widths[axis + 2] = (missing, 0)
            group = np.pad(half, widths)
        groups.append(group.swapaxes(0, 1))
    whole = np.stack(groups)
    dtype = chosen_dtype(whole.real.dtype, "weight", dtype)
    return layer_with(
        {
            "weights_real": jnp.asarray(whole.real, dtype),
            "weights_imag": jnp.asarray(whole.imag, dtype),
        },
        SpectralConv,
        num_spatial_dims=len(counts),
        in_channels=in_channels,
        out_channels=out_channels,
        num_modes=num_modes,
    )


@no_type_check
def spectral_to_neuraloperator(layer: SpectralConv) -> tuple[tuple[int, ...], np.ndarray]:
    """Gives the `n_modes` and the weight of the `SpectralConv` of neuraloperator that has the same
    multipliers.

    **Arguments:**

    - `layer`: A [`pdequinox_spectralconv.SpectralConv`][] that is periodic along every axis.

    **Returns:**

    The `n_modes`, `2 * m` per axis and `2 * (m - 1)` for the last one (1 for one mode), and the
    weight, of shape `(in_channels, out_channels, *modes)`, complex64 or, for parameters in float64,
    complex128. A layer with these and `bias=False` gives the same output on grids that are even
    along all axes but the last.

    **Raises:** `TypeError` for another layer; `CannotConvertError`, a `ValueError`, for one between
    walls.
    """
    if not isinstance(layer, SpectralConv):
        raise TypeError(
            f"`layer` must be a `SpectralConv` of this project, got a `{named(type(layer))}`."
        )
    if not all(lower.wraps for lower, _ in layer.boundary.axes):
        raise CannotConvertError(
            "neuraloperator's layers are periodic along every axis, got `boundary_mode` = "
            f"{layer.boundary_mode!r}."
        )
    one_layer(layer.weights_real, layer.num_spatial_dims + 3, "layer")
    real, imag = (
        np.asarray(w, np.promote_types(w.dtype, np.float32))
        for w in (layer.weights_real, layer.weights_imag)
    )
    parts = real + 1j * imag
    *signed, last = layer.num_modes
    shape = (*parts.shape[1:3], *(2 * m for m in signed), last)
    whole = np.zeros(shape, parts.dtype)
    for part, signs in zip(parts, _signs(len(layer.num_modes)), strict=True):
        halves = [
            slice(0, m) if negative else slice(m, None)
            for m, negative in zip(signed, signs, strict=True)
        ]
        whole[(slice(None), slice(None), *halves)] = part
    n_modes = (*(2 * m for m in signed), max(2 * (last - 1), 1))
    return n_modes, np.ascontiguousarray(whole.swapaxes(0, 1))


def _signs(num_spatial_dims: int) -> list[tuple[int, ...]]:
    """Lists which axes are negative in each group: the first axis has the lowest bit."""
    bits = product((0, 1), repeat=num_spatial_dims - 1)
    return [tuple(reversed(group)) for group in bits]


def _in_use(weight: np.ndarray, n_modes: Any) -> np.ndarray:
    """Takes the modes out of the middle of the weight, as neuraloperator does; the last axis begins
    at wavenumber 0.
    """
    given = (n_modes,) if np.ndim(n_modes) == 0 else tuple(n_modes)
    numbers = [integer(n, "n_modes") for n in given]
    if not numbers:
        raise ValueError(f"`n_modes` must have one entry per axis of modes, got {n_modes!r}.")
    if weight.ndim == len(numbers) + 1:
        raise CannotConvertError(
            f"`weight` of shape {weight.shape} has one axis of channels for {len(numbers)} "
            "`n_modes`, as layers that are `separable`: these are not supported."
        )
    if weight.ndim != len(numbers) + 2:
        raise ValueError(
            f"`n_modes` must have one entry per axis of modes, got {n_modes!r} for a `weight` of "
            f"shape {weight.shape}."
        )
    numbers[-1] = numbers[-1] // 2 + 1
    for axis, (have, want) in enumerate(zip(weight.shape[2:], numbers, strict=True), 2):
        if want > have:
            raise ValueError(
                f"`n_modes` must be at most what `weight`, of shape {weight.shape}, has, got "
                f"{n_modes!r}."
            )
        start = 0 if axis == weight.ndim - 1 else (have - want) // 2
        weight = weight.take(range(start, start + want), axis)
    return weight
