"""Defines what the multipliers of all modes consist of: a matrix of the channels for each mode, or
factors that stand for all of these matrices, which are never formed.

Complex numbers are two real arrays. Coefficients, and what factors are contracted to, are one array
instead, whose first axis has both parts. If all axes are between walls, there is only the real
part.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from pdequinox_operators.checks import integers

from ._transform import full_precision, turned


Weights: TypeAlias = (
    Literal["dense", "depthwise", "axiswise"]
    | tuple[Literal["cp"], int]
    | tuple[Literal["tucker"], int | Sequence[int]]
)
"""Describes what `weights` may be: a name, or a name with its rank or ranks."""

WHOLE = ("dense", "depthwise", "axiswise")

# Up to this many numbers, matrices of reduced channels are made for all modes at once: a loop over
# the modes would save less than a processor's cache holds.
_AT_ONCE = 2**18


@dataclass(frozen=True)
class Structure:
    """Says which arrays the weights consist of. An axis may be `full`, which means that it has
    negative wavenumbers too. All arrays that depend on wavenumbers have the groups first and the
    modes last: `G` groups if they depend on all axes, and the `g` (1 or 2) groups of axis `a` if
    they depend only on that axis.

    | kind | arrays |
    |---|---|
    | `dense` | `(G, out_channels, in_channels, *num_modes)` |
    | `depthwise` | `(G, channels, *num_modes)` |
    | `axiswise` | `(g, out_channels, in_channels, m)` for each axis |
    | `cp` | `(out_channels, rank)`, `(in_channels, rank)`, `(g, rank, m)` for each axis |
    | `tucker` | the same, each with its own rank, and the core of all ranks |
    """

    kind: str
    full: tuple[bool, ...]
    ranks: tuple[int, ...] = ()

    @classmethod
    def parse(cls, weights: Any, channels: tuple[int, int], full: tuple[bool, ...]) -> "Structure":
        """Reads the argument `weights` of a layer with these numbers of channels, in and out."""
        in_channels, out_channels = channels
        if isinstance(weights, str) and weights in WHOLE:
            if weights == "depthwise" and in_channels != out_channels:
                raise ValueError(
                    "`weights` may be 'depthwise' only if `in_channels` equals `out_channels`, got "
                    f"{in_channels} and {out_channels}."
                )
            return cls(weights, full)
        message = (
            "`weights` must be 'dense', 'depthwise', 'axiswise', ('cp', rank) or ('tucker', "
            "ranks), with integers >= 1: one rank, or one for each of (out_channels, in_channels, "
            f"*num_modes), {len(full) + 2} here, got {weights!r}."
        )
        if isinstance(weights, tuple | list) and len(weights) == 2:
            kind, ranks = weights
            counts = dict(cp=1, tucker=len(full) + 2)
            if isinstance(kind, str) and kind in counts:
                try:
                    return cls(kind, full, integers(ranks, counts[kind], "weights"))
                except (TypeError, ValueError) as error:
                    raise type(error)(message) from error
        raise ValueError(message)

    @property
    def spelled(self) -> Any:
        """Gives the argument that `parse` reads as this structure."""
        if not self.ranks:
            return self.kind
        return (self.kind, self.ranks[0] if self.kind == "cp" else self.ranks)

    @property
    def axes(self) -> tuple[tuple[int, ...], ...]:
        """Lists, for every array, the axes of space on whose wavenumbers it depends."""
        dims = range(len(self.full))
        each = tuple((axis,) for axis in dims)
        whole = (tuple(dims),)
        return dict(
            dense=whole,
            depthwise=whole,
            axiswise=each,
            cp=((), (), *each),
            tucker=((), (), *each, ()),
        )[self.kind]

    def groups(self) -> "Groups":
        """Lists, for every group, which sign each axis has in it. The first full axis has the
        lowest bit.
        """
        bits = [2 ** sum(self.full[:axis]) if full else 0 for axis, full in enumerate(self.full)]
        return [[int(bool(g & bit)) for bit in bits] for g in range(2 ** sum(self.full))]

    @property
    def place_of_out_channels(self) -> int:
        """Gives the axis of the first array that counts the channels of the output."""
        return 0 if self.ranks else 1

    def shapes(
        self, channels: tuple[int, int], num_modes: Sequence[int]
    ) -> tuple[tuple[int, ...], ...]:
        """Lists the shapes of the arrays."""
        in_channels, out_channels = channels
        dims = len(num_modes)
        between: tuple[tuple[int, ...], ...] = dict(
            dense=((out_channels, in_channels),),
            depthwise=((out_channels,),),
            axiswise=((out_channels, in_channels),) * dims,
            cp=tuple((n, *self.ranks) for n in (out_channels, in_channels)) + (self.ranks,) * dims,
            tucker=(
                *zip((out_channels, in_channels), self.ranks, strict=False),
                *((rank,) for rank in self.ranks[2:]),
                self.ranks,
            ),
        )[self.kind]
        return tuple(
            (
                2 ** sum(self.full[axis] for axis in axes),
                *shape,
                *(num_modes[axis] for axis in axes),
            )
            if axes
            else shape
            for axes, shape in zip(self.axes, between, strict=True)
        )

    def deviation(self, scale: float, parts: int) -> float:
        """Gives the standard deviation for the parts of all arrays with which the parts of the
        multipliers have the standard deviation `scale`.

        A multiplier is a sum of `terms` terms, each a product of `factors` independent numbers of
        mean 0. The mean of a number's squared modulus is `parts` times the variance of a part, and
        that of a product is the product of those of its factors. The parts of a product of complex
        normal numbers have the same variance.
        """
        dims = len(self.full)
        terms, factors = dict(
            dense=(1, 1),
            depthwise=(1, 1),
            axiswise=(dims, 1),
            cp=(math.prod(self.ranks), dims + 2),
            tucker=(math.prod(self.ranks), dims + 3),
        )[self.kind]
        if factors == 1:
            return scale / math.sqrt(terms)
        # The square root of `(parts scale^2 / terms)^(1 / factors) / parts`.
        return (scale * math.sqrt(parts / terms)) ** (1 / factors) / math.sqrt(parts)


Parts: TypeAlias = tuple[tuple[Array, ...], ...]
"""Holds the arrays of the real parts and, if there are any, the arrays of the imaginary parts."""


def multiply(
    z: Float[Array, "parts groups in_channels *num_modes"],
    weights: Parts,
    structure: Structure,
    product: Callable[[Array, Array], Array],
) -> Float[Array, "parts groups out_channels *num_modes"]:
    """Multiplies each mode's coefficients by the matrix that the weights stand for. `product` does
    so for one part of a dense array.
    """
    if structure.kind == "dense":
        return by_parts(lambda w, z: product(*w, z), weights, z)
    if structure.kind == "depthwise":
        return by_parts(lambda w, z: w[0][None] * z, weights, z)
    groups = structure.groups()
    if structure.kind == "axiswise":
        return by_parts(partial(_axiswise, groups=groups), weights, z)
    # The factors of the output channels, of the input channels, of each axis, and a core, by parts.
    outer, inner, *others = zip(*weights, strict=True)
    z = _einsum("qpir,pgi...->qgr...", _of_both_parts(inner), z)
    multiplied = _cp if structure.kind == "cp" else partial(_tucker, product=product)
    z = multiplied(z, others, groups)
    return _einsum("qpor,pgr...->qgo...", _of_both_parts(outer), z)


def _of_both_parts(weights: Sequence[Array]) -> Float[Array, "parts parts *weight"]:
    """Makes a real matrix that multiplies both parts: one product instead of two and a sum."""
    real, *imag = weights
    if not imag:
        return real[None, None]
    return jnp.stack([jnp.stack([real, -imag[0]]), jnp.stack([imag[0], real])])


def by_parts(
    function: Callable[[Any, Array], Array], weights: Iterable[Any], z: Float[Array, "parts *rest"]
) -> Array:
    """Multiplies both parts by a bilinear function: `(Wr + i Wi) Z = Wr Z + i (Wi Z)`."""
    real, *imag = (function(w, z) for w in weights)
    return real + turned(*imag, 0) if imag else real


def _einsum(subscripts: str, *operands: Array) -> Array:
    return jnp.einsum(subscripts, *operands, precision=full_precision())


Groups: TypeAlias = Sequence[Sequence[int]]
"""Gives, for every group of wavenumbers, the place of its sign in the factor of each axis."""


def _axiswise(matrices: Sequence[Array], z: Array, groups: Groups) -> Array:
    """Computes `Y_k = sum over a of A^a_(k_a) X_k`, with one part of the matrices."""

    def of_axis(matrix: Array, axis: int, z: Array) -> Array:
        y = _einsum("oim,pim...->pom...", matrix, jnp.moveaxis(z, 2 + axis, 2))
        return jnp.moveaxis(y, 2, 2 + axis)

    sums = [
        reduce(jnp.add, (of_axis(matrices[axis][i], axis, z[:, g]) for axis, i in enumerate(signs)))
        for g, signs in enumerate(groups)
    ]
    return jnp.stack(sums, axis=1)


def _cp(z: Array, axes: Sequence[Sequence[Array]], groups: Groups) -> Array:
    """Computes `Y_k[r] = (product over a of F^a[r, k_a]) X_k[r]`. The products over the axes have
    as many numbers as the coefficients of one sample.
    """
    dims = len(axes)

    def spread(factor: Array, axis: int) -> Array:
        rank, modes = factor.shape
        return factor.reshape(1, rank, *(modes if i == axis else 1 for i in range(dims)))

    def waves(signs: Sequence[int]) -> Array:
        first, *others = (
            [spread(part[i], axis) for part in factor]
            for axis, (factor, i) in enumerate(zip(axes, signs, strict=True))
        )
        return reduce(
            lambda w, part: by_parts(jnp.multiply, part, w), others, jnp.concatenate(first)
        )

    all_waves = jnp.stack([waves(signs) for signs in groups], axis=1)
    return by_parts(lambda w, z: w[None] * z, all_waves, z)


def _tucker(
    z: Array,
    factors: Sequence[Sequence[Array]],
    groups: Groups,
    product: Callable[[Array, Array], Array],
) -> Array:
    """Computes `Y_k[p] = sum over q of H_k[p, q] X_k[q]`; core and factors make the matrices `H_k`.

    If the ranks of the channels are no smaller than their numbers, all of these matrices can have
    as many numbers as the dense weights. So they are made for a few `p` at a time, and made again
    for derivatives.
    """
    *axes, core = factors

    def matrices(core: Array, signs: Sequence[int]) -> Array:
        """Makes `(parts, p, q, *num_modes)`: replaces axes of ranks by axes of modes at the end."""
        for factor, i in zip(axes, signs, strict=True):
            core = by_parts(partial(_einsum, "rm,upqr...->upq...m"), [f[i] for f in factor], core)
        return core

    def of_some(core: Array, z: Array) -> Array:
        all_matrices = jnp.stack([matrices(core, signs) for signs in groups], axis=1)
        return by_parts(product, all_matrices, z)

    whole = jnp.stack(core)
    count = whole.shape[1]
    numbers = len(groups) * math.prod(z.shape[3:]) * whole.size // math.prod(whole.shape[3:])
    most = count * max(_AT_ONCE, z.size) // max(numbers, 1)
    few = max((n for n in range(1, count + 1) if count % n == 0 and n <= most), default=1)
    if few == count:
        return of_some(whole, z)
    rows = jnp.moveaxis(whole.reshape(len(whole), -1, few, *whole.shape[2:]), 1, 0)
    y = jnp.moveaxis(lax.map(lambda some: jax.checkpoint(of_some)(some, z), rows), 0, 2)
    return y.reshape(*y.shape[:2], count, *y.shape[4:])
