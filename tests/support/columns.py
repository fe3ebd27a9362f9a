"""Defines the columns of the registry of transformations: every layer, those of `equinox.nn` as
witnesses, and each layer's formula, written again in JAX's own operations.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import oracles

from pdequinox_physconv import (
    MorePaddingConv,
    MorePaddingConvTranspose,
    PhysicsConv,
    PhysicsConvTranspose,
)
from pdequinox_pointwise import PointwiseLinearConv
from pdequinox_spectralconv import resample, SpectralConv


@dataclasses.dataclass(frozen=True)
class Column:
    """Describes a layer and its formula. `make(key, **arguments)` gives a layer with `in_channels`
    in and 3 channels out, for a grid of `spatial` points, and `plain(layer, x)` is its formula. The
    column `square`, by default this one, has layers that keep the grid as it is.

    An output is the result of at most `terms` operations, one after the other. `global_reach` says
    whether it depends on every point of the grid. `witness` is the column whose failure makes a
    requirement void; a witness has none.
    """

    make: Callable
    plain: Callable
    in_channels: int
    spatial: tuple[int, ...]
    terms: int
    has_bias: bool = True
    global_reach: bool = False
    witness: str | None = None
    square: "Column | None" = None


def source(j: int, size: int, ends: tuple[str, str]) -> tuple[int, int]:
    """Finds the index and the sign of the point that `e[j]` repeats, or a sign of 0 if it repeats
    none, by applying the documented formulas until the position is inside.
    """
    sign = 1
    while not 0 <= j < size:
        mode, lower = ends[j >= size], j < 0
        if mode == "periodic":
            j %= size
        elif mode == "dirichlet" or (mode == "dirichlet_node" and j in (-1, size)):
            return 0, 0
        elif mode == "outflow":
            j = 0 if lower else size - 1
        elif mode == "neumann":
            j = -j if lower else 2 * (size - 1) - j
        elif mode == "neumann_cell":
            j = -1 - j if lower else 2 * size - 1 - j
        elif mode == "dirichlet_cell":
            j, sign = (-1 - j if lower else 2 * size - 1 - j), -sign
        elif mode == "dirichlet_node":
            j, sign = (-2 - j if lower else 2 * size - j), -sign
        else:
            raise ValueError(mode)
    return j, sign


def extended(
    x: jax.Array, axis: int, positions: Any, ends: tuple[str, str], step: int
) -> jax.Array:
    """Takes `z[positions]` along an axis, where `z` is the extension with `step - 1` zeros between
    neighbours. Zeros are not products with 0, which would turn inf into NaN.
    """
    sources = [
        source(j // step, x.shape[axis], ends) if j % step == 0 else (0, 0) for j in positions
    ]
    index, sign = np.array(sources).T
    shape = [1] * x.ndim
    shape[axis] = len(index)
    sign = np.broadcast_to(sign.reshape(shape), (*x.shape[:axis], len(index), *x.shape[axis + 1 :]))
    taken = jnp.take(x, jnp.asarray(index, "int32"), axis=axis)
    return jnp.where(sign == 0, 0, jnp.where(sign > 0, taken, -taken))


def convolution(ends, first, last, *, stride=1, dilation=1, groups=1, transposed=False) -> Callable:
    """Computes both convolutions: output `i` sums `weight[t] z[i * stride + first + t * d]`, where
    the last tap of the last output reads at `last(n)` of `n` points.

    A transposed layer has its stride between the points of `z`, and 1 between its outputs.
    """
    between, step = (stride, 1) if transposed else (1, stride)

    def plain(layer, x):
        dims = x.ndim - 1
        for axis in range(dims):
            positions = range(first[axis], last[axis](x.shape[1 + axis]) + 1)
            x = extended(x, 1 + axis, positions, ends[axis], between)
        y = jax.lax.conv_general_dilated(
            x[None],
            layer.weight,
            (step,) * dims,
            "VALID",
            rhs_dilation=(dilation,) * dims,
            feature_group_count=groups,
            precision=jax.lax.Precision.HIGHEST,
        )[0]
        return y if layer.bias is None else y + layer.bias

    return plain


def pointwise(layer, x):
    weight = layer.weight.reshape(layer.weight.shape[:2])
    y = jnp.einsum("oi,i...->o...", weight, x, precision=jax.lax.Precision.HIGHEST)
    return y if layer.bias is None else y + layer.bias


def multiplied(layer, group, coefficients):
    """Multiplies every kept coefficient by its matrix."""
    real = layer.weights_real[group].astype(coefficients.dtype)
    if layer.weights_imag is None:
        matrix = real
    else:
        matrix = real + 1j * layer.weights_imag[group].astype(coefficients.dtype)
    highest = jax.lax.Precision.HIGHEST
    return jnp.einsum("oi...,i...->o...", matrix, coefficients, precision=highest)


def spectral_periodic(layer, x):
    """Computes `y = Re(ifft(c Y))` on two periodic axes. Group 0 holds the non-negative wavenumbers
    of the first axis and group 1 the negative ones. `c` is 2 strictly between 0 and half of the
    last axis.
    """
    rows, last = layer.weights_real.shape[3:]
    n, m = x.shape[1:]
    coefficients = jnp.fft.fft2(x, axes=(1, 2))
    counts = jnp.asarray([[[2 if 0 < 2 * k < m else 1 for k in range(last)]]], x.dtype)
    kept = jnp.zeros((layer.weights_real.shape[1], n, m), coefficients.dtype)
    for group, at in ((0, slice(0, rows)), (1, slice(n - rows, n))):
        part = multiplied(layer, group, coefficients[:, at, :last])
        kept = kept.at[:, at, :last].set(part * counts.astype(part.dtype))
    return jnp.real(jnp.fft.ifft2(kept, axes=(1, 2)))


def spectral_quarter_waves(layer, x):
    """Computes the layer between a node of slope 0 and, `N` points further, a node of value 0 that
    is not stored: the extension has the period `4 N`, and mode `i` is its wavenumber `2 i + 1`.
    """
    n = x.shape[1]
    whole = extended(x, 1, range(4 * n), ("neumann", "dirichlet_node"), 1)
    coefficients = jnp.fft.fft(whole, axis=1)
    waves = 2 * np.arange(layer.weights_real.shape[3]) + 1
    kept = jnp.zeros((layer.weights_real.shape[1], 4 * n), coefficients.dtype)
    for at in (waves, 4 * n - waves):
        kept = kept.at[:, at].set(multiplied(layer, 0, coefficients[:, at]))
    return jnp.real(jnp.fft.ifft(kept, axis=1))[:, :n]


class Resampled(eqx.Module):
    """Evaluates the output of a layer on another grid."""

    layer: PointwiseLinearConv
    shape: tuple[int, ...] = eqx.field(static=True)
    modes: tuple[Any, ...] = eqx.field(static=True)

    @property
    def in_channels(self):
        return self.layer.in_channels

    def __call__(self, x, *, key=None):
        return resample(self.layer(x, key=key), self.shape, self.modes)


def resampled(layer, x):
    """Expands the field into all waves, and evaluates those that both grids hold."""
    y = pointwise(layer.layer, x)
    for axis, (ends, m) in enumerate(zip(layer.modes, layer.shape, strict=True), 1):
        matrix = jnp.asarray(oracles.resampling(ends, x.shape[axis], m), x.dtype)
        highest = jax.lax.Precision.HIGHEST
        y = jnp.moveaxis(jnp.tensordot(y, matrix, (axis, 1), precision=highest), -1, axis)
    return y


def layer_of(kind, dims, *more, **fixed):
    def make(key, out_channels=3, **arguments):
        return kind(dims, 2, out_channels, *more, key=key, **{**fixed, **arguments})

    return make


ENDS = (("neumann", "dirichlet_cell"), ("periodic", "periodic"))
MODES = [ENDS[0], "periodic"]
KERNEL = (3, 2)
# Two channels of six taps, and the bias.
TERMS = 2 * 2 * 3 * 2 + 1
CONV, CONV_TRANSPOSE = "equinox.nn.Conv", "equinox.nn.ConvTranspose"


def same(stride=1, dilation=1):
    """Gives the first and the last position that a "same" convolution of `KERNEL` reads."""
    first = [-((k - 1) // 2) * dilation for k in KERNEL]
    last = [
        lambda n, k=k: (math.ceil(n / stride) - 1) * stride + (k - 1 - (k - 1) // 2) * dilation
        for k in KERNEL
    ]
    return first, last


def same_transposed(stride=1, dilation=1):
    """Gives the same positions for a transposed convolution without output padding."""
    first = [-(k // 2) * dilation for k in KERNEL]
    last = [lambda n, k=k: (n - 1) * stride + (k - 1 - k // 2) * dilation for k in KERNEL]
    return first, last


def padded(widths):
    return [-lower for lower, _ in widths], [lambda n, u=upper: n - 1 + u for _, upper in widths]


def padded_transposed(widths):
    """Gives the same positions with padding: `lower - (k - 1)` and `n - 1 + (k - 1) - upper`."""
    first = [lower - (k - 1) for (lower, _), k in zip(widths, KERNEL, strict=True)]
    last = [
        lambda n, k=k, u=upper: n - 1 + (k - 1) - u
        for (_, upper), k in zip(widths, KERNEL, strict=True)
    ]
    return first, last


WIDTHS = ((1, 1), (0, 1))
ZEROS, WRAPPED = (("dirichlet", "dirichlet"),) * 2, (("periodic", "periodic"),) * 2
MIRRORED = (("neumann", "neumann"),) * 2
on_plane = functools.partial(Column, in_channels=2, spatial=(5, 4), terms=TERMS)

UNIT_STRIDE = on_plane(
    layer_of(PhysicsConv, 2, KERNEL, boundary_mode="outflow"),
    convolution((("outflow", "outflow"),) * 2, *same()),
)
UNIT_STRIDE_TRANSPOSED = on_plane(
    layer_of(PhysicsConvTranspose, 2, KERNEL, boundary_mode=MODES),
    convolution(ENDS, *same_transposed(), transposed=True),
)


def resampled_layer(key, **arguments):
    layer = layer_of(PointwiseLinearConv, 2)(key, **arguments)
    return Resampled(layer, (6, 3), (("periodic", "periodic"), ("neumann", "dirichlet_cell")))


# The terms of the spectral layers follow from `rounding_steps` in test_spectral_conv.py:
# `4 (5 + 2 * 2 + 6 + 6 + 2 * 3 + 6 + 6)` and `8 log2(4 * 6 + 4) + 4 + 6`.
COLUMNS = {
    CONV: on_plane(
        layer_of(eqx.nn.Conv, 2, KERNEL, 1, WIDTHS), convolution(ZEROS, *padded(WIDTHS))
    ),
    CONV_TRANSPOSE: on_plane(
        layer_of(eqx.nn.ConvTranspose, 2, KERNEL, 1, WIDTHS),
        convolution(ZEROS, *padded_transposed(WIDTHS), transposed=True),
    ),
    "PhysicsConv": on_plane(
        layer_of(PhysicsConv, 2, KERNEL, dilation=2, boundary_mode=MODES),
        convolution(ENDS, *same(dilation=2), dilation=2),
        witness=CONV,
    ),
    "PhysicsConv-strided": on_plane(
        layer_of(PhysicsConv, 2, KERNEL, stride=2, boundary_mode="outflow"),
        convolution((("outflow", "outflow"),) * 2, *same(stride=2), stride=2),
        witness=CONV,
        square=UNIT_STRIDE,
    ),
    "PhysicsConvTranspose": on_plane(
        layer_of(PhysicsConvTranspose, 2, KERNEL, stride=2, boundary_mode=MODES),
        convolution(ENDS, *same_transposed(stride=2), stride=2, transposed=True),
        witness=CONV_TRANSPOSE,
        square=UNIT_STRIDE_TRANSPOSED,
    ),
    "MorePaddingConv": on_plane(
        layer_of(MorePaddingConv, 2, KERNEL, 1, WIDTHS, "reflect"),
        convolution(MIRRORED, *padded(WIDTHS)),
        witness=CONV,
    ),
    "MorePaddingConvTranspose": on_plane(
        layer_of(MorePaddingConvTranspose, 2, KERNEL, 1, WIDTHS, "circular"),
        convolution(WRAPPED, *padded_transposed(WIDTHS), transposed=True),
        witness=CONV_TRANSPOSE,
    ),
    "SpectralConv-periodic": Column(
        layer_of(SpectralConv, 2, (2, 3), method="product"),
        spectral_periodic,
        in_channels=2,
        spatial=(5, 6),
        terms=156,
        has_bias=False,
        global_reach=True,
        witness=CONV,
    ),
    "SpectralConv-walls": Column(
        layer_of(SpectralConv, 1, 4, method="fft", boundary_mode=[("neumann", "dirichlet")]),
        spectral_quarter_waves,
        in_channels=2,
        spatial=(6,),
        terms=49,
        has_bias=False,
        global_reach=True,
        witness=CONV,
    ),
    "PointwiseLinearConv": Column(
        layer_of(PointwiseLinearConv, 2),
        pointwise,
        in_channels=2,
        spatial=(5, 4),
        terms=2 * 2 + 1,
        witness=CONV,
    ),
    # Sums over 5 points, and over 4, whose coefficients add up to less than 2 and 4.
    "resample": Column(
        resampled_layer,
        resampled,
        in_channels=2,
        spatial=(5, 4),
        terms=2 * 4 * (2 * 2 + 1 + 5 + 4),
        global_reach=True,
        witness=CONV,
        square=on_plane(layer_of(PointwiseLinearConv, 2), pointwise),
    ),
}


def square_layers(column: Column, count: int) -> tuple[list, Callable]:
    """Makes layers whose output can be their input, and gives their formula."""
    column = column.square or column
    return [column.make(key, out_channels=2) for key in jr.split(jr.key(7), count)], column.plain


class Case:
    """Holds a column in a dtype: its layer and field, and what linear algebra says about them.

    The layer is affine in the field, and affine in its parameters. So two matrices of the plain
    composition in float64, `by_field` and `by_layer` (for all leaves), give every value and
    derivative.
    """

    def __init__(self, name: str, dtype: Any):
        self.name, self.column, self.dtype = name, COLUMNS[name], jnp.dtype(dtype)
        self.terms = self.column.terms
        self.make = self.column.make
        self.layer = self.make(jr.key(0))
        self.x = self.field(1)
        self.plain = jax.jit(self.column.plain)
        self._jacobians = jax.jit(
            lambda f, a: (self.column.plain(f, a), jax.jacfwd(self.column.plain, (0, 1))(f, a))
        )
        self.y, self.by_layer, self.by_field = self.matrices(self.layer, self.x)

    def matrices(self, layer: Any, x: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Computes the value of the plain composition, and its matrices by leaves and by field."""
        y, (by_layer, by_field) = self._jacobians(layer, x)
        flat = lambda leaf: np.asarray(leaf, np.float64).reshape(y.size, -1)
        leaves = [flat(leaf) for leaf in jax.tree.leaves(by_layer)]
        return np.asarray(y, np.float64), np.concatenate(leaves, 1), flat(by_field)

    def field(self, seed: int, *batch: int, dtype: Any = None) -> jax.Array:
        shape = (*batch, self.column.in_channels, *self.column.spatial)
        values = np.random.default_rng(seed).standard_normal(shape)
        return jnp.asarray(values, self.dtype if dtype is None else dtype)

    def cotangent(self, seed: int = 2) -> jax.Array:
        return jnp.asarray(np.random.default_rng(seed).standard_normal(self.y.shape), self.dtype)

    def direction(self, seed: int = 3) -> Any:
        """Makes a layer of random leaves."""
        generator = np.random.default_rng(seed)
        return jax.tree.map(
            lambda leaf: jnp.asarray(generator.standard_normal(leaf.shape), leaf.dtype), self.layer
        )

    def size(self, layer: Any) -> float:
        """Bounds the outputs for fields up to 1, and the sums on the way to them. A spectral
        coefficient divided by the number of points is no larger than the field, and counts twice.
        """
        return 2 * sum(float(np.abs(flatten(leaf)).sum()) for leaf in jax.tree.leaves(layer))

    def close(self, actual: Any, expected: Any, size: float, terms: int | None = None) -> None:
        """Computes the tolerance: two orders of the same operations differ by `2 * terms` roundings
        of their largest sum, `size`.
        """
        assert actual.dtype == self.dtype
        atol = 2 * (self.terms if terms is None else terms) * float(jnp.finfo(self.dtype).eps)
        np.testing.assert_allclose(
            np.asarray(actual, np.float64), expected, rtol=0, atol=atol * max(1.0, size)
        )

    def agrees(self, actual: Any, layer: Any = None, x: Any = None) -> None:
        """Checks that `actual` is the value of a layer (or of several) at fields (or a list)."""
        layer, x = self.layer if layer is None else layer, self.x if x is None else x
        batched = isinstance(x, list)
        layers = layer if isinstance(layer, list) else [layer] * (len(x) if batched else 1)
        fields = x if batched else [x] * len(layers)
        wanted = [np.asarray(self.plain(f, a)) for f, a in zip(layers, fields, strict=True)]
        size = max(map(self.size, layers)) * max(largest(a) for a in fields)
        several = batched or isinstance(layer, list)
        self.close(actual, np.stack(wanted) if several else wanted[0], size)

    def is_derivative_by_field(self, actual: Any, c: Any) -> None:
        """Checks that `actual` is the gradient of `sum(c * layer(x))`."""
        wanted = (self.by_field.T @ flatten(c)).reshape(self.x.shape)
        self.close(actual, wanted, self.size(self.layer) * largest(c), self.terms + self.y.size)

    def is_derivative_by_layer(self, actual: Any, c: Any, by_layer: Any = None) -> None:
        """Checks the gradient by the layer: sums over points of the cotangent times the field."""
        by_layer = self.by_layer if by_layer is None else by_layer
        assert jax.tree.structure(actual) == jax.tree.structure(self.layer)
        size = 2 * self.y.size * largest(c) * max(1.0, largest(self.x))
        leaves = np.concatenate([flatten(leaf) for leaf in jax.tree.leaves(actual)])
        assert all(leaf.dtype == self.dtype for leaf in jax.tree.leaves(actual))
        self.close(
            jnp.asarray(leaves, self.dtype),
            by_layer.T @ flatten(c),
            size,
            self.terms + self.y.size,
        )


def flatten(x: Any) -> np.ndarray:
    return np.asarray(x, np.float64).reshape(-1)


def largest(x: Any) -> float:
    return float(np.max(np.abs(flatten(x))))


@functools.cache
def case(name: str, dtype: str) -> Case:
    return Case(name, dtype)
