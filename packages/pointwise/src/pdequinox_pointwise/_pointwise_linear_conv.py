"""Defines the pointwise layer and documents it. The arithmetic is in `_convolution`."""

from typing import Any, no_type_check

import equinox as eqx
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, PRNGKeyArray

from pdequinox_operators import add_bias
from pdequinox_operators.checks import flag, Integer, integer, parameter_dtype, sample

from ._operator import pointwise


class PointwiseLinearConv(eqx.nn.Conv):
    """Applies the same affine map to the channels at every point: the 1x1 convolution
    `y[:, j] = weight x[:, j] + bias`.
    """

    @no_type_check
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
        """Initialises the weights.

        **Arguments:**

        - `num_spatial_dims`: The number `D >= 1` of spatial axes.
        - `in_channels`: The number of input channels.
        - `out_channels`: The number of output channels.
        - `use_bias`: Whether to add a bias.
        - `zero_bias_init`: Whether the bias starts at zero. (Keyword only.)
        - `key`: A `jax.random.key` for the initial weights. (Keyword only.)
        - `dtype`: The dtype of the parameters: `float16`, `bfloat16`, `float32` or `float64`.
            `None` means JAX's default float. (Keyword only.)

        The initial `weight`, of shape `(out_channels, in_channels, 1, ..., 1)`, and `bias`, of
        shape `(out_channels, 1, ..., 1)` or `None`, are those of `equinox.nn.Conv` with a kernel
        of one point.

        **Raises:** `TypeError` or `ValueError` for an argument that is not as described above.
        """
        super().__init__(
            num_spatial_dims=integer(num_spatial_dims, "num_spatial_dims"),
            in_channels=integer(in_channels, "in_channels"),
            out_channels=integer(out_channels, "out_channels"),
            kernel_size=1,
            use_bias=flag(use_bias, "use_bias"),
            dtype=parameter_dtype(dtype),
            key=key,
        )
        if flag(zero_bias_init, "zero_bias_init") and self.bias is not None:
            self.bias = jnp.zeros_like(self.bias)

    @no_type_check
    def __call__(self, x: ArrayLike, *, key: PRNGKeyArray | None = None) -> Array:
        """Applies the layer to one sample; batches go through `jax.vmap`.

        **Arguments:**

        - `x`: One sample, of shape `(in_channels, N_1, ..., N_D)` and of the parameters' dtype.
        - `key`: Ignored. It is here because `equinox.nn.Sequential` passes a key to every layer.

        **Returns:**

        An array of shape `(out_channels, N_1, ..., N_D)`.

        **Raises:** `ValueError` or `TypeError` for an input of another shape or dtype.
        """
        del key
        x = sample(x, self.num_spatial_dims, self.in_channels, self.weight.dtype)
        weight = self.weight.reshape(self.out_channels, self.in_channels)
        return add_bias(pointwise(weight, x), self.bias)

    @property
    def receptive_field(self) -> tuple[tuple[float, float], ...]:
        """Gives `(0.0, 0.0)` for every axis: an output depends only on the input at its point."""
        return ((0.0, 0.0),) * self.num_spatial_dims
