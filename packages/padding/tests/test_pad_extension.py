"""Tests the integers of an extension against plain loops, and `pad` with very wide extensions."""

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from jax import export

from pdequinox_padding import _extension, Boundary, BOUNDARY_MODES, pad
from pdequinox_padding._extension import period, runs, source


all_ends = pytest.mark.parametrize("ends", oracles.ALL_ENDS, ids="-".join)
all_modes = pytest.mark.parametrize("mode", BOUNDARY_MODES)


def kinds(ends):
    return Boundary.parse([ends], 1).axes[0]


def listed(positions, size, ends):
    """Lists the sources one by one, as tuples."""
    return list(zip(*(of.tolist() for of in source(positions, size, kinds(ends))), strict=True))


def joined_one_by_one(sources):
    """Finds the runs of the sources, point by point: each continues while the next point fits."""
    result = []
    for index, *rest in sources:
        if result:
            (first, *others), step, length = result[-1]
            jump = index - (first + step * (length - 1))
            if others == rest and abs(jump) <= 1 and (length == 1 or jump == step):
                result[-1][1:] = jump, length + 1
                continue
        result.append([[index, *rest], 0, 1])
    return result


@all_ends
def test_sources_are_the_formula(ends):
    for size in range(1, 8):
        for position, found in enumerate(listed(range(-40, size + 40), size, ends), start=-40):
            index, sign, *walls, opposite = found
            actual = sign * np.eye(size + 2)[index] + np.array([0] * size + walls)
            expected = oracles.extension_row(position, size, ends)
            np.testing.assert_array_equal(actual, expected, str((size, position)))
            assert (sign or not index) and not opposite


@all_ends
def test_runs_are_the_sources_in_as_few_as_possible(ends):
    for size in (1, 2, 3, 7):
        every = listed(range(-40, size + 40), size, ends)
        for start, stop in ((-40, 0), (-1, 0), (0, 0), (size, size + 1), (-40, size + 40), (3, 9)):
            expected = joined_one_by_one(every[start + 40 : stop + 40])
            found = [[[*first], step, n] for first, step, n in runs(start, stop, size, kinds(ends))]
            assert found == expected, (size, start, stop)


@all_ends
@pytest.mark.parametrize("size", [1, 2, 5])
def test_all_repeats_after_a_period(ends, size):
    every = period(size, kinds(ends))
    if every is None:
        return
    both = (listed(range(start, start + 3 * every), size, ends) for start in (-every, every))
    below, above = ([(index, sign) for index, sign, *_ in side] for side in both)
    assert below == above


@all_ends
def test_work_does_not_grow_with_the_line(ends, monkeypatch):
    asked = []
    counted = lambda positions, *of: asked.append(np.size(positions)) or source(positions, *of)
    monkeypatch.setattr(_extension, "source", counted)
    size = 10**7
    pieces = runs(-size, 0, size, kinds(ends)) + runs(size, 2 * size, size, kinds(ends))
    # An image, and what remains beyond it: the node on a mirror, or points that are no image.
    assert sum(length for *_, length in pieces) == 2 * size and len(pieces) <= 4
    assert sum(asked) <= 4 * 5


@all_ends
def test_many_repetitions(ends):
    lower, upper, sizes, draw = 83, 150, (1, 2, 3), np.random.default_rng(0)
    given = zip(ends, (1.5, -0.25), strict=True)
    values = [value if mode.startswith("dirichlet") else None for mode, value in given]
    argument = None if values == [None, None] else (tuple(values), None)

    def extended(fields, argument):
        return [pad(x, [(lower, upper), 0], [ends, "periodic"], argument) for x in fields]

    fields = [draw.integers(-64, 64, (2, size, 2)) / 8 for size in sizes]
    out = [draw.integers(-8, 8, (2, lower + size + upper, 2)) for size in sizes]
    fields_, out_ = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), (fields, out))
    actual = jax.jit(lambda fields: extended(fields, argument))(fields_)
    (pulled,) = jax.jit(jax.linear_transpose(lambda fields: extended(fields, None), fields_))(out_)
    for size, *of in zip(sizes, fields, out, actual, pulled, strict=True):
        x, y, padded, transposed = of
        rows, constant = oracles.extension_matrix(
            range(-lower, size + upper), size, ends, [v or 0.0 for v in values]
        )
        expected = np.einsum("js,csn->cjn", rows, x) + constant[:, None]
        np.testing.assert_array_equal(padded, expected)
        np.testing.assert_array_equal(transposed, np.einsum("js,cjn->csn", rows, y))


@all_ends
def test_programs_are_short_whatever_the_width(ends, monkeypatch):
    asked = []
    counted = lambda positions, *of: asked.append(np.size(positions)) or source(positions, *of)
    monkeypatch.setattr(_extension, "source", counted)
    lengths = {
        width: len(jax.make_jaxpr(lambda x, w=width: pad(x, [w], [ends]))(jnp.zeros(2)).eqns)
        for width in (5, 5000, 50_000)
    }
    # Each piece takes three operations (slice, reversal, sign); repeating a period takes four.
    assert lengths[50_000] == lengths[5000] <= 3 * 16 + 4
    assert sum(asked) < 1000


# Half precision.


@all_modes
@pytest.mark.parametrize(
    "half, size, width", [("bfloat16", 3, 1500), ("bfloat16", 400, 390), ("float16", 1, 3000)]
)
def test_half_precision_is_summed_in_single(mode, half, size, width):
    """The gradient is that of float32, rounded once. It sums ones and counts of ones, which are
    exact in float32, in any order.
    """
    x = jnp.ones((2, size), half)
    value = jnp.ones(2, half) if mode.startswith("dirichlet") else None

    def gradients(x, value):
        function = lambda x, value: pad(x, [(width, width + 1)], mode, value)
        y, pull = jax.vjp(function, x, value)
        return y, *jax.tree.leaves(pull(jnp.ones_like(y)))

    single = jax.tree.map(lambda a: a.astype(jnp.float32), (x, value))
    for run in (gradients, jax.jit(gradients)):
        for actual, expected in zip(run(x, value), gradients(*single), strict=True):
            assert actual.dtype == half
            np.testing.assert_array_equal(actual, expected.astype(half))


def test_a_value_for_several_walls_has_one_sum():
    gradient = jax.grad(lambda v: jnp.sum(pad(jnp.zeros((3, 301), v.dtype), [1, 1], "zeros", v)))
    value = jnp.ones((), jnp.bfloat16)
    walls = 2 * 301 + 2 * 5
    assert gradient(value) == gradient(jnp.ones(())).astype(jnp.bfloat16) == jnp.bfloat16(walls)


def test_half_precision_is_kept_where_nothing_repeats():
    jaxpr = jax.make_jaxpr(lambda x: pad(x, [3, 2], "zeros"))(jnp.ones((4, 4), jnp.bfloat16))
    assert all(v.aval.dtype == jnp.bfloat16 for e in jaxpr.eqns for v in (*e.invars, *e.outvars))


# Outside of `jax.jit`, and in exported programs.


@all_modes
@pytest.mark.parametrize("width", [2, 300])
def test_nothing_is_sent_to_the_device(mode, width):
    x = jax.device_put(np.ones((2, 3), np.float32))
    value = jax.device_put(np.ones(2, np.float32)) if mode.startswith("dirichlet") else None
    with jax.transfer_guard("disallow"):
        guarded = pad(x, [width], mode), pad(x, [width], mode, value)
    with jax.disable_jit():
        np.testing.assert_array_equal(guarded[0], pad(x, [width], mode))
        np.testing.assert_array_equal(guarded[1], pad(x, [width], mode, value))


def exported(ends, widths, constraints):
    (n,) = export.symbolic_shape("n", constraints=constraints)
    shape = jax.ShapeDtypeStruct((2, n), jnp.float32)
    return export.export(jax.jit(lambda x: pad(x, [widths], [ends])))(shape)


@all_ends
def test_open_sizes(ends):
    widths = (3, 2)
    program = exported(ends, widths, ["n >= 4"])
    for size in (4, 5, 11):
        x = np.random.default_rng(size).integers(-64, 64, (2, size)).astype(np.float32)
        rows, _ = oracles.extension_matrix(range(-3, size + 2), size, ends)
        np.testing.assert_array_equal(program.call(x), x @ rows.T)


@all_modes
def test_open_sizes_are_long_enough_or_cannot_be_known(mode):
    """Finds the smallest size whose first image has four points."""
    smallest = {"neumann": 5, "dirichlet_node": 3, "dirichlet": 1, "outflow": 1}.get(mode, 4)
    program = exported((mode, mode), (4, 4), [f"n >= {smallest}"])
    x = np.arange(2.0 * smallest, dtype=np.float32).reshape(2, smallest)
    np.testing.assert_array_equal(program.call(x), pad(x, [4], mode))
    if smallest > 1:
        with pytest.raises(Exception, match=r"comparison .* is inconclusive"):
            exported((mode, mode), (4, 4), [f"n >= {smallest - 1}"])
        with pytest.raises(ValueError, match="`widths` must be at most"):
            exported((mode, mode), (4, 4), [f"n <= {smallest - 1}"])
