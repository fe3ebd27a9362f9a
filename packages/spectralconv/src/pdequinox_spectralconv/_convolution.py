"""Defines what the layer computes: the product of every kept mode's matrix with its coefficients,
between the transforms of all axes (`_transform`), and the gradient of that product by the matrices.

Weights are `(*members, groups, out_channels, in_channels, *modes)`, and coefficients are
`(*samples, *members, parts, groups, channels, *modes)`. The argument `members` counts the axes of
members, and `space` those of modes.
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ._transform import full_precision


def product(
    weight: Float[Array, "*weight"],
    z: Float[Array, "*field"],
    *,
    members: int,
    space: int,
    adjoint: bool,
) -> Float[Array, "*field_out"]:
    """Multiplies each mode's coefficients by its real matrix, or by its transpose."""
    own, samples = range(members), z.ndim - 3 - space - members
    # The weights come first: then XLA brings their modes to the front once, for this product and
    # for its derivative by the coefficients. With the modes in front, members and groups come
    # before the other axes.
    batch = (
        (*own, members, *range(members + 3, weight.ndim)),
        (*(samples + i for i in own), z.ndim - space - 2, *range(z.ndim - space, z.ndim)),
    )
    contracted = ((members + (1 if adjoint else 2),), (z.ndim - space - 1,))
    out = lax.dot_general(weight, z, (contracted, batch), precision=full_precision())
    # (members, groups, modes, channels, samples, parts)
    channels = members + 1 + space
    order = (
        *range(channels + 1, channels + 1 + samples),
        *own,
        out.ndim - 1,
        members,
        channels,
        *range(members + 1, channels),
    )
    return jnp.transpose(out, order)


def gradient(
    y: Float[Array, "*field_out"], z: Float[Array, "*field"], *, members: int, space: int
) -> Float[Array, "*weight"]:
    """Sums `y[o] z[i]` over samples and parts, for every mode."""
    own, samples = range(members), z.ndim - 3 - space - members
    batch = (*(samples + i for i in own), z.ndim - space - 2, *range(z.ndim - space, z.ndim))
    summed = (*range(samples), samples + members)
    dimensions = ((summed, summed), (batch, batch))
    out = lax.dot_general(y, z, dimensions, precision=full_precision())
    # (members, groups, modes, out_channels, in_channels)
    return jnp.moveaxis(out, range(members + 1, members + 1 + space), range(-space, 0))
