"""Tests the pointwise layer: a matrix at every point, initial arrays, transformations, errors."""

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

from pdequinox_pointwise import _cpu, PointwiseLinearConv


def make(key, out_channels=3, **arguments):
    return PointwiseLinearConv(2, 2, out_channels, key=key, **arguments)


@pytest.mark.parametrize("spatial", [(1,), (7,), (4, 5), (2, 3, 4), (2, 1, 3, 2)], ids=str)
@pytest.mark.parametrize("channels", [(2, 3), (5, 1)], ids=str)
@pytest.mark.parametrize("use_bias", [True, False])
def test_matrix_at_every_point(spatial, channels, use_bias, dtype):
    check_matrix(spatial, channels, use_bias, dtype)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_half_precision(name):
    check_matrix((4, 5), (2, 3), True, name)


@settings(max_examples=10)
@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=4),
    st.tuples(st.integers(1, 4), st.integers(1, 4)),
    st.booleans(),
)
def test_random_layers(spatial, channels, use_bias):
    check_matrix(spatial, channels, use_bias, "float32")


def check_matrix(spatial, channels, use_bias, dtype):
    dims = len(spatial)
    layer = PointwiseLinearConv(dims, *channels, use_bias, key=jr.key(0), dtype=dtype)
    x = jnp.asarray(np.random.default_rng(1).standard_normal((channels[0], *spatial)), dtype)
    weight = np.asarray(layer.weight, float).reshape(channels[::-1])
    bias = np.asarray(layer.bias, float) if use_bias else np.zeros((1,) * (dims + 1))
    expected = np.einsum("oi,i...->o...", weight, np.asarray(x, float)) + bias
    magnitude = np.einsum("oi,i...->o...", np.abs(weight), np.abs(np.asarray(x, float)))
    oracles.assert_within_rounding(
        eqx.filter_jit(layer)(x), expected, magnitude + np.abs(bias), channels[0] + 1
    )


@pytest.mark.parametrize("dtype_name", [None, "float16", "bfloat16", "float32"])
def test_initial_arrays_are_those_of_equinox(dtype_name, dtype):
    ours = make(jr.key(3), dtype=dtype_name)
    theirs = eqx.nn.Conv(2, 2, 3, 1, key=jr.key(3), dtype=dtype_name)
    for a, b in [(ours.weight, theirs.weight), (ours.bias, theirs.bias)]:
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def test_zero_bias_and_receptive_field():
    assert not jnp.any(make(jr.key(0), zero_bias_init=True).bias)
    assert jnp.all(make(jr.key(0)).bias != 0)
    assert make(jr.key(0), use_bias=False, zero_bias_init=True).bias is None


def test_receptive_field_is_the_support_of_the_jacobian():
    layer = PointwiseLinearConv(1, 2, 3, key=jr.key(0))
    jacobian = jax.jit(lambda x: jax.jacobian(layer)(x))(jnp.ones((2, 5)))
    outputs, inputs = np.nonzero(np.any(np.asarray(jacobian) != 0, axis=(0, 2)))
    offsets = inputs - outputs
    assert ((-offsets.min(), offsets.max()),) == layer.receptive_field == ((0.0, 0.0),)
    assert make(jr.key(0)).receptive_field == ((0.0, 0.0), (0.0, 0.0))


def gain(layer):
    weight = jnp.abs(layer.weight.astype(jnp.float32))
    return jnp.max(jnp.sum(weight, axis=(1, 2, 3))) + jnp.max(
        jnp.abs(layer.bias.astype(jnp.float32))
    )


SUBJECT = transforms.Subject(
    make=make,
    square=lambda key: make(key, out_channels=2),
    in_channels=2,
    spatial=(5, 4),
    terms=2 + 1,
    gain=gain,
)


@pytest.mark.parametrize("check", transforms.CHECKS, ids=lambda check: check.__name__)
def test_under(check, dtype):
    check(SUBJECT, dtype)


@pytest.mark.parametrize("name", ["num_spatial_dims", "in_channels", "out_channels"])
@pytest.mark.parametrize(
    "value, error",
    [(0, ValueError), (-1, ValueError), (True, TypeError), (1.5, TypeError), ("2", TypeError)],
)
def test_integers(name, value, error):
    arguments = dict(num_spatial_dims=2, in_channels=2, out_channels=3, key=jr.key(0))
    text = f"`{name}` must be an integer >= 1, got {value!r}"
    with pytest.raises(error, match=re.escape(text)):
        PointwiseLinearConv(**(arguments | {name: value}))


def test_dtypes(x64):
    for wrong in ("complex64", "int32", "nonsense"):
        with pytest.raises(TypeError, match=f"`dtype` must be None or one of .* got '{wrong}'"):
            make(jr.key(0), dtype=wrong)
    assert make(jr.key(0)).weight.dtype == jnp.float64


def test_double_precision_must_be_switched_on():
    with pytest.raises(ValueError, match=r"got float64: set .*`jax_enable_x64`"):
        make(jr.key(0), dtype="float64")


@pytest.mark.parametrize(
    "x, error, text",
    [
        (np.zeros((2, 8), "f4"), ValueError, "(in_channels=2, N_1, N_2), got (2, 8)"),
        (np.zeros((3, 8, 8), "f4"), ValueError, "got (3, 8, 8)"),
        (np.zeros((5, 2, 8, 8), "f4"), ValueError, "use `jax.vmap` for a batch"),
        (np.zeros((2, 8, 0), "f4"), ValueError, "every N at least 1"),
        (np.zeros((2, 8, 8), "c8"), TypeError, "`x` must be real, got dtype complex64"),
        (np.zeros((2, 8, 8), "f2"), TypeError, "parameters, float32, got float16"),
    ],
)
def test_inputs(x, error, text):
    with pytest.raises(error, match=re.escape(text)):
        make(jr.key(0))(x)


def training_step(layer, x, cotangent):
    loss = lambda layer, x: jnp.sum(jax.vmap(layer)(x) * cotangent)
    return jax.value_and_grad(loss, argnums=(0, 1))(layer, x)


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="about XLA's CPU backend")
def test_no_copy_of_the_batch_is_made(monkeypatch):
    """The channels of a batch need not be brought together, as they are for a shared weight. With
    the XLA of JAX 0.10, a step stores less than one sample beside its results.
    """
    layer = PointwiseLinearConv(2, 8, 16, key=jr.key(0))
    x, cotangent = jnp.ones((6, 8, 32, 32)), jnp.ones((6, 16, 32, 32))

    def memory():
        step = jax.jit(lambda *arguments: training_step(*arguments))
        compiled = step.lower(layer, x, cotangent).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    own = memory()
    monkeypatch.setattr(_cpu, "_small", lambda *_: False)
    assert own < memory()
    assert jax.__version_info__ < (0, 10) or own < x[0].nbytes


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_point_that_is_not_finite_is_its_own_matter(bad):
    layer, clean = make(jr.key(0)), jnp.ones((3, 2, 4, 5))
    x = clean.at[1, 0, 0, 0].set(bad)
    apply = jax.jit(jax.vmap(layer))
    out = np.array(apply(x))
    assert not np.any(np.isfinite(out[1, :, 0, 0]))
    out[1, :, 0, 0] = apply(clean)[1, :, 0, 0]
    np.testing.assert_array_equal(out, apply(clean))


@pytest.mark.parametrize("spatial", [(8, 8), (1, 2)], ids=str)
def test_gradients_of_a_batch_are_sums_over_its_samples(spatial):
    """On the small grid the weights would have more numbers than the field, and stay shared."""
    layer = PointwiseLinearConv(2, 4, 6, key=jr.key(0))
    normal = np.random.default_rng(1).standard_normal
    x, cotangent = (jnp.asarray(normal((5, c, *spatial)), jnp.float32) for c in (4, 6))
    _, (by_layer, by_x) = jax.jit(training_step)(layer, x, cotangent)
    points = lambda v: np.asarray(v, float).reshape(*v.shape[:2], -1)
    weight = np.asarray(layer.weight, float).reshape(6, 4)
    checks = [
        (by_layer.weight.reshape(6, 4), "bon,bin->oi", points(cotangent), points(x)),
        (by_x.reshape(5, 4, -1), "oi,bon->bin", weight, points(cotangent)),
    ]
    for actual, sums, a, b in checks:
        magnitude = np.einsum(sums, np.abs(a), np.abs(b))
        terms = 6 if "oi,bon" in sums else 5 * spatial[0] * spatial[1]
        oracles.assert_within_rounding(actual, np.einsum(sums, a, b), magnitude, terms)


def test_any_number_of_samples_and_points():
    export = pytest.importorskip(
        "jax.export"
    )  # JAX 0.4.38 imports absl there without asking for it.
    layer = PointwiseLinearConv(1, 4, 6, key=jr.key(0))
    samples, points = export.symbolic_shape("samples, points")
    spec = jax.ShapeDtypeStruct((samples, 4, points), jnp.float32)
    exported = export.export(jax.jit(jax.vmap(layer)))(spec)
    x = jnp.asarray(np.random.default_rng(0).standard_normal((3, 4, 50)), jnp.float32)
    weight, bias = np.asarray(layer.weight, float)[..., 0], np.asarray(layer.bias, float)
    expected = np.einsum("oi,bij->boj", weight, np.asarray(x, float)) + bias
    magnitude = np.einsum("oi,bij->boj", np.abs(weight), np.abs(np.asarray(x, float))) + abs(bias)
    oracles.assert_within_rounding(exported.call(x), expected, magnitude, 5)


def test_linear_transpose_by_the_field():
    layer = PointwiseLinearConv(1, 4, 6, use_bias=False, key=jr.key(0))
    y = jnp.asarray(np.random.default_rng(0).standard_normal((6, 5)), jnp.float32)
    (x,) = jax.linear_transpose(lambda x: layer(x), jnp.zeros((4, 5)))(y)
    weight, y = np.asarray(layer.weight, float)[..., 0], np.asarray(y, float)
    oracles.assert_within_rounding(x, weight.T @ y, abs(weight).T @ abs(y), 6)
