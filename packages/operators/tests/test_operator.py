"""Tests what follows from the declaration of an operator: of linear operators that declare as
little or as much as they can, and of a bilinear one. The oracle is linear algebra in NumPy, in
float64.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.experimental import checkify
from jax.experimental.jet import jet
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from jaxprs import primitives

from pdequinox_operators import add_bias, Operator, plain_operations, Sharding, Split, sum_dtype


# Declarations


def neighbours(x, *, distance):
    """Applies the operator. Only this is declared; everything else is derived."""
    return x[..., distance:] + x[..., :-distance]


_neighbours = Operator("test_neighbours", neighbours, linear=True)

carried_out = []


def running(x, *, reverse):
    return lax.cumsum(x, x.ndim - 1, reverse)


def running_on_cpu(x, *, reverse):
    carried_out.append(x.shape)
    return running(x, reverse=reverse)


def transposed(cotangent, operand, *, reverse):
    assert cotangent.shape == operand.shape
    return _running(cotangent, reverse=not reverse)


def batch(operands, axes, *, reverse):
    return _running(jnp.moveaxis(operands[0], axes[0], 0), reverse=reverse), 0


_running = Operator(
    "test_running",
    running,
    transpose=transposed,
    shape=lambda x, *, reverse: x,
    batch=batch,
    lower={"cpu": running_on_cpu},
)


def contract(a, b, *, letters):
    """Contracts by letters as in `einsum`: those of `a`, of `b` and of the result."""
    return jnp.einsum(f"{letters[0]},{letters[1]}->{letters[2]}", a, b)


def contraction(name, product):
    def transposed(place, cotangent, a, b, *, letters):
        one, other, result = letters
        if place == 0:
            return operator(cotangent, b, letters=(result, other, one))
        return operator(cotangent, a, letters=(result, one, other))

    operator = Operator(
        name, contract, bilinear=transposed, saved_as=("product",) if product else ()
    )
    return operator


_contract = contraction("test_contract", product=True)
_unsaved = contraction("test_unsaved", product=False)

MATRICES = ("ij", "jk", "ik")
SIZE = 6

# Each with its matrix.
LINEAR = {
    "derived": (
        lambda x: _neighbours(x, distance=2),
        np.eye(SIZE - 2, SIZE) + np.eye(SIZE - 2, SIZE, 2),
    ),
    "declared": (lambda x: _running(x, reverse=False), np.tril(np.ones((SIZE, SIZE)))),
}
linear = pytest.mark.parametrize("name", LINEAR)


def normal(*shape, seed=0, dtype="float32"):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def close(actual, expected, terms=SIZE):
    """Allows `terms` roundings of sums of as many products of numbers below 4 each."""
    assert np.max(np.abs(expected), initial=0) <= 4**3 * terms
    atol = terms**2 * 4**3 * float(jnp.finfo(actual.dtype).eps)
    np.testing.assert_allclose(np.asarray(actual, np.float64), expected, rtol=0, atol=atol)


# Values


@linear
def test_values_in_every_way_of_running(name):
    operator, matrix = LINEAR[name]
    x = normal(SIZE)
    wanted = matrix @ np.asarray(x, np.float64)
    close(operator(x), wanted)
    close(jax.jit(operator)(x), wanted)
    for context in (jax.disable_jit(), jax.debug_nans(True), plain_operations()):
        with context:
            close(operator(x), wanted)


@linear
def test_values_in_double_precision(name, x64):
    operator, matrix = LINEAR[name]
    x = normal(SIZE, dtype="float64")
    assert operator(x).dtype == "float64"
    close(operator(x), matrix @ np.asarray(x))


@linear
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_vmap(name, axis):
    operator, matrix = LINEAR[name]
    x = normal(3, 2, SIZE)
    wanted = np.asarray(x, np.float64) @ matrix.T
    mapped = jax.jit(jax.vmap(operator, axis))(jnp.moveaxis(x, 0, axis))
    close(mapped, wanted)


def test_vmap_of_a_bilinear_one():
    a, b = normal(4, 2, 3), normal(4, 3, 5, seed=1)
    product = lambda a, b: _contract(a, b, letters=MATRICES)
    close(jax.vmap(product)(a, b), np.asarray(a, np.float64) @ b)
    close(jax.vmap(product, (0, None))(a, b[0]), np.asarray(a, np.float64) @ b[0])
    close(jax.vmap(product, (None, 0))(a[0], b), np.asarray(a[0], np.float64) @ b)


# Derivatives


@linear
def test_derivatives_of_a_linear_operator(name):
    operator, matrix = LINEAR[name]
    x, dx, c = normal(SIZE), normal(SIZE, seed=1), normal(len(matrix), seed=2)
    exact = lambda v: np.asarray(v, np.float64)
    close(jax.grad(lambda x: jnp.sum(c * operator(x)))(x), matrix.T @ exact(c))
    close(jax.linear_transpose(operator, x)(c)[0], matrix.T @ exact(c))
    y, dy = jax.jvp(operator, (x,), (dx,))
    close(y, matrix @ exact(x))
    close(dy, matrix @ exact(dx))
    # The Hessian of `sum(c y**2) / 2`: forward over reverse, through the transpose.
    hessian = jax.jit(jax.hessian(lambda x: jnp.sum(c * operator(x) ** 2) / 2))(x)
    close(hessian, matrix.T @ (exact(c)[:, None] * matrix), 2 * SIZE)


@linear
def test_taylor_mode_of_a_linear_operator(name):
    operator, matrix = LINEAR[name]
    terms = [normal(SIZE, seed=seed) for seed in range(3)]
    y, series = jet(operator, (terms[0],), (terms[1:],))
    for actual, x in zip((y, *series), terms, strict=True):
        close(actual, matrix @ np.asarray(x, np.float64))


def test_derivatives_of_a_bilinear_operator():
    a, b, c = normal(2, 3), normal(3, 4, seed=1), normal(2, 4, seed=2)
    da, db = normal(2, 3, seed=3), normal(3, 4, seed=4)
    product = lambda a, b: _contract(a, b, letters=MATRICES)
    exact = lambda v: np.asarray(v, np.float64)
    by_a, by_b = jax.jit(jax.grad(lambda a, b: jnp.sum(c * product(a, b)), (0, 1)))(a, b)
    close(by_a, exact(c) @ exact(b).T)
    close(by_b, exact(a).T @ exact(c))
    dy = jax.jvp(product, (a, b), (da, db))[1]
    close(dy, exact(da) @ exact(b) + exact(a) @ exact(db))
    # By one operand and then by the other, reverse over reverse: this is the operator again.
    change = lambda a, b: jnp.sum(jax.grad(lambda a: jnp.sum(c * product(a, b)))(a) * da)
    close(jax.grad(change, 1)(a, b), exact(da).T @ exact(c))
    _, (dy, ddy) = jet(product, (a, b), ([da, jnp.zeros_like(a)], [db, jnp.zeros_like(b)]))
    close(dy, exact(da) @ exact(b) + exact(a) @ exact(db))
    close(ddy, 2 * exact(da) @ exact(db))


# What is carried out where


def test_the_function_of_the_platform_is_carried_out():
    carried_out.clear()
    x = normal(2, SIZE)
    run = lambda: jax.block_until_ready(jax.jit(lambda x: _running(x, reverse=True))(x))
    run()
    assert carried_out == [x.shape]
    with plain_operations():
        jaxpr = jax.make_jaxpr(lambda x: _running(x, reverse=True))(x)
        assert not [name for name in primitives(jaxpr) if name.startswith("test_")]
        run()
    with jax.disable_jit():
        _running(x, reverse=True)
    assert carried_out == [x.shape]


def test_other_platforms_get_the_operator_itself():
    carried_out.clear()
    function = jax.jit(lambda x: _running(x, reverse=False))
    shape = jax.ShapeDtypeStruct((7,), "float32")
    jax.export.export(function, platforms=("tpu", "cuda"))(shape)
    assert not carried_out
    jax.export.export(function, platforms=("tpu", "cpu"))(shape)
    assert carried_out == [(7,)]


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0)])
def test_empty_arrays_are_the_operator_itself(shape):
    carried_out.clear()
    x = jnp.zeros(shape)
    for function in (_running, jax.jit(_running, static_argnames="reverse")):
        assert function(x, reverse=False).shape == shape
    assert jax.grad(lambda x: jnp.sum(_running(x, reverse=False)))(x).shape == shape
    assert not carried_out


@linear
def test_programs_of_open_size(name):
    operator, matrix = LINEAR[name]
    carried_out.clear()
    (n,) = jax.export.symbolic_shape("n")
    program = jax.export.export(jax.jit(operator))(jax.ShapeDtypeStruct((n, SIZE), "float32"))
    assert not carried_out
    for count in (1, 5):
        x = normal(count, SIZE)
        close(program.call(x), np.asarray(x, np.float64) @ matrix.T)


def test_a_function_for_one_device_alone():
    carried_out.clear()
    alone = Operator(
        "test_alone",
        running,
        shape=lambda x, *, reverse: x,
        linear=True,
        lower={"cpu": running_on_cpu},
        lower_alone=True,
    )
    function = jax.jit(lambda x: alone(x, reverse=False))
    x = normal(8, SIZE)
    wanted = np.cumsum(np.asarray(x, np.float64), axis=1)
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Auto,))
    close(function(jax.device_put(x, NamedSharding(mesh, P("d")))), wanted)
    assert not carried_out
    close(function(x), wanted)
    assert carried_out == [x.shape]


# What JAX is told besides


def test_precision_is_that_of_the_call():
    a, b = normal(2, 3), normal(3, 4, seed=1)

    def product(a, b):
        with jax.default_matmul_precision("highest"):
            return _contract(a, b, letters=MATRICES)

    def derivatives(a, b):
        y, pull = jax.vjp(product, a, b)
        return pull(y), jax.jvp(product, (a, b), (a, b)), jax.vmap(product, (0, None))(a[None], b)

    for context in (jax.default_matmul_precision("default"), plain_operations()):
        with context:
            text = jax.jit(lambda a, b: derivatives(a, b)).lower(a, b).as_text()
        products = [line for line in text.splitlines() if "dot_general" in line]
        assert len(products) >= 4
        assert all("HIGHEST" in line for line in products), text


@pytest.mark.parametrize("operator, times", [(_contract, 1), (_unsaved, 2)], ids=["saved", "not"])
def test_policies_save_products(operator, times):
    a, b = normal(2, 3), normal(3, 4, seed=1)
    loss = jax.checkpoint(
        lambda a: jnp.sum(jnp.sin(operator(a, b, letters=MATRICES))),
        policy=jax.checkpoint_policies.dots_saveable,
    )
    names = list(primitives(jax.make_jaxpr(jax.grad(loss))(a)))
    # How often the result is computed, and the transpose.
    assert names.count(operator.name) == times + 1


def test_nans_are_found():
    x = normal(SIZE).at[1].set(jnp.inf).at[2].set(-jnp.inf)
    summed = lambda x: _running(x, reverse=False)
    error, _ = checkify.checkify(summed, errors=checkify.float_checks)(x)
    assert "nan" in (error.get() or "")
    for function in (summed, jax.jit(summed)):
        with jax.debug_nans(True), pytest.raises(FloatingPointError):
            jax.block_until_ready(function(x))


# Several devices


def total(x):
    return jnp.sum(x, axis=0)


asked = []


def split_total(request):
    asked.append([*map(tuple, request.shapes)])
    taken = request.assign(FACTORS, [("row", (0,)), ("column", (1, 0))], {})
    rows, columns = taken["row"], taken["column"]
    result, summed = request.sum_over(rows, (columns,), (0,))
    return Split([(rows, columns)], result, lambda x: summed(total(x)))


FACTORS = (("row", "column"), ("column",))
_total = Operator(
    "test_total", total, linear=True, sharding=Sharding(lambda *shapes: FACTORS, split_total)
)


@pytest.mark.parametrize("spec", [P("d"), P(None, "d"), P("d", "e"), P("e", "d")], ids=str)
def test_operators_that_are_split(spec):
    """Every device sums its rows, and only the sums over devices are sent."""
    mesh = jax.make_mesh((4, 2), ("d", "e"), axis_types=(AxisType.Auto,) * 2)
    x = normal(8, 8)
    split = jax.device_put(x, NamedSharding(mesh, spec))
    asked.clear()
    program = jax.jit(lambda x: _total(x)).lower(split).compile()
    assert asked and all(shapes == [(8, 8), (8,)] for shapes in asked)
    close(program(split), np.asarray(x, np.float64).sum(0), 8)
    text = program.as_text()
    assert "all-gather" not in text and "all-to-all" not in text
    sent = "all-reduce" in text or "reduce-scatter" in text
    assert sent == (spec[0] is not None)


def test_operands_that_vary_differently():
    """Inside `jax.shard_map`, the gradient of what all devices share is summed over them."""
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Auto,))
    a, b = normal(8, 3), normal(3, 4, seed=1)
    product = jax.shard_map(
        lambda a, b: _contract(a, b, letters=MATRICES),
        mesh=mesh,
        in_specs=(P("d"), P()),
        out_specs=P("d"),
    )
    close(jax.jit(product)(a, b), np.asarray(a, np.float64) @ b)
    gradient = jax.jit(jax.grad(lambda a, b: jnp.sum(product(a, b)), 1))(a, b)
    close(gradient, np.asarray(a, np.float64).T @ np.ones((8, 4)), 8)


# Sums


def test_what_numbers_are_summed_in():
    names = {"float16": "float32", "bfloat16": "float32", "float32": "float32"}
    for name, wanted in names.items():
        assert sum_dtype(jnp.dtype(name)) == wanted
    assert sum_dtype(jnp.dtype("float64")) == "float64"


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("run", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_bias(name, run):
    y, bias = normal(3, 64, 64, dtype=name), normal(3, 1, 1, seed=1, dtype=name)
    assert add_bias(y, None) is y
    actual = run(add_bias)(y, bias)
    assert actual.dtype == name
    np.testing.assert_array_equal(actual, y + bias)
    # A sum of 4096 ones ends at 256 in bfloat16, and at 2048 in float16.
    gradient = run(jax.grad(lambda bias: jnp.sum(add_bias(y, bias).astype("float32"))))(bias)
    assert gradient.dtype == name
    np.testing.assert_array_equal(gradient, np.full((3, 1, 1), 4096.0))


def test_derivatives_have_to_be_declared():
    with pytest.raises(TypeError, match="needs `bilinear`, `transpose` or `linear` for 'nothing'"):
        Operator("nothing", jnp.sin)
