"""Lists the layers, and the ways to share a field among devices, of the table of communication."""

from dataclasses import dataclass
from typing import Any


DEVICES = 8
SAMPLES, CHANNELS, POINTS, MODES = 8, 16, (32, 32, 32), 4
ITEM = 4
"""Bytes of a float32."""


@dataclass(frozen=True)
class Layer:
    """Describes a layer with as many channels out as in and the same boundary on every axis."""

    title: str
    type: str
    kernel: int = 1
    stride: int = 1
    boundary: str = "periodic"

    def arguments(self, channels: int, modes: int, dims: int = len(POINTS)) -> dict[str, Any]:
        """Gives the arguments of the constructor, which both libraries share if both have one."""
        found: dict[str, Any] = dict(
            num_spatial_dims=dims, in_channels=channels, out_channels=channels
        )
        if self.type == "SpectralConv":
            found |= dict(num_modes=modes)
            if self.boundary != "periodic":
                found |= dict(boundary_mode=self.boundary)
        elif self.type != "PointwiseLinearConv":
            found |= dict(kernel_size=self.kernel, stride=self.stride, boundary_mode=self.boundary)
            if self.type == "PhysicsConvTranspose":
                found |= dict(output_padding=self.stride - 1)
        return found

    def points_out(self, points: tuple[int, ...]) -> tuple[int, ...]:
        """Counts the points of the result along each axis."""
        if self.type == "PhysicsConvTranspose":
            return tuple(self.stride * n for n in points)
        return tuple(-(-n // self.stride) for n in points)


@dataclass(frozen=True)
class Sharding:
    """Says how many devices share the samples, the channels and each axis of space. If the field is
    shared by channels, the weights are shared by output channels; otherwise they lie on every
    device.
    """

    title: str
    samples: int = 1
    channels: int = 1
    space: tuple[int, ...] = (1, 1, 1)

    @property
    def devices(self) -> int:
        """Counts all devices that take part."""
        total = self.samples * self.channels
        for count in self.space:
            total *= count
        return total


LAYERS = [
    Layer("PhysicsConv, k=3", "PhysicsConv", kernel=3),
    Layer("PhysicsConv, k=3, stride 2", "PhysicsConv", kernel=3, stride=2),
    Layer("PhysicsConvTranspose, k=3, stride 2", "PhysicsConvTranspose", kernel=3, stride=2),
    Layer("SpectralConv", "SpectralConv"),
    Layer("SpectralConv between walls", "SpectralConv", boundary="neumann_cell"),
    Layer("PointwiseLinearConv", "PointwiseLinearConv"),
]

SHARDINGS = [
    Sharding("samples", samples=8),
    Sharding("one axis", space=(8, 1, 1)),
    Sharding("two axes", space=(4, 2, 1)),
    Sharding("three axes", space=(2, 2, 2)),
    Sharding("channels", channels=8),
]

PASSES = ("forward", "train")
