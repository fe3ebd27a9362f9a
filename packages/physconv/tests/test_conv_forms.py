"""Tests every form of a convolution against its formula, the choice among the forms, and the
primitive that makes it, under JAX's transformations.
"""

import re
from itertools import product
from math import prod

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from oracles import assert_within_rounding

from pdequinox_padding import Boundary
from pdequinox_physconv import PhysicsConv, PhysicsConvTranspose
from pdequinox_physconv._convolution import (
    Axis,
    backward,
    Extended,
    forward,
    OPERANDS,
    TARGETS,
    Window,
)
from pdequinox_physconv._cpu import choice as choice_module, forms as form_module
from pdequinox_physconv._cpu.choice import choose, RULES, run as run_form
from pdequinox_physconv._cpu.forms import FORMS
from pdequinox_physconv._operator import (
    convolve as convolve_sample,
    convolve_transposed as convolve_sample_transposed,
    trilinear as trilinear_operator,
)


def window(size, taps, stride=1, dilation=1, lower=0, out=None, groups=1):
    """Makes a window; without `out`, with as many outputs as fit into `x`."""
    spread = lambda v: v if isinstance(v, tuple) else (v,) * len(size)
    size, taps, stride, dilation, lower = map(spread, (size, taps, stride, dilation, lower))
    if out is None:
        out = tuple(
            (n + 2 * low - (k - 1) * d - 1) // s + 1
            for n, k, s, d, low in zip(size, taps, stride, dilation, lower, strict=True)
        )
    columns = (size, taps, spread(out), stride, dilation, lower)
    return Window(tuple(Axis(*column) for column in zip(*columns, strict=True)), groups)


def convolve(a, b, win, form=None, target="y"):
    """Makes a task on the arrays of its window, without an extension."""
    dims = len(win.axes)
    nothing = Extended("x", ((0, 0),) * dims, Boundary.parse("zeros", dims))
    return trilinear_operator(
        a, b, target=target, window=win, extended=nothing, members=False, form=form
    )


# With the channels of each group, and the samples.
CASES = {
    "1-D": (window((9,), 3), (2, 3), 2),
    "1-D same": (window((9,), 3, lower=1), (2, 3), 2),
    "1-D one point": (window((1,), 4, lower=3, out=(2,)), (2, 1), 1),
    "1-D stride 2": (window((9,), 3, 2, lower=1), (2, 3), 2),
    "1-D stride 3 dilation 2": (window((11,), 3, 3, 2, 2), (1, 2), 2),
    "1-D wide kernel, stride 4": (window((16,), 7, 4, lower=5, out=(6,)), (2, 2), 1),
    "1-D groups": (window((8,), 3, groups=3), (2, 1), 2),
    "1-D groups, stride 3": (window((26,), 5, 3, 2, 4, groups=2), (2, 1), 2),
    "1-D groups, many taps": (window((23,), 17, lower=8, groups=2), (1, 2), 2),
    "1-D unread points": (window((9,), 2, 3, out=(2,)), (2, 3), 1),
    "1-D one tap": (window((6,), 1), (2, 3), 2),
    "2-D": (window((6, 5), (3, 2)), (3, 2), 4),
    "2-D same": (window((5, 6), 3, lower=1), (2, 3), 4),
    "2-D dilation": (window((7, 8), (2, 3), 1, (3, 2)), (2, 3), 2),
    "2-D stride": (window((7, 6), (3, 4), (2, 3), 1, (1, 2)), (2, 3), 3),
    "2-D depthwise": (window((5, 6), 3, groups=4), (1, 1), 2),
    "2-D depthwise, one sample": (window((5, 6), (3, 2), (1, 2), groups=4), (1, 2), 1),
    "2-D groups": (window((5, 6), 3, groups=2, lower=1), (2, 3), 2),
    "2-D one tap": (window((3, 4), 1), (3, 2), 2),
    "3-D": (window((6, 4, 5), (3, 2, 3)), (2, 3), 2),
    "3-D same": (window((4, 3, 5), 3, lower=1), (2, 1), 2),
    "3-D stride": (window((5, 4, 6), (3, 2, 2), (2, 2, 1), 1, (1, 0, 1)), (2, 2), 1),
    "3-D dilation": (window((7, 4, 5), 2, 1, (3, 1, 2)), (1, 3), 1),
    "3-D groups": (window((4, 3, 3), 2, groups=2), (2, 1), 2),
}


def channels(case):
    win, (c, o), _ = case
    return win.groups * c, win.groups * o


def arrays(case, dtype, seed=0):
    """Draws random `x`, `w` and `y`."""
    win, _, samples = case
    generator = np.random.default_rng(seed)
    shapes = {name: win.shape(name, samples, channels(case)) for name in TARGETS}
    dtype = jnp.dtype(dtype)
    return {k: generator.standard_normal(s).astype(dtype) for k, s in shapes.items()}


def trilinear(target, a, b, win):
    """Computes the derivative of `T` in float64, with a tensor of zeros and ones for each axis."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    given = dict(zip(OPERANDS[target], (a, b), strict=True))
    letters = {"x": "bc", "w": "oc", "y": "bo"}
    selectors = []
    for axis, (n, k, m, s, d, lower) in enumerate(win.axes):
        at = np.arange(m) * s + np.arange(k)[:, None] * d - lower
        selectors.append((np.arange(n)[:, None, None] == at).astype(float))
        for name, letter in zip("xwy", ("ijk", "pqr", "uvz"), strict=True):
            letters[name] += letter[axis]
    dense = lambda w: np.concatenate(
        [
            np.pad(
                part,
                [(0, 0), (g * w.shape[1], (win.groups - 1 - g) * w.shape[1])]
                + [(0, 0)] * (w.ndim - 2),
            )
            for g, part in enumerate(np.split(w, win.groups))
        ]
    )
    if "w" in given:
        given["w"] = dense(given["w"])
    operands = ",".join(letters[name] for name in given)
    axes = [x + w + y for x, w, y in zip("ijk", "pqr", "uvz", strict=True)][: len(selectors)]
    out = np.einsum(
        f"{operands},{','.join(axes)}->{letters[target]}",
        *given.values(),
        *selectors,
        optimize=True,
    )
    if target == "w" and win.groups > 1:
        o, c = out.shape[0] // win.groups, out.shape[1] // win.groups
        blocks = [out[g * o : (g + 1) * o, g * c : (g + 1) * c] for g in range(win.groups)]
        out = np.concatenate(blocks)
    return out


def terms(target, case):
    """Bounds the number of products that are summed."""
    win, (c, o), samples = case
    taps = prod(win.taps)
    return {"y": c * taps, "x": o * taps, "w": samples * prod(win.out)}[target]


def check(target, case, a, b, actual, where=""):
    win = case[0]
    oracle = trilinear(target, a, b, win)
    magnitude = trilinear(target, abs(a), abs(b), win)
    # There is one more rounding, because sums are rounded when a loop stores them.
    assert_within_rounding(actual, oracle, magnitude, terms(target, case) + 1, where)


def by_every_form(names, forms, dtype):
    """Computes each target that a form accepts, for some of the cases, by form, target and case. It
    is one program, in which every task has its own arrays, so that XLA cannot merge two.
    """
    tasks, given = {}, {}
    for name in names:
        for target in TARGETS:
            for form in forms:
                if FORMS[form].accepts(target, CASES[name][0]):
                    tasks[form, target, name] = lambda a, b, given=(target, CASES[name][0], form): (
                        run_form(given[0], a, b, *given[1:])
                    )
        named = arrays(CASES[name], dtype)
        given |= {
            task: [named[operand] for operand in OPERANDS[task[1]]]
            for task in tasks
            if task[2] == name
        }
    run = jax.jit(lambda given: {task: tasks[task](*given[task]) for task in tasks})
    results = run(given)
    return {task: (*given[task], results[task]) for task in tasks}


@pytest.mark.parametrize("name", CASES)
def test_every_form_is_the_formula(name, dtype, monkeypatch):
    # This gives loops more than one turn.
    monkeypatch.setattr(form_module, "_PIECE_BYTES", 300)
    monkeypatch.setattr(form_module, "_ROW", 4)
    monkeypatch.setattr(form_module, "PRODUCTS", {"y": 4, "w": 2})
    for (form, target, _), (a, b, actual) in by_every_form([name], FORMS, dtype).items():
        check(target, CASES[name], a, b, actual, f"{form} for {target}")


def test_every_form_and_target_is_tested(monkeypatch):
    monkeypatch.setattr(form_module, "_ROW", 4)
    monkeypatch.setattr(form_module, "PRODUCTS", {"y": 4, "w": 2})
    windows = [case[0] for case in CASES.values()]
    for form in FORMS.values():
        for target in TARGETS:
            if any(form.accepts(target, win) for win in RANDOM_WINDOWS):
                assert any(form.accepts(target, win) for win in windows)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_half_precision(name, monkeypatch):
    monkeypatch.setattr(form_module, "_PIECE_BYTES", 100)
    monkeypatch.setattr(form_module, "_ROW", 4)
    monkeypatch.setattr(form_module, "PRODUCTS", {"y": 4, "w": 2})
    forms = ["planes", "shifted", "taps", "matrix", "band"]
    results = by_every_form(["2-D", "2-D one tap", "1-D groups, many taps"], forms, name)
    for (form, target, case), (a, b, actual) in results.items():
        win, where = CASES[case][0], f"{form} for {target} of {case}"
        assert actual.dtype == name, where
        # Sums are in float32. What remains is the rounding of what a piece of a loop stores, and of
        # the result.
        oracle, magnitude = trilinear(target, a, b, win), trilinear(target, abs(a), abs(b), win)
        assert_within_rounding(actual, oracle, magnitude, 2, where)


@pytest.mark.parametrize(
    "form, win, samples",
    [
        ("shifted", window((1,), 1), 1024),
        ("planes", window((1024, 1), 1), 1),
    ],
)
def test_long_sums_are_taken_in_single_precision(form, win, samples, monkeypatch):
    # In bfloat16, 256 + 1 is 256.
    monkeypatch.setattr(form_module, "_PIECE_BYTES", 1)
    x = jnp.ones((samples, 1, *win.size), jnp.bfloat16)
    w = jax.jit(lambda x: run_form("w", x, x, win, form))(x)
    assert w.item() == 1024


def random_windows(count):
    generator = np.random.default_rng(0)
    for _ in range(count):
        dims = int(generator.integers(1, 5))
        draw = lambda low, high, dims=dims: tuple(map(int, generator.integers(low, high, dims)))
        ones = (1,) * dims
        columns = (
            draw(1, 300),
            draw(1, 8) if generator.random() < 0.8 else ones,
            draw(1, 300),
            draw(1, 5) if generator.random() < 0.5 else ones,
            draw(1, 5) if generator.random() < 0.5 else ones,
            draw(0, 9),
        )
        groups = int(generator.choice([1, 1, 2, 16, 64]))
        yield Window(tuple(Axis(*column) for column in zip(*columns, strict=True)), groups)


RANDOM_WINDOWS = list(random_windows(300))


@pytest.mark.parametrize("dtype_name", ["float32", "float64", "bfloat16"])
def test_the_choice_accepts_its_task(dtype_name):
    generator = np.random.default_rng(1)
    for win in RANDOM_WINDOWS:
        c, o = (win.groups * int(v) for v in generator.choice([1, 3, 16, 26, 64], 2))
        for target in TARGETS:
            form = choose(target, win, (c, o), jnp.dtype(dtype_name))
            assert FORMS[form].accepts(target, win), (form, target, win)


def test_every_form_is_chosen_for_some_task(monkeypatch):
    """A form that is never chosen is dead, or its line in `RULES` has been forgotten."""
    monkeypatch.setattr(
        choice_module, "jaxlib_version", lambda: choice_module.RULES[-1].measured[0]
    )
    windows = [*RANDOM_WINDOWS, *(window((66,) * d, 3, lower=1) for d in (1, 2, 3))]
    windows += [window((99,), 3, groups=4), window((99, 99), 9, groups=4)]
    chosen = {
        choose(target, win, (win.groups * c, win.groups * c), jnp.dtype(dtype_name))
        for win in windows
        for target in TARGETS
        for c in (1, 32)
        for dtype_name in ("float32", "float64")
    }
    assert chosen == {*FORMS}
    assert {rule.form for rule in RULES} == {*FORMS} - {"reference"}


@pytest.mark.parametrize(
    "win, channels, forms",
    [
        (window((1024,), 3, lower=1), (32, 32), ("flipped", "last", "last")),
        (window((66, 66), 3), (32, 32), ("flipped", "last", "last")),
        (window((34, 34, 34), 3), (16, 16), ("flipped", "planes", "planes")),
        (window((66, 66), 3, groups=32), (32, 32), ("flipped", "shifted", "shifted")),
        (window((66, 66), 9, groups=32), (32, 32), ("flipped", "taps", "taps")),
        (window((1026,), 31, groups=32), (32, 32), ("flipped", "band", "shifted")),
        (window((66, 66), 3, groups=2), (32, 32), ("flipped", "split", "split")),
        (window((66, 66), 3, groups=8), (32, 32), ("flipped", "split", "shifted")),
        (window((64, 64), 8, 2, lower=2), (32, 32), ("phases", "last", "last")),
        (window((64, 64), 4, 2, lower=1), (32, 32), ("last", "last", "last")),
        (window((9, 9, 9), 2, 2), (32, 32), ("phases", "planes", "planes")),
        (window((64, 64), 1), (32, 32), ("matrix", "matrix", "matrix")),
        (window((3,), 1), (32, 32), ("matrix", "matrix", "matrix")),
    ],
)
def test_what_is_chosen(win, channels, forms):
    chosen = tuple(choose(t, win, channels, jnp.dtype("float32")) for t in TARGETS)
    # In the order x, w, y.
    assert chosen == forms


@pytest.mark.parametrize("version", ["0.10.2", "0.12.0.1", "0.99.0"])
def test_a_jaxlib_that_nobody_measured_gets_structural_rules_alone(version, monkeypatch):
    monkeypatch.setattr(choice_module, "jaxlib_version", lambda: version)
    form = choose("y", window((9,), 3), (2, 3), jnp.dtype("float64"))
    assert form == ("last" if version == "0.99.0" else "line")
    assert choose("w", window((9, 9), 3, groups=2), (2, 2), jnp.dtype("float64")) == "shifted"


def test_pieces_divide():
    assert form_module.piece(12, 10) == 12
    limit = int(form_module._PIECE_BYTES)
    assert form_module.piece(12, limit // 5) == 4
    assert form_module.piece(7, limit // 5) == 1
    assert form_module.piece(12, 10 * limit) == 1
    assert form_module.piece(12, 10, turns=2) == 6
    assert form_module.piece(1, 10, turns=2) == 1


# The primitive


PRIMITIVE_CASES = ["1-D stride 2", "2-D", "2-D groups"]


def bind(target, a, b, win, form=None):
    """Binds the primitive for any target; "w" is the derivative of the others."""
    if target == "y":
        return convolve(a, b, win, form)
    if target == "x":
        return convolve(a, b, win, form, "x")
    shape = win.shape("w", a.shape[0], (a.shape[1], b.shape[1]))
    return jax.linear_transpose(
        lambda w: convolve(a, w, win, form), jax.ShapeDtypeStruct(shape, a.dtype)
    )(b)[0]


@pytest.mark.parametrize("name", PRIMITIVE_CASES)
@pytest.mark.parametrize("form", [None, "reference"])
def test_derivatives(name, form, x64):
    case = CASES[name]
    win, given, other = case[0], arrays(case, "float64"), arrays(case, "float64", seed=1)

    def derivatives(given, other):
        """Tests each target: the gradients, a tangent, and a second derivative."""
        found = {}
        for target in "xy":
            first, second = OPERANDS[target]
            run = lambda a, b, target=target: bind(target, a, b, win, form)
            inner = lambda a, b, run=run, y=given[target]: jnp.sum(run(a, b) * y)
            primals, tangents = (given[first], given[second]), (other[first], other[second])
            gradients = jax.grad(inner, (0, 1))(*primals)
            _, tangent = jax.jvp(run, primals, tangents)
            along = lambda a, inner=inner, b=primals[1]: jax.grad(inner, 1)(a, b)
            _, mixed = jax.jvp(along, primals[:1], tangents[:1])
            found[target] = (gradients, tangent, mixed)
        return found

    found = jax.jit(derivatives)(given, other)
    for target, (gradients, tangent, mixed) in found.items():
        first, second = OPERANDS[target]
        for by, gradient in zip((first, second), gradients, strict=True):
            a, b = (given[operand] for operand in OPERANDS[by])
            check(by, case, a, b, gradient, f"of {target} by {by}")

        # Forward mode: the product rule.
        one = trilinear(target, other[first], given[second], win)
        two = trilinear(target, given[first], other[second], win)
        np.testing.assert_allclose(tangent, one + two, rtol=1e-12, atol=1e-12, err_msg=target)

        # The derivative of the gradient by one operand, along the other operand, is a task again.
        values = {target: given[target], first: other[first]}
        a, b = (values[operand] for operand in OPERANDS[second])
        check(second, case, a, b, mixed, f"of {target} by both")


@pytest.mark.parametrize("name", PRIMITIVE_CASES)
def test_vmap_in_every_position(name, x64):
    case = CASES[name]
    members = [arrays(case, "float64", seed) for seed in range(3)]

    def stack(operand, axis):
        values = [member[operand] for member in members]
        return values[0] if axis is None else np.stack(values, axis)

    axes_of = list(product(TARGETS, [(0, None), (None, 0), (0, 0), (2, 1)]))
    given = [list(map(stack, OPERANDS[target], axes)) for target, axes in axes_of]

    @jax.jit
    def run(given):
        return [
            jax.vmap(lambda a, b, target=target: bind(target, a, b, case[0]), axes)(*pair)
            for (target, axes), pair in zip(axes_of, given, strict=True)
        ]

    for (target, axes), out in zip(axes_of, run(given), strict=True):
        for i in range(3):
            a, b = (
                members[0 if axis is None else i][operand]
                for operand, axis in zip(OPERANDS[target], axes, strict=True)
            )
            check(target, case, a, b, out[i], f"{target}, {axes}, member {i}")


def test_nested_vmap(x64):
    case = CASES["2-D"]
    members = [arrays(case, "float64", seed) for seed in range(6)]
    outer = (0, 0)

    def stack(operand, batched):
        values = np.stack([member[operand] for member in members])
        values = values.reshape(2, 3, *values.shape[1:])
        return values[:, 0] if batched is None else values

    axes_of = list(product(TARGETS, [(0, None), (None, 0), (0, 0)]))
    given = [list(map(stack, OPERANDS[target], inner)) for target, inner in axes_of]

    @jax.jit
    def run(given):
        return [
            jax.vmap(
                jax.vmap(lambda a, b, target=target: bind(target, a, b, case[0]), inner), outer
            )(*pair)
            for (target, inner), pair in zip(axes_of, given, strict=True)
        ]

    for (target, inner), out in zip(axes_of, run(given), strict=True):
        for i, j in np.ndindex(2, 3):
            a, b = (
                members[3 * i + (0 if batched is None else j)][operand]
                for operand, batched in zip(OPERANDS[target], inner, strict=True)
            )
            check(target, case, a, b, out[i, j], f"{target}, {inner}, member {i, j}")


@pytest.mark.parametrize("count", [1, 7, 8, 9, 11, 24])
def test_turns(count):
    """Tests turns that are written out and turns of a loop, also for a prime number of entries."""
    x, y = np.random.default_rng(count).standard_normal((2, count, 3, 4))
    found = jax.jit(lambda x, y: form_module.in_turns(jnp.multiply, x, y))(x, y)
    assert np.array_equal(found, jnp.asarray(x) * jnp.asarray(y))


def test_members_that_take_turns(x64):
    case = CASES["1-D stride 2"]
    members = [arrays(case, "float64", seed) for seed in range(20)]
    stacked = {name: np.stack([member[name] for member in members]) for name in TARGETS}

    @jax.jit
    def run(stacked):
        return {
            target: jax.vmap(lambda a, b, target=target: bind(target, a, b, case[0]))(
                *(stacked[operand] for operand in OPERANDS[target])
            )
            for target in TARGETS
        }

    for target, out in run(stacked).items():
        for i, member in enumerate(members):
            a, b = (member[operand] for operand in OPERANDS[target])
            check(target, case, a, b, out[i], f"{target}, member {i}")


@pytest.mark.parametrize("name", ["1-D stride 2", "2-D depthwise", "2-D one tap", "3-D"])
def test_empty_batches(name):
    case = CASES[name]
    given = arrays(case, "float32")
    axes_of = list(product(TARGETS, [(0, None), (None, 0), (0, 0)]))

    @jax.jit
    def run(given):
        return [
            jax.vmap(lambda a, b, target=target: bind(target, a, b, case[0]), axes)(
                *(
                    given[operand] if axis is None else jnp.zeros((0, *given[operand].shape))
                    for operand, axis in zip(OPERANDS[target], axes, strict=True)
                )
            )
            for target, axes in axes_of
        ]

    for (target, axes), out in zip(axes_of, run(given), strict=True):
        assert out.shape == (0, *given[target].shape), (target, axes)


def test_without_jit():
    case = CASES["2-D"]
    x, w = map(jnp.asarray, (arrays(case, "float32")[name] for name in "xw"))
    check("y", case, x, w, convolve(x, w, case[0]))
    with jax.disable_jit():
        check("y", case, x, w, convolve(x, w, case[0]))


def lowered(function, *arguments, platform):
    return jax.jit(function).trace(*arguments).lower(lowering_platforms=(platform,)).as_text()


@pytest.mark.parametrize("platform", ["cuda", "rocm", "tpu"])
def test_other_platforms_get_the_reference(platform):
    layer = PhysicsConv(3, 8, 8, 3, key=jax.random.key(0), boundary_mode="periodic")
    x = jnp.zeros((2, 8, 32, 32, 32))
    step = lambda x: jax.grad(lambda x: jnp.sum(jnp.square(jax.vmap(layer)(x))))(x)
    plain = lowered(step, x, platform=platform)
    chosen = lowered(step, x, platform="cpu")
    assert plain.count("stablehlo.convolution(") == 2 and "stablehlo.while" not in plain
    assert "stablehlo.while" in chosen


def test_precision_is_that_of_the_call():
    layer = PhysicsConv(1, 2, 3, 3, key=jax.random.key(0), boundary_mode="periodic")
    x = jnp.zeros((2, 8))
    with jax.default_matmul_precision("highest"):
        traced = jax.jit(lambda x: layer(x)).trace(x)
    text = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert "HIGHEST" in text
    text = lowered(lambda x: layer(x), x, platform="cuda")
    assert "HIGHEST" not in text


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_channels_come_last(dims):
    # XLA's CPU backend reorders the axes of convolutions, but not inside loops.
    layer = PhysicsConv(dims, 8, 8, 3, key=jax.random.key(0), boundary_mode="periodic")
    x = jnp.zeros((2, 8, *(16,) * dims))

    def step(x, _):
        return jax.grad(lambda x: jnp.sum(jnp.square(jax.vmap(layer)(x))))(x), None

    text = lowered(lambda x: jax.lax.scan(step, x, None, length=2)[0], x, platform="cpu")
    numbers = re.findall(r"dim_numbers = \[(.*?)\]x\[(.*?)\]", text)
    assert numbers
    for field, kernel in numbers:
        assert field.startswith("b") and field.endswith("f") and kernel.endswith("i, o")


@pytest.mark.parametrize("form", ["reference", "last", "line"])
def test_layers_by_a_form_of_choice(form):
    x = jax.random.normal(jax.random.key(1), (2, 8))
    for layer_type, find, convolve_by, more in [
        (PhysicsConv, forward, convolve_sample, {}),
        (
            PhysicsConvTranspose,
            backward,
            convolve_sample_transposed,
            {"output_padding": (1,)},
        ),
    ]:
        layer = layer_type(1, 2, 3, 3, 2, key=jax.random.key(0), boundary_mode="zeros", **more)
        window, extended = find(
            x.shape[1:],
            layer.kernel_size,
            layer.stride,
            layer.padding,
            *more.values(),
            layer.dilation,
            layer.groups,
            layer.boundary,
        )
        out = convolve_by(x, layer.weight, window, extended, form)
        eps = jnp.finfo(x.dtype).eps
        bound = 2 * 6 * eps * jnp.sum(jnp.abs(layer.weight)) * jnp.max(jnp.abs(x))
        assert jnp.max(jnp.abs(out + layer.bias - layer(x))) <= bound


def test_forms_that_do_not_do_it():
    x, w = jnp.zeros((1, 1, 5, 5)), jnp.zeros((1, 1, 2, 2))
    for form in ("none", "phases"):
        with pytest.raises(
            ValueError, match=rf"`form` must be one of \['reference', .*got '{form}'"
        ):
            convolve(x, w, window((5, 5), 2), form)
