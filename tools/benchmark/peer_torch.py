"""Makes PyTorch's own layers, on an accelerator if there is one, and otherwise on the CPU."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from rows import Row, Task, UnsupportedError


MODES = {"periodic": "circular", "dirichlet": "zeros", "neumann": "reflect", "outflow": "replicate"}


def make(row: Row) -> torch.nn.Module:
    """Makes the layer of the row. A transposed layer pads with zeros, whatever the boundary."""
    if row.group == "networks":
        raise UnsupportedError("has no such network")
    if row.members or row.scan:
        raise UnsupportedError("has no vmap over layers, and no scan")
    if row.boundary_mode not in MODES:
        raise UnsupportedError(f"no padding mode for {row.boundary_mode}")
    k, d = row.kernel, row.dilation
    arguments: dict[str, Any] = dict(stride=row.stride, dilation=d, groups=row.groups)
    if row.layer == "PhysicsConvTranspose":
        layer = getattr(torch.nn, f"ConvTranspose{row.dims}d")
        # `(n - 1) s - 2 p + k + o` outputs.
        padding = (k - 1) // 2
        left = row.stride - k + 2 * padding
        crop = 0
        if left < 0:
            crop, left = -left, 0
        layer = layer(*row.channels, k, padding=padding, output_padding=left, **arguments)
        if crop:
            return torch.nn.Sequential(layer, Crop(row.out))
        return layer
    layer = getattr(torch.nn, f"Conv{row.dims}d")
    if (k - 1) % 2:
        raise UnsupportedError("even kernels have unequal padding")
    return layer(
        *row.channels,
        k,
        padding=(k - 1) // 2 * d,
        padding_mode=MODES[row.boundary_mode],
        **arguments,
    )


class Crop(torch.nn.Module):
    """Crops the output to the size of the row."""

    def __init__(self, out: tuple[int, ...]) -> None:
        super().__init__()
        self.index = (..., *(slice(n) for n in out))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Gives a view of the field."""
        return x[self.index]


def prepare(
    task: Task,
    make: Callable[[Row], torch.nn.Module] = make,
    compile: Callable[[Callable], Callable] = lambda function: function,
) -> Any:
    """Prepares a task, as `worker.serve` describes. `make(row)` gives the layer, and `compile` the
    function that runs in place of a function of the field.
    """
    row = task.row
    torch.set_num_threads(os.cpu_count() or 1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = getattr(torch, row.dtype)
    layer = make(row).to(device)
    if dtype != torch.float32:  # to which `to` would make complex weights real
        layer = layer.to(dtype)
    field = lambda seed, shape: torch.tensor(
        np.random.default_rng(seed).standard_normal(shape), dtype=dtype, device=device
    )
    x = field(0, (row.batch, row.channels[0], *row.spatial))
    activation = torch.relu if task.activated else lambda x: x
    forward = lambda x: activation(layer(activation(x)))
    finish = torch.cuda.synchronize if device == "cuda" else lambda: None
    try:
        with torch.no_grad():
            shape = tuple(forward(x).shape)
        if shape != (row.batch, row.channels[1], *row.out):
            raise UnsupportedError("another shape of the output")
        if task.what == "forward":
            function = compile(forward)

            def run() -> None:
                with torch.no_grad():
                    function(x)
                finish()

        else:
            cotangent = field(1, shape)
            loss = compile(lambda x: (forward(x) * cotangent).sum())
            x.requires_grad_()

            def run() -> None:
                x.grad = None
                layer.zero_grad(set_to_none=True)
                loss(x).backward()
                finish()

        run()
    except RuntimeError as error:
        raise UnsupportedError(str(error).splitlines()[0]) from error
    return run, {}
