"""Tests the convolutions under JAX's and Equinox's transformations."""

import jax
import jax.numpy as jnp
import pytest
import transforms

from pdequinox_physconv import (
    MorePaddingConv,
    MorePaddingConvTranspose,
    PhysicsConv,
    PhysicsConvTranspose,
)


ENDS = [("neumann", "dirichlet_cell"), "periodic"]


def gain(layer):
    """Bounds an output: its largest sum of absolute weights, and its bias."""
    weight = jnp.abs(layer.weight.astype(jnp.float32))
    return jnp.max(jnp.sum(weight, axis=range(1, weight.ndim))) + jnp.max(
        jnp.abs(layer.bias.astype(jnp.float32))
    )


def subject(layer_type, *more, **arguments):
    def make(key, out_channels=3, **kw):
        return layer_type(2, 2, out_channels, (3, 2), *more, key=key, **arguments, **kw)

    return transforms.Subject(
        make=make,
        square=lambda key: make(key, out_channels=2),
        in_channels=2,
        spatial=(5, 4),
        terms=2 * 3 * 2 + 1,
        gain=gain,
    )


SUBJECTS = {
    "PhysicsConv": subject(PhysicsConv, boundary_mode=ENDS, dilation=2),
    "PhysicsConvTranspose": subject(PhysicsConvTranspose, boundary_mode=ENDS, dilation=2),
    "MorePaddingConv": subject(MorePaddingConv, 1, ((1, 1), (0, 1)), "reflect"),
    "MorePaddingConvTranspose": subject(MorePaddingConvTranspose, 1, ((1, 1), (0, 1)), "circular"),
}


@pytest.mark.parametrize("name", SUBJECTS)
@pytest.mark.parametrize("check", transforms.CHECKS, ids=lambda check: check.__name__)
def test_under(check, name, dtype):
    check(SUBJECTS[name], dtype)


@pytest.mark.parametrize("layer_type", [PhysicsConv, PhysicsConvTranspose])
def test_equal_boundaries_are_equal_layers(layer_type):
    make = lambda mode: layer_type(2, 1, 1, 3, key=jax.random.key(0), boundary_mode=mode)
    spellings = ["Neumann", ["neumann", "NEUMANN"], [("neumann", "neumann"), "neumann"]]
    assert len({jax.tree.structure(make(mode)) for mode in spellings}) == 1
    assert make(spellings[2]).boundary_mode == "neumann"
    assert make(spellings[2]).padding_mode == "reflect"
    assert make(ENDS).boundary_mode == (("neumann", "dirichlet_cell"), ("periodic", "periodic"))
