"""The pointwise layer on eight devices: equal to one device, and exchanging nothing but sums over
channels and the gradients of the weights.
"""

import pytest
from collectives import on_devices
from mesh_cases import assert_close, assert_sent, KINDS, on_mesh, ON_MESHES


pytestmark = pytest.mark.skipif(not ON_MESHES, reason="this version leaves meshes to XLA")

IMPORTS = """
from pdequinox_pointwise import PointwiseLinearConv

def layer(dims, *channels):
    return PointwiseLinearConv(dims, *channels, key=key)
"""

POINTS = {
    "batch": "layer(2, 3, 5), (16, 3, 8, 6), dict(a=8), P('a')",
    "one sample after the other": "layer(1, 3, 5), (8, 3, 2), dict(a=8), P('a')",
    "first axis": "layer(2, 3, 5), (2, 3, 16, 6), dict(a=8), P(None, None, 'a')",
    "last axis": "layer(2, 3, 5), (2, 3, 6, 16), dict(a=8), P(None, None, None, 'a')",
    "two axes": "layer(3, 3, 5), (2, 3, 8, 3, 4), dict(a=4, b=2), P(None, None, 'a', None, 'b')",
    "batch and space": "layer(2, 3, 5), (4, 3, 8, 6), dict(a=2, b=4), P('a', None, 'b')",
    "one axis over two": "layer(1, 3, 5), (2, 3, 32), dict(a=2, b=4), P(None, None, ('b', 'a'))",
}

CHANNELS = {
    "inputs": "layer(1, 8, 3), (2, 8, 12), dict(a=8), P(None, 'a'), P(None, 'a')",
    "outputs": "layer(1, 3, 8), (2, 3, 12), dict(a=8), P(), P('a')",
    "inputs and outputs": "layer(1, 8, 8), (2, 8, 12), dict(a=8), P(None, 'a'), P('a')",
    "channels and space": "layer(1, 8, 8), (2, 8, 12), dict(a=2, b=4), P(None, 'a', 'b'), P('a')",
}


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return on_mesh(tmp_path_factory, IMPORTS, POINTS | CHANNELS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", POINTS | CHANNELS)
def test_as_on_one_device(found, name, kind):
    assert_close(found[f"{name} {kind}"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", POINTS)
def test_only_gradients_of_the_weights_are_summed(found, name, kind):
    """On a mesh of two axes XLA takes the sum of the products along one and then the other."""
    measured = found[f"{name} {kind}"]
    sums = len([c for c in measured["gradients"] if c["size"] > 8 * 5])
    assert_sent(measured, {}, {"all-reduce": sums * measured["weights"]})
    assert sums == (2 if name in ("two axes", "batch and space") else 1)
    assert measured["split"][0] == measured["split_by_x"][0]
    assert measured["split"][2:] == measured["split_by_x"][2:]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CHANNELS)
def test_channels_send_what_a_product_of_matrices_needs(found, name, kind):
    """One field at most in the forward pass, and one more for the gradients."""
    measured = found[f"{name} {kind}"]
    field = 8 * 2 * 8 * 12
    for collective in measured["forward"] + measured["gradients"]:
        assert collective["size"] <= field, collective
    large = lambda what: [c for c in measured[what] if c["size"] > measured["weights"]]
    assert len(large("forward")) <= 1 and len(large("gradients")) <= 2


def test_a_weight_and_a_batch_over_one_explicit_axis():
    message = on_devices(
        """
        import equinox as eqx, jax, json
        from jax.sharding import NamedSharding, PartitionSpec as P
        from pdequinox_pointwise import PointwiseLinearConv

        layer = PointwiseLinearConv(1, 3, 8, key=jax.random.key(1))
        axis_types = (jax.sharding.AxisType.Explicit,)
        split = NamedSharding(jax.make_mesh((8,), ("a",), axis_types=axis_types), P("a"))
        weight, x = jax.device_put((layer.weight, jax.numpy.zeros((8, 3, 16))), split)
        layer = eqx.tree_at(lambda layer: layer.weight, layer, weight)
        try:
            jax.jit(lambda x: jax.vmap(layer)(x))(x)
        except ValueError as error:
            print(json.dumps(str(error)))
        """
    )
    assert "must not be split over an axis of the mesh that splits the samples" in message
