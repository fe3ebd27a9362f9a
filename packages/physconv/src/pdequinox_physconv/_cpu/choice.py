"""Which form carries out a task on a CPU: decided from integers and the dtype alone."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from .._convolution import Window
from .forms import FORMS, in_turns


class Work(NamedTuple):
    """A task, and what its arrays are: `c` and `o` channels of `x` and `y` to a group."""

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
        """Tells whether groups are so small that a convolution is not what is fast for them."""
        return self.window.groups > 1 and self.c * self.o <= 16

    @property
    def alike(self) -> bool:
        """Tells whether the phases of a plane have the same number of taps, or so many that more
        convolutions cost less than zeros between the points.
        """
        pairs = zip(self.window.taps, self.window.stride, strict=True)
        return self.dims != 2 or all(k % s == 0 or k > 2 * s for k, s in pairs)


class Rule(NamedTuple):
    """A form, the targets that it is for, and when. `rows` are those of the benchmark that it rests
    on; `jaxlib` the versions that it was measured on, if it is about these and not about the
    structure of the work: on others it does not apply.
    """

    form: str
    targets: str
    when: Callable[[Work], bool]
    rows: tuple[str, ...]
    jaxlib: tuple[str, ...] = ()


_ALWAYS = lambda work: True

# The first one that applies, to what its form accepts.
RULES = (
    Rule("matrix", "xyw", _ALWAYS, ()),
    Rule("flipped", "x", _ALWAYS, ()),
    Rule("phases", "x", lambda work: work.few or work.alike, ()),
    Rule("band", "w", lambda work: work.few, ()),
    Rule("taps", "yw", lambda work: work.few, ()),
    Rule("shifted", "yw", lambda work: work.few, ()),
    Rule("split", "xyw", _ALWAYS, ()),
    Rule("planes", "yw", lambda work: work.dims > 2, ()),
    Rule("line", "yw", lambda work: work.dtype == jnp.float64, ()),
    Rule("last", "xyw", _ALWAYS, ()),
)


def choose(target: str, window: Window, channels: tuple[int, int], dtype: jnp.dtype) -> str:
    """Chooses a form, by its name, where `x` and `y` have so many `channels` in all."""
    c, o = (n // window.groups for n in channels)
    work = Work(target, window, c, o, dtype)
    for rule in RULES:
        if target in rule.targets and FORMS[rule.form].accepts(target, window) and rule.when(work):
            return rule.form
    return "reference"


def by_choice(
    a: Array, b: Array, *, target: str, window: Window, members: bool, form: str | None
) -> Array:
    """Carries out a task by the chosen form, or by that of the given name; the members of an
    ensemble one by one.
    """
    one = partial(run, target, window=window, form=form)
    return in_turns(one, a, b) if members else one(a, b)


def run(target: str, a: Array, b: Array, window: Window, form: str | None = None) -> Array:
    """Carries out a task by the form of that name, or by the chosen one."""
    if form is None:
        form = choose(target, window, window.channels(target, a.shape, b.shape), a.dtype)
    if form not in FORMS or not FORMS[form].accepts(target, window):
        able = [name for name in FORMS if FORMS[name].accepts(target, window)]
        raise ValueError(f"`form` must be one of {able} for {target!r} of {window}, got {form!r}.")
    return FORMS[form].run(target, a, b, window, run)
