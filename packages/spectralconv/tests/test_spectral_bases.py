"""Tests the functions of every axis, the transforms to and from them, and the choice of one."""

import dataclasses
import itertools
import re

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import oracles
import pytest
import scipy.fft

from pdequinox_padding import Boundary
from pdequinox_spectralconv import _fourier, SpectralConv
from pdequinox_spectralconv._basis import _cos, _sin, bases
from pdequinox_spectralconv._cpu import choice
from pdequinox_spectralconv._transform import analyse, synthesise


PERIODIC = ("periodic", "periodic")
EPS = np.finfo(float).eps


def functions_of(ends, num_modes, full=False):
    """Makes the basis of one axis."""
    (basis,) = bases(Boundary.parse([ends], 1), (num_modes,))
    return dataclasses.replace(basis, full=full)


def names_of(basis):
    return tuple(kind.name for kind in basis.ends)


def normal(shape, dtype=None, seed=1):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


# Functions


@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_functions_between_walls(size):
    for ends in oracles.WALL_ENDS:
        basis = functions_of(ends, size)
        assert basis.limit(size) == (size, "N")
        functions = oracles.wall_functions(size, ends, size)
        # The condition number is small: columns are orthogonal except for points that count half.
        atol = 40 * size**2 * EPS
        coefficients = basis.scale(size)[:, None] * basis.analysis(size).T
        np.testing.assert_allclose(coefficients, np.linalg.inv(functions), rtol=0, atol=atol)
        for to_size in {size, size + 3}:
            # The oracle's angles are at most `pi size`, and off by some roundings of that.
            atol = 4 * np.pi * size * EPS * np.max(basis.scale(size))
            expected = oracles.wall_functions(to_size, ends, size) * basis.scale(size)
            actual = basis.synthesis(to_size, size)
            np.testing.assert_allclose(actual, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("size", [1, 2, 7, 8])
def test_functions_of_the_last_periodic_axis(size):
    modes = size // 2 + 1
    basis = functions_of(PERIODIC, modes)
    assert basis.limit(size)[0] == modes
    spectrum = np.fft.rfft(np.eye(size))
    actual = basis.analysis(size)
    assert actual.shape == (size, 2, modes)
    # The fast transform of a unit vector has four roundings a stage.
    atol = 4 * np.log2(2 * size) * EPS
    np.testing.assert_allclose(actual[:, 0] + 1j * actual[:, 1], spectrum, rtol=0, atol=atol)
    counts = np.array([1.0 if 2 * k % size == 0 else 2.0 for k in range(modes)])
    np.testing.assert_array_equal(basis.scale(size), counts / size)
    # The same number of waves on another grid, counted as on this one.
    places = np.arange(size + 3)[:, None] / (size + 3)
    waves = np.exp(2j * np.pi * np.arange(modes) * places).conj() * counts / size
    actual = basis.synthesis(size + 3, size)
    atol = 8 * np.pi * size * EPS
    np.testing.assert_allclose(actual[:, 0] + 1j * actual[:, 1], waves, rtol=0, atol=atol)


def test_functions_are_exact_where_they_are_0_and_1():
    half = functions_of(PERIODIC, 5).analysis(8)
    assert np.all(half[:, 1, [0, 4]] == 0)
    np.testing.assert_array_equal(half[:, 0, 4], [1, -1] * 4)
    alternating = functions_of(("dirichlet_cell",) * 2, 6).analysis(6)[:, 5]
    np.testing.assert_array_equal(alternating, [1, -1] * 3)
    period = 48
    turns = np.arange(-2 * period, 2 * period)
    twelfths = {0: 1.0, 2: 0.5, 3: 0.0, 4: -0.5, 6: -1.0, 8: -0.5, 9: 0.0}
    for function, shift in ((_cos, 0), (_sin, period // 4)):
        values = function(turns + shift, period)
        for twelfth, value in twelfths.items():
            # 0.5 is exact only up to rounding, because the angle is no floating-point number.
            error = np.abs(values[12 * turns % (12 * period) == twelfth * period] - value)
            assert len(error) == 4 and np.all(error <= (EPS if abs(value) == 0.5 else 0))


def test_functions_of_long_axes_are_as_exact():
    period = 2**17 + 3
    turns = np.random.default_rng(0).integers(0, 2**35, 10_000)
    angle = 2 * np.longdouble("3.14159265358979323846264338327950288") * (turns % period) / period
    # An angle below an eighth of a turn is rounded thrice, its function once. Where long doubles
    # are doubles, the expectation is off by some roundings of an angle of up to a turn.
    slack = 2 + (20 if np.finfo(np.longdouble).eps == EPS else 0)
    np.testing.assert_allclose(_cos(turns, period), np.cos(angle), rtol=0, atol=slack * EPS)
    np.testing.assert_allclose(_sin(turns, period), np.sin(angle), rtol=0, atol=slack * EPS)


def test_the_last_periodic_axis_is_the_half_one():
    wall = ("neumann", "dirichlet")
    made = bases(Boundary.parse([PERIODIC, wall, PERIODIC, wall], 4), (2, 3, 4, 5))
    assert made == (
        functions_of(PERIODIC, 2, True),
        functions_of(wall, 3),
        functions_of(PERIODIC, 4),
        functions_of(wall, 5),
    )


# Transforms


def in_layers(x):
    """Makes an array as a layer's transforms take it, with one part and one group."""
    return jnp.asarray(x)[None, None]


def by_scipy(x, ends):
    """Sums `x` times each function over the last axis, in one part or two, where SciPy has a
    transform.
    """
    kinds = {
        ("neumann", "neumann"): (scipy.fft.dct, 1),
        ("neumann_cell", "neumann_cell"): (scipy.fft.dct, 2),
        ("neumann", "dirichlet_node"): (scipy.fft.dct, 3),
        ("neumann_cell", "dirichlet_cell"): (scipy.fft.dct, 4),
        ("dirichlet_node", "dirichlet_node"): (scipy.fft.dst, 1),
        ("dirichlet_cell", "dirichlet_cell"): (scipy.fft.dst, 2),
        ("dirichlet_node", "neumann"): (scipy.fft.dst, 3),
        ("dirichlet_cell", "neumann_cell"): (scipy.fft.dst, 4),
    }
    if ends == PERIODIC:
        spectrum = scipy.fft.rfft(x)
        return np.stack([spectrum.real, spectrum.imag])
    function, kind = kinds[tuple("dirichlet_node" if e == "dirichlet" else e for e in ends)]
    return function(x, kind)[None] / 2


NODES, CELLS = ("neumann", "dirichlet", "dirichlet_node"), ("neumann_cell", "dirichlet_cell")
SCIPY_ENDS = [PERIODIC, *itertools.product(NODES, NODES), *itertools.product(CELLS, CELLS)]


def transform_tolerance(size, eps):
    """Bounds the error of a sum of `size` terms of order 1, by a product or a fast transform; see
    `rounding_steps` in test_spectral_conv.py.
    """
    return size * eps * (size + 8 * np.log2(4 * size + 4) + 8)


@pytest.mark.parametrize("method", ["product", "fft"])
@pytest.mark.parametrize("ends", SCIPY_ENDS, ids=str)
def test_analysis_is_that_of_scipy(ends, method, x64):
    """Tests transforms along any axis, truncated to any number of modes."""
    given = []
    for axis, size, dropped in [(0, 2, 0), (1, 7, 0), (2, 8, 2), (1, 16, 5)]:
        shape = [2, 3, 2, 3]
        shape[1 + axis] = size
        modes = functions_of(ends, 1).limit(size)[0] - dropped
        given.append((normal(shape), axis, functions_of(ends, modes)))
    run = lambda fields: [
        analyse(in_layers(x), axis, basis, method)
        for x, (_, axis, basis) in zip(fields, given, strict=True)
    ]
    results = jax.jit(run)([x for x, *_ in given])
    for (x, axis, basis), actual in zip(given, results, strict=True):
        every = by_scipy(np.moveaxis(np.asarray(x), 1 + axis, -1), ends)
        expected = np.moveaxis(every[..., : basis.num_modes], -1, 2 + axis)[:, None]
        atol = transform_tolerance(x.shape[1 + axis], EPS) * np.max(np.abs(x))
        np.testing.assert_allclose(actual, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("method", ["product", "fft"])
def test_analysis_in_every_basis(method, dtype):
    """Tests coefficients of the expansion into all functions, also where SciPy has no transform."""
    size, modes = 5, 4
    given = [functions_of(ends, modes) for ends in oracles.WALL_ENDS]
    x = normal((2, size), dtype)
    run = lambda x: [analyse(in_layers(x), 0, basis, method) for basis in given]
    for basis, actual in zip(given, jax.jit(run)(x), strict=True):
        inverse = np.linalg.inv(oracles.wall_functions(size, names_of(basis), size))[:modes]
        expected = (np.asarray(x, float) @ inverse.T)[None, None]
        assert actual.dtype == dtype
        actual = np.asarray(actual, float) * basis.scale(size)
        # The scale is at most 2: some walls are half a point apart, per point.
        atol = 2 * transform_tolerance(size, np.finfo(dtype).eps) * float(jnp.max(jnp.abs(x)))
        np.testing.assert_allclose(actual, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("method", ["product", "fft"])
def test_synthesis_in_every_basis(method, dtype):
    """Tests the sum of the functions times the scaled coefficients, along any axis, on any grid."""
    modes, from_size = 4, 6
    cases = [(ends, size, at) for at, size in enumerate((4, 7)) for ends in oracles.WALL_ENDS]
    cases += [(PERIODIC, 6, 0), (PERIODIC, 9, 2)]
    given = []
    for ends, size, axis in cases:
        basis = functions_of(ends, modes)
        shape = [2 if basis.periodic else 1, 1, 2, 1, 2, 3]
        shape[3 + axis] = modes
        given.append((normal(shape, dtype), axis, basis, size))
    run = lambda fields: [
        synthesise(z, axis, basis, size, from_size, method)
        for z, (_, axis, basis, size) in zip(fields, given, strict=True)
    ]
    results = jax.jit(run)([z for z, *_ in given])
    for (z, axis, basis, size), actual in zip(given, results, strict=True):
        values = np.moveaxis(np.asarray(z, float), 3 + axis, -1) * basis.scale(from_size)
        if basis.periodic:
            angle = 2 * np.pi / size * np.arange(size)[:, None] * np.arange(modes)
            expected = values[:1] @ np.cos(angle).T - values[1:] @ np.sin(angle).T
        else:
            expected = values @ oracles.wall_functions(size, names_of(basis), modes).T
        expected = np.moveaxis(expected, -1, 3 + axis)
        assert actual.dtype == dtype
        atol = transform_tolerance(size, np.finfo(dtype).eps) * float(jnp.max(jnp.abs(z)))
        np.testing.assert_allclose(actual, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("method", ["product", "fft"])
@pytest.mark.parametrize("size, modes", [(2, 1), (7, 3), (8, 4), (8, 2)])
def test_full_axes(size, modes, method, x64):
    """Tests two parts on both sides, and groups of non-negative and of negative wavenumbers."""
    basis, groups = functions_of(PERIODIC, modes, full=True), 2
    z = normal((2, groups, 3, 2, size, 2))
    spectrum = np.fft.fft(np.asarray(z)[0] + 1j * np.asarray(z)[1], axis=3)
    kept = [spectrum[..., :modes, :], spectrum[..., size - modes :, :]]
    # The groups of this axis lie within the groups of the axes before it.
    kept = np.stack(kept, axis=1).reshape(2 * groups, 3, 2, modes, 2)
    actual = np.asarray(jax.jit(lambda z: analyse(z, 1, basis, method))(z))
    # Complex numbers have twice the terms.
    atol = 2 * transform_tolerance(2 * size, EPS) * float(jnp.max(jnp.abs(z)))
    np.testing.assert_allclose(actual[0] + 1j * actual[1], kept, rtol=0, atol=atol)

    spectrum = np.zeros((groups, 3, 2, size + 1, 2), complex)
    spectrum[..., :modes, :] = kept.reshape(groups, 2, 3, 2, modes, 2)[:, 0]
    spectrum[..., size + 1 - modes :, :] += kept.reshape(groups, 2, 3, 2, modes, 2)[:, 1]
    expected = np.fft.ifft(spectrum, axis=3) * (size + 1) / size
    run = jax.jit(lambda z: synthesise(z, 1, basis, size + 1, size, method))
    actual = np.asarray(run(jnp.stack([kept.real, kept.imag])))
    np.testing.assert_allclose(actual[0] + 1j * actual[1], expected, rtol=0, atol=size * atol)


def test_impossible_imaginary_parts_never_reach_the_inverse_transform(monkeypatch):
    """Backends treat these parts differently, so they are exactly zero in the program."""
    for size, places in [(8, [0, 4]), (7, [0]), (1, [0]), (2, [0, 1])]:
        count = size // 2 + 1
        seen = []
        monkeypatch.setattr(jnp.fft, "irfft", lambda z, seen=seen, **_: seen.append(z) or z.real)
        both = np.asarray(normal((3, 2, count)))
        _fourier._by_fft(jnp.asarray(both), size=size, count=count, transpose=True)
        (spectrum,) = seen
        alone = np.isin(np.arange(count), places)
        factors = np.where(alone, size, size / 2).astype("f4")
        np.testing.assert_array_equal(spectrum.real, both[:, 0] * factors)
        factors[alone] = 0
        np.testing.assert_array_equal(spectrum.imag, both[:, 1] * factors)


# The choice


def choose(basis, size, dtype="float32"):
    return choice.choose(basis, size, np.dtype(dtype))


def numbers_of_a_point(basis):
    """Counts the numbers of the matrix for each point. Both groups of a full axis share waves."""
    return (basis.num_modes + basis.full) * (2 if basis.periodic else 1)


def test_large_matrices_are_not_chosen():
    bound = choice.LARGEST_MATRIX
    for ends in (PERIODIC, ("neumann", "neumann"), ("dirichlet_cell", "neumann")):
        for full in {False, ends == PERIODIC}:
            for size in [2**exponent for exponent in range(25)]:
                for modes in {1, 9, 32, size // 2}:
                    basis = functions_of(ends, modes, full)
                    if 1 <= modes <= basis.limit(size)[0] and choose(basis, size) == "product":
                        assert 4 * size * numbers_of_a_point(basis) <= bound
    for basis in (
        functions_of(PERIODIC, 3),
        functions_of(PERIODIC, 3, True),
        functions_of(("neumann",) * 2, 3),
    ):
        numbers = 8 * numbers_of_a_point(basis)
        assert basis.analysis(8).size == basis.synthesis(8, 9).size == numbers
    assert choose(functions_of(PERIODIC, 8), 2**16) == "product"
    assert choose(functions_of(PERIODIC, 9), 2**16) == "fft"
    assert choose(functions_of(PERIODIC, 8), 2**16, "float64") == "fft"
    assert choose(functions_of(PERIODIC, 4), 2**16, "float64") == "product"


def test_the_faster_one_is_chosen(monkeypatch):
    few, many = functions_of(PERIODIC, 8), functions_of(PERIODIC, 512)
    assert choose(few, 1024) == "product" and choose(many, 1024) == "fft"
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert choose(few, 1024) == choose(many, 1024) == "product"
    assert choose(many, 2048) == "fft"  # This matrix is too large.


def constants(text):
    """Counts the numbers of the largest constant of a program."""
    shapes = re.findall(r"stablehlo\.constant dense<.*>\s*: tensor<((?:\d+x)*)\w+>", text)
    assert shapes
    return max(int(np.prod([int(n) for n in shape.split("x") if n])) for shape in shapes)


def test_long_axes_go_through_the_fast_transform():
    size, modes = 2**17, 32
    layer, x = SpectralConv(1, 1, 2, modes, key=jr.key(0)), normal((1, size))
    run = jax.jit(lambda layer, x: layer(x))
    text = run.lower(layer, x).as_text()
    assert "stablehlo.fft" in text
    assert constants(text) <= 2 * modes
    spectrum = np.fft.rfft(np.asarray(x, float))
    weights = np.asarray(layer.weights_real, float) + 1j * np.asarray(layer.weights_imag, float)
    product = np.zeros((2, spectrum.shape[1]), complex)
    product[:, :modes] = weights[0, :, 0] * spectrum[:, :modes]
    expected = np.fft.irfft(product, size)
    # Two transforms of 17 stages, 4 roundings each; sums of absolute values bound the terms.
    bound = np.mean(np.abs(x)) * 2 * np.sum(np.abs(weights), axis=-1).max()
    atol = bound * (2 * 4 * 17 + 8) * np.finfo(np.float32).eps
    np.testing.assert_allclose(run(layer, x), expected, rtol=0, atol=atol)


def test_constants_of_a_program_are_matrices_of_its_axes():
    boundary_mode = ["periodic", ("neumann", "dirichlet")]
    layer = SpectralConv(2, 1, 1, (3, 4), key=jr.key(0), boundary_mode=boundary_mode)
    text = jax.jit(lambda x: layer(x)).lower(normal((1, 64, 128))).as_text()
    assert "stablehlo.fft" not in text
    assert constants(text) == 128 * 4
    forced = SpectralConv(1, 1, 1, 3, key=jr.key(0), method="fft")
    assert "stablehlo.fft" in jax.jit(lambda x: forced(x)).lower(normal((1, 64))).as_text()


# Precision


@pytest.mark.parametrize("boundary_mode", ["periodic", ("neumann", ("dirichlet", "neumann"))])
def test_products_have_full_precision_unless_told_otherwise(boundary_mode):
    """Some accelerators round float32 factors to fewer digits."""
    layer = SpectralConv(2, 3, 4, (2, 3), key=jr.key(0), boundary_mode=boundary_mode)
    x = normal((5, 3, 8, 8))
    step = lambda layer, x: jax.grad(
        lambda layer, x: jnp.sum(jax.vmap(layer)(x) ** 2), argnums=(0, 1)
    )(layer, x)

    def products():
        # A new function, because the trace of another precision would be used again.
        traced = jax.jit(lambda layer, x: step(layer, x)).trace(layer, x)
        text = traced.lower(lowering_platforms=("cuda",)).as_text()
        return [line for line in text.splitlines() if "stablehlo.dot_general" in line]

    # The layer has two axes forth and back and one product with the matrices. The derivative by the
    # field has as many products, and that by the matrices one.
    lines = products()
    assert len(lines) >= 10
    assert all("precision = [HIGHEST, HIGHEST]" in line for line in lines)
    for setting in ("default", "bfloat16"):
        with jax.default_matmul_precision(setting):
            lines = products()
        assert len(lines) >= 10 and not any("HIGHEST" in line for line in lines)
