"""What the spectral layer refuses, and in which words."""

import re

import jax.random as jr
import numpy as np
import pytest

from pdequinox_spectralconv import SpectralConv


def make(**changes):
    arguments = dict(num_spatial_dims=2, in_channels=2, out_channels=3, num_modes=(3, 4))
    arguments |= dict(key=jr.key(0))
    return SpectralConv(**(arguments | changes))


@pytest.mark.parametrize("name", ["num_spatial_dims", "in_channels", "out_channels", "num_modes"])
@pytest.mark.parametrize(
    "value, error",
    [(0, ValueError), (-1, ValueError), (True, TypeError), (1.5, TypeError), ("2", TypeError)],
)
def test_integers(name, value, error):
    with pytest.raises(error, match=f"`{name}` must be an integer >= 1") as caught:
        make(**{name: value})
    assert f"got {value!r}" in str(caught.value)


@pytest.mark.parametrize(
    "value, error, text",
    [
        ((3,), ValueError, "got (3,), which has 1 entries instead of 2"),
        ((3, 4, 5), ValueError, "which has 3 entries instead of 2"),
        ((3, 0), ValueError, "got (3, 0)"),
        ((3, True), TypeError, "got (3, True)"),
    ],
)
def test_sequences_of_modes(value, error, text):
    with pytest.raises(error, match=re.escape(text)):
        make(num_modes=value)


@pytest.mark.parametrize(
    "num_modes, spatial, text",
    [
        ((4, 1), (7, 8), "at most 3 on spatial axis 0, which has 7 points (N // 2), got 4"),
        ((1, 6), (8, 8), "at most 5 on spatial axis 1, which has 8 points (N // 2 + 1 on the last"),
        ((1, 5), (8, 7), "at most 4 on spatial axis 1"),
        ((1, 1), (1, 8), "at most 0 on spatial axis 0"),
    ],
)
def test_modes_that_do_not_fit(num_modes, spatial, text):
    with pytest.raises(ValueError, match=re.escape(f"`num_modes` must be {text}")):
        make(num_modes=num_modes)(np.zeros((2, *spatial), "f4"))


@pytest.mark.parametrize(
    "x, error, text",
    [
        (np.zeros((2, 8), "f4"), ValueError, "(in_channels=2, N_1, N_2), got (2, 8)"),
        (np.zeros((3, 8, 8), "f4"), ValueError, "got (3, 8, 8)"),
        (np.zeros((5, 2, 8, 8), "f4"), ValueError, "use `jax.vmap` for a batch"),
        (np.zeros((2, 8, 0), "f4"), ValueError, "every N at least 1"),
        (np.zeros((2, 8, 8), "c8"), TypeError, "`x` must be real, got dtype complex64"),
        (np.zeros((2, 8, 8), "f2"), TypeError, "parameters, float32, got float16"),
    ],
)
def test_inputs(x, error, text):
    with pytest.raises(error, match=re.escape(text)):
        make()(x)


def test_dtype_and_scale():
    with pytest.raises(TypeError, match=r"`dtype` must be None or one of .* got 'complex64'"):
        make(dtype="complex64")
    for value in (float("nan"), float("inf"), "1", True, None.__class__):
        with pytest.raises(ValueError, match=f"`weight_scale` must be .*got {value!r}"):
            make(weight_scale=value)
    make(weight_scale=np.array(0.1))
