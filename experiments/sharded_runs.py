"""Runs the training of `sharded.py` on one device, on four of one process and of two, and once more
with both processes killed in the midst of each network, and compares. Run it by `hatch run
experiments:sharded`.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import common
import equinox as eqx
import jax
import numpy as np
import sharded
import stored
from jaxtyping import Float


EPS = float(np.finfo(np.float32).eps)

# What `sharded.py` prints.
REPORT = re.compile(r"(\S+) has done step (\d+)")
START = re.compile(r"(\S+) starts after step (\d+)")


class Run(NamedTuple):
    num_processes: int
    devices_each: int
    batch_devices: int
    killed: bool = False


RUNS = {
    "one device": Run(1, 1, 1),
    "one process": Run(1, 4, 2),
    "two processes": Run(2, 2, 2),
    "killed twice": Run(2, 2, 2, killed=True),
}


class Outcome(NamedTuple):
    losses: Float[np.ndarray, " steps"]
    weights: list[np.ndarray]


@contextmanager
def reserved_port() -> Iterator[int]:
    """Reserves a port of this machine that is given to no other program meanwhile: the socket is
    bound, and the coordinator of JAX binds to the same port, because both set `SO_REUSEPORT`.
    """
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def start(
    run: Run, arguments: list[str], cache: Path, kill_after: tuple[str, int] | None
) -> dict[str, int]:
    """Starts all processes and waits until they end, or until a network has done the steps of
    `kill_after`, and kills them.

    **Returns:**

    After which step each network started.
    """
    command = [sys.executable, str(Path(sharded.__file__)), *arguments]
    command += [f"--batch-devices={run.batch_devices}", f"--processes={run.num_processes}"]
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={run.devices_each}",
        # What is started again need not compile again.
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
        "JAX_REMOVE_CUSTOM_PARTITIONING_PTR_FROM_CACHE_KEY": "1",
    }
    name, step = kill_after or (None, 0)
    children, starts = [], {}
    with tempfile.TemporaryFile("w+") as complaints, reserved_port() as port:
        try:
            for i in range(run.num_processes):
                connection = [f"--process={i}", f"--coordinator=127.0.0.1:{port}"]
                stdout = subprocess.PIPE if i == 0 else subprocess.DEVNULL
                children.append(
                    subprocess.Popen(
                        [*command, *connection],
                        env=environment,
                        stdout=stdout,
                        stderr=complaints,
                        text=True,
                    )
                )
            for line in children[0].stdout:
                if found := START.match(line):
                    starts[found[1]] = int(found[2])
                found = REPORT.match(line)
                if found and found[1] == name and int(found[2]) >= step:
                    break
            else:
                # JAX ends every process within minutes of the death of another.
                for child in children:
                    child.wait()
        finally:
            for child in children:
                child.kill()
            codes = [child.wait() for child in children]
        children[0].stdout.close()
        if set(codes) != {0 if kill_after is None else -signal.SIGKILL}:
            complaints.seek(0)
            raise SystemExit(f"The processes ended with {codes}.\n{complaints.read()[-8000:]}")
    return starts


def carry_out(run: Run, arguments: list[str], cache: Path, settings: sharded.Settings) -> list[str]:
    """Makes all starts of a run, and what happened to it, in words."""
    # Between two checkpoints, in the midst of the training.
    interval = settings.steps_between_checkpoints
    step = settings.num_steps // (2 * interval) * interval + interval // 2
    kills = [(name, step) for name in sharded.NETWORKS if run.killed]
    starts = [start(run, arguments, cache, kill) for kill in [*kills, None]]
    return [
        f"{name} killed after step {step}, and back at step {after[name]}"
        for (name, step), after in zip(kills, starts[1:], strict=True)
    ]


def last_checkpoints(
    name: str, settings: sharded.Settings, seed: int, folders: dict[str, Path]
) -> dict[str, Outcome]:
    """Reads what every run left of a network onto a device of this process."""
    state, _ = sharded.first_state(name, settings, seed, sharded.make_mesh(1))
    found = {}
    for label, folder in folders.items():
        checkpoints = sharded.Checkpoints(folder / name, settings, seed)
        (network, _), losses = checkpoints.restore(state)
        checkpoints.close()
        weights = jax.tree.leaves(eqx.filter(network, eqx.is_array))
        found[label] = Outcome(np.array(losses), [np.asarray(weight) for weight in weights])
    return found


def differences(a: Outcome, b: Outcome) -> tuple[float, float]:
    """Finds the largest differences between the losses, relative to these, and the largest between
    the weights, relative to the largest weight.
    """
    of_losses = np.max(np.abs(a.losses - b.losses) / b.losses)
    largest = max(np.max(np.abs(weight)) for weight in b.weights)
    of_weights = max(np.max(np.abs(v - w)) for v, w in zip(a.weights, b.weights, strict=True))
    return float(of_losses), float(of_weights / largest)


def main() -> None:
    jax.config.update("jax_platforms", "cpu")
    options = common.parse_options(__doc__)
    settings = sharded.SHORT if options.short else sharded.Settings()
    arguments = [f"--seed={options.seed}", *(["--short"] if options.short else [])]
    with tempfile.TemporaryDirectory() as folder:
        folders = {label: Path(folder) / label.replace(" ", "_") for label in RUNS}
        for label, run in RUNS.items():
            print(f"{label} ...", flush=True)
            own = [*arguments, f"--checkpoints={folders[label]}"]
            for event in carry_out(run, own, Path(folder) / "compiled", settings):
                print(f"  {event}", flush=True)
        outcomes = {
            name: last_checkpoints(name, settings, options.seed, folders)
            for name in sharded.NETWORKS
        }

    last = settings.num_steps // 10
    numbers = {}
    for label, run in RUNS.items():
        numbers[label] = run._asdict()
        for name, found in outcomes.items():
            final = float(found[label].losses[-last:].mean())
            of_losses, of_weights = differences(found[label], found["one device"])
            numbers[label][name] = {
                "loss": final,
                "largest difference of a loss": of_losses,
                "largest difference of a weight": of_weights,
            }

    for name, found in outcomes.items():
        # A loss sums thousands of terms, in another order in every run but the last two.
        most = max(differences(run, found["one device"])[0] for run in found.values())
        if most > 1000 * EPS:
            raise SystemExit(f"{name}: the losses depend on the number of devices, by {most:.0e}.")
        if differences(found["killed twice"], found["two processes"]) != (0, 0):
            raise SystemExit(f"{name}: not what it would be, had it not been killed.")

    results = {"seed": options.seed, "settings": asdict(settings), "results": numbers}
    common.report(options.output, "sharded_runs", results, stored.sharded_runs)


if __name__ == "__main__":
    main()
