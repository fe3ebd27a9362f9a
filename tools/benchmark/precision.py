"""Measures the error of a spectral layer in every precision, on fields with and without a large
mean.

The field is a mean plus waves of root mean square 1. The output is compared with that of the same
layer and field in float64. Errors are those of the waves, without the mean of each channel,
relative to the waves of the output, because the waves are what a network continues with.
"""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import report
from jax import lax
from run import processor, ROOT, versions

from pdequinox_operators import plain_operations
from pdequinox_spectralconv import SpectralConv


CHANNELS, POINTS, MODES = 8, 64, 12
MEANS = (0, 10, 1000)
LAYERS = {
    "products": dict(method="product"),
    "fast transforms": dict(method="fft"),
    "walls, products": dict(method="product", boundary_mode="neumann_cell"),
    "CP of rank 8, products": dict(method="product", weights=("cp", 8)),
}
# The dtype of stored numbers, and whether factors of products are rounded to bfloat16.
POLICIES = {
    "float32": ("float32", False),
    "float32, products of bfloat16": ("float32", True),
    "float16": ("float16", False),
    "bfloat16": ("bfloat16", False),
}


@contextmanager
def products_of_bfloat16() -> Iterator[None]:
    """Rounds the factors of all products to bfloat16, and sums in float32. An accelerator does this
    if `jax.default_matmul_precision` asks for it, but a CPU ignores that setting.
    """
    product = lax.dot_general_p
    exact = product.bind

    def rounded(a: Any, b: Any, **parameters: Any) -> Any:
        a, b = (v.astype("bfloat16").astype("float32") for v in (a, b))
        return exact(a, b, **parameters)

    product.bind = rounded
    jax.clear_caches()
    try:
        with plain_operations():
            yield
    finally:
        del product.bind
        jax.clear_caches()


def field(mean: float) -> np.ndarray:
    """Makes random waves in every channel, up to wavenumber `POINTS // 3`, and adds the mean."""
    rng = np.random.default_rng(0)
    wave = np.abs(np.fft.fftfreq(POINTS, 1 / POINTS)) <= POINTS // 3
    spectrum = np.fft.fft2(rng.standard_normal((CHANNELS, POINTS, POINTS))) * np.outer(wave, wave)
    spectrum[:, 0, 0] = 0
    waves = np.fft.ifft2(spectrum).real
    return mean + waves / np.sqrt(np.mean(waves**2))


def error(found: Any, exact: Any) -> float:
    """Computes the error of the waves, relative to the exact waves."""
    found, exact = (np.asarray(v, "float64") for v in (found, exact))
    waves = lambda v: v - v.mean(axis=(1, 2), keepdims=True)
    return float(np.linalg.norm(waves(found - exact)) / np.linalg.norm(waves(exact)))


def measure(mean: float, policy: str) -> dict[str, Any]:
    """Measures the error of rounding the field, and of every layer on the rounded field."""
    dtype, rounded = POLICIES[policy]
    whole = field(mean)
    x = jnp.asarray(whole, dtype)
    row: dict[str, Any] = {"mean": mean, "policy": policy, "field": error(x, whole)}
    for name, arguments in LAYERS.items():
        scale = (2 * CHANNELS) ** -0.5
        make = lambda dtype, given=arguments, scale=scale: SpectralConv(
            2, CHANNELS, CHANNELS, MODES, weight_scale=scale, dtype=dtype, key=jax.random.key(0),
            **given,
        )  # fmt: skip
        layer = make(dtype)
        if rounded:
            with products_of_bfloat16():
                y = layer(x)
        else:
            y = layer(x)
        with jax.enable_x64(True):
            wide = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf, "float64")), layer)
            exact = wide(jnp.asarray(np.asarray(x, "float64")))
            row[name] = error(y, exact)
    return row


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=ROOT / "results", help="folder")
    options = parser.parse_args()
    results = {
        "machine": processor(),
        "versions": versions(["ours"]),
        "rows": [measure(mean, policy) for policy in POLICIES for mean in MEANS],
    }
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "precision.json").write_text(report.dump(results), encoding="utf-8")
    report.fill_pages(options.output)
    print(report.precision(results))


if __name__ == "__main__":
    main()
