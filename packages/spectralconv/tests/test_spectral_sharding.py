"""Tests the spectral layer on eight devices: equal to one device, and summing only kept modes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec as P
from mesh_cases import assert_close, assert_sent, Case, KINDS, measure

from pdequinox_padding import Boundary, per_channel
from pdequinox_spectralconv import _basis, _transform, SpectralConv


pytestmark = pytest.mark.usefixtures("x64")


def spectral(dims, modes, boundary_mode="periodic", method="auto", channels=(3, 5), **rest):
    return functools.partial(
        SpectralConv, dims, *channels, modes, boundary_mode=boundary_mode, method=method, **rest
    )


WALLS = ("neumann_cell", "dirichlet")
EVEN, ODD = ["periodic", "neumann_cell"], ["periodic", "dirichlet_cell"]
PER_CHANNEL = dict(
    boundary_mode=per_channel((1, EVEN), (2, ODD)),
    out_boundary_mode=per_channel((2, ODD), (3, EVEN)),
)

# The real numbers that are kept of each sample and channel: two parts of every periodic field.
SPACE = {
    "one axis": (Case(spectral(1, 4), (2, 3, 64), dict(a=8), P(None, None, "a")), 2 * 4),
    "one axis between walls": (
        Case(spectral(1, 5, [WALLS]), (2, 3, 64), dict(a=8), P(None, None, "a")),
        5,
    ),
    "the first of two axes": (
        Case(spectral(2, (4, 3), method="fft"), (2, 3, 16, 12), dict(a=8), P(None, None, "a")),
        2 * 8 * 3,
    ),
    "the last of two axes": (
        Case(
            spectral(2, (4, 3), method="fft"),
            (2, 3, 12, 16),
            dict(a=8),
            P(None, None, None, "a"),
        ),
        2 * 8 * 3,
    ),
    "two axes": (
        Case(spectral(2, (3, 5)), (2, 3, 16, 12), dict(a=4, b=2), P(None, None, "a", "b")),
        2 * 6 * 5,
    ),
    "one axis over two of the mesh": (
        Case(spectral(2, 3), (2, 3, 16, 12), dict(a=4, b=2), P(None, None, ("b", "a"))),
        2 * 6 * 3,
    ),
    "batch and space": (
        Case(spectral(2, 3, method="product"), (4, 3, 16, 12), dict(a=2, b=4), P("a", None, "b")),
        2 * 6 * 3,
    ),
    # The axis that would be analysed first by itself comes last here, and the other way round.
    "the last of three axes": (
        Case(spectral(3, (2, 3, 2)), (2, 3, 8, 6, 16), dict(a=8), P(None, None, None, None, "a")),
        2 * 4 * 6 * 2,
    ),
    "the middle of three axes": (
        Case(
            spectral(3, (2, 3, 2), method="fft"),
            (2, 3, 8, 16, 6),
            dict(a=8),
            P(None, None, None, "a"),
        ),
        2 * 4 * 6 * 2,
    ),
    "the first and the last of three axes": (
        Case(
            spectral(3, (2, 2, 3)), (2, 3, 16, 4, 12), dict(a=4, b=2), P(None, None, "a", None, "b")
        ),
        2 * 4 * 4 * 3,
    ),
    "walls and periodic axes, the wall's": (
        Case(
            spectral(2, (4, 3), [WALLS, "periodic"], "fft"),
            (2, 3, 16, 12),
            dict(a=8),
            P(None, None, "a"),
        ),
        2 * 4 * 3,
    ),
    "walls and periodic axes, the periodic one": (
        Case(
            spectral(2, (3, 4), ["periodic", WALLS], "fft"),
            (2, 3, 16, 12),
            dict(a=8),
            P(None, None, "a"),
        ),
        2 * 3 * 4,
    ),
    "modes per channel": (
        Case(
            spectral(2, (3, 4), method="fft", **PER_CHANNEL),
            (2, 3, 12, 16),
            dict(a=2, b=4),
            P(None, None, "a", "b"),
        ),
        2 * 3 * 4,
    ),
    "nodes on walls": (
        Case(
            spectral(2, 4, ["neumann", ("dirichlet_cell", "dirichlet_node")]),
            (2, 3, 16, 12),
            dict(a=4, b=2),
            P(None, None, "a", "b"),
        ),
        4 * 4,
    ),
}

SAMPLES = {
    "batch": Case(spectral(2, (4, 3), method="fft"), (16, 3, 16, 12), dict(a=8), P("a")),
    "batch, by product": Case(spectral(1, 4, method="product"), (8, 3, 16), dict(a=8), P("a")),
    "batch, between walls": Case(spectral(1, 4, [WALLS], "fft"), (16, 3, 16), dict(a=8), P("a")),
}


def kept(channels, modes):
    """Counts the bytes of modes with two parts, of all channels of two samples."""
    return 8 * 2 * channels * 2 * modes


# Sums over split channels, with three modes: what is sent forward, and for the gradients. The
# products with the real and with the imaginary parts of the weights are summed separately.
CHANNELS = {
    # On explicit axes the gradients by the weights lie where the weights do, on every device.
    "inputs": (
        Case(spectral(1, 3, channels=(8, 3)), (2, 8, 16), dict(a=8), P(None, "a")),
        {
            "Auto": ({"all-reduce": 2 * kept(3, 3)}, {}),
            "Explicit": ({"all-reduce": 2 * kept(3, 3)}, {"all-gather": 8 * 2 * 8 * 3 * 3}),
        },
    ),
    "outputs": (
        Case(spectral(1, 3, channels=(3, 8)), (2, 3, 16), dict(a=8), P(), P(None, "a")),
        dict.fromkeys(KINDS, ({}, {"all-reduce": 2 * kept(3, 3)})),
    ),
    "inputs and outputs": (
        Case(
            spectral(1, 3, channels=(8, 8)), (2, 8, 16), dict(a=8), P(None, "a"), P(None, "a")
        ),
        dict.fromkeys(
            KINDS,
            (
                {"all-gather": kept(8, 3)},
                {"all-gather": kept(8, 3), "all-reduce": 2 * kept(8, 3)},
            ),
        ),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SPACE)
def test_only_kept_modes_are_summed(name, kind):
    """Devices sum the kept modes of the field, and for the gradients those of the cotangent."""
    case, numbers = SPACE[name]
    measured = measure(case, kind)
    assert_close(measured)
    forward, cotangent = (8 * 2 * channels * numbers for channels in (3, 5))
    weights = measured.weights if "batch" in name else 0
    assert_sent(measured, {"all-reduce": forward}, {"all-reduce": forward + cotangent + weights})
    assert measured.split[2:] == measured.split_by_x[2:]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SAMPLES)
def test_samples_exchange_the_gradients_of_the_weights(name, kind):
    measured = measure(SAMPLES[name], kind)
    assert_close(measured)
    assert_sent(measured, {}, {"all-reduce": measured.weights})
    assert measured.split[0] == measured.split_by_x[0] == ["a"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CHANNELS)
def test_channels_exchange_kept_modes(name, kind):
    case, sent = CHANNELS[name]
    measured = measure(case, kind)
    assert_close(measured)
    assert_sent(measured, *sent[kind])


@pytest.mark.parametrize("kind", KINDS)
def test_modes_per_channel_where_channels_are_split(kind):
    """A device's channels have both modes, or one, or parts of either."""
    modes = dict(
        boundary_mode=per_channel((3, EVEN), (5, ODD)),
        out_boundary_mode=per_channel((7, ODD), (1, EVEN)),
    )
    layer = spectral(2, (3, 2), channels=(8, 8), **modes)
    measured = measure(Case(layer, (2, 8, 6, 5), dict(a=4, b=2), P("b", "a"), P(None, "a")), kind)
    assert_close(measured)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_may_be_split_by_their_modes(kind):
    """Every device then sums up and multiplies its share of the modes, and gathers the rest."""
    space, modes = P(None, None, "a"), P(None, None, None, "a")
    case = Case(spectral(2, (8, 3)), (2, 3, 16, 12), dict(a=8), space, modes)
    measured = measure(case, kind)
    assert_close(measured)
    of_field, of_result = kept(3, 16 * 3), kept(5, 16 * 3)
    assert_sent(
        measured,
        {"reduce-scatter": of_field / 8, "all-gather": of_result},
        {"reduce-scatter": (of_field + of_result) / 8, "all-gather": of_field},
    )


FACTORED = ["depthwise", "axiswise", ("cp", 4), ("tucker", 2)]


def factored(weights, channels):
    channels = (channels[0],) * 2 if weights == "depthwise" else channels
    return spectral(2, (4, 3), channels=channels, weights=weights)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weights", FACTORED, ids=str)
def test_factors_exchange_kept_modes(weights, kind):
    """No more is sent than with dense weights if space is split, and factors if samples are."""
    layer = factored(weights, (3, 5))
    measured = measure(Case(layer, (2, 3, 16, 12), dict(a=8), P(None, None, "a")), kind)
    assert_close(measured)
    outputs = measured.shape[1]
    forward, cotangent = (8 * 2 * channels * 2 * 8 * 3 for channels in (3, outputs))
    assert_sent(measured, {"all-reduce": forward}, {"all-reduce": forward + cotangent})
    measured = measure(Case(layer, (8, 3, 16, 12), dict(a=8), P("a")), kind)
    assert_close(measured)
    assert {c.kind for c in measured.gradients} == {"all-reduce"} and not measured.forward


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("weights", FACTORED, ids=str)
def test_factors_of_split_channels(weights, kind):
    case = Case(factored(weights, (8, 4)), (2, 8, 16, 12), dict(a=2, b=4), P(None, "a", "b"))
    measured = measure(case, kind)
    assert_close(measured)


@pytest.mark.parametrize("weights", ["dense", *FACTORED, ("tucker", (32, 32, 4, 4))], ids=str)
def test_many_modes_inside_of_shard_map(weights):
    """Tests where a CPU multiplies lines of modes, and makes Tucker matrices a few at a time."""
    layer = SpectralConv(2, 16, 16, (16, 16), weights=weights, key=jax.random.key(0))
    x, mesh = jnp.ones((4, 16, 32, 32)), jax.make_mesh((4,), ("a",), axis_types=(AxisType.Auto,))
    loss = lambda layer, x: jnp.sum(jax.vmap(layer)(x) ** 2)
    split = jax.shard_map(
        lambda layer, x: jax.lax.psum(loss(layer, x), "a"), mesh=mesh, in_specs=(P(), P("a")),
        out_specs=P(),
    )  # fmt: skip
    found = jax.jit(jax.value_and_grad(split))(layer, x)
    wanted = jax.jit(jax.value_and_grad(loss))(layer, x)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        # Sums over samples, points, modes and channels, in another order.
        terms = 2 * (4 * 32 * 32 + 2 * 16 * 16 + 64)
        np.testing.assert_allclose(a, b, rtol=0, atol=terms * 2.3e-16 * np.abs(b).max())


@pytest.mark.parametrize("kind", KINDS)
def test_factors_may_be_split_by_their_ranks(kind):
    layer = spectral(1, 4, channels=(3, 5), weights=("cp", 8))
    ranks = P(None, "a")
    assert_close(measure(Case(layer, (2, 3, 16), dict(a=8), P(), ranks), kind))


RESAMPLED = {
    "to a finer grid": ((32, 12), dict(a=8), P(None, None, "a")),
    "to a coarser grid": ((8, 6), dict(a=4, b=2), P(None, None, "a", "b")),
    "to a grid that the mesh does not divide": ((18, 9), dict(a=8), P(None, None, "a")),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", RESAMPLED)
def test_other_grids(name, kind):
    points, sizes, spec = RESAMPLED[name]
    call = dict(output_shape=points)
    measured = measure(Case(spectral(2, (4, 3)), (2, 3, 16, 12), sizes, spec, P(), call), kind)
    assert_close(measured)
    assert measured.shape == (2, 5, *points)
    forward, cotangent = kept(3, 8 * 3), kept(5, 8 * 3)
    if "not divide" in name:
        # Every device has the whole cotangent; with automatic axes XLA gathers the result.
        whole = measured.result if kind == "Auto" else 0
        assert_sent(measured, {"all-reduce": forward, "all-gather": whole}, {"all-reduce": forward})
        assert measured.split == [None] * 4
    else:
        assert_sent(measured, {"all-reduce": forward}, {"all-reduce": forward + cotangent})
        assert measured.split[2:] == measured.split_by_x[2:]


def test_axes_that_are_split_are_analysed_last(monkeypatch):
    """Of the other axes, only kept modes are left by then."""
    order = []
    monkeypatch.setattr(_transform, "analyse", lambda z, axis, *_: order.append(axis) or z)
    bases = _basis.bases(Boundary.parse("neumann", 3), (2, 2, 2))
    _transform.to_modes(jnp.zeros((1, 4, 4, 4)), bases, "auto", {2: _transform.Block(8, 0, 4)})
    assert order == [1, 0, 2]
