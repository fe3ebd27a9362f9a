"""The Fourier coefficients of real lines and the transpose of that map, as one JAX primitive: each
is the derivative of the other.

JAX does not know that. It transposes its forward transform of real lines as a complex transform, of
twice the work.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float


def fourier(x: Float[Array, "*lines size"], count: int) -> Float[Array, "*lines 2 count"]:
    """Real and imaginary parts of the unnormalised coefficients `0..count-1`."""
    return fourier_p.bind(x, size=x.shape[-1], count=count, transposed=False)


def fourier_transposed(
    x: Float[Array, "*lines 2 count"], size: int
) -> Float[Array, "*lines {size}"]:
    """The sums over `k` of `Re(x_k exp(2 pi i j k / size))` at the points `j`."""
    return fourier_p.bind(x, size=size, count=x.shape[-1], transposed=True)


def along_last(values: np.ndarray, like: Array) -> Array:
    """The values, as a constant that is multiplied along the last axis of an array."""
    return jnp.asarray(values.reshape((1,) * (like.ndim - 1) + values.shape), like.dtype)


def _by_fft(x: Array, *, size: int, count: int, transposed: bool) -> Array:
    if not transposed:
        coefficients = lax.slice_in_dim(jnp.fft.rfft(x), 0, count, axis=-1)
        return jnp.stack([coefficients.real, coefficients.imag], axis=-2)
    # The inverse transform counts all coefficients twice but those of the wavenumbers 0 and N/2,
    # whose imaginary parts do not matter. Backends differ in what they make of such parts.
    alone = (2 * np.arange(count)) % size == 0
    real, imag = x[..., 0, :], x[..., 1, :]
    real *= along_last(np.where(alone, size, size / 2), real)
    imag *= along_last(np.where(alone, 0, size / 2), imag)
    return jnp.fft.irfft(lax.complex(real, imag), n=size)


fourier_p = Primitive("pdequinox_truncated_fourier")


_jitted = jax.jit(
    lambda x, **parameters: fourier_p.bind(x, **parameters),
    static_argnames=("size", "count", "transposed"),
)


@fourier_p.def_impl
def _(x: Array, **parameters: Any) -> Array:
    return (_by_fft if jax.config.jax_disable_jit else _jitted)(x, **parameters)


@fourier_p.def_abstract_eval
def _(x: Any, **parameters: Any) -> Any:
    # From JAX's own rules, which know about more than shapes. It varies over a mesh as its operand.
    out = jax.make_jaxpr(partial(_by_fft, **parameters))(x).out_avals[0]
    if hasattr(x, "manual_axis_type"):
        return out.update(manual_axis_type=x.manual_axis_type)
    return out.update(vma=x.vma) if hasattr(x, "vma") else out


def _transpose(ct: Any, _: Any, *, transposed: bool, **parameters: Any) -> list[Any]:
    return [fourier_p.bind(ct, transposed=not transposed, **parameters)]


def _batch(args: Any, axes: Any, **parameters: Any) -> tuple[Array, int]:
    return fourier_p.bind(jnp.moveaxis(args[0], axes[0], 0), **parameters), 0


ad.deflinear2(fourier_p, _transpose)
batching.primitive_batchers[fourier_p] = _batch
mlir.register_lowering(fourier_p, mlir.lower_fun(_by_fft, multiple_results=False))
