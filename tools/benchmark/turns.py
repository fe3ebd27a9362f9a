"""Runs libraries in processes of their own, which take turns: in the Python at hand, and in one
with the newest JAX.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager, ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from rows import Task


HERE = Path(__file__).resolve().parent
# Made for the command line: its folder is not a package.
sys.path.append(str(HERE.parent))
from newest import CannotError, newest, package_folders, Place  # noqa: E402


Key = TypeVar("Key", bound=Hashable)

# A call that takes longer (in seconds) has fewer turns.
SLOW, FEW = 0.3, 3

# By default an array of more than 32 MB gets new pages from the system at every call, unless the
# heap has a hole of that size, which depends on everything that ran before (mallopt(3)).
KEPT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(2**32), "MALLOC_TRIM_THRESHOLD_": str(2**34)}


@dataclass(frozen=True)
class Setting:
    """Describes how a process runs: on which JAX, with which flags of XLA, precision of products
    and number of cores, and whether glibc keeps freed memory in the process.
    """

    title: str
    newest: bool = False
    flags: str = ""
    precision: str = ""
    cores: int = 0  # 0 means all of them
    keeps_memory: bool = True


# The keys are the names in the results.
SETTINGS = {
    "present": Setting("present"),
    "newest": Setting("newest", newest=True),
    "flag": Setting(
        "newest, oneDNN", newest=True, flags="--xla_cpu_experimental_onednn_custom_call=true"
    ),
    "float32": Setting("float32", precision="highest"),
    "tf32": Setting("TF32", precision="tensorfloat32"),
    "bf16x3": Setting("bf16 x 3", precision="BF16_BF16_F32_X3"),
}


# The settings without a flag.
VERSIONS = ("present", "newest")


class Process:
    """Runs a library in a process that answers requests."""

    def __init__(self, module: str, setting: Setting, place: Place | None) -> None:
        # Processes share an accelerator: each takes no more of its memory than it needs.
        variables = {"PYTHONWARNINGS": "ignore", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
        if setting.keeps_memory:
            variables |= KEPT_MEMORY
        if setting.precision:
            variables["JAX_DEFAULT_MATMUL_PRECISION"] = setting.precision
        if flags := f"{os.environ.get('XLA_FLAGS', '')} {setting.flags}".strip():
            variables["XLA_FLAGS"] = flags
        if place is None:
            command: tuple[str, ...] = (sys.executable, str(HERE / "worker.py"), module)
            environment = os.environ | variables
        else:
            # The sources are those of now, whatever was installed when the place was made.
            sources = ":".join(f"{place.checkout}/{folder}/src" for folder in package_folders())
            variables["PYTHONPATH"] = sources
            worker = place.checkout / "tools" / "benchmark" / "worker.py"
            command = place.command(place.python, worker, module)
            environment = place.environment | variables
        if setting.cores:
            command = ("taskset", "--cpu-list", f"0-{setting.cores - 1}", *command)
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        """Sends one line, and waits for one."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args} ended without an answer to {request}.")
        return json.loads(line)

    def prepare(self, task: Task, **options: Any) -> dict[str, Any]:
        """Asks the process to make a task ready to be timed."""
        return self.ask(do="prepare", task=task.as_json(), options=options)

    def end(self) -> None:
        """Ends the process."""
        self.process.communicate()


@contextmanager
def processes(
    wanted: Mapping[Key, tuple[Setting, str]], kept: Path | None
) -> Iterator[dict[Key, Process]]:
    """Gives a process for each setting and module. Processes on the newest JAX run in the folder
    that is kept, or in a temporary one; if that cannot be made, they are missing.
    """
    with ExitStack() as stack:
        place = None
        if any(setting.newest for setting, _ in wanted.values()):
            requirements = [*package_folders(), "pdequinox==0.1.2"]
            try:
                place = stack.enter_context(newest(requirements, kept))
            except CannotError as reason:
                print(f"No newest JAX, its columns stay empty: {reason}", file=sys.stderr)
        found = {}
        for key, (setting, module) in wanted.items():
            if not setting.newest or place is not None:
                found[key] = Process(module, setting, place if setting.newest else None)
                stack.callback(found[key].end)
        yield found


def measure(
    prepared: Mapping[Key, Process], rounds: int, seconds: float
) -> dict[Key, dict[str, Any]]:
    """Measures the times of what every process has prepared."""
    names = list(prepared)
    times: dict[Key, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        # Each turn starts with another process, so that the order does not favour one.
        for i in range(len(names)):
            name = names[(i + turn) % len(names)]
            if turn >= FEW and min(times[name]) > SLOW:
                continue
            times[name].append(prepared[name].ask(do="time", seconds=seconds)["seconds"])
            # Idle threads of some libraries keep spinning for some milliseconds.
            time.sleep(0.01)
    found = {}
    for name in names:
        low, median, high = statistics.quantiles(times[name], n=4)
        found[name] = {"median": median, "quartiles": [low, high]}
    return found
