"""Tests whole networks of pdequinox 0.1.2 on the layers of this project: outputs, gradients,
training that continues, files, ensembles; and layers for which pdequinox does not compute what it
says.
"""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

import pdequinox as theirs
import pdequinox_physconv
import pdequinox_pointwise
import pdequinox_spectralconv
from pdequinox.conv._conv import (
    MorePaddingConv as TheirMorePaddingConv,
    MorePaddingConvTranspose as TheirMorePaddingConvTranspose,
)
from pdequinox_convert import adopt, resize_modes


MODES = ("periodic", "dirichlet", "neumann")
SIZES = {1: (16,), 2: (8, 8), 3: (4, 4, 4)}
OWN = (
    pdequinox_physconv.MorePaddingConv,
    pdequinox_physconv.MorePaddingConvTranspose,
    pdequinox_pointwise.PointwiseLinearConv,
    pdequinox_spectralconv.SpectralConv,
)

# Every architecture, small enough to compile in seconds, and the number of layers to be replaced.
NETWORKS = {
    "ClassicUNet": dict(hidden_channels=4, num_levels=1),
    "ModernUNet": dict(hidden_channels=4, num_levels=1, num_blocks=1),
    "ClassicResNet": dict(hidden_channels=4, num_blocks=2),
    "ModernResNet": dict(hidden_channels=4, num_blocks=2),
    "DilatedResNet": dict(hidden_channels=4, num_blocks=1, dilation_rates=(1, 2, 1)),
    "ConvNet": dict(hidden_channels=4, depth=2),
    "ClassicFNO": dict(hidden_channels=4, num_blocks=2, num_modes=2),
    "MLP": dict(width_size=8, depth=2),
}


def test_every_architecture_is_tried():
    assert {*NETWORKS} == {*theirs.arch.__all__}


def make(name, dims, mode, key=None):
    more = {"num_points": SIZES[dims][0]} if name == "MLP" else {}
    key = jr.key(0) if key is None else key
    arguments = NETWORKS[name]
    network = getattr(theirs.arch, name)
    return network(dims, 2, 3, boundary_mode=mode, key=key, **arguments, **more)


def layers_of(model):
    """Lists all layers that are convolutions, of either library."""
    bases = (eqx.nn.Conv, *OWN, TheirMorePaddingConv, TheirMorePaddingConvTranspose)
    bases = (*bases, theirs.conv.SpectralConv)
    is_layer = lambda node: isinstance(node, bases)
    return [node for node in jax.tree.leaves(model, is_leaf=is_layer) if is_layer(node)]


def arrays_of(model):
    return jax.tree.leaves(eqx.filter(model, eqx.is_array))


def normal(seed, shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape))


@eqx.filter_jit
def loss_and_gradients(model, x):
    def loss(arrays, static, x):
        out = eqx.combine(arrays, static)(x)
        return jnp.mean(out**2), out

    arrays, static = eqx.partition(model, eqx.is_inexact_array)
    (_, out), gradients = jax.value_and_grad(loss, argnums=(0, 2), has_aux=True)(arrays, static, x)
    return out, gradients


def assert_close(actual, expected):
    """Compares outputs and gradients in float64. Every network sums fewer than 2000 numbers in a
    row (8 channels by 27 taps, or 64 points of a transform, in at most 8 layers and as many norms),
    so as many roundings are allowed. Norms divide by standard deviations of about 0.1 here, which
    enlarges rounding errors by the inverse.
    """
    for a, e in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        assert a.shape == e.shape and a.dtype == e.dtype
        size = np.abs(e).max()
        np.testing.assert_allclose(a, e, rtol=0, atol=2000 * 10 * np.finfo(float).eps * size)


# All modes are tested in 1-D, where programs are small, and each once more in 2-D or 3-D.
CASES = [
    (name, dims, mode)
    for number, name in enumerate(NETWORKS)
    for dims in (1, 2, 3)
    for place, mode in enumerate(MODES)
    if (mode == "periodic" if name in ("ClassicFNO", "MLP") else True)
    and (dims == 1 or name in ("ClassicFNO", "MLP") or (number + dims + place) % 3 == 0)
]


@pytest.mark.converts("network", "pdequinox", "adopt")
@pytest.mark.parametrize(("name", "dims", "mode"), CASES)
def test_networks(name, dims, mode, x64):
    other = make(name, dims, mode)
    mine, report = adopt(other)
    layers = layers_of(mine)
    assert all(isinstance(layer, OWN) for layer in layers) and not report.left
    assert len(report.replaced) == len(layers) == len(layers_of(other))
    assert bool(layers) == (name != "MLP")
    for array, expected in zip(arrays_of(mine), arrays_of(other), strict=True):
        np.testing.assert_array_equal(array, expected)
    x = normal(1, (2, *SIZES[dims]))
    with jax.numpy_dtype_promotion("standard"):  # pdequinox adds a Python complex to floats.
        expected = loss_and_gradients(other, x)
    assert_close(loss_and_gradients(mine, x), expected)
    if hasattr(other, "receptive_field"):
        assert mine.receptive_field == other.receptive_field


def train(model, state, optimiser, steps, x, y):
    @eqx.filter_jit
    def step(model, state):
        loss, gradients = eqx.filter_value_and_grad(
            lambda model: jnp.mean((jax.vmap(model)(x) - y) ** 2)
        )(model)
        updates, state = optimiser.update(gradients, state, eqx.filter(model, eqx.is_inexact_array))
        return eqx.apply_updates(model, updates), state, loss

    losses = []
    for _ in range(steps):
        model, state, loss = step(model, state)
        losses.append(float(loss))
    return model, state, losses


@pytest.mark.converts("state of an optimiser", "pdequinox", "adopt")
@pytest.mark.parametrize("name", ["ClassicUNet", "ClassicFNO"])
def test_a_trained_network_from_a_file_goes_on_training(name, tmp_path, x64):
    """A network is adopted with the state of its optimiser. In float64, the losses of ten more
    steps are those of the same steps in the other library. Adam divides by the root of small
    numbers, so the tolerance is 1e-9 instead of that of `assert_close`. That is six digits less
    than a step changes the losses.
    """
    x, y = normal(1, (4, 2, 16)), normal(2, (4, 3, 16))
    optimiser = optax.adamw(3e-3)
    with jax.numpy_dtype_promotion("standard"):
        other = make(name, 1, "periodic")
        state = optimiser.init(eqx.filter(other, eqx.is_inexact_array))
        other, state, _ = train(other, state, optimiser, 10, x, y)
        eqx.tree_serialise_leaves(tmp_path / "trained.eqx", (other, state))
        like = make(name, 1, "periodic", jr.key(1))
        like = (like, optimiser.init(eqx.filter(like, eqx.is_inexact_array)))
        loaded = eqx.tree_deserialise_leaves(tmp_path / "trained.eqx", like)
        _, _, expected = train(other, state, optimiser, 10, x, y)
    (mine, mine_state), report = adopt(loaded)
    assert not report.left
    # One is in the network, and one in each moment.
    assert len(report.replaced) == 3 * len(layers_of(mine))
    with jax.numpy_dtype_promotion("standard"):  # Optax adds integers to floats.
        _, _, losses = train(mine, mine_state, optimiser, 10, x, y)
    assert losses[-1] < losses[0]
    np.testing.assert_allclose(losses, expected, rtol=1e-9)
    # Adopted models are stored and loaded like any other model.
    eqx.tree_serialise_leaves(tmp_path / "mine.eqx", mine)
    again = eqx.tree_deserialise_leaves(tmp_path / "mine.eqx", adopt(like[0])[0])
    for array, stored in zip(arrays_of(again), arrays_of(mine), strict=True):
        np.testing.assert_array_equal(array, stored)


@pytest.mark.converts("ensemble", "pdequinox", "adopt")
@pytest.mark.parametrize("name", ["ClassicUNet", "ClassicFNO"])
def test_ensembles(name, x64):
    keys = jr.split(jr.key(0), 4)
    other = eqx.filter_vmap(lambda key: make(name, 2, "periodic", key))(keys)
    mine, report = adopt(other)
    assert not report.left
    state = optax.adam(1e-3).init(eqx.filter(other, eqx.is_inexact_array))
    state, report = adopt(state)
    assert not report.left
    of_mine = optax.adam(1e-3).init(eqx.filter(mine, eqx.is_inexact_array))
    assert jax.tree.structure(state) == jax.tree.structure(of_mine)
    x = normal(1, (2, 8, 8))
    apply = eqx.filter_jit(eqx.filter_vmap(lambda m, x: m(x), in_axes=(eqx.if_array(0), None)))
    with jax.numpy_dtype_promotion("standard"):
        expected = apply(other, x)
    assert_close(apply(mine, x), expected)


def test_adopting_while_tracing():
    """APEBench makes its networks under `equinox.filter_vmap`, as here."""
    keys = jr.split(jr.key(0), 2)
    inside = eqx.filter_vmap(lambda key: adopt(make("ClassicFNO", 1, "periodic", key))[0])(keys)
    outside, _ = adopt(eqx.filter_vmap(lambda key: make("ClassicFNO", 1, "periodic", key))(keys))
    assert jax.tree.structure(inside) == jax.tree.structure(outside)


def transposed(cls, dims, *arguments, **keywords):
    return cls(dims, 4, 2, *arguments, key=jr.key(0), **keywords)


EVEN = [
    (dims, k, s, o, d, mode)
    for (dims, k, s, o, d), mode in itertools.product(
        [(1, 2, 2, 1, 1), (1, 4, 2, 0, 1), (1, 4, 3, 2, 2), (1, 4, 1, 0, 1), (2, (2, 3), 2, 1, 2)],
        MODES,
    )
]


@pytest.mark.converts("transposed convolution", "pdequinox", "adopt")
@pytest.mark.parametrize(("dims", "k", "s", "o", "d", "mode"), EVEN)
def test_transposed_layers_with_even_kernels_stay_as_they_are(dims, k, s, o, d, mode, x64):
    """Transposed layers with even kernels are shifted by a point in pdequinox. Where it extends the
    field by too few points, and takes zeros for the rest, they are left.
    """
    keywords = dict(stride=s, output_padding=o, dilation=d, groups=2, boundary_mode=mode)
    other = transposed(theirs.conv.PhysicsConvTranspose, dims, k, **keywords)
    mine, report = adopt(other)
    x = normal(1, (4, *SIZES[dims]))
    if report.left:
        assert (
            mode != "dirichlet" and "extends the field by too few points" in report.left[0].reason
        )
        # It differs from the layer of this project, whichever way it is shifted.
        shifted = transposed(
            pdequinox_physconv.MorePaddingConvTranspose, dims, k, stride=s, output_padding=o,
            dilation=d, groups=2, padding_mode=other.padding_mode,
            padding=[(b, a) for a, b in other.padding],
        )  # fmt: skip
        shifted = eqx.tree_at(lambda m: (m.weight, m.bias), shifted, (other.weight, other.bias))
        assert np.abs(shifted(x) - other(x)).max() > 1e-3
    else:
        assert type(mine) is pdequinox_physconv.MorePaddingConvTranspose
        assert_close(mine(x), other(x))


def test_some_even_kernels_are_taken_and_some_are_left():
    left = {
        bool(
            adopt(
                transposed(
                    theirs.conv.PhysicsConvTranspose, dims, k, stride=s, output_padding=o,
                    dilation=d, boundary_mode=mode,
                )
            )[1].left
        )
        for dims, k, s, o, d, mode in EVEN
        if mode != "dirichlet"
    }  # fmt: skip
    assert left == {True, False}


@pytest.mark.converts("convolution", "pdequinox", "adopt")
@pytest.mark.converts("pointwise convolution", "pdequinox", "adopt")
@pytest.mark.converts("spectral convolution", "pdequinox", "adopt")
@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_layers_with_explicit_padding(mode, x64):
    x = normal(1, (4, 8, 8))
    others = [
        transposed(TheirMorePaddingConv, 2, (3, 2), (1, 2), ((2, 1), (0, 3)), mode, groups=2),
        transposed(TheirMorePaddingConvTranspose, 2, 3, (2, 3), 1, mode, (1, 2)),
        theirs.conv.PointwiseLinearConv(2, 4, 3, key=jr.key(0)),
        theirs.conv.SpectralConv(2, 4, 4, (3, 4), key=jr.key(0)),
        eqx.nn.Conv2d(4, 3, 3, padding="SAME", padding_mode=mode, key=jr.key(0)),
    ]
    mine, report = adopt(others)
    assert not report.left and len(report.replaced) == len(others)
    for layer, other in zip(mine, others, strict=True):
        with jax.numpy_dtype_promotion("standard"):
            expected = other(x)
        assert_close(layer(x), expected)


# (kernel size, stride, dilation, padding, output padding)
EXPLICIT = [
    (3, 1, 1, (1, 1), 0),
    (3, 2, 1, (0, 2), 1),
    (4, 2, 1, (1, 3), 0),
    (4, 2, 2, (2, 5), 1),
    (5, 3, 1, (0, 4), 2),
    (2, 2, 3, (3, 0), 1),
    (3, 4, 1, (1, 0), 3),
    (3, 2, 1, (1, 3), 0),
    (2, 1, 2, (2, 2), 0),
]


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
@pytest.mark.parametrize(("k", "s", "d", "p", "o"), EXPLICIT)
def test_transposed_layers_with_explicit_padding(k, s, d, p, o, mode, x64):
    """What is left differs from the layer that would take its place, or has none."""
    arguments = dict(stride=s, padding_mode=mode, output_padding=o, dilation=d, groups=2)
    other = transposed(TheirMorePaddingConvTranspose, 1, k, padding=(p,), **arguments)
    mine, report = adopt(other)
    x = normal(1, (4, 7))
    if not report.left:
        assert_close(mine(x), other(x))
    elif "wider" in report.left[0].reason:
        assert max(p) > (k - 1) * d
    else:
        own = [[(k - 1) * d - n for n in p]]
        cls = pdequinox_physconv.MorePaddingConvTranspose
        same = transposed(cls, 1, k, padding=own, **arguments)
        same = eqx.tree_at(lambda m: (m.weight, m.bias), same, (other.weight, other.bias))
        assert np.abs(same(x) - other(x)).max() > 1e-3


def test_modes_that_overwrite_each_other_there_are_an_error_here():
    mine, report = adopt(theirs.conv.SpectralConv(2, 1, 1, 4, key=jr.key(0)))
    assert not report.left
    with pytest.raises(ValueError, match="`num_modes` must be at most 3 on spatial axis 0"):
        mine(jnp.ones((1, 6, 8)))


def test_a_state_whose_dimensions_are_not_known_is_left():
    """One channel and as many modes along two axes: `(4, 1, 1, 3, 3, m)` is also 2-D."""
    layer = theirs.conv.SpectralConv(3, 1, 1, (1, 1, 2), key=jr.key(0))
    state = optax.adam(1e-3).init(eqx.filter(layer, eqx.is_inexact_array))
    _, report = adopt(state)
    assert len(report.left) == 2
    assert all("number of dimensions is not known" in left.reason for left in report.left)
    _, report = adopt(layer)
    assert not report.left


def test_what_is_left_says_why():
    class Scaled(theirs.conv.PhysicsConv):
        def __call__(self, x):
            return 2 * super().__call__(x)

    model = {
        "own": Scaled(1, 2, 2, 3, boundary_mode="periodic", key=jr.key(0)),
        "confused": theirs.conv.SpectralConv(1, 1, 2, 3, key=jr.key(0)),
        "strided": eqx.nn.Conv1d(2, 2, 3, stride=2, padding="SAME", key=jr.key(0)),
        "wide": transposed(TheirMorePaddingConvTranspose, 1, 3, padding=4),
        "fine": theirs.conv.PhysicsConv(1, 2, 2, 3, boundary_mode="periodic", key=jr.key(0)),
    }
    adopted, report = adopt(model)
    assert {left.path for left in report.left} == {
        f"['{name}']" for name in model if name != "fine"
    }
    for left in report.left:
        name = left.path[2:-2]
        assert adopted[name] is model[name]
    reasons = " ".join(left.reason for left in report.left)
    for part in ("derived from", "confuses", "`spatial_shape`", "wider than its kernel reaches"):
        assert part in reasons
    assert str(report).count("\n") == 5 and "1 replaced, 4 left" in str(report)


@pytest.mark.converts("spectral convolution", "more or fewer modes", "resize_modes")
@pytest.mark.converts("network", "more or fewer modes", "resize_modes")
@pytest.mark.converts("state of an optimiser", "more or fewer modes", "resize_modes")
def test_a_network_gets_more_modes(x64):
    """A field that holds only the earlier modes gives the same."""
    mine, _ = adopt(make("ClassicFNO", 2, "periodic"))
    more = resize_modes(mine, (3, 4))
    assert {layer.num_modes for layer in layers_of(more) if hasattr(layer, "num_modes")} == {(3, 4)}
    x = normal(1, (2, 8, 8))
    assert_close(more(x), mine(x))
    assert_close(arrays_of(resize_modes(more, 2)), arrays_of(mine))
