"""The spectral convolution as a pure function on one sample and its weights."""

import jax
import jax.lax as lax
import jax.numpy as jnp
from jaxtyping import Array, Complex, Float

from ._fourier import analyse_full, analyse_half, synthesise_full, synthesise_half


def spectral_convolve(
    x: Float[Array, "in_channels *spatial"],
    weights_real: Float[Array, "groups out_channels in_channels *num_modes"],
    weights_imag: Float[Array, "groups out_channels in_channels *num_modes"],
) -> Float[Array, "out_channels *spatial"]:
    """Analyses every axis, multiplies the kept coefficients, and synthesises every axis.

    Half-precision fields are transformed in float32: no backend's FFT takes them.
    """
    dtype = x.dtype
    working = dtype if jnp.finfo(dtype).bits >= 32 else jnp.dtype(jnp.float32)
    *full_axes, half_axis = range(1, x.ndim)
    num_modes = weights_real.shape[3:]

    weights = lax.complex(weights_real.astype(working), weights_imag.astype(working))
    coefficients = analyse_half(x.astype(working), half_axis, num_modes[-1])
    for axis in full_axes:
        coefficients = analyse_full(coefficients, axis, num_modes[axis - 1])
    # Some accelerators round float32 factors to fewer digits, unless told otherwise.
    precision = None if jax.config.jax_default_matmul_precision else lax.Precision.HIGHEST
    coefficients = jnp.einsum(
        "oi...,i...->o...", arrange(weights), coefficients, precision=precision
    )
    for axis in full_axes:
        coefficients = synthesise_full(coefficients, axis, x.shape[axis])
    return synthesise_half(coefficients, half_axis, x.shape[half_axis]).astype(dtype)


def arrange(
    weights: Complex[Array, "groups out_channels in_channels *num_modes"],
) -> Complex[Array, "out_channels in_channels *coefficients"]:
    """The weights with their groups laid out along the axes, in the order of the coefficients:
    `0..m-1, -m..-1` on every axis but the last, which the groups do not concern.

    Bit `a` of the group's number tells the half of axis `a`, 0 for the non-negative one.
    """
    _, out_channels, in_channels, *num_modes = weights.shape
    bits = len(num_modes) - 1
    # Row-major order puts the highest bit first.
    weights = weights.reshape((2,) * bits + (out_channels, in_channels, *num_modes))
    order = [bits, bits + 1]
    for axis in range(bits):
        order += [bits - 1 - axis, bits + 2 + axis]
    order.append(2 * bits + 2)
    return weights.transpose(order).reshape(
        (out_channels, in_channels, *(2 * m for m in num_modes[:-1]), num_modes[-1])
    )
