"""Defines the settings and fixtures of every test suite of the project."""

from contextlib import contextmanager, nullcontext

import hypothesis
import jax
import jax.numpy as jnp
import pytest
from shares import share


# Layers on meshes need several devices; arrays are on the first unless a test places them.
jax.config.update("jax_num_cpu_devices", 8)

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# The default generator, threefry, takes a second to compile for every new shape of weights; this
# one takes a tenth of that. Tests that need threefry ask for it.
jax.config.update("jax_default_prng_impl", "rbg")

# A failing case prints the `reproduce_failure` blob that runs it again. There is no deadline,
# because the first call of every shape compiles.
hypothesis.settings.register_profile("project", deadline=None, max_examples=30, print_blob=True)
hypothesis.settings.load_profile("project")


def pytest_addoption(parser):
    parser.addoption("--share", metavar="K/N", help="of every test, each N-th case from K on")


def pytest_collection_modifyitems(config, items):
    part = config.getoption("--share")
    if part is None:
        return
    try:
        chosen = share((item.nodeid for item in items), part)
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None
    left = [item for item in items if item.nodeid not in chosen]
    items[:] = [item for item in items if item.nodeid in chosen]
    config.hook.pytest_deselected(items=left)


@contextmanager
def double_precision():
    """Puts JAX in 64-bit mode, where XLA leaves out most optimisations, which take half of the time
    of a test. Tests in 32-bit mode, in which most people train, compile as users do.
    """
    name = "jax_disable_most_optimizations"
    before = jax.config.read(name)
    jax.config.update("jax_enable_x64", True)
    jax.config.update(name, True)
    yield
    jax.config.update("jax_enable_x64", False)
    jax.config.update(name, before)


@pytest.fixture
def x64():
    """Puts JAX in 64-bit mode for the length of a test."""
    with double_precision():
        yield


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    """Gives JAX's default float, in 32-bit and in 64-bit mode."""
    with double_precision() if request.param == "float64" else nullcontext():
        yield jnp.dtype(request.param)
