"""Measures whether a spectral layer gives the same field on another grid, for this project and for
neuraloperator.

A field that consists of kept modes is sampled on two grids. The layer's output on the second grid
must be the same, whether its input is on the second grid too, or on the first grid with the second
one as `output_shape`.
"""

import argparse
import itertools
from pathlib import Path
from typing import Any

import jax
import numpy as np
import peer_neuralop
import report
from run import ROOT, versions

from pdequinox_spectralconv import SpectralConv


CHANNELS = (2, 3)
MODES = 4
GRIDS = [(16, 24), (24, 16), (15, 25)]


def field(dims: int, size: int) -> np.ndarray:
    """Makes random waves with wavenumbers below the number of modes, at the points of a grid."""
    rng = np.random.default_rng(0)
    points = np.meshgrid(*[2 * np.pi * np.arange(size) / size] * dims, indexing="ij")
    x = np.zeros((CHANNELS[0], *[size] * dims))
    for k in itertools.product(range(1 - MODES, MODES), repeat=dims):
        angle = sum(k_ * point for k_, point in zip(k, points, strict=True))
        for wave in (np.cos(angle), np.sin(angle)):
            x += np.multiply.outer(rng.standard_normal(CHANNELS[0]), wave)
    return x.astype("float32")


def error(a: np.ndarray, b: np.ndarray) -> float:
    """Computes the norm of the error of `a`, relative to `b`."""
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def compare(dims: int, before: int, after: int) -> dict[str, Any]:
    """Makes a row, for two layers with the same weights."""
    ours = SpectralConv(dims, *CHANNELS, MODES, key=jax.random.key(0))
    theirs = peer_neuralop.copied(ours)
    x, y = field(dims, before), field(dims, after)
    shape = (after,) * dims
    reference, their_reference = np.asarray(ours(y)), peer_neuralop.apply(theirs, y)
    power = f"^{dims}" if dims > 1 else ""
    return {
        "name": f"{dims}-D, {before}{power} to {after}{power}",
        "ours": error(np.asarray(ours(x, output_shape=shape)), reference),
        "neuralop": error(peer_neuralop.apply(theirs, x, shape), their_reference),
        "same_grid": error(their_reference, reference),
    }


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "results", help="folder")
    options = parser.parse_args()
    rows = [compare(dims, *sizes) for dims in (1, 2, 3) for sizes in GRIDS]
    results = {"versions": versions(["ours", "neuralop"]), "rows": rows}
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "resampling.json").write_text(report.dump(results), encoding="utf-8")
    report.fill_pages(options.output)
    print(report.commutation(results))


if __name__ == "__main__":
    main()
