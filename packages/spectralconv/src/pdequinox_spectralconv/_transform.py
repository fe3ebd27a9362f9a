"""Transforms along one axis, truncated: from points to the coefficients of a `Basis`, and back.

Either is a product with a real matrix, or a fast Fourier transform of the field, extended over its
boundaries if these are walls.

A device that has only a block of the points multiplies with the block's part of the matrix. The sum
of all devices' results is the coefficients, from which each device makes its own points.

In between, a field has the axes `(parts, groups, channels, *rest)`. There are two parts, real and
imaginary, as soon as a periodic axis has been analysed. Every full axis doubles the number of
groups: one of non-negative wavenumbers, and one of negative ones. `axis` counts from the first of
`rest`.
"""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from pdequinox_operators import transposed
from pdequinox_padding import Boundary
from pdequinox_padding._pad import extend

from ._basis import Basis
from ._cpu.choice import choose, LARGEST_MATRIX, Method
from ._fourier import along_last, fourier, fourier_transposed


class Block(NamedTuple):
    """Describes a device's points of an axis of `size` points: `start..start + length - 1`."""

    size: int
    start: Any
    length: int


def analyse(
    z: Float[Array, "parts groups channels *rest"],
    axis: int,
    basis: Basis,
    method: Method,
    block: Block | None = None,
    from_size: int | None = None,
) -> Float[Array, "new_parts new_groups channels *new_rest"]:
    """Transforms the points of `axis` to its coefficients, or those of a `block` to their part in
    the sum. Given a `from_size`, applies instead the transpose of the synthesis with this
    `from_size`, by a product.
    """
    place, m, parts = 3 + axis, basis.num_modes, z.shape[0]
    size = block.size if block else z.shape[place]
    if block or _by_product(basis, size, z, method):
        matrix = _matrix(basis, size, from_size)
        if not basis.periodic:
            return jnp.moveaxis(_dot(_rows(matrix, 0, block, z), (0,), z, (place,)), 0, place)
        if basis.full:
            # Sums with cosines and with minus sines give those with `exp(-i a)` and, for negative
            # wavenumbers, with `exp(i a)`: (wavenumbers, parts, groups, channels, rest) each.
            z = z if parts == 2 else jnp.concatenate([z, jnp.zeros_like(z)])
            cos, sin = _dot(_rows(matrix, 0, block, z), (0,), z, (place,))
            sin = turned(sin, 1)
            groups = [(cos + sin)[:m], (cos - sin)[:0:-1]]
            z = jnp.moveaxis(jnp.stack(groups), (2, 0, 1), (0, 2, place + 1))
            return _merge_groups(z)
        if parts == 1:
            matrix = _rows(matrix, 0, block, z)
            return jnp.moveaxis(_dot(matrix, (0,), z[0], (place - 1,), 1), 1, place)
        matrix = _rows(_of_both_parts(matrix), 1, block, z)
        return jnp.moveaxis(_dot(matrix, (1, 0), z, (place, 0)), 1, place)
    z = jnp.moveaxis(z, place, -1)
    if basis.full:
        imag = z[1] if parts == 2 else jnp.zeros_like(z[0])
        coefficients = jnp.fft.fft(lax.complex(z[0], imag))
        groups = [coefficients[..., :m], coefficients[..., size - m :]]
        z = jnp.stack([jnp.stack([group.real, group.imag]) for group in groups], axis=2)
        return _merge_groups(jnp.moveaxis(z, -1, place + 1))
    if basis.periodic:
        return jnp.moveaxis(fourier(z[0], m), (-2, -1), (0, place))
    # The sum of the extended field over a period is the sum over the grid times the number of
    # mirror images of a point, including the point itself.
    period, k = basis.period(size), basis.wavenumbers
    images = 4 if basis.quarter_waves else 2
    extended = extend(z, ((0, period - size),), Boundary((basis.ends,)))
    both = fourier(extended, int(k[-1]) + 1)
    both = lax.slice_in_dim(both, int(k[0]), None, _stride(basis), axis=-1)
    turn = _turn(basis, size) / images * basis.scales(size)[0]
    z = both[..., 0, :] * along_last(turn[0], z) + both[..., 1, :] * along_last(turn[1], z)
    return jnp.moveaxis(z, -1, place)


def synthesise(
    z: Float[Array, "parts groups channels *rest"],
    axis: int,
    basis: Basis,
    size: int,
    from_size: int | None,
    method: Method,
    block: Block | None = None,
    parts: int | None = None,
) -> Float[Array, "new_parts new_groups channels *new_rest"]:
    """Transforms the coefficients of `axis`, of a field on `from_size` points, to `size` points, or
    only to those of a `block`. On a periodic axis, the result has `parts` parts: one, the real
    part, if the axis is the last one to be synthesised; by default, that is the half axis. Without
    a `from_size`, applies instead the transpose of the analysis, by a product.
    """
    place = 3 + axis
    parts = parts or (2 if basis.full else 1)
    if block or _by_product(basis, size, z, method):
        matrix = _matrix(basis, size, from_size)
        if basis.full:
            # Wavenumbers go from 0 to `m`. The first group lacks the last of them, and the second
            # group lacks the first.
            z = _split_groups(z)
            first = _padded(z[:, :, 0], place, (0, 1))
            second = _padded(jnp.flip(z[:, :, 1], place), place, (1, 0))
            z = jnp.stack([first + second, turned(second - first, 0)])[:, :parts]
            return jnp.moveaxis(
                _dot(_rows(matrix, 0, block, z), (1, 2), z, (0, place + 1), 3), 0, place
            )
        if basis.periodic and parts == 2:
            matrix = _rows(_of_both_parts(matrix), 1, block, z)
            return jnp.moveaxis(_dot(matrix, (2, 3), z, (0, place)), 1, place)
        matrix = _rows(matrix, 0, block, z)
        if basis.periodic:
            return jnp.moveaxis(_dot(matrix, (1, 2), z, (0, place)), 0, place - 1)[None]
        return jnp.moveaxis(_dot(matrix, (1,), z, (place,)), 0, place)
    z = jnp.moveaxis(z, place, -1)
    assert from_size is not None
    _, scale = basis.scales(from_size)
    if basis.full:
        z = _split_groups(z * along_last(scale * size, z))
        z = lax.complex(z[0], z[1])
        dropped = jnp.zeros((*z[:, 0].shape[:-1], size - 2 * basis.num_modes), z.dtype)
        z = jnp.fft.ifft(jnp.concatenate([z[:, 0], dropped, z[:, 1]], axis=-1))
        return jnp.moveaxis(jnp.stack([z.real, z.imag][:parts]), -1, place)
    if basis.periodic:
        z = jnp.moveaxis(z * along_last(scale, z), 0, -2)
        return jnp.moveaxis(fourier_transposed(z, size), -1, place - 1)[None]
    period, k = basis.period(size), basis.wavenumbers
    turn = _turn(basis, size) * scale
    both = jnp.stack([z * along_last(turn[0], z), z * along_last(turn[1], z)], axis=-2)
    between = [(0, 0, 0)] * z.ndim + [(int(k[0]), 0, _stride(basis) - 1)]
    both = lax.pad(both, jnp.zeros((), z.dtype), between)
    z = lax.slice_in_dim(fourier_transposed(both, period), 0, size, axis=-1)
    return jnp.moveaxis(z, -1, place)


def to_modes(
    x: Float[Array, "channels *points"],
    bases: Sequence[Basis],
    method: Method,
    blocks: Mapping[int, Block],
    from_shape: Sequence[int | None] | None = None,
) -> Float[Array, "parts groups channels *modes"]:
    """Analyses every axis; axes in `blocks` give what the blocks contribute. Given a `from_shape`,
    applies instead the transpose of the synthesis.

    The last axis, whose points are neighbours in memory, is the first to shrink, so that the field
    is not copied while it is large. Axes with blocks shrink less, or grow, and come last.
    """
    order = sorted(range(len(bases)), key=lambda axis: (axis in blocks, -axis))
    z = x[None, None]
    for axis in order:
        from_size = from_shape[axis] if from_shape else None
        z = analyse(z, axis, bases[axis], method, blocks.get(axis), from_size)
    full = [axis for axis in order if bases[axis].full]
    return _regroup(z, full, sorted(full, reverse=True))


def to_points(
    z: Float[Array, "parts groups channels *modes"],
    bases: Sequence[Basis],
    shape: Sequence[int],
    from_shape: Sequence[int] | None,
    method: Method,
    blocks: Mapping[int, Block],
) -> Float[Array, "channels *points"]:
    """Synthesises every axis, in the reverse order of `to_modes`. Without a `from_shape`, applies
    instead the transpose of the analysis.
    """
    order = sorted(range(len(bases)), key=lambda axis: (axis not in blocks, axis))
    full = [axis for axis in order if bases[axis].full]
    z = _regroup(z, sorted(full, reverse=True), full[::-1])
    *_, last = [None, *(axis for axis in order if bases[axis].periodic)]
    for axis in order:
        basis, parts = bases[axis], 1 if axis == last else 2
        from_size = from_shape[axis] if from_shape else None
        z = synthesise(z, axis, basis, shape[axis], from_size, method, blocks.get(axis), parts)
    return z[0, 0]


def _regroup(z: Array, axes: Sequence[int], wanted: Sequence[int]) -> Array:
    """Reorders groups of the wavenumbers of these axes, the major one first, as `wanted`."""
    if list(axes) == list(wanted):
        return z
    parts, _, *rest = z.shape
    z = z.reshape(parts, *(2 for _ in axes), *rest)
    z = jnp.moveaxis(z, [1 + axes.index(axis) for axis in wanted], range(1, 1 + len(axes)))
    return z.reshape(parts, -1, *rest)


def _of_both_parts(matrix: np.ndarray) -> np.ndarray:
    """Makes the matrix for complex numbers from the one for real numbers. A real part is multiplied
    with `u + i v`, and an imaginary part with `-v + i u`: `(N, 2, m)` becomes `(2, N, 2, m)`.
    """
    return np.stack([matrix, np.stack([-matrix[:, 1], matrix[:, 0]], axis=1)])


def turned(z: Array, axis: int) -> Array:
    """Multiplies by the imaginary unit; `axis` has the real and the imaginary part."""
    signs = jnp.asarray([-1.0, 1.0], z.dtype)
    return signs.reshape(*(2 if i == axis else 1 for i in range(z.ndim))) * jnp.flip(z, axis)


def _padded(z: Array, axis: int, widths: tuple[int, int]) -> Array:
    widths_of_all = [(*(widths if i == axis else (0, 0)), 0) for i in range(z.ndim)]
    return lax.pad(z, jnp.zeros((), z.dtype), widths_of_all)


def _matrix(basis: Basis, size: int, from_size: int | None) -> np.ndarray:
    return basis.analysis(size) if from_size is None else basis.synthesis(size, from_size)


def _rows(matrix: np.ndarray, axis: int, block: Block | None, z: Array) -> Array:
    """Takes the matrix, or its part for the points of a block, which are along `axis`. It is
    rounded once, from float64.
    """
    rounded = jnp.asarray(matrix.astype(z.dtype))
    if block is None:
        return rounded
    return lax.dynamic_slice_in_dim(rounded, block.start, block.length, axis)


def _by_product(basis: Basis, size: int, z: Array, method: Method) -> bool:
    chosen = choose(basis, size, z.dtype) if method == "auto" else method
    return chosen == "product" or basis.period(size) == 0


def _dot(
    matrix: Array,
    contracted: tuple[int, ...],
    z: Array,
    along: tuple[int, ...],
    channels: int = 2,
) -> Array:
    """Sums products over the axes `contracted` of the matrix and `along` of `z`. The result has the
    other axes of the matrix, and then those of `z`, of which `channels` counts the channels.
    """
    precision, point = full_precision(), max(along)
    free = tuple(axis for axis in range(matrix.ndim) if axis not in contracted)
    if point == z.ndim - 1:
        # The sum is over neighbours in memory: the field is taken as it is, row by row.
        out = lax.dot_general(z, matrix, ((along, contracted), ((), ())), precision=precision)
        return jnp.moveaxis(out, range(out.ndim - len(free), out.ndim), range(len(free)))
    others = tuple(axis for axis in range(z.ndim) if axis not in along)
    # Channels, and the axes from there to the points, have one product each, with the rest of `z`.
    lead = tuple(axis for axis in others if channels <= axis < point)
    tail = tuple(axis for axis in others if axis not in lead)
    count = lambda v, axes: prod(v.shape[axis] for axis in axes)
    rows, columns = count(matrix, free), count(z, tail)
    if columns < 2 * rows:
        return lax.dot_general(matrix, z, ((contracted, along), ((), ())), precision=precision)
    # Copies of the matrix are smaller than copies of `z`, which this takes, and gives, as it is.
    shape = (count(z, lead), rows, count(z, along))
    each = jnp.transpose(matrix, (*free, *contracted)).reshape(1, *shape[1:])
    z_shape, z = z.shape, jnp.transpose(z, (*lead, *along, *tail))
    out = lax.dot_general(
        jnp.broadcast_to(each, shape),
        z.reshape(shape[0], shape[2], columns),
        (((2,), (1,)), ((0,), (0,))),
        precision=precision,
    )
    axes = (*lead, *(-1 - axis for axis in free), *tail)
    sizes = [matrix.shape[-1 - axis] if axis < 0 else z_shape[axis] for axis in axes]
    wanted = (*(-1 - axis for axis in free), *others)
    return jnp.transpose(out.reshape(sizes), [axes.index(axis) for axis in wanted])


def full_precision() -> lax.Precision | None:
    """Gives the precision of all products. Some accelerators round float32 factors to fewer digits
    unless told otherwise. To allow that, set JAX's own switch.
    """
    return None if jax.config.jax_default_matmul_precision else lax.Precision.HIGHEST


def _merge_groups(z: Array) -> Array:
    return z.reshape(z.shape[0], -1, *z.shape[3:])


def _split_groups(z: Array) -> Array:
    return z.reshape(z.shape[0], -1, 2, *z.shape[2:])


def _stride(basis: Basis) -> int:
    return 2 if basis.quarter_waves else 1


def _turn(basis: Basis, size: int) -> np.ndarray:
    """Gives the factors `(u, v)` for which `u Re X + v Im X` turns a field's Fourier coefficients
    `X` into sums with functions of the angle from the lower wall, instead of from the first point:
    the real part of `X exp(i a)` for cosines, and minus its imaginary part for sines, with 0 for
    the sine of wavenumber 0. The transpose turns a sine or cosine into its Fourier coefficient.
    """
    k = basis.wavenumbers
    a = -np.pi * basis.start * k / basis.period(size)
    cos, sin = np.cos(a), np.sin(a)
    return np.where(k == 0, 0.0, [-sin, -cos]) if basis.odd else np.stack([cos, -sin])


def transform(
    value: Array,
    *,
    bases: tuple[Basis, ...],
    points: tuple[int, ...],
    grid: tuple[int, ...],
    method: Method,
    analysis: bool,
    transpose: bool,
    blocks: Mapping[int, Block] | None = None,
) -> Array:
    """Analyses a field on `points`, or synthesises one from the coefficients of a field on `grid`;
    or applies the transpose of either. Any number of axes of samples may come first.
    """
    blocks = blocks or {}
    from_points, samples = analysis != transpose, value.ndim - len(bases)
    samples -= 1 if from_points else 3
    # Samples become channels.
    lead, first = value.shape[:samples], 0 if from_points else 2
    value = jnp.moveaxis(value, range(samples), range(first, first + samples))
    own = value.shape[first + samples]
    value = value.reshape(
        *value.shape[:first], prod(lead) * own, *value.shape[first + samples + 1 :]
    )
    from_shape = None if analysis else grid
    products = all(
        axis in blocks or _by_product(basis, points[axis], value, method)
        for axis, basis in enumerate(bases)
    )
    if transpose and not products:
        if analysis:
            function = lambda x: to_modes(x, bases, method, blocks)
            there = [blocks[i].length if i in blocks else n for i, n in enumerate(points)]
            shape = (prod(lead) * own, *there)
        else:
            function = lambda z: to_points(z, bases, points, grid, method, blocks)
            modes = [basis.num_modes for basis in bases]
            shape = (*parts_and_groups(bases), prod(lead) * own, *modes)
        value = transposed(function, shape)(value)
    elif from_points:
        value = to_modes(value, bases, method, blocks, from_shape)
    else:
        value = to_points(value, bases, points, from_shape, method, blocks)
    last = 2 if from_points else 0
    value = value.reshape(*value.shape[:last], *lead, own, *value.shape[last + 1 :])
    return jnp.moveaxis(value, range(last, last + samples), range(samples))


def resampled(
    x: Float[Array, "*samples_and_grid"],
    *,
    bases: tuple[Basis, ...],
    grid: tuple[int, ...],
    points: tuple[int, ...],
    method: Method,
    transpose: bool,
) -> Float[Array, "*samples_and_points"]:
    """Evaluates the functions of a field on a `grid` at other `points`, one axis after the other;
    or applies the transpose of that. Any number of other axes may come first.
    """
    first = x.ndim - len(bases)
    # Axes that shrink come first, so that less is left for the others.
    order = sorted(range(len(bases)), key=lambda i: points[i] / grid[i] * (-1 if transpose else 1))
    for axis in order:
        x = _resampled_along(
            x, first + axis, bases[axis], grid[axis], points[axis], method, transpose
        )
    return x


def _resampled_along(
    x: Array, place: int, basis: Basis, grid: int, points: int, method: Method, transpose: bool
) -> Array:
    if grid == points:
        return x
    products = (_by_product(basis, size, x, method) for size in (grid, points))
    small = grid * points * x.dtype.itemsize <= LARGEST_MATRIX
    if any(products) and (small or method == "product" or 0 in map(basis.period, (grid, points))):
        # Combines both matrices, in float64: with as many functions as points, that is less work.
        functions = 2 if basis.periodic else 1
        analysis, synthesis = basis.analysis(grid), basis.synthesis(points, grid)
        both = np.tensordot(synthesis, analysis, [range(1, 1 + functions)] * 2)
        matrix = jnp.asarray(both.astype(x.dtype))
        contracted = ((0 if transpose else 1,), (place,))
        y = lax.dot_general(matrix, x, (contracted, ((), ())), precision=full_precision())
        return jnp.moveaxis(y, 0, place)

    def function(x: Array) -> Array:
        z = analyse(x[None, None], place - 1, basis, method)
        return synthesise(z, place - 1, basis, points, grid, method)[0, 0]

    if not transpose:
        return function(x)
    return transposed(function, (*x.shape[:place], grid, *x.shape[place + 1 :]))(x)


def parts_and_groups(bases: Sequence[Basis]) -> tuple[int, int]:
    """Counts the parts of a coefficient, and the groups of coefficients of all axes."""
    periodic = sum(basis.periodic for basis in bases)
    return (2, 2 ** (periodic - 1)) if periodic else (1, 1)
