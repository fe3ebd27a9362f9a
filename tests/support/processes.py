"""Starts a Python program in several processes on this machine, which JAX connects."""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def reserved_port() -> Iterator[int]:
    """Gives a port that no other program is given as long as the context lasts.

    The socket holds it, bound but not listening; JAX's coordinator can bind to it all the same,
    because gRPC sets `SO_REUSEPORT`, too.
    """
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def run(
    program: Path,
    arguments: Sequence[str],
    *,
    num_processes: int,
    devices_each: int,
    timeout: float,
    **variables: str,
) -> None:
    """Runs `program` in `num_processes` processes at once, until all have ended.

    Each is called with `coordinator num_processes process_id` and then `arguments`, sees
    `devices_each` CPU devices, and has `variables` in its environment. If one fails, or `timeout`
    seconds have passed, the others are killed, and an error has the end of what each wrote.
    """
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices_each}",
        **variables,
    }
    with tempfile.TemporaryDirectory() as folder, reserved_port() as port:
        logs = [Path(folder) / f"process_{i}" for i in range(num_processes)]
        children = []
        try:
            for i, log in enumerate(logs):
                connection = [f"127.0.0.1:{port}", str(num_processes), str(i)]
                command = [sys.executable, str(program), *connection, *arguments]
                with log.open("wb") as file:
                    children.append(
                        subprocess.Popen(command, env=environment, stdout=file, stderr=file)
                    )
            problem = _wait(children, time.monotonic() + timeout)
        finally:
            for child in children:
                child.kill()
                child.wait()
        if problem is not None:
            ends = [log.read_text(errors="replace")[-6000:] for log in logs]
            written = [f"--- process {i} wrote\n{end}" for i, end in enumerate(ends)]
            raise RuntimeError("\n".join([problem, *written]))


def _wait(children: Sequence[subprocess.Popen], deadline: float) -> str | None:
    """Says what went wrong as soon as it does, or `None` when every child has ended well."""
    while True:
        codes = [child.poll() for child in children]
        for i, code in enumerate(codes):
            if code not in (None, 0):
                # The others fail too, and their reports come after the one that says why.
                return f"process {i} ended with code {code}"
        if None not in codes:
            return None
        if time.monotonic() > deadline:
            return f"processes {[i for i, code in enumerate(codes) if code is None]} ran too long"
        time.sleep(0.02)
