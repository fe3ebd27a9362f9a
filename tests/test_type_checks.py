"""That the tests run under the run-time checks that they are said to run under."""

import jax.numpy as jnp
import jax.random as jr
import jaxtyping
import pytest

from pdequinox_padding import same_padding
from pdequinox_physconv import PhysicsConv
from pdequinox_pointwise import PointwiseLinearConv
from pdequinox_spectralconv._basis import Basis
from pdequinox_spectralconv._transform import analyse


@pytest.mark.parametrize(
    "call",
    [
        lambda: same_padding((3,), 1),
        lambda: PhysicsConv(1, 1, 1, 3, use_bias=2, key=jr.key(0), boundary_mode="periodic"),
        lambda: PointwiseLinearConv(1, 1, 1, use_bias=2, key=jr.key(0)),
        lambda: analyse(jnp.zeros((1, 1, 1, 3), jnp.int32), 0, Basis(("periodic",) * 2, 1), None),
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
