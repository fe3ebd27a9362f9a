"""Tests layers that jax2onnx exports to ONNX, within `plain_operations`, and onnxruntime runs."""

import os
import subprocess
import sys
from math import prod

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest
from jax2onnx import to_onnx

from pdequinox_operators import plain_operations
from pdequinox_padding import BOUNDARY_MODES
from pdequinox_physconv import PhysicsConv, PhysicsConvTranspose
from pdequinox_pointwise import PointwiseLinearConv
from pdequinox_spectralconv import SpectralConv


KEY = jax.random.key(0)
SIZES = {1: (12,), 2: (12, 10)}
CHANNELS = {"in_channels": 4, "out_channels": 6, "key": KEY}


def conv(dims=2, kernel_size=3, boundary_mode="periodic", **rest):
    return PhysicsConv(
        dims, kernel_size=kernel_size, boundary_mode=boundary_mode, **CHANNELS, **rest
    )


def conv_transpose(dims=2, kernel_size=3, boundary_mode="periodic", **rest):
    return PhysicsConvTranspose(
        dims, kernel_size=kernel_size, boundary_mode=boundary_mode, **CHANNELS, **rest
    )


def spectral(dims=2, boundary_mode="periodic", **rest):
    return SpectralConv(dims, num_modes=4, boundary_mode=boundary_mode, **CHANNELS, **rest)


MIXED = (("neumann", "dirichlet_cell"), "periodic")

LAYERS = {
    **{f"conv {mode}": conv(boundary_mode=mode) for mode in BOUNDARY_MODES},
    "conv of one axis": conv(1),
    "conv of mixed walls": conv(boundary_mode=MIXED),
    # Its last outputs leave points over, for which ONNX would need negative padding.
    "conv with strides": conv(kernel_size=(4, 3), stride=(2, 3), groups=2),
    "conv with dilation": conv(dilation=2, boundary_mode="dirichlet"),
    "conv of one tap": conv(kernel_size=1, stride=2, use_bias=False),
    **{
        f"transpose {mode}": conv_transpose(stride=2, boundary_mode=mode) for mode in BOUNDARY_MODES
    },
    "transpose of one axis": conv_transpose(1, stride=2),
    "transpose of stride 1": conv_transpose(boundary_mode="neumann_cell"),
    "transpose with groups": conv_transpose(kernel_size=(4, 3), stride=(2, 1), groups=2),
    "transpose with dilation": conv_transpose(
        kernel_size=4, stride=3, dilation=2, output_padding=1, boundary_mode=MIXED
    ),
    "transpose of one tap": conv_transpose(
        kernel_size=1, stride=2, output_padding=1, boundary_mode="dirichlet"
    ),
    **{f"spectral {mode}": spectral(boundary_mode=mode) for mode in BOUNDARY_MODES},
    "spectral of one axis": spectral(1),
    "spectral of mixed walls": spectral(boundary_mode=MIXED),
    "pointwise": PointwiseLinearConv(2, **CHANNELS),
}


def field(layer, sizes=None):
    shape = sizes or SIZES[layer.num_spatial_dims]
    return np.random.default_rng(0).standard_normal((layer.in_channels, *shape)).astype(np.float32)


def through_onnx(function, x):
    model = to_onnx(function, [x.shape])
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (y,) = session.run(None, {session.get_inputs()[0].name: x})
    return y


def assert_same(layer, y, expected):
    """Both sum the same terms in float32, in different orders. Convolutions sum over channels and
    taps. The spectral layer sums over the points of each axis, the channels, and the two parts of
    two groups of modes of each axis. Each term has one rounding, of a partial sum that is at most 8
    times the root mean square of the results, so each is off by at most half an `eps` of that.
    """
    expected = np.asarray(expected)
    terms = layer.in_channels
    if isinstance(layer, SpectralConv):
        terms += sum(expected.shape[1:]) + 4 * sum(layer.num_modes)
    elif not isinstance(layer, PointwiseLinearConv):
        terms *= prod(layer.kernel_size)
    size = 8 * np.sqrt(np.mean(expected**2))
    assert y.shape == expected.shape and y.dtype == expected.dtype
    assert np.max(np.abs(y - expected)) <= terms * np.finfo("float32").eps * size


@pytest.mark.parametrize("name", LAYERS)
def test_layer(name):
    layer = LAYERS[name]
    x = field(layer)
    with plain_operations():
        y = through_onnx(lambda x: layer(x), x)
    assert_same(layer, y, layer(x))


@pytest.mark.parametrize(
    "name", ["conv periodic", "transpose periodic", "spectral periodic", "pointwise"]
)
def test_layer_without_plain_operations(name):
    """The layer's operator has a name of its own, which jax2onnx does not know."""
    layer = LAYERS[name]
    with pytest.raises(NotImplementedError, match="primitive 'pdequinox_"):
        to_onnx(lambda x: layer(x), [field(layer).shape])


def test_transform_that_is_otherwise_by_fft():
    """If the method is left open, it is the product, which needs no complex numbers."""
    layer = SpectralConv(1, 2, 3, 300, key=KEY)
    x = field(layer, (1024,))
    assert "stablehlo.fft" in jax.jit(lambda x: layer(x)).lower(x).as_text()
    with plain_operations():
        y = through_onnx(lambda x: layer(x), x)
    assert_same(layer, y, layer(x))


def test_jax2onnx_cannot_export_inverse_ffts():
    """A layer with `method="fft"` cannot be exported. This test fails once jax2onnx can do it."""
    layer = spectral(method="fft")
    functions = [
        lambda x: layer(x),
        lambda x: jnp.fft.irfft(jax.lax.complex(x, x), n=2 * x.shape[-1] - 2),
    ]
    for function in functions:
        with plain_operations(), pytest.raises(NotImplementedError, match="complex64"):
            to_onnx(function, [field(layer).shape])


PROGRAM = """
import jax, numpy as np, onnxruntime
from jax2onnx import to_onnx
from pdequinox_spectralconv import SpectralConv
layer = SpectralConv(1, 4, 6, 4, key=jax.random.key(0))
x = np.random.default_rng(0).standard_normal((4, 12)).astype(np.float32)
session = onnxruntime.InferenceSession(to_onnx(lambda x: layer(x), [x.shape]).SerializeToString())
(y,) = session.run(None, {session.get_inputs()[0].name: x})
# After the export, which has left nothing in JAX's memory.
print(np.max(np.abs(y - layer(x))))
"""


@pytest.mark.parametrize("value, works", [("1", True), ("0", False)])
def test_environment_variable(value, works):
    environment = {**os.environ, "PDEQUINOX_PLAIN_OPERATIONS": value}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True
    )
    assert (done.returncode == 0) == works, done.stderr
    if works:
        assert float(done.stdout) < 1e-5
    else:
        assert "No plugins registered for primitive 'pdequinox_" in done.stderr
