"""Tests weights that are factors: each kind against the dense array that its factors stand for,
which is put together here, mode by mode.
"""

import itertools
import math
import re

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import oracles
import pytest
import transforms
from hypothesis import given, settings, strategies as st
from jax.experimental.jet import jet
from jaxprs import equations

from pdequinox_operators import plain_operations
from pdequinox_padding import per_channel
from pdequinox_spectralconv import dense_weights, SpectralConv


KEY = jr.key(0)
P, N, C = "periodic", "neumann", "neumann_cell"
D, DN, DC = "dirichlet", "dirichlet_node", "dirichlet_cell"


def kinds(dims):
    """Lists every kind of weights but dense, with ranks above and below the numbers of channels."""
    ranks = (2, 3, *itertools.islice(itertools.cycle((3, 1, 2)), dims))
    return ["depthwise", "axiswise", ("cp", 1), ("cp", 5), ("tucker", 2), ("tucker", ranks)]


def channels_of(weights):
    return (3, 3) if weights == "depthwise" else (2, 4)


def pairs(boundary_mode, dims):
    """Gives a pair of names for each axis."""
    entries = [boundary_mode] * dims if isinstance(boundary_mode, str) else boundary_mode
    return [(entry, entry) if isinstance(entry, str) else tuple(entry) for entry in entries]


def arrays(layer):
    """Gives the complex arrays of the weights in float64, or the real ones between walls."""
    as_tuple = lambda w: w if isinstance(w, tuple) else (w,)
    real = [np.asarray(w, np.float64) for w in as_tuple(layer.weights_real)]
    if layer.weights_imag is None:
        return real
    imag = [np.asarray(w, np.float64) for w in as_tuple(layer.weights_imag)]
    return [a + 1j * b for a, b in zip(real, imag, strict=True)]


def matrix(weights, given, signs, index):
    """Computes a mode's matrix from factors; `signs` is 1 on axes with a negative wavenumber."""
    kind = weights if isinstance(weights, str) else weights[0]
    places = list(zip(signs, index, strict=True))
    if kind == "axiswise":
        return sum(w[sign, :, :, k] for w, (sign, k) in zip(given, places, strict=True))
    outer, inner, *others = given
    if kind == "cp":
        rows = [w[sign, :, k] for w, (sign, k) in zip(others, places, strict=True)]
        return sum(
            math.prod(row[r] for row in rows) * np.multiply.outer(outer[:, r], inner[:, r])
            for r in range(outer.shape[1])
        )
    *axes, core = others
    for w, (sign, k) in zip(axes, places, strict=True):
        core = np.tensordot(core, w[sign, :, k], (2, 0))
    return outer @ core @ inner.T


def dense_of(layer, ends, of=lambda array: array):
    """Makes the dense array from `of(array)` for each array of the weights."""
    given = [of(array) for array in arrays(layer)]
    if layer.weights == "dense":
        return given[0]
    full = [axis for axis, pair in enumerate(ends) if pair[0] == P][:-1]
    shape = (2 ** len(full), layer.out_channels, layer.in_channels, *layer.num_modes)
    dense = np.zeros(shape, given[0].dtype)
    for _, (group, *index) in oracles.kept_modes(layer.num_modes, ends):
        signs = [group >> full.index(a) & 1 if a in full else 0 for a in range(len(index))]
        if layer.weights == "depthwise":
            own = np.diag(given[0][(group, slice(None), *index)])
        else:
            own = matrix(layer.weights, given, signs, index)
        dense[(group, slice(None), slice(None), *index)] = own
    return dense


def contraction_steps(weights, channels, dims):
    """Counts the roundings of one multiplier and its product, in units of the sum of absolute
    values: one for each term of every sum, and three for each product of complex numbers.
    """
    in_channels, _ = channels
    if isinstance(weights, str):
        return dims + 3 * in_channels + 3
    kind, ranks = weights
    count = dims + (2 if kind == "cp" else 3)
    ranks = [ranks] * count if isinstance(ranks, int) else [*ranks, 1]
    return 2 * (in_channels + sum(ranks) + 3 * count)


def rounding_steps(layer, spatial, output_shape, ends):
    """Bounds the error of the output, in `eps` of the sums of absolute values; the transforms are
    bounded as in test_spectral_conv.py.
    """
    steps = contraction_steps(layer.weights, (layer.in_channels, layer.out_channels), len(spatial))
    for sizes, m in zip(zip(spatial, output_shape, strict=True), layer.num_modes, strict=True):
        product, fast = sizes[0] + 2 * m + 2, 8 * math.log2(4 * max(sizes) + 4)
        steps += max(product, fast) + 4
    return 2 ** sum(lower == P for lower, _ in ends) * steps


def normal(shape, dtype=None, seed=1):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def check(layer, x, output_shape=None):
    """Compares with the sum over all modes with the dense array, in float64."""
    ends = pairs(layer.boundary_mode, layer.num_spatial_dims)
    dense = dense_of(layer, ends)
    parts = (dense.real, dense.imag if layer.weights_imag is not None else None)
    expected, _ = oracles.spectral_convolution(x, *parts, ends, output_shape)
    _, bound = oracles.spectral_convolution(
        x, dense_of(layer, ends, np.abs), None, ends, output_shape
    )
    actual = jax.jit(lambda layer, x: layer(x, output_shape=output_shape))(layer, x)
    assert actual.dtype == x.dtype and actual.shape == expected.shape
    eps = float(jnp.finfo(x.dtype).eps)
    working_eps = min(eps, float(jnp.finfo(jnp.float32).eps))
    steps = rounding_steps(layer, x.shape[1:], output_shape or x.shape[1:], ends)
    # Half-precision fields are computed in float32, which leaves one rounding of the output.
    np.testing.assert_allclose(
        np.asarray(actual, float), expected, rtol=eps, atol=bound * working_eps * steps
    )


CASES = [
    (P, (7,), (4,)),
    (P, (6, 8), (3, 5)),
    (P, (4, 5, 6), (2, 1, 3)),
    (P, (4, 2, 3, 4), (2, 1, 1, 2)),
    (N, (6,), (6,)),
    (C, (5, 4), (3, 2)),
    ([(DC, N), (DN, D)], (5, 4), (3, 4)),
    ([P, DC], (6, 5), (3, 2)),
    ([DN, P, P], (3, 4, 5), (2, 2, 3)),
    ([P, (C, DC), P], (4, 3, 5), (2, 3, 2)),
]


@pytest.mark.parametrize(
    "boundary_mode, spatial, num_modes, weights",
    [(*case, weights) for case in CASES for weights in kinds(len(case[1]))],
    ids=str,
)
def test_equals_the_dense_layer(boundary_mode, spatial, num_modes, weights, x64):
    """Tests initial weights, on the layer's own grid and on a finer one."""
    channels = channels_of(weights)
    layer = SpectralConv(
        len(spatial), *channels, num_modes, boundary_mode=boundary_mode, weights=weights,
        weight_scale=0.7, key=KEY,
    )  # fmt: skip
    x = normal((channels[0], *spatial))
    check(layer, x)
    check(layer, x, tuple(n + 3 for n in spatial))


def test_equals_the_dense_layer_in_every_basis(x64):
    for ends, weights in zip(oracles.WALL_ENDS, itertools.cycle(kinds(1)), strict=False):
        channels = channels_of(weights)
        layer = SpectralConv(1, *channels, 3, boundary_mode=[ends], weights=weights, key=KEY)
        check(layer, normal((channels[0], 5)))


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
@pytest.mark.parametrize("weights", kinds(2), ids=str)
def test_half_precision_is_computed_in_float32(weights, half):
    channels = channels_of(weights)
    arguments = dict(weights=weights, weight_scale=0.7, dtype=half, key=KEY)
    layer = SpectralConv(2, *channels, (3, 4), **arguments)
    assert {leaf.dtype for leaf in jax.tree.leaves(layer)} == {jnp.dtype(half)}
    check(layer, normal((channels[0], 7, 6), half))


@settings(max_examples=10)
@given(data=st.data())
def test_random_layers(data):
    dims = data.draw(st.integers(1, 3), "axes")
    ends = data.draw(st.tuples(*[st.sampled_from((P, N, C, DC, D))] * dims), "ends")
    spatial = data.draw(st.tuples(*[st.integers(2, 5)] * dims), "grid")
    num_modes = [
        data.draw(st.integers(1, n // 2 if end == P else n))
        for n, end in zip(spatial, ends, strict=True)
    ]
    ranks = data.draw(st.tuples(*[st.integers(1, 4)] * (dims + 2)), "ranks")
    weights = data.draw(st.sampled_from(["axiswise", ("cp", ranks[0]), ("tucker", ranks)]))
    channels = data.draw(st.tuples(st.integers(1, 4), st.integers(1, 4)), "channels")
    seed = data.draw(st.integers(0, 2**16), "seed")
    layer = SpectralConv(
        dims, *channels, num_modes, boundary_mode=[*ends], weights=weights, weight_scale=1.0,
        key=jr.key(seed),
    )  # fmt: skip
    check(layer, normal((channels[0], *spatial), jnp.float32, seed))


@pytest.mark.parametrize("weights", kinds(2), ids=str)
def test_dense_weights(weights, dtype):
    channels = channels_of(weights)
    layer = SpectralConv(2, *channels, (3, 4), weights=weights, weight_scale=1.0, key=KEY)
    expected, size = (dense_of(layer, [(P, P)] * 2, of) for of in (lambda a: a, np.abs))
    real, imag = dense_weights(layer)
    atol = contraction_steps(weights, channels, 2) * float(jnp.finfo(dtype).eps) * size.max()
    assert real.dtype == imag.dtype == dtype
    np.testing.assert_allclose(
        np.asarray(real) + 1j * np.asarray(imag), expected, rtol=0, atol=atol
    )


def test_dense_weights_of_dense_layers_are_their_own():
    layer = SpectralConv(2, 2, 3, (3, 4), key=KEY)
    assert dense_weights(layer) == (layer.weights_real, layer.weights_imag)
    real, imag = dense_weights(
        SpectralConv(1, 2, 3, 4, boundary_mode=N, weights=("cp", 2), key=KEY)
    )
    assert real.shape == (1, 3, 2, 4) and imag is None


@pytest.mark.parametrize("weights", kinds(2), ids=str)
def test_modes_per_channel(weights, x64):
    """The factors do not depend on which functions the modes of a channel are."""
    channels = channels_of(weights)
    modes = dict(
        boundary_mode=per_channel((1, [P, C]), (channels[0] - 1, [P, DC])),
        out_boundary_mode=per_channel((channels[1] - 1, [P, DC]), (1, [P, N])),
    )
    make = lambda weights: SpectralConv(2, *channels, (3, 4), weights=weights, key=KEY, **modes)
    layer, dense = make(weights), make("dense")
    both = dense_of(layer, [(P, P), (C, C)])
    where = lambda f: (f.weights_real, f.weights_imag)
    dense = eqx.tree_at(where, dense, (jnp.asarray(both.real), jnp.asarray(both.imag)))
    x = normal((channels[0], 8, 7))
    steps = rounding_steps(layer, (8, 7), (8, 7), [(P, P), (C, C)])
    # No coefficient divided by the number of points exceeds the field. It counts four times: twice
    # between walls, and twice for its partner.
    size = dense_of(layer, [(P, P), (C, C)], np.abs).sum(axis=(0, 2, 3, 4)).max()
    bound = 4 * size * np.abs(x).max()
    np.testing.assert_allclose(layer(x), dense(x), rtol=0, atol=2 * steps * 2.3e-16 * bound)


# What they consist of


def shapes_of(tree):
    return [leaf.shape for leaf in jax.tree.leaves(tree)]


SHAPES = {
    "depthwise": lambda g: [(g, 3, 4, 5, 6)],
    "axiswise": lambda g: [(g, 3, 3, 4), (1, 3, 3, 5), (1, 3, 3, 6)],
    ("cp", 7): lambda g: [(3, 7), (3, 7), (g, 7, 4), (1, 7, 5), (1, 7, 6)],
    ("tucker", 2): lambda g: [*[(3, 2), (3, 2), (g, 2, 4), (1, 2, 5), (1, 2, 6), (2, 2, 2, 2, 2)]],
    ("tucker", (1, 2, 3, 4, 5)): lambda g: [
        *[(3, 1), (3, 2), (g, 3, 4), (1, 4, 5), (1, 5, 6), (1, 2, 3, 4, 5)]
    ],
}


@pytest.mark.parametrize("weights", SHAPES, ids=str)
def test_shapes(weights):
    """An axis has two groups if it is periodic and not the last such one."""
    make = lambda mode: SpectralConv(
        3, 3, 3, (4, 5, 6), boundary_mode=mode, weights=weights, key=KEY
    )
    layer, walls = make([P, N, P]), make(N)
    assert shapes_of(layer.weights_real) == shapes_of(layer.weights_imag) == SHAPES[weights](2)
    assert walls.weights_imag is None and shapes_of(walls.weights_real) == SHAPES[weights](1)


@pytest.mark.parametrize("weights", ["dense", *kinds(1)[:-1], ("tucker", (2, 3, 4))], ids=str)
def test_weights_as_they_are_spelled(weights):
    layer = SpectralConv(1, 3, 3, 4, weights=weights, key=KEY)
    spelled = ("tucker", (2, 2, 2)) if weights == ("tucker", 2) else weights
    assert layer.weights == spelled
    again = SpectralConv(1, 3, 3, 4, weights=layer.weights, key=KEY)
    assert eqx.tree_equal(again, layer)


@pytest.mark.parametrize(
    "value",
    ["cp", "full", None, 3, ("cp",), ("cp", 0), ("cp", 2.5), ("cp", (1, 2)), ("tucker", (2, 2, 2)),
     ("tucker", (2, 2, 2, 0)), ("tt", 3), ("dense", 1), (["cp"], 2), ("cp", True)],
    ids=str,
)  # fmt: skip
def test_what_weights_may_not_be(value):
    message = (
        "`weights` must be 'dense', 'depthwise', 'axiswise', ('cp', rank) or ('tucker', ranks), "
        "with integers >= 1: one rank, or one for each of (out_channels, in_channels, *num_modes), "
        f"4 here, got {value!r}."
    )
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        SpectralConv(2, 3, 3, 4, weights=value, key=KEY)


def test_depthwise_needs_as_many_channels():
    with pytest.raises(ValueError, match=r"`weights` may be 'depthwise' only if .* got 2 and 3"):
        SpectralConv(2, 2, 3, 4, weights="depthwise", key=KEY)


@pytest.mark.parametrize("boundary_mode", [P, N])
@pytest.mark.parametrize("weights", ["dense", *kinds(1)], ids=str)
def test_an_ensemble_is_not_called_as_one_layer(weights, boundary_mode):
    make = lambda key: SpectralConv(
        1, 3, 3, 4, boundary_mode=boundary_mode, weights=weights, key=key
    )
    layers = eqx.filter_vmap(make)(jr.split(KEY, 2))
    for function in (lambda layer: layer(jnp.zeros((3, 8))), dense_weights):
        with pytest.raises(ValueError, match=r"`weights_real` must .* by `equinox.filter_vmap`"):
            function(layers)


# Initial weights


@pytest.mark.parametrize(
    "weights, boundary_mode",
    [*((weights, P) for weights in kinds(2) if weights != ("cp", 1)), (("tucker", 2), N)],
    ids=str,
)
def test_the_initial_variance_is_that_of_the_dense_layer(weights, boundary_mode):
    """Over many keys, both parts of the multipliers have this variance, to five standard errors."""
    channels, scale = channels_of(weights), 0.3
    make = lambda key: SpectralConv(
        2, *channels, 2, boundary_mode=boundary_mode, weights=weights, weight_scale=scale, key=key
    )
    layers = eqx.filter_vmap(make)(jr.split(jr.key(1, impl="threefry2x32"), 4000))
    for part in eqx.filter_vmap(dense_weights)(layers):
        if part is None:
            assert boundary_mode == N
            continue
        if weights == "depthwise":
            part = jnp.diagonal(part, axis1=2, axis2=3)
        squares = np.asarray(part, float).reshape(len(part), -1) ** 2
        of_each = squares.mean(axis=1)  # A layer's multipliers are not independent.
        error = of_each.std() / math.sqrt(len(of_each))
        assert 0 < error < 0.1 * scale**2
        assert abs(of_each.mean() - scale**2) < 5 * error


def test_dense_layers_start_as_before():
    """Dense weights are drawn with the two halves of the key, as in pdequinox."""
    layer = SpectralConv(2, 3, 5, (2, 4), key=KEY)
    for part, key in zip((layer.weights_real, layer.weights_imag), jr.split(KEY), strict=True):
        np.testing.assert_array_equal(part, 1 / 15 * jr.normal(key, (2, 5, 3, 2, 4)))


# The dense array is not formed


@pytest.mark.parametrize(
    "weights", ["depthwise", "axiswise", ("cp", 48), ("tucker", (48, 48, 4, 4))], ids=str
)
def test_the_dense_array_is_not_formed(weights, x64):
    """The dense array is formed neither for values nor for gradients, even if the ranks of the
    channels are their numbers. It is 48 times as large as the coefficients of one sample.
    """
    channels, num_modes, spatial = 48, 16, 32
    dense = 2 * channels**2 * num_modes**2
    layer = SpectralConv(2, channels, channels, num_modes, weights=weights, key=KEY)
    x = jax.ShapeDtypeStruct((channels, spatial, spatial), jnp.float64)
    loss = lambda layer, x: jnp.sum(layer(x) ** 2)
    program = jax.make_jaxpr(jax.grad(loss, (0, 1)))(layer, x)
    sizes = [v.aval.size for eqn in equations(program) for v in (*eqn.invars, *eqn.outvars)]
    assert max(sizes) < dense / 4
    compiled = jax.jit(jax.grad(loss, (0, 1))).lower(layer, x).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 2 * 8 * dense


def test_matrices_that_are_made_few_at_a_time(x64):
    """Factors give the values and the gradients of the dense array."""
    weights, channels = ("tucker", (48, 24, 4, 3)), (24, 48)
    layer = SpectralConv(2, *channels, 16, weights=weights, weight_scale=1.0, key=KEY)
    x, c = normal((2, 24, 33, 34)), normal((2, 48, 33, 34), seed=2)
    names = {e.primitive.name for e in equations(jax.make_jaxpr(layer)(x[0]))}
    assert "scan" in names

    def dense(layer):
        """Computes the layer in JAX, whose derivatives are known, with the values of the oracle."""
        outer, inner, first, second, core = (
            jax.lax.complex(*both)
            for both in zip(layer.weights_real, layer.weights_imag, strict=True)
        )
        whole = jnp.einsum("op,iq,gcm,dn,pqcd->goimn", outer, inner, first, second[0], core)
        plain = SpectralConv(2, *channels, 16, key=KEY)
        where = lambda f: (f.weights_real, f.weights_imag)
        return eqx.tree_at(where, plain, (whole.real, whole.imag))

    np.testing.assert_allclose(
        jax.lax.complex(*dense_weights(dense(layer))), dense_of(layer, [(P, P)] * 2), rtol=0,
        atol=1e-12,
    )  # fmt: skip
    loss = lambda layer, x: jnp.sum(c * jax.vmap(layer)(x))
    found = jax.value_and_grad(loss, (0, 1))(layer, x)
    wanted = jax.value_and_grad(lambda layer, x: loss(dense(layer), x), (0, 1))(layer, x)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        # Sums over the points, samples, modes, channels and ranks, in another order each.
        terms = 2 * (33 * 34 + 2 * 16 * 16 + 72 + 79)
        np.testing.assert_allclose(a, b, rtol=0, atol=terms * 2.3e-16 * max(np.abs(b).max(), 1.0))


# Under transformations


def gain(layer):
    """As in test_spectral_transforms.py, with what bounds a multiplier: the product of the sums of
    the factors' absolute values, or the sum of these.
    """
    as_tuple = lambda part: part if isinstance(part, tuple) else (part,)
    both = zip(as_tuple(layer.weights_real), as_tuple(layer.weights_imag), strict=True)
    sums = [jnp.sum(jnp.hypot(*(v.astype(jnp.float32) for v in parts))) for parts in both]
    return 2 * (math.prod(sums) if layer.structure.ranks else sum(sums))


def subject(weights):
    channels = 3 if weights == "depthwise" else 2

    def make(key, out_channels=3, **arguments):
        return SpectralConv(
            2, channels, out_channels, (2, 3), weights=weights, weight_scale=0.7, key=key,
            **arguments,
        )  # fmt: skip

    layer = make(KEY)
    return transforms.Subject(
        make=make,
        square=lambda key: make(key, out_channels=channels),
        in_channels=channels,
        spatial=(5, 6),
        terms=math.ceil(rounding_steps(layer, (5, 6), (5, 6), [(P, P)] * 2)),
        gain=gain,
    )


@pytest.mark.parametrize("weights", [("cp", 3), ("tucker", 2)], ids=str)
@pytest.mark.parametrize("check", transforms.CHECKS, ids=lambda check: check.__name__)
def test_under(check, weights, x64):
    check(subject(weights), jnp.dtype("float64"))


@pytest.mark.parametrize("weights", ["depthwise", "axiswise", ("cp", 3), ("tucker", 2)], ids=str)
def test_taylor_mode(weights, x64):
    """Compares the first two derivatives by the weights and the field with those of JAX."""
    of = subject(weights)
    layer, x = of.make(KEY), of.field(1, jnp.float64)
    leaves, tree = jax.tree.flatten(layer)
    direction = [normal(leaf.shape, seed=3) for leaf in leaves]
    call = lambda *leaves: jax.tree.unflatten(tree, leaves[:-1])(leaves[-1])
    given, tangents = (*leaves, x), (*direction, of.field(4, jnp.float64))
    _, (first, second) = jet(call, given, [[t, jnp.zeros_like(t)] for t in tangents])
    along = lambda t: call(*(a + t * b for a, b in zip(given, tangents, strict=True)))
    slope = jax.jacfwd(along)
    for found, wanted in ((first, slope(0.0)), (second, jax.jacfwd(slope)(0.0))):
        # Sums of products of up to seven factors of order 1, of which each may be derived.
        atol = 2 * of.terms * 7**2 * 2.3e-16 * max(1.0, float(jnp.abs(wanted).max()))
        np.testing.assert_allclose(found, wanted, rtol=0, atol=atol)


@pytest.mark.parametrize("weights", ["depthwise", "axiswise", ("cp", 3), ("tucker", 2)], ids=str)
def test_plain_operations(weights):
    of = subject(weights)
    layer, x = of.make(KEY), of.field(1, jnp.float32)
    with plain_operations():
        program = jax.make_jaxpr(layer)(x)
        actual = layer(x)
    assert not [e for e in equations(program) if e.primitive.name.startswith("pdequinox")]
    transforms.assert_equal_to_rounding(of, layer, x, actual, layer(x))


# Precision


@pytest.mark.parametrize("asked", [None, "BF16_BF16_F32", "tensorfloat32"])
@pytest.mark.parametrize("weights", ["dense", *kinds(2)[1:]], ids=str)
def test_products_are_as_precise_as_the_caller_asks(weights, asked):
    """Products are in full float32 by default, also where a backend would round factors."""
    layer = SpectralConv(2, 2, 4, (3, 4), weights=weights, method="product", key=KEY)
    with plain_operations(), jax.default_matmul_precision(asked):
        program = jax.make_jaxpr(layer)(jnp.zeros((2, 8, 9)))
    found = {
        str(e.params["precision"])
        for e in equations(program)
        if e.primitive.name == "dot_general" and e.params["dimension_numbers"][0][0]
    }
    highest = str((jax.lax.Precision.HIGHEST, jax.lax.Precision.HIGHEST))
    with jax.default_matmul_precision(asked):
        plain = jax.make_jaxpr(jnp.matmul)(jnp.zeros((2, 2)), jnp.zeros((2, 2)))
    (product,) = (e for e in equations(plain) if e.primitive.name == "dot_general")
    assert found == {str(product.params["precision"]) if asked else highest}


@pytest.mark.parametrize("method", ["product", "fft"])
@pytest.mark.parametrize("weights", ["dense", *kinds(2)[1:]], ids=str)
def test_waves_survive_a_large_mean_in_float32(weights, method):
    """With a mean of 1000 and waves of 1, the waves are off by the roundings of the mean."""
    arguments = dict(weights=weights, weight_scale=0.5, method=method, key=KEY)
    layer = SpectralConv(2, 2, 4, (3, 4), **arguments)
    x = 1000 + normal((2, 16, 15), "float32")
    real, imag = (np.asarray(part, float) for part in dense_weights(layer))
    ends = [(P, P)] * 2
    expected, _ = oracles.spectral_convolution(x, real, imag, ends)
    _, bound = oracles.spectral_convolution(x, dense_of(layer, ends, np.abs), None, ends)
    waves = lambda y: np.asarray(y, float) - np.mean(y, axis=(1, 2), keepdims=True)
    lost = np.abs(waves(layer(x)) - waves(expected)).max()
    # The results with dense weights are off by the roundings of their contraction too.
    steps = 2 * rounding_steps(layer, (16, 15), (16, 15), ends)
    assert lost <= 2 * bound * steps * float(jnp.finfo("float32").eps)
    assert lost < 0.01 * np.abs(waves(expected)).max()
