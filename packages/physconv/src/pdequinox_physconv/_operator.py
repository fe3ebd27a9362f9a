"""Makes an operator of the three derivatives of the trilinear form. Its derivatives and batches are
again the same operator.

It is an operator so that a task's form can be chosen when it is lowered. By then `jax.vmap` and
differentiation have turned a layer into what will run, and the platform is known. So each of the
three convolutions of a training step gets the form that suits it, at any order of differentiation,
in forward and in reverse mode.
"""

from functools import partial
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from pdequinox_operators import on_auto_axes, Operator, Shape, Sharding, Split

from ._convolution import Extended, extended_task, flip, OPERANDS, plain, reference, Task, Window
from ._cpu.choice import by_choice
from ._sharding import factors, split_task


def convolve(
    x: Float[Array, "in_channels *spatial"],
    w: Float[Array, "out_channels in_channels_per_group *kernel"],
    window: Window,
    extended: Extended,
    form: str | None = None,
) -> Float[Array, "out_channels *spatial_out"]:
    """Convolves one sample, with the window and the extension that `forward` finds.

    `form` names the form of `_cpu.forms` that carries it out on CPUs, and also what differentiation
    makes of it; `None` leaves the choice to `_cpu.choice`.
    """
    return _of_one_sample("y", x, w, window, extended, form)


def convolve_transposed(
    y: Float[Array, "in_channels *spatial"],
    w: Float[Array, "out_channels in_channels_per_group *kernel"],
    window: Window,
    extended: Extended,
    form: str | None = None,
) -> Float[Array, "out_channels *spatial_out"]:
    """Applies the transposed convolution to one sample, with what `backward` finds."""
    return _of_one_sample("x", y, w, window, extended, form)


def _of_one_sample(
    target: str, a: Array, w: Array, window: Window, extended: Extended, form: str | None
) -> Array:
    """Applies the operator to one sample. On a mesh with explicit axes, the result's channels are
    split like the kernel's, and its points like the field's.
    """

    def apply(a: Array, w: Array) -> Array:
        samples = jnp.expand_dims(a, 0)
        kernel = flip(w, window.groups) if target == "x" else w
        out = trilinear(
            samples,
            kernel,
            target=target,
            window=window,
            extended=extended,
            members=False,
            form=form,
        )
        return jnp.squeeze(out, 0)

    shape = (w.shape[0], *window.column("size" if target == "x" else "out"))
    return on_auto_axes(apply, shape, lambda a, w: (w[0], *a[1:]), a, w)


def _by_operator(members: bool, form: str | None) -> Task:
    return lambda target, a, b, window: windowed(
        a, b, target=target, window=window, members=members, form=form
    )


def _apply(
    a: Array,
    b: Array,
    *,
    target: str,
    window: Window,
    extended: Extended,
    members: bool,
    form: str | None,
) -> Array:
    return extended_task(_by_operator(members, form), target, a, b, window, extended, members)


def _shape(
    a: Shape,
    b: Shape,
    *,
    target: str,
    window: Window,
    extended: Extended,
    members: bool,
    **_: Any,
) -> Shape:
    return extended.shape(target, a, b, window, members)


def _derivative(place: int, cotangent: Any, a: Any, b: Any, *, target: str, **rest: Any) -> Array:
    """Differentiates by the operand at `place`: the derivative is the task of that name. Its
    operands are the cotangent, which stands for the old target, and the other operand.
    """
    names = OPERANDS[target]
    given = {target: cotangent, names[1 - place]: (a, b)[1 - place]}
    operands = [given[name] for name in OPERANDS[names[place]]]
    operator = trilinear if "extended" in rest else windowed
    return operator(*operands, target=names[place], **rest)


def _batch(
    operands: Any, axes: Any, *, target: str, window: Window, members: bool, **rest: Any
) -> Any:
    """Batches a task. A batched field is more samples; a batched kernel is more channels of the
    other field; if both are batched, they are members of an ensemble.
    """
    names = OPERANDS[target]
    apply = partial(trilinear, target=target, window=window)
    pairs = list(zip(operands, axes, strict=True))
    size = next(v.shape[i] for v, i in pairs if i is not None)
    first = [v if i is None else jnp.moveaxis(v, i, 0) for v, i in pairs]
    batched = [i is not None for i in axes]
    lead = int(members)  # the axis of the samples of a field

    if target != "w" and batched == [True, False]:
        # [size, (members), samples, ...] to [(members), size * samples, ...]
        field = jnp.moveaxis(first[0], 0, lead)
        samples = field.shape[lead + 1]
        field = field.reshape(*field.shape[:lead], size * samples, *field.shape[lead + 2 :])
        out = apply(field, first[1], members=members, **rest)
        return out.reshape(*out.shape[:lead], size, samples, *out.shape[lead + 1 :]), lead

    # If the extended field has a mode for each channel, more channels of it would have no mode.
    merged = {target, *(name for name, own in zip(names, batched, strict=True) if own)}
    one_mode = rest["extended"].field not in merged or len(rest["extended"].boundary.parts) == 1
    if batched != [True, True] and not members and window.groups == 1 and one_mode:
        # The batch becomes channels of the field whose channels target and batched operand share.
        i = batched.index(True)
        at, to = _SHARED_CHANNELS[target, names[i]]
        value = jnp.moveaxis(first[i], 0, at)
        channels = value.shape[at + 1]
        first[i] = value.reshape(*value.shape[:at], size * channels, *value.shape[at + 2 :])
        out = apply(*first, members=False, **rest)
        return out.reshape(*out.shape[:to], size, channels, *out.shape[to + 1 :]), to

    first = [
        v if own else jnp.broadcast_to(v, (size, *v.shape))
        for v, own in zip(first, batched, strict=True)
    ]
    if members:
        count = first[0].shape[1]
        out = apply(*(v.reshape(size * count, *v.shape[2:]) for v in first), members=True, **rest)
        return out.reshape(size, count, *out.shape[1:]), 0
    return apply(*first, members=True, **rest), 0


# The axes of these channels in the operand and in the target.
_SHARED_CHANNELS = {("y", "w"): (0, 1), ("x", "w"): (1, 1), ("w", "x"): (1, 1), ("w", "y"): (1, 0)}


def _split(request: Any, *, members: bool, form: str | None, **rest: Any) -> Split:
    return split_task(_by_operator(members, form), request, members=members, **rest)


def _windowed(a: Array, b: Array, *, target: str, form: str | None, **rest: Any) -> Array:
    del form
    return reference(target, a, b, **rest)


def _plain(a: Array, b: Array, *, target: str, form: str | None, **rest: Any) -> Array:
    del form
    return plain(target, a, b, **rest)


def _windowed_shape(
    a: Shape,
    b: Shape,
    *,
    target: str,
    window: Window,
    members: bool,
    **_: Any,
) -> Shape:
    lead = int(members)
    channels = window.channels(target, a[lead:], b[lead:])
    return (*a[:lead], *window.shape(target, a[lead], channels))


# Acts on the arrays of a window, after their extension. Platforms have forms for it.
windowed = Operator(
    "pdequinox_task",
    _windowed,
    bilinear=_derivative,
    shape=_windowed_shape,
    lower={"cpu": by_choice},
    saved_as=("product", "convolution"),
    plain=_plain,
)

# Acts on fields, and extends one of them.
trilinear = Operator(
    "pdequinox_trilinear",
    _apply,
    bilinear=_derivative,
    shape=_shape,
    batch=_batch,
    sharding=Sharding(factors, _split, packages=("pdequinox_padding",)),
    saved_as=("product", "convolution"),
)
