"""Makes Equinox's own layers, with the padding that makes them do the same work."""

from typing import Any

import equinox as eqx
from rows import Row, Task, UnsupportedError
from with_jax import prepare as prepare_with_jax


MODES = {"periodic": "CIRCULAR", "dirichlet": "ZEROS", "neumann": "REFLECT", "outflow": "REPLICATE"}


def make(row: Row, key: Any) -> eqx.Module:
    """Makes the layer of the row."""
    if row.group == "networks":
        raise UnsupportedError("has no such network")
    if row.boundary_mode not in MODES:
        raise UnsupportedError(f"no padding mode for {row.boundary_mode}")
    k, d = row.kernel, row.dilation
    arguments: dict[str, Any] = dict(
        num_spatial_dims=row.dims,
        in_channels=row.channels[0],
        out_channels=row.channels[1],
        kernel_size=k,
        stride=row.stride,
        padding=(((k - 1) // 2 * d, k // 2 * d),) * row.dims,
        dilation=d,
        groups=row.groups,
        key=key,
    )
    if row.layer != "PhysicsConvTranspose":
        return eqx.nn.Conv(padding_mode=MODES[row.boundary_mode], **arguments)
    if row.boundary_mode != "dirichlet":
        raise UnsupportedError("its transposed layer pads with zeros")
    return eqx.nn.ConvTranspose(output_padding=row.stride - 1, **arguments)


def prepare(task: Task) -> Any:
    """Prepares a task, as `worker.serve` describes."""
    return prepare_with_jax(task, make)
