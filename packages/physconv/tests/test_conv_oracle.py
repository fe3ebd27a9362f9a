"""Tests both convolutions against dense float64 loops, with their initial weights."""

import itertools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import oracles
import pytest
from hypothesis import given, settings, strategies as st

from pdequinox_padding import BOUNDARY_MODES
from pdequinox_physconv import (
    MorePaddingConv,
    MorePaddingConvTranspose,
    PhysicsConv,
    PhysicsConvTranspose,
)


def case(spatial, kernel, stride=1, dilation=1, groups=1, channels=(2, 3), mode="periodic"):
    """Makes one row of the tables; an integer is written out for every axis."""
    dims = len(spatial)
    each = [v if isinstance(v, tuple) else (v,) * dims for v in (kernel, stride, dilation)]
    return (spatial, *each, groups, channels, mode)


UNEVEN = (("neumann", "dirichlet_cell"), "periodic", ("dirichlet_node", "outflow"))

# The rows of a list are compiled to one program, because most of the time here is compiling.
CASES = {
    # Every kernel size with every stride and dilation, on sizes that the stride does not divide.
    **{
        f"kernel {k}": [case((7,), k, s, d) for s, d in itertools.product(range(1, 4), range(1, 4))]
        for k in range(1, 6)
    },
    # Every boundary mode, with odd and even kernels that are wider than the whole field.
    **{
        mode: [
            case(spatial, k, s, d, mode=mode)
            for spatial, k, s, d in [
                ((1,), 3, 1, 1),
                ((1,), 4, 2, 3),
                ((2,), 5, 1, 2),
                ((3,), 4, 2, 3),
                ((5, 6), (3, 4), (1, 2), (2, 1)),
                ((3, 4, 2), (2, 3, 5), (1, 2, 1), 1),
            ]
        ]
        for mode in BOUNDARY_MODES
    },
    # Every pair of different ends.
    **{
        f"{lower} and others": [
            case((4,), 4, 2, 3, mode=[ends]) for ends in oracles.ALL_ENDS if ends[0] == lower
        ]
        for lower in ("periodic", *oracles.END_MODES)
    },
    # Groups, including depthwise layers; few channels on one side.
    **{
        f"channels, {len(spatial)}-D, stride {s}": [
            case(spatial, 3, s, 1, g, channels, mode=mode)
            for g, channels in [(2, (4, 6)), (4, (4, 4)), (3, (3, 6)), (1, (1, 5)), (1, (5, 1))]
        ]
        for spatial, mode in [((6,), "neumann"), ((4, 5), "periodic"), ((3, 4, 3), "dirichlet")]
        for s in (1, 2)
    },
    # Non-square kernels and grids, a mode for each axis and end, and more than three axes.
    "many axes": [
        *(
            case(spatial, kernel, stride, dilation, mode=UNEVEN[: len(spatial)])
            for spatial, kernel, stride, dilation in [
                ((5, 7), (1, 4), (2, 3), (3, 2)),
                ((8, 3), (5, 2), 1, (1, 4)),
                ((4, 5, 3), (3, 1, 2), (2, 1, 3), (1, 2, 1)),
                ((2, 3, 4), (4, 3, 5), 2, (2, 1, 1)),
            ]
        ),
        case((3, 2, 4, 3), (2, 3, 1, 2), (1, 2, 2, 1), 1, mode="neumann_cell"),
    ],
}


KEY = jr.key(0)


def normal(shape, dtype, seed=1):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def check(layer, x, actual, oracle, *, groups=1, where="", **arguments):
    """`arguments` are those that the layer was made with, written out per axis."""
    weight = np.asarray(layer.weight, float)
    bias = None if layer.bias is None else np.asarray(layer.bias, float)
    expected, magnitude = oracle(np.asarray(x, float), weight, bias, groups=groups, **arguments)
    terms = math.prod(weight.shape[1:]) + 1
    oracles.assert_within_rounding(actual, expected, magnitude, terms, where)


def check_both_layers(rows, dtype, seed=0):
    """Computes the convolution and its transpose for each row, the latter with the output padding
    of the constructor and with that of the call.
    """
    layers, fields = [], []
    for spatial, kernel, stride, dilation, groups, channels, mode in rows:
        shared = dict(dilation=dilation, groups=groups, boundary_mode=mode, dtype=dtype)
        shared |= dict(key=jr.fold_in(KEY, seed))
        most = tuple(s - 1 for s in stride)
        forward = PhysicsConv(len(spatial), *channels, kernel, stride, **shared)
        transposed = PhysicsConvTranspose(len(spatial), *channels, kernel, stride, most, **shared)
        layers.append((forward, transposed))
        fields.append(normal((channels[0], *spatial), dtype, seed))

    @jax.jit
    def program(fields):
        return [
            (forward(x), transposed(x), transposed(x, output_padding=0))
            for x, (forward, transposed) in zip(fields, layers, strict=True)
        ]

    for row, own, x, found in zip(rows, layers, fields, program(fields), strict=True):
        check_row(row, *own, x, *found)


def check_row(row, forward, transposed, x, down, *ups):
    """Checks the shapes and values of one row."""
    spatial, kernel, stride, dilation, groups, channels, mode = row
    most, least = tuple(s - 1 for s in stride), (0,) * len(spatial)
    assert down.shape[1:] == tuple(-(-n // s) for n, s in zip(spatial, stride, strict=True)), row
    for layer in (forward, transposed):
        assert layer.weight.shape == (channels[1], channels[0] // groups, *kernel), row
        assert layer.bias.shape == (channels[1], *(1 for _ in kernel)), row
    own = dict(stride=stride, dilation=dilation, groups=groups)
    own |= dict(ends=both_ends(mode, len(spatial)))
    check(forward, x, down, oracles.convolution, where=f"convolution {row}", **own)
    for actual, output_padding in zip(ups, (most, least), strict=True):
        oracle, where = oracles.transposed_convolution, f"transpose {row} {output_padding=}"
        check(transposed, x, actual, oracle, output_padding=output_padding, where=where, **own)


def both_ends(mode, dims):
    entries = [mode] * dims if isinstance(mode, str) else mode
    return [(e, e) if isinstance(e, str) else e for e in entries]


@pytest.mark.parametrize("rows", CASES.values(), ids=CASES)
def test_layers_are_their_formulas(rows, dtype):
    check_both_layers(rows, dtype.name)


@pytest.mark.parametrize("padding_mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("padding", [0, 1, (3, 0), ((0, 4), (5, 2))], ids=str)
def test_explicit_padding(padding, padding_mode, dtype):
    pairs = [padding] * 2 if isinstance(padding, int) else padding
    pairs = [(p, p) if isinstance(p, int) else p for p in pairs]
    mode = {"zeros": "dirichlet", "reflect": "neumann", "replicate": "outflow"}
    ends = both_ends(mode.get(padding_mode, "periodic"), 2)
    own = dict(stride=(2, 1), dilation=(2, 3))
    arguments = dict(kernel_size=(3, 2), padding=padding, key=KEY, **own)
    own |= dict(ends=ends, padding=pairs)

    x = normal((2, 5, 7), dtype)
    layer = MorePaddingConv(2, 2, 3, padding_mode=padding_mode, **arguments)
    check(layer, x, eqx.filter_jit(layer)(x), oracles.convolution, **own)

    layer = MorePaddingConvTranspose(
        2, 2, 3, padding_mode=padding_mode.upper(), output_padding=(1, 0), **arguments
    )
    actual, oracle = eqx.filter_jit(layer)(x), oracles.transposed_convolution
    check(layer, x, actual, oracle, output_padding=(1, 0), **own)


def test_explicit_zero_padding_is_that_of_equinox(dtype):
    x = normal((4, 6, 7), dtype)
    arguments = dict(
        kernel_size=3, stride=2, padding=((1, 0), (2, 1)), dilation=2, groups=2, key=jr.key(0)
    )
    # Two sums over 2 channels, 9 taps and the bias, each rounded like one against an oracle.
    eps, terms = jnp.finfo(dtype).eps, 2 * 9 + 1
    for ours, theirs, more in [
        (MorePaddingConv, eqx.nn.Conv, {}),
        (MorePaddingConvTranspose, eqx.nn.ConvTranspose, {"output_padding": 1}),
    ]:
        ours, theirs = (make(2, 4, 6, **arguments, **more) for make in (ours, theirs))
        magnitude = np.sum(np.abs(theirs.weight)) * np.max(np.abs(x)) + np.max(np.abs(theirs.bias))
        error = np.max(np.abs(ours(x) - theirs(x)))
        assert error <= 2 * terms * eps * magnitude


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_half_precision(name):
    ends = [("neumann_cell", "outflow"), "periodic"]
    check_both_layers([((5, 4), (3, 2), (2, 2), (1, 1), 1, (2, 3), ends)], name)


@pytest.mark.parametrize("dtype_name", [None, "float16", "bfloat16", "float32"])
@pytest.mark.parametrize("use_bias", [True, False])
def test_initial_arrays_are_those_of_equinox(dtype_name, use_bias, dtype):
    shared = dict(stride=2, dilation=3, groups=2, use_bias=use_bias, key=jr.key(5))
    shared |= dict(dtype=dtype_name)
    for ours, theirs in [
        (PhysicsConv, eqx.nn.Conv),
        (PhysicsConvTranspose, eqx.nn.ConvTranspose),
    ]:
        ours = ours(2, 4, 6, (3, 2), boundary_mode="neumann", **shared)
        theirs = theirs(2, 4, 6, (3, 2), **shared)
        pairs = zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True)
        for a, b in pairs:
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("layer_type", [PhysicsConv, PhysicsConvTranspose])
def test_zero_bias(layer_type):
    make = lambda **kw: layer_type(1, 2, 3, 3, key=jr.key(0), boundary_mode="periodic", **kw)
    assert not jnp.any(make(zero_bias_init=True).bias)
    assert jnp.all(make().bias != 0)
    assert make(use_bias=False, zero_bias_init=True).bias is None
    np.testing.assert_array_equal(make(zero_bias_init=True).weight, make().weight)


@settings(max_examples=20)
@given(data=st.data())
def test_random_layers(data):
    draw = data.draw
    dims = draw(st.integers(1, 3), "num_spatial_dims")
    per_axis = lambda low, high, name: tuple(
        draw(st.lists(st.integers(low, high), min_size=dims, max_size=dims), name)
    )
    groups = draw(st.integers(1, 2), "groups")
    row = (
        per_axis(1, 5, "spatial"),
        per_axis(1, 4, "kernel_size"),
        per_axis(1, 3, "stride"),
        per_axis(1, 3, "dilation"),
        groups,
        [groups * draw(st.integers(1, 2), name) for name in ("in", "out")],
        [draw(st.sampled_from(oracles.ALL_ENDS), "ends") for _ in range(dims)],
    )
    check_both_layers([row], "float32", draw(st.integers(0, 2**31 - 1), "seed"))
