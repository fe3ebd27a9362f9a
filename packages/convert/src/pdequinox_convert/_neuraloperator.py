"""Converts the weights of the spectral convolution of neuraloperator 2.0.0, as NumPy arrays.

All of its axes but the last have the wavenumbers `-(n // 2)..n - n // 2 - 1`, in order. The last
axis has `0..n // 2`, so that a weight has `n // 2 + 1` of them. Factors of a weight are those of
tensorly-torch: one of shape `(size, rank)` for each axis of the weight.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, no_type_check, TypeAlias

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from pdequinox_operators.checks import integer, Integers
from pdequinox_spectralconv import SpectralConv

from ._layers import as_numpy, CannotConvertError, chosen_dtype, layer_with, named, one_layer


Weight: TypeAlias = np.ndarray | dict[str, np.ndarray]

# The entry of each factorisation that is not one of its factors.
FIRST = {"dense": "tensor", "cp": "weights", "tucker": "core"}


@no_type_check
def spectral_from_neuraloperator(
    weight: ArrayLike | Mapping[str, ArrayLike],
    n_modes: Integers | None = None,
    *,
    separable: bool | None = None,
    dtype: Any = None,
) -> SpectralConv:
    """Makes the layer that has the weights of a `SpectralConv` of neuraloperator.

    Outputs are equal on grids with even numbers of points along all axes but the last. On odd
    numbers, neuraloperator shifts the wavenumbers by one on their way back. If a field does not
    hold a wave, that is an error here; neuraloperator takes as many modes as fit.

    **Arguments:**

    - `weight`: The result of neuraloperator's `layer.weight.state_dict()`, or the same entries as
        arrays of NumPy or as anything that NumPy reads as an array, all complex: `"tensor"` of a
        dense weight; `"weights"` and `"factors.factor_0"`, `"factors.factor_1"`, ... of a CP
        factorisation; `"core"` and the factors of a Tucker factorisation. Each name may begin with
        `"weight."`, as in `layer.state_dict()`. A dense weight may be just the array, of shape
        `(in_channels, out_channels, *modes)`, or `(channels, *modes)` if the layer is `separable`.
        The weight of a layer with `complex_data`, whose last axis has both signs, cannot be told
        from others, and must not be given. A bias is left to the caller, because layers here have
        none ([`pdequinox_convert.load_neuraloperator_fno`][] adds it).
    - `n_modes`: The `n_modes` that the layer was made with, one integer per axis, if it has fewer
        modes in use than weights (`max_n_modes`). `None` means that all are in use.
    - `separable`: Whether the layer multiplies every channel separately, so that the weight has
        only one axis of channels. `None` means that the number of `n_modes` decides, and without
        `n_modes` it means `False`. (Keyword only.)
    - `dtype`: The dtype of the parameters; `None` means that of the weight's real part. (Keyword
        only.)

    **Returns:**

    A periodic [`pdequinox_spectralconv.SpectralConv`][]. Its `num_modes` are `(n + 1) // 2` for an
    axis with `n` of the `n_modes`, and `n // 2 + 1` for the last axis. Its `weights` are `"dense"`,
    `"depthwise"` (for a separable layer), `("cp", rank)`, with the `"weights"` multiplied into the
    first factor, or `("tucker", ranks)`.

    **Raises:** `TypeError` or `ValueError` for an argument that is not as described above;
    `CannotConvertError`, a `ValueError`, for other factorisations (TT), and for factors of a layer
    that is `separable`.
    """
    if not isinstance(separable, bool | None):
        raise TypeError(f"`separable` must be True, False or None, got {separable!r}.")
    return spectral_of(read_weight(weight), n_modes, separable, dtype)


@dataclass(frozen=True)
class ReadWeight:
    """Holds the arrays of a weight, and the name of its factorisation."""

    name: str
    kind: str
    first: np.ndarray
    factors: tuple[np.ndarray, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Gives the shape of the weight that the factors stand for."""
        return tuple(len(factor) for factor in self.factors) or self.first.shape


def read_weight(weight: Any, name: str = "weight") -> ReadWeight:
    """Reads an array, or a mapping of arrays with the names that they have in a `state_dict`."""
    if not isinstance(weight, Mapping):
        return ReadWeight(name, "dense", _complex(weight, name), ())
    arrays = {str(key).removeprefix("weight."): array for key, array in weight.items()}
    if "bias" in arrays:
        raise CannotConvertError(
            f"`{name}` must be given without the entry 'bias', because a `SpectralConv` has none: "
            "give `layer.weight.state_dict()`, and add the bias to the output."
        )
    factors = [f"factors.factor_{i}" for i in range(len(arrays))]
    for kind, first in FIRST.items():
        names = [first, *factors[: len(arrays) - 1]]
        if {*names} == {*arrays} and (len(names) > 1) == (kind != "dense"):
            read = [_complex(arrays[key], f"{name}.{key}") for key in names]
            found = ReadWeight(name, kind, read[0], tuple(read[1:]))
            _check_factors(found)
            return found
    if arrays and {*factors} == {*arrays}:
        raise CannotConvertError(
            f"`{name}` has only factors, as the factorization 'TT' has, which is not supported: "
            f"the factorization must be None, 'CP' or 'Tucker', got {sorted(arrays)}."
        )
    raise ValueError(
        f"`{name}` must have the entry 'tensor', or 'weights' or 'core' and 'factors.factor_0', "
        f"'factors.factor_1', ..., got {sorted(arrays)}."
    )


def _complex(value: Any, name: str) -> np.ndarray:
    array = as_numpy(value, name)
    if not np.issubdtype(array.dtype, np.complexfloating):
        raise TypeError(f"`{name}` must be an array of complex numbers, got dtype {array.dtype}.")
    return array


def _check_factors(weight: ReadWeight) -> None:
    first, shapes = weight.first.shape, [factor.shape for factor in weight.factors]
    ranks = first * len(shapes) if weight.kind == "cp" else first
    fits = weight.kind != "cp" or len(first) == 1
    if shapes and not (fits and [shape[1:] for shape in shapes] == [(rank,) for rank in ranks]):
        needed = "(rank,)" if weight.kind == "cp" else "(rank_0, rank_1, ...)"
        raise ValueError(
            f"`{weight.name}` must have {FIRST[weight.kind]!r} of shape {needed} and factors of "
            f"shape (size, rank), of the same ranks, got {first} and {shapes}."
        )


def spectral_of(
    weight: ReadWeight, n_modes: Any, separable: bool | None, dtype: Any
) -> SpectralConv:
    """Makes the layer from a weight that has been read."""
    numbers = None if n_modes is None else _numbers(n_modes)
    if separable is None:
        separable = numbers is not None and len(weight.shape) == len(numbers) + 1
    channels = 1 if separable else 2
    if numbers is not None and len(weight.shape) != len(numbers) + channels:
        raise ValueError(
            f"`n_modes` must have one entry per axis of modes, got {n_modes!r} for a "
            f"`{weight.name}` of shape {weight.shape} of a layer that is "
            f"{'' if separable else 'not '}`separable`."
        )
    if separable and weight.kind != "dense":
        raise CannotConvertError(
            f"`separable` must be False for a `{weight.name}` in factors, here {weight.kind!r} of "
            f"shape {weight.shape}: layers with one multiplier per channel are dense here."
        )
    if len(weight.shape) <= channels or 0 in weight.shape + weight.first.shape:
        shape = "(channels, *modes)" if separable else "(in_channels, out_channels, *modes)"
        raise ValueError(
            f"`{weight.name}` must have shape {shape}, with no axis of length 0, if `separable` is "
            f"{separable}, got {weight.shape}."
        )
    used = (*(slice(None),) * channels, *_used(weight, channels, numbers))
    counts = [len(range(n)[axis]) for n, axis in zip(weight.shape, used, strict=True)][channels:]
    if weight.kind == "dense":
        whole = weight.first[used]
        arrays = [
            _split(whole if separable else whole.swapaxes(0, 1), range(channels, whole.ndim - 1))
        ]
        kind = "depthwise" if separable else "dense"
    else:
        into, out, *axes = (factor[axis] for factor, axis in zip(weight.factors, used, strict=True))
        *full, last = (axis.T for axis in axes)
        waves = [*(_split(axis, [1]) for axis in full), _split(last, [])]
        if weight.kind == "cp":
            arrays, kind = [out * weight.first, into, *waves], ("cp", len(weight.first))
        else:
            core = weight.first.swapaxes(0, 1)
            arrays, kind = [out, into, *waves, core], ("tucker", core.shape)
    dtype = chosen_dtype(arrays[0].real.dtype, weight.name, dtype)
    parts = [
        tuple(jnp.asarray(part, dtype) for part in parts)
        for parts in ([a.real for a in arrays], [a.imag for a in arrays])
    ]
    real, imag = (part if len(part) > 1 else part[0] for part in parts)
    return layer_with(
        {"weights_real": real, "weights_imag": imag},
        SpectralConv,
        num_spatial_dims=len(counts),
        in_channels=weight.shape[0],
        out_channels=weight.shape[channels - 1],
        num_modes=(*((n + 1) // 2 for n in counts[:-1]), counts[-1]),
        weights=kind,
    )


@no_type_check
def spectral_to_neuraloperator(layer: SpectralConv) -> tuple[tuple[int, ...], Weight]:
    """Gives the `n_modes` and the weight of the `SpectralConv` of neuraloperator with the same
    multipliers.

    **Arguments:**

    - `layer`: A [`pdequinox_spectralconv.SpectralConv`][] that is periodic along every axis, with
        any `weights` but `"axiswise"`.

    **Returns:**

    The `n_modes`, and the weight. The `n_modes` are `2 * m` per axis, and `2 * (m - 1)` for the
    last axis (1 if it has one mode). The weight is complex64 or, for parameters in float64,
    complex128.

    A dense weight is an array of shape `(in_channels, out_channels, *modes)`. A depthwise weight is
    an array of shape `(channels, *modes)`, for a layer with `separable=True`. Factors are a
    dictionary, for `layer.weight.load_state_dict` after `torch.from_numpy`. It has
    `"factors.factor_0"`, `"factors.factor_1"`, ..., and either `"weights"`, all ones, for a layer
    with `factorization="CP"` and their number as its `rank`, or `"core"`, for a layer with
    `factorization="Tucker"` and the shape of the core as its `rank`. A layer with these and
    `bias=False` gives the same output on grids that are even along all axes but the last.

    **Raises:** `TypeError` for another kind of layer; `CannotConvertError`, a `ValueError`, for a
    layer between walls or with `weights="axiswise"`.
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
    structure = layer.structure
    if structure.kind == "axiswise":
        raise CannotConvertError(
            "neuraloperator's layers have no sums of matrices per axis: `weights` must be 'dense', "
            "'depthwise', ('cp', rank) or ('tucker', ranks), got 'axiswise'."
        )
    shapes = structure.shapes((layer.in_channels, layer.out_channels), layer.num_modes)
    real, imag = (
        [
            np.asarray(array, np.promote_types(array.dtype, np.float32))
            for array in (part if isinstance(part, tuple) else (part,))
        ]
        for part in (layer.weights_real, layer.weights_imag)
    )
    one_layer(real[0], len(shapes[0]), "layer")
    arrays = []
    for a, b, axes in zip(real, imag, structure.axes, strict=True):
        whole = a + 1j * b
        first = whole.ndim - 1 - len(axes)  # The first axis of modes, once the groups are gone.
        signed = [first + place for place, axis in enumerate(axes) if structure.full[axis]]
        arrays.append(_joined(whole, signed) if axes else whole)
    *signed, last = layer.num_modes
    n_modes = (*(2 * m for m in signed), max(2 * (last - 1), 1))
    if structure.kind == "depthwise":
        return n_modes, np.ascontiguousarray(arrays[0])
    if structure.kind == "dense":
        return n_modes, np.ascontiguousarray(arrays[0].swapaxes(0, 1))
    out, into, *waves = arrays
    if structure.kind == "cp":
        weight = {"weights": np.ones(structure.ranks, out.dtype)}
    else:
        weight = {"core": waves.pop().swapaxes(0, 1)}
    factors = [into, out, *(wave.T for wave in waves)]
    weight |= {f"factors.factor_{i}": factor for i, factor in enumerate(factors)}
    return n_modes, {name: np.ascontiguousarray(array) for name, array in weight.items()}


def _split(array: np.ndarray, signed: Sequence[int]) -> np.ndarray:
    """Splits the `signed` axes, which have wavenumbers of both signs in order, into groups, counted
    by a new first axis. Every signed axis has a bit in the number of a group, which is 1 if its
    wavenumbers are negative; the first of these axes has the lowest bit.
    """
    for place in reversed(signed):
        widths = [(0, 0)] * array.ndim
        widths[place] = (array.shape[place] % 2, 0)  # An odd number has one fewer negative.
        array = np.pad(array, widths)
        halves = (*array.shape[:place], 2, array.shape[place] // 2, *array.shape[place + 1 :])
        array = np.flip(array.reshape(halves), place)
    signs = [place + i for i, place in enumerate(signed)]
    array = np.moveaxis(array, signs, range(len(signs))[::-1])
    return array.reshape(2 ** len(signs), *array.shape[len(signs) :])


def _joined(array: np.ndarray, signed: Sequence[int]) -> np.ndarray:
    """Undoes `_split` for even numbers of wavenumbers."""
    signs = [place + i for i, place in enumerate(signed)]
    array = array.reshape(*(2,) * len(signs), *array.shape[1:])
    array = np.moveaxis(array, range(len(signs))[::-1], signs)
    for place in signed:
        shape = (*array.shape[:place], 2 * array.shape[place + 1], *array.shape[place + 2 :])
        array = np.flip(array, place).reshape(shape)
    return array


def _numbers(n_modes: Any) -> list[int]:
    given = (n_modes,) if np.ndim(n_modes) == 0 else tuple(n_modes)
    numbers = [integer(n, "n_modes") for n in given]
    if not numbers:
        raise ValueError(f"`n_modes` must have one entry per axis of modes, got {n_modes!r}.")
    return numbers


def _used(weight: ReadWeight, channels: int, numbers: list[int] | None) -> list[slice]:
    """Finds the modes that are in use, as neuraloperator does: those in the middle of the weight.
    On the last axis they begin at wavenumber 0.
    """
    counts = weight.shape[channels:]
    if numbers is None:
        return [slice(None)] * len(counts)
    wanted = [*numbers[:-1], numbers[-1] // 2 + 1]
    if any(want > have for have, want in zip(counts, wanted, strict=True)):
        raise ValueError(
            f"`n_modes` must be at most what `{weight.name}` of shape {weight.shape} has, got "
            f"{numbers!r}."
        )
    starts = [(have - want) // 2 for have, want in zip(counts, wanted, strict=True)]
    starts[-1] = 0
    return [slice(start, start + want) for start, want in zip(starts, wanted, strict=True)]
