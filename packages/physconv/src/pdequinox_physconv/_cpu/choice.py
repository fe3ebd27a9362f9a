"""Decides which form carries out a task on a CPU, only from integers and the dtype."""

from collections.abc import Callable
from functools import partial
from math import prod
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from pdequinox_operators import jaxlib_version

from .._convolution import Window
from .forms import FORMS, in_turns, PRODUCTS


class Work(NamedTuple):
    """Describes a task and its arrays: each group has `c` channels of `x` and `o` of `y`."""

    target: str
    window: Window
    c: int
    o: int
    dtype: jnp.dtype

    @property
    def dims(self) -> int:
        """Counts the axes of space."""
        return len(self.window.axes)

    @property
    def few(self) -> bool:
        """Tells whether groups have so few channels that sums of shifted fields are faster than a
        convolution of each. The kernel allows fewer, because every pair of channels is a sum.
        """
        return self.window.groups > 1 and self.c * self.o <= (2 if self.target == "w" else 16)

    @property
    def many(self) -> bool:
        """Tells whether too many products of shifted fields would be written out at once."""
        of_tap = self.c if self.target == "y" else self.c * self.o
        return of_tap * prod(self.window.taps) > PRODUCTS[self.target]

    @property
    def sparse(self) -> bool:
        """Tells whether a convolution with zeros between points costs more than phases, whose
        points are interleaved at the end: its kernel has many taps, most of which see zeros.
        """
        return self.dims > 2 or prod(self.window.taps) >= 64


class Rule(NamedTuple):
    """Says when to use a form: for which targets, and under which condition. Names the rows of the
    benchmark on which it rests, and the versions of jaxlib on which it was measured. A rule that
    does not follow from the structure of the work applies only to these versions.
    """

    form: str
    targets: str
    when: Callable[[Work], bool]
    rows: tuple[str, ...]
    measured: tuple[str, ...]
    structural: bool = True


_ALWAYS = lambda work: True

# The members of an ensemble that are written out at once. Twice as many run up to a sixth faster,
# but compile 4 times as long as one member; these, less than 3 times (jaxlib 0.10.2 and 0.12.0.1).
_MEMBERS = 4

# `hatch run benchmark:choice` measures every rule against the reference, in context.
_BOTH = ("0.10.2", "0.12.0.1")

_CONV = lambda *names: tuple(f"PhysicsConv: {name}" for name in names)
_UP = lambda *names: tuple(f"PhysicsConvTranspose: {name}" for name in names)
_SCANS = lambda *names: tuple(f"scans: PhysicsConv, {name}, 4 times in a scan" for name in names)

# The first rule that applies is used, if its form accepts the task.
RULES: tuple[Rule, ...] = (
    Rule("matrix", "xyw", _ALWAYS, _CONV("2-D 64^2, 32, k=1, batch 8"), _BOTH),
    Rule(
        "flipped",
        "x",
        _ALWAYS,
        _CONV("2-D 64^2, 32, k=7, batch 8, depthwise", "3-D 32^3, 16, k=3, batch 2"),
        _BOTH,
    ),
    Rule(
        "phases",
        "x",
        lambda work: work.few or work.sparse,
        _UP(
            "1-D 64, 32, k=129, batch 16, stride 64",
            "2-D 16^2, 32, k=8, batch 8, stride 4",
            "2-D 32^2, 32, k=3, batch 8, stride 2, depthwise",
            "3-D 16^3, 16, k=3, batch 2, stride 2",
        ),
        _BOTH,
    ),
    Rule(
        "band",
        "w",
        lambda work: work.few,
        _CONV("1-D 1024, 32, k=5, batch 16, depthwise", "1-D 16384, 32, k=31, batch 1, depthwise"),
        _BOTH,
    ),
    Rule(
        "taps",
        "yw",
        lambda work: work.few and work.many,
        _CONV("1-D 16384, 32, k=129, batch 1, depthwise", "2-D 64^2, 32, k=7, batch 8, depthwise"),
        _BOTH,
    ),
    Rule(
        "shifted",
        "yw",
        lambda work: work.few,
        _CONV(
            "1-D 1024, 32, k=5, batch 16, depthwise",
            "2-D 64^2, 32, k=3, batch 8, depthwise",
            "2-D 64^2, 32, k=3, batch 8, groups 8",
            "3-D 32^3, 16, k=3, batch 2, depthwise",
        ),
        _BOTH,
    ),
    Rule(
        "split",
        "xyw",
        _ALWAYS,
        _CONV(
            "1-D 1024, 32, k=3, batch 16, groups 2",
            "2-D 64^2, 32, k=3, batch 8, groups 8",
            "2-D 24^2, 128, k=3, batch 2, groups 16",
            "2-D 24^2, 264, k=3, batch 2, groups 33",
        ),
        _BOTH,
    ),
    Rule(
        "planes",
        "yw",
        lambda work: work.dims > 2,
        _CONV(
            "3-D 32^3, 16, k=3, batch 2",
            "3-D 32^3, 16, k=3, batch 2, stride 2",
            "3-D 8^3, 64, k=3, batch 2",
        ),
        _BOTH,
    ),
    Rule(
        "line",
        "yw",
        lambda work: work.dtype == jnp.float64,
        _CONV("1-D 1024, 32, k=3, batch 4, float64"),
        _BOTH,
        structural=False,
    ),
    Rule(
        "last",
        "xyw",
        _ALWAYS,
        _SCANS("1-D 160, 32, k=3, batch 16", "2-D 64^2, 16, k=3, batch 8")
        + _CONV("2-D 64^2, 32, k=3, batch 8, dirichlet"),
        _BOTH,
    ),
)


def choose(target: str, window: Window, channels: tuple[int, int], dtype: jnp.dtype) -> str:
    """Chooses a form, by its name; `channels` counts all channels of `x` and of `y`."""
    c, o = (n // window.groups for n in channels)
    work = Work(target, window, c, o, dtype)
    for rule in RULES:
        known = rule.structural or jaxlib_version() in rule.measured
        able = target in rule.targets and FORMS[rule.form].accepts(target, window)
        if known and able and rule.when(work):
            return rule.form
    return "reference"


def by_choice(
    a: Array, b: Array, *, target: str, window: Window, members: bool, form: str | None
) -> Array:
    """Carries out a task by the form with the given name, or by the chosen one. Members of an
    ensemble are carried out one by one.
    """
    one = partial(run, target, window=window, form=form)
    return in_turns(one, a, b, most=_MEMBERS) if members else one(a, b)


def run(target: str, a: Array, b: Array, window: Window, form: str | None = None) -> Array:
    """Carries out a task by the form with that name, or by the chosen one."""
    if form is None:
        form = choose(target, window, window.channels(target, a.shape, b.shape), a.dtype)
    if form not in FORMS or not FORMS[form].accepts(target, window):
        able = [name for name in FORMS if FORMS[name].accepts(target, window)]
        raise ValueError(f"`form` must be one of {able} for {target!r} of {window}, got {form!r}.")
    return FORMS[form].run(target, a, b, window, run)
