"""How a layer of this project is made from arrays that exist already, and why it may not be."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from pdequinox_operators.checks import parameter_dtype


class CannotConvertError(ValueError):
    """Says by name what these layers cannot represent.

    A `ValueError`, raised before anything is converted.
    """


def layer_with(arrays: Mapping[str, Any], cls: Callable[..., Any], **arguments: Any) -> Any:
    """Makes a layer that has the `arrays` as its leaves; no initial weights are drawn."""
    shapes = eqx.filter_eval_shape(lambda: cls(**arguments, key=jax.random.key(0)))
    return eqx.tree_at(
        lambda layer: [getattr(layer, name) for name in arrays],
        shapes,
        [*arrays.values()],
        is_leaf=lambda leaf: leaf is None,
    )


def only_made_differently(cls: type, base: type) -> bool:
    """Tells whether a class differs from the one that it is derived from in its constructor alone:
    it has no other fields, and defines nothing else that its base has.
    """
    fields = [{field.name for field in dataclasses.fields(c)} for c in (cls, base)]
    own = {name for c in cls.__mro__[: cls.__mro__.index(base)] for name in vars(c)}
    special = {name for name in own if name.startswith("__") and name != "__call__"}
    return fields[0] == fields[1] and not (own - special - _ABC) & {*dir(base)}


_ABC = {"_abc_impl"}  # What Python itself adds to a class.


def parameter(value: Any, name: str, dtype: Any = None) -> jax.Array:
    """Converts an array of another library to one of JAX's, in `dtype` if that is given."""
    try:
        array = np.asarray(value)
    except Exception as error:  # What other libraries raise for arrays on a device, or with a tape.
        raise TypeError(f"`{name}` must be an array that NumPy can read: {error}") from error
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"`{name}` must be an array of real floats, got dtype {array.dtype}.")
    return jnp.asarray(array, parameter_dtype(array.dtype if dtype is None else dtype))


def spread(bias: jax.Array, num_spatial_dims: int) -> jax.Array:
    """Gives a bias of shape `(channels,)` the axes of space."""
    return bias.reshape(-1, *(1,) * num_spatial_dims)
