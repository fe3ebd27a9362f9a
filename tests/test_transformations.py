"""Tests what JAX and its tools do with a layer: each row is checked for every layer and, as a
witness, for the layer of `equinox.nn`.

A row is one function of a `Case` (tests/support/columns.py), and a column is one entry of
`COLUMNS`. If a row fails for the witness on this version of JAX, the layers need not pass it,
unless it is `demanded` of them.
"""

import concurrent.futures
import contextlib
import copy
import dataclasses
import functools
import importlib
import io
import math
import pickle
from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from columns import case as case_of, COLUMNS, flatten, largest, square_layers
from jax.ad_checkpoint import checkpoint_name
from jax.experimental import checkify
from jax.experimental.jet import jet
from jax.sharding import PartitionSpec as P
from jaxprs import primitives

from pdequinox_operators import plain_operations as plain_operations_of_jax
from pdequinox_padding import pad
from pdequinox_physconv import PhysicsConv, PhysicsConvTranspose


@dataclasses.dataclass(frozen=True)
class Row:
    check: Callable
    dtypes: tuple[str, ...]
    demanded: bool


ROWS: dict[str, Row] = {}


def row(*, dtypes=("float32", "float64"), demanded=False, **parameters):
    """Adds a check to the rows, once for each value if there is a parameter."""

    def register(check):
        if not parameters:
            ROWS[check.__name__] = Row(check, dtypes, demanded)
        for name, values in parameters.items():
            for value in values:
                bound = functools.partial(check, **{name: value})
                ROWS[f"{check.__name__}-{value}"] = Row(bound, dtypes, demanded)
        return check

    return register


# These rows give the same values as another row, which runs in both dtypes.
once = functools.partial(row, dtypes=("float32",))


def call(layer, x):
    return layer(x)


def stacked(layers):
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *layers)


# Values -------------------------------------------------------------------------------------------


@row()
def eager(case):
    case.agrees(case.layer(case.x))


@row()
def jit(case):
    case.agrees(jax.jit(call)(case.layer, case.x))


@once()
def filter_jit(case):
    case.agrees(eqx.filter_jit(case.layer)(case.x))


@once()
def disable_jit(case):
    c = case.cotangent()
    with jax.disable_jit():
        y, pull = jax.vjp(call, case.layer, case.x)
        by_layer, by_field = pull(c)
    case.agrees(y)
    case.is_derivative_by_layer(by_layer, c)
    case.is_derivative_by_field(by_field, c)


@once()
def strict_promotion_and_ranks(case):
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        y, pull = jax.vjp(lambda f, a: jax.vmap(call, (None, 0))(f, a), case.layer, case.x[None])
        pull(y)
    case.agrees(y[0])


@once()
def leaves_are_arrays(case):
    leaves = jax.tree.leaves(case.layer)
    assert leaves and all(isinstance(leaf, jax.Array) for leaf in leaves)
    assert all(leaf.dtype == case.dtype for leaf in leaves)
    doubled = jax.tree.map(lambda leaf: 2 * leaf, case.layer)
    case.agrees(doubled(case.x), doubled)


@once(dtype=("float16", "bfloat16", "float32", "float64"))
def dtypes(case, dtype):
    """If parameters and input have a dtype, the output has it too."""
    with jax.enable_x64(dtype == "float64"):
        layer = case.make(jr.key(0), dtype=jnp.dtype(dtype))
        assert all(leaf.dtype == dtype for leaf in jax.tree.leaves(layer))
        shape = jax.ShapeDtypeStruct(case.x.shape, dtype)
        assert jax.eval_shape(layer, shape).dtype == dtype


# Derivatives --------------------------------------------------------------------------------------


@row()
def grad(case):
    c = case.cotangent()
    loss = lambda layer, x: jnp.sum(c * layer(x))
    by_layer, by_field = jax.jit(jax.grad(loss, (0, 1)))(case.layer, case.x)
    case.is_derivative_by_layer(by_layer, c)
    case.is_derivative_by_field(by_field, c)


@once()
def grad_eager(case):
    c = case.cotangent()
    by_layer, by_field = jax.vjp(call, case.layer, case.x)[1](c)
    case.is_derivative_by_layer(by_layer, c)
    case.is_derivative_by_field(by_field, c)


def derivative(case, layer, x):
    """Computes the change of the value in the direction of a layer and a field, and a bound."""
    leaves = np.concatenate([flatten(leaf) for leaf in jax.tree.leaves(layer)])
    change = case.by_layer @ leaves + case.by_field @ flatten(x)
    size = case.size(layer) * max(1, largest(case.x)) + case.size(case.layer) * largest(x)
    return change.reshape(case.y.shape), size


@row()
def jvp(case):
    layer, x = case.direction(), case.field(4)
    y, change = jax.jit(lambda *at: jax.jvp(call, at, (layer, x)))(case.layer, case.x)
    case.agrees(y)
    case.close(change, *derivative(case, layer, x))


@once()
def linearize(case):
    layer, x = case.direction(), case.field(4)
    y, change = jax.linearize(call, case.layer, case.x)
    case.agrees(y)
    case.close(change(layer, x), *derivative(case, layer, x))


@row()
def hessian(case):
    """The Hessian of `sum(c * y**2) / 2` with respect to the field is `A^T diag(c) A`."""
    c = case.cotangent()
    actual = jax.jit(jax.hessian(lambda x: jnp.sum(c * case.layer(x) ** 2) / 2))(case.x)
    wanted = case.by_field.T @ (flatten(c)[:, None] * case.by_field)
    size = case.y.size * largest(c) * case.size(case.layer) ** 2
    shape = (*case.x.shape, *case.x.shape)
    case.close(actual, wanted.reshape(shape), size, 2 * case.terms + case.y.size)


@row()
def mixed_derivatives(case):
    """Second derivatives by layer and field: reverse over reverse and forward over forward."""
    c, layer, x = case.cotangent(), case.direction(), case.field(4)

    def reverse(f, a):
        by_layer = jax.grad(lambda f, a: jnp.sum(c * f(a)))(f, a)
        products = jax.tree.map(lambda g, d: jnp.sum(g * d), by_layer, layer)
        return sum(jax.tree.leaves(products))

    def forward(a):
        return jax.jvp(lambda f: f(a), (case.layer,), (layer,))[1]

    by_field, change = jax.jit(
        lambda f, a: (jax.grad(reverse, 1)(f, a), jax.jvp(forward, (a,), (x,))[1])
    )(case.layer, case.x)
    matrix, size = case.matrices(layer, case.x)[2], case.size(layer)
    wanted = (matrix.T @ flatten(c)).reshape(case.x.shape)
    case.close(by_field, wanted, size * largest(c), case.terms + case.y.size)
    case.close(change, (matrix @ flatten(x)).reshape(case.y.shape), size * largest(x))


@row()
def taylor_mode_by_field(case):
    first, second = case.field(4), case.field(5)
    y, (dy, ddy) = jet(case.layer, (case.x,), ((first, second),))
    case.agrees(y)
    for actual, x in ((dy, first), (ddy, second)):
        wanted = (case.by_field @ flatten(x)).reshape(case.y.shape)
        case.close(actual, wanted, case.size(case.layer) * largest(x))


@row()
def taylor_mode_by_layer_and_field(case):
    """With `w(t)` and `x(t)` both moving, `(w x)'' = w'' x + 2 w' x' + w x''`."""
    leaves, structure = jax.tree.flatten(case.layer)
    (w1, w2), (x1, x2) = map(case.direction, (3, 6)), map(case.field, (4, 5))
    moving = zip(jax.tree.leaves(w1), jax.tree.leaves(w2), strict=True)
    y, (dy, ddy) = jet(
        lambda *all: jax.tree.unflatten(structure, all[:-1])(all[-1]),
        (*leaves, case.x),
        (*map(list, moving), [x1, x2]),
    )
    case.agrees(y)
    case.close(dy, *derivative(case, w1, x1))
    wanted, size = derivative(case, w2, x2)
    mixed = np.asarray(case.plain(w1, x1), np.float64) - case.plain(w1, jnp.zeros_like(x1))
    size += 2 * case.size(w1) * largest(x1)
    case.close(ddy, wanted + 2 * mixed, size, 4 * case.terms)


@row()
def linear_transpose(case):
    """Transposes exist by the field, and by the layer without a bias."""
    layer = case.make(jr.key(0), use_bias=False) if case.column.has_bias else case.layer
    # Initialisers split their key with or without a bias.
    assert all(map(jnp.array_equal, jax.tree.leaves(layer), jax.tree.leaves(case.layer)))
    c = case.cotangent()
    (by_field,) = jax.jit(lambda c: jax.linear_transpose(layer, case.x)(c))(c)
    case.is_derivative_by_field(by_field, c)
    (by_layer,) = jax.jit(lambda c: jax.linear_transpose(lambda f: f(case.x), case.layer)(c))(c)
    case.is_derivative_by_layer(by_layer, c)


# Batches and control flow -------------------------------------------------------------------------


@row()
def vmap_over_any_axis(case):
    x = case.field(1, 3)
    axes = range(-1, x.ndim - 1)

    def outputs(layer, x):
        return [jax.vmap(call, (None, a), a)(layer, jnp.moveaxis(x, 0, a)) for a in axes]

    for a, y in zip(axes, jax.jit(outputs)(case.layer, x), strict=True):
        case.agrees(jnp.moveaxis(y, a, 0), x=list(x))


@row()
def vmap_over_any_argument(case):
    layers, x = [case.make(key) for key in jr.split(jr.key(1), 3)], case.field(1, 3)

    def outputs(members, x):
        last = jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 0, -1), members)
        return (
            jax.vmap(call)(members, x),
            jax.vmap(call, (0, None))(members, x[0]),
            jax.vmap(call, (-1, None))(last, x[0]),
            jax.vmap(jax.vmap(call, (None, 0)), (0, None))(members, x),
            jax.vmap(jax.vmap(call, (0, None), 1), (None, 0), 2)(members, x),
        )

    both, one, moved, nested, crossed = jax.jit(outputs)(stacked(layers), x)
    case.agrees(both, layers, list(x))
    case.agrees(one, layers, x[0])
    case.agrees(moved, layers, x[0])
    for i, layer in enumerate(layers):
        case.agrees(nested[i], layer, list(x))
        case.agrees(jnp.moveaxis(crossed[:, i], 1, 0), layer, list(x))


@row()
def per_sample_gradients(case):
    x, c = case.field(1, 3), jnp.stack([case.cotangent(seed) for seed in range(3)])
    sample = jax.grad(lambda layer, x, c: jnp.sum(c * layer(x)))
    actual = jax.jit(jax.vmap(sample, (None, 0, 0)))(case.layer, x, c)
    for i in range(3):
        own = jax.tree.map(lambda leaf, i=i: leaf[i], actual)
        case.is_derivative_by_layer(own, c[i], case.matrices(case.layer, x[i])[1])


def composed(case, layers, plain):
    """Applies one layer after another, each followed by tanh, and bounds the sums."""
    x, plain = case.x, jax.jit(plain)
    for layer in layers:
        x = jnp.tanh(plain(layer, x))
    return np.asarray(x, np.float64), float(np.prod([max(1, case.size(f)) for f in layers]))


@row()
def scan_over_stacked_layers(case):
    layers, plain = square_layers(case.column, 3)
    step = lambda x, layer: (jnp.tanh(layer(x)), None)
    scan = jax.jit(lambda layers, x: jax.lax.scan(step, x, layers)[0])
    case.close(scan(stacked(layers), case.x), *composed(case, layers, plain), 3 * case.terms + 3)


@once()
def while_loop(case):
    (layer,), plain = square_layers(case.column, 1)
    step = lambda carry: (carry[0] + 1, jnp.tanh(layer(carry[1])))
    _, y = jax.lax.while_loop(lambda carry: carry[0] < 3, step, (0, case.x))
    case.close(y, *composed(case, [layer] * 3, plain), 3 * case.terms + 3)


@once()
def cond(case):
    layers = [case.make(key) for key in jr.split(jr.key(1))]
    branches = [lambda layers, x, i=i: layers[i](x) for i in range(2)]
    choose = jax.jit(lambda which, layers, x: jax.lax.cond(which, *branches, layers, x))
    for which in (True, False):
        case.agrees(choose(which, layers, case.x), layers[not which])


@once()
def lax_map(case):
    x = case.field(1, 3)
    case.agrees(jax.lax.map(lambda a: case.layer(a), x), x=list(x))


@once()
def sequential(case):
    (first,), plain = square_layers(case.column, 1)
    x = case.x
    network = eqx.nn.Sequential([first, eqx.nn.Lambda(jnp.tanh), case.layer])
    wanted = case.plain(case.layer, jnp.tanh(plain(first, x)))
    actual = eqx.filter_jit(network)(x, key=jr.key(2))
    size = case.size(case.layer) * max(1, case.size(first))
    case.close(actual, np.asarray(wanted, np.float64), size * largest(x), 2 * case.terms + 1)


@once(operations=("ours", "plain"))
def shard_map(case, operations):
    context = contextlib.nullcontext if operations == "ours" else plain_operations_of_jax
    with context():
        check_shard_map(case)


def check_shard_map(case):
    mesh = jax.make_mesh((8,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    x, c = case.field(1, 8), jnp.stack([case.cotangent(seed) for seed in range(8)])
    split = jax.shard_map(
        jax.vmap(call, (None, 0)), mesh=mesh, in_specs=(P(), P("batch")), out_specs=P("batch")
    )

    @jax.jit
    def value_and_derivative(layer, x, c):
        y, pull = jax.vjp(lambda layer: split(layer, x), layer)
        return y, *pull(c)

    y, by_layer = value_and_derivative(case.layer, x, c)
    case.agrees(y, x=list(x))
    # The sum over all samples equals the sum over as many points and cotangents side by side.
    matrices = np.concatenate([case.matrices(case.layer, a)[1] for a in x])
    case.is_derivative_by_layer(by_layer, c, matrices)


# Checkpoints --------------------------------------------------------------------------------------


def convolutions_saveable(primitive, *_, **__):
    return primitive is jax.lax.conv_general_dilated_p


POLICIES = (
    {"convolutions_saveable": convolutions_saveable}
    | {
        name: getattr(jax.checkpoint_policies, name)
        for name in (
            "everything_saveable",
            "nothing_saveable",
            "dots_saveable",
            "checkpoint_dots",
            "dots_with_no_batch_dims_saveable",
            "checkpoint_dots_with_no_batch_dims",
        )
    }
    | {
        "offload_dot_with_no_batch_dims": jax.checkpoint_policies.offload_dot_with_no_batch_dims(
            "device", "pinned_host"
        ),
        "save_any_names_but_these": jax.checkpoint_policies.save_any_names_but_these("y"),
        "save_anything_except_these_names": (
            jax.checkpoint_policies.save_anything_except_these_names("y")
        ),
        "save_only_these_names": jax.checkpoint_policies.save_only_these_names("y"),
        "save_and_offload_only_these_names": (
            jax.checkpoint_policies.save_and_offload_only_these_names(
                names_which_can_be_saved=["y"],
                names_which_can_be_offloaded=[],
                offload_src="device",
                offload_dst="pinned_host",
            )
        ),
        "save_from_both_policies": jax.checkpoint_policies.save_from_both_policies(
            jax.checkpoint_policies.dots_saveable,
            jax.checkpoint_policies.save_only_these_names("y"),
        ),
    }
)


def test_all_policies_are_there():
    known = {name for name in vars(jax.checkpoint_policies) if name[0] != "_"}
    assert known | {"convolutions_saveable"} == set(POLICIES)


@once(policy=POLICIES)
def checkpoint(case, policy):
    """Computes the derivative of `sum(c * y**2) / 2`, which needs the layer's result."""
    c = case.cotangent()

    def loss(layer, x):
        return jnp.sum(c * checkpoint_name(layer(x), "y") ** 2) / 2

    remat = jax.checkpoint(loss, policy=POLICIES[policy])
    by_layer, by_field = jax.jit(jax.grad(remat, (0, 1)))(case.layer, case.x)
    c = jnp.asarray(flatten(c) * flatten(case.y), case.dtype)
    case.is_derivative_by_layer(by_layer, c)
    case.is_derivative_by_field(by_field, c)


def saves_result(case, policy):
    """Tells whether the derivative keeps the result of a layer without a bias."""
    layer = case.make(jr.key(0), use_bias=False) if case.column.has_bias else case.layer
    y = flatten(case.plain(layer, case.x))
    after = jax.checkpoint(lambda x: jnp.sin(layer(x)), policy=POLICIES[policy])
    # The derivative is only by the field, so that nothing else of this size is needed.
    _, pull = jax.vjp(after, case.x)
    kept = [flatten(leaf) for leaf in jax.tree.leaves(pull)]
    atol = 2 * case.terms * float(jnp.finfo(case.dtype).eps) * case.size(layer) * largest(case.x)
    return any(a.size == y.size and np.allclose(a, y, rtol=0, atol=atol) for a in kept)


@once(policy=("convolutions_saveable", "dots_saveable", "checkpoint_dots"))
def checkpoint_saves(case, policy):
    assert saves_result(case, policy)


@once(
    demanded=True,
    policy=("dots_with_no_batch_dims_saveable", "checkpoint_dots_with_no_batch_dims"),
)
def checkpoint_saves_without_batch(case, policy):
    """JAX saves products of one sample here, but no convolutions. Of these layers it saves each."""
    assert saves_result(case, policy)


@once(policy=("nothing_saveable", "save_only_these_names"))
def checkpoint_computes_again(case, policy):
    assert not saves_result(case, policy)


# Checks of values ---------------------------------------------------------------------------------


def opposed(case):
    """Sets the weights to 1 for one channel of the field and -1 for the other: inf - inf."""
    axis = 2 if hasattr(case.layer, "num_modes") else 1  # The axis of groups comes first.

    def signs(leaf):
        index = jax.lax.broadcasted_iota("int32", leaf.shape, axis)
        return jnp.where(index == 0, jnp.ones_like(leaf), -jnp.ones_like(leaf))

    return jax.tree.map(signs, case.layer)


def with_infinity(case):
    """Puts inf in both channels of an inner point of the field."""
    return case.x.at[(slice(None), *(2 for _ in case.column.spatial))].set(jnp.inf)


NANS = {
    "inf_minus_inf": opposed,
    "inf_times_zero": lambda case: jax.tree.map(jnp.zeros_like, case.layer),
}


RUNS = {
    "eager": call,
    "jit": jax.jit(call),
    "jit_of_vmap": jax.jit(lambda layer, x: jax.vmap(lambda x: layer(x))(x[None])),
    "jit_of_grad": jax.jit(jax.grad(lambda layer, x: jnp.sum(layer(x) ** 2))),
}


@once(run=RUNS)
def debug_nans_lets_finite_runs_through(case, run):
    with jax.debug_nans(True):
        jax.block_until_ready(RUNS[run](case.layer, case.x))


@once(run=RUNS)
def debug_nans_raises(case, run):
    x = with_infinity(case)
    for make in NANS.values():
        layer = make(case)
        with jax.debug_nans(True), pytest.raises(FloatingPointError):
            jax.block_until_ready(RUNS[run](layer, x))


@once(checks=("nan_checks", "float_checks"))
def checkify_sees(case, checks):
    checked = jax.jit(checkify.checkify(call, errors=getattr(checkify, checks)))
    x = with_infinity(case)
    for make in NANS.values():
        error, _ = checked(make(case), x)
        assert "nan" in (error.get() or "")


@once()
def checkify_of_a_finite_run(case):
    error, y = jax.jit(checkify.checkify(call, errors=checkify.all_checks))(case.layer, case.x)
    assert error.get() is None
    case.agrees(y)


@once()
def check_tracer_leaks(case):
    loss = lambda layer, x: jnp.sum(jax.vmap(call, (None, 0))(layer, x) ** 2)
    with jax.checking_leaks():
        jax.jit(jax.grad(loss))(case.layer, case.x[None])


@once(bad=("inf", "nan"))
def non_finite_values_stay(case, bad):
    """NaN and inf reach the outputs whose formula reads their point, and no others."""
    for axis_ends in (0, -1):
        at = (0, *(axis_ends for _ in case.column.spatial))
        x = case.x.at[at].set(float(bad))
        column = np.ravel_multi_index(
            [0, *(n - 1 if axis_ends else 0 for n in case.column.spatial)], x.shape
        )
        if case.column.global_reach:
            read = np.ones(case.y.shape, bool)
        else:
            read = case.by_field[:, column].reshape(case.y.shape) != 0
        wanted = np.asarray(case.plain(case.layer, case.x.at[at].set(0)))
        for run in (call, jax.jit(call)):
            y = run(case.layer, x)
            np.testing.assert_array_equal(~np.isfinite(y), read)
            left = jnp.where(read, 0, y)
            case.close(left, np.where(read, 0, wanted), case.size(case.layer) * largest(case.x))


# Exported programs --------------------------------------------------------------------------------

PLATFORMS = ("cpu", "cuda", "tpu")


def exported(function, *shapes):
    """Writes a program out, and reads it again."""
    program = jax.export.export(jax.jit(lambda *all: function(*all)), platforms=PLATFORMS)
    program = program(*shapes)
    return jax.export.deserialize(program.serialize())


@row()
def export_with_open_batch(case):
    leaves, structure = jax.tree.flatten(case.layer)
    (n,) = jax.export.symbolic_shape("n")
    program = exported(
        lambda leaves, x: jax.vmap(jax.tree.unflatten(structure, leaves))(x),
        [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves],
        jax.ShapeDtypeStruct((n, *case.x.shape), case.dtype),
    )
    for batch in (1, 3):
        x = case.field(batch, batch)
        case.agrees(program.call(leaves, x), x=list(x))


def open_field(layer, dims, dtype="float32"):
    """Makes a field whose axes may have any size of at least 4."""
    names = "hwd"[:dims]
    sizes = jax.export.symbolic_shape(
        ",".join(names), constraints=[f"{name} >= 4" for name in names]
    )
    return jax.ShapeDtypeStruct((layer.in_channels, *sizes), dtype)


@once()
def export_with_open_space(case):
    """The basis of a spectral layer or of `resample` depends on the size, so this raises."""
    if case.column.global_reach:
        field = open_field(case.layer, len(case.column.spatial))
        with pytest.raises((TypeError, ValueError), match=r"(?s)`x` must have known sizes.*shape"):
            exported(case.layer, field)
        return
    program = exported(case.layer, open_field(case.layer, len(case.column.spatial)))
    for shape in ((5, 4), (7, 8)):
        x = jnp.asarray(np.random.default_rng(0).standard_normal((2, *shape)), case.dtype)
        case.agrees(program.call(x), x=x)


@once(demanded=True)
def plain_operations(case):
    """Everything is traced in JAX's own operations, with the same values."""
    loss = lambda layer, x: jnp.sum(jax.vmap(call, (None, 0))(layer, x[None]) ** 2)
    # These functions are new, so that no other row has traced them.
    value = lambda layer, x: layer(x)
    derivative = jax.grad(loss, (0, 1))
    with plain_operations_of_jax():
        for function in (value, derivative):
            jaxpr = jax.make_jaxpr(function)(case.layer, case.x)
            names = set(primitives(jaxpr))
            assert names and not [name for name in names if name.startswith("pdequinox")]
        case.agrees(jax.jit(value)(case.layer, case.x))


@once(run=("eager", "jit"))
def transfer_guard(case, run):
    """A call sends nothing from the host to the device, not even the first one if it is eager."""
    function = call if run == "eager" else jax.jit(lambda layer, x: layer(x))
    with jax.transfer_guard("disallow"):
        y = jax.block_until_ready(function(case.layer, case.x))
    case.agrees(y)


# Copies, files, threads, Equinox's tools ----------------------------------------------------------

COPIES = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda layer: pickle.loads(pickle.dumps(layer)),
    "inference_mode": eqx.nn.inference_mode,
}


@once(how=COPIES)
def copies(case, how):
    layer = COPIES[how](case.layer)
    assert layer is not case.layer or how == "inference_mode"
    assert jax.tree.structure(layer) == jax.tree.structure(case.layer)
    np.testing.assert_array_equal(jax.jit(call)(layer, case.x), jax.jit(call)(case.layer, case.x))


@once()
def tree_serialise_leaves(case):
    file = io.BytesIO()
    eqx.tree_serialise_leaves(file, case.layer)
    file.seek(0)
    loaded = eqx.tree_deserialise_leaves(file, case.make(jr.key(1)))
    run = jax.jit(call)
    np.testing.assert_array_equal(run(loaded, case.x), run(case.layer, case.x))


@once()
def tree_at(case):
    where = lambda layer: jax.tree.leaves(layer)[0]
    changed = eqx.tree_at(where, case.layer, replace_fn=lambda leaf: 2 * leaf)
    case.agrees(jax.jit(call)(changed, case.x), changed)


@once()
def threads(case):
    """Several threads call a layer at once, for shapes that have not been called before."""
    shape = (case.x.shape[0], *(n + 3 for n in case.column.spatial))
    x = jnp.asarray(np.random.default_rng(0).standard_normal(shape), case.dtype)
    run = jax.jit(lambda layer, x: layer(x))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        tasks = [pool.submit(f, case.layer, x) for f in (run, call, run, call)]
        results = [task.result() for task in tasks]
    for y in results:
        case.agrees(y, x=x)


@once()
def filter_closure_convert(case):
    c = case.cotangent()
    converted = eqx.filter_closure_convert(case.layer, case.x)
    case.agrees(converted(case.x))
    by_field = jax.grad(lambda x: jnp.sum(c * converted(x)))(case.x)
    case.is_derivative_by_field(by_field, c)


@once()
def filter_vmap_ensembles(case):
    members = eqx.filter_vmap(case.make)(jr.split(jr.key(0), 3))
    apply = eqx.filter_jit(eqx.filter_vmap(call, in_axes=(eqx.if_array(0), None)))
    layers = [jax.tree.map(lambda leaf, i=i: leaf[i], members) for i in range(3)]
    case.agrees(apply(members, case.x), layers, case.x)


@once()
def eval_shape(case):
    wanted = jax.ShapeDtypeStruct(case.y.shape, case.dtype)
    field = jax.ShapeDtypeStruct(case.x.shape, case.dtype)
    for found in (jax.eval_shape(case.layer, field), eqx.filter_eval_shape(case.layer, field)):
        assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)
    abstract = eqx.filter_eval_shape(case.make, jr.key(0))
    found = eqx.filter_eval_shape(call, abstract, field)
    assert (found.shape, found.dtype) == (wanted.shape, wanted.dtype)


@once()
def optax(case):
    optax = importlib.import_module("optax")
    target = case.cotangent()
    loss = lambda layer: jnp.mean((layer(case.x) - target) ** 2)
    optimiser = optax.adam(1e-3)

    # Optax itself relies on promotion.
    @jax.numpy_dtype_promotion("standard")
    def step(layer):
        before, gradient = jax.value_and_grad(loss)(layer)
        updates, _ = optimiser.update(gradient, optimiser.init(layer), layer)
        return before, loss(optax.apply_updates(layer, updates))

    before, after = jax.jit(step)(case.layer)
    assert after < before


@once()
def diffrax(case):
    """Diffrax solves `x' = tanh(layer(x))` by three Euler steps, and derives it by the layer."""
    diffrax = importlib.import_module("diffrax")
    (layer,), plain = square_layers(case.column, 1)

    # Diffrax itself relies on promotion.
    @jax.numpy_dtype_promotion("standard")
    def solved(layer, x):
        term = diffrax.ODETerm(lambda t, x, layer: jnp.tanh(layer(x)))
        adjoint = diffrax.RecursiveCheckpointAdjoint()
        solution = diffrax.diffeqsolve(
            term, diffrax.Euler(), 0.0, 0.75, 0.25, x, layer, adjoint=adjoint, max_steps=4
        )
        return solution.ys[-1]

    def by_hand(layer, x):
        for _ in range(3):
            x = x + 0.25 * jnp.tanh(plain(layer, x))
        return x

    both = []
    for function in (solved, by_hand):
        loss = lambda layer, function=function: jnp.sum(function(layer, case.x) ** 2)
        both.append(jax.jit(jax.value_and_grad(loss))(layer))
    # Each step enlarges an error by at most `1 + size / 4`; the derivative goes back through three.
    growth = (1 + case.size(layer) / 4) ** 3 * case.x.size * largest(case.x)
    for actual, wanted in zip(*map(jax.tree.leaves, both), strict=True):
        case.close(actual, np.asarray(wanted, np.float64), growth, 6 * case.terms)


# Half precision -----------------------------------------------------------------------------------

# Float16 ends at 65,504, and counts in steps of 32 above 32,768.
POINTS = {"bfloat16": 8192, "float16": 32000}
RECTANGLES = {8192: (128, 64), 32000: (200, 160)}


@functools.cache
def counted(case, half, batch):
    """Makes a field of ones, and the gradient of the outputs' sum by each leaf, in float32."""
    points = POINTS[half] // batch
    spatial = (points,) if len(case.column.spatial) == 1 else RECTANGLES[points * batch]
    if batch > 1 and len(spatial) == 2:
        spatial = (spatial[0] // batch, spatial[1])
    # A layer whose output has more points sums over more of them, and float16 ends at 65504.
    growth = -(-math.prod(case.y.shape[1:]) // math.prod(case.x.shape[1:]))
    spatial = (spatial[0] // growth, *spatial[1:])
    x = np.ones((case.column.in_channels, *spatial), np.float32)
    layer = jax.tree.map(jnp.zeros_like, case.layer)
    gradient = jax.jit(jax.grad(lambda layer: jnp.sum(case.column.plain(layer, x))))(layer)
    return x, jax.tree.map(lambda leaf: batch * np.asarray(leaf, np.float64), gradient)


@once(demanded=True, how=("eager", "jit", "vmap"))
def half_precision_sums(case, how):
    """Nothing is summed in half precision. The gradient of a bias is the number of points."""
    for half in POINTS:
        batch = 4 if how == "vmap" else 1
        x, wanted = counted(case, half, batch)
        layer = case.make(jr.key(0), dtype=jnp.dtype(half))
        if how == "vmap":
            x = np.broadcast_to(x, (batch, *x.shape))
        apply = jax.vmap(call, (None, 0)) if how == "vmap" else call

        def gradient(layer, x, apply=apply):
            y, pull = jax.vjp(lambda layer: apply(layer, x), layer)
            return pull(jnp.ones_like(y))[0]

        gradient = gradient if how == "eager" else jax.jit(gradient)
        actual = gradient(layer, jnp.asarray(x, half))
        # Two roundings: that of the result, and that of a sum that is passed on.
        atol = 2 * float(jnp.finfo(half).eps) * max(map(largest, jax.tree.leaves(wanted)))
        for found, due in zip(jax.tree.leaves(actual), jax.tree.leaves(wanted), strict=True):
            assert found.dtype == half
            np.testing.assert_allclose(
                np.asarray(found, np.float64), due.astype(half), rtol=0, atol=atol
            )


@pytest.mark.parametrize("half", POINTS)
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "jit"])
def test_half_precision_sum_of_a_stretch_of_outflow(half, compiled):
    """The adjoint of `pad` adds up all copies of the last point."""
    copies = POINTS[half]
    x = jnp.ones((1, 4), half)
    function = lambda x: jax.vjp(lambda x: pad(x, [(0, copies)], "outflow"), x)[1](
        jnp.ones((1, 4 + copies), half)
    )[0]
    found = (jax.jit(function) if compiled else function)(x)
    atol = 2 * float(jnp.finfo(half).eps) * copies
    np.testing.assert_allclose(
        np.asarray(found, np.float64), [[1, 1, 1, copies + 1]], rtol=0, atol=atol
    )


# Open space, for every mode -----------------------------------------------------------------------

ALL_MODES = (
    "dirichlet",
    "outflow",
    "periodic",
    "neumann",
    "neumann_cell",
    "dirichlet_node",
    "dirichlet_cell",
)


@pytest.mark.parametrize("mode", ALL_MODES)
@pytest.mark.parametrize("kind", [PhysicsConv, PhysicsConvTranspose])
@pytest.mark.parametrize("stride, dilation", [(1, 1), (2, 2)], ids=["dense", "strided"])
def test_export_of_every_mode_with_open_space(kind, mode, stride, dilation):
    layer = kind(1, 2, 3, 3, stride=stride, dilation=dilation, boundary_mode=mode, key=jr.key(0))
    program = exported(layer, open_field(layer, 1))
    for size in (4, 9):
        x = jnp.asarray(np.random.default_rng(size).standard_normal((2, size)), "float32")
        y = program.call(x)
        # The same sum twice, of six products and a bias; weights are up to 1, and fields up to 4.
        atol = 2 * 7 * 7 * 4 * float(jnp.finfo("float32").eps)
        np.testing.assert_allclose(y, layer(x), rtol=0, atol=atol)


# The registry -------------------------------------------------------------------------------------


CELLS = [
    pytest.param(name, column, dtype, id=f"{name}-{column}-{dtype}")
    for dtype in ("float32", "float64")
    for column in COLUMNS
    for name, entry in ROWS.items()
    if dtype in entry.dtypes and (COLUMNS[column].witness or not entry.demanded)
]


@pytest.mark.parametrize("name, column, dtype", CELLS, indirect=["dtype"])
def test_row(name, column, dtype):
    entry, witness = ROWS[name], COLUMNS[column].witness
    try:
        entry.check(case_of(column, dtype.name))
    except Exception as error:
        if entry.demanded and witness:
            raise
        try:
            entry.check(case_of(witness or column, dtype.name))
        except Exception as same:
            pytest.skip(f"equinox fails too: {type(same).__name__}: {str(same)[:200]}")
        raise error
