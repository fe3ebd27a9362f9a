"""Which form carries out a task on a CPU: decided from integers and the dtype alone."""

from functools import partial
from math import prod

import jax
import jax.numpy as jnp
from jaxtyping import Array

from .._convolution import Window
from .forms import FORMS, piece, sample_bytes


# So many members of an ensemble are written out. More would compile for too long: they take turns.
_MEMBERS = 16


def choose(
    target: str,
    window: Window,
    samples: int,
    channels: tuple[int, int],
    dtype: jnp.dtype,
) -> str:
    """Chooses a form, by its name, where `x` and `y` have so many `channels` in all. The thresholds
    rest on the rows of docs/convolutions.md.
    """
    accepted = lambda name: FORMS[name].accepts(target, window)
    dims, groups = len(window.axes), window.groups
    c, o = channels[0] // groups, channels[1] // groups
    reduced = {"y": c, "x": o, "w": c * o}[target]
    terms = prod(window.taps) * reduced
    work = samples * groups * c * o * prod(window.taps) * prod(window.out)
    each = sample_bytes(window, channels, dtype)

    if accepted("matrix"):
        return "matrix"
    if groups > 1 and max(c, o) <= 4 and terms <= 128:
        if target != "x":
            return "shifted"
        if accepted("flipped"):
            return "flipped"
    if groups > 1:
        return "split" if groups <= 32 else "reference"
    big = dims == 2 and samples * each > 4e6 and piece(samples, each) < samples
    plain = "last" if accepted("last") else "reference"
    if target == "x":
        # More outputs than inputs, and so Eigen's as it is.
        grows = dims == 2 and any(n > m for n, m in zip(window.size, window.out, strict=True))
        if accepted("flipped"):
            return plain if grows and dtype != jnp.float64 and not big else "flipped"
        # How many taps there are with those that the phases add as zeros, to those that there are.
        padded = prod(-(-k // s) * s / k for k, s in zip(window.taps, window.stride, strict=True))
        if accepted("phases") and (padded < 1.5 or dims != 2 or dtype == jnp.float64):
            return "phases"
        return plain
    if dims >= 3:
        return "planes"
    if dtype == jnp.float64:
        return "line" if dims == 1 else "pieces" if big else "nudged"
    if dims == 2 and max(c, o) > 16:
        if target == "y" and o <= 8:
            return "nudged"
        if work > 3e7 and min(window.out) >= 12:
            name = "wide" if target == "y" else "rows"
            if accepted(name) and (target == "y" or o > 16):
                return "pieces" if big else name
    return plain


def by_choice(
    a: Array, b: Array, *, target: str, window: Window, members: bool, form: str | None
) -> Array:
    """Carries out a task by the chosen form, or by that of the given name; the members of an
    ensemble one by one.
    """
    one = partial(run, target, window=window, form=form)
    if not members:
        return one(a, b)
    if a.shape[0] > _MEMBERS:
        return jax.lax.map(lambda pair: one(*pair), (a, b))
    return jnp.stack([one(a[i], b[i]) for i in range(a.shape[0])])


def run(target: str, a: Array, b: Array, window: Window, form: str | None = None) -> Array:
    """Carries out a task by the form of that name, or by the chosen one."""
    if form is None:
        channels = window.channels(target, a.shape, b.shape)
        form = choose(target, window, a.shape[0], channels, a.dtype)
    if form not in FORMS or not FORMS[form].accepts(target, window):
        able = [name for name in FORMS if FORMS[name].accepts(target, window)]
        raise ValueError(f"`form` must be one of {able} for {target!r} of {window}, got {form!r}.")
    return FORMS[form].run(target, a, b, window, run)
