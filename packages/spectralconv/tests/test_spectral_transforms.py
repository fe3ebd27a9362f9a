"""The spectral layer under JAX's and Equinox's transformations."""

import jax.numpy as jnp
import pytest
import transforms

from pdequinox_spectralconv import SpectralConv


def gain(layer):
    """No coefficient divided by the number of points exceeds the field; each counts twice."""
    size = jnp.hypot(layer.weights_real.astype(jnp.float32), layer.weights_imag.astype(jnp.float32))
    return 2 * jnp.max(jnp.sum(size, axis=(0, *range(2, size.ndim))))


def make(key, out_channels=3, **arguments):
    return SpectralConv(2, 2, out_channels, (2, 3), key=key, **arguments)


# Operations: see `rounding_steps` in test_spectral_conv.py, 8 * log2(2 * 30) + 2 * 2 + 2.
SUBJECT = transforms.Subject(
    make=make,
    square=lambda key: make(key, out_channels=2),
    in_channels=2,
    spatial=(5, 6),
    terms=54,
    gain=gain,
)


@pytest.mark.parametrize("check", transforms.CHECKS, ids=lambda check: check.__name__)
def test_under(check, dtype):
    check(SUBJECT, dtype)
