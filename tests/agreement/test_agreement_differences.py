"""Tests what pdequinox 0.1.2 does differently, and why. Each test states what is right, passes
here, and fails there in the way that is written beside it.
"""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import pdequinox.conv
import pdequinox_physconv
import pdequinox_spectralconv


class Library(NamedTuple):
    PhysicsConv: Any
    PhysicsConvTranspose: Any
    SpectralConv: Any


OURS = Library(
    pdequinox_physconv.PhysicsConv,
    pdequinox_physconv.PhysicsConvTranspose,
    pdequinox_spectralconv.SpectralConv,
)
THEIRS = Library(
    pdequinox.conv.PhysicsConv,
    pdequinox.conv.PhysicsConvTranspose,
    pdequinox.conv.SpectralConv,
)

DID_NOT_RAISE = pytest.fail.Exception
"""The error of `pytest.raises` if nothing is raised."""

KEY = jr.key(7)
ROUNDING = 64 * float(jnp.finfo(jnp.float32).eps)
"""A tolerance for sums of some dozens of terms, relative to the sum of their absolute values."""


def fails_there(raises: type[BaseException] | None, *arguments: Any) -> list[Any]:
    """Gives the parameters of a test for each library; `None` means that the library passes too."""
    marks = () if raises is None else pytest.mark.xfail(strict=True, raises=raises)
    name = "-".join(map(str, arguments))
    return [
        pytest.param(OURS, *arguments, id=f"{name}-ours".strip("-")),
        pytest.param(THEIRS, *arguments, marks=marks, id=f"{name}-theirs".strip("-")),
    ]


def both(raises: type[BaseException] | None) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("library", fails_there(raises))


@pytest.fixture(autouse=True)
def standard_promotion():
    """Allows promotion of dtypes. The other library's spectral layer adds a Python complex to a
    float array, which JAX refuses under strict promotion, and no test here should fail for that.
    """
    with jax.numpy_dtype_promotion("standard"):
        yield


# Row: weights of the spectral layer built as (G, in, out) and used as (G, out, in).


@pytest.mark.parametrize(
    ("library", "in_channels", "out_channels"),
    [
        *fails_there(ValueError, 2, 3),  # From `einsum`.
        *fails_there(AssertionError, 1, 2),
        *fails_there(AssertionError, 3, 1),
        *fails_there(None, 2, 2),
    ],
)
def test_spectral_conv_has_the_channels_asked_for(library, in_channels, out_channels):
    layer = library.SpectralConv(2, in_channels, out_channels, 2, key=KEY)
    assert layer(jnp.ones((in_channels, 6, 5))).shape == (out_channels, 6, 5)


@pytest.mark.parametrize(
    ("library", "in_channels", "out_channels"),
    [*fails_there(AssertionError, 2, 3), *fails_there(None, 2, 2)],
)
def test_spectral_weights_have_the_output_channels_first(library, in_channels, out_channels):
    layer = library.SpectralConv(2, in_channels, out_channels, (3, 4), key=KEY)
    for weights in (layer.weights_real, layer.weights_imag):
        assert weights.shape == (2, out_channels, in_channels, 3, 4)


# Row: modes that do not fit overwrite each other silently.


@pytest.mark.parametrize(
    ("library", "num_modes", "axis"),
    [
        *fails_there(DID_NOT_RAISE, (5, 2, 2), 0),
        *fails_there(DID_NOT_RAISE, (2, 4, 2), 1),
        # The slices are too short, as the message of `einsum` says.
        *fails_there(AssertionError, (9, 2, 2), 0),
        *fails_there(AssertionError, (2, 2, 6), 2),
    ],
)
def test_modes_that_do_not_fit_are_an_error_that_names_the_axis(library, num_modes, axis):
    layer = library.SpectralConv(3, 1, 1, num_modes, key=KEY)
    with pytest.raises(ValueError, match=rf"`num_modes`.* axis {axis}\b"):
        layer(jnp.ones((1, 8, 6, 8)))


# Row: integer leaves in the spectral layer.


@both(AssertionError)
def test_spectral_leaves_are_arrays(library):
    layer = library.SpectralConv(2, 1, 1, 2, key=KEY)
    assert all(eqx.is_array(leaf) for leaf in jax.tree.leaves(layer))


@both(IndexError)
def test_spectral_conv_goes_through_jit(library):
    layer = library.SpectralConv(1, 1, 1, 3, key=KEY)
    assert jax.jit(lambda layer, x: layer(x))(layer, jnp.ones((1, 8))).shape == (1, 8)


@both(TypeError)
def test_spectral_conv_has_a_gradient(library):
    layer = library.SpectralConv(1, 1, 1, 3, key=KEY)
    gradient = jax.grad(lambda layer: jnp.sum(layer(jnp.ones((1, 8)))))(layer)
    assert gradient.weights_real.shape == (1, 1, 1, 3)


@both(TypeError)
def test_spectral_conv_is_averaged_by_tree_map(library):
    layer = library.SpectralConv(1, 1, 1, 3, key=KEY)
    half = jax.tree.map(lambda leaf: 0.5 * leaf, layer)
    assert half(jnp.ones((1, 8))).shape == (1, 8)


@both(ValueError)
def test_stacked_spectral_convs_are_scanned(library):
    make = lambda key: library.SpectralConv(1, 1, 1, 3, key=key)
    layers = eqx.filter_vmap(make)(jr.split(KEY, 4))
    step = lambda x, layer: (layer(x), None)
    assert jax.lax.scan(step, jnp.ones((1, 8)), layers)[0].shape == (1, 8)


# Row: even kernels of the transposed layer are shifted by one and, periodic, not equivariant.


@pytest.mark.parametrize(
    ("library", "kernel_size", "stride", "dilation"),
    [
        *fails_there(AssertionError, 2, 1, 1),
        *fails_there(AssertionError, 4, 1, 2),
        *fails_there(AssertionError, 4, 2, 3),
        # In this case it extends the field far enough, and is only shifted.
        *fails_there(None, 2, 2, 1),
        *fails_there(None, 3, 2, 1),
    ],
)
def test_periodic_transpose_is_equivariant(library, kernel_size, stride, dilation):
    layer = library.PhysicsConvTranspose(
        1, 2, 3, kernel_size, stride, stride - 1, dilation, key=KEY, boundary_mode="periodic"
    )
    x = jr.normal(jr.key(1), (2, 5))
    y = layer(x)
    assert y.shape == (3, 5 * stride)
    np.testing.assert_allclose(
        layer(jnp.roll(x, 1, axis=1)), jnp.roll(y, stride, axis=1), rtol=0, atol=ROUNDING
    )


@pytest.mark.parametrize("boundary_mode", ["periodic", "dirichlet"])
@pytest.mark.parametrize(
    ("library", "kernel_size", "stride"),
    [
        *fails_there(AssertionError, 2, 1),
        *fails_there(AssertionError, 2, 2),
        *fails_there(AssertionError, 4, 3),
        *fails_there(None, 3, 2),
        *fails_there(None, 5, 3),
    ],
)
def test_transpose_is_the_adjoint_of_the_convolution(library, kernel_size, stride, boundary_mode):
    keywords = {"use_bias": False, "boundary_mode": boundary_mode}
    conv = library.PhysicsConv(1, 2, 3, kernel_size, stride, key=KEY, **keywords)
    transpose = library.PhysicsConvTranspose(
        1, 3, 2, kernel_size, stride, stride - 1, key=KEY, **keywords
    )
    weight = jnp.flip(jnp.swapaxes(conv.weight, 0, 1), axis=2)
    transpose = eqx.tree_at(lambda layer: layer.weight, transpose, weight)
    x = jr.normal(jr.key(1), (2, 6))
    y = jr.normal(jr.key(2), (3, 6 // stride))
    left, right = jnp.vdot(conv(x), y), jnp.vdot(x, transpose(y))
    bound = jnp.linalg.norm(conv(x)) * jnp.linalg.norm(y)
    assert abs(left - right) <= ROUNDING * bound


# Row: `output_padding >= stride` compared as tuples; an int at the call fails.


@pytest.mark.parametrize(
    ("library", "output_padding"),
    [
        *fails_there(DID_NOT_RAISE, (0, 2)),
        *fails_there(DID_NOT_RAISE, (2, 5)),
        *fails_there(DID_NOT_RAISE, (1, -1)),
        *fails_there(DID_NOT_RAISE, (3, 0)),
        *fails_there(None, (3, 2)),
    ],
)
def test_output_padding_is_checked_on_every_axis(library, output_padding):
    with pytest.raises(ValueError, match="output_padding"):
        library.PhysicsConvTranspose(
            2, 1, 1, 3, (3, 2), output_padding, key=KEY, boundary_mode="periodic"
        )


@both(DID_NOT_RAISE)
def test_output_padding_at_the_call_is_checked(library):
    layer = library.PhysicsConvTranspose(1, 1, 1, 3, 2, key=KEY, boundary_mode="periodic")
    with pytest.raises(ValueError, match="output_padding"):
        layer(jnp.ones((1, 4)), output_padding=(2,))


@both(TypeError)
def test_output_padding_at_the_call_is_an_int(library):
    layer = library.PhysicsConvTranspose(2, 1, 1, 3, 2, key=KEY, boundary_mode="periodic")
    x = jr.normal(jr.key(1), (1, 4, 3))
    np.testing.assert_array_equal(layer(x, output_padding=1), layer(x, output_padding=(1, 1)))


# Row: groups unchecked.


@pytest.mark.parametrize(
    ("library", "layer", "in_channels", "out_channels", "argument"),
    [
        *fails_there(DID_NOT_RAISE, "PhysicsConvTranspose", 3, 4, "in_channels"),
        *fails_there(DID_NOT_RAISE, "PhysicsConvTranspose", 4, 3, "out_channels"),
        *fails_there(DID_NOT_RAISE, "PhysicsConv", 4, 3, "out_channels"),
        *fails_there(None, "PhysicsConv", 3, 4, "in_channels"),
    ],
)
def test_groups_divide_the_channels(library, layer, in_channels, out_channels, argument):
    cls = getattr(library, layer)
    with pytest.raises(ValueError, match=rf"`{argument}`"):
        cls(1, in_channels, out_channels, 3, groups=2, key=KEY, boundary_mode="periodic")


# Row: one mode for all axes.


@pytest.mark.parametrize("layer", ["PhysicsConv", "PhysicsConvTranspose"])
@pytest.mark.parametrize(
    ("library", "boundary_mode"),
    [
        *fails_there(AttributeError, ("periodic", "dirichlet")),
        *fails_there(AttributeError, ["neumann", ("dirichlet", "neumann")]),
        *fails_there(None, "neumann"),
    ],
)
def test_boundary_modes_per_axis_and_per_end(library, layer, boundary_mode):
    cls = getattr(library, layer)
    made = cls(2, 1, 2, 3, key=KEY, boundary_mode=boundary_mode)
    assert made(jnp.ones((1, 4, 5))).shape == (2, 4, 5)


# Beyond the table of differences.


@both(TypeError)
def test_spectral_conv_is_one_of_a_sequence(library):
    """`equinox.nn.Sequential` passes a key to every layer."""
    layer = library.SpectralConv(1, 1, 1, 3, key=KEY)
    assert eqx.nn.Sequential([layer])(jnp.ones((1, 8))).shape == (1, 8)


@both(DID_NOT_RAISE)
def test_spectral_conv_does_not_broadcast_one_channel(library):
    layer = library.SpectralConv(1, 2, 2, 3, key=KEY)
    with pytest.raises(ValueError, match="in_channels"):
        layer(jnp.ones((1, 8)))


@both(AssertionError)
def test_receptive_field_of_an_even_transposed_kernel(library):
    """The receptive field is the inputs that an output depends on: with stride 1, one below and two
    above, or two below and one above.
    """
    layer = library.PhysicsConvTranspose(1, 1, 1, 4, key=KEY, boundary_mode="dirichlet")
    reached = jnp.flatnonzero(jax.jacobian(layer)(jnp.ones((1, 9)))[0, 4, 0]) - 4
    conv = library.PhysicsConv(1, 1, 1, 4, key=KEY, boundary_mode="dirichlet")
    (lower, upper), (conv_lower, conv_upper) = layer.receptive_field[0], conv.receptive_field[0]
    assert (int(reached[0]), int(reached[-1])) == (-lower, upper)
    assert (lower, upper) == (conv_upper, conv_lower)


@pytest.mark.parametrize(
    ("library", "padding"), [*fails_there(AssertionError, 0), *fails_there(None, 1)]
)
def test_explicit_padding_of_the_transpose_is_that_of_the_convolution(library, padding):
    """A wider padding makes fewer outputs, as in `equinox.nn.ConvTranspose`. In pdequinox it is the
    padding of the field itself, which is the same if it is half of the kernel's width.
    """
    parent = library.PhysicsConvTranspose.__base__
    x = jr.normal(jr.key(1), (2, 5))
    expected = eqx.nn.ConvTranspose(1, 2, 3, 3, 2, padding=padding, key=KEY)(x)
    y = parent(1, 2, 3, 3, 2, padding, key=KEY)(x)
    assert y.shape == expected.shape
    np.testing.assert_allclose(y, expected, rtol=0, atol=ROUNDING)
