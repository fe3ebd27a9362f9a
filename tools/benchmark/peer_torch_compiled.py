"""Runs PyTorch's layers with `torch.compile`, which needs a C++ compiler on a CPU."""

import shutil
from typing import Any

import peer_torch
import torch
from rows import Task, UnsupportedError


def prepare(task: Task) -> Any:
    """Prepares a task, as `worker.serve` describes."""
    if not any(map(shutil.which, ("g++", "c++", "clang++"))):
        raise UnsupportedError("no C++ compiler")
    # Each row is compiled by itself: a program for many shapes is slower.
    torch._dynamo.reset()
    return peer_torch.prepare(task, compile=lambda f: torch.compile(f, dynamic=False))
