"""Tests the spectral layer under JAX's and Equinox's transformations."""

import jax.numpy as jnp
import pytest
import transforms

from pdequinox_spectralconv import SpectralConv


def gain(layer):
    """Bounds an output. No coefficient divided by the number of points exceeds the field, and each
    counts twice. Between walls one counts four times, divided by the distance of the walls in half
    points, 12, for each of 6 points.
    """
    size = jnp.abs(layer.weights_real.astype(jnp.float32))
    if layer.weights_imag is not None:
        size = jnp.hypot(size, layer.weights_imag.astype(jnp.float32))
    return 2 * jnp.max(jnp.sum(size, axis=(0, *range(2, size.ndim))))


def subject(spatial, num_modes, terms, **fixed):
    def make(key, out_channels=3, **arguments):
        return SpectralConv(len(spatial), 2, out_channels, num_modes, key=key, **fixed, **arguments)

    return transforms.Subject(
        make=make,
        square=lambda key: make(key, out_channels=2),
        in_channels=2,
        spatial=spatial,
        terms=terms,
        gain=gain,
    )


# Complex and real weights, by products and by fast transforms. For the terms see `rounding_steps`
# in test_spectral_conv.py: `4 (5 + 2 * 2 + 6 + 6 + 2 * 3 + 6 + 6)` and `8 log2(4 * 6 + 4) + 4 + 6`.
SUBJECTS = {
    "periodic": subject((5, 6), (2, 3), 156, method="product"),
    "walls": subject((6,), (4,), 49, method="fft", boundary_mode=[("neumann", "dirichlet")]),
}


@pytest.mark.parametrize("name", SUBJECTS)
@pytest.mark.parametrize("check", transforms.CHECKS, ids=lambda check: check.__name__)
def test_under(check, name, dtype):
    check(SUBJECTS[name], dtype)
