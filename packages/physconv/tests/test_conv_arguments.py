"""Tests what the convolutions refuse, and the messages."""

import re

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from pdequinox_physconv import (
    MorePaddingConv,
    MorePaddingConvTranspose,
    PhysicsConv,
    PhysicsConvTranspose,
)


PHYSICS = (PhysicsConv, PhysicsConvTranspose)
EXPLICIT = (MorePaddingConv, MorePaddingConvTranspose)


def make(layer_type, **changes):
    arguments = dict(num_spatial_dims=2, in_channels=4, out_channels=6, kernel_size=3)
    arguments |= dict(key=jr.key(0))
    if layer_type in PHYSICS:
        arguments |= dict(boundary_mode="neumann")
    return layer_type(**(arguments | changes))


BAD_INTEGERS = [
    (0, ValueError, "got 0"),
    (-2, ValueError, "got -2"),
    (True, TypeError, "got True"),
    (2.0, TypeError, "got 2.0"),
    ("2", TypeError, "got '2'"),
]


@pytest.mark.parametrize("layer_type", PHYSICS + EXPLICIT)
@pytest.mark.parametrize("name", ["num_spatial_dims", "in_channels", "out_channels", "groups"])
@pytest.mark.parametrize("value, error, text", [*BAD_INTEGERS, (None, TypeError, "got None")])
def test_single_integers(layer_type, name, value, error, text):
    with pytest.raises(error, match=f"`{name}` must be an integer >= 1, {re.escape(text)}"):
        make(layer_type, **{name: value})


@pytest.mark.parametrize("layer_type", PHYSICS + EXPLICIT)
@pytest.mark.parametrize("name", ["kernel_size", "stride", "dilation"])
@pytest.mark.parametrize(
    "value, error, text",
    [
        *BAD_INTEGERS,
        ((3, 0), ValueError, "got (3, 0)"),
        ((3, False), TypeError, "got (3, False)"),
        ((3,), ValueError, "got (3,), which has 1 entries instead of 2"),
        ((3, 3, 3), ValueError, "which has 3 entries instead of 2"),
    ],
)
def test_integers_per_axis(layer_type, name, value, error, text):
    with pytest.raises(error, match=re.escape(text)) as caught:
        make(layer_type, **{name: value})
    assert f"`{name}` must be an integer >= 1, or a sequence" in str(caught.value)


@pytest.mark.parametrize("layer_type", PHYSICS + EXPLICIT)
def test_groups_that_do_not_divide(layer_type):
    with pytest.raises(ValueError, match="`groups` must divide `in_channels` = 4, got 3"):
        make(layer_type, groups=3)
    with pytest.raises(ValueError, match="`groups` must divide `out_channels` = 6, got 4"):
        make(layer_type, groups=4)


@pytest.mark.parametrize("layer_type", PHYSICS)
@pytest.mark.parametrize(
    "mode, error, text",
    [
        ("wall", ValueError, "'wall' is unknown"),
        ("circular", ValueError, "'circular' is unknown"),
        (1, TypeError, "1 is not a name"),
        (("neumann",), ValueError, "which has 1 entries"),
        (("neumann", ("periodic", "neumann")), ValueError, "axis 1 is periodic at one end only"),
    ],
)
def test_boundary_modes(layer_type, mode, error, text):
    with pytest.raises(error, match=re.escape(text)) as caught:
        make(layer_type, boundary_mode=mode)
    assert "`boundary_mode` must be one of ['periodic'" in str(caught.value)


@pytest.mark.parametrize("layer_type", EXPLICIT)
def test_padding(layer_type):
    with pytest.raises(
        ValueError, match=r"`padding_mode` must be one of \['circular', 'zeros'.*'wall' is unk"
    ):
        make(layer_type, padding_mode="wall")
    with pytest.raises(ValueError, match=r"`padding` must be an integer >= 0.* got -1"):
        make(layer_type, padding=-1)
    with pytest.raises(ValueError, match=r"got \(\(1, 2, 3\), 1\), which has 3 entries"):
        make(layer_type, padding=((1, 2, 3), 1))
    with pytest.raises(TypeError, match=r"`padding` must be.* got 'SAME'"):
        make(layer_type, padding="SAME")


@pytest.mark.parametrize("value, error", [(2, ValueError), ((0, 2), ValueError), (-1, ValueError),
                                          (True, TypeError), ((0,), ValueError)])  # fmt: skip
@pytest.mark.parametrize("layer_type", [PhysicsConvTranspose, MorePaddingConvTranspose])
def test_output_padding(layer_type, value, error):
    layer = make(layer_type, stride=2)
    x = jnp.zeros((4, 5, 5))
    for attempt in (
        lambda: make(layer_type, stride=2, output_padding=value),
        lambda: layer(x, output_padding=value),
    ):
        with pytest.raises(error, match="`output_padding` must be") as caught:
            attempt()
        assert f"got {value!r}" in str(caught.value)


def test_output_padding_is_limited_axis_by_axis():
    make(PhysicsConvTranspose, stride=(3, 1), output_padding=(2, 0))
    with pytest.raises(
        ValueError, match=r"less than `stride` = \(3, 1\) on every axis, got \(0, 1"
    ):
        make(PhysicsConvTranspose, stride=(3, 1), output_padding=(0, 1))


@pytest.mark.parametrize("layer_type", PHYSICS)
@pytest.mark.parametrize("dtype", ["complex64", "int32", "nonsense"])
def test_dtypes(layer_type, dtype):
    with pytest.raises(TypeError, match=f"`dtype` must be None or one of .* got '{dtype}'"):
        make(layer_type, dtype=dtype)


@pytest.mark.parametrize("layer_type", PHYSICS + EXPLICIT)
@pytest.mark.parametrize(
    "x, error, text",
    [
        (np.zeros((4, 5), "f4"), ValueError, "got (4, 5)."),
        (np.zeros((3, 5, 5), "f4"), ValueError, "got (3, 5, 5)."),
        (np.zeros((8, 4, 5, 5), "f4"), ValueError, "use `jax.vmap` for a batch"),
        (np.zeros((4, 0, 5), "f4"), ValueError, "every N at least 1, got (4, 0, 5)"),
        (np.zeros((4, 5, 5), "c8"), TypeError, "`x` must be real, got dtype complex64"),
        (np.zeros((4, 5, 5), "f2"), TypeError, "parameters, float32, got float16"),
        (np.zeros((4, 5, 5), "i4"), TypeError, "parameters, float32, got int32"),
    ],
)
def test_inputs(layer_type, x, error, text):
    with pytest.raises(error, match=re.escape(text)) as caught:
        make(layer_type)(x)
    if error is ValueError:
        assert "`x` must have shape (in_channels=4, N_1, N_2)" in str(caught.value)


def test_kernel_wider_than_the_padded_field():
    layer = make(MorePaddingConv, padding=1, dilation=4)
    text = (
        "`kernel_size` = 3 with `dilation` = 4 spans 9 points, more than the 7 that spatial axis 1"
    )
    with pytest.raises(ValueError, match=text):
        layer(jnp.zeros((4, 7, 5)))
    transposed = make(MorePaddingConvTranspose, padding=(1, 4))
    with pytest.raises(ValueError, match="axis 1 of `x`"):
        transposed(jnp.zeros((4, 5, 5)))


def test_integers_of_numpy_are_integers():
    layer = make(
        PhysicsConv,
        num_spatial_dims=np.int64(2),
        in_channels=np.int32(4),
        kernel_size=np.array([3, 5]),
        stride=(np.int8(1), 2),
        groups=np.uint8(2),
    )
    assert layer.kernel_size == (3, 5) and layer.stride == (1, 2) and layer.groups == 2
    assert layer(np.zeros((4, 5, 5), "f4")).shape == (6, 5, 3)
