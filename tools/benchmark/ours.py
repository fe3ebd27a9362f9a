"""This project."""

from typing import Any

import equinox as eqx
import jax
from rows import Row, Task, UnsupportedError
from with_jax import prepare as prepare_with_jax

from pdequinox_physconv import PhysicsConv, PhysicsConvTranspose
from pdequinox_pointwise import PointwiseLinearConv
from pdequinox_spectralconv import SpectralConv


def make(row: Row, key: Any) -> eqx.Module:
    """The layer of the row, or pdequinox's network with its layers replaced by these."""
    if row.group == "networks":
        try:
            import peer_pdequinox
        except ImportError as error:
            raise UnsupportedError("pdequinox is not installed") from error
        return replaced(peer_pdequinox.make(row, key))
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


def replaced(network: Any) -> Any:
    """The network with its convolutions replaced by those of this project, weights and all."""
    from pdequinox import conv as theirs

    ours = {
        theirs.PhysicsConv: PhysicsConv,
        theirs.PhysicsConvTranspose: PhysicsConvTranspose,
        theirs.PointwiseLinearConv: PointwiseLinearConv,
        theirs.SpectralConv: SpectralConv,
    }

    def replace(module: Any) -> Any:
        if type(module) not in ours:
            return module
        if isinstance(module, theirs.SpectralConv):
            weights = (module.weights_real, module.weights_imag)
            _, out_channels, in_channels, *modes = weights[0].shape
            layer = SpectralConv(
                module.num_spatial_dims, in_channels, out_channels, modes, key=jax.random.key(0)
            )
            return eqx.tree_at(lambda m: (m.weights_real, m.weights_imag), layer, weights)
        names = ("num_spatial_dims", "in_channels", "out_channels", "use_bias")
        if not isinstance(module, theirs.PointwiseLinearConv):
            names += ("kernel_size", "stride", "dilation", "groups", "boundary_mode")
        if isinstance(module, theirs.PhysicsConvTranspose):
            names += ("output_padding",)
        arguments = {name: getattr(module, name) for name in names}
        layer = ours[type(module)](**arguments, key=jax.random.key(0))
        return eqx.tree_at(
            lambda m: (m.weight, m.bias),
            layer,
            (module.weight, module.bias),
            is_leaf=lambda v: v is None,
        )

    return jax.tree.map(replace, network, is_leaf=lambda module: type(module) in ours)


def prepare(task: Task) -> Any:
    """See `worker.serve`."""
    return prepare_with_jax(task, make)
