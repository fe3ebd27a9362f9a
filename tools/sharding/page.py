"""Makes the tables and the figure of docs/sharding.md from the numbers in docs/sharding.json and
from the formulas.

`python page.py FOLDER` makes them again from the stored numbers.
"""

import json
import re
import sys
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import cluster
from cases import CHANNELS, LAYERS, MODES, PASSES, POINTS, SAMPLES, SHARDINGS
from formulas import field, key, sent, Sizes, TERMS, text, weights_of


sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmark"))
from report import dump, table


SIZES = Sizes(SAMPLES, CHANNELS, CHANNELS, POINTS, MODES)
LAYER = {layer.title: layer for layer in LAYERS}
SHARDING = {sharding.title: sharding for sharding in SHARDINGS}
LATENCY = 5e-6
"""Seconds of a message between systems, a common value."""


def number(value: float) -> str:
    """Writes three digits: `0.0485`, `13.1`, `1,050`."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value else "0"


def of(row: dict[str, Any], column: str, what: str, key: str) -> float | None:
    """Finds a number of the results, or `None` where there is no program."""
    return row.get(column, {}).get(what, {}).get(key)


def bytes_table(results: dict[str, Any]) -> str:
    """Writes the table of what was counted."""
    head = ["", "shared", "forward: sent", "pdequinox", "training step: sent", "pdequinox"]
    head += ["largest", "pdequinox"]
    body = []
    for row in results["rows"]:
        cells = [row["layer"], row["sharding"]]
        for what in PASSES:
            for column in ("ours", "pdequinox"):
                value = of(row, column, what, "sent")
                cells.append("-" if value is None else number(value / 1e6))
        for column in ("ours", "pdequinox"):
            value = of(row, column, "train", "largest")
            cells.append("-" if value is None else f"{100 * value / field(SIZES):.3g} %")
        body.append(cells)
    return table(head, body)


def setting(_: dict[str, Any]) -> str:
    """Writes sentences on what was compiled."""
    return (
        f"The field has {SAMPLES} samples, {CHANNELS} channels and "
        f"{' x '.join(map(str, POINTS))} points in float32, {field(SIZES) / 1e6:.1f} MB in all, on "
        "8 devices. Two axes are shared as 4 x 2, three as 2 x 2 x 2. Spectral layers keep "
        f"{MODES} modes per axis. The table shows the MB that each device sends, and the largest "
        "single collective of the training step in percent of the whole field.\n"
    )


def explicit(results: dict[str, Any]) -> str:
    """Writes sentences on meshes with explicit axis types."""
    same, other = 0, []
    for row in results["rows"]:
        for what in PASSES:
            auto, own = (of(row, column, what, "sent") for column in ("ours", "explicit"))
            # Sums of a few bytes may go over one axis of the mesh after the other.
            if auto is not None and own is not None and abs(auto - own) <= 256:
                same += 1
            else:
                other.append(f"{row['layer']}, {row['sharding']}, {what}")
    sentence = (
        f"On meshes with explicit axis types, {same} programs of this project send as many bytes "
        "as on automatic ones"
    )
    if other:
        sentence += f", and {len(other)} do not: {'; '.join(other)}"
    theirs = [
        of(row, "pdequinox explicit", what, "sent") is not None
        for row in results["rows"]
        for what in PASSES
    ]
    return f"{sentence}. pdequinox compiles {sum(theirs)} of {len(theirs)} programs there.\n"


def missing(results: dict[str, Any]) -> str:
    """Lists the cases that pdequinox has no program for, by their error message."""
    found: dict[str, list[str]] = {}
    for row in results["rows"]:
        errors = [row.get("pdequinox", {}).get(what, {}).get("error") for what in PASSES]
        for error in dict.fromkeys(filter(None, errors)):
            found.setdefault(error, []).append(f"{row['layer']}, {row['sharding']}")
    lines = [f"- {'; '.join(cases)}: `{error.strip()}`" for error, cases in found.items()]
    return "\n".join(lines) + "\n"


def formulas(results: dict[str, Any]) -> str:
    """Writes the table of formulas, and how far the counts are from them."""
    ratios: dict[tuple[str, str], list[float]] = {}
    for row in results["rows"]:
        layer, sharding = LAYER[row["layer"]], SHARDING[row["sharding"]]
        for what in PASSES:
            counted, expected = of(row, "ours", what, "sent"), sent(layer, sharding, what, SIZES)
            if counted and expected:
                ratios.setdefault(key(layer, sharding), []).append(counted / expected)
    body = []
    for kind, (forward, train) in TERMS.items():
        found = ratios.get(kind, [])
        span = f"{min(found):.3f} to {max(found):.3f}" if found else "-"
        body.append([*kind, f"`{text(forward)}`", f"`{text(train)}`", span])
    return table(["", "shared", "forward", "training step", "counted / formula"], body)


def network(name: str, ways: tuple[int, ...]) -> str:
    """Writes the table of a network on a field of 1024^3 points, for each number of shared axes."""
    steps = cluster.NETWORKS[name]()
    head = ["devices", "block", "kept fields, GB", "weights, GB", "sent, MB"]
    head += [f"{m.title}: {what}" for m in cluster.MACHINES for what in ("device, ms", "network")]
    body = []
    for devices in cluster.COUNTS:
        for axes in ways:
            sharding = cluster.grid(steps, devices, axes)
            if sharding is None:
                body.append([f"{devices} along {axes}", *["-"] * (len(head) - 1)])
                continue
            block = " x ".join(str(cluster.POINTS // count) for count in sharding.space)
            memory = cluster.memory(steps, sharding)
            cells = [sharding.title, block, *(number(size / 1e9) for size in memory)]
            cells.append(number(sum(cluster.sent(steps, sharding).values()) / 1e6))
            for machine in cluster.MACHINES:
                local, remote = cluster.times(steps, machine, sharding)
                full = sum(memory) > machine.memory
                cells.append(f"({number(1e3 * local)})" if full else number(1e3 * local))
                cells.append(
                    f"**{number(1e3 * remote)}**" if remote > local else number(1e3 * remote)
                )
            body.append(cells)
    return table(head, body)


FACTORS = {
    "dense": ("dense", "`2 C^2 (2m)^(D-1) m`"),
    "depthwise": ("depthwise", "`2 C (2m)^(D-1) m`"),
    "axiswise": ("axiswise", "`2 C^2 (2 (D-1) m + m)`"),
    "CP, rank 32": (("cp", 32), "`2 R (2 C + 2 (D-1) m + m)`"),
    "CP, rank 256": (("cp", 256), "the same"),
    "Tucker, ranks 16": (("tucker", 16), "`2 R (2 C + 2 (D-1) m + m) + 2 R^(D+2)`"),
}


def factors(_: dict[str, Any]) -> str:
    """Writes the table of the weights of a network on the large field, of every kind."""
    steps = [step for step in cluster.fourier() if step.layer is cluster.SPECTRAL]
    body = []
    for title, (kind, formula) in FACTORS.items():
        size = sum(weights_of(kind, step.sizes) for step in steps)
        every = 2 * 511 / 512 * size
        body.append([title, formula, *map(number, (size / 1e9, 4 * size / 1e9, every / 1e6))])
    head = ["weights", "numbers of a layer", "FNO, GB", "with gradient and Adam, GB"]
    return table([*head, "`R(W)` of 512 devices, MB"], body)


def binding(_: dict[str, Any]) -> str:
    """Writes the table of where the network takes longer."""
    ways = {1: "slabs", 2: "pencils", 3: "boxes"}
    head = ["", *(f"{m.title}: {way}" for m in cluster.MACHINES for way in ways.values())]
    body = []
    for name, make in cluster.NETWORKS.items():
        cells = [name]
        for machine in cluster.MACHINES:
            for axes in ways:
                least, most = cluster.network_binds(make(), machine, axes)
                cells.append(str(least) if least else f"not up to {most}")
        body.append(cells)
    return table(head, body)


def assumptions(_: dict[str, Any]) -> str:
    """Lists the numbers that describe the networks and the machines."""
    size = cluster.ITEM * cluster.CHANNELS * cluster.POINTS**3 / 1e9
    widths = [str(cluster.CHANNELS * 2**level) for level in range(cluster.LEVELS)]
    points = [f"{cluster.POINTS // 2**level}^3" for level in range(cluster.LEVELS)]
    totals = {
        name: sum(cluster.weights(step.layer, step.sizes) for step in make()) / 1e9
        for name, make in cluster.NETWORKS.items()
    }
    lines = [
        f"- One sample of {cluster.POINTS}^3 points and {cluster.CHANNELS} channels in float32: "
        f"{size:.0f} GB.",
        f"- FNO: {cluster.BLOCKS} blocks of a spectral layer with {cluster.MODES} modes per axis "
        f"and a pointwise layer; {totals['FNO']:.2g} GB of weights.",
        f"- U-Net: {cluster.LEVELS} levels of {', '.join(points)} points and {', '.join(widths)} "
        "channels. Each level has two convolutions with three taps per axis on the way down, and "
        "all but the coarsest two more on the way up. Strided and transposed convolutions connect "
        f"the levels. {totals['U-Net']:.2g} GB of weights.",
        *(f"- {machine.title}: {machine.source}" for machine in cluster.MACHINES),
    ]
    return "\n".join(lines) + "\n"


def latency(_: dict[str, Any]) -> str:
    """Writes sentences on the latency, which the times leave out."""
    steps = cluster.NETWORKS["U-Net"]()
    sharding = cluster.grid(steps, 4096, 3)
    assert sharding is not None
    count = cluster.messages(steps, sharding)
    return (
        f"In a training step of the U-Net in boxes, each device sends {count} messages to its "
        f"neighbours. At {1e6 * LATENCY:.0f} microseconds each, one after the other, that is "
        f"{1e3 * count * LATENCY:.1f} ms.\n"
    )


def gathered(results: dict[str, Any]) -> str:
    """Writes sentences on what pdequinox's spectral layer would gather for the large field."""
    (row,) = (
        row for row in results["rows"]
        if (row["layer"], row["sharding"]) == ("SpectralConv", "one axis")
    )  # fmt: skip
    times = (of(row, "pdequinox", "train", "sent") or 0.0) / field(SIZES)
    whole = cluster.ITEM * cluster.CHANNELS * cluster.POINTS**3
    steps = [step for step in cluster.fourier() if step.layer is cluster.SPECTRAL]
    sharding = cluster.grid(steps, 8, 1)
    assert sharding is not None
    ours = sum(cluster.sent(steps[:1], sharding).values())
    return (
        f"In a training step of one spectral layer of pdequinox 0.1.2, each device sends "
        f"{times:.2g} times the whole field (counted above, one axis). For the field of 1024^3 "
        f"points that is {times * whole / 1e9:.0f} GB, and each device has to hold "
        f"{whole / 1e9:.0f} GB at once, however many devices there are. In a layer of this project "
        f"each device sends {ours / 1e6:.0f} MB.\n"
    )


def scaling(results: dict[str, Any]) -> str:
    """Writes the table of the times on this machine."""
    head = ["", "devices", "same field, s", "relative", "same block, s", "relative per block"]
    found = {
        (entry["block"], entry["kind"], entry["devices"]): entry["median"]
        for entry in results["scaling"]
    }
    body = []
    for block, devices in sorted({(block, devices) for block, _, devices in found}):
        cells = [block, str(devices)]
        for kind, work in (("strong", 1), ("weak", devices)):
            seconds, one = found[block, kind, devices], found[block, kind, 1]
            cells += [f"{seconds:.3g}", f"{seconds / one / work:.2f}"]
        body.append(cells)
    return table(head, body)


def machine(results: dict[str, Any]) -> str:
    """Writes a sentence on the machine and the versions of the run."""
    found = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    return f"Machine: {results['machine']}; {found}.\n"


PARTS = {
    "setting": setting,
    "bytes": bytes_table,
    "explicit axes": explicit,
    "no program": missing,
    "formulas": formulas,
    "assumptions": assumptions,
    "FNO": lambda _: network("FNO", (3,)),
    "U-Net": lambda _: network("U-Net", (1, 2, 3)),
    "factors": factors,
    "binding": binding,
    "latency": latency,
    "gathered": gathered,
    "scaling": scaling,
    "where it ran": machine,
}


def fill(page: str, results: dict[str, Any]) -> str:
    """Fills a page with its generated parts. Each stands between a mark, for example
    `<!-- generated: bytes -->`, and the mark `<!-- end -->`.
    """

    def filled(found: re.Match[str]) -> str:
        return f"{found[1]}{PARTS[found[2]](results)}<!-- end -->"

    pattern = rf"(<!-- generated: ({'|'.join(PARTS)}) -->\n).*?<!-- end -->"
    return re.sub(pattern, filled, page, flags=re.DOTALL)


COLOURS = {"H100": "#1f77b4", "TPU v5p": "#d95f02"}


def plot(results: dict[str, Any], path: Path) -> None:
    """Draws the times of device and network for both networks, and the times on this machine."""
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 3, figsize=(13, 4.2), layout="constrained")
    for panel, (name, make) in zip(panels, cluster.NETWORKS.items(), strict=False):
        steps = make()
        for machine in cluster.MACHINES:
            grids = [(2**k, cluster.grid(steps, 2**k, 3)) for k in range(3, 13)]
            times = [
                (devices, *cluster.times(steps, machine, sharding))
                for devices, sharding in grids
                if sharding is not None
            ]
            devices, local, remote = zip(*times, strict=True)
            style = dict(color=COLOURS[machine.title], marker="o", markersize=3)
            panel.plot(devices, [1e3 * t for t in local], label=f"{machine.title}, device", **style)
            panel.plot(
                devices,
                [1e3 * t for t in remote],
                linestyle="--",
                label=f"{machine.title}, network",
                **style,
            )
        panel.set_xscale("log", base=2)
        panel.set_yscale("log")
        panel.set_xticks(cluster.COUNTS, [str(count) for count in cluster.COUNTS])
        panel.set_xlabel("devices, in boxes")
        panel.set_ylabel("ms per training step")
        panel.set_title(f"{name}, 1024³ points: by the formulas", fontsize=10)
        panel.legend(fontsize=8)
        panel.grid(color="0.92")
        panel.set_axisbelow(True)
    measured(results["scaling"], panels[2])
    figure.savefig(path, dpi=130)
    plt.close(figure)


def measured(entries: Iterable[dict[str, Any]], panel: Any) -> None:
    """Draws the times on this machine, relative to one device and to the work."""
    styles = {"strong": ("-", "same field"), "weak": ("--", "same block")}
    colours = {"two convolutions": "#1b7837", "Fourier block": "#762a83"}
    entries = list(entries)
    for block, colour in colours.items():
        for kind, (line, title) in styles.items():
            chosen = [e for e in entries if (e["block"], e["kind"]) == (block, kind)]
            if not chosen:
                continue
            one = next(e["median"] for e in chosen if e["devices"] == 1)
            devices = [e["devices"] for e in chosen]
            work = [count if kind == "weak" else 1 for count in devices]
            relative = [e["median"] / one / w for e, w in zip(chosen, work, strict=True)]
            panel.plot(devices, relative, line, color=colour, marker="o", label=f"{block}, {title}")
    panel.axhline(1, color="0.4", linewidth=1)
    panel.set_xscale("log", base=2)
    panel.set_xticks([1, 2, 4, 8], ["1", "2", "4", "8"])
    panel.set_ylim(bottom=0)
    panel.set_xlabel("host devices, on the same core")
    panel.set_ylabel("time per work, relative to one device")
    panel.set_title("Simulated on one machine: shape only", fontsize=10)
    panel.legend(fontsize=8)
    panel.grid(color="0.92")
    panel.set_axisbelow(True)


def write(results: dict[str, Any], folder: Path, name: str = "sharding") -> None:
    """Writes the numbers, the figure, and the tables of the page if it is in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(dump(results), encoding="utf-8")
    if find_spec("matplotlib"):
        plot(results, folder / f"{name}.png")
    else:
        print("matplotlib is not installed: no figure", file=sys.stderr)
    path = folder / f"{name}.md"
    if path.exists():
        path.write_text(fill(path.read_text(encoding="utf-8"), results), encoding="utf-8")


if __name__ == "__main__":
    home = Path(sys.argv[1])
    write(json.loads((home / "sharding.json").read_text(encoding="utf-8")), home)
