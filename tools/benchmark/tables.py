"""The tables of the benchmark: their rows, who takes part, and what is shown of it."""

from collections.abc import Callable
from dataclasses import dataclass

from rows import convolutions, Row, spectral


@dataclass(frozen=True)
class Library:
    """What takes part: the module that answers for it, what must be installed for it, and the
    distributions whose versions are noted.
    """

    title: str
    module: str
    needs: tuple[str, ...] = ("jax",)
    versions: tuple[str, ...] = ()


OURS = ("pdequinox_physconv", "pdequinox_pointwise", "pdequinox_spectralconv")

# By their names in the results.
LIBRARIES = {
    "ours": Library("this project", "ours", OURS, ("jax", "jaxlib", "equinox")),
    "pdequinox": Library("pdequinox", "peer_pdequinox", ("pdequinox",), ("pdequinox",)),
    "equinox": Library("Equinox", "peer_equinox", ("equinox",)),
    "torch": Library("PyTorch", "peer_torch", ("torch",), ("torch",)),
    "neuralop": Library(
        "neuraloperator", "peer_neuralop", ("torch", "neuralop"), ("torch", "neuraloperator")
    ),
    "product": Library("product", "limit_product"),
    "copy": Library("copy", "limit_copy"),
    "transforms": Library("rfftn + irfftn", "limit_transforms"),
    "periodic": Library("periodic", "ours_periodic", OURS),
    "fft": Library("FFT", "ours_fft", OURS),
}


@dataclass(frozen=True)
class Column:
    """How many times as long as this project a library takes for a pass."""

    what: str
    library: str
    summary: bool = True  # in the table of groups too
    always: bool = False  # among the rows of a group of which it has none too
    plot: bool = False

    @property
    def title(self) -> str:
        """Of the column."""
        return LIBRARIES[self.library].title


@dataclass(frozen=True)
class Table:
    """Rows, and the columns that compare them, training steps first."""

    rows: Callable[[], list[Row]]
    columns: tuple[Column, ...]

    @property
    def libraries(self) -> list[str]:
        """Who takes part, this project first."""
        return list(dict.fromkeys(["ours", *(column.library for column in self.columns)]))


TABLES = {
    "convolutions": Table(
        convolutions,
        (
            Column("train", "pdequinox", always=True, plot=True),
            Column("train", "equinox", always=True),
            Column("train", "torch", always=True, plot=True),
            Column("forward", "pdequinox", always=True),
            Column("forward", "equinox", always=True, summary=False),
            Column("forward", "torch", always=True),
            Column("forward", "product", summary=False),
            Column("forward", "copy", summary=False),
        ),
    ),
    "spectral": Table(
        spectral,
        (
            Column("train", "pdequinox", plot=True),
            Column("train", "neuralop", plot=True),
            Column("train", "periodic"),
            Column("train", "fft", summary=False),
            Column("forward", "pdequinox"),
            Column("forward", "neuralop"),
            Column("forward", "transforms", plot=True),
            Column("forward", "periodic"),
            Column("forward", "fft", summary=False),
        ),
    ),
}
