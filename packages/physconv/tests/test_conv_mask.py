"""Tests masks of coasts and obstacles against sums over taps in plain loops."""

import re

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import oracles
import pytest

from pdequinox_padding import per_channel
from pdequinox_physconv import dilate_mask, MorePaddingConv, PhysicsConv, PhysicsConvTranspose


KEY = jr.key(7)


def there(position, mask, ends):
    """Tells whether the point that the extension of an axis has at `position` is on the mask, and
    its factor: the row of the oracle has one, or has none.
    """
    row = oracles.extension_row(position, len(mask), ends)[: len(mask)]
    if not row.any():
        return None, 0.0
    ((repeated,),) = np.nonzero(row)
    return int(repeated), float(row[repeated])


def by_loops(layer, x, mask, ends):
    """Computes every output as a sum over its taps, with the `ends` of each channel and axis."""
    weight, (outputs, per_group) = np.asarray(layer.weight, float), layer.weight.shape[:2]
    dims, k, s, d = layer.num_spatial_dims, layer.kernel_size, layer.stride, layer.dilation
    shape = [
        (n + sum(p) - (a - 1) * b - 1) // c + 1
        for n, p, a, b, c in zip(x.shape[1:], layer.padding, k, d, s, strict=True)
    ]
    out, dilated = np.zeros((outputs, *shape)), np.zeros((outputs, *shape), bool)
    bias = np.zeros(outputs) if layer.bias is None else np.asarray(layer.bias).reshape(-1)
    for o, *place in np.ndindex(outputs, *shape):
        first = o // (outputs // layer.groups) * per_group
        total, present = 0.0, 0
        for c, *tap in np.ndindex(per_group, *k):
            channel, index, factor = first + c, [], 1.0
            alive = True
            for axis in range(dims):
                j = place[axis] * s[axis] + tap[axis] * d[axis] - layer.padding[axis][0]
                i, sign = there(j, np.zeros(x.shape[1 + axis]), ends[channel][axis])
                alive = alive and i is not None
                index.append(i)
                factor *= sign
            if not alive:
                present += 1  # a zero, which is there
            elif mask[(channel, *index)]:
                present += 1
                total += weight[(o, c, *tap)] * factor * x[(channel, *index)]
        taps = per_group * np.prod(k)
        dilated[(o, *place)] = present > 0
        out[(o, *place)] = (total * taps / present if present else 0.0) + bias[o]
    return out, dilated


UNIFORM = [
    ("1-D", 1, (7,), dict(kernel_size=3), "neumann_cell"),
    ("1-D zeros", 1, (7,), dict(kernel_size=4, stride=2), "zeros"),
    ("1-D wall nodes", 1, (6,), dict(kernel_size=5, dilation=2), [("dirichlet_node", "outflow")]),
    ("2-D", 2, (5, 4), dict(kernel_size=3), ["periodic", ("dirichlet_cell", "neumann_node")]),
    ("2-D groups", 2, (5, 4), dict(kernel_size=(2, 3), stride=2, groups=2), "dirichlet_cell"),
    ("3-D", 3, (3, 2, 3), dict(kernel_size=(3, 2, 1)), "outflow"),
    ("one point", 1, (1,), dict(kernel_size=5), "dirichlet_node"),
    ("one point, two walls", 1, (1,), dict(kernel_size=4), [("dirichlet_node", "neumann_cell")]),
]
DIFFERENT = per_channel((1, "neumann_cell"), (2, "neumann_node"), (1, "dirichlet_cell"))


def masks(shape, seed):
    """Makes random masks, and one with a large hole, for all channels and for each channel."""
    draw = np.random.default_rng(seed)
    hole = np.ones(shape, bool)
    hole[: max(shape[0] - 2, 1)] = False
    return [hole, draw.random(shape) < 0.6, draw.random((4, *shape)) < 0.6]


@pytest.mark.parametrize("name, dims, shape, arguments, mode", UNIFORM, ids=[u[0] for u in UNIFORM])
def test_masks_against_loops(name, dims, shape, arguments, mode, x64):
    for boundary_mode in (mode, DIFFERENT):
        layer = PhysicsConv(dims, 4, 6, **arguments, boundary_mode=boundary_mode, key=KEY)
        parts = layer.boundary.parts
        ends = [part.names for count, part in parts for _ in range(count or 4)]
        x = np.random.default_rng(1).standard_normal((4, *shape))
        for mask in masks(shape, 2):
            found = jax.jit(lambda x, m, layer=layer: layer(x, mask=m))(x, mask)
            of_all = np.broadcast_to(mask, x.shape)
            expected, dilated = by_loops(layer, x, of_all, ends)
            # A sum of this many products, scaled by up to this many taps, and a bias.
            terms = np.prod(layer.weight.shape[1:])
            bound = (terms + 3) ** 2 * np.finfo(float).eps * np.abs(layer.weight).max()
            bound = bound * (np.abs(x).max() * terms + 1)
            np.testing.assert_allclose(found, expected, rtol=0, atol=bound)
            next_mask = dilate_mask(mask, layer)
            if mask.ndim == dims:
                dilated = dilated.any(axis=0)
            np.testing.assert_array_equal(next_mask, dilated)


def test_ones_change_nothing_bit_for_bit(dtype):
    for _, dims, shape, arguments, mode in UNIFORM:
        layer = PhysicsConv(dims, 4, 6, **arguments, boundary_mode=mode, key=KEY, dtype=dtype)
        x = jnp.asarray(np.random.default_rng(0).standard_normal((4, *shape)), dtype)
        ones = jnp.ones(shape, bool)
        masks = (None, ones, jnp.ones_like(x))
        call = jax.jit(lambda x, masks, layer=layer: [layer(x, mask=mask) for mask in masks])
        plain, *masked = call(x, masks)
        for found in masked:
            np.testing.assert_array_equal(plain, found)


def test_what_is_masked_out_has_no_influence():
    layer = PhysicsConv(2, 2, 3, 3, boundary_mode="neumann_cell", key=KEY)
    draw = np.random.default_rng(3)
    x, mask = jnp.asarray(draw.standard_normal((2, 6, 5)), jnp.float32), draw.random((6, 5)) < 0.7
    loss = lambda x: jnp.sum(jnp.sin(layer(x, mask=mask)))
    value, gradient = jax.jit(jax.value_and_grad(loss))(x)
    for other in (np.nan, np.inf, 1e30):
        spoiled = jnp.where(jnp.asarray(mask)[None], x, other)
        again, same = jax.jit(jax.value_and_grad(loss))(spoiled)
        assert value == again and np.isfinite(value)
        np.testing.assert_array_equal(gradient, same)
    assert not np.any(np.asarray(gradient)[:, ~mask])


def test_a_constant_stays_one_along_a_coast():
    """The scale keeps the mean of the present points from sinking at the coast."""
    layer = PhysicsConv(2, 1, 1, 3, boundary_mode="neumann_cell", use_bias=False, key=KEY)
    layer = eqx.tree_at(lambda layer: layer.weight, layer, jnp.full((1, 1, 3, 3), 1 / 9))
    mask = np.random.default_rng(4).random((7, 6)) < 0.5
    found = np.asarray(layer(jnp.ones((1, 7, 6)), mask=mask))[0]
    reached = np.asarray(dilate_mask(mask, layer))
    # Nine sums of a ninth, and a factor.
    np.testing.assert_allclose(found[reached], 1, rtol=0, atol=12 * np.finfo(np.float32).eps)
    assert not found[~reached].any()


def test_masks_of_a_batch_and_an_ensemble(x64):
    layers = eqx.filter_vmap(lambda key: PhysicsConv(1, 4, 3, 3, boundary_mode=DIFFERENT, key=key))(
        jr.split(KEY, 2)
    )
    draw = np.random.default_rng(5)
    x, mask = jnp.asarray(draw.standard_normal((2, 4, 6))), jnp.asarray(draw.random((2, 6)) < 0.6)
    apply = eqx.filter_vmap(lambda layer, x, m: layer(x, mask=m))
    found = eqx.filter_jit(apply)(layers, x, mask)
    for i in range(2):
        layer = jax.tree.map(lambda leaf, i=i: leaf[i], layers)
        bound = 1e3 * np.finfo(float).eps  # of a dozen products of size one
        np.testing.assert_allclose(found[i], layer(x[i], mask=mask[i]), rtol=0, atol=bound)


@pytest.mark.parametrize("kind", ["bool", "int32", "float32"])
def test_zeros_and_ones_of_any_dtype(kind):
    layer = MorePaddingConv(1, 1, 2, 3, padding=1, padding_mode="reflect", key=KEY)
    x, mask = jnp.arange(5.0)[None], np.array([1, 0, 0, 1, 1])
    np.testing.assert_array_equal(layer(x, mask=mask.astype(kind)), layer(x, mask=mask == 1))
    np.testing.assert_array_equal(dilate_mask(mask.astype(kind), layer), np.ones(5, bool))


def test_sequences_of_layers_and_masks():
    """A mask grows by the reach of each layer, until no point is missing."""
    layer = PhysicsConv(1, 1, 1, 3, boundary_mode="outflow", key=KEY)
    mask = np.zeros(9, bool)
    mask[4] = True
    for reach in range(1, 5):
        mask = np.asarray(dilate_mask(mask, layer))
        assert mask.sum() == 1 + 2 * reach


@pytest.mark.parametrize(
    "mask, error, text",
    [
        (np.ones(5), ValueError, "`mask` must be on the grid of `x`, (4,), got shape (5,)"),
        (np.ones((3, 4)), ValueError, "or the channels (2 here) and these axes, got shape (3, 4)"),
        (np.ones((2, 2, 4)), ValueError, "batches go through `jax.vmap`"),
        (np.ones(4, complex), TypeError, "`mask` must be boolean, or 0 and 1, got complex"),
        ("land", TypeError, "`mask` must be an array, got 'land'"),
    ],
)
def test_bad_masks(mask, error, text):
    layer = PhysicsConv(1, 2, 3, 3, boundary_mode="zeros", key=KEY)
    with pytest.raises(error, match=re.escape(text)):
        layer(jnp.ones((2, 4)), mask=mask)


def test_masks_are_not_of_transposed_layers():
    layer = PhysicsConvTranspose(1, 2, 3, 3, boundary_mode="zeros", key=KEY)
    with pytest.raises(TypeError, match="`layer` must be a `PhysicsConv` or a `MorePaddingConv`"):
        dilate_mask(np.ones(4), layer)
