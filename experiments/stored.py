"""What the pages of the experiments show of the numbers that are stored beside them: a function for
each page, which gives its generated parts (see `pages`).

`hatch run experiments:report` fills the pages of docs/experiments.
"""

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import pages


def walls(results: dict[str, Any]) -> dict[str, str]:
    settings, numbers = results["settings"], results["results"]
    columns = list(next(iter(numbers.values())))
    rows = [
        [name, *(pages.median_and_range(row[column]) for column in columns)]
        for name, row in numbers.items()
    ]
    caption = (
        "Root-mean-square error in the part that the column names, over "
        "that of the truth on the whole domain, on "
        f"{settings['num_test']} held-out samples: median (range) over {settings['num_seeds']} "
        "initial weights, the same for each row. The network is a U-Net of "
        f"{results['parameters']:,} parameters, trained for {settings['num_steps']} steps on "
        f"{settings['num_train']} samples; a prediction of 0 has error 1."
    )
    return {"errors": pages.part(["", *columns], rows, caption, results)}


def channel(results: dict[str, Any]) -> dict[str, str]:
    settings, numbers = results["settings"], results["results"]
    across = {name: row["modes across"] for name, row in numbers.items()}
    # Errors are lists, with a number for each run.
    columns = [name for name, value in numbers["periodic"].items() if isinstance(value, list)]
    rows = [
        [
            name,
            f"{row['parameters']:,}",
            f"{row['milliseconds per training step']:.0f} ms",
            *(pages.median_and_range(row[column]) for column in columns),
        ]
        for name, row in numbers.items()
    ]
    caption = (
        "Root-mean-square error of one step in the part that the column names, over "
        "that of the truth in the whole "
        f"channel, on {settings['num_test']} held-out trajectories; after "
        f"{settings['num_rollout']} steps, relative error ‖prediction − truth‖ / ‖truth‖ in the "
        "channel, mean over the trajectories. Median (range) over "
        f"{settings['num_seeds']} initial weights. A step is {settings['dt']:g} in time; a "
        f"prediction of no change has error {results['error of no change']:.2f}. A wall is the "
        f"{settings['num_near']} rows of cells next to it.\n\n"
        "The modes across the channel: periodic, the wavenumbers -m..m-1 with m = "
        f"{across['periodic']}; zero-padded, {settings['padding']} rows of zeros beyond the wall "
        "without flux and as many more wavenumbers as keep the finest wavelength, m = "
        f"{across['zero-padded']}; own modes, {across['own modes']} "
        "sines that are 0 at the one wall and flat at the other. Along it all have the wavenumbers "
        f"0..{settings['modes_along'] - 1}, and all are given the coordinate y as an input. "
        f"They are trained for {settings['num_steps']} steps. Training steps were timed in "
        "turns."
    )
    return {
        "errors": pages.part(["", "parameters", "training step", *columns], rows, caption, results)
    }


def convection(results: dict[str, Any]) -> dict[str, str]:
    settings, numbers = results["settings"], results["results"]
    rows, unchanged, columns = [], [], []
    for field, of_field in numbers.items():
        unchanged.append(f"{field} {of_field['error of no change']:.3f}")
        for name, row in of_field.items():
            if name != "error of no change":
                columns = list(row)
                rows.append([field, name, *map(pages.median_and_range, row.values())])
    caption = (
        "Root-mean-square error of one step in the part that the column names, over "
        "that of the same field's truth in "
        f"the whole channel, on {settings['num_test']} held-out trajectories; after "
        f"{settings['num_rollout']} steps, relative error ‖prediction − truth‖ / ‖truth‖ of the "
        "field in the channel, mean over the trajectories. Median (range) over "
        f"{settings['num_seeds']} initial weights, the same for the three boundary modes. A "
        f"prediction of no change has the errors: {', '.join(unchanged)}. At the plates: the "
        f"{settings['num_near']} rows of cells next to each.\n\n"
        "Both plates are free of stress and have fixed temperatures. Modes per field: in the first "
        "layer, velocity across and temperature are odd about the plates, velocity along and "
        "pressure even; in all others, every channel even. One mode for all: even in every layer. "
        "Zeros: in every layer. Along the channel all are periodic. The network has "
        f"{results['parameters']:,} parameters and is trained for {settings['num_steps']} steps; "
        f"Rayleigh number {settings['rayleigh']:g}, Prandtl number {settings['prandtl']:g}."
    )
    return {"errors": pages.part(["", "boundary modes", *columns], rows, caption, results)}


def poles(results: dict[str, Any]) -> dict[str, str]:
    settings, numbers = results["settings"], results["results"]
    columns = list(next(iter(numbers.values())))
    rows = [[name, *map(pages.median_and_range, row.values())] for name, row in numbers.items()]
    degrees = 180 * settings["num_near"] / settings["num_latitudes"]
    caption = (
        "Root-mean-square error of one step in the part that the column names, over "
        "that of the truth on the whole "
        f"grid, every cell alike, on {settings['num_test']} held-out samples; a prediction of no "
        f"change has error {results['error of no change']:.2f}. Polar rows: the "
        f"{settings['num_near']} next to each pole, within {degrees:g} degrees of it. The bell is "
        "that of test case 1 of Williamson et al. (1992), twice as wide for so coarse a grid: a "
        f"cosine bell that is carried over the pole by {settings['num_rollout']} steps of the "
        f"network from its own predictions, and is on it after {settings['num_rollout'] // 2}; its "
        "errors are ‖prediction − truth‖ / ‖truth‖ by area. Median (range) over "
        f"{settings['num_seeds']} initial weights, the same for each row.\n\n"
        "Over the pole: scalars continue with their values on the opposite meridian, the wind's "
        "components with the opposite sign. Zeros and outflow: in every layer, at both ends of the "
        "latitude. The longitude is periodic. The network has "
        f"{results['parameters']:,} parameters and is trained for {settings['num_steps']} steps on "
        f"a grid of {settings['num_latitudes']} x {settings['num_longitudes']} cells."
    )
    return {"errors": pages.part(["", *columns], rows, caption, results)}


def weight_scale(results: dict[str, Any]) -> dict[str, str]:
    settings = results["settings"]
    kinds = ("with bypass", "without bypass")
    errors = [
        [
            name,
            f"{row['weight scale']:.2g}",
            f"{statistics.median(row['size']):.2g}",
            *(pages.median_and_range(row[kind], 4) for kind in kinds),
        ]
        for name, row in results["results"].items()
    ]
    of_errors = (
        f"Emulators of the Kuramoto-Sivashinsky equation after {settings['num_steps']} steps of "
        "Adam: error of one step ‖prediction − truth‖ / ‖truth‖, mean over "
        f"{settings['num_test']} held-out trajectories, median (range) over "
        f"{settings['num_seeds']} initial weights; a prediction of no change has error "
        f"{results['error of no change']:.2f}. A block is a spectral convolution, with or without "
        "a pointwise one beside it, the bypass. Size of branch: standard deviation of the first "
        "spectral convolution's output, before training, over that of its input. Weight scales: "
        "the default, `1 / channels**2`; the one that keeps the variance, "
        "`(2 * channels)**-0.5`; and a tenth of that."
    )
    cell = lambda row, name: f"{row[name]:.2f}" if name in row else "-"
    variances = [
        [name, *(cell(row, n) for n in ("fraction", "all", "kept", "waves", "constant"))]
        for name, row in results["variance ratios"].items()
    ]
    of_variances = (
        "Variance of the output over that of the input, before training, of a layer whose weight "
        "scale is `(2 * channels)**-0.5`, or `channels**-0.5` without a periodic axis; means over "
        f"{settings['num_layers']} layers and fields of white noise, which loses the modes that "
        "are not kept. Of those that are, the waves along the last periodic axis keep their "
        "variance. What is constant along it keeps half: a real coefficient loses the imaginary "
        "part of its product, and two opposite wavenumbers that are one wave get matrices of their "
        "own. (The wavenumbers -m, which have no partner, make it a little more than half.)"
    )
    header = ["", "weight scale", "size of branch", *(f"error {kind}" for kind in kinds)]
    names = ["axes", "kept part of white noise", "white noise", "kept modes", "waves", "constant"]
    return {
        "errors": f"{pages.table(header, errors)}\n\n{of_errors}",
        "variances": pages.part(names, variances, of_variances, results),
    }


def parameters(results: dict[str, Any]) -> dict[str, str]:
    settings, still = results["settings"], results["errors of no change"]
    rows = [
        [
            row["weights"],
            row["size"],
            f"{row['parameters']:,}",
            *(pages.median_and_range(row[name]) for name in still),
        ]
        for row in results["results"]
    ]
    rows.append(["no change", "-", "0", *(f"{error:.3f}" for error in still.values())])
    caption = (
        f"Emulators of Kolmogorov flow on {settings['num_points']} x {settings['num_points']} "
        f"points after {settings['num_steps']} steps of Adam: error of the vorticity ‖prediction − "
        f"truth‖ / ‖truth‖ after one step of {settings['tau'] * settings['num_substeps']:g} in "
        f"time and after {settings['num_rollout']}, mean over {settings['num_test']} held-out "
        f"trajectories; median (range) over {settings['num_seeds']} initial weights. "
        f"{settings['num_blocks']} blocks, {settings['num_modes']} modes per axis; "
        f"{settings['num_train']} trajectories to train on, from a solver on "
        f"{settings['num_fine']} x {settings['num_fine']} points."
    )
    return {"errors": pages.part(["weights", "size", "parameters", *still], rows, caption, results)}


def sharded_runs(results: dict[str, Any]) -> dict[str, str]:
    num_steps = results["settings"]["num_steps"]
    networks = ("FNO", "U-Net")
    rows = [
        [
            label,
            *(
                cell
                for row in (run[name] for name in networks)
                for cell in (
                    f"{row['loss']:.4f}",
                    f"{row['largest difference of a loss']:.0e}",
                    f"{row['largest difference of a weight']:.0e}",
                )
            ),
        ]
        for label, run in results["results"].items()
    ]
    caption = (
        f"Loss: squared error over that of persistence, mean of the last {num_steps // 10} of "
        f"{num_steps} steps. Δ loss, Δ w: largest relative difference of the loss of a step and of "
        "a final weight from the training on one device, in float32. After it was killed, the "
        "training in two processes ends with the losses and weights of the one that was not, bit "
        "for bit."
    )
    header = ["", *(f"{name}: {what}" for name in networks for what in ("loss", "Δ loss", "Δ w"))]
    return {"differences": pages.part(header, rows, caption, results)}


PAGES = {
    "walls": walls,
    "channel": channel,
    "convection": convection,
    "poles": poles,
    "weight_scale": weight_scale,
    "parameters": parameters,
    "sharded_runs": sharded_runs,
    "emulators": pages.emulators,
}


def parts(folder: Path, name: str) -> dict[str, str]:
    """Gives the generated parts of a page, from the numbers beside it."""
    return PAGES[name](json.loads((folder / f"{name}.json").read_text(encoding="utf-8")))


def main() -> None:
    folder = Path(sys.argv[1])
    for name in PAGES:
        page = folder / f"{name}.md"
        filled = pages.fill(page.read_text(encoding="utf-8"), parts(folder, name))
        page.write_text(filled, encoding="utf-8")


if __name__ == "__main__":
    main()
