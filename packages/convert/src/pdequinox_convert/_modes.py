"""More or fewer modes of spectral layers that exist."""

from typing import Any, no_type_check

import jax
import jax.numpy as jnp
from jax import lax

from pdequinox_operators.checks import Integers, integers
from pdequinox_spectralconv import SpectralConv

from ._layers import layer_with, named, only_made_differently


@no_type_check
def resize_modes(model: Any, num_modes: Integers) -> Any:
    """Gives spectral layers more modes, which start at zero, or fewer.

    On the wavenumbers that are kept before and after, the multipliers are the same. With more
    modes, the output is the same for every field that holds them.

    **Arguments:**

    - `model`: A [`pdequinox_spectralconv.SpectralConv`][], or any pytree that has some: a network,
        an ensemble, the state of an optimiser of `optax`, in which the new modes have had no
        gradient yet.
    - `num_modes`: The number of modes of every layer, an integer for every axis or a sequence of
        one integer per axis.

    **Returns:**

    The same with `num_modes` in every spectral layer.

    **Raises:** `TypeError` or `ValueError` for other numbers, and where there is no spectral layer.
    """
    is_layer = lambda node: isinstance(node, SpectralConv)
    nodes, treedef = jax.tree.flatten(model, is_leaf=is_layer)
    if not any(map(is_layer, nodes)):
        raise ValueError(
            f"`model` must be a `SpectralConv` or have some, got a `{type(model).__qualname__}`."
        )
    resized = [_resize(node, num_modes) if is_layer(node) else node for node in nodes]
    return jax.tree.unflatten(treedef, resized)


def _resize(layer: SpectralConv, num_modes: Integers) -> SpectralConv:
    if not only_made_differently(type(layer), SpectralConv):
        raise TypeError(
            "`model` must have spectral layers that differ from `SpectralConv` in their "
            f"constructor alone, got a `{named(type(layer))}`."
        )
    modes = integers(num_modes, layer.num_spatial_dims, "num_modes")
    added = [new - old for new, old in zip(modes, layer.num_modes, strict=True)]
    periodic = [axis for axis, (lower, _) in enumerate(layer.boundary.axes) if lower.wraps]
    signed = periodic[:-1]  # Axes with both signs; their bit of the group tells which.

    def of_group(weights: jax.Array, group: int) -> jax.Array:
        """Adds at the end, where the highest wavenumber is; of negative ones, at the start."""
        widths = [(0, 0, 0)] * (weights.ndim - len(modes))
        for axis, more in enumerate(added):
            negative = axis in signed and group >> signed.index(axis) & 1
            widths.append((more, 0, 0) if negative else (0, more, 0))
        return lax.pad(weights, jnp.zeros((), weights.dtype), widths)

    def of_all(weights: jax.Array) -> jax.Array:
        groups = weights.ndim - len(modes) - 3  # Axes of an ensemble come before.
        split = [
            of_group(lax.index_in_dim(weights, group, groups), group)
            for group in range(weights.shape[groups])
        ]
        return jnp.concatenate(split, groups)

    def of_leaf(weights: Any) -> Any:
        if isinstance(weights, jax.ShapeDtypeStruct):
            return jax.eval_shape(of_all, weights)
        # Optimisers may have none, or a label.
        return weights if getattr(weights, "shape", None) is None else of_all(weights)

    return layer_with(
        {name: of_leaf(getattr(layer, name)) for name in ("weights_real", "weights_imag")},
        SpectralConv,
        num_spatial_dims=layer.num_spatial_dims,
        in_channels=layer.in_channels,
        out_channels=layer.out_channels,
        num_modes=modes,
        boundary_mode=layer.boundary_mode,
        out_boundary_mode=layer.out_boundary_mode,
        method=layer.method,
    )
