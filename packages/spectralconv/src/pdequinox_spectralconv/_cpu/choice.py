"""Chooses whether an axis is transformed by a product with a matrix or by an FFT."""

import math
from typing import get_args, Literal, NamedTuple, TypeAlias

import jax
import numpy as np

from .._basis import Basis


Method: TypeAlias = Literal["auto", "product", "fft"]
"""Names the ways to transform an axis."""

METHODS: tuple[Method, ...] = get_args(Method)

# A matrix is part of the compiled program, and has at most this many bytes.
LARGEST_MATRIX = 2**22


class Rule(NamedTuple):
    """Says up to how many numbers, in units of `N log2 N`, a matrix beats a fast transform of `N`
    points on a CPU. It applies to axes that keep more than the share `above` of their
    wavenumbers: the full axes, or the others. Both times grow with these numbers, whatever the
    version: a version of jaxlib that nobody has measured is taken to be like these `versions`.
    """

    full: bool
    above: float
    most: float
    rows: str
    versions: str


_BOTH = "0.10.2, 0.12.0.1"

# The first rule that fits applies. Rows are those of `hatch run benchmark:spectral`; those in
# parentheses are others, measured with activations around them.
RULES = (
    Rule(True, 0.8, 0.0, "2-D 64^2, 31 x 32; 2-D 24^2, 10; 3-D 24^3, 10 (12^2, 5; 16^3, 7)", _BOTH),
    Rule(True, 0.5, 4.2, "2-D 32^2, 12; 2-D 48^2, 18; 2-D 64^2, 20 (20^2, 8; 64^2, 18)", _BOTH),
    Rule(True, 0.0, 6.0, "2-D 64^2, 12; 3-D 64^3, 16 (64^2, 16; 100^2, 24; 128^2, 24)", _BOTH),
    Rule(False, 0.0, 12.0, "crossover", "0.10.2"),
)

# The product of the modes goes by lines of at least `_LONG_LINE` modes, if each line is multiplied
# with fewer than `_MANY_ROWS` numbers, which are parts of samples. A batched product multiplies all
# of these at once, and was faster with jaxlib 0.12.0.1 from 16 samples of two parts on (rows
# 2-D 64^2, 12, and 24^2, 10).
_LONG_LINE = 32
_MANY_ROWS = 32


def _products(basis: Basis, size: int) -> int:
    """Counts the numbers in the axis's matrix. Each is multiplied once for a line of the axis, or
    for each part of a line.
    """
    return size * (basis.num_modes + basis.full) * (2 if basis.periodic else 1)


def fits(basis: Basis, size: int, dtype: np.dtype) -> bool:
    """Tells whether the matrix is not too large to be part of a program."""
    return _products(basis, size) * dtype.itemsize <= LARGEST_MATRIX


def lines(modes: tuple[int, ...], rows: int) -> bool:
    """Tells whether a CPU multiplies the modes as lines of neighbours: if the lines are long, and
    the parts of samples are few.
    """
    return math.prod(modes) >= _LONG_LINE and rows < _MANY_ROWS


def choose(basis: Basis, size: int, dtype: np.dtype) -> Method:
    """Chooses the faster of the two, as long as the matrix is not too large. The platform is that
    of the process, whatever platform a program is lowered for.
    """
    if not fits(basis, size, dtype):
        return "fft"
    if jax.default_backend() == "tpu":
        return "product"  # A TPU is built around its matrix unit.
    period = max(basis.period(size), 1)
    share = basis.wavenumbers.size / period
    most = next(r.most for r in RULES if r.full == basis.full and share > r.above)
    few = _products(basis, size) <= most * period * math.log2(max(period, 2))
    return "product" if few else "fft"
