"""Tests what the spectral layers of both libraries send between eight devices, in programs compiled
for a sharded field. pdequinox 0.1.2 gathers the whole field on every device, and the counter of
communication must find that. This project sends nothing as large.
"""

import functools
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest
from collectives import collectives, largest, sent
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

import pdequinox.conv
import pdequinox_spectralconv


SHAPE = (16, 4, 64, 48)
"""Samples, channels, points. Every sharding divides all of these."""
FIELD = 4 * math.prod(SHAPE)
"""Bytes of the field in float32: the bytes of a device's shard times the number of devices."""
MODES = 3
WEIGHTS = 4 * 2 * 2 * 4 * 4 * MODES**2
"""Bytes: two arrays, two groups of modes, output and input channels, modes."""
KEPT = 16 * 4 * (2 * MODES) * MODES * 8
"""Bytes of the kept modes of the field, in complex64."""

SHARDINGS = ("batch", "one axis", "two axes")
PASSES = ("forward", "gradient")

SPECS = {
    "batch": ((8,), P("a")),
    "one axis": ((8,), P(None, None, "a")),
    "two axes": ((4, 2), P(None, None, "a", "b")),
}
TYPES = {"theirs": pdequinox.conv.SpectralConv, "ours": pdequinox_spectralconv.SpectralConv}


@functools.cache
@jax.numpy_rank_promotion("allow")
@jax.numpy_dtype_promotion("standard")
def found(name, kind, sharding, what):
    """Lists the collectives of a program, and tells whether its result is split like the field."""
    shape, spec = SPECS[sharding]
    layer = TYPES[name](2, 4, 4, MODES, key=jax.random.key(0))
    weights, static = eqx.partition(layer, eqx.is_inexact_array)
    axis_types = (AxisType[kind],) * len(shape)
    mesh = jax.make_mesh(shape, ("a", "b")[: len(shape)], axis_types=axis_types)
    on_mesh = lambda v, spec: jax.ShapeDtypeStruct(
        v.shape, v.dtype, sharding=NamedSharding(mesh, spec)
    )
    weights = jax.tree.map(lambda v: on_mesh(v, P()), weights)
    field = on_mesh(jax.ShapeDtypeStruct(SHAPE, jnp.float32), spec)

    def forward(weights, x):
        return jax.vmap(eqx.combine(weights, static))(x)

    def loss(arguments, cotangent):
        return jnp.sum(forward(*arguments) * cotangent)

    if what == "forward":
        program = jax.jit(forward).lower(weights, field).compile()
        result = program.output_shardings
    else:
        step = jax.jit(jax.value_and_grad(loss))
        program = step.lower((weights, field), field).compile()
        result = program.output_shardings[1][1]
    return collectives(program), result.is_equivalent_to(field.sharding, field.ndim)


every_program = [
    pytest.mark.parametrize("sharding", SHARDINGS),
    pytest.mark.parametrize("what", PASSES),
]


def with_all(marks):
    def mark(test):
        for one in marks:
            test = one(test)
        return test

    return mark


@with_all(every_program)
def test_theirs_gathers_the_field(sharding, what):
    listed, _ = found("theirs", "Auto", sharding, what)
    whole = [
        c for c in listed
        if c.kind == "all-gather" and c.size >= FIELD and SHAPE in c.shapes
    ]  # fmt: skip
    # The field in the forward pass; also the cotangent in the backward pass.
    assert len(whole) >= (1 if what == "forward" else 2), listed


@with_all(every_program)
def test_theirs_raises_on_explicit_meshes(sharding, what):
    try:
        error = found("theirs", "Explicit", sharding, what)
    except Exception as raised:
        error = raised
    # The name, because JAX keeps the second type to itself.
    expected = "ValueError" if sharding == "two axes" else "ShardingTypeError"
    assert type(error).__name__ == expected, error


@pytest.mark.parametrize("mesh", ["Auto", "Explicit"])
@with_all(every_program)
def test_ours_sends_kept_modes_and_gradients_of_weights_only(mesh, sharding, what):
    listed, as_given = found("ours", mesh, sharding, what)
    # An all-reduce sends up to twice its size, and a reduce-scatter and an all-gather send it once
    # each. The backward pass sums the kept modes of the cotangent like those of the field. The loss
    # is a float32.
    gradient = what == "gradient"
    if sharding == "batch":
        most = gradient * (WEIGHTS + 4)
    else:
        most = (1 + gradient) * KEPT + gradient * (WEIGHTS + 4)
    assert largest(listed) <= most < FIELD, listed
    axes_of_mesh = 2 if sharding == "two axes" else 1
    assert sent(listed) <= 2 * most * axes_of_mesh, listed
    # A result that lies whole on every device would need no communication, and all the memory.
    assert as_given, "the result is not sharded as the field is"
