"""The spectral convolution as a pure function on one sample and its weights."""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ._basis import Basis
from ._transform import analyse, full_precision, synthesise, Transform


def spectral_convolve(
    x: Float[Array, "in_channels *spatial"],
    weights_real: Float[Array, "groups out_channels in_channels *num_modes"],
    weights_imag: Float[Array, "groups out_channels in_channels *num_modes"] | None,
    bases: Sequence[Basis],
    output_shape: Sequence[int],
    transform: Transform | None = None,
) -> Float[Array, "out_channels *output_shape"]:
    """Analyses every axis, multiplies the kept coefficients, and synthesises every axis.

    Half-precision fields are transformed in float32.
    """
    dtype, spatial = x.dtype, x.shape[1:]
    working = dtype if jnp.finfo(dtype).bits >= 32 else jnp.dtype(jnp.float32)
    weights = [w.astype(working) for w in (weights_real, weights_imag) if w is not None]

    # The last axis, whose points are neighbours in memory, is the first to shrink, while the field
    # is large: that one is not copied.
    z = x.astype(working)[None, None]
    for axis in reversed(range(len(bases))):
        z = analyse(z, axis, bases[axis], transform)
    z = multiply(z, weights)
    for axis, basis in enumerate(bases):
        z = synthesise(z, axis, basis, output_shape[axis], spatial[axis], transform)
    return z[0, 0].astype(dtype)


def multiply(
    z: Float[Array, "parts groups in_channels *num_modes"],
    weights: Sequence[Float[Array, "groups out_channels in_channels *num_modes"]],
) -> Float[Array, "parts groups out_channels *num_modes"]:
    """The product of each mode's matrix and coefficients: with two parts
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
    return product(weights[0], z) + product(weights[1], jnp.stack([-z[1], z[0]]))
