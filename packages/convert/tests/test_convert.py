"""What needs no other library than those of the package: Equinox's layers, files of an earlier
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
from pdequinox_spectralconv import SpectralConv


DATA = Path(__file__).with_name("data")
EPS = float(np.finfo(np.float64).eps)


def normal(seed, shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


def assert_close(actual, expected, layer, x):
    """A sum of the products of a kernel with values of `x`, in float64, by both."""
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
    if padding == "VALID" or k == 1:  # Which no size pads.
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
    # Sums of 18, 16 and 3 products, each rounded to the dtype at the latest at its end.
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
    """Differs in more than its constructor."""

    def __call__(self, x, *, key=None):
        return jax.nn.relu(super().__call__(x))


class SameByDefault(eqx.nn.Conv):
    """Differs in its constructor alone."""

    def __init__(self, channels, *, key):
        super().__init__(1, channels, channels, 3, padding="SAME", key=key)


class Named(eqx.nn.Conv):
    """Has a field more."""

    name: str = eqx.field(static=True, default="")


class Gated(eqx.nn.Conv):
    """Has a method more, which its owner calls."""

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
    """A tree of shapes, as is made to read files into, and a layer that stands in two places."""
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
    """`y[o, i] = sum over c, t of w[o, c, t] x[c, i * s + t * d - p]`; and transposed,
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
    """Index `j` of an axis but the last is wavenumber `j - n // 2`, the last one begins at 0."""
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


# Files of an earlier version


def test_files_of_version_0_4_load(x64):
    """`layers-0.4.eqx` has what version 0.4.0 of pdequinox-conv wrote of these layers, made by
    `jax.random.key(0)`, and `outputs-0.4.npz` what they gave for the field below; in float32.
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


def by_wavenumber(layer):
    """The matrix of every mode: index `i` of group `g` is wavenumber `i`, or `i - m` along a
    periodic axis but the last whose bit of `g` is 1; between walls it is the number of the mode.
    """
    mode = layer.boundary_mode
    axes = [mode] * layer.num_spatial_dims if isinstance(mode, str) else list(mode)
    periodic = [i for i, axis in enumerate(axes) if axis in ("periodic", ("periodic", "periodic"))]
    found = {}
    for weights in (layer.weights_real, layer.weights_imag):
        if weights is None:
            continue
        for g, *index in itertools.product(*map(range, (weights.shape[0], *weights.shape[3:]))):
            k = list(index)
            for bit, axis in enumerate(periodic[:-1]):
                if g >> bit & 1:
                    k[axis] -= layer.num_modes[axis]
            found.setdefault(tuple(k), []).append(np.asarray(weights[(g, ..., *index)]))
    return found


@pytest.mark.converts("spectral convolution", "more or fewer modes", "resize_modes")
@pytest.mark.parametrize(("dims", "mode"), BOUNDARIES, ids=str)
def test_more_and_fewer_modes(dims, mode, x64):
    boundary = [mode] if dims == 1 and not isinstance(mode, str) else mode
    few, many = (3, 2, 3)[:dims], (5, 4, 5)[:dims]
    layer = SpectralConv(dims, 2, 3, few, boundary_mode=boundary, key=jr.key(1))
    for modes in (many, (2, 4, 1)[:dims], (1,) * dims, few):
        resized = resize_modes(layer, modes)
        assert resized.num_modes == modes and resized.boundary == layer.boundary
        before, after = by_wavenumber(layer), by_wavenumber(resized)
        assert before.keys() & after.keys()
        for k, matrices in after.items():
            expected = before.get(k, [np.zeros((3, 2))] * len(matrices))
            np.testing.assert_array_equal(matrices, expected)
    # More modes, which are zeros, change nothing of any field's output.
    x = normal(4, (2, *(12, 10, 11)[:dims]))
    actual, expected = resize_modes(layer, many)(x), layer(x)
    size = np.abs(layer.weights_real).sum((0, 2)).max() * 2 * np.abs(x).max()
    np.testing.assert_allclose(actual, expected, rtol=0, atol=2 * 33 * EPS * size)


def test_modes_of_layers_with_modes_per_channel(x64):
    pressure, velocity = "neumann_cell", per_channel((1, "dirichlet_cell"), (1, "neumann_cell"))
    layer = SpectralConv(
        1, 1, 2, 3, boundary_mode=pressure, out_boundary_mode=velocity, method="fft", key=jr.key(0)
    )
    large = resize_modes(layer, 5)
    x = normal(1, (1, 8))
    assert large.out_boundary == layer.out_boundary and large.method == "fft"
    np.testing.assert_allclose(large(x), layer(x), rtol=0, atol=64 * EPS * np.abs(x).max())


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
    """Computes something else."""

    def __call__(self, x, **keywords):
        return jax.nn.relu(super().__call__(x, **keywords))


# Bad input


def fno_state():
    """Of the smallest network, 1-D."""
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
        "has no `stride`",
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
    "separable": (
        lambda: spectral_from_neuraloperator(COMPLEX, (2, 4)),
        CannotConvertError,
        "`separable`",
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
