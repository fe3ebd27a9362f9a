"""Defines the tables of the benchmark: their rows, libraries and columns."""

from collections.abc import Callable
from dataclasses import dataclass

from rows import convolutions, Row, spectral, weights
from turns import SETTINGS


@dataclass(frozen=True)
class Library:
    """Describes a library that takes part: the module that answers for it, the modules that must be
    installed for it, and the distributions whose versions are noted.
    """

    title: str
    module: str
    needs: tuple[str, ...] = ("jax",)
    versions: tuple[str, ...] = ()


PASSES = ("forward", "train")

# The modules of this project, which must be installed.
OURS = ("pdequinox_physconv", "pdequinox_pointwise", "pdequinox_spectralconv")

# The keys are the names in the results.
LIBRARIES = {
    "ours": Library("this project", "ours", OURS, ("jax", "jaxlib", "equinox")),
    "pdequinox": Library("pdequinox", "peer_pdequinox", ("pdequinox",), ("pdequinox",)),
    "equinox": Library("Equinox", "peer_equinox", ("equinox",)),
    "torch": Library("PyTorch", "peer_torch", ("torch",), ("torch",)),
    "compiled": Library("torch.compile", "peer_torch_compiled", ("torch",), ("torch",)),
    "neuralop": Library(
        "neuraloperator", "peer_neuralop", ("torch", "neuralop"), ("torch", "neuraloperator")
    ),
    "product": Library("product", "limit_product"),
    "copy": Library("copy", "limit_copy"),
    "transforms": Library("rfftn + irfftn", "limit_transforms"),
    "periodic": Library("periodic", "ours_periodic", OURS),
    "fft": Library("FFT", "ours_fft", OURS),
    "dense": Library("dense", "ours_dense", OURS),
}


@dataclass(frozen=True)
class Column:
    """Describes a column: the time of a library over this project's, for one pass and setting."""

    what: str
    library: str
    setting: str = "present"
    where: str = "context"
    summary: bool = True  # whether the table of groups has it too


@dataclass(frozen=True)
class Aim:
    """Describes what some of the rows should reach, in context and without a flag: in the geometric
    mean, and in the worst row. Times are the library's divided by this project's. Memory and
    compile time of a training step are this project's divided by the library's, and are upper
    limits.
    """

    title: str
    rows: Callable[[Row], bool]
    mean: float | None
    worst: float | None
    what: str = "train"
    library: str = "pdequinox"
    key: str = "median"
    newest: bool = True  # whether it applies on the newest JAX too

    @property
    def at_most(self) -> bool:
        """Tells whether less is better."""
        return self.key != "median"


def _structured(row: Row) -> bool:
    return row.group == "PhysicsConv" and (row.groups > 1 or row.dims > 2)


def _dense(row: Row) -> bool:
    return row.group == "PhysicsConv" and not _structured(row)


def _in(group: str) -> Callable[[Row], bool]:
    return lambda row: row.group == group


def _every(row: Row) -> bool:
    return True


# No forward pass should have less than this share of the speed of pdequinox's.
_FORWARD = 0.95


@dataclass(frozen=True)
class Table:
    """Holds rows, the columns that compare them, and the passes and libraries that are plotted."""

    rows: Callable[[], list[Row]]
    columns: tuple[Column, ...]
    plots: tuple[tuple[str, str], ...]
    aims: tuple[Aim, ...] = ()
    gpu: bool = False
    errors: bool = False  # whether errors against float64 stand beside the times

    @property
    def settings(self) -> list[str]:
        """Lists the settings in which the table runs."""
        return list(dict.fromkeys(column.setting for column in self.columns))

    @property
    def libraries(self) -> list[str]:
        """Lists the libraries that take part, this project first."""
        return list(dict.fromkeys(["ours", *(column.library for column in self.columns)]))

    def pairs(self, what: str, where: str) -> list[tuple[str, str]]:
        """Lists the settings, and the libraries in them, that take turns with a task."""
        columns = [c for c in self.columns if (c.what, c.where) == (what, where)]
        found = ((c.setting, name) for c in columns for name in ("ours", c.library))
        return list(dict.fromkeys(found))

    def heading(self, column: Column) -> str:
        """Gives the heading of a column. In the first setting it is the library; in the others it
        is the setting, because the library is that of the column before it.
        """
        first = column.setting == self.settings[0]
        title = LIBRARIES[column.library].title if first else SETTINGS[column.setting].title
        return title if column.where == "context" else f"alone: {title}"


def columns(*libraries: str | tuple[str, str]) -> tuple[Column, ...]:
    """Makes the columns of a comparison with pdequinox in all settings, and with other libraries on
    the JAX at hand, or in the setting that stands beside a library.
    """
    others = [(name, "present") if isinstance(name, str) else name for name in libraries]
    return tuple(
        column
        for what in PASSES
        for column in (
            *(Column(what, "pdequinox", setting) for setting in ("present", "newest", "flag")),
            *(Column(what, *other, summary=other[0] != "fft") for other in others),
            *(
                Column(what, "pdequinox", setting, "alone", summary=False)
                for setting in ("present", "newest")
            ),
        )
    )


TABLES = {
    "convolutions": Table(
        convolutions,
        (
            *columns("equinox", "torch", "compiled"),
            Column("forward", "product", summary=False),
            Column("forward", "copy", summary=False),
        ),
        (("train", "pdequinox"), ("train", "torch")),
        aims=(
            Aim("dense convolutions in 1-D and 2-D", _dense, 1.0, 0.97),
            Aim("groups, and all in 3-D", _structured, 10.0, 2.0),
            Aim("`PhysicsConvTranspose`", _in("PhysicsConvTranspose"), 8.0, 2.0),
            Aim("`PointwiseLinearConv`", _in("PointwiseLinearConv"), 2.0, 1.0),
            Aim("ensembles", _in("ensembles"), 6.0, None),
            Aim("scans", _in("scans"), 6.0, None),
            Aim("networks of pdequinox", _in("networks"), 1.9, 0.97),
            Aim("all, a forward pass", _every, None, _FORWARD, "forward"),
            Aim("groups, and all in 3-D, memory", _structured, 1.3, 2.0, key="temporary"),
            Aim("all, compile time", _every, 1.25, None, key="compile"),
        ),
    ),
    "spectral": Table(
        spectral,
        (
            *columns("neuralop", "periodic", ("periodic", "newest"), "fft", ("fft", "newest")),
            Column("forward", "transforms"),
        ),
        (("train", "pdequinox"), ("train", "neuralop"), ("forward", "transforms")),
        aims=(
            Aim("`SpectralConv`", _in("SpectralConv"), 2.5, 0.97),
            Aim(
                "`SpectralConv` and neuraloperator",
                _in("SpectralConv"),
                4.0,
                None,
                library="neuralop",
                newest=False,
            ),
            Aim("networks of pdequinox", _in("networks"), 1.9, 0.97),
            Aim("all, a forward pass", _every, None, _FORWARD, "forward"),
            Aim("all, compile time", _every, 1.25, None, key="compile"),
        ),
    ),
    "weights": Table(
        weights,
        tuple(
            Column(what, *other)
            for what in PASSES
            for other in (("dense", "present"), ("dense", "newest"), ("neuralop", "present"))
        ),
        (),
    ),
    "convolutions_gpu": Table(
        convolutions,
        tuple(
            Column(what, library)
            for what in PASSES
            for library in ("pdequinox", "equinox", "torch", "compiled")
        ),
        (("train", "pdequinox"), ("train", "torch")),
        gpu=True,
    ),
    "spectral_gpu": Table(
        spectral,
        (
            *(
                Column(what, library, setting, summary=library != "fft")
                for what in PASSES
                for library in ("pdequinox", "fft")
                for setting in ("float32", "tf32", "bf16x3")
            ),
            *(
                Column(what, library, "float32")
                for what in PASSES
                for library in ("neuralop", "periodic")
            ),
            Column("forward", "transforms", "float32"),
        ),
        (("train", "pdequinox"), ("train", "neuralop"), ("forward", "transforms")),
        gpu=True,
        errors=True,
    ),
}
