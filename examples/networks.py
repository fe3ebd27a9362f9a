"""Defines the networks of the examples and the experiments, built only from the layers of
`pdequinox.conv`.
"""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray

from pdequinox.conv import (
    BoundaryMode,
    pad,
    PhysicsConv,
    PhysicsConvTranspose,
    PointwiseLinearConv,
    SpectralConv,
)


class UNet(eqx.Module):
    """Defines a U-Net (Ronneberger et al., https://arxiv.org/abs/1505.04597), which halves the
    resolution `num_levels` times and doubles it again, with a skip connection at every resolution.

    Every spatial axis must have a multiple of `2**num_levels` points. `boundary_mode` is passed to
    every convolution.
    """

    lift: PhysicsConv
    downs: list[PhysicsConv]
    encoders: list[PhysicsConv]
    ups: list[PhysicsConvTranspose]
    skips: list[PointwiseLinearConv]
    decoders: list[PhysicsConv]
    head: PointwiseLinearConv

    def __init__(
        self,
        num_spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        width: int,
        num_levels: int,
        boundary_mode: BoundaryMode,
        key: PRNGKeyArray,
    ):
        lift_key, head_key, *level_keys = jr.split(key, 2 + num_levels)
        D, mode = num_spatial_dims, boundary_mode
        self.lift = PhysicsConv(D, in_channels, width, 3, boundary_mode=mode, key=lift_key)
        self.downs, self.encoders, self.ups, self.skips, self.decoders = [], [], [], [], []
        for level_key in level_keys:
            k1, k2, k3, k4, k5 = jr.split(level_key, 5)
            self.downs.append(PhysicsConv(D, width, width, 3, stride=2, boundary_mode=mode, key=k1))
            self.encoders.append(PhysicsConv(D, width, width, 3, boundary_mode=mode, key=k2))
            # One more output above makes the number of points even again, twice that of the input.
            self.ups.append(
                PhysicsConvTranspose(
                    D, width, width, 3, stride=2, output_padding=1, boundary_mode=mode, key=k3
                )
            )
            self.skips.append(PointwiseLinearConv(D, 2 * width, width, key=k4))
            self.decoders.append(PhysicsConv(D, width, width, 3, boundary_mode=mode, key=k5))
        self.head = PointwiseLinearConv(D, width, out_channels, key=head_key)

    def __call__(self, x: Float[Array, "in_channels ..."]) -> Float[Array, "out_channels ..."]:
        x = jax.nn.silu(self.lift(x))
        fine = []
        for down, encoder in zip(self.downs, self.encoders, strict=True):
            fine.append(x)
            x = jax.nn.silu(down(x))
            x = jax.nn.silu(encoder(x))
        for up, skip, decoder in reversed(
            list(zip(self.ups, self.skips, self.decoders, strict=True))
        ):
            x = jax.nn.silu(up(x))
            x = jax.nn.silu(skip(jnp.concatenate([fine.pop(), x])))
            x = jax.nn.silu(decoder(x))
        return self.head(x)


class FNO(eqx.Module):
    """Defines a Fourier neural operator (Li et al., https://arxiv.org/abs/2010.08895). Each block
    adds a convolution with a global kernel, given by its lowest modes, and a pointwise convolution.

    `boundary_mode` and `weight_scale` are passed to every spectral convolution. With `padding`, as
    in the code of its authors, that many zeros follow the last point of each axis. The blocks see
    this larger field, and the head sees it without the zeros.
    """

    lift: PointwiseLinearConv
    spectral: list[SpectralConv]
    bypass: list[PointwiseLinearConv]
    head: PointwiseLinearConv
    padding: tuple[int, ...] = eqx.field(static=True)

    def __init__(
        self,
        num_spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        width: int,
        num_modes: int | Sequence[int],
        num_blocks: int,
        boundary_mode: BoundaryMode = "periodic",
        weight_scale: float | None = None,
        padding: Sequence[int] | None = None,
        key: PRNGKeyArray,
    ):
        lift_key, head_key, *block_keys = jr.split(key, 2 + num_blocks)
        D = num_spatial_dims
        self.lift = PointwiseLinearConv(D, in_channels, width, key=lift_key)
        self.spectral, self.bypass = [], []
        for block_key in block_keys:
            spectral_key, bypass_key = jr.split(block_key)
            self.spectral.append(
                SpectralConv(
                    D,
                    width,
                    width,
                    num_modes,
                    boundary_mode=boundary_mode,
                    weight_scale=weight_scale,
                    key=spectral_key,
                )
            )
            self.bypass.append(PointwiseLinearConv(D, width, width, key=bypass_key))
        self.head = PointwiseLinearConv(D, width, out_channels, key=head_key)
        self.padding = (0,) * D if padding is None else tuple(padding)

    def __call__(self, x: Float[Array, "in_channels ..."]) -> Float[Array, "out_channels ..."]:
        inside = (slice(None), *(slice(size) for size in x.shape[1:]))
        x = self.lift(x)
        x = pad(x, [(0, width) for width in self.padding], "dirichlet")
        for spectral, bypass in zip(self.spectral, self.bypass, strict=True):
            x = jax.nn.silu(spectral(x) + bypass(x))
        return self.head(x[inside])


class ResNet(eqx.Module):
    """Defines a convolutional network with residual connections (He et al.,
    https://arxiv.org/abs/1603.05027) that keeps the grid. Each block adds two convolutions with
    taps that are `dilation` points apart, so that a few blocks see far.

    `dilations` has an entry for each block, either a number or one number per axis. `lift_mode` is
    the boundary mode of the first convolution, whose inputs are the fields themselves, and
    `boundary_mode` is the mode of all others.
    """

    lift: PhysicsConv
    blocks: list[tuple[PhysicsConv, PhysicsConv]]
    head: PointwiseLinearConv

    def __init__(
        self,
        num_spatial_dims: int,
        in_channels: int,
        out_channels: int,
        *,
        width: int,
        dilations: Sequence[int | Sequence[int]],
        lift_mode: BoundaryMode,
        boundary_mode: BoundaryMode,
        key: PRNGKeyArray,
    ):
        lift_key, head_key, *block_keys = jr.split(key, 2 + len(dilations))
        D = num_spatial_dims
        self.lift = PhysicsConv(D, in_channels, width, 3, boundary_mode=lift_mode, key=lift_key)
        self.blocks = []
        for dilation, block_key in zip(dilations, block_keys, strict=True):
            first, second = (
                PhysicsConv(
                    D, width, width, 3, dilation=dilation, boundary_mode=boundary_mode, key=conv_key
                )
                for conv_key in jr.split(block_key)
            )
            self.blocks.append((first, second))
        self.head = PointwiseLinearConv(D, width, out_channels, key=head_key)

    def __call__(self, x: Float[Array, "in_channels ..."]) -> Float[Array, "out_channels ..."]:
        x = self.lift(x)
        for first, second in self.blocks:
            x = x + second(jax.nn.silu(first(jax.nn.silu(x))))
        return self.head(jax.nn.silu(x))
