"""Makes layers of this project from existing arrays, or says why that is not possible."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import cache
from itertools import chain
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from pdequinox_operators.checks import parameter_dtype
from pdequinox_physconv import MorePaddingConv
from pdequinox_pointwise import PointwiseLinearConv


class CannotConvertError(ValueError):
    """Names what these layers, or those of the other library, cannot represent."""


def layer_with(arrays: Mapping[str, Any], cls: Callable[..., Any], **arguments: Any) -> Any:
    """Makes a layer that has the `arrays`, or tuples of arrays, as its leaves. No initial weights
    are drawn.
    """
    for name, field in arrays.items():
        for array in jax.tree.leaves(field):
            dtype = getattr(array, "dtype", None)  # A leaf may be missing.
            if dtype is not None:
                _check_dtype(dtype, name)
    shapes = eqx.filter_eval_shape(lambda: cls(**arguments, key=jax.random.key(0)))
    return eqx.tree_at(
        lambda layer: [getattr(layer, name) for name in arrays],
        shapes,
        [*arrays.values()],
        is_leaf=lambda leaf: leaf is None,
    )


def convolution(
    arrays: Mapping[str, Any], **arguments: Any
) -> MorePaddingConv | PointwiseLinearConv:
    """Makes a convolution with explicit padding from these arguments, or the pointwise layer that
    computes the same.
    """
    names = ("kernel_size", "stride", "padding", "dilation", "groups")
    kernel_size, stride, padding, _, groups = (arguments[name] for name in names)
    if {*kernel_size, *stride, groups} == {1} and {*chain.from_iterable(padding)} == {0}:
        left_out = (*names, "padding_mode")
        arguments = {name: arguments[name] for name in arguments if name not in left_out}
        return layer_with(arrays, PointwiseLinearConv, **arguments)
    return layer_with(arrays, MorePaddingConv, **arguments)


def _check_dtype(dtype: Any, name: str) -> None:
    try:
        parameter_dtype(dtype)
    except (TypeError, ValueError) as error:
        raise CannotConvertError(
            f"`{name}` must have one of the dtypes of these layers, got {dtype}. {error}"
        ) from error


def named(cls: type) -> str:
    """Names a class as its users do: without the modules that it is imported from."""
    package, *modules = cls.__module__.split(".")
    public = [module for module in modules if not module.startswith("_")]
    return ".".join([package, *public, cls.__qualname__])


def arguments_of(layer: Any, *names: str) -> dict[str, Any]:
    """Gives the arguments that every convolution has, and those in `names`."""
    names = ("num_spatial_dims", "in_channels", "out_channels", "use_bias", *names)
    return {name: getattr(layer, name) for name in names}


def one_layer(weight: Any, num_axes: int, name: str) -> None:
    """Checks that weights are those of one layer, not of an ensemble."""
    if weight.ndim != num_axes:
        raise ValueError(
            f"`{name}` must be one layer, whose weights have {num_axes} axes, got weights of shape "
            f"{weight.shape}: take the members of an ensemble one by one."
        )


def only_made_differently(cls: type, base: type) -> bool:
    """Tells whether a class differs from the class that it is derived from only in its constructor:
    it has no other fields, and defines nothing else.
    """
    fields = [{field.name for field in dataclasses.fields(c)} for c in (cls, base)]
    own = {name for c in cls.__mro__[: cls.__mro__.index(base)] for name in vars(c)}
    return fields[0] == fields[1] and own <= _names_of_a_plain_class(base) | {"__init__"}


@cache
def _names_of_a_plain_class(base: Any) -> frozenset[str]:
    """Lists what Python and Equinox add to any class."""

    class Plain(base):
        """Differs in nothing."""

    return frozenset(vars(Plain))


def as_numpy(value: Any, name: str) -> np.ndarray:
    """Reads an array of another library."""
    try:
        return np.asarray(value)
    except Exception as error:  # Libraries raise anything for arrays on a device, or with a tape.
        raise TypeError(f"`{name}` must be an array that NumPy can read: {error}") from error


def parameter(value: Any, name: str, dtype: Any = None) -> jax.Array:
    """Converts an array of another library to one of JAX's, in `dtype` if that is given."""
    array = as_numpy(value, name)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"`{name}` must be an array of real floats, got dtype {array.dtype}.")
    return jnp.asarray(array, chosen_dtype(array.dtype, name, dtype))


def chosen_dtype(found: Any, name: str, dtype: Any) -> jnp.dtype:
    """Checks the dtype of an array's real part, or the `dtype` that is asked for instead."""
    if dtype is not None:
        return parameter_dtype(dtype)
    try:
        return parameter_dtype(found)
    except ValueError as error:
        raise ValueError(
            f"`{name}` is of dtype {found}, which JAX has not switched on: ask for another by "
            "`dtype`, or set the configuration option `jax_enable_x64`."
        ) from error


def spread(bias: jax.Array, num_spatial_dims: int) -> jax.Array:
    """Gives a bias of shape `(channels,)` the axes of space."""
    return bias.reshape(-1, *(1,) * num_spatial_dims)
