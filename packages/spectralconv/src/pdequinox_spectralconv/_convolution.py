"""What the layer computes: the product of every kept mode's matrix with its coefficients, between
the transforms of all axes (`_transform`).
"""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ._transform import full_precision


def multiply(
    z: Float[Array, "parts groups in_channels *num_modes"],
    weights: Sequence[Float[Array, "groups out_channels in_channels *num_modes"]],
) -> Float[Array, "parts groups out_channels *num_modes"]:
    """Multiplies each mode's coefficients by its matrix: with two parts
    `(Wr + i Wi) Z = Wr Z + Wi (i Z)`, so that no array of all weights is made.
    """
    modes = range(3, z.ndim)

    def product(w: Array, z: Array) -> Array:
        # The weights first: then XLA brings their modes to the front once, for this product and for
        # its derivative by the coefficients. With the modes in front, groups before the others.
        batch = ((0, *modes), (1, *modes))
        out = lax.dot_general(w, z, (((2,), (2,)), batch), precision=full_precision())
        return jnp.moveaxis(out, (-1, -2), (0, 2))

    if len(weights) == 1:
        return product(weights[0], z)
    real, imag = (product(w, z) for w in weights)
    parts = [-lax.slice_in_dim(imag, 1, 2), lax.slice_in_dim(imag, 0, 1)]
    return real + lax.concatenate(parts, 0)
