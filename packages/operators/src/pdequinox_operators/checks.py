"""Checks the arguments that layers share. Errors name the argument, the value received and what is
allowed. Also gives the dtype in which numbers are summed.

Functions whose arguments are checked here are marked `typing.no_type_check`, so that run-time type
checkers leave a wrong argument to these checks, whose messages say what is allowed.
"""

import operator
from collections.abc import Sequence
from typing import Any, no_type_check, SupportsIndex, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array


Integer: TypeAlias = SupportsIndex
"""Stands for an integer of Python, NumPy or JAX."""
Integers: TypeAlias = SupportsIndex | Sequence[SupportsIndex]
"""Stands for one integer for all axes, or one per axis."""
Widths: TypeAlias = SupportsIndex | Sequence[SupportsIndex | Sequence[SupportsIndex]]
"""Stands for one integer for all axes, or one integer or one pair `(lower, upper)` per axis."""

_DTYPES = ("float16", "bfloat16", "float32", "float64")


def _index(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


@no_type_check
def integer(value: Integer, name: str, *, minimum: int = 1) -> int:
    """Checks that `value` is an integer of at least `minimum`, and returns it as an `int`. Booleans
    are not integers here.
    """
    number = _index(value)
    if number is None:
        raise TypeError(f"`{name}` must be an integer >= {minimum}, got {value!r}.")
    if number < minimum:
        raise ValueError(f"`{name}` must be an integer >= {minimum}, got {value!r}.")
    return number


@no_type_check
def integers(
    value: Integers, num_spatial_dims: int, name: str, *, minimum: int = 1
) -> tuple[int, ...]:
    """Checks that `value` is an integer for all axes, or a sequence with one integer per axis, and
    returns a tuple of `num_spatial_dims` integers of at least `minimum`.
    """
    allowed = (
        f"`{name}` must be an integer >= {minimum}, or a sequence of one such integer per "
        f"spatial axis ({num_spatial_dims} here), got {value!r}"
    )
    entries = _entries(value, num_spatial_dims, allowed)
    numbers = [_index(entry) for entry in entries]
    if None in numbers:
        raise TypeError(f"{allowed}.")
    result = tuple(number for number in numbers if number is not None)
    if min(result) < minimum:
        raise ValueError(f"{allowed}.")
    return result


@no_type_check
def widths(value: Widths, num_spatial_dims: int, name: str) -> tuple[tuple[int, int], ...]:
    """Checks that `value` is an integer >= 0, or a sequence with one entry per axis, each such an
    integer or a pair `(lower, upper)` of them, and returns a tuple of `num_spatial_dims` pairs.
    """
    allowed = (
        f"`{name}` must be an integer >= 0, or a sequence of one entry per spatial axis "
        f"({num_spatial_dims} here), each an integer >= 0 or a pair (lower, upper) of them, "
        f"got {value!r}"
    )
    pairs = []
    for entry in _entries(value, num_spatial_dims, allowed):
        pair = tuple(map(_index, _entries(entry, 2, allowed)))
        if None in pair:
            raise TypeError(f"{allowed}.")
        if min(pair) < 0:
            raise ValueError(f"{allowed}.")
        pairs.append(pair)
    return tuple(pairs)


def _entries(value: Any, length: int, allowed: str) -> tuple[Any, ...]:
    if _index(value) is not None:
        return (value,) * length
    listed = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    if not listed and getattr(value, "ndim", None) != 1:
        raise TypeError(f"{allowed}.")
    entries = tuple(value)
    if len(entries) != length:
        raise ValueError(f"{allowed}, which has {len(entries)} entries instead of {length}.")
    return entries


@no_type_check
def groups(value: Integer, in_channels: int, out_channels: int) -> int:
    """Checks that `value` is a number of groups that divides both channel counts."""
    number = integer(value, "groups")
    for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
        if channels % number:
            raise ValueError(f"`groups` must divide `{name}` = {channels}, got {number}.")
    return number


@no_type_check
def flag(value: bool, name: str) -> bool:
    """Checks that `value` is `True` or `False`."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"`{name}` must be True or False, got {value!r}.")
    return bool(value)


def parameter_dtype(dtype: Any) -> jnp.dtype:
    """Checks the dtype of a layer's parameters, and returns it; JAX's default float for `None`."""
    if dtype is None:
        return jnp.dtype(jax.dtypes.canonicalize_dtype(float))
    try:
        parsed = jnp.dtype(dtype)
    except TypeError:
        parsed = None
    if parsed is None or parsed.name not in _DTYPES:
        raise TypeError(f"`dtype` must be None or one of {list(_DTYPES)}, got {dtype!r}.")
    if jax.dtypes.canonicalize_dtype(parsed) != parsed:
        raise ValueError(
            f"`dtype` must be one that JAX has switched on, got {parsed.name}: "
            "set the configuration option `jax_enable_x64`."
        )
    return parsed


def sum_dtype(dtype: jnp.dtype) -> jnp.dtype:
    """Names the dtype in which numbers of `dtype` are summed: float32 for half precision.

    In bfloat16, 256 + 1 is 256, and in float16, 2048 + 1 is 2048: a sum of ones stops there,
    however many there are. So sums are taken in float32, and rounded once.
    """
    half = jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize < 4
    return jnp.dtype(jnp.float32) if half else dtype


def array(x: Any, name: str = "x") -> Array:
    """Converts `x`, which error messages call `name`, to an array."""
    try:
        return jnp.asarray(x)
    except (TypeError, ValueError) as error:
        raise TypeError(f"`{name}` must be an array, got {x!r}.") from error


def sample(x: Any, num_spatial_dims: int, in_channels: int, dtype: jnp.dtype) -> Array:
    """Checks that `x` is one real sample with `in_channels` channels, on `num_spatial_dims` axes of
    at least one point, with the parameters' `dtype`, and returns it as an array.
    """
    x = array(x)
    axes = ", ".join(f"N_{axis}" for axis in range(1, num_spatial_dims + 1))
    shape = f"`x` must have shape (in_channels={in_channels}, {axes})"
    if x.ndim == num_spatial_dims + 2:
        raise ValueError(
            f"{shape}, got {x.shape}, one axis too many: use `jax.vmap` for a batch of samples."
        )
    if x.ndim != num_spatial_dims + 1 or x.shape[0] != in_channels:
        raise ValueError(f"{shape}, got {x.shape}.")
    if 0 in x.shape:
        raise ValueError(f"{shape} with every N at least 1, got {x.shape}.")
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        raise TypeError(f"`x` must be real, got dtype {x.dtype.name}.")
    if x.dtype != dtype:
        raise TypeError(
            f"`x` must have the dtype of the layer's parameters, {dtype.name}, got "
            f"{x.dtype.name}: convert one of them with `.astype`."
        )
    return x
