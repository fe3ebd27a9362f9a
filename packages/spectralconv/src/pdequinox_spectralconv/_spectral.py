"""The spectral convolution as a pure function on one sample and its weights."""

from collections.abc import Sequence

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from pdequinox_padding.meshes import on_auto_axes

from ._basis import Basis
from ._partition import field_of, modes_of
from ._transform import full_precision, Transform


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
    dtype, bases, shape = x.dtype, tuple(bases), tuple(output_shape)
    working = dtype if jnp.finfo(dtype).bits >= 32 else jnp.dtype(jnp.float32)
    weights = [w.astype(working) for w in (weights_real, weights_imag) if w is not None]

    def convolve(x: Array, *weights: Array) -> Array:
        z = multiply(modes_of(x, bases, transform), weights)
        return field_of(z, x, bases, shape, transform)

    out = on_auto_axes(
        convolve,
        (weights_real.shape[1], *shape),
        lambda x, w, *_: (w[1], *x[1:]),
        x.astype(working),
        *weights,
    )
    return out.astype(dtype)


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
    real, imag = (product(w, z) for w in weights)
    return real + jnp.stack([-imag[1], imag[0]])
