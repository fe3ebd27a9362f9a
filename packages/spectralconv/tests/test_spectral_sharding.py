"""The spectral convolution on eight devices: equal to one device, and summing kept modes only."""

import jax.numpy as jnp
import pytest
from mesh_cases import assert_close, assert_sent, KINDS, on_mesh, ON_MESHES

from pdequinox_spectralconv import _basis, _transform


pytestmark = pytest.mark.skipif(not ON_MESHES, reason="this version leaves meshes to XLA")

IMPORTS = """
from pdequinox_spectralconv import SpectralConv

def spectral(dims, modes, boundary_mode="periodic", transform=None, channels=(3, 5)):
    return SpectralConv(
        dims, *channels, modes, boundary_mode=boundary_mode, transform=transform, key=key
    )

walls = ("neumann_cell", "dirichlet")
"""

# The real numbers that are kept of each sample and channel: two parts of every periodic field.
SPACE = {
    "one axis": ("spectral(1, 4), (2, 3, 64), dict(a=8), P(None, None, 'a')", 2 * 4),
    "one axis between walls": (
        "spectral(1, 5, [walls]), (2, 3, 64), dict(a=8), P(None, None, 'a')", 5,
    ),
    "the first of two axes": (
        "spectral(2, (4, 3), transform='fft'), (2, 3, 16, 12), dict(a=8), P(None, None, 'a')",
        2 * 8 * 3,
    ),
    "the last of two axes": (
        "spectral(2, (4, 3), transform='fft'), (2, 3, 12, 16), dict(a=8), P(None, None, None, 'a')",
        2 * 8 * 3,
    ),
    "two axes": (
        "spectral(2, (3, 5)), (2, 3, 16, 12), dict(a=4, b=2), P(None, None, 'a', 'b')",
        2 * 6 * 5,
    ),
    "one axis over two of the mesh": (
        "spectral(2, 3), (2, 3, 16, 12), dict(a=4, b=2), P(None, None, ('b', 'a'))", 2 * 6 * 3,
    ),
    "batch and space": (
        "spectral(2, 3, transform='product'), (4, 3, 16, 12), dict(a=2, b=4), P('a', None, 'b')",
        2 * 6 * 3,
    ),
    # The axis that is analysed first by itself is the last here, and the other way round.
    "the last of three axes": (
        "spectral(3, (2, 3, 2)), (2, 3, 8, 6, 16), dict(a=8), P(None, None, None, None, 'a')",
        2 * 4 * 6 * 2,
    ),
    "the middle of three axes": (
        "spectral(3, (2, 3, 2), transform='fft'), (2, 3, 8, 16, 6), dict(a=8), "
        "P(None, None, None, 'a')",
        2 * 4 * 6 * 2,
    ),
    "the first and the last of three axes": (
        "spectral(3, (2, 2, 3)), (2, 3, 16, 4, 12), dict(a=4, b=2), P(None, None, 'a', None, 'b')",
        2 * 4 * 4 * 3,
    ),
    "walls and periodic axes, the wall's": (
        "spectral(2, (4, 3), [walls, 'periodic'], 'fft'), (2, 3, 16, 12), dict(a=8), "
        "P(None, None, 'a')",
        2 * 4 * 3,
    ),
    "walls and periodic axes, the periodic one": (
        "spectral(2, (3, 4), ['periodic', walls], 'fft'), (2, 3, 16, 12), dict(a=8), "
        "P(None, None, 'a')",
        2 * 3 * 4,
    ),
    "nodes on walls": (
        "spectral(2, 4, ['neumann', ('dirichlet_cell', 'dirichlet_node')]), (2, 3, 16, 12), "
        "dict(a=4, b=2), P(None, None, 'a', 'b')",
        4 * 4,
    ),
}  # fmt: skip

OTHERS = {
    "batch": "spectral(2, (4, 3), transform='fft'), (16, 3, 16, 12), dict(a=8), P('a')",
    "batch, by product": "spectral(1, 4, transform='product'), (8, 3, 16), dict(a=8), P('a')",
    "batch, between walls": "spectral(1, 4, [walls], 'fft'), (16, 3, 16), dict(a=8), P('a')",
    "inputs": "spectral(1, 3, channels=(8, 3)), (2, 8, 16), dict(a=8), P(None, 'a')",
    "outputs": (
        "spectral(1, 3, channels=(3, 8)), (2, 3, 16), dict(a=8), P(), P(None, 'a')"
    ),
    "inputs and outputs": (
        "spectral(1, 3, channels=(8, 8)), (2, 8, 16), dict(a=8), P(None, 'a'), P(None, 'a')"
    ),
    "modes of the weights": (
        "spectral(2, (8, 3)), (2, 3, 16, 12), dict(a=8), P(None, None, 'a'), "
        "P(None, None, None, 'a')"
    ),
}  # fmt: skip

CASES = {name: case[0] for name, case in SPACE.items()} | OTHERS


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return on_mesh(tmp_path_factory, IMPORTS, CASES)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CASES)
def test_as_on_one_device(found, name, kind):
    assert_close(found[f"{name} {kind}"])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SPACE)
def test_only_kept_modes_are_summed(found, name, kind):
    """Those of the field, and, for the gradients, those of the cotangent as well."""
    measured, (_, kept) = found[f"{name} {kind}"], SPACE[name]
    forward, cotangent = (8 * 2 * channels * kept for channels in (3, 5))
    weights = measured["weights"] if "batch" in name else 0
    assert_sent(measured, {"all-reduce": forward}, {"all-reduce": forward + cotangent + weights})
    assert measured["split"][2:] == measured["split_by_x"][2:]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [name for name in OTHERS if "batch" in name])
def test_samples_exchange_the_gradients_of_the_weights(found, name, kind):
    measured = found[f"{name} {kind}"]
    assert_sent(measured, {}, {"all-reduce": measured["weights"]})
    assert measured["split"][0] == measured["split_by_x"][0] == ["a"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["inputs", "outputs", "inputs and outputs"])
def test_channels_exchange_kept_modes(found, name, kind):
    """The product of matrices is one of modes: fewer numbers than the field has."""
    measured = found[f"{name} {kind}"]
    most = 8 * 2 * 8 * 2 * 3  # samples, channels, parts, modes
    most *= 2  # XLA may join two collectives.
    for collective in measured["forward"] + measured["gradients"]:
        assert collective["size"] <= most, collective


@pytest.mark.parametrize("kind", KINDS)
def test_weights_may_be_split_by_their_modes(found, kind):
    """Every device then sums up and multiplies its share of the modes, and gathers the rest."""
    measured = found[f"modes of the weights {kind}"]
    kinds = {c["kind"] for c in measured["forward"]}
    kept = 8 * 2 * 5 * 2 * 16 * 3
    assert kinds == {"reduce-scatter", "all-gather"}
    assert all(c["size"] <= kept for c in measured["forward"] + measured["gradients"])


RESAMPLED = {
    "to a finer grid": ((32, 12), "dict(a=8), P(None, None, 'a')"),
    "to a coarser grid": ((8, 6), "dict(a=4, b=2), P(None, None, 'a', 'b')"),
    "to a grid that the mesh does not divide": ((18, 9), "dict(a=8), P(None, None, 'a')"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", RESAMPLED)
def test_other_grids(resampled, name, kind):
    measured = resampled[f"{name} {kind}"]
    assert_close(measured)
    assert tuple(measured["shape"]) == (2, 5, *RESAMPLED[name][0])
    if "not divide" not in name:
        kept = 8 * 2 * 2 * 8 * 3
        assert_sent(measured, {"all-reduce": 3 * kept}, {"all-reduce": (3 + 5) * kept})
        assert measured["split"][2:] == measured["split_by_x"][2:]


@pytest.fixture(scope="module")
def resampled(tmp_path_factory):
    cases = {
        name: f"spectral(2, (4, 3)), (2, 3, 16, 12), {mesh}, P(), dict(output_shape={shape})"
        for name, (shape, mesh) in RESAMPLED.items()
    }
    return on_mesh(tmp_path_factory, IMPORTS, cases)


def test_axes_that_are_split_are_analysed_last(monkeypatch):
    """Of the others, only kept modes are left by then."""
    order = []
    monkeypatch.setattr(_transform, "analyse", lambda z, axis, *_: order.append(axis) or z)
    bases = _basis.bases([("neumann", "neumann")] * 3, (2, 2, 2))
    _transform.to_modes(jnp.zeros((1, 4, 4, 4)), bases, None, {2: _transform.Block(8, 0, 4)})
    assert order == [1, 0, 2]
