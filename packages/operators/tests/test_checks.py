"""Tests the checks of arguments: what they accept, what they refuse, and their messages."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pdequinox_operators import checks


@pytest.mark.parametrize("value", [2, np.int64(2), np.int8(2), np.array(2)])
def test_integers_of_all_kinds(value):
    assert checks.integer(value, "n") == 2
    assert checks.integers(value, 3, "n") == (2, 2, 2)
    assert checks.integers([value, 1], 2, "n") == (2, 1)
    assert all(type(n) is int for n in checks.integers([value, 1], 2, "n"))
    assert checks.widths([value, (0, value)], 2, "n") == ((2, 2), (0, 2))


def test_integers_in_an_array():
    assert checks.integers(np.array([3, 5]), 2, "kernel_size") == (3, 5)


@pytest.mark.parametrize("value", [True, np.bool_(True), 1.0, "1", None, [1], 1j])
def test_what_is_no_integer(value):
    with pytest.raises(TypeError, match=re.escape(f"`n` must be an integer >= 1, got {value!r}")):
        checks.integer(value, "n")


@pytest.mark.parametrize(
    "value, error, text",
    [
        (0, ValueError, "got 0"),
        ([1, -1], ValueError, "got [1, -1]"),
        ([1, 2, 3], ValueError, "has 3 entries instead of 2"),
        ([1, True], TypeError, "got [1, True]"),
        ([1, 2.0], TypeError, "got [1, 2.0]"),
        ("12", TypeError, "got '12'"),
        (1.5, TypeError, "got 1.5"),
        (np.array(3.0), TypeError, "got array(3.)"),
        (np.array([[3, 3]]), TypeError, "got array([[3, 3]])"),
        (np.array([3.0, 3.0]), TypeError, "got array([3., 3.])"),
        ({3, 5}, TypeError, "got {3, 5}"),
        (iter([3, 5]), TypeError, "got <list_iterator"),
    ],
)
def test_what_are_no_integers(value, error, text):
    with pytest.raises(error, match=re.escape(text)) as caught:
        checks.integers(value, 2, "stride")
    assert "`stride` must be an integer >= 1, or a sequence" in str(caught.value)


def test_groups_divide_the_channels():
    assert checks.groups(np.int32(2), 4, 6) == 2
    with pytest.raises(ValueError, match="`groups` must divide `in_channels` = 4, got 3"):
        checks.groups(3, 4, 6)
    with pytest.raises(ValueError, match="`groups` must divide `out_channels` = 6, got 4"):
        checks.groups(4, 4, 6)


def test_dtypes(dtype):
    assert checks.parameter_dtype(None) == dtype
    assert checks.parameter_dtype("bfloat16") == jnp.bfloat16
    for wrong in (complex, "int32", "float99", "float8_e5m2", bool):
        with pytest.raises(TypeError, match="`dtype` must be None or one of"):
            checks.parameter_dtype(wrong)


def test_double_precision_must_be_switched_on(x64):
    assert checks.parameter_dtype("float64") == jnp.float64
    jax.config.update("jax_enable_x64", False)
    with pytest.raises(ValueError, match=r"got float64: set the configuration .*`jax_enable_x64`"):
        checks.parameter_dtype("float64")


@pytest.mark.parametrize("value", [True, False, np.bool_(True)])
def test_flags(value):
    assert checks.flag(value, "use_bias") is bool(value)


@pytest.mark.parametrize("value", [1, 0, None, "True", [True], np.array(True)])
def test_what_is_no_flag(value):
    text = re.escape(f"`use_bias` must be True or False, got {value!r}")
    with pytest.raises(TypeError, match=text):
        checks.flag(value, "use_bias")


@pytest.mark.parametrize(
    "value, error, text",
    [
        (-1, ValueError, "got -1"),
        ([(1, 2), (0, -1)], ValueError, "got [(1, 2), (0, -1)]"),
        ([1], ValueError, "has 1 entries instead of 2"),
        ([(1, 2, 3), 1], ValueError, "has 3 entries instead of 2"),
        ([1, True], TypeError, "got [1, True]"),
        ("same", TypeError, "got 'same'"),
        (0.5, TypeError, "got 0.5"),
    ],
)
def test_what_are_no_widths(value, error, text):
    with pytest.raises(error, match=re.escape(text)) as caught:
        checks.widths(value, 2, "padding")
    assert "`padding` must be an integer >= 0, or a sequence" in str(caught.value)


def test_samples():
    float32 = jnp.dtype("float32")
    x = np.ones((2, 3, 4), float32)
    np.testing.assert_array_equal(checks.sample(x, 2, 2, float32), x)
    assert isinstance(checks.sample(x, 2, 2, float32), jax.Array)


@pytest.mark.parametrize(
    "x, error, text",
    [
        ("field", TypeError, "`x` must be an array, got 'field'"),
        (jnp.ones((5, 2, 3, 4)), ValueError, "one axis too many: use `jax.vmap`"),
        (jnp.ones((3, 3, 4)), ValueError, "shape (in_channels=2, N_1, N_2), got (3, 3, 4)"),
        (jnp.ones((2, 3)), ValueError, "shape (in_channels=2, N_1, N_2), got (2, 3)"),
        (jnp.ones((2, 3, 0)), ValueError, "with every N at least 1, got (2, 3, 0)"),
        (jnp.ones((2, 3, 4), "complex64"), TypeError, "`x` must be real, got dtype complex64"),
        (jnp.ones((2, 3, 4), "bfloat16"), TypeError, "float32, got bfloat16: convert one"),
        (jnp.ones((2, 3, 4), "int32"), TypeError, "float32, got int32: convert one"),
    ],
    ids=lambda value: "" if isinstance(value, jax.Array) else None,
)
def test_what_is_no_sample(x, error, text):
    with pytest.raises(error, match=re.escape(text)):
        checks.sample(x, 2, 2, jnp.dtype("float32"))
