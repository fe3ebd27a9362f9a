"""What the pages on coming from other libraries put side by side computes the same."""

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
import pytest
import readmes
import torch
from neuralop.layers.spectral_convolution import SpectralConv as TheirSpectralConv

import pdequinox_physconv
import pdequinox_pointwise
from pdequinox_convert import spectral_from_neuraloperator
from pdequinox_spectralconv import SpectralConv


KEY = jr.key(0)
OURS = vars(pdequinox_physconv) | vars(pdequinox_pointwise) | {"SpectralConv": SpectralConv}
THEIRS = vars(torch.nn) | {"SpectralConv": TheirSpectralConv}
X = np.random.default_rng(0).normal(size=(3, 12, 10)).astype("float32")


@pytest.mark.parametrize(
    "example", [*readmes.examples("neuraloperator"), *readmes.examples("torch")]
)
def test_examples_of_the_pages(example):
    readmes.run(example)


def assert_same(ours, expected):
    """Sums of at most 75 products of numbers below 0.6 and 4, each rounded once or twice."""
    result = np.asarray(ours(X))
    assert result.shape == expected.shape
    np.testing.assert_allclose(result, expected, rtol=0, atol=200 * np.finfo("float32").eps)


def modes(page):
    """The rows of boundary modes, as calls of layers that have them. The kernels reach over two
    points, for at the first one some modes are the same.
    """
    return [
        (f'Conv2d(3, 8, 5, padding="same", {theirs})', f"PhysicsConv(2, 3, 8, 5, {ours}, key=key)")
        for theirs, ours in readmes.side_by_side(page, "padding_mode=")
    ]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [*readmes.side_by_side("coming_from/pytorch.md", "Conv"), *modes("coming_from/pytorch.md")],
)
def test_layers_of_pytorch(theirs, ours):
    other, mine = eval(theirs, THEIRS), eval(ours, OURS | {"key": KEY})
    weight, bias = (array.detach().numpy() for array in (other.weight, other.bias))
    if isinstance(other, torch.nn.ConvTranspose2d):
        weight = np.flip(weight.swapaxes(0, 1), (2, 3))
    assert weight.shape == mine.weight.shape
    arrays = weight, bias.reshape(-1, 1, 1)
    mine = eqx.tree_at(lambda layer: (layer.weight, layer.bias), mine, arrays)
    with torch.no_grad():
        assert_same(mine, other(torch.from_numpy(X)[None])[0].numpy())


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        *readmes.side_by_side("coming_from/equinox.md", "eqx"),
        *(("eqx.nn." + theirs, ours) for theirs, ours in modes("coming_from/equinox.md")),
    ],
)
def test_layers_of_equinox(theirs, ours):
    """With the same initial weights for the same key."""
    other = eval(theirs[:-1] + ", key=key)", {"eqx": eqx, "key": KEY})
    mine = eval(ours, OURS | {"key": KEY})
    np.testing.assert_array_equal(mine.weight, other.weight)
    assert_same(mine, np.asarray(other(X)))


def test_layers_of_neuraloperator():
    ((theirs, ours),) = readmes.side_by_side("coming_from/neuraloperator.md", "SpectralConv")
    other, mine = eval(theirs, THEIRS), eval(ours, OURS | {"key": KEY})
    found = spectral_from_neuraloperator(other.weight.state_dict())
    assert jax.tree.structure(found) == jax.tree.structure(mine)


def test_initial_weights_of_neuraloperator():
    """The standard deviation of 691200 numbers is known to a thousandth."""
    other = TheirSpectralConv(40, 60, (16, 16))
    ((_, scale),) = readmes.side_by_side("coming_from/neuraloperator.md", "init_std=")
    channels = dict(in_channels=40, out_channels=60)
    scale = eval(scale.partition("=")[2], dict(channels))
    mine = SpectralConv(2, **channels, num_modes=(8, 9), weight_scale=scale, key=KEY)
    theirs = other.weight.tensor.detach().numpy()
    for part, expected in ((mine.weights_real, theirs.real), (mine.weights_imag, theirs.imag)):
        np.testing.assert_allclose(np.std(part), np.std(expected), rtol=0.01)
