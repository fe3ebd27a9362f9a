"""Tests the convolutions on eight devices: equal to one device, and sending only halos."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.experimental.compilation_cache import compilation_cache
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from mesh_cases import assert_close, assert_sent, Case, KINDS, measure, NOT_SPLIT

from pdequinox_padding import per_channel
from pdequinox_physconv import (
    MorePaddingConv,
    MorePaddingConvTranspose,
    PhysicsConv,
    PhysicsConvTranspose,
)


pytestmark = pytest.mark.usefixtures("x64")


def conv(*arguments, boundary_mode="periodic", **more):
    return functools.partial(PhysicsConv, *arguments, boundary_mode=boundary_mode, **more)


def up(*arguments, boundary_mode="periodic", **more):
    return functools.partial(PhysicsConvTranspose, *arguments, boundary_mode=boundary_mode, **more)


WALLS = [("neumann", "dirichlet_cell"), "periodic"]

# How many numbers a device sends in the forward pass: samples times channels times points. The
# gradients send that many twice: the gradient by the weight needs the halos of the field, and the
# gradient by the field sends its own halos back. On two axes the halo of the second has corners.
PLAIN = {
    "one axis": (Case(conv(2, 3, 5, 3), (2, 3, 16, 6), dict(a=8), P(None, None, "a")), 2 * 3 * 12),
    "between walls": (
        Case(conv(2, 3, 5, 3, boundary_mode=WALLS), (2, 3, 16, 6), dict(a=8), P(None, None, "a")),
        2 * 3 * 12,
    ),
    "zeros outside": (
        Case(
            conv(2, 3, 5, 3, boundary_mode="dirichlet"),
            (2, 3, 16, 6),
            dict(a=8),
            P(None, None, "a"),
        ),
        2 * 3 * 12,
    ),
    "two axes": (
        Case(
            conv(2, 3, 5, 3, boundary_mode=WALLS),
            (2, 3, 8, 8),
            dict(a=4, b=2),
            P(None, None, "a", "b"),
        ),
        2 * 3 * (2 * 4 + 2 * 4),
    ),
    "one axis over two of the mesh": (
        Case(
            conv(1, 3, 5, 3, boundary_mode="outflow"),
            (2, 3, 32),
            dict(a=4, b=2),
            P(None, None, ("b", "a")),
        ),
        2 * 3 * 2,
    ),
    "batch and space": (
        Case(conv(3, 3, 5, (3, 1, 3)), (4, 3, 8, 3, 4), dict(a=2, b=4), P("a", None, "b")),
        2 * 3 * (2 * 12),
    ),
    "even kernel, one more point above": (
        Case(conv(1, 3, 5, 4), (2, 3, 32), dict(a=8), P(None, None, "a")),
        2 * 3 * 3,
    ),
    "stride": (
        Case(
            conv(2, 3, 5, 3, 2, boundary_mode="neumann_cell"),
            (2, 3, 32, 6),
            dict(a=8),
            P(None, None, "a"),
        ),
        2 * 3 * 6,
    ),
    "stride, to fewer points on an axis than there are devices": (
        Case(
            conv(2, 3, 5, 3, 2, boundary_mode="outflow"),
            (4, 3, 8, 8),
            dict(a=4, b=2),
            P(None, None, "a", "b"),
        ),
        4 * 3 * (4 + 3),
    ),
    "stride that leaves out the last point": (
        Case(
            conv(1, 3, 5, 3, 4, boundary_mode="outflow"), (2, 3, 14), dict(a=2), P(None, None, "a")
        ),
        2 * 3 * 1,
    ),
    "halo of more than a block": (
        Case(
            conv(1, 3, 5, 5, dilation=3, boundary_mode=[("neumann", "dirichlet_node")]),
            (2, 3, 16),
            dict(a=8),
            P(None, None, "a"),
        ),
        2 * 3 * (2 * 6),
    ),
    "groups": (
        Case(conv(1, 4, 6, 3, groups=2), (2, 4, 32), dict(a=8), P(None, None, "a")),
        2 * 4 * 2,
    ),
    "transpose": (Case(up(1, 3, 5, 3), (2, 3, 32), dict(a=8), P(None, None, "a")), 2 * 3 * 2),
    "transpose with stride": (
        Case(
            up(2, 3, 5, 3, 2, 1, boundary_mode=WALLS), (2, 3, 16, 6), dict(a=8), P(None, None, "a")
        ),
        2 * 3 * 6,
    ),
    "transpose with stride, two axes": (
        Case(
            up(2, 3, 5, 3, 2, 1, boundary_mode=WALLS),
            (2, 3, 8, 8),
            dict(a=4, b=2),
            P(None, None, "a", "b"),
        ),
        2 * 3 * (4 + 3),
    ),
    "transpose, blocks that no stride divides": (
        Case(
            up(1, 3, 5, 3, 4, 1, boundary_mode="neumann_cell"),
            (2, 3, 16),
            dict(a=2),
            P(None, None, "a"),
        ),
        2 * 3 * 2,
    ),
}

PADDED = {
    "one": Case(
        functools.partial(MorePaddingConv, 1, 3, 5, 9), (2, 3, 16), dict(a=4), P(None, None, "a")
    ),
    "transposed": Case(
        functools.partial(
            MorePaddingConvTranspose, 1, 3, 5, 3, 2, padding=2, output_padding=1,
            padding_mode="circular",
        ),
        (2, 3, 10), dict(a=2), P(None, None, "a"),
    ),
}  # fmt: skip

OF_CHANNELS = per_channel(
    (1, ["neumann_cell", "periodic"]), (2, [("dirichlet_cell", "neumann_cell"), "periodic"])
)
GLOBE = per_channel((1, ["pole_cell", "periodic"]), (2, ["pole_cell_odd", "periodic"]))

# The same as `PLAIN`: differences of the channels change nothing that is sent.
PLAIN |= {
    "modes per channel": (
        Case(
            conv(2, 3, 5, 3, boundary_mode=OF_CHANNELS),
            (2, 3, 16, 6),
            dict(a=8),
            P(None, None, "a"),
        ),
        2 * 3 * 12,
    ),
    "modes per channel, transpose with stride": (
        Case(
            up(2, 3, 5, 3, 2, 1, boundary_mode=OF_CHANNELS),
            (2, 3, 16, 6),
            dict(a=8),
            P(None, None, "a"),
        ),
        2 * 3 * 6,
    ),
    # The devices at a pole send their rows to each other: one more of each kind at the two ends.
    "poles, the latitude": (
        Case(conv(2, 3, 5, 3, boundary_mode=GLOBE), (2, 3, 16, 6), dict(a=8), P(None, None, "a")),
        2 * 3 * 12,
    ),
}

# Channels that differ in the places of their sources, and meshes that split channels, so that a
# device has channels of two modes, and others of one.
PLACES = per_channel((3, "neumann_cell"), (2, "neumann_node"), (3, "dirichlet_cell"))
BLOCKS = {
    "places": (conv(1, 8, 6, 3, boundary_mode=PLACES), (2, 8, 12), dict(a=4), P(None, None, "a")),
    "places, channels split": (
        conv(1, 8, 6, 3, boundary_mode=PLACES), (2, 8, 12), dict(a=4), P(None, "a"), P(None, "a"),
    ),
    "signs, channels split": (
        conv(1, 8, 6, 3, 2, boundary_mode=per_channel((3, "neumann_cell"), (5, "dirichlet_cell"))),
        (2, 8, 12), dict(a=4), P(None, "a"), P(None, "a"),
    ),
    "channels and space": (
        conv(2, 8, 6, 3, boundary_mode=PLACES), (2, 8, 8, 4), dict(a=4, b=2),
        P(None, "b", "a"), P(None, "b"),
    ),
    "channels and space, transposed": (
        up(2, 8, 6, 3, 2, 1, boundary_mode=PLACES), (2, 8, 8, 4), dict(a=4, b=2),
        P(None, "b", "a"), P(None, "b"),
    ),
    "groups": (
        conv(1, 8, 8, 5, groups=4, boundary_mode=PLACES), (2, 8, 12), dict(a=4),
        P(None, "a"), P("a"),
    ),
    "batch, channels and space": (
        conv(1, 8, 6, 5, dilation=2, boundary_mode=PLACES), (4, 8, 8), dict(a=2, b=2, c=2),
        P("c", "b", "a"), P(None, "b"),
    ),
    "the longitude": (
        conv(2, 3, 5, 3, boundary_mode=GLOBE), (2, 3, 4, 16), dict(a=8), P(None, None, None, "a"),
    ),
    "the latitude and the longitude": (
        conv(2, 3, 5, (5, 3), 2, boundary_mode=GLOBE), (2, 3, 8, 8), dict(a=4, b=2),
        P(None, None, "b", "a"),
    ),
    "a mask": (
        conv(2, 3, 5, 3, boundary_mode=WALLS), (2, 3, 16, 6), dict(a=8), P(None, None, "a"),
        NOT_SPLIT, dict(mask=np.arange(16 * 6).reshape(16, 6) % 5 > 1),
    ),
    "a mask of channels that are split": (
        conv(1, 8, 6, 3, 2, boundary_mode=PLACES), (2, 8, 12), dict(a=4, b=2), P(None, "a", "b"),
        P(None, "a"), dict(mask=np.arange(8 * 12).reshape(8, 12) % 7 > 2),
    ),
    "the longitude, transposed": (
        up(2, 3, 5, 3, 2, 1, boundary_mode=GLOBE), (2, 3, 4, 8), dict(a=4, b=2),
        P(None, None, "b", "a"),
    ),
}  # fmt: skip

SAMPLES = {
    "batch": Case(conv(2, 3, 5, 3), (16, 3, 8, 6), dict(a=8), P("a")),
    "batch, transposed": Case(up(2, 3, 5, 3, 2, 1), (16, 3, 8, 6), dict(a=8), P("a")),
    "batch over two axes": Case(conv(3, 3, 5, 3), (8, 3, 4, 4, 4), dict(a=4, b=2), P(("a", "b"))),
}


def field(points):
    """Counts the bytes of two samples of three channels."""
    return 8 * 2 * 3 * points


def result(points):
    """Counts the bytes of two samples of five channels."""
    return 8 * 2 * 5 * points


# Outputs that the mesh does not divide: every device has all of them, or they are split by the axis
# of the mesh that divides them. Each case lists what is sent forward, and for the gradients.
UNEVEN = {
    # With automatic axes, XLA makes both of the two possible layouts of the result.
    "outputs that the mesh does not divide": (
        Case(conv(1, 3, 5, 3, 2), (2, 3, 24), dict(a=8), P(None, None, "a")),
        {
            "Auto": ({"all-gather": field(24) + result(12)}, {"all-gather": field(24)}),
            "Explicit": ({"all-gather": field(24)}, {"all-gather": field(24)}),
        },
    ),
    # Blocks move to where the order ("a", "b") of the mesh has them, and `b` is gathered. Then
    # halos of one point are sent. With automatic axes, the result is split over `b`.
    "outputs that one of two axes of the mesh divides": (
        Case(conv(1, 3, 5, 3, 4), (2, 3, 16), dict(a=4, b=2), P(None, None, ("b", "a"))),
        {
            "Auto": (
                {
                    "collective-permute": field(2) + field(1) + result(1),
                    "all-gather": field(4) + result(2),
                },
                {
                    "collective-permute": field(2) + 2 * field(1) + result(1),
                    "all-gather": field(4),
                    "all-reduce": 8 * (5 * 3 * 3 + 5),
                },
            ),
            "Explicit": (
                {"collective-permute": field(2) + field(1), "all-gather": field(4)},
                {
                    "collective-permute": 2 * field(2) + 2 * field(1),
                    "all-gather": field(4),
                    "all-reduce": 8 * (5 * 3 * 3 + 5),
                },
            ),
        },
    ),
    "one more output than the mesh divides": (
        Case(up(1, 3, 5, 3, 2), (2, 3, 16), dict(a=8), P(None, None, "a")),
        dict.fromkeys(KINDS, ({"all-gather": field(16)}, {"all-gather": field(16)})),
    ),
}

# Sums over split channels: each device gathers the input channels that it has weights for, or the
# parts of the sum are added up. The same holds for the gradient by the field. A field of 8 channels
# and its cotangent have `EIGHT` bytes each.
EIGHT, THREE = 8 * 2 * 8 * 12, 8 * 2 * 3 * 12
OTHERS = {
    # The weight is gathered as well, and the cotangent.
    "groups that the mesh does not divide": (
        Case(conv(1, 8, 8, 3, groups=4), (2, 8, 12), dict(a=8), P(None, "a"), P("a")),
        dict.fromkeys(
            KINDS,
            ({"all-gather": EIGHT + 8 * 8 * 2 * 3}, {"all-gather": 2 * EIGHT + 8 * 8 * 2 * 3}),
        ),
    ),
    "inputs": (
        Case(conv(1, 8, 3, 3), (2, 8, 12), dict(a=8), P(None, "a"), P(None, "a")),
        dict.fromkeys(KINDS, ({"all-reduce": THREE}, {})),
    ),
    # On explicit axes the gradient by the weight lies where the weight does, on every device.
    "inputs, the weight on every device": (
        Case(conv(1, 8, 3, 3), (2, 8, 12), dict(a=8), P(None, "a")),
        {
            "Auto": ({"all-reduce": THREE}, {}),
            "Explicit": ({"all-reduce": THREE}, {"all-gather": 8 * 3 * 8 * 3}),
        },
    ),
    # On explicit axes the gradient by the field is split as the field is, so that every device
    # needs only its part of the sum.
    "inputs and outputs": (
        Case(conv(1, 8, 8, 3), (2, 8, 12), dict(a=8), P(None, "a"), P("a")),
        {
            "Auto": ({"all-gather": EIGHT}, {"all-gather": EIGHT, "all-reduce": EIGHT}),
            "Explicit": ({"all-gather": EIGHT}, {"all-gather": EIGHT, "reduce-scatter": EIGHT / 8}),
        },
    ),
    # The channels are sent as before, for a quarter of the points. The halos are a point below and
    # a point above, for all channels of the field. The gradients send the halos of the field and of
    # its gradient, before the sum (explicit axes) or after it, and the gradient of half of the
    # weights.
    "channels and space": (
        Case(conv(1, 8, 8, 3), (2, 8, 12), dict(a=2, b=4), P(None, "a", "b"), P("a")),
        {
            "Auto": (
                {"all-gather": EIGHT / 4, "collective-permute": 2 * EIGHT / 12},
                {
                    "all-gather": EIGHT / 4,
                    "all-reduce": EIGHT / 4 + 8 * 4 * (8 * 3 + 1),
                    "collective-permute": 2 * EIGHT / 12 + 2 * EIGHT / 12 / 2,
                },
            ),
            "Explicit": (
                {"all-gather": EIGHT / 4, "collective-permute": 2 * EIGHT / 12},
                {
                    "all-gather": EIGHT / 4,
                    "reduce-scatter": EIGHT / 4 / 2,
                    "all-reduce": 8 * 4 * (8 * 3 + 1),
                    "collective-permute": 4 * EIGHT / 12,
                },
            ),
        },
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", PLAIN)
def test_only_halos_are_exchanged(name, kind):
    """Fields stay split as before, also where a grid gets coarser."""
    case, numbers = PLAIN[name]
    measured = measure(case, kind)
    assert_close(measured)
    sent = 8 * numbers
    # XLA takes the sum of the bias's gradient along one axis of the mesh and then the other.
    again = 8 * 5 * (sum(entry is not None for entry in measured.split) - 1)
    assert_sent(
        measured,
        {"collective-permute": sent},
        {"collective-permute": 2 * sent, "all-reduce": measured.weights + again},
    )
    assert measured.split[2:] == measured.split_by_x[2:]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", PADDED)
def test_explicit_padding(name, kind):
    assert_close(measure(PADDED[name], kind))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_of_channels_that_differ(name, kind):
    assert_close(measure(Case(*BLOCKS[name]), kind))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SAMPLES)
def test_samples_exchange_the_gradients_of_the_weights(name, kind):
    measured = measure(SAMPLES[name], kind)
    assert_close(measured)
    assert_sent(measured, {}, {"all-reduce": measured.weights})
    assert measured.split[0] == measured.split_by_x[0] is not None


@pytest.mark.parametrize("kind", KINDS)
def test_groups_exchange_nothing(kind):
    case = Case(conv(1, 8, 16, 3, groups=8), (2, 8, 12), dict(a=8), P(None, "a"), P("a"))
    measured = measure(case, kind)
    assert_close(measured)
    assert_sent(measured, {}, {})
    assert measured.split[1] == measured.split_by_x[1] == ["a"]


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_exchange_the_gradient_of_the_field(kind):
    measured = measure(Case(conv(1, 3, 8, 3), (2, 3, 12), dict(a=8), P(), P("a")), kind)
    assert_close(measured)
    assert_sent(measured, {}, {"all-reduce": THREE})
    assert measured.split[1] == ["a"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", UNEVEN)
def test_what_outputs_that_the_mesh_does_not_divide_are_made_of_is_gathered(name, kind):
    case, sent = UNEVEN[name]
    measured = measure(case, kind)
    assert_close(measured)
    assert_sent(measured, *sent[kind])
    if "one of two" in name:
        assert measured.split[2] == {"Auto": ["b"], "Explicit": ["a"]}[kind]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", OTHERS)
def test_channels_send_what_a_product_of_matrices_needs(name, kind):
    case, sent = OTHERS[name]
    measured = measure(case, kind)
    assert_close(measured)
    assert_sent(measured, *sent[kind])


@pytest.fixture
def cache_on_disk(tmp_path):
    """Makes JAX keep programs in a folder for the length of a test."""
    settings = {
        "jax_compilation_cache_dir": str(tmp_path),
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": 0,
        # Otherwise the key has the address of an object, which may be another object's next time.
        "jax_remove_custom_partitioning_ptr_from_cache_key": True,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


@pytest.mark.usefixtures("cache_on_disk")
def test_programs_in_the_cache_on_disk_are_told_apart():
    """Tests two layers that differ only in the boundary mode, which XLA does not see."""
    x = np.random.default_rng(0).standard_normal((3, 32))
    split = jax.device_put(
        x, NamedSharding(jax.make_mesh((8,), ("a",), axis_types=(AxisType.Explicit,)), P(None, "a"))
    )
    hits, results = [], []
    listen = lambda event, **_: event.endswith("/cache_hits") and hits.append(event)
    jax.monitoring.register_event_listener(listen)
    try:
        for mode in ("periodic", "neumann_cell", "periodic"):
            layer = PhysicsConv(1, 3, 3, 3, boundary_mode=mode, key=jax.random.key(1))
            program = jax.jit(lambda x, layer=layer: layer(x)).lower(split)
            del hits[:]
            compiled = program.compile()
            results.append((np.asarray(compiled(split)), len(hits)))
    finally:
        jax.monitoring.unregister_event_listener(listen)
    assert [hits for _, hits in results] == [0, 0, 1]
    periodic, mirrored, again = (result for result, _ in results)
    np.testing.assert_array_equal(periodic, again)
    inside = slice(1, -1)
    np.testing.assert_array_equal(periodic[:, inside], mirrored[:, inside])
    assert not np.any(periodic[:, [0, -1]] == mirrored[:, [0, -1]])


def test_a_weight_and_a_batch_over_one_explicit_axis():
    layer = PhysicsConv(1, 3, 8, 3, boundary_mode="periodic", key=jax.random.key(1))
    mesh = jax.make_mesh((8,), ("a",), axis_types=(AxisType.Explicit,))
    given = layer.weight, jnp.zeros((8, 3, 16))
    weight, x = jax.device_put(given, NamedSharding(mesh, P("a")))
    layer = eqx.tree_at(lambda layer: layer.weight, layer, weight)
    with pytest.raises(
        ValueError, match="must not be split over an explicit axis of the mesh that also splits"
    ):
        jax.jit(lambda x: jax.vmap(layer)(x))(x)


def test_exported_programs_are_left_to_xla():
    layer = PhysicsConv(1, 3, 5, 3, boundary_mode="neumann_cell", key=jax.random.key(1))
    mesh = jax.make_mesh((8,), ("a",), axis_types=(AxisType.Auto,))
    x = jnp.asarray(np.random.default_rng(0).standard_normal((16, 3, 16)))
    (samples,) = export.symbolic_shape("samples")
    spec = jax.ShapeDtypeStruct((8 * samples, 3, 16), x.dtype, sharding=NamedSharding(mesh, P("a")))
    exported = export.export(jax.jit(lambda x: jax.vmap(layer)(x)))(spec)
    out = jax.jit(exported.call)(jax.device_put(x, spec.sharding))
    # Sums of 9 products of weights below 1, and a bias.
    error = np.max(np.abs(out - np.asarray(jax.vmap(layer)(x))))
    assert error <= 10 * 10 * float(jnp.finfo(x.dtype).eps) * float(jnp.max(jnp.abs(x)))


def test_a_field_that_the_mesh_does_not_divide_is_refused_by_name():
    """JAX refuses it before the layer does, with the axis, its size and the number of devices."""
    layer = PhysicsConv(1, 3, 3, 3, boundary_mode="periodic", key=jax.random.key(1))
    split = NamedSharding(
        jax.make_mesh((8,), ("a",), axis_types=(AxisType.Explicit,)), P(None, "a")
    )
    with pytest.raises(ValueError, match=r"(axis|dimension) 1\b.*\b8\b.*\b12\b"):
        jax.jit(lambda x: layer(x), in_shardings=split)(jnp.zeros((3, 12)))
