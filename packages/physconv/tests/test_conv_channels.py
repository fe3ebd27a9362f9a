"""Tests convolutions of fields whose channels have modes of their own, and over poles: against
layers applied channel by channel, against the formulas in plain loops, and as operators on a
sphere.
"""

import re

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import oracles
import pytest
from jax import export

from pdequinox_padding import Boundary, free_slip, per_channel
from pdequinox_physconv import (
    MorePaddingConv,
    MorePaddingConvTranspose,
    PhysicsConv,
    PhysicsConvTranspose,
)


RNG = np.random.default_rng
KEY = jr.key(3)

# Modes of four channels, on 1, 2 and 3 axes.
MODES = {
    "signs": per_channel((1, "neumann_cell"), (3, "dirichlet_cell")),
    "places": per_channel((1, "neumann_cell"), (2, "neumann_node"), (1, "dirichlet_cell")),
    "zeros for some": per_channel((2, "zeros"), (1, "outflow"), (1, "dirichlet_node")),
    "each its own": per_channel((1, "outflow"), (1, "dirichlet_node"), (2, "neumann_cell")),
}
SHAPES = {
    "1-D": ((7,), dict(kernel_size=3)),
    "1-D strided": ((7,), dict(kernel_size=4, stride=2)),
    "2-D dilated": ((4, 5), dict(kernel_size=(3, 2), dilation=(2, 1))),
    "2-D groups": ((4, 5), dict(kernel_size=3, stride=(2, 1), groups=2)),
    "3-D": ((3, 2, 4), dict(kernel_size=(2, 3, 3))),
}


def normal(shape, seed=0):
    return jnp.asarray(RNG(seed).standard_normal(shape))


def tolerance(layer, x):
    """Bounds the difference of two sums of the same products, each off by a rounding per term."""
    terms = np.prod(layer.weight.shape[1:]) + 1
    size = float(jnp.abs(layer.weight).max() * jnp.abs(x).max())
    return 2 * terms * terms * size * float(jnp.finfo(x.dtype).eps)


def channel_by_channel(layer, shape, arguments, mode, x):
    """Sums over the runs of channels, each with a layer that has one mode and only the weights of
    these channels. A grouped layer gets the field without all other channels.
    """
    start, total = 0, 0.0
    for count, own in mode.runs:
        of_run = slice(start, start + count)
        start += count
        alone = type(layer)(
            len(shape), 4, 6, **arguments, boundary_mode=own, use_bias=False, key=KEY
        )
        alone = eqx.tree_at(lambda layer: layer.weight, alone, layer.weight)
        only = jnp.zeros_like(x).at[of_run].set(x[of_run])
        total = total + alone(only)
    return total + layer.bias


@pytest.mark.parametrize("shape, arguments", SHAPES.values(), ids=SHAPES)
def test_each_channel_has_its_own_mode(shape, arguments, x64):
    x = normal((4, *shape))
    layers = {
        (kind.__name__, name): kind(len(shape), 4, 6, **arguments, boundary_mode=mode, key=KEY)
        for kind in (PhysicsConv, PhysicsConvTranspose)
        for name, mode in MODES.items()
    }
    found, expected = jax.jit(
        lambda x: (
            {k: layer(x) for k, layer in layers.items()},
            {
                (kind, name): channel_by_channel(layer, shape, arguments, MODES[name], x)
                for (kind, name), layer in layers.items()
            },
        )
    )(x)
    for case, layer in layers.items():
        np.testing.assert_allclose(
            found[case], expected[case], rtol=0, atol=tolerance(layer, x), err_msg=str(case)
        )


@pytest.mark.parametrize("kind", [MorePaddingConv, MorePaddingConvTranspose])
def test_explicit_padding(kind, x64):
    x, mode = normal((4, 6)), per_channel((1, "reflect"), (3, "dirichlet_cell"))
    layer = kind(1, 4, 6, 3, 2, padding=(2,), padding_mode=mode, key=KEY)
    assert layer.padding_mode == per_channel((1, "reflect"), (3, "dirichlet_cell"))
    assert layer.boundary_mode == per_channel((1, "neumann"), (3, "dirichlet_cell"))
    total = layer.bias
    for of_run, name in ((slice(1), "reflect"), (slice(1, 4), "dirichlet_cell")):
        alone = kind(1, 4, 6, 3, 2, padding=2, padding_mode=name, use_bias=False, key=KEY)
        alone = eqx.tree_at(lambda layer: layer.weight, alone, layer.weight)
        total = total + alone(jnp.zeros_like(x).at[of_run].set(x[of_run]))
    np.testing.assert_allclose(layer(x), total, rtol=0, atol=tolerance(layer, x))


def extended_over_poles(x, widths, modes):
    return np.stack(
        [
            oracles.extension_over_poles(np.asarray(channel), widths, (name, name))
            for channel, name in zip(x, modes, strict=True)
        ]
    )


def test_poles_are_the_formula(x64):
    """Tests latitude by longitude, scalars and a vector, also with rows on the poles."""
    for centring in ("cell", "node"):
        names = [f"pole_{centring}", f"pole_{centring}_odd", f"pole_{centring}_odd"]
        x = normal((3, 4, 6))
        mode = per_channel(*((1, [name, "periodic"]) for name in names))
        layer = PhysicsConv(2, 3, 5, (5, 3), boundary_mode=mode, key=KEY)
        extended = extended_over_poles(x, ((2, 2), (1, 1)), names)
        zeros = (("dirichlet", "dirichlet"),) * 2
        expected, magnitude = oracles.convolution(
            extended, layer.weight, layer.bias, stride=(1, 1), dilation=(1, 1), groups=1,
            ends=zeros, padding=((0, 0), (0, 0)),
        )  # fmt: skip
        oracles.assert_within_rounding(layer(x), expected, magnitude, 3 * 15 + 1)


def test_a_turn_of_the_sphere_commutes_with_the_layer(x64):
    """Turns go by any number of points around the axis, or swap the poles, for even kernels."""
    mode = ["pole_cell", "periodic"]
    layer = PhysicsConv(2, 2, 3, (3, 5), boundary_mode=mode, use_bias=False, key=KEY)
    x = normal((2, 4, 8))
    turn = lambda v: jnp.roll(v, 3, axis=-1)
    np.testing.assert_allclose(layer(turn(x)), turn(layer(x)), rtol=0, atol=tolerance(layer, x))
    even = layer.weight + layer.weight[:, :, ::-1, ::-1]
    even = eqx.tree_at(lambda layer: layer.weight, layer, even)
    over = lambda v: v[..., ::-1, ::-1]
    np.testing.assert_allclose(even(over(x)), over(even(x)), rtol=0, atol=tolerance(even, x))


@pytest.mark.parametrize("kind", [PhysicsConv, PhysicsConvTranspose])
@pytest.mark.parametrize("groups", [1, 2])
def test_transforms_of_what_differs_per_channel(kind, groups, x64):
    """Tests batches over fields, over weights, over both and over cotangents, each against one at a
    time, and that the transpose is the adjoint.
    """

    def make(key):
        mode = MODES["places"]
        return kind(2, 4, 6, 3, 2, groups=groups, boundary_mode=mode, use_bias=False, key=key)

    ensemble, xs = eqx.filter_vmap(make)(jr.split(KEY, 3)), normal((3, 4, 5, 4))
    members = [jax.tree.map(lambda leaf, i=i: leaf[i], ensemble) for i in range(3)]
    first = members[0]
    shape = jax.eval_shape(first, xs[0]).shape
    ys = normal((3, *shape), seed=1)

    by_weight = lambda layer, x, y: jax.vjp(lambda w: with_weight(layer, w)(x), layer.weight)[1](y)
    by_field = lambda layer, x, y: jax.vjp(layer, x)[1](y)

    def batched(ensemble, xs, ys):
        over = eqx.filter_vmap
        return {
            "fields": jax.vmap(first)(xs),
            "weights": over(lambda layer: layer(xs[0]))(ensemble),
            "both": over(lambda layer, x: layer(x))(ensemble, xs),
            "gradients by the weights of each sample": jax.vmap(
                lambda x, y: by_weight(first, x, y)[0]
            )(xs, ys),
            "gradients by the weights, of many cotangents": jax.vmap(
                lambda y: by_weight(first, xs[0], y)[0]
            )(ys),
            "gradients by the weights, of many fields": jax.vmap(
                lambda x: by_weight(first, x, ys[0])[0]
            )(xs),
            "gradients by the field, of an ensemble": over(
                lambda layer: by_field(layer, xs[0], ys[0])[0]
            )(ensemble),
            "gradients by the field, of many cotangents": jax.vmap(
                lambda y: by_field(first, xs[0], y)[0]
            )(ys),
        }

    def one_by_one(members, xs, ys):
        one = {
            "fields": lambda layer, x, y: first(x),
            "weights": lambda layer, x, y: layer(xs[0]),
            "both": lambda layer, x, y: layer(x),
            "gradients by the weights of each sample": lambda layer, x, y: by_weight(first, x, y)[
                0
            ],
            "gradients by the weights, of many cotangents": lambda layer, x, y: by_weight(
                first, xs[0], y
            )[0],
            "gradients by the weights, of many fields": lambda layer, x, y: by_weight(
                first, x, ys[0]
            )[0],
            "gradients by the field, of an ensemble": lambda layer, x, y: by_field(
                layer, xs[0], ys[0]
            )[0],
            "gradients by the field, of many cotangents": lambda layer, x, y: by_field(
                first, xs[0], y
            )[0],
        }
        triples = list(zip(members, xs, ys, strict=True))
        return {name: jnp.stack([f(*triple) for triple in triples]) for name, f in one.items()}

    found = jax.jit(batched)(ensemble, xs, ys)
    expected = jax.jit(one_by_one)(members, xs, ys)
    # Sums over the points of products of numbers of size 1, in another order.
    bound = tolerance(first, xs) * ys[0].size
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=bound, err_msg=name)
    pulled = expected["gradients by the field, of many cotangents"][0]
    inner = jnp.vdot(expected["fields"][0], ys[0]), jnp.vdot(xs[0], pulled)
    np.testing.assert_allclose(*inner, rtol=0, atol=bound)


def with_weight(layer, weight):
    return eqx.tree_at(lambda layer: layer.weight, layer, weight)


def test_what_a_layer_shows():
    mode = per_channel((1, "neumann_cell"), *free_slip(2, "slip_cell").runs)
    layer = PhysicsConv(2, 3, 4, 3, boundary_mode=mode, key=KEY)
    assert layer.boundary == Boundary.parse(layer.boundary_mode, 2)
    again = PhysicsConv(2, 3, 4, 3, boundary_mode=layer.boundary_mode, key=KEY)
    assert eqx.tree_equal(layer, again)
    assert jax.tree.structure(layer) == jax.tree.structure(again)
    # Initial arrays do not depend on the boundary.
    plain = PhysicsConv(2, 3, 4, 3, boundary_mode="zeros", key=KEY)
    assert all(map(np.array_equal, jax.tree.leaves(layer), jax.tree.leaves(plain)))


@pytest.mark.parametrize("kind", [PhysicsConv, PhysicsConvTranspose])
def test_channels_and_modes_must_agree(kind):
    mode = per_channel((1, "zeros"), (1, "outflow"))
    text = "`boundary_mode` must have as many channels as the field that it extends, 3 here"
    with pytest.raises(ValueError, match=re.escape(text)):
        kind(1, 3, 2, 3, boundary_mode=mode, key=KEY)
    kind(1, 2, 3, 3, boundary_mode=mode, key=KEY)
    globe = kind(2, 1, 1, 3, boundary_mode=["pole_cell", "periodic"], key=KEY)
    with pytest.raises(ValueError, match=r"even number of points along the longitude.*got 5"):
        globe(jnp.zeros((1, 4, 5)))


def test_lists_of_two_are_read_per_axis():
    """What a user who means channels may write; its docstring says so."""
    layer = PhysicsConv(
        2, 2, 1, 3, boundary_mode=[["neumann_cell"] * 2, ["dirichlet_cell"] * 2], key=KEY
    )
    assert layer.boundary_mode == (("neumann_cell",) * 2, ("dirichlet_cell",) * 2)
    assert '[["neumann_cell"] * 2, ["dirichlet_cell"] * 2]' in PhysicsConv.__init__.__doc__


@pytest.mark.parametrize("kind", [PhysicsConv, PhysicsConvTranspose])
def test_sizes_that_are_left_open(kind):
    """Axes across walls and the latitude may be open, if long enough; the longitude may not."""
    around = "periodic"
    modes = {
        "signs": per_channel((1, ["neumann_cell", around]), (2, ["dirichlet_cell", around])),
        "places": per_channel((1, ["neumann_cell", around]), (2, ["outflow", around])),
        "poles": per_channel((1, ["pole_cell", around]), (2, ["pole_cell_odd", around])),
    }
    for name, mode in modes.items():
        layer = kind(2, 3, 4, 3, boundary_mode=mode, key=KEY)
        apply = jax.jit(lambda x, layer=layer: layer(x))
        shape = export.symbolic_shape("3, n, 8", constraints=["n >= 4"])
        exported = export.export(apply)(jax.ShapeDtypeStruct(shape, "float32"))
        x = jnp.asarray(normal((3, 6, 8)), "float32")
        bound = tolerance(layer, x)
        np.testing.assert_allclose(exported.call(x), layer(x), rtol=0, atol=bound, err_msg=name)
    shape = export.symbolic_shape("3, 6, n", constraints=["n >= 4"])
    with pytest.raises(ValueError, match="must have a known and even number of points"):
        export.export(apply)(jax.ShapeDtypeStruct(shape, "float32"))
