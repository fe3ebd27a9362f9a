"""What the larger examples and the experiments share: options, training, errors, and results."""

import argparse
import functools
import json
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import equinox as eqx
import jax
import numpy as np
import optax
import pages
from jaxtyping import Array, Float
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import AxesImage
from tqdm import tqdm


Network = TypeVar("Network", bound=eqx.Module)
Batch = tuple[np.ndarray, ...]
Loss = Callable[..., Float[Array, ""]]

RESULTS = Path(__file__).resolve().parents[1] / "results"


def parse_options(description: str) -> argparse.Namespace:
    """Reads the command line: `short`, `seed` and `output`, a folder for the results or `None`."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--short", action="store_true", help="a run of seconds, to test the code")
    parser.add_argument("--seed", type=int, default=0, help="of data, weights and batches")
    parser.add_argument(
        "--output",
        type=Path,
        help="folder of the results, docs/experiments for the pages there; default: results, or "
        "none if --short",
    )
    options = parser.parse_args()
    if options.output is None and not options.short:
        options.output = RESULTS
    return options


def batches(data: Batch, batch_size: int, seed: int) -> Iterator[Batch]:
    """Yields random batches without end: every sample once per epoch, but for an incomplete last
    batch.
    """
    num_samples = len(data[0])
    if num_samples < batch_size:
        raise ValueError(f"`batch_size` must be at most {num_samples}, got {batch_size}.")
    generator = np.random.default_rng(seed)
    while True:
        order = generator.permutation(num_samples)
        for start in range(0, num_samples - batch_size + 1, batch_size):
            chosen = order[start : start + batch_size]
            yield tuple(array[chosen] for array in data)


@functools.cache
def make_optimiser(num_steps: int, learning_rate: float) -> optax.GradientTransformation:
    """Makes Adam (https://arxiv.org/abs/1412.6980) with a learning rate falling to 0 like a cosine.

    Cached, so that networks of the same structure share one compiled step.
    """
    return optax.adam(optax.cosine_decay_schedule(learning_rate, num_steps))


# One compiled call per step. Many steps per call, by `jax.lax.scan`, took twice as long per step
# (20 ms and not 10 ms, the U-Net of `emulators.py` on two cores, JAX 0.10.2).
@eqx.filter_jit
def train_step(
    network: Network,
    state: optax.OptState,
    batch: Batch,
    loss: Loss,
    optimiser: optax.GradientTransformation,
) -> tuple[Network, optax.OptState, Float[Array, ""]]:
    value, gradient = eqx.filter_value_and_grad(loss)(network, *batch)
    updates, state = optimiser.update(gradient, state)
    return eqx.apply_updates(network, updates), state, value


def train(
    network: Network,
    loss: Loss,
    data: Batch,
    *,
    num_steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    label: str,
    history: list[float] | None = None,
) -> tuple[Network, float]:
    """Minimises the loss by stochastic gradients, with a progress bar.

    **Arguments:**

    - `loss`: Called as `loss(network, *batch)`.
    - `data`: Arrays of shape `(num_samples, ...)`; a batch has some samples of each.
    - `label`: Shown at the progress bar.
    - `history`: If given, the loss of every step is appended to it.

    **Returns:**

    The trained network, and the seconds that it took, compilation included.
    """
    optimiser = make_optimiser(num_steps, learning_rate)
    state = optimiser.init(eqx.filter(network, eqx.is_inexact_array))
    start = time.perf_counter()
    # A terminal is redrawn often; a log, where every redrawing stays, is not.
    interval = 0.2 if sys.stderr.isatty() else 5
    with tqdm(total=num_steps, desc=label, mininterval=interval, ncols=88) as bar:
        values = []
        for _, batch in zip(range(num_steps), batches(data, batch_size, seed), strict=False):
            network, state, value = train_step(network, state, batch, loss, optimiser)
            values.append(value)
            # `float` waits for the device, so it is called once for many steps.
            if len(values) == 25 or bar.n + len(values) == num_steps:
                values = [float(v) for v in values]
                bar.set_postfix(loss=f"{np.mean(values):.1e}", refresh=False)
                bar.update(len(values))
                if history is not None:
                    history.extend(values)
                values = []
    return network, time.perf_counter() - start


def num_parameters(network: eqx.Module) -> int:
    arrays = jax.tree.leaves(eqx.filter(network, eqx.is_inexact_array))
    return sum(array.size for array in arrays)


def relative_error(prediction: np.ndarray, truth: np.ndarray, num_axes: int) -> np.ndarray:
    """Gives the normalised root-mean-square error `||prediction - truth|| / ||truth||`, with the
    norms over the last `num_axes` axes.
    """
    axes = tuple(range(-num_axes, 0))
    difference = np.sum((prediction - truth) ** 2, axis=axes)
    return np.sqrt(difference / np.sum(truth**2, axis=axes))


def style(title_size: float = 8.5) -> None:
    """Makes the letters and lines of figures fit for a page."""
    rcParams.update({"font.size": 8.5, "axes.titlesize": title_size, "axes.linewidth": 0.6})


def draw_field(
    panel: Axes,
    values: Float[np.ndarray, "horizontal vertical"],
    extent: tuple[float, float, float, float],
    limit: float,
    aspect: str = "equal",
) -> AxesImage:
    """Draws a field in colours from blue at `-limit` to red at `limit`."""
    return panel.imshow(
        values.T,
        extent=extent,
        origin="lower",
        aspect=aspect,
        cmap="RdBu_r",
        vmin=-limit,
        vmax=limit,
        interpolation="bilinear",
        interpolation_stage="data",
    )


def draw_band(
    panel: Axes,
    positions: Sequence[float],
    runs: Float[np.ndarray, "runs positions"],
    *,
    colour: Any,
    label: str,
    quantiles: tuple[float, float] = (0, 1),
) -> None:
    """Draws the median of the runs as a line, and quantiles, by default the range, as a band."""
    low, middle, high = np.quantile(runs, [quantiles[0], 0.5, quantiles[1]], axis=0)
    panel.plot(positions, middle, color=colour, label=label, linewidth=1.6)
    panel.fill_between(positions, low, high, color=colour, alpha=0.25, linewidth=0)


def legend_above(figure: Figure | SubFigure, panel: Axes) -> None:
    """Names the lines of a panel in a row above all panels of the figure."""
    handles, labels = panel.get_legend_handles_labels()
    place = {"loc": "outside upper center", "ncols": len(labels)}
    figure.legend(handles, labels, frameon=False, **place)


def machine() -> dict[str, Any]:
    """Tells what the numbers depend on beside the code: the processor and the versions."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        model = names[0] if names else model
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": model,
        "cores": cores,
        "jax_device": jax.devices()[0].device_kind,
        "python": platform.python_version(),
        "jax": jax.__version__,
        "equinox": eqx.__version__,
    }


def report(
    output: Path | None,
    name: str,
    results: dict[str, Any],
    parts_of: Callable[[dict[str, Any]], dict[str, str]],
    draw: Callable[[], Figure] | None = None,
) -> None:
    """Prints the results, and writes them into the folder `output`, if there is one: `name.json`,
    `name.png`, and `name.md`.

    **Arguments:**

    - `parts_of`: Makes the generated parts of the page `name.md` of the results. A page begins with
        a heading. In a folder without one, `name.md` becomes the parts and nothing else.
    - `draw`: Makes the figure.
    """
    results = {**results, "machine": machine()}
    parts = parts_of(results)
    text = "\n\n".join(parts.values())
    print(f"\n{text}\n")
    if output is None:
        return
    output.mkdir(parents=True, exist_ok=True)
    (output / f"{name}.json").write_text(
        json.dumps(results, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    if draw is not None:
        draw().savefig(output / f"{name}.png", dpi=120, pil_kwargs={"optimize": True})
    # What takes minutes to compute is written before a page without its marks is an error.
    page = output / f"{name}.md"
    found = page.read_text(encoding="utf-8") if page.exists() else ""
    shown = pages.fill(found, parts) if re.search("^# ", found, re.MULTILINE) else text + "\n"
    page.write_text(shown, encoding="utf-8")
    print(f"Written to {output}: {name}.*")
