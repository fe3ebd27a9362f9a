"""Draws what every boundary mode makes of a field beyond its grid, by `pdequinox_padding.pad`.

`python tools/extensions.py FOLDER` writes `extensions.svg` and `extensions_poles.svg` there.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy.interpolate import Akima1DInterpolator

from pdequinox_padding import Boundary, pad


# What stands below the names of a mode.
CAPTIONS: Mapping[str, str] = {
    "periodic": "the field repeats itself",
    "neumann_cell": "no flux; walls half a cell beyond: even",
    "neumann": "no flux; walls on the end nodes: even",
    "dirichlet_cell": "value 0; walls half a cell beyond: odd",
    "dirichlet_node": "value 0; wall nodes not stored: odd",
    "dirichlet": "0 outside of the grid",
    "outflow": "the last value goes on",
    "pole_cell": "no points on the pole; same sign",
    "pole_cell_odd": "no points on the pole; other sign",
    "pole_node": "a row of points on the pole; same sign",
    "pole_node_odd": "a row of points on the pole; other sign",
}

# The panels of both figures, by rows.
ENDS = (
    ("periodic", None),  # The key stands beside it.
    ("neumann_cell", "neumann"),
    ("dirichlet_cell", "dirichlet_node"),
    ("dirichlet", "outflow"),
)
ABOVE = ("a scalar", "a wind over\nthe pole, and\nits component\nto the north")
POLES = (("pole_cell", "pole_cell_odd"), ("pole_node", "pole_node_odd"))

FIELD = np.array([0.36, 0.78, 1.0, 1.0, 0.84, 0.63, 0.46, 0.36], np.float32)
BEYOND = 4  # points that are added at every end

MERIDIANS, ROWS, ROWS_BEYOND = 8, 4, 3
PAIR = {"A": 1, "B": 5}  # opposite meridians
LONGITUDE = 2 * np.pi * np.arange(MERIDIANS) / MERIDIANS

TILES = dict(cmap="PRGn_r", vmin=-1.5, vmax=1.5, edgecolors="white", lw=1, clip_on=False)
BLUE, ORANGE, INK, OUTSIDE = "#1f5a96", "#c8500a", "#222222", "#efeeea"
STORED = dict(ls="none", marker="o", ms=6.5, color=BLUE, zorder=4, clip_on=False)
ADDED = STORED | dict(color=ORANGE, mfc="white", mew=1.6)


def end_of(mode: str) -> Any:
    """Finds the end that a mode stands for, beside a periodic axis, which a pole asks for."""
    return Boundary.parse([mode, "periodic"], 2).axes[0][0]


def names_of(mode: str) -> list[str]:
    """Lists the names of a mode, the one that says more first."""
    return [*end_of(mode).aliases, mode]


def points(mode: str, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Extends the field at both ends: the places, counted in points, and the values there."""
    return np.arange(-width, FIELD.size + width), np.asarray(pad(FIELD, [width], mode))


def walls(mode: str) -> tuple[float, float] | None:
    """Finds where the walls stand, if there are any."""
    mirror = end_of(mode).mirror
    return None if mirror is None else (-mirror / 2, FIELD.size - 1 + mirror / 2)


def curve(mode: str, places: np.ndarray) -> np.ndarray:
    """Evaluates a smooth curve through the extension. It is as even or odd as the points: at any
    place it depends on the six around it.
    """
    return Akima1DInterpolator(*points(mode, BEYOND + 3), method="makima")(places)


def sources(mode: str) -> list[str]:
    """Says for every point of the extension which point of the field it is, and with which sign."""
    numbers = np.arange(1, FIELD.size + 1)
    found = np.asarray(pad(numbers, [BEYOND], mode))
    return ["" if n == 0 else f"{'−' if n < 0 else ''}{abs(n) - 1}" for n in found.tolist()]


def head(axes: Any, mode: str, height: float) -> None:
    """Writes the names and the caption of a mode above its panel, and labels what is drawn."""
    axes.set_gid(mode)
    first, *others = (f'"{name}"' for name in names_of(mode))
    place = dict(textcoords="offset points", va="baseline")
    name = axes.annotate(
        first, (0, 1), (0, height + 14), xycoords="axes fraction", fontsize=11, weight="bold",
        color=INK, **place,
    )  # fmt: skip
    if others:
        axes.annotate(
            f", also {', '.join(others)}", (1, 0), (0, 0), xycoords=name, fontsize=9.5,
            color=INK, textcoords="offset points", va="bottom",
        )  # fmt: skip
    axes.annotate(
        CAPTIONS[mode], (0, 1), (0, height), xycoords="axes fraction", fontsize=9.5, color=INK,
        **place,
    )  # fmt: skip


def draw_end(axes: Any, mode: str) -> None:
    """Draws the field and its extension by one mode."""
    places, values = points(mode, BEYOND)
    left, right = places[0] - 0.8, places[-1] + 0.8
    low, high = walls(mode) or (-0.5, FIELD.size - 0.5)
    for start, stop in ((left, low), (high, right)):
        axes.axvspan(start, stop, color=OUTSIDE, lw=0)
        fine = np.linspace(start, stop, 81)
        axes.plot(fine, curve(mode, fine), lw=1.6, color=ORANGE, dashes=(3, 1.5), zorder=3)
    fine = np.linspace(low, high, 161)
    axes.plot(fine, curve(mode, fine), lw=1.6, color=BLUE, zorder=3)
    axes.axhline(0, color="0.6", lw=0.8, zorder=1)
    for wall in walls(mode) or ():
        axes.axvline(wall, color=INK, lw=1.8, zorder=2)
    stored = (places >= 0) & (places < FIELD.size)
    axes.plot(places[stored], values[stored], **STORED)
    axes.plot(places[~stored], values[~stored], **ADDED)
    for place, value, text, is_stored in zip(places, values, sources(mode), stored, strict=True):
        # Off the line of a wall, to the inside, and off the curve below 0, to the outside.
        aside = {low: 6, high: -6}.get(place, 0 if value >= 0 else -5 if place < low else 5)
        axes.annotate(
            text, (place, value), (aside, 6), textcoords="offset points", ha="center", va="bottom",
            fontsize=7.5, color=BLUE if is_stored else ORANGE,
        )  # fmt: skip
    axes.set_xlim(left, right)
    head(axes, mode, 4)


def draw_key(axes: Any) -> None:
    """Explains what is drawn in the panels."""
    axes.set(xlim=(0, 1), ylim=(0, 1))
    lines = (
        (STORED, "the field, 8 points, numbered"),
        (ADDED, "what is added, and from which point"),
        (dict(color=INK, lw=1.8), "a wall"),
        (dict(color=ORANGE, lw=1.6, dashes=(3, 1.5)), "how the field then goes on"),
    )
    for height, (style, text) in zip((0.98, 0.72, 0.46, 0.2), lines, strict=True):
        if "marker" in style:
            axes.plot(0.05, height, **style)
        elif text == "a wall":
            axes.plot((0.05, 0.05), (height - 0.09, height + 0.09), clip_on=False, **style)
        else:
            axes.plot((0.02, 0.08), (height, height), clip_on=False, **style)
        axes.text(0.12, height, text, va="center", fontsize=9.5, color=INK)


def draw_ends() -> Any:
    """Makes the figure of all modes but those of poles."""
    import matplotlib.pyplot as plt

    limits = [(-1.3, 1.3) if end_of(row[0]).sign < 0 else (-0.25, 1.3) for row in ENDS]
    figure, panels = plt.subplots(
        len(ENDS), 2, figsize=(7.2, 8), height_ratios=[high - low for low, high in limits]
    )
    for row, modes, limit in zip(panels, ENDS, limits, strict=True):
        for axes, mode in zip(row, modes, strict=True):
            axes.axis("off")
            draw_end(axes, mode) if mode else draw_key(axes)
            if mode:
                axes.set_ylim(limit)
    figure.subplots_adjust(left=0.005, right=0.995, top=0.945, bottom=0.01, wspace=0.06, hspace=0.4)
    return figure


def scalar(colatitude: np.ndarray, longitude: np.ndarray) -> np.ndarray:
    """Evaluates a bell beside the pole."""
    angle = longitude - LONGITUDE[PAIR["B"]]
    x, y = colatitude * np.cos(angle), colatitude * np.sin(angle)
    return np.exp(-((x - 1.6) ** 2 + (y - 0.7) ** 2) / 4)


def northward(colatitude: np.ndarray, longitude: np.ndarray) -> np.ndarray:
    """Evaluates the component to the north of a wind that blows over the pole from B to A."""
    angle = longitude - LONGITUDE[PAIR["B"]]
    return np.cos(angle) * np.exp(-((colatitude / 4) ** 2))


def around_pole(mode: str) -> tuple[np.ndarray, np.ndarray]:
    """Extends the rows next to the pole: their colatitudes in steps, negative beyond the pole, and
    the values, by meridian.
    """
    end = end_of(mode)
    rows = np.arange(ROWS) + end.mirror / 2
    field = scalar if end.sign > 0 else northward
    values = field(rows[:, None], LONGITUDE).astype(np.float32)
    result = pad(values, [(ROWS_BEYOND, 0), 0], [(mode, "outflow"), "periodic"])
    return np.arange(-ROWS_BEYOND, ROWS) + rows[0], np.asarray(result)


def draw_pole(axes: Any, mode: str) -> None:
    """Draws the rows next to a pole, which is the line, and above it what is added."""
    rows, values = around_pole(mode)
    bottom, top = -rows[-1] - 0.5, -rows[0] + 0.5
    axes.pcolormesh(np.arange(MERIDIANS), -rows, values, shading="nearest", **TILES)
    axes.plot((-0.5, MERIDIANS - 0.5), (0, 0), color=INK, lw=1.8, zorder=3)
    for meridian in range(MERIDIANS):
        axes.plot([meridian] * ROWS, -rows[ROWS_BEYOND:], **STORED | dict(ms=5))
        axes.plot([meridian] * ROWS_BEYOND, -rows[:ROWS_BEYOND], **ADDED | dict(ms=5))
    sign = "−" if end_of(mode).sign < 0 else ""
    words = dict(ha="center", weight="bold", fontsize=10.5)
    for name, opposite in zip("AB", "BA", strict=True):
        axes.text(PAIR[name], bottom - 0.2, name, va="top", color=BLUE, **words)
        axes.text(PAIR[name], top + 0.15, sign + opposite, va="bottom", color=ORANGE, **words)
    aside = dict(ha="center", va="center", fontsize=9.5)
    axes.text(-0.9, 0, "pole", color=INK, **aside)
    axes.text(-0.9, -rows[ROWS_BEYOND:].mean(), "stored", color=BLUE, rotation=90, **aside)
    axes.text(-0.9, top / 2, "added", color=ORANGE, rotation=90, **aside)
    axes.set(xlim=(-1.25, MERIDIANS - 0.5), ylim=(bottom, top))
    head(axes, mode, 20)


def draw_from_above(axes: Any, mode: str) -> None:
    """Draws the field that a mode extends as it is seen from above the pole."""
    rows = np.arange(ROWS) + 0.5
    odd = end_of(mode).sign < 0
    values = (northward if odd else scalar)(rows[:, None], LONGITUDE)
    axes.pcolormesh(
        2 * np.pi * (np.arange(MERIDIANS + 1) - 0.5) / MERIDIANS, np.arange(ROWS + 1), values,
        shading="flat", **TILES,
    )  # fmt: skip
    for name, meridian in PAIR.items():
        angle = LONGITUDE[meridian]
        axes.plot([angle] * 2, (0, ROWS), color=INK, lw=1.2)
        axes.text(
            angle, ROWS + 0.6, name, ha="center", va="center", color=BLUE, weight="bold",
            fontsize=10.5,
        )  # fmt: skip
    axes.plot(0, 0, marker="o", ms=6, color=INK, zorder=5)
    if odd:
        angle, row = (each.ravel() for each in np.meshgrid(LONGITUDE, rows[1::2]))
        speed, ahead = np.exp(-((row / 4) ** 2)), LONGITUDE[PAIR["A"]]
        axes.quiver(
            angle, row, speed * np.cos(ahead), speed * np.sin(ahead), pivot="mid", color=BLUE,
            scale=5.5, width=0.013, headwidth=4, headlength=4, headaxislength=3.6, zorder=4,
        )  # fmt: skip
    else:
        for angle in LONGITUDE:
            axes.plot([angle] * ROWS, rows, **STORED | dict(ms=4))


def draw_poles() -> Any:
    """Makes the figure of the modes of poles."""
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(7.2, 8.2))
    grid = figure.add_gridspec(
        3, 2, left=0.005, right=0.995, top=0.985, bottom=0.03, wspace=0.06, hspace=0.5,
        height_ratios=[1.05, 1, 1],
    )  # fmt: skip
    for column, mode in enumerate(POLES[0]):
        axes = figure.add_subplot(grid[0, column], projection="polar")
        axes.axis("off")
        draw_from_above(axes, mode)
        box = grid[0, column].get_position(figure)
        figure.text(box.x0, box.y1, ABOVE[column], va="top", fontsize=9.5, color=INK)
    for row, modes in enumerate(POLES, 1):
        for column, mode in enumerate(modes):
            axes = figure.add_subplot(grid[row, column])
            axes.axis("off")
            draw_pole(axes, mode)
    return figure


FIGURES = {"extensions": draw_ends, "extensions_poles": draw_poles}


def main() -> None:
    """Is the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the pictures are written")
    folder = parser.parse_args().folder
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "extensions"  # Otherwise ids are random.
    for name, draw in FIGURES.items():
        draw().savefig(
            folder / f"{name}.svg", facecolor="white", metadata={"Date": None, "Creator": None}
        )


if __name__ == "__main__":
    main()
