"""Tests what needs only the libraries of the package: Equinox's layers, files of an earlier
version, modes, bad input; and arrays of the other libraries against plain loops.
"""

import itertools
import re
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from pdequinox_convert import (
    adopt,
    CannotConvertError,
    conv_from_equinox,
    conv_from_torch,
    conv_to_torch,
    conv_transpose_from_torch,
    FNO,
    fno_to_neuraloperator,
    load_neuraloperator_fno,
    resize_modes,
    spectral_from_neuraloperator,
    spectral_to_neuraloperator,
)
from pdequinox_padding import per_channel
from pdequinox_physconv import (
    MorePaddingConv,
    MorePaddingConvTranspose,
    PhysicsConv,
    PhysicsConvTranspose,
)
from pdequinox_pointwise import PointwiseLinearConv
from pdequinox_spectralconv import dense_weights, SpectralConv


DATA = Path(__file__).with_name("data")
EPS = float(np.finfo(np.float64).eps)


def normal(seed, shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def assert_close(actual, expected, layer, x):
    """Compares sums of products of a kernel with values of `x`, in float64, in both layers."""
    assert actual.shape == expected.shape and actual.dtype == expected.dtype == jnp.float64
    n = layer.weight[0].size + 1
    size = np.abs(x).max() * np.abs(layer.weight).sum() + np.abs(expected).max()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=2 * (n + 1) * EPS * size)


# Equinox's layers

# (spatial shape, kernel size, stride, padding, dilation, groups)
FORWARD = [
    ((9,), 3, 1, "SAME", 1, 1),
    ((9,), 4, 1, "SAME", 3, 2),
    ((9,), 4, 1, "SAME_LOWER", 1, 1),
    ((9,), 3, 2, "VALID", 2, 1),
    ((9,), 3, 2, 0, 1, 1),
    ((9,), 5, 3, 2, 1, 2),
    ((6, 7), (3, 2), (1, 2), ((2, 1), (0, 3)), (2, 1), 2),
    ((6, 7), 2, 1, "SAME", (1, 2), 1),
    ((4, 5, 6), (3, 1, 2), 1, "SAME", (1, 1, 2), 2),
    ((4, 5, 6), 3, (2, 1, 1), (1, 0, 2), 1, 1),
]
MODES = ("ZEROS", "REFLECT", "REPLICATE", "CIRCULAR")


@pytest.mark.converts("convolution", "Equinox", "conv_from_equinox")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("geometry", FORWARD, ids=str)
def test_convolutions_of_equinox(geometry, mode, x64):
    shape, kernel_size, stride, padding, dilation, groups = geometry
    use_bias = len(shape) != 2
    other = eqx.nn.Conv(
        len(shape), 4, 6, kernel_size, stride, padding, dilation, groups, use_bias, mode,
        key=jr.key(0),
    )  # fmt: skip
    mine = conv_from_equinox(other)
    assert type(mine) is MorePaddingConv
    x = normal(1, (4, *shape))
    assert_close(mine(x), other(x), mine, x)


@pytest.mark.parametrize("padding", ["SAME", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize(
    ("n", "k", "s", "d"), [*itertools.product((9, 10, 11), (1, 2, 5), (2, 3), (1, 2))]
)
def test_padding_that_depends_on_the_size(n, k, s, d, padding, x64):
    other = eqx.nn.Conv1d(2, 3, k, s, padding, d, key=jr.key(0))
    mine = conv_from_equinox(other, spatial_shape=n)
    x = normal(1, (2, n))
    assert_close(mine(x), other(x), mine, x)
    if padding == "VALID" or k == 1:  # No size is padded.
        assert_close(conv_from_equinox(other)(x), other(x), mine, x)
    else:
        with pytest.raises(CannotConvertError, match="`spatial_shape`"):
            conv_from_equinox(other)
        adopted, report = adopt([other])
        assert adopted[0] is other and "`spatial_shape`" in report.left[0].reason


# (spatial shape, kernel size, stride, padding, output padding, dilation, groups)
UPWARDS = [
    ((5,), 3, 2, 1, 1, 1, 2),
    ((5,), 4, 3, "SAME", 0, 2, 1),
    ((5,), 2, 4, "SAME", 1, 1, 1),
    ((5,), 1, 3, "SAME_LOWER", 0, 1, 1),
    ((5,), 4, 1, "SAME_LOWER", 0, 1, 1),
    ((5,), 3, 2, "VALID", 1, 2, 1),
    ((5,), 3, 2, 3, 0, 1, 1),  # more padding than the kernel reaches
    ((4, 5), (3, 2), (2, 1), ((1, 0), (0, 1)), (1, 0), (1, 2), 2),
    ((3, 4, 3), 2, (1, 2, 2), "SAME", 0, (2, 1, 1), 1),
]


@pytest.mark.converts("transposed convolution", "Equinox", "conv_from_equinox")
@pytest.mark.parametrize("geometry", UPWARDS, ids=str)
def test_transposed_convolutions_of_equinox(geometry, x64):
    shape, kernel_size, stride, padding, more, dilation, groups = geometry
    modes = ["ZEROS"]
    if more == 0 and str(padding).startswith("SAME"):
        modes.append("CIRCULAR")
    for mode in modes:
        other = eqx.nn.ConvTranspose(
            len(shape), 4, 6, kernel_size, stride, padding, more, dilation, groups,
            padding_mode=mode, key=jr.key(0),
        )  # fmt: skip
        mine = conv_from_equinox(other)
        assert type(mine) is MorePaddingConvTranspose
        x = normal(1, (4, *shape))
        assert_close(mine(x), other(x), mine, x)


@pytest.mark.converts("pointwise convolution", "Equinox", "conv_from_equinox")
def test_a_kernel_of_one_point_is_pointwise(x64):
    x = normal(1, (4, 5, 6))
    for arguments, cls in (
        (dict(), PointwiseLinearConv),
        (dict(padding="SAME", padding_mode="REFLECT"), PointwiseLinearConv),
        (dict(use_bias=False), PointwiseLinearConv),
        (dict(stride=2), MorePaddingConv),
        (dict(padding=1), MorePaddingConv),
        (dict(groups=2), MorePaddingConv),
    ):
        other = eqx.nn.Conv2d(4, 2, 1, key=jr.key(0), **arguments)
        mine = conv_from_equinox(other)
        assert type(mine) is cls
        assert_close(mine(x), other(x), mine, x)


@pytest.mark.converts("network", "Equinox", "adopt")
@pytest.mark.converts("ensemble", "Equinox", "adopt")
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_network_of_equinox(dtype):
    def make(key):
        keys = jr.split(key, 3)
        return eqx.nn.Sequential(
            [
                eqx.nn.Conv2d(2, 4, 3, padding="SAME", dtype=dtype, key=keys[0]),
                eqx.nn.Lambda(jax.nn.relu),
                eqx.nn.ConvTranspose2d(4, 3, 2, 2, dtype=dtype, key=keys[1]),
                eqx.nn.Conv2d(3, 1, 1, dtype=dtype, key=keys[2]),
            ]
        )

    x = normal(1, (2, 4, 4)).astype(dtype)
    other = make(jr.key(0))
    mine, report = adopt(other)
    assert len(report.replaced) == 3 and not report.left
    assert not any(type(layer).__module__.startswith("equinox.nn._conv") for layer in mine.layers)
    # Sums of 18, 16 and 3 products, each rounded to the dtype at its end at the latest.
    size = 4 * float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(np.float64(mine(x)), np.float64(other(x)), rtol=0, atol=40 * size)
    # Ensembles have one more axis, before those of the weights.
    others = eqx.filter_vmap(make)(jr.split(jr.key(0), 3))
    members, _ = adopt(others)
    apply = eqx.filter_vmap(lambda model, x: model(x), in_axes=(eqx.if_array(0), None))
    np.testing.assert_allclose(
        np.float64(apply(members, x)), np.float64(apply(others, x)), rtol=0, atol=40 * size
    )


class SameWithReLU(eqx.nn.Conv):
    """Differs from its base in more than its constructor."""

    def __call__(self, x, *, key=None):
        return jax.nn.relu(super().__call__(x))


class SameByDefault(eqx.nn.Conv):
    """Differs from its base only in its constructor."""

    def __init__(self, channels, *, key):
        super().__init__(1, channels, channels, 3, padding="SAME", key=key)


class Named(eqx.nn.Conv):
    """Has an additional field."""

    name: str = eqx.field(static=True, default="")


class Gated(eqx.nn.Conv):
    """Has an additional method, which its owner calls."""

    def gate(self, x):
        return jax.nn.sigmoid(self(x))


def test_what_is_derived_from_a_layer():
    model = [SameWithReLU(1, 2, 2, 3, key=jr.key(0)), SameByDefault(2, key=jr.key(0))]
    model += [cls(1, 2, 2, 3, key=jr.key(0)) for cls in (Named, Gated)]
    adopted, report = adopt(model)
    assert adopted[0] is model[0] and type(adopted[1]) is MorePaddingConv
    assert adopted[2] is model[2] and adopted[3] is model[3]
    assert [left.path for left in report.left] == ["[0]", "[2]", "[3]"]
    assert all("derived from `equinox.nn.Conv`" in left.reason for left in report.left)
    with pytest.raises(TypeError, match="`layer` must be an `equinox"):
        conv_from_equinox(model[0])


def test_complex_layers_are_left():
    model = eqx.nn.Conv1d(2, 2, 3, dtype=jnp.complex64, key=jr.key(0))
    adopted, report = adopt(model)
    assert adopted is model and "complex64" in report.left[0].reason


def test_shapes_and_shared_layers():
    """Tests a tree of shapes, as for reading files, in which a layer stands in two places."""
    make = lambda: eqx.nn.Conv1d(2, 2, 3, padding="SAME", key=jr.key(0))
    shapes, _ = adopt(eqx.filter_eval_shape(make))
    assert isinstance(shapes.weight, jax.ShapeDtypeStruct)
    assert jax.tree.structure(shapes) == jax.tree.structure(adopt(make())[0])

    class Twice(eqx.Module):
        shared: eqx.nn.Shared

        def __init__(self):
            where = lambda pair: pair[1].weight
            get = lambda pair: pair[0].weight
            self.shared = eqx.nn.Shared((make(), make()), where, get)

        def __call__(self, x):
            first, second = self.shared()
            return second(first(x))

    other = Twice()
    mine, report = adopt(other)
    assert len(report.replaced) == 2
    x = normal(1, (2, 9)).astype("float32")
    # Two sums of 6 products in a row, of sizes below 2.
    np.testing.assert_allclose(mine(x), other(x), rtol=0, atol=2 * 2 * 8 * 2 * 1.2e-7 * 4)


def test_own_layers_and_other_things_are_left_alone():
    layers = (
        PhysicsConv(1, 2, 2, 3, boundary_mode="periodic", key=jr.key(0)),
        PointwiseLinearConv(1, 2, 2, key=jr.key(0)),
        SpectralConv(1, 2, 2, 3, key=jr.key(0)),
        eqx.nn.Linear(2, 3, key=jr.key(0)),
        None,
        "name",
        jnp.ones(3),
    )
    adopted, report = adopt(layers)
    assert eqx.tree_equal(adopted, layers)
    assert report.replaced == report.left == ()
    assert str(report) == "0 replaced, 0 left"


# PyTorch's and neuraloperator's formulas, against plain loops


def test_torch_arrays_by_the_definition(x64):
    """Computes `y[o, i] = sum over c, t of w[o, c, t] x[c, i * s + t * d - p]`, or transposed,
    `y[o, i * s + t * d - p] += w[c, o, t] x[c, i]`.
    """
    rng = np.random.default_rng(0)
    s, p, d, k, n = 2, 1, 2, 3, 7
    x = rng.normal(size=(4, n))
    weight, bias = rng.normal(size=(6, 2, k)), rng.normal(size=6)
    mine = conv_from_torch(weight, bias, stride=s, padding=p, dilation=d, groups=2)
    size = (n + 2 * p - d * (k - 1) - 1) // s + 1
    expected = np.tile(bias[:, None], (1, size))
    for o, c, t, i in np.ndindex(6, 2, k, size):
        j = i * s + t * d - p
        if 0 <= j < n:
            expected[o, i] += weight[o, c, t] * x[o // 3 * 2 + c, j]
    assert_close(mine(x), expected, mine, x)

    weight = rng.normal(size=(4, 3, k))
    mine = conv_transpose_from_torch(
        weight, bias, stride=s, padding=p, output_padding=1, dilation=d, groups=2
    )
    size = (n - 1) * s - 2 * p + d * (k - 1) + 1 + 1
    expected = np.tile(bias[:, None], (1, size))
    for c, o, t, i in np.ndindex(4, 3, k, n):
        j = i * s + t * d - p
        if 0 <= j < size:
            expected[c // 2 * 3 + o, j] += weight[c, o, t] * x[c, i]
    assert_close(mine(x), expected, mine, x)


@pytest.mark.parametrize(
    ("counts", "shape"), [((5,), (9,)), ((6, 3), (8, 7)), ((5, 4, 2), (6, 8, 4))]
)
def test_neuraloperator_weights_by_the_definition(counts, shape, x64):
    """Index `j` is wavenumber `j - n // 2`, except on the last axis, which begins at 0."""
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(2, 3, *counts)) + 1j * rng.normal(size=(2, 3, *counts))
    x = rng.normal(size=(2, *shape))
    transform = np.fft.fftn(x, axes=range(1, x.ndim))
    points = np.stack(np.meshgrid(*(np.arange(n) / n for n in shape), indexing="ij"))
    expected = np.zeros((3, *shape))
    for index in np.ndindex(*counts):
        k = [j - n // 2 for j, n in zip(index[:-1], counts[:-1], strict=True)] + [index[-1]]
        factor = 2 if 0 < 2 * k[-1] < shape[-1] else 1
        y = weight[(slice(None), slice(None), *index)].T @ transform[(slice(None), *k)]
        wave = np.exp(2j * np.pi * np.tensordot(k, points, 1))
        expected += factor * np.real(np.multiply.outer(y, wave)) / wave.size
    mine = spectral_from_neuraloperator(weight)
    assert mine.num_modes == (*((n + 1) // 2 for n in counts[:-1]), counts[-1])
    # As many terms as modes and channels, each the sum over all points.
    n = 2 * weight.size * np.prod(shape)
    np.testing.assert_allclose(mine(x), expected, rtol=0, atol=n * EPS * np.abs(expected).max())


def factors_of_neuraloperator(kind, counts, channels=(2, 3)):
    """Draws a mapping of factors, with other ranks on all axes, and multiplies them out."""
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.normal(size=shape) + 1j * rng.normal(size=shape)
    sizes = (*channels, *counts)
    ranks = [4] * len(sizes) if kind == "cp" else [1 + i % 3 for i in range(len(sizes))]
    factors = [draw(size, rank) for size, rank in zip(sizes, ranks, strict=True)]
    axes, letters = "abcde"[: len(sizes)], "r" * 5 if kind == "cp" else "rstuv"
    first, name = (draw(4), "weights") if kind == "cp" else (draw(*ranks), "core")
    pairs = [axis + letter for axis, letter in zip(axes, letters, strict=False)]
    terms = ["r" if kind == "cp" else letters[: len(sizes)], *pairs]
    whole = np.einsum(f"{','.join(terms)}->{axes}", first, *factors)
    weight = {name: first} | {f"factors.factor_{i}": factor for i, factor in enumerate(factors)}
    return weight, whole


@pytest.mark.parametrize("kind", ["cp", "tucker"])
@pytest.mark.parametrize(
    ("counts", "n_modes"),
    [((4,), None), ((6, 3), None), ((5, 4), (3, 4)), ((6, 5, 3), (3, 4, 2))],
    ids=str,
)
def test_factors_of_neuraloperator_by_the_definition(kind, counts, n_modes, x64):
    """Factors stand for the weight that they multiply out to, in both libraries."""
    weight, whole = factors_of_neuraloperator(kind, counts)
    mine = spectral_from_neuraloperator(weight, n_modes)
    dense = spectral_from_neuraloperator(whole, n_modes)
    assert mine.num_modes == dense.num_modes and mine.structure.kind == kind
    # One term for each combination of ranks, with a complex factor for each axis and one more.
    n = 2 * np.prod(mine.structure.ranks) * (len(counts) + 3)
    absolute = {name: np.abs(array).astype(complex) for name, array in weight.items()}
    size = np.abs(dense_weights(spectral_from_neuraloperator(absolute))[0]).max()
    for actual, expected in zip(dense_weights(mine), dense_weights(dense), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=n * EPS * size)

    prefixed = {f"weight.{name}": array for name, array in weight.items()}
    same = spectral_from_neuraloperator(prefixed, n_modes, separable=False)
    assert eqx.tree_equal(mine, same)
    _, there = spectral_to_neuraloperator(mine)
    assert there.keys() == weight.keys()
    assert all(array.flags.c_contiguous for array in there.values())
    assert kind == "tucker" or (there["weights"] == 1).all()
    again = spectral_from_neuraloperator(there)
    assert eqx.tree_equal(mine, again)


@pytest.mark.parametrize("name", ["array", "mapping"])
def test_separable_weights_of_neuraloperator_are_a_diagonal(name, x64):
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(3, 5, 4)) + 1j * rng.normal(size=(3, 5, 4))
    whole = np.zeros((3, 3, 5, 4), complex)
    whole[range(3), range(3)] = weight
    given = weight if name == "array" else {"tensor": weight}
    for n_modes in (None, (4, 4)):
        mine = spectral_from_neuraloperator(given, n_modes, separable=True)
        assert mine.weights == "depthwise"
        dense = spectral_from_neuraloperator(whole, n_modes)
        for actual, expected in zip(dense_weights(mine), dense_weights(dense), strict=True):
            np.testing.assert_array_equal(actual, expected)
    assert eqx.tree_equal(mine, spectral_from_neuraloperator(given, (4, 4)))
    n_modes, there = spectral_to_neuraloperator(mine)
    assert n_modes == (4, 4)
    np.testing.assert_array_equal(there, weight[:, :4, :3])


# Files of an earlier version


def test_files_of_version_0_4_load(x64):
    """`layers-0.4.eqx` has these layers as version 0.4.0 of pdequinox-conv wrote them, made by
    `jax.random.key(0)`, and `outputs-0.4.npz` has their outputs for the field below, in float32.
    """
    key, dtype = jr.key(1), "float32"
    layers = (
        PhysicsConv(
            2, 4, 6, (3, 2), (1, 2), dilation=(2, 1), groups=2, key=key, dtype=dtype,
            boundary_mode=["periodic", ("dirichlet_cell", "neumann")],
        ),
        PhysicsConvTranspose(
            2, 4, 2, 3, 2, output_padding=1, use_bias=False, boundary_mode="neumann_cell", key=key,
            dtype=dtype,
        ),
        MorePaddingConv(
            2, 4, 2, 3, padding=((1, 2), 0), padding_mode="replicate", key=key, dtype=dtype
        ),
        MorePaddingConvTranspose(2, 4, 2, (2, 3), 2, padding=1, key=key, dtype=dtype),
        PointwiseLinearConv(2, 4, 3, key=key, dtype=dtype),
        SpectralConv(2, 4, 3, (2, 3), key=key, dtype=dtype),
        SpectralConv(
            2, 4, 3, (2, 3), boundary_mode=["neumann_cell", "dirichlet_node"], key=key, dtype=dtype
        ),
    )  # fmt: skip
    loaded = eqx.tree_deserialise_leaves(DATA / "layers-0.4.eqx", layers)
    x = np.random.default_rng(0).normal(size=(4, 6, 7)).astype(dtype)
    with np.load(DATA / "outputs-0.4.npz") as file:
        stored = [file[name] for name in file.files]
    for layer, expected in zip(loaded, stored, strict=True):
        actual = np.asarray(layer(x))
        # Sums of at most 4 * 9 products, or of 2 * (6 + 7) in the transforms and 8 with weights.
        n = 2 * 40
        np.testing.assert_allclose(
            actual, expected, rtol=0, atol=n * np.finfo(dtype).eps * np.abs(expected).max()
        )


# More or fewer modes

BOUNDARIES = [
    (1, "periodic"),
    (1, ("neumann_cell", "dirichlet_cell")),
    (2, "periodic"),
    (2, ["periodic", "dirichlet_cell"]),
    (2, ["neumann", "periodic"]),
    (3, "periodic"),
    (3, ["periodic", "neumann_node", "periodic"]),
]


def signs_of_groups(layer, axes):
    """Lists, for every group of these axes, which of them are negative in it: one bit for each
    periodic axis but the last, the lowest bit for the first axis.
    """
    mode = layer.boundary_mode
    ends = [mode] * layer.num_spatial_dims if isinstance(mode, str) else list(mode)
    periodic = [i for i, axis in enumerate(ends) if axis in ("periodic", ("periodic", "periodic"))]
    full = [axis for axis in axes if axis in periodic[:-1]]
    return [
        [axis in full and bool(g >> full.index(axis) & 1) for axis in axes]
        for g in range(2 ** len(full))
    ]


def by_wavenumber(layer, parts, axes):
    """Lists the parts of every mode, whose arrays have groups first and modes of these axes last:
    index `i` of a group is wavenumber `i`, or `i - m` along an axis that is negative in it; between
    walls it is the number of the mode.
    """
    found = {}
    for part in map(np.asarray, parts):
        for g, negative in enumerate(signs_of_groups(layer, axes)):
            for index in itertools.product(*(range(layer.num_modes[axis]) for axis in axes)):
                k = tuple(
                    i - layer.num_modes[axis] * sign
                    for i, axis, sign in zip(index, axes, negative, strict=True)
                )
                found.setdefault(k, []).append(part[(g, ..., *index)])
    return found


def parts_of(layer):
    """Lists the tuples of arrays of the real part, and of the imaginary part if there is one."""
    both = (layer.weights_real, layer.weights_imag)
    return [w if isinstance(w, tuple) else (w,) for w in both if w is not None]


def multipliers(layer):
    """Lists the matrices of all modes that the weights stand for, by wavenumber."""
    parts = [part for part in eqx.filter_jit(dense_weights)(layer) if part is not None]
    return by_wavenumber(layer, parts, range(layer.num_spatial_dims))


def multipliers_of_resized_sums(layer, wavenumbers):
    """Sums the matrices of the axes along which the layer has the wavenumber."""
    of_axis = [
        by_wavenumber(layer, [part[axis] for part in parts_of(layer)], [axis])
        for axis in range(layer.num_spatial_dims)
    ]
    zeros = np.zeros((len(parts_of(layer)), 3, 2))
    return {
        k: sum((of_axis[a].get((k_a,), zeros) for a, k_a in enumerate(k)), start=zeros)
        for k in wavenumbers
    }


FACTORS = [
    pytest.param(dims, mode, weights, id=f"{mode} {weights}")
    for dims, mode in (BOUNDARIES[1], BOUNDARIES[2], BOUNDARIES[4], BOUNDARIES[6])
    for weights in ("depthwise", "axiswise", ("cp", 3), ("tucker", 2))
]


@pytest.mark.converts("spectral convolution", "more or fewer modes", "resize_modes")
@pytest.mark.parametrize(
    ("dims", "mode", "weights"), [*((*case, "dense") for case in BOUNDARIES), *FACTORS], ids=str
)
def test_more_and_fewer_modes(dims, mode, weights, x64):
    boundary = [mode] if dims == 1 and not isinstance(mode, str) else mode
    few, many = (3, 2, 3)[:dims], (5, 4, 5)[:dims]
    channels = (2, 2) if weights == "depthwise" else (2, 3)
    layer = SpectralConv(
        dims, *channels, few, boundary_mode=boundary, weights=weights, weight_scale=1.0,
        key=jr.key(1),
    )  # fmt: skip
    before = multipliers(layer)
    # A sum of as many terms as the ranks have combinations, of complex factors, or of the axes.
    n = 0 if weights in ("dense", "depthwise") else 2 * 2 ** (dims + 2) * (dims + 3)
    arrays = zip(*parts_of(layer), strict=True)
    factors = [sum(np.abs(part) for part in both).max() for both in arrays]
    size = max(np.prod(factors), np.sum(factors))
    for modes in (many, (2, 4, 1)[:dims], (1,) * dims, few):
        resized = resize_modes(layer, modes)
        assert resized.num_modes == modes and resized.boundary == layer.boundary
        assert resized.weights == layer.weights
        after = multipliers(resized)
        assert before.keys() & after.keys()
        zeros = np.zeros((len(parts_of(layer)), *channels[::-1]))
        expected = {k: before.get(k, zeros) for k in after}
        if weights == "axiswise":
            expected = multipliers_of_resized_sums(layer, after)
            partly_new = any(k not in before and np.any(expected[k]) for k in expected)
            assert partly_new == (dims > 1 and modes not in ((1,) * dims, few))
        for k, matrices in after.items():
            np.testing.assert_allclose(matrices, expected[k], rtol=0, atol=n * EPS * size)
            if k in before:
                np.testing.assert_allclose(matrices, before[k], rtol=0, atol=n * EPS * size)
    if weights not in ("dense", "depthwise"):
        return
    # Additional modes, which are zeros, do not change the output for any field.
    x = normal(4, (2, *(12, 10, 11)[:dims]))
    actual, expected = resize_modes(layer, many)(x), layer(x)
    gain = np.abs(dense_weights(layer)[0]).sum((0, 2)).max() * 2 * np.abs(x).max()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=2 * 33 * EPS * gain)


def test_modes_of_layers_with_modes_per_channel(x64):
    pressure, velocity = "neumann_cell", per_channel((1, "dirichlet_cell"), (1, "neumann_cell"))
    layer = SpectralConv(
        1, 1, 2, 3, boundary_mode=pressure, out_boundary_mode=velocity, method="fft", key=jr.key(0)
    )
    large = resize_modes(layer, 5)
    x = normal(1, (1, 8))
    assert large.out_boundary == layer.out_boundary and large.method == "fft"
    np.testing.assert_allclose(large(x), layer(x), rtol=0, atol=64 * EPS * np.abs(x).max())


@pytest.mark.parametrize("weights", ["axiswise", ("cp", 2), ("tucker", 3)])
def test_modes_of_ensembles_and_states_of_factors(weights):
    make = lambda key: SpectralConv(2, 2, 2, 3, weights=weights, key=key)
    ensemble = eqx.filter_vmap(make)(jr.split(jr.key(0), 4))
    large = resize_modes({"net": ensemble, "other": jnp.ones(2)}, (4, 2))
    one = jax.tree.map(lambda leaf: leaf[1], ensemble)
    resized = resize_modes(one, (4, 2))
    assert eqx.tree_equal(resized, jax.tree.map(lambda leaf: leaf[1], large["net"]))
    shapes = resize_modes(eqx.filter_eval_shape(make, jr.key(0)), (4, 2))
    expected = SpectralConv(2, 2, 2, (4, 2), weights=weights, key=jr.key(0))
    for tree in (resized, shapes):
        assert jax.tree.structure(tree) == jax.tree.structure(expected)
        assert [leaf.shape for leaf in jax.tree.leaves(tree)] == [
            leaf.shape for leaf in jax.tree.leaves(expected)
        ]
    empty = jax.tree.map(lambda leaf: None, one)
    assert resize_modes(empty, 4).num_modes == (4, 4)
    labels = eqx.tree_at(
        lambda layer: (layer.weights_real, layer.weights_imag),
        one,
        ("adam", ("sgd",) * len(one.weights_imag)),
    )
    resized = resize_modes(labels, 4)
    assert (resized.weights_real, resized.weights_imag[0]) == ("adam", "sgd")


def test_modes_of_ensembles_and_states():
    make = lambda key: SpectralConv(2, 2, 2, 3, key=key)
    ensemble = eqx.filter_vmap(make)(jr.split(jr.key(0), 4))
    large = resize_modes({"net": ensemble, "other": jnp.ones(2)}, (4, 2))
    assert large["net"].weights_real.shape == (4, 2, 2, 2, 4, 2)
    one = jax.tree.map(lambda leaf: leaf[1], ensemble)
    np.testing.assert_array_equal(
        resize_modes(one, (4, 2)).weights_imag, large["net"].weights_imag[1]
    )
    empty = jax.tree.map(lambda leaf: None, one)
    assert resize_modes(empty, 4).num_modes == (4, 4)
    shapes = resize_modes(eqx.filter_eval_shape(make, jr.key(0)), (4, 2))
    assert shapes.weights_imag.shape == (2, 2, 2, 4, 2)


class SpectralWithReLU(SpectralConv):
    """Computes something else than its base."""

    def __call__(self, x, **keywords):
        return jax.nn.relu(super().__call__(x, **keywords))


# Bad input


def fno_state():
    """Makes the state of the smallest network, in 1-D."""
    rng = np.random.default_rng(0)
    shapes = {
        "fno_blocks.convs.0.bias": (2, 1),
        "fno_blocks.fno_skips.0.conv.weight": (2, 2, 1),
        "fno_blocks.channel_mlp.0.fcs.0.weight": (1, 2, 1),
        "fno_blocks.channel_mlp.0.fcs.0.bias": (1,),
        "fno_blocks.channel_mlp.0.fcs.1.weight": (2, 1, 1),
        "fno_blocks.channel_mlp.0.fcs.1.bias": (2,),
        "fno_blocks.channel_mlp_skips.0.weight": (1, 2, 1),
        "lifting.fcs.0.weight": (4, 2, 1),
        "lifting.fcs.0.bias": (4,),
        "lifting.fcs.1.weight": (2, 4, 1),
        "lifting.fcs.1.bias": (2,),
        "projection.fcs.0.weight": (4, 2, 1),
        "projection.fcs.0.bias": (4,),
        "projection.fcs.1.weight": (1, 4, 1),
        "projection.fcs.1.bias": (1,),
    }
    state = {name: rng.normal(size=shape).astype("float32") for name, shape in shapes.items()}
    state["fno_blocks.convs.0.weight.tensor"] = np.ones((2, 2, 3), "complex64")
    return state


def test_a_network_without_metadata_and_its_activation():
    state = fno_state()
    mine = load_neuraloperator_fno(state)
    assert isinstance(mine, FNO) and mine.in_channels == 1
    assert mine(jnp.ones((1, 8))).shape == (1, 8)
    sine = load_neuraloperator_fno(state, non_linearity=jnp.sin)
    assert sine.lifting.activation is jnp.sin
    arguments, there = fno_to_neuraloperator(mine)
    assert there.keys() == state.keys()
    for name, array in state.items():
        np.testing.assert_array_equal(there[name], array)
    assert arguments["n_modes"] == (4,) and arguments["hidden_channels"] == 2


WEIGHT = np.ones((4, 2, 3), "float32")
COMPLEX = np.ones((2, 2, 3), "complex64")
ENSEMBLE = eqx.filter_vmap(
    lambda key: (
        PhysicsConv(1, 2, 2, 3, boundary_mode="periodic", key=key),
        SpectralConv(1, 2, 2, 3, key=key),
    )
)(jr.split(jr.key(0), 2))
WALLS = dict(boundary_mode="neumann_cell", key=jr.key(0))


def factors(name, shape):
    """Makes a weight of three axes with ranks of 2, and adds an array of this shape."""
    return {name: np.ones(shape, "complex64")} | {
        f"factors.factor_{i}": np.ones((3, 2), "complex64") for i in range(3)
    }


def blocks_that_differ():
    model = load_neuraloperator_fno(fno_state())
    other = eqx.tree_at(
        lambda block: block.spectral,
        model.blocks[0],
        replace=SpectralConv(1, 2, 2, 2, key=jr.key(0)),
    )
    return eqx.tree_at(lambda model: model.blocks, model, (model.blocks[0], other))


BAD = {
    "weight, no numbers": (lambda: conv_from_torch("weight"), TypeError, "`weight` must be"),
    "weight, rank": (lambda: conv_from_torch(WEIGHT[0]), ValueError, "`weight` must have"),
    "bias, rank": (lambda: conv_from_torch(WEIGHT, WEIGHT), ValueError, "`bias` must have"),
    "bias, length": (
        lambda: conv_from_torch(WEIGHT, np.ones(3, "float32")),
        ValueError,
        "`bias` must have",
    ),
    "double": (
        lambda: conv_from_torch(WEIGHT.astype(float)),
        ValueError,
        "`weight` is of dtype float64",
    ),
    "double, complex": (
        lambda: spectral_from_neuraloperator(COMPLEX.astype(complex)),
        ValueError,
        "`weight` is of dtype float64",
    ),
    "no n_modes": (
        lambda: spectral_from_neuraloperator(COMPLEX, ()),
        ValueError,
        "`n_modes` must have one entry",
    ),
    "to torch, ensemble": (lambda: conv_to_torch(ENSEMBLE[0]), ValueError, "must be one layer"),
    "to neuraloperator, ensemble": (
        lambda: spectral_to_neuraloperator(ENSEMBLE[1]),
        ValueError,
        "must be one layer",
    ),
    "channels": (
        lambda: load_neuraloperator_fno(fno_state(), in_channels=2),
        CannotConvertError,
        "`in_channels` must be 1",
    ),
    "derived": (
        lambda: resize_modes(SpectralWithReLU(1, 2, 2, 3, key=jr.key(0)), 4),
        TypeError,
        "`model` must have spectral layers",
    ),
    "mode": (
        lambda: conv_from_torch(WEIGHT, padding_mode="same"),
        ValueError,
        "`padding_mode` must be one of",
    ),
    "padding": (lambda: conv_from_torch(WEIGHT, padding="full"), ValueError, "`padding` must be"),
    "padding, negative": (lambda: conv_from_torch(WEIGHT, padding=-1), ValueError, "`padding`"),
    "same with a stride": (
        lambda: conv_from_torch(WEIGHT, padding="same", stride=2),
        ValueError,
        "allows no `stride`",
    ),
    "groups": (lambda: conv_from_torch(WEIGHT, groups=3), ValueError, "`groups` must divide"),
    "groups, transposed": (
        lambda: conv_transpose_from_torch(WEIGHT, groups=3),
        ValueError,
        "`groups` must divide",
    ),
    "mode, transposed": (
        lambda: conv_transpose_from_torch(WEIGHT, padding_mode="circular"),
        CannotConvertError,
        "`padding_mode` must be 'zeros'",
    ),
    "output padding": (
        lambda: conv_transpose_from_torch(WEIGHT, stride=2, output_padding=2),
        CannotConvertError,
        "`output_padding` must be less",
    ),
    "to torch, layer": (lambda: conv_to_torch(3), TypeError, "`layer` must be a convolution"),
    "to torch, 4-D": (
        lambda: conv_to_torch(PointwiseLinearConv(4, 2, 2, key=jr.key(0))),
        CannotConvertError,
        "1 to 3 dimensions",
    ),
    "to torch, mode": (
        lambda: conv_to_torch(PhysicsConv(1, 2, 2, 3, **WALLS)),
        CannotConvertError,
        "'neumann_cell'",
    ),
    "to torch, transposed mode": (
        lambda: conv_to_torch(PhysicsConvTranspose(1, 2, 2, 3, **WALLS)),
        CannotConvertError,
        "no `padding_mode` but 'zeros'",
    ),
    "to torch, asymmetric": (
        lambda: conv_to_torch(MorePaddingConv(1, 2, 2, 3, padding=((1, 0),), key=jr.key(0))),
        CannotConvertError,
        "as many points above as below",
    ),
    "to torch, bfloat16": (
        lambda: conv_to_torch(PointwiseLinearConv(1, 2, 2, dtype="bfloat16", key=jr.key(0))),
        CannotConvertError,
        "bfloat16",
    ),
    "real weights": (
        lambda: spectral_from_neuraloperator(WEIGHT),
        TypeError,
        "`weight` must be an array of complex numbers",
    ),
    "no modes": (
        lambda: spectral_from_neuraloperator(COMPLEX[0]),
        ValueError,
        "`weight` must have shape",
    ),
    "separable, no bool": (
        lambda: spectral_from_neuraloperator(COMPLEX, separable="True"),
        TypeError,
        "`separable` must be True, False or None",
    ),
    "separable, modes": (
        lambda: spectral_from_neuraloperator(COMPLEX, 4, separable=True),
        ValueError,
        "`n_modes` must have one entry",
    ),
    "separable, no modes": (
        lambda: spectral_from_neuraloperator(COMPLEX[0, 0], separable=True),
        ValueError,
        re.escape("`weight` must have shape (channels, *modes)"),
    ),
    "separable factors": (
        lambda: spectral_from_neuraloperator(factors("core", (2, 2, 2)), (2, 4)),
        CannotConvertError,
        "`separable` must be False",
    ),
    "factors alone": (
        lambda: spectral_from_neuraloperator({"factors.factor_0": COMPLEX}),
        CannotConvertError,
        "'TT'",
    ),
    "names": (
        lambda: spectral_from_neuraloperator({"weights": COMPLEX[0, 0], "factors.1": COMPLEX}),
        ValueError,
        "`weight` must have the entry 'tensor'",
    ),
    "no factors": (
        lambda: spectral_from_neuraloperator({"core": COMPLEX}),
        ValueError,
        "`weight` must have the entry 'tensor'",
    ),
    "bias": (
        lambda: spectral_from_neuraloperator({"weight.tensor": COMPLEX, "bias": WEIGHT}),
        CannotConvertError,
        "without the entry 'bias'",
    ),
    "ranks, cp": (
        lambda: spectral_from_neuraloperator(factors("weights", (3,))),
        ValueError,
        "of the same ranks",
    ),
    "ranks, tucker": (
        lambda: spectral_from_neuraloperator(factors("core", (2, 2))),
        ValueError,
        "of the same ranks",
    ),
    "factors, real": (
        lambda: spectral_from_neuraloperator({"tensor": WEIGHT}),
        TypeError,
        r"`weight\.tensor` must be an array of complex",
    ),
    "to neuraloperator, axiswise": (
        lambda: spectral_to_neuraloperator(
            SpectralConv(1, 2, 2, 3, weights="axiswise", key=jr.key(0))
        ),
        CannotConvertError,
        "got 'axiswise'",
    ),
    "to neuraloperator, ensemble of factors": (
        lambda: spectral_to_neuraloperator(
            eqx.filter_vmap(lambda key: SpectralConv(1, 2, 2, 3, weights=("cp", 2), key=key))(
                jr.split(jr.key(0), 2)
            )
        ),
        ValueError,
        "must be one layer",
    ),
    "factorization": (
        lambda: load_neuraloperator_fno(fno_state(), factorization="Tucker"),
        CannotConvertError,
        "`factorization` must be 'dense'",
    ),
    "separable network": (
        lambda: load_neuraloperator_fno(fno_state(), separable=True),
        CannotConvertError,
        "`separable` must be False",
    ),
    "factorization, TT": (
        lambda: load_neuraloperator_fno(fno_state(), factorization="TT"),
        CannotConvertError,
        "`factorization` must be one of",
    ),
    "blocks that differ": (
        lambda: fno_to_neuraloperator(blocks_that_differ()),
        CannotConvertError,
        "in all of its blocks",
    ),
    "too many modes": (
        lambda: spectral_from_neuraloperator(COMPLEX, 6),
        ValueError,
        "`n_modes` must be at most",
    ),
    "modes, rank": (
        lambda: spectral_from_neuraloperator(COMPLEX, (2, 2, 2)),
        ValueError,
        "`n_modes` must have one entry",
    ),
    "modes, bool": (
        lambda: spectral_from_neuraloperator(COMPLEX, True),
        TypeError,
        "`n_modes` must be an integer",
    ),
    "to neuraloperator, layer": (
        lambda: spectral_to_neuraloperator(None),
        TypeError,
        "`layer` must be a `SpectralConv`",
    ),
    "to neuraloperator, walls": (
        lambda: spectral_to_neuraloperator(SpectralConv(1, 2, 2, 3, **WALLS)),
        CannotConvertError,
        "periodic along every axis",
    ),
    "to neuraloperator, network": (
        lambda: fno_to_neuraloperator(None),
        TypeError,
        "`model` must be a `pdequinox_convert.FNO`",
    ),
    "option": (
        lambda: load_neuraloperator_fno(fno_state(), activation="gelu"),
        TypeError,
        "`options` must be among",
    ),
    "activation": (
        lambda: load_neuraloperator_fno(fno_state(), non_linearity="mish"),
        CannotConvertError,
        "`non_linearity` must be one of",
    ),
    "no entries": (
        lambda: load_neuraloperator_fno({"weight": WEIGHT}),
        CannotConvertError,
        "'fno_blocks.convs",
    ),
    "entry missing": (
        lambda: load_neuraloperator_fno(fno_state(), norm="group_norm"),
        CannotConvertError,
        "must have an entry 'fno_blocks.norm.0.weight'",
    ),
    "entry not expected": (
        lambda: load_neuraloperator_fno(fno_state(), use_channel_mlp=False),
        CannotConvertError,
        "`state_dict` has the entries",
    ),
    "padding of the domain": (
        lambda: load_neuraloperator_fno(fno_state(), domain_padding=[0.1, 0.2]),
        CannotConvertError,
        "`domain_padding` must be",
    ),
    "field": (
        lambda: load_neuraloperator_fno(fno_state())(jnp.ones((2, 8))),
        ValueError,
        re.escape("(in_channels=1, N_1)"),
    ),
    "no spectral layer": (lambda: resize_modes({}, 3), ValueError, "`model` must be"),
    "num_modes": (
        lambda: resize_modes(SpectralConv(1, 2, 2, 3, key=jr.key(0)), 0),
        ValueError,
        "`num_modes` must be",
    ),
    "spatial_shape": (
        lambda: conv_from_equinox(eqx.nn.Conv1d(1, 1, 1, key=jr.key(0)), spatial_shape=(1, 2)),
        ValueError,
        "`spatial_shape` must be",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    call, error, text = BAD[name]
    with pytest.raises(error, match=text):
        call()
