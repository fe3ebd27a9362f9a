"""Makes layers of neuraloperator 2.0.0 on PyTorch, on the CPU."""

from typing import Any

import numpy as np
import peer_torch
import torch
from neuralop.layers.spectral_convolution import SpectralConv
from rows import Row, Task, UnsupportedError

from pdequinox_convert import spectral_to_neuraloperator


def layer(
    channels: tuple[int, int], modes: tuple[int, ...], weights: Any = "dense"
) -> SpectralConv:
    """Makes a layer that keeps the modes of this project, with factors of the same ranks, which are
    contracted one after the other. Given `n` modes, neuraloperator keeps `-n/2..n/2-1` on an axis,
    and `0..n/2` on the last one.
    """
    kept = [2 * m for m in modes[:-1]] + [2 * (modes[-1] - 1)]
    arguments: dict[str, Any] = dict(bias=False)
    if weights == "axiswise":
        raise UnsupportedError("has no such weights")
    if weights == "depthwise":
        arguments["separable"] = True
    elif weights != "dense":
        kind, ranks = weights
        names = dict(cp="CP", tucker="Tucker")
        ranks = [ranks] * (len(modes) + 2) if kind == "tucker" else ranks
        arguments |= dict(factorization=names[kind], rank=ranks, implementation="factorized")
    return SpectralConv(*channels, kept, **arguments)


def make(row: Row) -> torch.nn.Module:
    """Makes the layer of the row."""
    if row.layer != "SpectralConv":
        raise UnsupportedError("has no such network")
    if row.boundary_mode != "periodic":
        raise UnsupportedError("periodic axes only")
    if row.transform is not None:
        raise UnsupportedError("has fast transforms only")
    if row.dtype != "float32":
        raise UnsupportedError("its weights are complex64")
    if row.members:
        raise UnsupportedError("has no vmap over layers")
    modes = row.modes if isinstance(row.modes, tuple) else (row.modes,) * row.dims
    return layer(row.channels, modes, row.weights)


def copied(ours: Any) -> SpectralConv:
    """Makes a layer with the weights of a layer of this project."""
    _, weight = spectral_to_neuraloperator(ours)
    result = layer((ours.in_channels, ours.out_channels), ours.num_modes)
    with torch.no_grad():
        result.weight.tensor.copy_(torch.tensor(weight))
    return result


def apply(layer: SpectralConv, x: np.ndarray, output_shape: Any = None) -> np.ndarray:
    """Applies a layer to one sample."""
    with torch.no_grad():
        return layer(torch.tensor(x)[None], output_shape=output_shape)[0].numpy()


def prepare(task: Task) -> Any:
    """Prepares a task, as `worker.serve` describes."""
    return peer_torch.prepare(task, make)
