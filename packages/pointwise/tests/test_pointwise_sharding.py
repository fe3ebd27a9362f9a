"""Tests the pointwise layer on eight devices: equal to one device, and exchanging only sums over
channels and the gradients of the weights.
"""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from mesh_cases import assert_close, assert_sent, Case, KINDS, measure

from pdequinox_pointwise import PointwiseLinearConv


pytestmark = pytest.mark.usefixtures("x64")


def layer(dims, *channels):
    return functools.partial(PointwiseLinearConv, dims, *channels)


POINTS = {
    "batch": Case(layer(2, 3, 5), (16, 3, 8, 6), dict(a=8), P("a")),
    "one sample after the other": Case(layer(1, 3, 5), (8, 3, 2), dict(a=8), P("a")),
    "first axis": Case(layer(2, 3, 5), (2, 3, 16, 6), dict(a=8), P(None, None, "a")),
    "last axis": Case(layer(2, 3, 5), (2, 3, 6, 16), dict(a=8), P(None, None, None, "a")),
    "two axes": Case(
        layer(3, 3, 5), (2, 3, 8, 3, 4), dict(a=4, b=2), P(None, None, "a", None, "b")
    ),
    "batch and space": Case(layer(2, 3, 5), (4, 3, 8, 6), dict(a=2, b=4), P("a", None, "b")),
    "one axis over two": Case(
        layer(1, 3, 5), (2, 3, 32), dict(a=2, b=4), P(None, None, ("b", "a"))
    ),
}

# What is sent forward, and for the gradients. A field of 8 channels and its cotangent have `EIGHT`
# bytes each, and one of 3 channels has `THREE`. If both operands of a product of matrices are split
# over one axis of the mesh, XLA gathers the field, or shares the weights the other way round and
# adds up the parts of the sum.
EIGHT, THREE, MATRIX = 8 * 2 * 8 * 12, 8 * 2 * 3 * 12, 8 * 8 * 8
CHANNELS = {
    "inputs": (
        Case(layer(1, 8, 3), (2, 8, 12), dict(a=8), P(None, "a"), P(None, "a")),
        dict.fromkeys(KINDS, ({"all-reduce": THREE}, {})),
    ),
    "outputs": (
        Case(layer(1, 3, 8), (2, 3, 12), dict(a=8), P(), P("a")),
        dict.fromkeys(KINDS, ({}, {"all-reduce": THREE})),
    ),
    "inputs and outputs": (
        Case(layer(1, 8, 8), (2, 8, 12), dict(a=8), P(None, "a"), P("a")),
        {
            "Auto": (
                {"all-to-all": MATRIX / 8, "all-reduce": EIGHT},
                {"all-gather": EIGHT, "all-reduce": EIGHT},
            ),
            "Explicit": (
                {"all-gather": EIGHT},
                {"all-gather": 2 * EIGHT, "all-to-all": MATRIX / 8},
            ),
        },
    ),
    # A quarter of the points, and the gradient of half of the weights.
    "channels and space": (
        Case(layer(1, 8, 8), (2, 8, 12), dict(a=2, b=4), P(None, "a", "b"), P("a")),
        {
            "Auto": (
                {"all-to-all": MATRIX / 2, "all-reduce": EIGHT / 4},
                {"all-gather": EIGHT / 4, "all-reduce": EIGHT / 4 + MATRIX / 2 + 8 * 4},
            ),
            "Explicit": (
                {"all-gather": EIGHT / 4},
                {
                    "all-gather": 2 * EIGHT / 4,
                    "all-to-all": MATRIX / 2,
                    "all-reduce": MATRIX / 2 + 8 * 4,
                },
            ),
        },
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", POINTS)
def test_only_gradients_of_the_weights_are_summed(name, kind):
    """On a mesh of two axes, XLA sums the products along one axis and then along the other."""
    measured = measure(POINTS[name], kind)
    assert_close(measured)
    sums = 2 if name in ("two axes", "batch and space") else 1
    assert_sent(measured, {}, {"all-reduce": sums * measured.weights})
    assert measured.split[0] == measured.split_by_x[0]
    assert measured.split[2:] == measured.split_by_x[2:]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CHANNELS)
def test_channels_send_what_a_product_of_matrices_needs(name, kind):
    case, sent = CHANNELS[name]
    measured = measure(case, kind)
    assert_close(measured)
    assert_sent(measured, *sent[kind])


def test_a_weight_and_a_batch_over_one_explicit_axis():
    layer = PointwiseLinearConv(1, 3, 8, key=jax.random.key(1))
    mesh = jax.make_mesh((8,), ("a",), axis_types=(AxisType.Explicit,))
    given = layer.weight, jnp.zeros((8, 3, 16))
    weight, x = jax.device_put(given, NamedSharding(mesh, P("a")))
    layer = eqx.tree_at(lambda layer: layer.weight, layer, weight)
    with pytest.raises(
        ValueError, match="must not be split over an explicit axis of the mesh that also splits"
    ):
        jax.jit(lambda x: jax.vmap(layer)(x))(x)
