"""Changes the number of modes of existing spectral layers."""

from typing import Any, no_type_check

import jax
import jax.numpy as jnp
from jax import lax

from pdequinox_operators.checks import Integers, integers
from pdequinox_spectralconv import SpectralConv

from ._layers import layer_with, named, only_made_differently


@no_type_check
def resize_modes(model: Any, num_modes: Integers) -> Any:
    """Gives spectral layers more modes, which start at zero, or fewer modes.

    The multipliers of wavenumbers that are kept before and after stay the same. With more modes,
    all other multipliers are zero, and the output is the same on every grid that holds them.

    `weights="axiswise"` are the exception, because the multiplier of the wavenumbers `k` is a sum,
    `A^1_(k_1) + ... + A^D_(k_D)`, which cannot be zero wherever one of them is new. The matrices
    `A^a_k` of new wavenumbers are zero. So a multiplier that is new along some axes is the sum of
    the matrices of the other axes, and zero if it is new along all axes. On grids
    that hold the new modes, the output is the same for every field without the wavenumbers that are
    new along an axis.

    **Arguments:**

    - `model`: A [`pdequinox_spectralconv.SpectralConv`][], or any pytree that contains some: a
        network, an ensemble, or the state of an optimiser of `optax`, in which the new modes have
        had no gradient yet.
    - `num_modes`: The number of modes of every layer: an integer for all axes, or a sequence with
        one integer per axis.

    **Returns:**

    The same pytree, with `num_modes` in every spectral layer.

    **Raises:** `TypeError` or `ValueError` for other numbers, for a model without a spectral layer,
    and for states that do not have the shape of the weights (such as those of `optax.adafactor`).
    """
    is_layer = lambda node: isinstance(node, SpectralConv)
    nodes, treedef = jax.tree.flatten(model, is_leaf=is_layer)
    if not any(map(is_layer, nodes)):
        raise ValueError(
            f"`model` must be a `SpectralConv` or contain one, got a `{type(model).__qualname__}`."
        )
    resized = [_resize(node, num_modes) if is_layer(node) else node for node in nodes]
    return jax.tree.unflatten(treedef, resized)


def _resize(layer: SpectralConv, num_modes: Integers) -> SpectralConv:
    if not only_made_differently(type(layer), SpectralConv):
        raise TypeError(
            "`model` must have spectral layers that differ from `SpectralConv` only in their "
            f"constructor, got a `{named(type(layer))}`."
        )
    modes = integers(num_modes, layer.num_spatial_dims, "num_modes")
    added = [new - old for new, old in zip(modes, layer.num_modes, strict=True)]
    structure = layer.structure
    shapes = structure.shapes((layer.in_channels, layer.out_channels), layer.num_modes)

    def of_group(weights: jax.Array, axes: tuple[int, ...], group: int) -> jax.Array:
        """Adds modes at the end, where the highest wavenumber is; negative ones at the start."""
        widths = [(0, 0, 0)] * (weights.ndim - len(axes))
        signed = [axis for axis in axes if structure.full[axis]]  # The group has a bit for each.
        for axis in axes:
            negative = axis in signed and group >> signed.index(axis) & 1
            widths.append((added[axis], 0, 0) if negative else (0, added[axis], 0))
        return lax.pad(weights, jnp.zeros((), weights.dtype), widths)

    def of_all(weights: jax.Array, axes: tuple[int, ...], shape: tuple[int, ...]) -> jax.Array:
        groups = weights.ndim - len(shape)  # Axes of an ensemble come before.
        split = [
            of_group(lax.index_in_dim(weights, group, groups), axes, group)
            for group in range(weights.shape[groups])
        ]
        return jnp.concatenate(split, groups)

    def of_leaf(weights: Any, axes: tuple[int, ...], shape: tuple[int, ...]) -> Any:
        # Optimisers may have no array, or a label; factors of channels have no modes.
        if getattr(weights, "shape", None) is None or not axes:
            return weights
        if tuple(weights.shape[-len(shape) :]) != shape:
            raise ValueError(
                f"`model` must have weights of shape {shape} in a spectral layer, after axes of an "
                f"ensemble, and states of optimisers of these shapes, got {tuple(weights.shape)}."
            )
        resized = lambda weights: of_all(weights, axes, shape)
        if isinstance(weights, jax.ShapeDtypeStruct):
            return jax.eval_shape(resized, weights)
        return resized(weights)

    def of_part(weights: Any) -> Any:
        if type(weights) is not tuple:  # One array, or what an optimiser has for all of them.
            return of_leaf(weights, structure.axes[0], shapes[0])
        return tuple(map(of_leaf, weights, structure.axes, shapes))

    return layer_with(
        {name: of_part(getattr(layer, name)) for name in ("weights_real", "weights_imag")},
        SpectralConv,
        num_spatial_dims=layer.num_spatial_dims,
        in_channels=layer.in_channels,
        out_channels=layer.out_channels,
        num_modes=modes,
        boundary_mode=layer.boundary_mode,
        out_boundary_mode=layer.out_boundary_mode,
        weights=layer.weights,
        method=layer.method,
    )
