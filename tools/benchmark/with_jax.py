"""What the libraries on JAX share: how a layer becomes a program, and what is asked of it."""

import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from rows import Row


Make = Callable[..., Any]


def prepare(row: Row, what: str, make: Make) -> tuple[Callable[[], Any], dict[str, Any]]:
    """`make(row, key)` gives one layer or network."""
    jax.config.update("jax_enable_x64", row.dtype == "float64")
    if row.members:
        keys = jax.random.split(jax.random.key(0), row.members)
        model = eqx.filter_vmap(lambda key: make(row, key))(keys)
    else:
        model = make(row, jax.random.key(0))
    is_array = lambda v: eqx.is_inexact_array(v)
    model = jax.tree.map(lambda v: v.astype(row.dtype) if is_array(v) else v, model)
    shape = (row.batch, row.channels[0], *row.spatial)
    if row.members:
        shape = (row.members, *shape)
    x = jnp.asarray(np.random.default_rng(0).standard_normal(shape), row.dtype)
    weights, static = eqx.partition(model, is_array)

    def forward(weights: Any, x: Any) -> Any:
        one = lambda weights, x: jax.vmap(eqx.combine(weights, static))(x)
        layer = eqx.filter_vmap(one) if row.members else one
        if not row.scan:
            return layer(weights, x)
        return jax.lax.scan(lambda x, _: (layer(weights, x), None), x, length=row.scan)[0]

    def loss(arguments: Any, cotangent: Any) -> Any:
        return jnp.sum(forward(*arguments) * cotangent, dtype="float32")

    if what == "forward":
        return program(forward, weights, x)
    shape = jax.eval_shape(forward, weights, x).shape
    cotangent = jnp.asarray(np.random.default_rng(1).standard_normal(shape), row.dtype)
    step = lambda weights, x, cotangent: jax.value_and_grad(loss)((weights, x), cotangent)
    return program(step, weights, x, cotangent)


def program(function: Callable, *arguments: Any) -> tuple[Callable[[], Any], dict[str, Any]]:
    """Compiled, with what it took."""
    jax.clear_caches()
    start = time.perf_counter()
    compiled = jax.jit(function).lower(*arguments).compile()
    seconds = time.perf_counter() - start
    run = lambda: jax.block_until_ready(compiled(*arguments))
    answer: dict[str, Any] = {"compile": seconds}
    if (analysis := compiled.memory_analysis()) is not None:
        answer["temporary"] = analysis.temp_size_in_bytes
    out = run()
    if isinstance(out, tuple):
        answer["loss"] = float(out[0])
    return run, answer
