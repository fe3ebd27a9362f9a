"""Tests conversions of PyTorch 2.13's convolutions, by their arrays and arguments, and back."""

import itertools

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import torch

from pdequinox_convert import (
    CannotConvertError,
    conv_from_torch,
    conv_to_torch,
    conv_transpose_from_torch,
)
from pdequinox_physconv import (
    MorePaddingConv,
    MorePaddingConvTranspose,
    PhysicsConv,
    PhysicsConvTranspose,
)
from pdequinox_pointwise import PointwiseLinearConv


MODES = ("zeros", "reflect", "replicate", "circular")
CONV = (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)
TRANSPOSED = (torch.nn.ConvTranspose1d, torch.nn.ConvTranspose2d, torch.nn.ConvTranspose3d)

# (spatial shape, kernel size, stride, padding, dilation, groups)
GEOMETRIES = [
    ((9,), 3, 1, 1, 1, 1),
    ((8,), 4, 2, 3, 1, 2),
    ((11,), 2, 3, 2, 3, 1),
    ((9,), 4, 1, "same", 1, 1),
    ((9,), 3, 2, "valid", 2, 2),
    ((7, 6), (3, 2), (1, 2), (2, 1), (2, 1), 1),
    ((7, 6), (2, 5), 1, "same", (2, 1), 2),
    ((5, 6, 7), (3, 1, 2), (2, 1, 1), (1, 0, 2), (1, 1, 2), 2),
    ((5, 4, 6), 3, 1, "same", 1, 1),
]


def sample(layer, shape, seed=0):
    return np.random.default_rng(seed).normal(size=(layer.in_channels, *shape))


def arrays(layer):
    bias = None if layer.bias is None else layer.bias.detach().numpy()
    return layer.weight.detach().numpy(), bias


def assert_same(mine, other, x):
    """Compares in float64. An output is a sum of at most `n` products, whose size is computed with
    absolute values, and is off by at most `n + 1` roundings in each library.
    """
    with torch.no_grad():
        expected = other(torch.from_numpy(x)[None])[0].numpy()
    actual = mine(jnp.asarray(x))
    assert actual.shape == expected.shape and actual.dtype == jnp.float64
    n = mine.weight[0].size + 1
    size = np.abs(x).max() * np.abs(mine.weight).reshape(mine.weight.shape[0], -1).sum(1).max() + 1
    assert np.abs(actual - expected).max() <= 2 * (n + 1) * np.finfo(float).eps * size


def torch_layer(cls, channels, kernel_size, **arguments):
    torch.manual_seed(0)
    return cls(*channels, kernel_size, dtype=torch.float64, **arguments)


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.converts("convolution", "PyTorch", "conv_from_torch")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_convolution(geometry, mode, x64):
    shape, kernel_size, stride, padding, dilation, groups = geometry
    arguments = dict(
        stride=stride, padding=padding, dilation=dilation, groups=groups, padding_mode=mode
    )
    use_bias = len(shape) != 2
    other = torch_layer(CONV[len(shape) - 1], (4, 6), kernel_size, bias=use_bias, **arguments)
    mine = conv_from_torch(*arrays(other), **arguments)
    assert isinstance(mine, MorePaddingConv) and mine.use_bias == use_bias
    assert_same(mine, other, sample(other, shape))


@pytest.mark.converts("pointwise convolution", "PyTorch", "conv_from_torch")
@pytest.mark.parametrize("padding", [0, "same", "valid"])
def test_a_kernel_of_one_point_is_pointwise(padding, x64):
    other = torch_layer(torch.nn.Conv2d, (4, 6), 1, padding=padding)
    mine = conv_from_torch(*arrays(other), padding=padding)
    assert type(mine) is PointwiseLinearConv
    assert_same(mine, other, sample(other, (5, 6)))
    strided = torch_layer(torch.nn.Conv2d, (4, 6), 1, stride=2)
    assert type(conv_from_torch(*arrays(strided), stride=2)) is MorePaddingConv


# (spatial shape, kernel size, stride, padding, output padding, dilation, groups)
UPWARDS = [
    ((9,), 3, 2, 1, 1, 1, 1),
    ((5,), 4, 3, 2, 2, 2, 2),
    ((6,), 2, 4, 0, 3, 1, 1),
    ((5,), 3, 2, 3, 0, 1, 2),  # more padding than the kernel reaches
    ((4, 5), (3, 2), (2, 1), (1, 2), (1, 0), (1, 3), 2),
    ((3, 4, 3), (3, 4, 1), (1, 2, 2), (1, 1, 0), (0, 1, 1), (2, 1, 1), 1),
]


@pytest.mark.converts("transposed convolution", "PyTorch", "conv_transpose_from_torch")
@pytest.mark.parametrize("geometry", UPWARDS, ids=str)
def test_transposed_convolution(geometry, x64):
    shape, kernel_size, stride, padding, more, dilation, groups = geometry
    arguments = dict(
        stride=stride, padding=padding, output_padding=more, dilation=dilation, groups=groups
    )
    use_bias = len(shape) != 2
    cls = TRANSPOSED[len(shape) - 1]
    other = torch_layer(cls, (4, 6), kernel_size, bias=use_bias, **arguments)
    mine = conv_transpose_from_torch(*arrays(other), **arguments)
    assert_same(mine, other, sample(other, shape))
    # And back, with the arrays and arguments bit for bit.
    given, state = conv_to_torch(mine)
    again = cls(**given, dtype=torch.float64)
    again.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    assert again.__dict__["output_padding"] == other.output_padding
    for name, tensor in other.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)


# The other way: the layers here that PyTorch has too.
KEYS = itertools.count()
BACK = [
    (MorePaddingConv, dict(kernel_size=3, stride=2, padding=2, padding_mode="reflect", groups=2)),
    (MorePaddingConv, dict(kernel_size=(4, 3), padding=(1, 0), padding_mode="replicate")),
    (PhysicsConv, dict(kernel_size=4, boundary_mode="neumann", use_bias=False)),
    (PhysicsConv, dict(kernel_size=(3, 5, 1), boundary_mode="periodic", dilation=(2, 1, 3))),
    (PhysicsConv, dict(kernel_size=3, stride=2, boundary_mode="Dirichlet")),
    (PhysicsConv, dict(kernel_size=3, boundary_mode="outflow", groups=2)),
    (PointwiseLinearConv, dict()),
    (PointwiseLinearConv, dict(use_bias=False)),
    (MorePaddingConvTranspose, dict(kernel_size=4, stride=2, padding=1, output_padding=1)),
    (PhysicsConvTranspose, dict(kernel_size=(3, 5), stride=2, boundary_mode="zeros", groups=2)),
]


@pytest.mark.converts("convolution", "to PyTorch", "conv_to_torch")
@pytest.mark.converts("transposed convolution", "to PyTorch", "conv_to_torch")
@pytest.mark.converts("pointwise convolution", "to PyTorch", "conv_to_torch")
@pytest.mark.parametrize(("cls", "arguments"), BACK, ids=str)
def test_there(cls, arguments, x64):
    dims = len(arguments["kernel_size"]) if isinstance(arguments.get("kernel_size"), tuple) else 1
    mine = cls(dims, 4, 6, key=jr.key(next(KEYS)), **arguments)
    given, state = conv_to_torch(mine)
    classes = TRANSPOSED if isinstance(mine, MorePaddingConvTranspose) else CONV
    other = classes[dims - 1](**given, dtype=torch.float64)
    other.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})
    assert_same(mine, other, sample(mine, (9, 6, 7)[:dims]))


def test_what_torch_allows_and_these_layers_do_not(x64):
    other = torch_layer(torch.nn.ConvTranspose1d, (2, 3), 3, stride=2, dilation=3, output_padding=2)
    with pytest.raises(CannotConvertError, match="`output_padding` must be less than `stride`"):
        conv_transpose_from_torch(*arrays(other), stride=2, dilation=3, output_padding=2)


def test_a_tensor_is_an_array_where_it_can_be(x64):
    other = torch_layer(torch.nn.Conv1d, (2, 3), 3)
    state = other.state_dict()
    assert_same(conv_from_torch(state["weight"], state["bias"]), other, sample(other, (7,)))
    with pytest.raises(TypeError, match="`weight` must be an array that NumPy can read"):
        conv_from_torch(other.weight)
