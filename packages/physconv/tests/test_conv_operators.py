"""Tests the two convolutions as operators: adjoints, symmetries, support, consistency."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import oracles
import pytest

from pdequinox_padding import pad
from pdequinox_physconv import PhysicsConv, PhysicsConvTranspose


KEY = jr.key(0)


def normal(shape, dtype=None, seed=1):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def rounding(layer, x):
    """Bounds the rounding of one output value as `oracles.assert_within_rounding` does."""
    terms = layer.weight[0].size + 1
    weight, x = np.asarray(layer.weight), np.asarray(x)
    magnitude = np.max(np.sum(np.abs(weight), axis=tuple(range(1, weight.ndim))))
    return 2 * terms * float(jnp.finfo(x.dtype).eps * magnitude * (1 + np.max(np.abs(x))))


def adjoint_weight(weight, groups):
    """Swaps the channels within every group and flips the kernel."""
    weight = np.asarray(weight)
    c_out, per_group, *kernel = weight.shape
    blocks = weight.reshape(groups, c_out // groups, per_group, *kernel).swapaxes(1, 2)
    flipped = np.flip(blocks, axis=tuple(range(3, blocks.ndim)))
    return jnp.asarray(flipped.reshape(groups * per_group, c_out // groups, *kernel))


@pytest.mark.parametrize(
    "kernel, stride, dilation",
    [
        *(((k,), (s,), (d,)) for k, s, d in itertools.product(range(1, 6), (1, 2, 3), (1, 2))),
        ((3, 2), (2, 3), (1, 2)),
        ((4, 1), (1, 2), (3, 1)),
        ((2, 3, 4), (2, 1, 3), (1, 2, 1)),
    ],
    ids=str,
)
def test_transpose_is_the_adjoint(kernel, stride, dilation, x64):
    dims, given = len(kernel), {}
    for mode, groups in itertools.product(["dirichlet", "periodic"], [1, 2]):
        spatial = {"periodic": (6, 12, 3), "dirichlet": (7, 4, 5)}[mode][:dims]
        shared = dict(stride=stride, dilation=dilation, groups=groups, use_bias=False, key=KEY)
        forward = PhysicsConv(dims, 2, 4, kernel, boundary_mode=mode, **shared)
        # For "periodic" this is `stride - 1`, as the stride divides the size.
        output_padding = tuple((n - 1) % s for n, s in zip(spatial, stride, strict=True))
        transposed = PhysicsConvTranspose(
            dims, 4, 2, kernel, boundary_mode=mode, output_padding=output_padding, **shared
        )
        transposed = eqx.tree_at(
            lambda layer: layer.weight, transposed, adjoint_weight(forward.weight, groups)
        )
        x = normal((2, *spatial))
        y = normal(jax.eval_shape(forward, x).shape, seed=2)
        given[mode, groups] = (forward, transposed, x, y)

    @eqx.filter_jit
    def program(given):
        return {
            case: (jax.vjp(forward, x)[1](y)[0], transposed(y))
            for case, (forward, transposed, x, y) in given.items()
        }

    for case, (expected, actual) in program(given).items():
        _, transposed, x, y = given[case]
        assert actual.shape == x.shape, case
        atol = rounding(transposed, y)
        np.testing.assert_allclose(actual, expected, rtol=0, atol=atol, err_msg=str(case))


@pytest.mark.parametrize("kernel, dilation", [((3, 3), 1), ((2, 5), 2), ((4, 1), 3)])
@pytest.mark.parametrize("stride", [1, 2])
def test_periodic_layers_commute_with_rolls(kernel, stride, dilation, dtype):
    shared = dict(dilation=dilation, key=KEY, boundary_mode="periodic")
    x = normal((2, 6, 4), dtype)
    for coarse, fine, layer in [
        (1, stride, PhysicsConv(2, 2, 3, kernel, stride, **shared)),
        (stride, 1, PhysicsConvTranspose(2, 2, 3, kernel, stride, stride - 1, **shared)),
    ]:
        apply = eqx.filter_jit(layer)
        rolled = apply(jnp.roll(x, (2 * fine, -fine), (1, 2)))
        expected = jnp.roll(apply(x), (2 * coarse, -coarse), (1, 2))
        np.testing.assert_allclose(rolled, expected, rtol=0, atol=rounding(layer, x))


@pytest.mark.parametrize("layer_type", [PhysicsConv, PhysicsConvTranspose])
def test_axes_are_alike(layer_type, dtype):
    """Permuted axes of the field, the kernel and every argument give permuted outputs."""
    kernel, stride, dilation = (3, 2, 4), (2, 1, 1), (1, 2, 1)
    modes = ["periodic", ("neumann", "outflow"), ("dirichlet_cell", "dirichlet_node")]
    x = normal((2, 4, 3, 5), dtype)

    def make(order):
        take = lambda values: [values[axis] for axis in order]
        layer = layer_type(
            3, 2, 3, take(kernel), take(stride), dilation=take(dilation), key=KEY,
            boundary_mode=take(modes), zero_bias_init=True,
        )  # fmt: skip
        return layer, lambda a: jnp.transpose(a, (0, *(1 + axis for axis in order)))

    reference, _ = make((0, 1, 2))
    expected = eqx.filter_jit(reference)(x)
    for order in [(2, 0, 1), (1, 2, 0)]:
        layer, permute = make(order)
        weight = reference.weight.transpose((0, 1, *(2 + axis for axis in order)))
        layer = eqx.tree_at(lambda f: f.weight, layer, weight)
        actual = eqx.filter_jit(layer)(permute(x))
        np.testing.assert_allclose(actual, permute(expected), rtol=0, atol=rounding(layer, x))


@pytest.mark.parametrize("layer_type", [PhysicsConv, PhysicsConvTranspose])
@pytest.mark.parametrize("ends", oracles.ALL_ENDS, ids="-".join)
def test_reflections(ends, layer_type, x64):
    """A reflected field, kernel and pair of ends give the reflected output, for odd kernels."""
    x = normal((2, 5))
    make = lambda ends: layer_type(1, 2, 3, 3, 2, dilation=2, key=KEY, boundary_mode=[ends])
    layer, mirrored = make(ends), make(ends[::-1])
    mirrored = eqx.tree_at(lambda f: f.weight, mirrored, jnp.flip(layer.weight, -1))
    program = jax.jit(lambda x: (mirrored(jnp.flip(x, -1)), jnp.flip(layer(x), -1)))
    actual, expected = program(x)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=rounding(layer, x))


@pytest.mark.parametrize("k", range(1, 6))
@pytest.mark.parametrize("s, d", [(1, 1), (1, 2), (2, 1), (3, 2)])
@pytest.mark.parametrize("layer_type", [PhysicsConv, PhysicsConvTranspose])
def test_receptive_field_is_the_support_of_the_jacobian(layer_type, k, s, d):
    size = 12
    layer = layer_type(1, 2, 3, k, s, dilation=d, key=KEY, boundary_mode="dirichlet")
    jacobian = jax.jit(lambda x: jax.jacobian(layer)(x))(normal((2, size)))
    outputs, inputs = np.nonzero(np.any(np.asarray(jacobian) != 0, axis=(0, 2)))
    forward = layer_type is PhysicsConv
    offsets = inputs - s * outputs if forward else s * inputs - outputs
    ((lower, upper),) = layer.receptive_field
    assert isinstance(lower, float) and isinstance(upper, float)
    assert (offsets.min(), offsets.max()) == (-lower, upper)
    small, large = (k - 1) // 2 * d, k // 2 * d
    assert (lower, upper) == ((small, large) if forward else (large, small))


# For each pair of ends: the points of a grid between the walls 0 and 1, and a field that satisfies
# both boundary conditions, with its wavenumber.
PI = np.pi
MANUFACTURED = {
    ("periodic", "periodic"): (lambda n: np.arange(n) / n, np.sin, 2 * PI),
    ("neumann", "neumann"): (lambda n: np.arange(n) / (n - 1), np.cos, 2 * PI),
    ("neumann_cell", "neumann_cell"): (lambda n: (np.arange(n) + 0.5) / n, np.cos, 2 * PI),
    ("dirichlet_node", "dirichlet_node"): (
        lambda n: (np.arange(n) + 1) / (n + 1),
        np.sin,
        2 * PI,
    ),
    ("dirichlet_cell", "dirichlet_cell"): (lambda n: (np.arange(n) + 0.5) / n, np.sin, 2 * PI),
    ("dirichlet_cell", "neumann_cell"): (lambda n: (np.arange(n) + 0.5) / n, np.sin, 2.5 * PI),
    ("neumann_cell", "dirichlet_cell"): (lambda n: (np.arange(n) + 0.5) / n, np.cos, 2.5 * PI),
    ("dirichlet_node", "neumann"): (lambda n: (np.arange(n) + 1) / n, np.sin, 2.5 * PI),
    ("neumann", "dirichlet_node"): (lambda n: np.arange(n) / n, np.cos, 2.5 * PI),
    ("neumann", "dirichlet_cell"): (lambda n: np.arange(n) / (n - 0.5), np.cos, 2.5 * PI),
    ("neumann_cell", "dirichlet_node"): (
        lambda n: (np.arange(n) + 0.5) / (n + 0.5),
        np.cos,
        2.5 * PI,
    ),
    ("neumann", "neumann_cell"): (lambda n: np.arange(n) / (n - 0.5), np.cos, 2 * PI),
    ("dirichlet_node", "dirichlet_cell"): (
        lambda n: (np.arange(n) + 1) / (n + 0.5),
        np.sin,
        2 * PI,
    ),
}


def laplacian(dims, spacings, ends):
    """Makes the layer whose weights are the three-point second difference along every axis."""
    layer = PhysicsConv(dims, 1, 1, 3, use_bias=False, key=KEY, boundary_mode=ends)
    weight = np.zeros((3,) * dims)
    for axis, h in enumerate(spacings):
        line = [1] * dims
        line[axis] = slice(None)
        weight[tuple(line)] += np.array([1, -2, 1]) / h**2
    return eqx.tree_at(lambda f: f.weight, layer, jnp.asarray(weight[None, None]))


def orders(errors):
    return np.log2(np.array(errors[:-1]) / np.array(errors[1:]))


@pytest.mark.parametrize("ends", MANUFACTURED, ids="-".join)
def test_laplacian_converges_with_second_order_up_to_the_wall(ends, x64):
    grid, function, wavenumber = MANUFACTURED[ends]
    errors = []
    for n in (32, 64, 128):
        x = grid(n)
        field = function(wavenumber * x)
        layer = laplacian(1, [x[1] - x[0]], [ends])
        error = np.asarray(layer(jnp.asarray(field[None]))[0]) + wavenumber**2 * field
        errors.append(np.max(np.abs(error)))
    # The spacings of the grids halve up to O(h), which changes the order by as much.
    np.testing.assert_allclose(orders(errors), 2, atol=0.1)


def test_laplacian_in_two_dimensions(x64):
    first, second = ("dirichlet_cell", "neumann_cell"), ("dirichlet_node", "neumann")
    errors = []
    for n in (32, 64, 128):
        axes, fields, total = [], [], 0.0
        for (grid, function, wavenumber), size in zip(
            (MANUFACTURED[first], MANUFACTURED[second]), (n, 2 * n), strict=True
        ):
            axes.append(grid(size))
            fields.append(function(wavenumber * axes[-1]))
            total += wavenumber**2
        field = np.outer(*fields)
        layer = laplacian(2, [x[1] - x[0] for x in axes], [first, second])
        errors.append(
            np.max(np.abs(np.asarray(layer(jnp.asarray(field[None]))[0]) + total * field))
        )
    np.testing.assert_allclose(orders(errors), 2, atol=0.1)


@pytest.mark.parametrize("mode", ["dirichlet_node", "dirichlet_cell"])
def test_laplacian_between_walls_of_given_values(mode, x64):
    """A straight line between two wall values has no curvature, at the walls either."""
    grid = MANUFACTURED[mode, mode][0]
    line = 2.0 - 5.0 * grid(16)
    padded = pad(jnp.asarray(line), [1], mode, ((2.0, -3.0),))
    np.testing.assert_allclose(np.diff(padded, 2), 0, atol=16 * np.finfo(float).eps * 5)
