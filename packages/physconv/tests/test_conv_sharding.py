"""The convolutions on eight devices: equal to one device, and sending halos only."""

import math
import re

import numpy as np
import pytest
from collectives import on_devices
from mesh_cases import assert_close, assert_sent, KINDS, on_mesh, ON_MESHES


pytestmark = pytest.mark.skipif(not ON_MESHES, reason="this version leaves meshes to XLA")

IMPORTS = """
from pdequinox_physconv import MorePaddingConv, MorePaddingConvTranspose
from pdequinox_physconv import PhysicsConv, PhysicsConvTranspose

def conv(*arguments, boundary_mode="periodic", **more):
    return PhysicsConv(*arguments, boundary_mode=boundary_mode, key=key, **more)

def up(*arguments, boundary_mode="periodic", **more):
    return PhysicsConvTranspose(*arguments, boundary_mode=boundary_mode, key=key, **more)

walls = [("neumann", "dirichlet_cell"), "periodic"]
"""

# How many numbers a device sends in the forward pass: samples times channels times points. The
# gradients take as many twice: that by the weight the halos of the field, and that by the field its
# own, which are sent back. On two axes the halo of the second has corners.
PLAIN = {
    "one axis": ("conv(2, 3, 5, 3), (2, 3, 16, 6), dict(a=8), P(None, None, 'a')", 2 * 3 * 12),
    "between walls": (
        "conv(2, 3, 5, 3, boundary_mode=walls), (2, 3, 16, 6), dict(a=8), P(None, None, 'a')",
        2 * 3 * 12,
    ),
    "zeros outside": (
        "conv(2, 3, 5, 3, boundary_mode='dirichlet'), (2, 3, 16, 6), dict(a=8), P(None, None, 'a')",
        2 * 3 * 12,
    ),
    "two axes": (
        "conv(2, 3, 5, 3, boundary_mode=walls), (2, 3, 8, 8), dict(a=4, b=2), "
        "P(None, None, 'a', 'b')",
        2 * 3 * (2 * 4 + 2 * 4),
    ),
    "one axis over two of the mesh": (
        "conv(1, 3, 5, 3, boundary_mode='outflow'), (2, 3, 32), dict(a=4, b=2), "
        "P(None, None, ('b', 'a'))",
        2 * 3 * 2,
    ),
    "batch and space": (
        "conv(3, 3, 5, (3, 1, 3)), (4, 3, 8, 3, 4), dict(a=2, b=4), P('a', None, 'b')",
        2 * 3 * (2 * 12),
    ),
    "even kernel, one more point above": (
        "conv(1, 3, 5, 4), (2, 3, 32), dict(a=8), P(None, None, 'a')", 2 * 3 * 3,
    ),
    "stride": (
        "conv(2, 3, 5, 3, 2, boundary_mode='neumann_cell'), (2, 3, 32, 6), dict(a=8), "
        "P(None, None, 'a')",
        2 * 3 * 6,
    ),
    "stride, to fewer points on an axis than there are devices": (
        "conv(2, 3, 5, 3, 2, boundary_mode='outflow'), (4, 3, 8, 8), dict(a=4, b=2), "
        "P(None, None, 'a', 'b')",
        4 * 3 * (4 + 3),
    ),
    "stride that leaves out the last point": (
        "conv(1, 3, 5, 3, 4, boundary_mode='outflow'), (2, 3, 14), dict(a=2), P(None, None, 'a')",
        2 * 3 * 1,
    ),
    "halo of more than a block": (
        "conv(1, 3, 5, 5, dilation=3, boundary_mode=[('neumann', 'dirichlet_node')]), (2, 3, 16), "
        "dict(a=8), P(None, None, 'a')",
        2 * 3 * (2 * 6),
    ),
    "groups": (
        "conv(1, 4, 6, 3, groups=2), (2, 4, 32), dict(a=8), P(None, None, 'a')", 2 * 4 * 2,
    ),
    "transpose": ("up(1, 3, 5, 3), (2, 3, 32), dict(a=8), P(None, None, 'a')", 2 * 3 * 2),
    "transpose with stride": (
        "up(2, 3, 5, 3, 2, 1, boundary_mode=walls), (2, 3, 16, 6), dict(a=8), P(None, None, 'a')",
        2 * 3 * 6,
    ),
    "transpose with stride, two axes": (
        "up(2, 3, 5, 3, 2, 1, boundary_mode=walls), (2, 3, 8, 8), dict(a=4, b=2), "
        "P(None, None, 'a', 'b')",
        2 * 3 * (4 + 3),
    ),
    "transpose, blocks that no stride divides": (
        "up(1, 3, 5, 3, 4, 1, boundary_mode='neumann_cell'), (2, 3, 16), dict(a=2), "
        "P(None, None, 'a')",
        2 * 3 * 2,
    ),
    "explicit padding": (
        "MorePaddingConv(1, 3, 5, 9, key=key), (2, 3, 16), dict(a=4), P(None, None, 'a')",
        None,
    ),
    "explicit padding, transposed": (
        "MorePaddingConvTranspose(1, 3, 5, 3, 2, padding=2, output_padding=1, "
        "padding_mode='circular', key=key), (2, 3, 10), dict(a=2), P(None, None, 'a')",
        None,
    ),
}  # fmt: skip

# Split over samples, members of an ensemble, or groups of channels: nothing, or the weights.
QUIET = {
    "batch": "conv(2, 3, 5, 3), (16, 3, 8, 6), dict(a=8), P('a')",
    "batch, transposed": "up(2, 3, 5, 3, 2, 1), (16, 3, 8, 6), dict(a=8), P('a')",
    "batch over two axes": "conv(3, 3, 5, 3), (8, 3, 4, 4, 4), dict(a=4, b=2), P(('a', 'b'))",
    "depthwise": ("conv(1, 8, 16, 3, groups=8), (2, 8, 12), dict(a=8), P(None, 'a'), P('a')"),
    "outputs": "conv(1, 3, 8, 3), (2, 3, 12), dict(a=8), P(), P('a')",
}

# Outputs that the mesh does not divide: every device has all of them.
UNEVEN = {
    "outputs that the mesh does not divide": (
        "conv(1, 3, 5, 3, 2), (2, 3, 24), dict(a=8), P(None, None, 'a')"
    ),
    "outputs that one of two axes of the mesh divides": (
        "conv(1, 3, 5, 3, 4), (2, 3, 16), dict(a=4, b=2), P(None, None, ('b', 'a'))"
    ),
    "one more output than the mesh divides": (
        "up(1, 3, 5, 3, 2), (2, 3, 16), dict(a=8), P(None, None, 'a')"
    ),
}

# Where channels are summed over.
OTHERS = {
    "groups that the mesh does not divide": (
        "conv(1, 8, 8, 3, groups=4), (2, 8, 12), dict(a=8), P(None, 'a'), P('a')"
    ),
    "inputs": "conv(1, 8, 3, 3), (2, 8, 12), dict(a=8), P(None, 'a'), P(None, 'a')",
    "inputs, the weight on every device": "conv(1, 8, 3, 3), (2, 8, 12), dict(a=8), P(None, 'a')",
    "inputs and outputs": "conv(1, 8, 8, 3), (2, 8, 12), dict(a=8), P(None, 'a'), P('a')",
    "channels and space": (
        "conv(1, 8, 8, 3), (2, 8, 12), dict(a=2, b=4), P(None, 'a', 'b'), P('a')"
    ),
}

CASES = {name: case[0] for name, case in PLAIN.items()} | QUIET | UNEVEN | OTHERS


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return on_mesh(tmp_path_factory, IMPORTS, CASES)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CASES)
def test_as_on_one_device(found, name, kind):
    assert_close(found[f"{name} {kind}"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [name for name, case in PLAIN.items() if case[1] is not None])
def test_only_halos_are_exchanged(found, name, kind):
    """Fields stay split as they were, also where a grid gets coarser."""
    measured, (_, numbers) = found[f"{name} {kind}"], PLAIN[name]
    sent = 8 * numbers
    # XLA takes the sum of the bias's gradient along one axis of the mesh and then the other.
    again = 8 * 5 * (sum(entry is not None for entry in measured["split"]) - 1)
    assert_sent(
        measured,
        {"collective-permute": sent},
        {"collective-permute": 2 * sent, "all-reduce": measured["weights"] + again},
    )
    assert measured["split"][2:] == measured["split_by_x"][2:]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [name for name in QUIET if "batch" in name])
def test_samples_exchange_the_gradients_of_the_weights(found, name, kind):
    measured = found[f"{name} {kind}"]
    assert_sent(measured, {}, {"all-reduce": measured["weights"]})
    assert measured["split"][0] == measured["split_by_x"][0] is not None


@pytest.mark.parametrize("kind", KINDS)
def test_groups_exchange_nothing(found, kind):
    measured = found[f"depthwise {kind}"]
    assert_sent(measured, {}, {})
    assert measured["split"][1] == measured["split_by_x"][1] == ["a"]


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_exchange_the_gradient_of_the_field(found, kind):
    measured = found[f"outputs {kind}"]
    (reduced,) = measured["gradients"]
    assert measured["forward"] == [] and measured["split"][1] == ["a"]
    assert reduced["kind"] == "all-reduce" and reduced["bytes"] == measured["shard"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", UNEVEN)
def test_outputs_that_the_mesh_does_not_divide_are_gathered(found, name, kind):
    """With what they are made of, and no more than once each."""
    measured = found[f"{name} {kind}"]
    field = measured["shard"] * measured["devices"]
    for collective in measured["forward"] + measured["gradients"]:
        assert collective["size"] <= max(field, 8 * math.prod(measured["shape"])), collective
    if "one of two" in name and kind == "Explicit":
        assert measured["split"][2] == ["a"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", OTHERS)
def test_no_more_than_a_product_of_matrices_needs(found, name, kind):
    """Each collective has at most the larger one of the two fields."""
    measured = found[f"{name} {kind}"]
    field = max(measured["shard"] * measured["devices"], 8 * math.prod(measured["shape"]))
    assert all(c["size"] <= field for c in measured["forward"] + measured["gradients"])


def test_programs_in_the_cache_on_disk_are_told_apart(tmp_path):
    """Two that differ in nothing but the boundary mode, of which XLA sees nothing."""
    found = on_devices(
        f"""
        import jax, json, numpy as np
        from jax.sharding import NamedSharding, PartitionSpec as P
        from pdequinox_physconv import PhysicsConv

        jax.config.update("jax_compilation_cache_dir", {str(tmp_path)!r})
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)
        # Or else JAX puts the address of an object into the key, which may be another's next time.
        jax.config.update("jax_remove_custom_partitioning_ptr_from_cache_key", True)
        x = jax.random.normal(jax.random.key(0), (3, 32))
        mesh = jax.make_mesh((8,), ("a",))
        split = jax.device_put(x, NamedSharding(mesh, P(None, "a")))
        hits = []
        jax.monitoring.register_event_listener(
            lambda event, **_: event.endswith("/cache_hits") and hits.append(event)
        )
        results = []
        for mode in ("periodic", "neumann_cell", "periodic"):
            layer = PhysicsConv(1, 3, 3, 3, boundary_mode=mode, key=jax.random.key(1))
            program = jax.jit(lambda x: layer(x)).lower(split)
            del hits[:]
            results.append((np.asarray(program.compile()(split)).tolist(), len(hits)))
        print(json.dumps(results))
        """
    )
    assert [hits for _, hits in found] == [0, 0, 1]
    periodic, mirrored, again = (np.asarray(result) for result, _ in found)
    np.testing.assert_array_equal(periodic, again)
    inside = slice(1, -1)
    np.testing.assert_array_equal(periodic[:, inside], mirrored[:, inside])
    assert not np.any(periodic[:, [0, -1]] == mirrored[:, [0, -1]])


def test_a_weight_and_a_batch_over_one_explicit_axis():
    message = on_devices(
        """
        import equinox as eqx, jax, json
        from jax.sharding import NamedSharding, PartitionSpec as P
        from pdequinox_physconv import PhysicsConv

        layer = PhysicsConv(1, 3, 8, 3, boundary_mode="periodic", key=jax.random.key(1))
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


def test_exported_programs_are_left_to_xla():
    pytest.importorskip("jax.export")
    error = on_devices(
        """
        import jax, json
        from jax import export
        from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
        from pdequinox_physconv import PhysicsConv

        layer = PhysicsConv(1, 3, 5, 3, boundary_mode="neumann_cell", key=jax.random.key(1))
        mesh = jax.make_mesh((8,), ("a",), axis_types=(AxisType.Auto,))
        x = jax.random.normal(jax.random.key(0), (16, 3, 16))
        (samples,) = export.symbolic_shape("samples")
        spec = jax.ShapeDtypeStruct(
            (8 * samples, 3, 16), x.dtype, sharding=NamedSharding(mesh, P("a"))
        )
        exported = export.export(jax.jit(lambda x: jax.vmap(layer)(x)))(spec)
        out = jax.jit(exported.call)(jax.device_put(x, spec.sharding))
        print(json.dumps(float(abs(out - jax.vmap(layer)(x)).max())))
        """
    )
    # Sums of 10 terms below 4.
    assert error <= 10 * 10 * 4 * float(np.finfo(np.float32).eps)


def test_a_field_that_the_mesh_does_not_divide_is_refused_by_name():
    """By JAX, before the layer: with the axis, its size and the number of devices."""
    message = on_devices(
        """
        import jax, json
        from jax.sharding import NamedSharding, PartitionSpec as P
        from pdequinox_physconv import PhysicsConv

        layer = PhysicsConv(1, 3, 3, 3, boundary_mode="periodic", key=jax.random.key(1))
        split = NamedSharding(jax.make_mesh((8,), ("a",)), P(None, "a"))
        try:
            jax.jit(lambda x: layer(x), in_shardings=split)(jax.numpy.zeros((3, 12)))
        except ValueError as error:
            print(json.dumps(str(error)))
        """
    )
    assert re.search(r"(axis|dimension) 1\b.*\b8\b.*\b12\b", message), message
