"""Settings and fixtures of every test suite of the project."""

import hypothesis
import jax
import jax.numpy as jnp
import pytest


jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# The default generator, threefry, takes a second to compile for every new shape of weights; this
# one a tenth. Tests that need threefry ask for it.
jax.config.update("jax_default_prng_impl", "rbg")

# A failing case prints the `reproduce_failure` blob that runs it again. No deadline: the first
# call of every shape compiles.
hypothesis.settings.register_profile("project", deadline=None, max_examples=30, print_blob=True)
hypothesis.settings.load_profile("project")


@pytest.fixture
def x64():
    """JAX in 64-bit mode for the length of a test."""
    jax.config.update("jax_enable_x64", True)
    yield
    jax.config.update("jax_enable_x64", False)


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    """JAX's default float, in 32-bit and in 64-bit mode."""
    jax.config.update("jax_enable_x64", request.param == "float64")
    yield jnp.dtype(request.param)
    jax.config.update("jax_enable_x64", False)
