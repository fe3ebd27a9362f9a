"""Makes layers and networks of pdequinox 0.1.2."""

from typing import Any

import equinox as eqx
from rows import FNO, NETWORKS, Row, Task, UnsupportedError
from with_jax import prepare as prepare_with_jax

from pdequinox import arch, conv


def make(row: Row, key: Any) -> eqx.Module:
    """Makes the layer or network of the row."""
    arguments: dict[str, Any] = dict(
        num_spatial_dims=row.dims,
        in_channels=row.channels[0],
        out_channels=row.channels[1],
        key=key,
    )
    if row.layer == "PointwiseLinearConv":
        return conv.PointwiseLinearConv(**arguments)
    if row.layer == "ClassicFNO":
        return arch.ClassicFNO(num_modes=row.modes, **arguments, **FNO)
    if row.layer == "SpectralConv":
        if row.boundary_mode != "periodic":
            raise UnsupportedError("periodic axes only")
        if row.transform is not None:
            raise UnsupportedError("has fast transforms only")
        if row.channels[0] != row.channels[1]:
            raise UnsupportedError("confuses input and output channels")
        if row.dtype not in ("float32", "float64"):
            raise UnsupportedError(f"no transform in {row.dtype}")
        return conv.SpectralConv(num_modes=row.modes, **arguments)
    if row.boundary_mode not in ("periodic", "dirichlet", "neumann"):
        raise UnsupportedError(f"no boundary mode {row.boundary_mode}")
    arguments |= dict(boundary_mode=row.boundary_mode)
    if row.group == "networks":
        return getattr(arch, row.layer)(**arguments, **NETWORKS[row.layer])
    arguments |= dict(
        kernel_size=row.kernel, stride=row.stride, dilation=row.dilation, groups=row.groups
    )
    if row.layer == "PhysicsConv":
        return conv.PhysicsConv(**arguments)
    return conv.PhysicsConvTranspose(output_padding=row.stride - 1, **arguments)


def prepare(task: Task) -> Any:
    """Prepares a task, as `worker.serve` describes."""
    return prepare_with_jax(task, make)
