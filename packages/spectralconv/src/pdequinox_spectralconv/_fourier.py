"""Truncated discrete Fourier transforms along one axis; pure functions on arrays.

`analyse_*` goes from the points of an axis to its kept coefficients, those of the unnormalised
forward transform; `synthesise_*` goes back, with the factor `1/N`. A half axis keeps the
wavenumbers `0..m-1` of a real field, a full axis `-m..m-1`, stored in the order
`0..m-1, -m..-1`.
"""

import jax.lax as lax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float


def analyse_half(x: Float[Array, "..."], axis: int, num_modes: int) -> Complex[Array, "..."]:
    return lax.slice_in_dim(jnp.fft.rfft(x, axis=axis), 0, num_modes, axis=axis)


def analyse_full(x: Complex[Array, "..."], axis: int, num_modes: int) -> Complex[Array, "..."]:
    size = x.shape[axis]
    coefficients = jnp.fft.fft(x, axis=axis)
    return jnp.concatenate(
        [
            lax.slice_in_dim(coefficients, 0, num_modes, axis=axis),
            lax.slice_in_dim(coefficients, size - num_modes, size, axis=axis),
        ],
        axis=axis,
    )


def synthesise_full(y: Complex[Array, "..."], axis: int, size: int) -> Complex[Array, "..."]:
    num_modes = y.shape[axis] // 2
    dropped = jnp.zeros(
        (*y.shape[:axis], size - 2 * num_modes, *y.shape[axis + 1 :]), dtype=y.dtype
    )
    coefficients = jnp.concatenate(
        [
            lax.slice_in_dim(y, 0, num_modes, axis=axis),
            dropped,
            lax.slice_in_dim(y, num_modes, 2 * num_modes, axis=axis),
        ],
        axis=axis,
    )
    return jnp.fft.ifft(coefficients, axis=axis)


def synthesise_half(y: Complex[Array, "..."], axis: int, size: int) -> Float[Array, "..."]:
    """The real field `1/N sum over k of c_k Re(y_k exp(2 pi i k j / N))`, with `c_k = 2` for
    `0 < k < N/2`, else 1.

    No spectrum of a real field has an imaginary part at the wavenumbers 0 and N/2. What inverse
    real transforms do with one differs between backends, so it is removed before.
    """
    num_modes = y.shape[axis]
    self_conjugate = [k == 0 or 2 * k == size for k in range(num_modes)]
    mask = lax.expand_dims(
        jnp.array(self_conjugate), [other for other in range(y.ndim) if other != axis]
    )
    y = jnp.where(mask, lax.complex(y.real, jnp.zeros_like(y.real)), y)
    return jnp.fft.irfft(y, n=size, axis=axis)
