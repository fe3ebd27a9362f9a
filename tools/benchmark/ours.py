"""Makes the layers of this project for the benchmark."""

from typing import Any

import equinox as eqx
from rows import Row, Task, UnsupportedError
from with_jax import prepare as prepare_with_jax

from pdequinox_convert import adopt
from pdequinox_physconv import PhysicsConv, PhysicsConvTranspose
from pdequinox_pointwise import PointwiseLinearConv
from pdequinox_spectralconv import SpectralConv


def make(row: Row, key: Any) -> eqx.Module:
    """Makes the layer of the row, or pdequinox's network with its layers replaced by these."""
    if row.group == "networks":
        try:
            import peer_pdequinox
        except ImportError as error:
            raise UnsupportedError("pdequinox is not installed") from error
        network, report = adopt(peer_pdequinox.make(row, key))
        assert not report.left, report
        return network
    arguments: dict[str, Any] = dict(
        num_spatial_dims=row.dims,
        in_channels=row.channels[0],
        out_channels=row.channels[1],
        key=key,
        dtype=row.dtype,
    )
    if row.layer == "PointwiseLinearConv":
        return PointwiseLinearConv(**arguments)
    if row.layer == "SpectralConv":
        return SpectralConv(
            num_modes=row.modes,
            boundary_mode=row.boundary_mode,
            method=row.transform or "auto",
            weights=row.weights,
            **arguments,
        )
    arguments |= dict(
        kernel_size=row.kernel,
        stride=row.stride,
        dilation=row.dilation,
        groups=row.groups,
        boundary_mode=row.boundary_mode,
    )
    if row.layer == "PhysicsConv":
        return PhysicsConv(**arguments)
    return PhysicsConvTranspose(output_padding=row.stride - 1, **arguments)


def prepare(task: Task) -> Any:
    """Prepares a task, as `worker.serve` describes."""
    return prepare_with_jax(task, make)
