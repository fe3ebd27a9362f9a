"""Estimates what two networks would need on many devices for one field of 1024^3 points: memory,
bytes and time, all from the formulas and from vendors' data sheets. Nothing here is measured.
"""

import math
from typing import NamedTuple

from cases import ITEM, Layer, Sharding
from formulas import kept, parts, Sizes, terms, weights, widths


POINTS, CHANNELS, MODES = 1024, 32, 32
BLOCKS = 4
"""The number of blocks of the Fourier neural operator."""
LEVELS = 4
"""The levels of the U-Net have 1024, 512, 256 and 128 points per axis; each has twice as many
channels as the level before it.
"""
COUNTS = (8, 64, 512, 4096)

CONV = Layer("convolution", "PhysicsConv", kernel=3)
DOWN = Layer("downwards", "PhysicsConv", kernel=3, stride=2)
UP = Layer("upwards", "PhysicsConvTranspose", kernel=3, stride=2)
SPECTRAL = Layer("spectral", "SpectralConv")
POINTWISE = Layer("pointwise", "PointwiseLinearConv")


class Step(NamedTuple):
    """Describes a layer of a network, and its input."""

    layer: Layer
    sizes: Sizes

    @property
    def points_in(self) -> int:
        """Counts the points of the whole input."""
        return math.prod(self.sizes.points)

    @property
    def points_out(self) -> int:
        """Counts the points of the whole output."""
        return math.prod(self.layer.points_out(self.sizes.points))

    @property
    def flops(self) -> float:
        """Counts the operations of a training step: a product and a sum are two.

        A convolution is computed three times: for the output, the gradient of the input and the
        gradient of the weights. A spectral layer transforms there and back, and does so again in
        the backward pass. It transforms each axis by a product of matrices, with `2 m` real
        functions per axis, the last axis first. The product of the modes is small beside these.
        """
        layer, (_, c, c_out, points, m) = self.layer, self.sizes
        if layer.type != "SpectralConv":
            # A transposed layer has a product for each point of its input and each tap.
            outputs = min(self.points_in, self.points_out)
            return 3 * 2 * outputs * layer.kernel ** len(points) * c * c_out
        total, values = 0.0, float(c * math.prod(points))
        for n in reversed(points):
            total += 2 * values * 2 * m
            values *= 2 * m / n
        return 4 * total

    @property
    def weight_traffic(self) -> float:
        """Counts the bytes of weights that every device reads and writes in a training step. The
        forward and the backward pass read the weights, and the backward pass writes their gradient.
        Adam reads the gradient, the weights and two moments, and writes all but the gradient.
        """
        return (2 + 1 + 4 + 3) * weights(self.layer, self.sizes)

    @property
    def traffic(self) -> float:
        """Counts the bytes of fields that a training step has to read and write. The forward pass
        reads the input and writes the output. The backward pass reads the gradient of the output
        and writes that of the input. The gradient of the weights reads the input again, but only
        the kept modes in a spectral layer.
        """
        ins, outs = (
            ITEM * channels * points
            for channels, points in (
                (self.sizes.in_channels, self.points_in),
                (self.sizes.out_channels, self.points_out),
            )
        )
        again = 0 if self.layer.type == "SpectralConv" else ins
        return 2 * (ins + outs) + again


def fourier() -> list[Step]:
    """Lists the layers of a network of blocks, each a spectral and a pointwise layer."""
    sizes = Sizes(1, CHANNELS, CHANNELS, (POINTS,) * 3, MODES)
    return [Step(layer, sizes) for layer in (SPECTRAL, POINTWISE)] * BLOCKS


def unet() -> list[Step]:
    """Lists the layers of a network with two convolutions on every level, on the way down and up.
    On the way up, the first of the two takes the channels of the level twice: from below, and from
    the way down.
    """
    steps = []
    at = lambda level, c, c_out: Sizes(1, c, c_out, (POINTS // 2**level,) * 3)
    width = lambda level: CHANNELS * 2**level
    for level in range(LEVELS):
        if level:
            steps.append(Step(DOWN, at(level - 1, width(level - 1), width(level))))
        steps += [Step(CONV, at(level, width(level), width(level)))] * 2
    for level in reversed(range(LEVELS - 1)):
        steps.append(Step(UP, at(level + 1, width(level + 1), width(level))))
        steps.append(Step(CONV, at(level, 2 * width(level), width(level))))
        steps.append(Step(CONV, at(level, width(level), width(level))))
    return steps


NETWORKS = {"FNO": fourier, "U-Net": unet}


class Machine(NamedTuple):
    """Describes a device and its network by the vendor's numbers, per device and per second."""

    title: str
    memory: float
    flops: float
    """Rate of the matrix units for float32 arrays at JAX's default precision."""
    bandwidth: float
    """Bytes that its memory reads or writes."""
    near: float
    """Bytes that it sends to the other devices of a group of eight."""
    far: float
    """Bytes that it sends to devices beyond that group."""
    torus_link: float | None
    """Bytes that it sends over one of the two links of an axis, if the network is a torus."""
    source: str

    def network_time(self, step: Step, sharding: Sharding) -> float:
        """Computes the seconds that the network takes for a training step of a layer. All bytes go
        over the slowest link on the way: the link within the group of eight devices if there are no
        more, and otherwise the link between groups. On a torus, halos take the two links of each
        shared axis of space, and sums take all links.
        """
        near = sharding.devices <= 8
        total = 0.0
        for term, size in parts(step.layer, sharding, "train", step.sizes).items():
            rate = self.near if near else self.far
            if term == "h" and self.torus_link is not None:
                rate = 2 * sum(count > 1 for count in sharding.space) * self.torus_link
            total += size / rate
        return total

    def local_time(self, step: Step, devices: int) -> float:
        """Computes the seconds of a training step of a layer without the network: for its products
        or for its fields, whichever takes longer, shared by the devices; and for the weights, which
        are not shared.
        """
        shared = max(step.flops / self.flops, step.traffic / self.bandwidth) / devices
        return shared + step.weight_traffic / self.bandwidth


MACHINES = [
    Machine(
        "H100",
        memory=80e9,
        flops=494.5e12,
        bandwidth=3.35e12,
        near=450e9,
        far=50e9,
        torus_link=None,
        source="NVIDIA H100 SXM in DGX H100 systems, from NVIDIA's data sheets of both: 80 GB at "
        "3.35 TB/s; 989 TFLOP/s in TF32 with sparsity, half of it without; NVLink with 900 GB/s, "
        "both directions together, among eight devices; between systems one ConnectX-7 port of "
        "400 Gb/s per device.",
    ),
    Machine(
        "TPU v5p",
        memory=95 * 2**30,
        flops=459e12,
        bandwidth=2.765e12,
        near=600e9,
        far=600e9,
        torus_link=100e9,
        source="Google Cloud TPU v5p, from Google's page on its architecture: 95 GiB at 2765 GB/s; "
        "459 TFLOP/s in bfloat16, in which float32 arrays are multiplied by default; a torus of "
        "three axes with 1200 GB/s per chip, both directions together, hence 100 GB/s for each of "
        "six links and each direction.",
    ),
]


def memory(steps: list[Step], sharding: Sharding) -> tuple[float, float]:
    """Counts the bytes on a device of the fields that a training step keeps for the backward pass,
    and of the weights with their gradient and the two moments of Adam. For the output of a layer
    two fields are kept, before and after the activation. The two layers of a Fourier block share
    one output.
    """
    fields, parameters = 0.0, 0.0
    for step in steps:
        if step.layer is not POINTWISE:
            fields += 2 * ITEM * step.sizes.out_channels * step.points_out
        if step.layer is SPECTRAL:
            fields += kept(step.layer, step.sizes) * sharding.devices  # On every device.
        parameters += 4 * weights(step.layer, step.sizes)
    return fields / sharding.devices, parameters


def sent(steps: list[Step], sharding: Sharding) -> dict[str, float]:
    """Counts the bytes that a device sends in a training step, by term of the formulas."""
    total: dict[str, float] = {}
    for step in steps:
        for term, size in parts(step.layer, sharding, "train", step.sizes).items():
            total[term] = total.get(term, 0.0) + size
    return total


def messages(steps: list[Step], sharding: Sharding) -> int:
    """Counts the messages that a device sends to its neighbours in a training step."""
    axes = sum(count > 1 for count in sharding.space)
    return sum(
        terms(step.layer, sharding, "train").get("h", 0)
        * axes
        * sum(width > 0 for width in widths(step.layer))
        for step in steps
    )


def grid(steps: list[Step], devices: int, axes: int) -> Sharding | None:
    """Distributes devices, a power of two, as evenly as possible along the given number of axes;
    `None` if an axis of the network's coarsest field has fewer points than devices.
    """
    power, counts = devices.bit_length() - 1, [1, 1, 1]
    for axis in range(axes):
        counts[axis] = 2 ** ((power + axes - 1 - axis) // axes)
    if max(counts) > min(step.layer.points_out(step.sizes.points)[0] for step in steps):
        return None
    return Sharding(" x ".join(map(str, counts)), space=tuple(counts))


def times(steps: list[Step], machine: Machine, sharding: Sharding) -> tuple[float, float]:
    """Computes the seconds of a training step on the device, and on the network."""
    local = sum(machine.local_time(step, sharding.devices) for step in steps)
    return local, sum(machine.network_time(step, sharding) for step in steps)


def network_binds(steps: list[Step], machine: Machine, axes: int) -> tuple[int | None, int]:
    """Finds the smallest number of devices, a power of two, at which the network takes longer than
    the device, or `None`; and the largest number that was tried: 4096, or what the axes have room
    for.
    """
    most = 1
    for power in range(1, 13):
        sharding = grid(steps, 2**power, axes)
        if sharding is None:
            break
        most = 2**power
        local, network = times(steps, machine, sharding)
        if network > local:
            return most, most
    return None, most
