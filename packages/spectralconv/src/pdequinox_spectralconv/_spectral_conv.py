"""The spectral layer: construction and documentation. The arithmetic is in `_multiply`."""

import math
from typing import Any, TYPE_CHECKING, TypeAlias

import equinox as eqx
import jax.random as jr
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

from pdequinox_padding.arguments import field, Integer, integer, Integers, integers, parameter_dtype

from ._multiply import spectral_convolve


if TYPE_CHECKING:
    WeightScale: TypeAlias = float | None
else:
    WeightScale = Any  # The check below has the better message.


class SpectralConv(eqx.Module):
    """Convolution by a global kernel that is given by its lowest Fourier coefficients, for real
    fields on periodic domains (Li et al., "Fourier Neural Operator for Parametric Partial
    Differential Equations", https://arxiv.org/abs/2010.08895).

    Let `X_k` be the coefficients of the unnormalised discrete Fourier transform of the input. With
    `m` modes on an axis, the wavenumbers `0..m-1` are kept on the last axis (the field being real,
    the other half follows) and `-m..m-1` on every other axis. With `Y_k = W_k X_k`, a complex
    matrix `W_k` per mode, the output at point `j` is
    `1/N sum over kept k of c_k Re(Y_k exp(2 pi i k.j/N))`, where `c_k` is 2 if the last axis's
    wavenumber lies strictly between 0 and half its number of points, else 1.

    With identity matrices this is the projection onto the kept modes, with one exception: a mode
    of wavenumber `-m` on an axis other than the last, and 0 (or half the number of points) on the
    last, counts half, because its partner at `+m` is not kept.
    """

    weights_real: Float[Array, "groups out_channels in_channels *num_modes"]
    weights_imag: Float[Array, "groups out_channels in_channels *num_modes"]
    num_spatial_dims: int = eqx.field(static=True)
    in_channels: int = eqx.field(static=True)
    out_channels: int = eqx.field(static=True)
    num_modes: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self,
        num_spatial_dims: Integer,
        in_channels: Integer,
        out_channels: Integer,
        num_modes: Integers,
        *,
        key: PRNGKeyArray,
        weight_scale: WeightScale = None,
        dtype: Any = None,
    ):
        """**Arguments:**

        - `num_spatial_dims`: The number `D >= 1` of spatial axes.
        - `in_channels`: The number of input channels.
        - `out_channels`: The number of output channels.
        - `num_modes`: The number `m` of modes, an integer for every axis or a sequence of `D`
            integers. An axis of `N` points holds at most `N // 2 + 1` modes if it is the last,
            `N // 2` if not.
        - `key`: A `jax.random.key` for the initial weights. (Keyword only.)
        - `weight_scale`: The standard deviation of the initial weights' real and imaginary parts;
            `None` is `1 / (in_channels * out_channels)`. (Keyword only.)
        - `dtype`: Of the parameters: `float16`, `bfloat16`, `float32` or `float64`. `None` is JAX's
            default float. (Keyword only.)

        The weights are two real arrays `weights_real` and `weights_imag` of shape
        `(2**(D-1), out_channels, in_channels, *num_modes)`. Axis `a` of group `g`, but the last
        axis, holds the wavenumbers `i = 0..m-1` at index `i` if bit `a` of `g` is 0, and `i - m` if
        it is 1.

        **Raises:** `TypeError` or `ValueError` for what is not as said above.
        """
        self.num_spatial_dims = integer(num_spatial_dims, "num_spatial_dims")
        self.in_channels = integer(in_channels, "in_channels")
        self.out_channels = integer(out_channels, "out_channels")
        self.num_modes = integers(num_modes, self.num_spatial_dims, "num_modes")
        parsed_dtype = parameter_dtype(dtype)
        if weight_scale is None:
            weight_scale = 1 / (self.in_channels * self.out_channels)
        try:
            scale = math.nan if isinstance(weight_scale, bool | str) else float(weight_scale)
        except TypeError:
            scale = math.nan
        if not math.isfinite(scale):
            raise ValueError(
                f"`weight_scale` must be None or a finite number, got {weight_scale!r}."
            )

        shape = (
            2 ** (self.num_spatial_dims - 1),
            self.out_channels,
            self.in_channels,
            *self.num_modes,
        )
        real_key, imag_key = jr.split(key)
        self.weights_real = scale * jr.normal(real_key, shape, parsed_dtype)
        self.weights_imag = scale * jr.normal(imag_key, shape, parsed_dtype)

    def __call__(self, x: ArrayLike, *, key: PRNGKeyArray | None = None) -> Array:
        """**Arguments:**

        - `x`: One sample, of shape `(in_channels, N_1, ..., N_D)` and of the parameters' dtype.
            Batches go through `jax.vmap`.
        - `key`: Ignored; layers of `equinox.nn.Sequential` are given one.

        **Returns:**

        An array of shape `(out_channels, N_1, ..., N_D)`.

        **Raises:** `ValueError` or `TypeError` for an input of another shape or dtype, and for a
        grid that does not hold all modes.
        """
        del key
        x = field(x, self.num_spatial_dims, self.in_channels, self.weights_real.dtype)
        for axis, (size, modes) in enumerate(zip(x.shape[1:], self.num_modes, strict=True)):
            last = axis == self.num_spatial_dims - 1
            limit = size // 2 + 1 if last else size // 2
            if modes > limit:
                raise ValueError(
                    f"`num_modes` must be at most {limit} on spatial axis {axis}, which has {size} "
                    f"points ({'N // 2 + 1 on the last axis' if last else 'N // 2'}), got {modes}."
                )
        return spectral_convolve(x, self.weights_real, self.weights_imag)

    @property
    def receptive_field(self) -> tuple[tuple[float, float], ...]:
        """`(inf, inf)` for every axis: every output depends on every input."""
        return ((math.inf, math.inf),) * self.num_spatial_dims
