"""Gives formulas for what a device sends for a layer. The tables of the page evaluate them, and a
test compares them with the counts of compiled programs.

| symbol | |
|---|---|
| `P` | devices |
| `F` | bytes of the whole input field |
| `K` | bytes of its kept modes, `m` real numbers per axis between walls, `2m` per periodic axis |
| `W` | bytes of the weights |
| `h` | bytes of the halos of a device's block of the input |
| `R(B)` | an all-reduce of `B` bytes, `2 (P - 1) / P B` |
| `A(B)` | all-reduces along one axis of the mesh after the other, `2 (P_i - 1) / P_i B` each |
| `G(B)` | an all-gather to `B` bytes, or a reduce-scatter of `B` bytes, `(P - 1) / P B` |

The formulas leave out the sums of the loss and of the gradient of a convolution's bias, some bytes.
"""

import math
from typing import Any, NamedTuple

from cases import ITEM, Layer, Sharding


class Sizes(NamedTuple):
    """Holds the sizes of a whole input field and of the layer."""

    samples: int
    in_channels: int
    out_channels: int
    points: tuple[int, ...]
    modes: int = 0


Terms = dict[str, int]
"""How often each of `h`, `R(K)`, `R(W)`, `A(W)`, `G(F)`, `G(K)` is sent."""


def shared(sharding: Sharding) -> str:
    """Tells what is shared: samples, space or channels."""
    return "samples" if sharding.samples > 1 else "channels" if sharding.channels > 1 else "space"


TERMS: dict[tuple[str, str], tuple[Terms, Terms]] = {
    ("convolution", "samples"): ({}, {"R(W)": 1}),
    # In the backward pass, the halos of the input's gradient go back to the neighbours that they
    # belong to, and the halos of the input are fetched again for the weights' gradient.
    ("convolution", "space"): ({"h": 1}, {"h": 3, "R(W)": 1}),
    # Each device needs all input channels for its output channels. In the backward pass, the sum
    # over the output channels leaves each device its own input channels.
    ("convolution", "channels"): ({"G(F)": 1}, {"G(F)": 2}),
    ("SpectralConv", "samples"): ({}, {"R(W)": 1}),
    # The sum over points becomes a sum over devices, and what follows is the same on all of them.
    # The backward pass does the same with the cotangent.
    ("SpectralConv", "space"): ({"R(K)": 1}, {"R(K)": 2}),
    # In the backward pass, XLA sums the products with real and imaginary weights separately.
    ("SpectralConv", "channels"): ({"G(K)": 1}, {"G(K)": 1, "R(K)": 2}),
    ("SpectralConv between walls", "samples"): ({}, {"R(W)": 1}),
    ("SpectralConv between walls", "space"): ({"R(K)": 1}, {"R(K)": 2}),
    ("SpectralConv between walls", "channels"): ({"G(K)": 1}, {"G(K)": 1, "R(K)": 1}),
    ("PointwiseLinearConv", "samples"): ({}, {"R(W)": 1}),
    # XLA itself arranges this sum.
    ("PointwiseLinearConv", "space"): ({}, {"A(W)": 1}),
    ("PointwiseLinearConv", "channels"): ({"G(F)": 1}, {"G(F)": 2}),
}
"""The terms of a forward pass, and of a training step: value, gradients of weights and input."""


def key(layer: Layer, sharding: Sharding) -> tuple[str, str]:
    """Finds the key in `TERMS`."""
    if layer.type.startswith("Physics"):
        return "convolution", shared(sharding)
    walls = layer.type == "SpectralConv" and layer.boundary != "periodic"
    return layer.type + " between walls" * walls, shared(sharding)


def terms(layer: Layer, sharding: Sharding, what: str) -> Terms:
    """Finds the terms of a pass, `"forward"` or `"train"`."""
    return TERMS[key(layer, sharding)][what == "train"]


def text(found: Terms) -> str:
    """Writes terms as in `3 h + R(W)`, or 0 if there are none."""
    return " + ".join(f"{n} {term}" if n > 1 else term for term, n in found.items()) or "0"


def sent(layer: Layer, sharding: Sharding, what: str, sizes: Sizes) -> float:
    """Computes the bytes that each device sends."""
    return sum(parts(layer, sharding, what, sizes).values())


def parts(layer: Layer, sharding: Sharding, what: str, sizes: Sizes) -> dict[str, float]:
    """Computes the bytes that each device sends for each term."""
    others = (sharding.devices - 1) / sharding.devices
    values = {
        "h": lambda: halo(layer, sharding, sizes),
        "R(K)": lambda: 2 * others * kept(layer, sizes),
        "R(W)": lambda: 2 * others * weights(layer, sizes),
        "A(W)": lambda: weights(layer, sizes) * sum(2 * (p - 1) / p for p in sharding.space),
        "G(F)": lambda: others * field(sizes),
        "G(K)": lambda: others * kept(layer, sizes),
    }
    return {term: n * values[term]() for term, n in terms(layer, sharding, what).items()}


def field(sizes: Sizes) -> float:
    """Computes `F`."""
    return float(ITEM * sizes.samples * sizes.in_channels * math.prod(sizes.points))


def kept(layer: Layer, sizes: Sizes) -> float:
    """Computes `K`. All periodic axes but the last have wavenumbers of both signs, and the modes
    are then complex numbers with two parts.
    """
    dims = len(sizes.points)
    per_channel = sizes.modes**dims * (2**dims if layer.boundary == "periodic" else 1)
    return float(ITEM * sizes.samples * sizes.in_channels * per_channel)


def weights(layer: Layer, sizes: Sizes) -> float:
    """Computes `W`."""
    dims = len(sizes.points)
    matrix = sizes.in_channels * sizes.out_channels
    if layer.type == "SpectralConv":
        # 2^(D - 1) groups of modes, real and imaginary parts.
        parts = 2**dims if layer.boundary == "periodic" else 1
        return float(ITEM * matrix * parts * sizes.modes**dims)
    return float(ITEM * (matrix * layer.kernel**dims + sizes.out_channels))


def weights_of(kind: Any, sizes: Sizes) -> float:
    """Computes `W` of a periodic spectral layer with this kind of weights, which have a real and an
    imaginary part.
    """
    dims, m = len(sizes.points), sizes.modes
    waves = [2 * m] * (dims - 1) + [m]
    channels = (sizes.out_channels, sizes.in_channels)
    name, rank = (kind, 0) if isinstance(kind, str) else kind
    numbers = {
        "dense": math.prod((*channels, *waves)),
        "depthwise": math.prod((channels[0], *waves)),
        "axiswise": math.prod(channels) * sum(waves),
        "cp": rank * (sum(channels) + sum(waves)),
        "tucker": rank * (sum(channels) + sum(waves)) + rank ** (dims + 2),
    }[name]
    return float(ITEM * 2 * numbers)


def widths(layer: Layer) -> tuple[int, int]:
    """Counts the points beyond a block, below and above, that the outputs of the block read, when
    the stride divides the block.

    With `c = (k - 1) // 2`, output `i` of a convolution reads `i s - c, ..., i s - c + k - 1`, so a
    block of `n` points reads from `-c` to `n - s - c + k - 1`. Output `j` of a transposed
    convolution reads the points `i` for which `j - i s + c` is one of `0..k-1`, so a block reads
    from `ceil((c - k + 1) / s)` to `floor((n s - 1 + c) / s)`.
    """
    k, s, c = layer.kernel, layer.stride, (layer.kernel - 1) // 2
    if layer.type == "PhysicsConvTranspose":
        return (k - 1 - c) // s, (c + s - 1) // s
    return c, max(0, k - 1 - c - (s - 1))


def halo(layer: Layer, sharding: Sharding, sizes: Sizes) -> float:
    """Computes `h`. One axis after the other is extended, so that corners are included: axis `i`
    sends `lower + upper` layers of a block that is already extended along the axes before it.
    """
    lower, upper = widths(layer)
    block = [n // count for n, count in zip(sizes.points, sharding.space, strict=True)]
    total = 0
    for axis, count in enumerate(sharding.space):
        if count > 1:
            total += (lower + upper) * math.prod(block[:axis] + block[axis + 1 :])
        block[axis] += lower + upper
    return float(ITEM * sizes.samples * sizes.in_channels * total)
