"""The pictures of the extensions, `docs/extensions*.svg`, show every boundary mode as it is."""

import re
from pathlib import Path

import numpy as np
import pytest

from pdequinox_padding._boundary import BOUNDARY_MODES, KINDS, POLE_MODES


ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def extensions(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tools")
    import extensions

    return extensions


def test_every_mode_has_a_panel_and_a_caption(extensions):
    drawn = [mode for row in (*extensions.ENDS, *extensions.POLES) for mode in row if mode]
    assert sorted(drawn) == sorted(extensions.CAPTIONS) == sorted(KINDS)
    for mode in BOUNDARY_MODES:
        assert sorted(extensions.names_of(mode)) == sorted((mode, *KINDS[mode].aliases))


@pytest.mark.parametrize(
    ("name", "modes"), [("extensions", BOUNDARY_MODES), ("extensions_poles", POLE_MODES)]
)
def test_the_stored_pictures_have_a_panel_for_every_mode(name, modes):
    path = ROOT / "docs" / f"{name}.svg"
    panels = re.findall(r'<g id="([a-z_]+)">', path.read_text(encoding="utf-8"))
    assert {*modes} == {*panels} & {*KINDS}, "`hatch run docs:pictures` draws them again"
    assert path.stat().st_size < 150_000


@pytest.mark.parametrize("mode", [m for m in BOUNDARY_MODES if KINDS[m].mirror is not None])
def test_curves_are_even_or_odd_about_the_walls_that_are_drawn(extensions, mode):
    sign = -1 if mode.startswith("dirichlet") else 1
    away = np.linspace(0, 2, 9)
    for wall in extensions.walls(mode):
        lower, upper = (extensions.curve(mode, wall + s * away) for s in (-1, 1))
        # Cubic polynomials of single-precision values below 2.
        np.testing.assert_allclose(lower, sign * upper, atol=64 * np.finfo("float32").eps)
        assert np.ptp(upper) > 0.1


@pytest.mark.parametrize("mode", POLE_MODES)
def test_fields_go_on_over_the_pole_as_they_are_drawn(extensions, mode):
    """Beyond the pole, the formula of the field is evaluated at a negative colatitude."""
    rows, values = extensions.around_pole(mode)
    assert min(rows) == (-3 if "node" in mode else -2.5) and ("node" in mode) == (0 in rows)
    field = extensions.northward if mode.endswith("odd") else extensions.scalar
    expected = field(rows[:, None], extensions.LONGITUDE)
    np.testing.assert_allclose(values, expected, atol=4 * np.finfo("float32").eps)
