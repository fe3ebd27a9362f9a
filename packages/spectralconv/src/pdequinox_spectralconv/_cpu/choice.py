"""Whether an axis is transformed by a product with a matrix or by a fast Fourier transform."""

import math
from typing import get_args, Literal, TypeAlias

import jax
import numpy as np

from .._basis import Basis


Method: TypeAlias = Literal["auto", "product", "fft"]
METHODS: tuple[Method, ...] = get_args(Method)

# A matrix is part of the compiled program: at most so many bytes each.
_LARGEST_MATRIX = 2**22

# The time of a fast transform of a line of `N` real numbers over `N log2 N`, in units of that of a
# multiplication and addition in a product of matrices. On a CPU, from `hatch run benchmark:spectral
# --only crossover`; not measured on others.
_FFT_OVER_PRODUCT = 12.0

# The product of the modes goes by lines of them from so many on. Alone, with 8 to 128 channels and
# 1 to 64 samples, lines of 32 and more were 0.9 to 8 times as fast as batched products, of fewer
# 0.4 to 3 times (jaxlib 0.10.2 and 0.12.0.1).
_LONG_LINE = 32


def _products(basis: Basis, size: int) -> int:
    """The numbers in the axis's matrix, each of which is multiplied once for a line of it."""
    return size * basis.wavenumbers.size * (4 if basis.full else 2 if basis.periodic else 1)


def fits(basis: Basis, size: int, dtype: np.dtype) -> bool:
    """Tells whether the matrix is not too large to be part of a program."""
    return _products(basis, size) * dtype.itemsize <= _LARGEST_MATRIX


def lines(modes: tuple[int, ...]) -> bool:
    """Tells whether a CPU multiplies the modes as lines of neighbours: where these are long."""
    return math.prod(modes) >= _LONG_LINE


def choose(basis: Basis, size: int, dtype: np.dtype) -> Method:
    """Chooses the faster of the two, as long as the matrix is not too large. The platform is that
    of the process, whatever a program is lowered for.
    """
    parts = 2 if basis.full else 1
    if not fits(basis, size, dtype):
        return "fft"
    if jax.default_backend() == "tpu":
        return "product"  # Its matrix unit is what a TPU is made of.
    period = basis.period(size)
    fast = _FFT_OVER_PRODUCT * parts * period * math.log2(max(period, 2))
    return "product" if _products(basis, size) <= fast else "fft"
