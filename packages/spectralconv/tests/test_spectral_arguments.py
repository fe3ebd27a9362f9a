"""Tests what the spectral layer refuses, and the messages."""

import re

import jax
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
    "boundary_mode, num_modes, spatial, text",
    [
        ("neumann", (4, 1), (3, 4), "at most 3 on spatial axis 0, which has 3 points (N), got 4"),
        ("dirichlet", (3, 5), (3, 4), "at most 4 on spatial axis 1"),
        (["periodic", "neumann"], (5, 1), (7, 1), "at most 4 on spatial axis 0, which has 7"),
        (["neumann", "periodic"], (2, 4), (1, 9), "at most 1 on spatial axis 0"),
    ],
)
def test_modes_that_do_not_fit_between_walls(boundary_mode, num_modes, spatial, text):
    layer = make(num_modes=num_modes, boundary_mode=boundary_mode)
    with pytest.raises(ValueError, match=re.escape(f"`num_modes` must be {text}")):
        layer(np.zeros((2, *spatial), "f4"))


@pytest.mark.parametrize(
    "output_shape, error, text",
    [
        (0, ValueError, "`output_shape` must be an integer >= 1"),
        ((8, -1), ValueError, "got (8, -1)"),
        ((8,), ValueError, "`output_shape` must be an integer >= 1, or a sequence"),
        ((8, 8, 8), ValueError, "which has 3 entries instead of 2"),
        ((8, 8.0), TypeError, "got (8, 8.0)"),
        (True, TypeError, "got True"),
        ("8", TypeError, "got '8'"),
        (
            (8, 3),
            ValueError,
            "`num_modes` must be at most 3 on spatial axis 1 of `output_shape`, which has 3 points "
            "(N), got 4",
        ),
        ((4, 8), ValueError, "at most 3 on spatial axis 0 of `output_shape`, which has 4 points"),
    ],
)
def test_output_shapes(output_shape, error, text):
    layer = make(num_modes=(4, 4), boundary_mode=["periodic", "neumann"])
    with pytest.raises(error, match=re.escape(text)):
        layer(np.zeros((2, 8, 8), "f4"), output_shape=output_shape)


def test_the_grid_of_the_input_is_checked_first():
    with pytest.raises(ValueError, match=r"on spatial axis 0, which has 4 points"):
        make()(np.zeros((2, 4, 8), "f4"), output_shape=(2, 8))


@pytest.mark.parametrize(
    "boundary_mode, error, text",
    [
        (["neumann", ("periodic", "neumann")], ValueError, "('periodic', 'neumann')"),
        (["neumann"] * 3, ValueError, "`boundary_mode`"),
        (["neumann", ("neumann",) * 3], ValueError, "`boundary_mode`"),
        ("reflect", ValueError, "got 'reflect'"),
        (None, TypeError, "got None"),
        (3, TypeError, "got 3"),
    ],
)
def test_boundary_modes(boundary_mode, error, text):
    with pytest.raises(error, match=re.escape(text)):
        make(boundary_mode=boundary_mode)


def test_boundary_modes_have_one_spelling():
    spellings = ["Neumann", ["neumann", "NEUMANN"], [("neumann", "neumann"), "neumann"]]
    layers = [make(boundary_mode=spelling) for spelling in spellings]
    assert len({jax.tree.structure(layer) for layer in layers}) == 1
    assert layers[2].boundary_mode == "neumann"
    assert make().boundary_mode == "periodic"
    mixed = make(boundary_mode=["periodic", ("neumann", "Dirichlet")])
    assert mixed.boundary_mode == (("periodic", "periodic"), ("neumann", "dirichlet"))


@pytest.mark.parametrize("method", ["dft", "", None, 1, True, ["fft"], {"fft": 1}, np.ones(2)])
def test_methods(method):
    text = f"`method` must be one of ['auto', 'product', 'fft'], got {method!r}."
    with pytest.raises(ValueError, match=re.escape(text)):
        make(method=method)


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
    refused = [
        float("nan"),
        float("inf"),
        -0.1,
        10**400,
        "1",
        b"1",
        True,
        np.bool_(True),
        None.__class__,
    ]
    for value in refused:
        with pytest.raises(
            ValueError, match=r"`weight_scale` must be .* number >= 0, got"
        ) as caught:
            make(weight_scale=value)
        assert str(caught.value).endswith(f"got {value!r}.")
    make(weight_scale=np.array(0.1))


def test_the_name_of_the_method_before_is_deprecated():
    with pytest.warns(DeprecationWarning, match="`transform` is called `method`"):
        assert make(transform="fft").method == "fft"
    assert make().method == "auto"
