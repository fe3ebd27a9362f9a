"""Measures what flags of XLA, kept memory and a single core do to this project's layers on a CPU:
on a few rows, in context, on the JAX at hand and on the newest.
"""

import signal
import sys
from dataclasses import replace
from typing import Any

import report
from rows import convolutions, spectral, Task
from run import command_line, processor, versions_of
from tables import PASSES
from turns import measure, processes, Setting, VERSIONS


# One row of every kind.
ROWS = (
    "PhysicsConv: 1-D 1024, 32, k=3, batch 16",
    "PhysicsConv: 2-D 64^2, 32, k=3, batch 8",
    "PhysicsConv: 2-D 64^2, 32, k=3, batch 8, dirichlet",
    "PhysicsConv: 2-D 64^2, 32, k=3, batch 8, depthwise",
    "PhysicsConv: 3-D 32^3, 16, k=3, batch 2",
    "PhysicsConvTranspose: 2-D 32^2, 32, k=4, batch 8, stride 2",
    "PointwiseLinearConv: 2-D 64^2, 32, batch 8",
    "SpectralConv: 2-D 64^2, 32, 12 modes, batch 8",
    "networks: ClassicUNet, 2-D 64^2, 1, batch 8",
)

FLAGS = {
    "none": "",
    "oneDNN": "--xla_cpu_experimental_onednn_custom_call=true",
    "no YNNPACK": "--xla_cpu_experimental_ynn_fusion_type=",
    "fast math": "--xla_cpu_enable_fast_math=true",
    "512 bits": "--xla_cpu_prefer_vector_width=512",
    "no threads in Eigen": "--xla_cpu_multi_thread_eigen=false",
}

# The setting of a process by default.
PLAIN = Setting("plain", keeps_memory=False)

OTHERS = {
    "kept memory": replace(PLAIN, keeps_memory=True),
    "one core": replace(PLAIN, cores=1),
}


def main() -> None:
    """Runs the command line."""
    options = command_line(__doc__, VERSIONS).parse_args()
    known = {row.title: row for row in (*convolutions(), *spectral())}
    rows = [known[title] for title in ROWS if any(text in title for text in options.only)]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    settings = {name: replace(PLAIN, flags=flags) for name, flags in FLAGS.items()} | OTHERS
    wanted = {
        (version, name): (replace(setting, newest=version == "newest"), "ours")
        for version in options.settings or VERSIONS
        for name, setting in settings.items()
    }
    results: dict[str, Any] = {
        "machine": processor(),
        "versions": {},
        "rounds": options.rounds,
        "flags": FLAGS,
        "rows": [],
    }
    with processes(wanted, options.newest) as libraries:
        results["versions"] = versions_of(
            {(v, "ours"): process for (v, name), process in libraries.items() if name == "none"}
        )
        for row in rows:
            entry: dict[str, Any] = {"name": row.title}
            for what in PASSES:
                for process in libraries.values():
                    process.prepare(Task(row, what, "context"))
                for (version, name), times in measure(
                    libraries, options.rounds, options.seconds
                ).items():
                    found = entry.setdefault(what, {}).setdefault(version, {})
                    found[name] = times["median"]
            results["rows"].append(entry)
            print(report.flags(results | {"rows": [entry]}), file=sys.stderr, flush=True)
    print(report.flags(results))
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "cpu.json").write_text(report.dump(results), encoding="utf-8")
    report.fill_pages(options.output)


if __name__ == "__main__":
    main()
