"""The pointwise layer. It needs no sibling package, so it checks its arguments itself."""

import operator
from typing import Any, SupportsIndex, TYPE_CHECKING, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, PRNGKeyArray

from ._product import pointwise


if TYPE_CHECKING:
    Integer: TypeAlias = SupportsIndex
else:
    # Run-time type checkers see `Any`, so that a wrong argument reaches the checks below, whose
    # messages say what is allowed.
    Integer = Any

_DTYPES = ("float16", "bfloat16", "float32", "float64")


class PointwiseLinearConv(eqx.nn.Conv):
    """The 1x1 convolution: the same affine map of the channels at every point,
    `y[:, j] = weight x[:, j] + bias`.
    """

    def __init__(
        self,
        num_spatial_dims: Integer,
        in_channels: Integer,
        out_channels: Integer,
        use_bias: bool = True,
        *,
        zero_bias_init: bool = False,
        key: PRNGKeyArray,
        dtype: Any = None,
    ):
        """**Arguments:**

        - `num_spatial_dims`: The number `D >= 1` of spatial axes.
        - `in_channels`: The number of input channels.
        - `out_channels`: The number of output channels.
        - `use_bias`: Whether to add a bias.
        - `zero_bias_init`: Whether the bias starts at zero. (Keyword only.)
        - `key`: A `jax.random.key` for the initial weights. (Keyword only.)
        - `dtype`: Of the parameters: `float16`, `bfloat16`, `float32` or `float64`. `None` is JAX's
            default float. (Keyword only.)

        The initial `weight`, of shape `(out_channels, in_channels, 1, ..., 1)`, and `bias`, of
        shape `(out_channels, 1, ..., 1)` or `None`, are those of `equinox.nn.Conv` with a kernel
        of one point.

        **Raises:** `TypeError` or `ValueError` for what is not as said above.
        """
        super().__init__(
            num_spatial_dims=_positive(num_spatial_dims, "num_spatial_dims"),
            in_channels=_positive(in_channels, "in_channels"),
            out_channels=_positive(out_channels, "out_channels"),
            kernel_size=1,
            use_bias=use_bias,
            dtype=_parameter_dtype(dtype),
            key=key,
        )
        if zero_bias_init and self.bias is not None:
            self.bias = jnp.zeros_like(self.bias)

    def __call__(self, x: ArrayLike, *, key: PRNGKeyArray | None = None) -> Array:
        """**Arguments:**

        - `x`: One sample, of shape `(in_channels, N_1, ..., N_D)` and of the parameters' dtype.
            Batches go through `jax.vmap`.
        - `key`: Ignored; layers of `equinox.nn.Sequential` are given one.

        **Returns:**

        An array of shape `(out_channels, N_1, ..., N_D)`.

        **Raises:** `ValueError` or `TypeError` for an input of another shape or dtype.
        """
        try:
            x = jnp.asarray(x)
        except (TypeError, ValueError) as error:
            raise TypeError(f"`x` must be an array, got {x!r}.") from error
        axes = ", ".join(f"N_{axis}" for axis in range(1, self.num_spatial_dims + 1))
        shape = f"`x` must have shape (in_channels={self.in_channels}, {axes})"
        if x.ndim == self.num_spatial_dims + 2:
            raise ValueError(
                f"{shape}, got {x.shape}, one axis too many: use `jax.vmap` for a batch of samples."
            )
        if x.ndim != self.num_spatial_dims + 1 or x.shape[0] != self.in_channels:
            raise ValueError(f"{shape}, got {x.shape}.")
        if 0 in x.shape:
            raise ValueError(f"{shape} with every N at least 1, got {x.shape}.")
        if jnp.issubdtype(x.dtype, jnp.complexfloating):
            raise TypeError(f"`x` must be real, got dtype {x.dtype.name}.")
        if x.dtype != self.weight.dtype:
            raise TypeError(
                "`x` must have the dtype of the layer's parameters, "
                f"{self.weight.dtype.name}, got {x.dtype.name}: convert one of them with `.astype`."
            )
        del key
        out = pointwise(self.weight.reshape(self.out_channels, self.in_channels), x)
        return out if self.bias is None else out + self.bias

    @property
    def receptive_field(self) -> tuple[tuple[float, float], ...]:
        """`(0.0, 0.0)` for every axis: an output depends on the input at its own point alone."""
        return ((0.0, 0.0),) * self.num_spatial_dims


def _positive(value: Any, name: str) -> int:
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None:
        raise TypeError(f"`{name}` must be an integer >= 1, got {value!r}.")
    if number < 1:
        raise ValueError(f"`{name}` must be an integer >= 1, got {value!r}.")
    return number


def _parameter_dtype(dtype: Any) -> jnp.dtype:
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
