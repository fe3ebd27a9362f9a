"""Tests that the tests run under the run-time checks that they claim to run under."""

import jax.numpy as jnp
import jaxtyping
import pytest

from pdequinox_operators import add_bias
from pdequinox_padding import same_padding
from pdequinox_physconv._operator import convolve
from pdequinox_pointwise._operator import pointwise
from pdequinox_spectralconv._operator import multiplied
from pdequinox_spectralconv._weights import Structure


@pytest.mark.parametrize(
    "call",
    [
        lambda: same_padding((3,), 1),
        lambda: add_bias(jnp.zeros(3, jnp.int32), jnp.zeros(3, jnp.int32)),
        lambda: convolve(jnp.zeros((1, 3)), jnp.zeros((1, 1, 3)), "window", None),
        lambda: pointwise(jnp.zeros((2, 3, 4)), jnp.zeros((3, 5))),
        lambda: multiplied(jnp.zeros((1, 1, 1, 3), jnp.int32), (), Structure("dense", ())),
    ],
)
def test_every_package_is_type_checked(call):
    with pytest.raises(jaxtyping.TypeCheckError):
        call()


def test_dtype_promotion_is_strict():
    with pytest.raises(Exception, match="no available implicit dtype promotion"):
        jnp.ones(1, jnp.float32) + jnp.ones(1, jnp.bfloat16)


def test_ranks_are_not_promoted():
    with pytest.raises(ValueError, match="rank_promotion"):
        jnp.ones((2, 2)) + jnp.ones(2)
