"""Trains networks of APEBench on one of its scenarios, with the layers of pdequinox 0.1.2 and of
this project, and compares the losses and the time of a step.

Every run is a process of its own. The two take turns, and the median of the rounds counts.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import report
from run import processor, ROOT


LAYERS = ("pdequinox", "adopted", "provided")

# The sizes are those of APEBench's documentation, in 1-D.
NETWORKS = [
    ("Res;26;8;relu", 1),
    ("UNet;12;2;relu", 1),
    ("Dil;2;32;2;relu", 1),
    ("FNO;12;18;4;gelu", 1),
]


def run(
    layers: str, network: str, dims: int, points: int, steps: int, batch: int
) -> dict[str, Any]:
    """Trains in this process as the scenario does, and returns the losses of all steps and the mean
    seconds of those after the first two, which compile.
    """
    if layers == "provided":
        from pdequinox_convert import provide_pdequinox_conv

        provide_pdequinox_conv()
    import apebench
    import jax

    from pdequinox_convert import adopt

    ticks = []

    class Scenario(apebench.scenarios.difficulty.Burgers):
        def get_network(self, network_config: str, key: Any) -> Any:
            made = super().get_network(network_config, key)
            return adopt(made)[0] if layers == "adopted" else made

        def get_callback_fn(self) -> Any:
            return lambda *_: ticks.append(time.perf_counter())

    scenario = Scenario(
        num_spatial_dims=dims,
        num_points=points,
        optim_config=f"adam;{steps};warmup_cosine;0.0;1e-3;{steps // 5}",
        batch_size=batch,
        num_train_samples=8,
        train_temporal_horizon=20,
        num_test_samples=2,
        test_temporal_horizon=5,
        record_loss_every=1,
    )
    trainer = scenario.get_trainer(train_config="one")
    init_key, shuffle_key = jax.random.split(jax.random.PRNGKey(0))
    stepper = scenario.get_neural_stepper(
        task_config="predict", network_config=network, key=init_key
    )
    trained, losses, _ = trainer(stepper, shuffle_key, record_loss_every=1, spawn_tqdm=False)
    convolutions = layers_of(trained)
    return {
        "losses": [float(loss) for loss in losses],
        "step": (ticks[-1] - ticks[2]) / (len(ticks) - 3),
        "layers": len(convolutions),
        "own": sum(name.startswith("pdequinox_") for name in convolutions),
        "versions": versions(),
    }


def layers_of(model: Any) -> list[str]:
    """Lists the modules that the convolutions of a network come from."""
    import jax

    names = ("PhysicsConv", "PhysicsConvTranspose", "PointwiseLinearConv", "SpectralConv")

    def bases(node: Any) -> list[str]:
        return [base.__module__ for base in type(node).__mro__ if base.__name__ in names]

    nodes = jax.tree.leaves(model, is_leaf=lambda node: bool(bases(node)))
    return [found[0] for node in nodes if (found := bases(node))]


def versions() -> dict[str, str]:
    """Finds the versions of what runs in this environment."""
    from importlib.metadata import version

    names = ("apebench", "pdequinox", "jax", "jaxlib", "equinox", "pdequinox-convert")
    return {"Python": sys.version.split()[0], **{name: version(name) for name in names}}


def process(double: bool, **arguments: Any) -> dict[str, Any]:
    """Runs a training in a process of its own."""
    environment = {**os.environ, "JAX_ENABLE_X64": str(double), "TQDM_DISABLE": "1"}
    if not double:  # Only these runs are timed.
        environment.pop("JAX_DISABLE_MOST_OPTIMIZATIONS", None)
    done = subprocess.run(
        (sys.executable, __file__, "--run", json.dumps(arguments)),
        env=environment, check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def compare(network: str, dims: int, rounds: int, steps: int) -> dict[str, Any]:
    """Makes a row: the largest difference of the losses in float64, and the times in float32."""
    points = {1: 160, 2: 64}[dims]
    arguments = dict(network=network, dims=dims, points=points, steps=steps, batch=20)
    short = {**arguments, "steps": min(steps, 50), "points": max(points // 2, 40), "batch": 4}
    exact = {layers: process(True, layers=layers, **short)["losses"] for layers in LAYERS}
    difference = max(
        abs(a - b) / abs(b)
        for layers in LAYERS[1:]
        for a, b in zip(exact[layers], exact["pdequinox"], strict=True)
    )
    times: dict[str, list[dict[str, Any]]] = {layers: [] for layers in ("pdequinox", "provided")}
    for _ in range(rounds):
        for layers, found in times.items():
            found.append(process(False, layers=layers, **arguments))
    row: dict[str, Any] = {"network": network, "dims": dims, "difference": difference}
    for layers, found in times.items():
        row[layers] = {"step": median(f["step"] for f in found)}
    return row | {"versions": times["provided"][0]["versions"], "steps": steps}


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--output", type=Path, default=ROOT / "results", help="folder")
    options = parser.parse_args()
    if options.run:
        print(json.dumps(run(**json.loads(options.run))))
        return
    rows = [compare(name, dims, options.rounds, options.steps) for name, dims in NETWORKS]
    found = [row.pop("versions") for row in rows]
    results = {"machine": processor(), "versions": found[0], "rows": rows}
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "scenarios.json").write_text(report.dump(results), encoding="utf-8")
    report.fill_pages(options.output)
    print(report.scenarios(results))


if __name__ == "__main__":
    main()
