"""Checks of the arguments that several layers share; their errors name the argument, the value
received and what is allowed.

For authors of layers: `pdequinox_physconv` and `pdequinox_spectralconv` use them.
"""

import operator
from collections.abc import Sequence
from typing import Any, SupportsIndex, TYPE_CHECKING, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array


if TYPE_CHECKING:
    Integer: TypeAlias = SupportsIndex
    Integers: TypeAlias = SupportsIndex | Sequence[SupportsIndex]
    Widths: TypeAlias = SupportsIndex | Sequence[SupportsIndex | Sequence[SupportsIndex]]
else:
    # Run-time type checkers see `Any`, so that a wrong argument reaches the checks below, whose
    # messages say what is allowed.
    Integer = Integers = Widths = Any

_DTYPES = ("float16", "bfloat16", "float32", "float64")


def _index(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    try:
        return operator.index(value)
    except TypeError:
        return None


def integer(value: Integer, name: str, *, minimum: int = 1) -> int:
    """`value` as an `int` of at least `minimum`. Booleans are not integers here."""
    number = _index(value)
    if number is None:
        raise TypeError(f"`{name}` must be an integer >= {minimum}, got {value!r}.")
    if number < minimum:
        raise ValueError(f"`{name}` must be an integer >= {minimum}, got {value!r}.")
    return number


def integers(
    value: Integers, num_spatial_dims: int, name: str, *, minimum: int = 1
) -> tuple[int, ...]:
    """`value`, an integer for every axis or a sequence with one integer per axis, as a tuple of
    `num_spatial_dims` integers of at least `minimum`.
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


def widths(value: Widths, num_spatial_dims: int, name: str) -> tuple[tuple[int, int], ...]:
    """`value`, an integer >= 0 or a sequence with one integer or one pair `(lower, upper)` of
    them per axis, as a tuple of `num_spatial_dims` pairs.
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


def groups(value: Integer, in_channels: int, out_channels: int) -> int:
    """`value` as a number of groups that divides both channel counts."""
    number = integer(value, "groups")
    for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
        if channels % number:
            raise ValueError(f"`groups` must divide `{name}` = {channels}, got {number}.")
    return number


def parameter_dtype(dtype: Any) -> jnp.dtype:
    """The dtype of a layer's parameters: `dtype`, or JAX's default float if it is `None`."""
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


def array(x: Any) -> Array:
    """`x` as an array."""
    try:
        return jnp.asarray(x)
    except (TypeError, ValueError) as error:
        raise TypeError(f"`x` must be an array, got {x!r}.") from error


def field(x: Any, num_spatial_dims: int, in_channels: int, dtype: jnp.dtype) -> Array:
    """`x` as an array, checked to be one real sample of `in_channels` channels on
    `num_spatial_dims` axes of at least one point, of the parameters' `dtype`.
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
