"""Tests the tables of docs/data_sets.md: every data set has its row, and its layers run."""

import dataclasses
import functools
import re
from pathlib import Path

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from pdequinox_padding import Boundary, free_slip, per_channel
from pdequinox_physconv import dilate_mask, PhysicsConv
from pdequinox_spectralconv import SpectralConv


PAGE = Path(__file__).resolve().parents[1] / "docs" / "data_sets.md"

# The data sets themselves, from the folders `datasets/` of The Well, the download script of
# PDEBench, `pdearena/data/registry.py` and the scenario dictionaries of APEBench.
DATA_SETS = {
    "The Well": """
        acoustic_scattering_discontinuous acoustic_scattering_inclusions acoustic_scattering_maze
        active_matter convective_envelope_rsg euler_multi_quadrants_openBC
        euler_multi_quadrants_periodicBC gray_scott_reaction_diffusion helmholtz_staircase MHD_64
        MHD_256 planetswe post_neutron_star_merger rayleigh_benard rayleigh_benard_uniform
        rayleigh_taylor_instability shear_flow supernova_explosion_64 supernova_explosion_128
        turbulence_gravity_cooling turbulent_radiative_layer_2D turbulent_radiative_layer_3D
        viscoelastic_instability
    """,
    "PDEBench": """
        advection burgers 1d_cfd diff_sorp 1d_reacdiff 2d_reacdiff 2d_cfd 3d_cfd darcy ns_incom swe
    """,
    "PDEArena": """
        NavierStokes2D Cond-NavierStokes2D ShallowWater2DVel-1Day ShallowWater2DVel-2Day
        ShallowWater2DVort-1Day ShallowWater2DVort-2Day Maxwell3D KuramotoSivashinsky1D
    """,
    "APEBench": """
        norm_lin norm_adv norm_diff norm_adv_diff norm_disp norm_fisher norm_four norm_hypdiff
        norm_nonlin norm_conv norm_burgers norm_kdv norm_ks_cons norm_ks norm_burgers_sc
        norm_lin_simple
        phy_poisson phy_sh phy_gs phy_gs_type phy_decay_turb phy_kolm_flow phy_lin phy_lin_simple
        phy_adv phy_diff phy_adv_diff phy_disp phy_hyp_diff phy_four phy_nonlin phy_burgers_sc
        phy_kdv phy_ks phy_conv phy_burgers phy_ks_cons phy_poly phy_fisher phy_unbal_adv
        phy_diag_diff phy_aniso_diff phy_mix_disp phy_mix_hyp
        diff_lin diff_lin_simple diff_adv diff_diff diff_adv_diff diff_disp diff_hyp_diff diff_four
        diff_conv diff_burgers diff_kdv diff_ks_cons diff_ks diff_nonlin diff_burgers_sc diff_fisher
    """,
}

# Even, as the longitudes of a grid with poles must be, and different.
SIZES = (6, 8, 10)

HEADER = (
    "| data set | `boundary_mode` | D | channels | SpectralConv | grid "
    "| source, and what it leaves open |"
)


@dataclasses.dataclass(frozen=True)
class Row:
    collection: str
    names: tuple[str, ...]
    num_spatial_dims: int
    num_channels: int
    mode: str
    spectral: str
    masked: bool

    def __str__(self):
        return f"{self.names[0]}-{self.num_spatial_dims}"


def code(cell):
    """Finds the one expression in backticks that a cell consists of."""
    found = re.fullmatch(r"`([^`]+)`", cell)
    assert found, f"not one expression in backticks: {cell}"
    return found[1]


def rows():
    """Reads the tables. A row for several numbers of axes becomes several rows."""
    for section in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        title, *lines = section.splitlines()
        if HEADER not in lines:
            continue
        for line in lines[lines.index(HEADER) + 2 :]:
            if not line.startswith("|"):
                break
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            names, mode, dims, channels, spectral, grid, source = cells
            assert grid, line
            assert source, line
            mode = code(mode)
            other = {"same": mode, "none": ""}
            spectral = other[spectral] if spectral in other else code(spectral)
            for num_spatial_dims in re.findall(r"(\d)-D", dims):
                yield Row(
                    title,
                    tuple(re.findall(r"`([^`]+)`", names)),
                    int(num_spatial_dims),
                    len(channels.split(", ")),
                    mode,
                    spectral,
                    "`mask=" in source,
                )


ROWS = tuple(rows())
of_rows = pytest.mark.parametrize("row", ROWS, ids=str)


def mode_of(expression):
    names = {"per_channel": per_channel, "free_slip": free_slip}
    return eval(expression, {"__builtins__": {}}, names)


def field(dims, channels):
    return jr.normal(jr.key(dims), (channels, *SIZES[:dims]))


def check(y, shape):
    assert y.shape == shape
    assert jnp.all(jnp.isfinite(y))


# Rows of the same layer share its program.
@functools.cache
def convolution(dims, channels, expression):
    layer = PhysicsConv(dims, channels, 3, 3, boundary_mode=mode_of(expression), key=jr.key(1))
    return layer, eqx.filter_jit(layer)(field(dims, channels))


@functools.cache
def spectral(dims, channels, expression):
    mode = mode_of(expression)
    boundary = Boundary.parse(mode, dims)
    out = None
    if boundary.channels:
        out = ["periodic" if low.wraps else "neumann_cell" for low, _ in boundary.axes]
    layer = SpectralConv(
        dims, channels, 3, 2, boundary_mode=mode, out_boundary_mode=out, key=jr.key(1)
    )
    return eqx.filter_jit(layer)(field(dims, channels))


@pytest.mark.parametrize("collection", DATA_SETS)
def test_every_data_set_has_a_row(collection):
    found = {name for row in ROWS if row.collection == collection for name in row.names}
    assert found == set(DATA_SETS[collection].split())


def test_the_numbers_of_data_sets_are_those_of_the_collections():
    numbers = {name: len(sets.split()) for name, sets in DATA_SETS.items()}
    assert numbers == {"The Well": 23, "PDEBench": 11, "PDEArena": 8, "APEBench": 60}


@of_rows
def test_convolution(row):
    dims, channels = row.num_spatial_dims, row.num_channels
    _, y = convolution(dims, channels, row.mode)
    check(y, (3, *SIZES[:dims]))


@of_rows
def test_spectral_convolution(row):
    dims, channels = row.num_spatial_dims, row.num_channels
    poles = Boundary.parse(mode_of(row.mode), dims).has_poles
    assert poles == (not row.spectral), "the sphere, and it only, has no basis"
    if poles:
        with pytest.raises(ValueError, match="poles"):
            spectral(dims, channels, row.mode)
        return
    check(spectral(dims, channels, row.spectral), (3, *SIZES[:dims]))
    if row.spectral != row.mode:
        # The page says why it has an expression of its own.
        with pytest.raises(ValueError, match="wavenumber"):
            spectral(dims, channels, row.mode)


@pytest.mark.parametrize("row", [row for row in ROWS if row.masked], ids=str)
def test_masked_convolution(row):
    dims, channels = row.num_spatial_dims, row.num_channels
    layer, _ = convolution(dims, channels, row.mode)
    mask = np.ones(SIZES[:dims], bool)
    mask[1:3, 2:7] = False
    x = jnp.where(mask[None], field(dims, channels), jnp.nan)
    check(eqx.filter_jit(layer)(x, mask=mask), (3, *SIZES[:dims]))
    assert dilate_mask(mask, layer).shape[-dims:] == mask.shape


def test_mazes_have_a_mask():
    masked = {name for row in ROWS if row.masked for name in row.names}
    assert masked == {"acoustic_scattering_maze", "helmholtz_staircase"}
