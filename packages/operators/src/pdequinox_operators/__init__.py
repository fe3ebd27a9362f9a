"""Helps authors of layers: operators that JAX treats as its own, and checks of arguments."""

from ._jax import jaxlib_version as jaxlib_version
from ._mesh import (
    Axes as Axes,
    equally_varying as equally_varying,
    Factors as Factors,
    on_auto_axes as on_auto_axes,
    Request as Request,
    Shape as Shape,
    Sharding as Sharding,
    Spec as Spec,
    Split as Split,
    transposed as transposed,
)
from ._operator import (
    add_bias as add_bias,
    one_program as one_program,
    Operator as Operator,
    plain_operations as plain_operations,
)
from .checks import sum_dtype as sum_dtype


__version__ = "0.1.3"
