"""Compiles the layers of libraries that build on JAX, and notes what that takes."""

import time
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from rows import Task, UnsupportedError


Make = Callable[..., Any]


class Program:
    """Holds a compiled program and its arguments. A call runs it, and waits until it is done."""

    def __init__(self, function: Callable, *arguments: Any) -> None:
        jax.clear_caches()
        start = time.perf_counter()
        self.lowered = jax.jit(function).lower(*arguments)
        self.compiled = self.lowered.compile()
        self.answer: dict[str, Any] = {"compile": time.perf_counter() - start}
        if (analysis := self.compiled.memory_analysis()) is not None:
            self.answer["temporary"] = analysis.temp_size_in_bytes
        self.arguments = arguments
        out = self()
        if isinstance(out, tuple):
            self.answer["loss"] = float(out[0])

    def __call__(self) -> Any:
        return jax.block_until_ready(self.compiled(*self.arguments))


def prepare(task: Task, make: Make) -> tuple[Program, dict[str, Any]]:
    """Prepares a task, as `worker.serve` describes. `make(row, key)` gives one layer or network."""
    row = task.row
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
    activation = jax.nn.relu if task.activated else lambda x: x

    def apply(weights: Any, x: Any) -> Any:
        one = lambda weights, x: jax.vmap(eqx.combine(weights, static))(x)
        layer = eqx.filter_vmap(one) if row.members else one
        return activation(layer(weights, activation(x)))

    def forward(weights: Any, x: Any) -> Any:
        if not row.scan:
            return apply(weights, x)
        return jax.lax.scan(lambda x, _: (apply(weights, x), None), x, length=row.scan)[0]

    def loss(arguments: Any, cotangent: Any) -> Any:
        return jnp.sum(forward(*arguments) * cotangent, dtype="float32")

    parameters = {"parameters": sum(leaf.size for leaf in jax.tree.leaves(weights))}
    if task.what == "forward":
        made, answer = program(forward, weights, x)
        return made, answer | parameters | (
            {"error": error(forward, made, task)} if task.error else {}
        )
    shape = jax.eval_shape(forward, weights, x).shape
    cotangent = jnp.asarray(np.random.default_rng(1).standard_normal(shape), row.dtype)
    step = lambda weights, x, cotangent: jax.value_and_grad(loss)((weights, x), cotangent)
    made, answer = program(step, weights, x, cotangent)
    return made, answer | parameters


def error(function: Callable, made: Program, task: Task) -> float:
    """Computes the error of the output against the same program in float64, relative to its norm.
    Gradients are not compared, because rounding switches activations on and off.
    """
    found = np.asarray(made(), "float64")
    jax.config.update("jax_enable_x64", True)
    with jax.default_matmul_precision("highest"):
        arguments = jax.tree.map(lambda v: v.astype("float64"), made.arguments)
        exact = np.asarray(jax.jit(function)(*arguments))
    jax.config.update("jax_enable_x64", task.row.dtype == "float64")
    return float(np.linalg.norm(found - exact) / np.linalg.norm(exact))


def program(function: Callable, *arguments: Any) -> tuple[Program, dict[str, Any]]:
    """Compiles a function for its arguments, and notes the time and the memory."""
    try:
        made = Program(function, *arguments)
    except jax.errors.JaxRuntimeError as error:  # for example too little memory on a device
        raise UnsupportedError(str(error).splitlines()[0]) from error
    return made, made.answer
