"""Computes the Fourier coefficients of real lines, and the transpose of that map, as one operator:
each is the derivative of the other.

JAX does not know this. It transposes its forward transform of real lines as a complex transform,
with twice the work.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from pdequinox_operators import Operator, Shape


def fourier(x: Float[Array, "*lines size"], count: int) -> Float[Array, "*lines 2 count"]:
    """Computes the real and imaginary parts of the unnormalised coefficients `0..count-1`."""
    return _fourier(x, size=x.shape[-1], count=count, transpose=False)


def fourier_transposed(
    x: Float[Array, "*lines 2 count"], size: int
) -> Float[Array, "*lines {size}"]:
    """Sums `Re(x_k exp(2 pi i j k / size))` over `k`, at the points `j`."""
    return _fourier(x, size=size, count=x.shape[-1], transpose=True)


def along_last(values: np.ndarray, like: Array) -> Array:
    """Makes a constant of the values, which multiplies an array along its last axis."""
    return jnp.asarray(values.reshape((1,) * (like.ndim - 1) + values.shape), like.dtype)


def _by_fft(x: Array, *, size: int, count: int, transpose: bool) -> Array:
    if not transpose:
        coefficients = lax.slice_in_dim(jnp.fft.rfft(x), 0, count, axis=-1)
        return jnp.stack([coefficients.real, coefficients.imag], axis=-2)
    # The inverse transform counts all coefficients twice, except those of the wavenumbers 0 and
    # N/2, whose imaginary parts do not matter. Backends differ in what they make of such parts.
    alone = (2 * np.arange(count)) % size == 0
    real, imag = x[..., 0, :], x[..., 1, :]
    real *= along_last(np.where(alone, size, size / 2), real)
    imag *= along_last(np.where(alone, 0, size / 2), imag)
    return jnp.fft.irfft(lax.complex(real, imag), n=size)


def _shape(x: Shape, *, size: int, count: int, transpose: bool) -> Shape:
    return (*x[:-2], size) if transpose else (*x[:-1], 2, count)


def _transposed(cotangent: Array, _: Any, *, transpose: bool, **rest: int) -> Array:
    return _fourier(cotangent, transpose=not transpose, **rest)


def _batch(operands: Any, axes: Any, **parameters: Any) -> tuple[Array, int]:
    return _fourier(jnp.moveaxis(operands[0], axes[0], 0), **parameters), 0


_fourier = Operator(
    "pdequinox_truncated_fourier", _by_fft, transpose=_transposed, shape=_shape, batch=_batch
)
