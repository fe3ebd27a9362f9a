"""Lists what the benchmark measures. A row is one layer, or one network, on one input; a task is
what a library has to do with a row.
"""

from dataclasses import asdict, dataclass, replace
from math import prod
from typing import Any, Literal


class UnsupportedError(Exception):
    """Says that a library cannot do the work of a row, and why."""


# The group of rows that are large enough to fill a GPU, and run only there.
LARGE = "large"


@dataclass(frozen=True)
class Row:
    """Describes a layer, or a network of pdequinox, and its input."""

    group: str
    layer: str
    spatial: tuple[int, ...]
    channels: tuple[int, int] = (32, 32)
    batch: int = 8
    kernel: int = 3
    stride: int = 1
    dilation: int = 1
    groups: int = 1
    boundary_mode: str | tuple[Any, ...] = "periodic"
    members: int = 0
    dtype: str = "float32"
    scan: int = 0
    modes: int | tuple[int, ...] = 0
    transform: Literal["product", "fft"] | None = None
    weights: str | tuple[Any, ...] = "dense"

    @property
    def dims(self) -> int:
        """Counts the spatial axes."""
        return len(self.spatial)

    @property
    def name(self) -> str:
        """Describes in words what distinguishes the row from others."""
        size = f"{self.spatial[0]}^{self.dims}" if self.dims > 1 else f"{self.spatial[0]}"
        (c, o), plain = self.channels, Row(self.group, self.layer, self.spatial)
        parts = [f"{self.dims}-D {size}", f"{c}" if c == o else f"{c}->{o}", f"batch {self.batch}"]
        if self.layer.startswith("PhysicsConv"):
            parts.insert(2, f"k={self.kernel}")
        if self.modes:
            parts.insert(2, f"{words(self.modes)} modes")
        for field, text in [
            ("stride", f"stride {self.stride}"),
            ("dilation", f"dilation {self.dilation}"),
            ("groups", "depthwise" if self.groups == c else f"groups {self.groups}"),
            ("boundary_mode", words(self.boundary_mode)),
            ("members", f"{self.members} members"),
            ("dtype", self.dtype),
            ("scan", f"{self.scan} times in a scan"),
            ("weights", words(self.weights, " ")),
        ]:
            if getattr(self, field) != getattr(plain, field):
                parts.append(text)
        if self.group in ("networks", "ensembles", "scans", LARGE):
            parts.insert(0, self.layer)
        return ", ".join(parts)

    @property
    def title(self) -> str:
        """Joins the group and the name, which no other row of its table has."""
        return f"{self.group}: {self.name}"

    @property
    def out(self) -> tuple[int, ...]:
        """Computes the spatial shape of the output."""
        if self.layer == "PhysicsConvTranspose":
            return tuple(n * self.stride for n in self.spatial)
        return tuple(-(-n // self.stride) for n in self.spatial)

    @property
    def operations(self) -> int:
        """Counts the multiplications and additions of a layer's forward pass."""
        points = self.spatial if self.layer == "PhysicsConvTranspose" else self.out
        c, o = self.channels
        taps = self.kernel**self.dims
        return 2 * max(self.members, 1) * self.batch * c * o // self.groups * taps * prod(points)

    @property
    def numbers(self) -> int:
        """Counts the numbers of the input and the output of a layer."""
        c, o = self.channels
        return max(self.members, 1) * self.batch * (c * prod(self.spatial) + o * prod(self.out))

    def as_json(self) -> dict[str, Any]:
        """For a line of JSON."""
        return asdict(self)

    @staticmethod
    def from_json(data: dict[str, Any]) -> "Row":
        """From what `as_json` gave."""
        return Row(**{k: tuples(v) for k, v in data.items()})


@dataclass(frozen=True)
class Task:
    """Describes what a library does with a row: a training step or a forward pass, of the layer in
    context (with an activation before and after it, as in a network) or alone.
    """

    row: Row
    what: str
    where: str
    error: bool = False  # also asks for the error of a forward pass against float64

    @property
    def activated(self) -> bool:
        """Tells whether activations stand around the layer; networks have their own."""
        return self.where == "context" and self.row.group != "networks"

    def as_json(self) -> dict[str, Any]:
        """For a line of JSON."""
        return asdict(self)

    @staticmethod
    def from_json(data: dict[str, Any]) -> "Task":
        """From what `as_json` gave."""
        return Task(**(data | {"row": Row.from_json(data["row"])}))


def tuples(value: Any) -> Any:
    """Turns the lists of JSON back into the tuples that they were, at every depth."""
    return tuple(map(tuples, value)) if isinstance(value, list) else value


def words(value: Any, between: str = " x ") -> str:
    """Writes a setting of all axes, or of each axis; the two ends of an axis as "lower/upper"."""
    if not isinstance(value, tuple):
        return str(value)
    return between.join(words(v, "/") for v in value)


MODES = ("dirichlet", "neumann", "dirichlet_cell", "outflow")


WALLS = ("neumann_cell", "dirichlet_cell", "dirichlet_node")


# The networks of pdequinox and their sizes.
NETWORKS = {
    "ClassicUNet": {"hidden_channels": 16, "num_levels": 2},
    "ClassicResNet": {"hidden_channels": 26, "num_blocks": 8},
    "DilatedResNet": {"hidden_channels": 32, "num_blocks": 2},
    "ConvNet": {"hidden_channels": 32, "depth": 10},
}
FNO = {"hidden_channels": 32, "num_blocks": 4}


def convolutions() -> list[Row]:
    """The table."""
    one = Row("PhysicsConv", "PhysicsConv", (1024,), batch=16)
    small = replace(one, spatial=(160,))
    two = Row("PhysicsConv", "PhysicsConv", (64, 64))
    three = Row("PhysicsConv", "PhysicsConv", (32, 32, 32), (16, 16), batch=2)
    conv = [
        small,
        replace(small, channels=(64, 64), kernel=7),
        one,
        replace(one, channels=(64, 64), kernel=5),
        replace(one, boundary_mode="dirichlet"),
        replace(one, stride=2),
        replace(one, dilation=8),
        replace(one, groups=2),
        replace(one, groups=32, kernel=5),
        replace(one, spatial=(16384,), batch=1, groups=32, kernel=31),
        replace(one, spatial=(16384,), batch=1, groups=32, kernel=129),
        replace(one, channels=(1, 32)),
        two,
        *(replace(two, boundary_mode=mode) for mode in MODES),
        replace(two, channels=(16, 16)),
        replace(two, channels=(64, 64), kernel=5, batch=4),
        replace(two, spatial=(128, 128), batch=4),
        replace(two, stride=2),
        replace(two, kernel=1),
        replace(two, dilation=4),
        replace(two, groups=2),
        replace(two, groups=8),
        replace(two, groups=32),
        replace(two, groups=32, kernel=7),
        replace(two, spatial=(24, 24), channels=(128, 128), batch=2, groups=16),
        replace(two, spatial=(24, 24), channels=(264, 264), batch=2, groups=33),
        replace(two, channels=(1, 32)),
        replace(two, channels=(32, 1)),
        replace(two, batch=1),
        replace(two, spatial=(16, 16), channels=(64, 64)),
        replace(two, spatial=(8, 8), channels=(64, 64), dilation=4, batch=1),
        three,
        replace(three, boundary_mode="dirichlet"),
        replace(three, stride=2),
        replace(three, groups=2),
        replace(three, groups=16),
        replace(three, spatial=(8, 8, 8), channels=(64, 64)),
        replace(one, dtype="float64", batch=4),
        replace(two, dtype="float64", batch=2),
        replace(two, dtype="bfloat16"),
    ]
    up = replace(one, group="PhysicsConvTranspose", layer="PhysicsConvTranspose", stride=2)
    one_up = replace(up, spatial=(512,))
    two_up = replace(up, spatial=(32, 32), batch=8)
    three_up = replace(up, spatial=(16, 16, 16), channels=(16, 16), batch=2)
    transposed = [
        *(replace(row, kernel=k) for row in (one_up, two_up, three_up) for k in (3, 4)),
        replace(one_up, spatial=(256,), stride=4, kernel=4),
        replace(one_up, spatial=(64,), stride=64, kernel=129),
        replace(two_up, spatial=(16, 16), stride=4, kernel=4),
        replace(two_up, spatial=(16, 16), stride=4, kernel=8),
        replace(three_up, spatial=(8, 8, 8), stride=4, kernel=4),
        replace(two_up, boundary_mode="dirichlet"),
        replace(two_up, groups=32),
        replace(three_up, groups=16, kernel=4),
        replace(two_up, batch=1),
    ]
    point = replace(two, group="PointwiseLinearConv", layer="PointwiseLinearConv", kernel=1)
    pointwise = [
        replace(point, spatial=(1024,), batch=16),
        point,
        replace(point, channels=(64, 64)),
        replace(point, channels=(32, 128)),
        replace(point, channels=(32, 1)),
        replace(point, batch=1),
        replace(point, spatial=(32, 32, 32), channels=(16, 16), batch=2),
        replace(point, dtype="float64", batch=2),
        replace(point, dtype="bfloat16"),
    ]
    member = dict(group="ensembles", members=4)
    ensembles = [
        replace(one, batch=4, **member),
        replace(small, batch=4, channels=(64, 64), **member),
        replace(two, batch=2, **member),
        replace(two, batch=2, groups=32, **member),
        replace(small, batch=4, group="ensembles", members=16),
        replace(two, batch=2, stride=2, **member),
        replace(three, spatial=(16, 16, 16), batch=1, **member),
        replace(two_up, batch=2, **member),
        replace(point, batch=2, **member),
    ]
    scans = [
        replace(row, group="scans", scan=4)
        for row in (small, one, two, replace(two, channels=(16, 16)))
    ]
    network = Row("networks", "ClassicUNet", (160,), (1, 1), batch=16)
    networks = [
        replace(network, layer=layer, spatial=spatial, batch=batch)
        for spatial, batch in [((160,), 16), ((64, 64), 8), ((32, 32, 32), 1)]
        for layer in NETWORKS
    ]
    large = replace(two, group=LARGE, channels=(64, 64), batch=16)
    wide, cube = (
        replace(large, spatial=(256, 256)),
        replace(large, spatial=(128, 128, 128), channels=(32, 32), batch=1),
    )
    fields = [wide, replace(wide, spatial=(512, 512)), cube, replace(cube, batch=2)]
    of_layer = dict(layer="PhysicsConvTranspose", stride=2, kernel=4)
    large = [
        *fields,
        replace(wide, boundary_mode="dirichlet"),
        *(replace(row, groups=row.channels[0]) for row in fields),
        *(replace(row, spatial=tuple(n // 2 for n in row.spatial), **of_layer) for row in fields),
    ]
    return [*conv, *transposed, *pointwise, *ensembles, *scans, *networks, *large]


def spectral() -> list[Row]:
    """The table."""
    one = Row("SpectralConv", "SpectralConv", (1024,), batch=16, modes=16)
    two = Row("SpectralConv", "SpectralConv", (64, 64), modes=12)
    three = Row("SpectralConv", "SpectralConv", (32, 32, 32), (16, 16), batch=2, modes=8)
    conv = [
        replace(one, spatial=(160,)),
        replace(one, spatial=(160,), channels=(16, 16), batch=1, modes=8),
        one,
        replace(one, channels=(8, 8), modes=4),
        replace(one, channels=(64, 64), batch=8, modes=32),
        replace(one, channels=(32, 64)),
        replace(one, batch=4, modes=500),
        replace(one, spatial=(8192,), batch=4),
        replace(one, spatial=(8192,), channels=(8, 8), batch=1, modes=32),
        two,
        replace(two, channels=(8, 8), batch=16, modes=4),
        replace(two, channels=(64, 64), batch=4, modes=16),
        replace(two, channels=(3, 32)),
        replace(two, channels=(16, 16), batch=4, modes=(31, 32)),
        replace(two, batch=4, modes=20),
        replace(two, spatial=(24, 24), batch=16, modes=10),
        replace(two, spatial=(32, 32), batch=16),
        replace(two, spatial=(48, 48), channels=(16, 16), modes=18),
        replace(two, spatial=(128, 128), batch=4),
        replace(two, spatial=(128, 128), channels=(16, 16), batch=1, modes=32),
        replace(two, spatial=(256, 256), batch=2, modes=16),
        replace(two, spatial=(256, 256), channels=(8, 8), batch=1, modes=32),
        three,
        replace(three, spatial=(24, 24, 24), batch=4, modes=10),
        replace(three, channels=(8, 8), batch=16, modes=4),
        replace(three, spatial=(64, 64, 64), batch=1),
        replace(three, spatial=(64, 64, 64), channels=(8, 8), batch=1, modes=16),
        replace(one, dtype="float64"),
        replace(two, dtype="bfloat16"),
    ]
    ensembles = [
        replace(row, group="ensembles", members=4, batch=batch)
        for row, batch in [(one, 4), (two, 2), (three, 1)]
    ]
    network = Row("networks", "ClassicFNO", (160,), (1, 1), batch=16, modes=12)
    networks = [
        network,
        replace(network, spatial=(1024,), modes=16),
        replace(network, spatial=(64, 64), batch=8),
        replace(network, spatial=(128, 128), batch=2),
        replace(network, spatial=(32, 32, 32), batch=1, modes=8),
    ]
    half = ("dirichlet_cell", "neumann_cell")
    walls = [
        *(replace(one, boundary_mode=mode) for mode in WALLS),
        replace(one, boundary_mode=(half,)),
        replace(one, spatial=(160,), boundary_mode="dirichlet_cell"),
        replace(one, spatial=(8192,), batch=4, boundary_mode="neumann_cell"),
        replace(one, batch=4, modes=500, boundary_mode="neumann_cell"),
        replace(one, batch=4, modes=500, boundary_mode=(half,)),
        *(replace(two, boundary_mode=mode) for mode in WALLS),
        replace(two, boundary_mode=(half, half)),
        replace(two, boundary_mode=("periodic", half)),
        replace(two, spatial=(256, 256), batch=2, modes=16, boundary_mode="neumann_cell"),
        replace(three, boundary_mode="neumann_cell"),
        replace(three, boundary_mode=("periodic", "periodic", half)),
    ]
    walls = [replace(row, group="walls") for row in walls]
    crossover = [
        replace(one, group="crossover", spatial=(n,), channels=(8, 8), modes=m, transform="product")
        for n, modes in [
            (64, (4, 8, 16, 32)),
            (256, (8, 16, 32, 64, 128)),
            (1024, (16, 32, 64, 128, 256, 512)),
            (4096, (16, 32, 64, 128, 256, 512)),
        ]
        for m in modes
    ]
    large = replace(two, group=LARGE, channels=(64, 64), batch=16, modes=32)
    cube = replace(large, spatial=(128, 128, 128), channels=(32, 32), batch=1, modes=16)
    large = [
        replace(large, spatial=(256, 256)),
        replace(large, spatial=(512, 512)),
        cube,
        replace(cube, batch=2),
    ]
    return [*conv, *ensembles, *networks, *walls, *crossover, *large]


def weights() -> list[Row]:
    """Lists the rows of weights: every kind of weights of a spectral layer. The rank is the number
    of channels for CP, and half of it for Tucker.
    """
    two = Row("weights", "SpectralConv", (64, 64), modes=12)
    layers = [
        two,
        replace(two, spatial=(128, 128), channels=(64, 64), batch=2, modes=32),
        replace(two, spatial=(32, 32, 32), channels=(16, 16), batch=2, modes=8),
    ]
    return [
        replace(row, weights=kind)
        for row in layers
        for channels, _ in [row.channels]
        for kind in ("dense", "depthwise", "axiswise", ("cp", channels), ("tucker", channels // 2))
    ]
