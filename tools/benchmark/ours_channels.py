"""Makes layers of this project with boundary modes of several kinds on the same layer."""

from typing import Any

import equinox as eqx
from rows import Row, Task, UnsupportedError
from with_jax import prepare as prepare_with_jax

from pdequinox_padding import BoundaryMode, per_channel
from pdequinox_physconv import PhysicsConv, PhysicsConvTranspose


CELLS, ODD, NODES = "neumann_cell", "dirichlet_cell", "neumann_node"


def mode_of(row: Row, kind: str) -> BoundaryMode:
    """Gives the boundary mode of a kind: one for all channels; two that differ in their signs; two
    whose sources are in different places; on a sphere, one for all channels as at walls, or one for
    scalars and one for vectors over the poles.
    """
    half = row.channels[0] // 2
    if kind in ("globe", "poles"):
        if row.dims != 2:
            raise UnsupportedError("a sphere has two axes")
        around = "periodic"
        if kind == "globe":
            return [CELLS, around]
        return per_channel((half, ["pole_cell", around]), (half, ["pole_cell_odd", around]))
    halves = {"signs": ODD, "places": NODES}
    return per_channel((half, CELLS), (half, halves[kind])) if kind in halves else CELLS


def prepare(task: Task, kind: str) -> Any:
    """Prepares a task, as `worker.serve` describes."""
    mode = mode_of(task.row, kind)

    def make(row: Row, key: Any) -> eqx.Module:
        kinds = {layer.__name__: layer for layer in (PhysicsConv, PhysicsConvTranspose)}
        more = {"output_padding": row.stride - 1} if "Transpose" in row.layer else {}
        return kinds[row.layer](
            row.dims,
            *row.channels,
            row.kernel,
            row.stride,
            groups=row.groups,
            boundary_mode=mode,
            key=key,
            **more,
        )

    return prepare_with_jax(task, make)
