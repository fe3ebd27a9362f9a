"""Carries out the product of the modes on a CPU, as sums of lines of modes. These stay neighbours
in memory, as they are in the weights. XLA's batched product needs the modes in front: it moves the
weights, the coefficients and the gradient there and back, and each of its many products is small.

XLA makes one loop over the result of a sum of products, but turns a reduction into a loop that goes
through memory in steps of the modes. So the sums are written out, a few terms at a time, inside a
loop. Between the turns, the partial sums are written to memory and read again. With more than
`_TERMS` terms at once, there are more lines than a cache holds, and more to compile.
"""

from collections.abc import Callable
from functools import reduce
from math import prod
from operator import add

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from pdequinox_operators import equally_varying

from .._convolution import gradient, product
from .choice import lines


_TERMS = 4


def product_of_lines(
    weight: Float[Array, "*weight"],
    z: Float[Array, "*field"],
    *,
    members: int,
    space: int,
    adjoint: bool,
) -> Float[Array, "*field_out"]:
    """Sums products over the channels that the matrices are multiplied with."""
    modes = z.shape[z.ndim - space :]
    if not lines(modes, _rows(z, members, space)):
        return product(weight, z, members=members, space=space, adjoint=adjoint)
    flat = _flat(z, members, space)
    own = weight.reshape(flat.shape[1], *weight.shape[members + 1 : members + 3], -1)
    place = 1 if adjoint else 2

    def term(i: Array) -> Array:
        w = lax.dynamic_index_in_dim(own, i, place, keepdims=False)
        return w[None] * lax.dynamic_slice_in_dim(flat, i, 1, 2)

    shape = (*flat.shape[:2], own.shape[3 - place], flat.shape[3])
    total = _sum(term, flat.shape[2], shape, flat)
    # Moves the parts back behind the members.
    *lead, parts, groups, _ = z.shape[: z.ndim - space]
    samples = len(lead) - members
    total = total.reshape(*lead[:samples], parts, *lead[samples:], groups, total.shape[2], *modes)
    return jnp.moveaxis(total, samples, samples + members)


def gradient_of_lines(
    y: Float[Array, "*field_out"], z: Float[Array, "*field"], *, members: int, space: int
) -> Float[Array, "*weight"]:
    """Sums products over samples and parts."""
    modes = z.shape[z.ndim - space :]
    if not lines(modes, _rows(z, members, space)):
        return gradient(y, z, members=members, space=space)
    left, right = (_flat(v, members, space) for v in (y, z))

    def term(i: Array) -> Array:
        a, b = (lax.dynamic_index_in_dim(v, i, keepdims=False) for v in (left, right))
        return a[:, :, None] * b[:, None]

    total = _sum(term, len(left), (*left.shape[1:3], *right.shape[2:]), left)
    front = z.ndim - space - 3
    shape = (*z.shape[front - members : front], z.shape[front + 1], *total.shape[1:3])
    return total.reshape(*shape, *modes)


def _rows(z: Float[Array, "*field"], members: int, space: int) -> int:
    front = z.ndim - space - 3
    return prod(z.shape[: front - members]) * z.shape[front]


def _flat(
    z: Float[Array, "*field"], members: int, space: int
) -> Float[Array, "samples_and_parts members_and_groups channels modes"]:
    front = z.ndim - space - 3
    z = jnp.moveaxis(z, front, front - members)
    count = prod(z.shape[: front - members + 1])
    return z.reshape(count, -1, z.shape[front + 2], prod(z.shape[front + 3 :]))


def _sum(term: Callable[[Array], Array], count: int, shape: tuple[int, ...], like: Array) -> Array:
    """Adds up `count` terms, a few in each turn of a loop. They have the given shape, and vary over
    a mesh as `like` does.
    """
    zeros, _ = equally_varying(jnp.zeros(shape, like.dtype), like)
    # XLA would merge a single turn with what comes before and after, which has other lines.
    few = max((k for k in range(1, _TERMS + 1) if count % k == 0 and count > k), default=1)

    def turn(j: Array, total: Array) -> Array:
        return total + reduce(add, (term(few * j + k) for k in range(few)))

    return lax.fori_loop(0, count // few, turn, zeros)
