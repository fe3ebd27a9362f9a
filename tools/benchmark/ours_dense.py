"""Makes layers of this project with dense weights in place of factors."""

from dataclasses import replace
from typing import Any

import ours
from rows import Task, UnsupportedError


def prepare(task: Task) -> Any:
    """Prepares a task, as `worker.serve` describes."""
    if task.row.weights == "dense":
        raise UnsupportedError("dense as it is")
    return ours.prepare(replace(task, row=replace(task.row, weights="dense")))
