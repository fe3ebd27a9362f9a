"""Tests agreement with pdequinox 0.1.2 wherever it is right: initial arrays, outputs, gradients,
fields, signatures and saved files of its convolution layers.
"""

import dataclasses
import inspect
import itertools
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import pdequinox.conv as theirs
import pdequinox_physconv
import pdequinox_pointwise
import pdequinox_spectralconv
from pdequinox.conv._conv import MorePaddingConv as TheirMorePaddingConv


PhysicsConv = pdequinox_physconv.PhysicsConv
PhysicsConvTranspose = pdequinox_physconv.PhysicsConvTranspose
PointwiseLinearConv = pdequinox_pointwise.PointwiseLinearConv
SpectralConv = pdequinox_spectralconv.SpectralConv
PAIRS = [
    (PhysicsConv, theirs.PhysicsConv),
    (PhysicsConvTranspose, theirs.PhysicsConvTranspose),
    (PointwiseLinearConv, theirs.PointwiseLinearConv),
    (SpectralConv, theirs.SpectralConv),
]
MODES = ["periodic", "dirichlet", "neumann"]
UNIT = float(jnp.finfo(jnp.float32).eps) / 2
"""The relative error of one rounded operation."""

THREEFRY = jr.key(7, impl="threefry2x32")
"""A key of the default generator, which most users have; the tests use a faster one."""

# (in_channels, out_channels, groups, use_bias, zero_bias_init), taken in turn by the cases below.
CHANNELS = [
    (2, 3, 1, True, False),
    (4, 2, 2, True, True),
    (3, 1, 1, False, False),
    (3, 6, 3, True, False),
    (1, 2, 1, False, True),
]
# (spatial shape, kernel size, stride, dilation). In 1-D every kernel size with every stride, on an
# axis that some kernels reach over entirely or on one that no stride divides; every kernel size in
# every boundary mode. In 2-D and 3-D every geometry in two of the three.
IN_1D = [
    (((size,), k, s, 1 + (k * s) % 2), MODES[(k + s) % 3])
    for k, s in itertools.product(range(1, 6), (1, 2, 3))
    for size in [(3, 11)[(k + s) % 2]]
]
IN_MORE = [
    ((6, 5), 3, 1, 1),
    ((6, 5), (5, 3), (1, 2), (1, 2)),
    ((4, 7), (2, 3), (2, 1), (3, 1)),
    ((7, 4), (3, 4), (3, 2), 2),
    ((2, 9), (1, 5), (2, 3), 1),
    ((3, 4, 5), 3, 1, 1),
    ((4, 3, 2), (1, 2, 3), (2, 1, 1), (1, 2, 1)),
    ((2, 5, 4), (3, 5, 1), (1, 2, 3), (2, 1, 1)),
]
CASES = IN_1D + [
    (geometry, MODES[(number + other) % 3])
    for number, geometry in enumerate(IN_MORE)
    for other in range(2)
]


def cases(odd: bool = False) -> list[Any]:
    """Lists geometries and boundary modes, with channels in turn; `odd` takes only odd kernels."""
    return [
        pytest.param(
            geometry, mode, channels, id=f"{mode}-{'-'.join(map(str, (*geometry, *channels)))}"
        )
        for number, (geometry, mode) in enumerate(CASES)
        if not (odd and any(k % 2 == 0 for k in np.atleast_1d(geometry[1])))
        for channels in [CHANNELS[number % len(CHANNELS)]]
    ]


def convolutions(
    classes: tuple[Any, Any], geometry: Any, mode: str, channels: Any, **extra: Any
) -> list[Any]:
    """Makes the layers of the two libraries, with equal keys."""
    shape, kernel_size, stride, dilation = geometry
    in_channels, out_channels, groups, use_bias, zero_bias_init = channels
    return [
        cls(
            len(shape),
            in_channels,
            out_channels,
            kernel_size,
            stride,
            dilation=dilation,
            groups=groups,
            use_bias=use_bias,
            zero_bias_init=zero_bias_init,
            boundary_mode=mode,
            **{"key": jr.key(7), **extra},
        )
        for cls in classes
    ]


def normal(seed: int, shape: tuple[int, ...]) -> Any:
    """Draws from NumPy's generator, which needs no compilation."""
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def assert_equal_arrays(mine: Any, other: Any) -> None:
    """Compares arrays bit for bit, in the order in which files hold them."""
    mine, other = (jax.tree.leaves(eqx.filter(layer, eqx.is_array)) for layer in (mine, other))
    assert [array.shape for array in mine] == [array.shape for array in other]
    for array, expected in zip(mine, other, strict=True):
        assert array.dtype == expected.dtype
        np.testing.assert_array_equal(array, expected)


@eqx.filter_jit
def output_and_gradients(layer: Any, x: Any, cotangent: Any) -> tuple[Any, Any, Any]:
    """Computes `layer(x)`, and the gradients with respect to the layer's arrays and to `x`."""
    arrays, static = eqx.partition(layer, eqx.is_inexact_array)
    y, pullback = jax.vjp(lambda arrays, x: eqx.combine(arrays, static)(x), arrays, x)
    return y, *pullback(cotangent)


def assert_same_convolution(mine: Any, other: Any, shape: tuple[int, ...]) -> None:
    """Compares outputs and gradients, within what rounding allows.

    Each number is a sum of `n` products of two numbers (a bias counts as one). Computed in any
    order, it is off by at most `gamma = (n + 1) u / (1 - (n + 1) u)` times the sum of the products'
    absolute values, where `u` is the relative error of one operation (Higham, "Accuracy and
    Stability of Numerical Algorithms", 2nd ed., section 3.1). Two such sums differ by at most twice
    as much. In the boundary modes here, all coefficients of the extension are 0 or 1. So the same
    layer gives the sum of absolute values if its inputs are absolute values, and gives `n` if they
    are ones.
    """
    x = normal(1, (mine.in_channels, *shape))
    cotangent = normal(2, jax.eval_shape(other, x).shape)
    expected = output_and_gradients(other, x, cotangent)
    actual = output_and_gradients(mine, x, cotangent)
    magnitude, number = (
        output_and_gradients(*jax.tree.map(apply, (other, x, cotangent)))
        for apply in (lambda a: jnp.asarray(np.abs(a)), lambda a: jnp.asarray(np.ones_like(a)))
    )
    for a, e, m, n in zip(
        *map(jax.tree.leaves, (actual, expected, magnitude, number)), strict=True
    ):
        assert a.shape == e.shape
        assert a.dtype == e.dtype
        error = np.abs(np.float64(a) - np.float64(e))
        gamma = (np.float64(n) + 1) * UNIT / (1 - (np.float64(n) + 1) * UNIT)
        np.testing.assert_array_less(error, 2 * gamma * np.float64(m) + np.finfo(np.float32).tiny)


@pytest.mark.parametrize(("geometry", "mode", "channels"), cases())
def test_physics_conv(geometry, mode, channels):
    mine, other = convolutions(PAIRS[0], geometry, mode, channels)
    assert_equal_arrays(mine, other)
    assert_same_convolution(mine, other, geometry[0])


@pytest.mark.parametrize(("geometry", "mode", "channels"), cases(odd=True))
def test_physics_conv_transpose_with_odd_kernels(geometry, mode, channels):
    strides = np.broadcast_to(geometry[2], len(geometry[0]))
    # The largest on the first axis, the smallest on the next.
    output_padding = tuple(int(s) - 1 if axis % 2 == 0 else 0 for axis, s in enumerate(strides))
    mine, other = convolutions(PAIRS[1], geometry, mode, channels, output_padding=output_padding)
    assert_equal_arrays(mine, other)
    assert_same_convolution(mine, other, geometry[0])


def test_output_padding_at_the_call():
    geometry = ((5, 4), 3, (3, 2), 1)
    x = normal(1, (2, 5, 4))
    for mode in MODES:
        mine, other = convolutions(PAIRS[1], geometry, mode, CHANNELS[0])
        for output_padding in [(2, 1), (0, 1), None]:
            y = mine(x, output_padding=output_padding)
            expected = other(x, output_padding=output_padding)
            # 2 channels of 9 taps and a bias of sizes below 4: far less than 2 * 20 * u * 80.
            np.testing.assert_allclose(y, expected, rtol=0, atol=2 * 20 * UNIT * 80)


@pytest.mark.parametrize(
    ("geometry", "channels"),
    list(zip([geometry for geometry, _ in IN_1D[::3]] + IN_MORE, itertools.cycle(CHANNELS))),
    ids=str,
)
def test_initial_convolutions_with_the_default_generator(geometry, channels):
    """Initial arrays also agree in transposed layers with even kernels, whose outputs do not, and
    with those of Equinox.
    """
    shape, kernel_size, _, _ = geometry
    in_channels, out_channels, groups, use_bias, zero_bias_init = channels
    for classes, equinox_class in zip(PAIRS[:2], (eqx.nn.Conv, eqx.nn.ConvTranspose), strict=True):
        mine, other = convolutions(classes, geometry, "periodic", channels, key=THREEFRY)
        assert_equal_arrays(mine, other)
        reference = equinox_class(
            len(shape),
            in_channels,
            out_channels,
            kernel_size,
            groups=groups,
            use_bias=use_bias,
            key=THREEFRY,
        )
        if zero_bias_init and use_bias:
            reference = eqx.tree_at(lambda layer: layer.bias, reference, replace_fn=jnp.zeros_like)
        assert_equal_arrays(mine, reference)


@pytest.mark.parametrize("num_spatial_dims", [1, 2, 3])
def test_other_initial_layers_with_the_default_generator(num_spatial_dims):
    layers = [cls(num_spatial_dims, 3, 2, key=THREEFRY) for cls in PAIRS[2]]
    assert_equal_arrays(*layers)
    assert_equal_arrays(layers[0], eqx.nn.Conv(num_spatial_dims, 3, 2, 1, key=THREEFRY))
    mine, other = (cls(num_spatial_dims, 3, 3, 2, key=THREEFRY) for cls in PAIRS[3])
    for name in ("weights_real", "weights_imag"):
        np.testing.assert_array_equal(getattr(mine, name), getattr(other, name))


@pytest.mark.parametrize("num_spatial_dims", [1, 2, 3])
@pytest.mark.parametrize(
    ("use_bias", "zero_bias_init"), [(True, False), (True, True), (False, True)]
)
def test_pointwise_linear_conv(num_spatial_dims, use_bias, zero_bias_init):
    mine, other = (
        cls(num_spatial_dims, 4, 3, use_bias, zero_bias_init=zero_bias_init, key=jr.key(7))
        for cls in PAIRS[2]
    )
    assert_equal_arrays(mine, other)
    assert_same_convolution(mine, other, (5, 4, 3)[:num_spatial_dims])


# (spatial shape, number of modes, channels), up to the most modes that fit, on even and odd axes.
SPECTRAL = [
    ((8,), 1, 2),
    ((8,), 5, 3),
    ((9,), 5, 1),
    ((12,), (4,), 2),
    ((6, 7), (3, 4), 3),
    ((6, 8), (3, 5), 1),
    ((8, 6), 2, 2),
    ((5, 4), (2, 1), 3),
    ((4, 5, 6), (2, 2, 4), 1),
    ((6, 4, 5), (1, 2, 3), 2),
]


@pytest.mark.parametrize(("shape", "num_modes", "channels"), SPECTRAL)
def test_spectral_conv_with_as_many_channels_out_as_in(shape, num_modes, channels):
    """A transform of one axis is a sum of as many terms as the axis has points, and the product
    with the weights is a sum of `2 C` real terms, so every number goes through
    `n = 2 * sum(shape) + 2 C` roundings. The error is compared, in the 2-norm, with `n u` times a
    bound on the norm of the whole: with the coefficients `X` of `x` and the multipliers `W_k`,
    Parseval's theorem gives `||y|| <= max ||W_k|| ||x||`, the same for the gradient with respect to
    `x`, and `||dW|| <= 2 / N ||X|| max ||Y_k|| <= 2 ||x|| ||cotangent||`.
    """
    mine, other = (
        cls(len(shape), channels, channels, num_modes, key=jr.key(7)) for cls in PAIRS[3]
    )
    for name in ("weights_real", "weights_imag"):
        np.testing.assert_array_equal(getattr(mine, name), getattr(other, name))

    x, cotangent = (normal(seed, (channels, *shape)) for seed in (1, 2))
    actual = spectral_output_and_gradients(mine, x, cotangent)
    expected = spectral_output_and_gradients(other, x, cotangent)
    n = 2 * sum(shape) + 2 * channels
    matrices = np.moveaxis(
        jax.lax.complex(mine.weights_real, mine.weights_imag), (1, 2), (-2, -1)
    )  # of shape (G, *num_modes, C, C)
    gain = np.linalg.norm(matrices, axis=(-2, -1)).max()
    sizes = [gain * np.linalg.norm(x), gain * np.linalg.norm(cotangent)] + 2 * [
        2 * np.linalg.norm(x) * np.linalg.norm(cotangent)
    ]
    for a, e, size in zip(actual, expected, sizes, strict=True):
        assert a.shape == e.shape
        assert a.dtype == e.dtype
        assert np.linalg.norm(np.float64(a) - np.float64(e)) <= 2 * n * UNIT * size


def spectral_output_and_gradients(layer: Any, x: Any, cotangent: Any) -> tuple[Any, ...]:
    """Computes the output, and its gradients with respect to the input and to the two weights. The
    number of modes is hidden from `jax.jit`, which would trace that of the other library.
    """

    @jax.jit
    def evaluate(x, real, imag, cotangent):
        def call(x, real, imag):
            where = lambda layer: (layer.weights_real, layer.weights_imag)
            return eqx.tree_at(where, layer, (real, imag))(x)

        y, pullback = jax.vjp(call, x, real, imag)
        return y, *pullback(cotangent)

    # The other library's layer adds a Python complex to a float array.
    with jax.numpy_dtype_promotion("standard"):
        return evaluate(x, layer.weights_real, layer.weights_imag, cotangent)


@pytest.mark.parametrize(("num_spatial_dims", "use_bias"), [(1, True), (2, False), (3, True)])
@pytest.mark.parametrize("classes", PAIRS[:3], ids=lambda classes: classes[0].__name__)
def test_saved_layers_load(classes, num_spatial_dims, use_bias, tmp_path):
    def make(cls: Any, seed: int) -> Any:
        arguments, keywords = (3, 2), {"boundary_mode": "periodic", "groups": 2}
        if cls in PAIRS[2]:
            arguments, keywords = (), {}
        return cls(
            num_spatial_dims, 4, 2, *arguments, **keywords, use_bias=use_bias, key=jr.key(seed)
        )

    other, mine = make(classes[1], 7), make(classes[0], 8)
    eqx.tree_serialise_leaves(tmp_path / "layer.eqx", other)
    loaded = eqx.tree_deserialise_leaves(tmp_path / "layer.eqx", mine)
    assert_equal_arrays(loaded, other)
    assert_same_convolution(loaded, other, (5, 4, 3)[:num_spatial_dims])


def make_examples() -> list[Callable[[Any], Any]]:
    convolution = {"key": jr.key(7), "boundary_mode": "Neumann"}
    return [
        lambda cls: cls(2, 4, 2, (3, 5), (1, 2), dilation=(2, 1), groups=2, **convolution),
        lambda cls: cls(2, 4, 2, (3, 5), (2, 3), (1, 2), 2, 1, False, **convolution),
        lambda cls: cls(2, 4, 2, False, key=jr.key(7)),
        lambda cls: cls(2, 3, 3, (2, 4), key=jr.key(7)),
    ]


@pytest.mark.parametrize("number", range(4))
def test_fields_and_receptive_field(number):
    mine, other = (make_examples()[number](cls) for cls in PAIRS[number])
    for field in dataclasses.fields(other):
        expected = getattr(other, field.name)
        if not eqx.is_array(expected):
            assert getattr(mine, field.name) == expected, field.name
    assert mine.receptive_field == other.receptive_field
    assert all(math.isinf(v) == (number == 3) for pair in mine.receptive_field for v in pair)


@pytest.mark.parametrize("classes", PAIRS, ids=lambda classes: classes[0].__name__)
@pytest.mark.parametrize("method", ["__init__", "__call__"])
def test_every_call_of_theirs_is_one_of_ours(classes, method):
    mine, other = (
        list(inspect.signature(getattr(cls, method)).parameters.values()) for cls in classes
    )
    positional = [p.name for p in other if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert [p.name for p in mine if p.kind is p.POSITIONAL_OR_KEYWORD] == (
        ["self", "x"] if method == "__call__" else positional
    )
    defaults = {p.name: p.default for p in mine}
    names = [("x" if p.name == "input" else p.name) for p in other]
    assert {name: defaults[name] for name in names} == {p.name: p.default for p in other}
    extra = [p for p in mine if p.name not in names]
    assert all(p.kind is p.KEYWORD_ONLY and p.default is not p.empty for p in extra)


@pytest.mark.parametrize(
    ("padding_mode", "padding"),
    [
        ("zeros", (2, 1)),
        ("reflect", ((0, 3), (1, 0))),
        ("replicate", ((2, 0), (4, 5))),
        ("circular", 2),
    ],
)
def test_explicit_padding(padding_mode, padding):
    mine, other = (
        cls(2, 2, 3, (3, 2), (1, 2), padding, padding_mode, key=jr.key(7))
        for cls in (pdequinox_physconv.MorePaddingConv, TheirMorePaddingConv)
    )
    assert_equal_arrays(mine, other)
    assert_same_convolution(mine, other, (4, 5))
