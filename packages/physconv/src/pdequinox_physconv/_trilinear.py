"""The three tasks of a `Window` as one JAX primitive, with their derivatives and batching rules.

A primitive, because a task's form is chosen when it is lowered: by then `jax.vmap` and
differentiation have made of a layer what will run, and the platform is known. Derivatives and
batches of a task are tasks again, so each of the three convolutions of a training step gets the
form that suits it, at any order of differentiation, in forward and in reverse mode.
"""

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array

from pdequinox_padding import pad
from pdequinox_padding.meshes import (
    abstract,
    equally_varying,
    partitioned,
    register_partitioned,
    Request,
    Split,
    transpose,
)

from ._choice import carry_out
from ._forms import channels_of, transposed, xla_convolution
from ._partition import between, Extension, factors, split_task, Task
from ._window import OPERANDS, Window


# So many members of an ensemble are written out. More would compile for too long: they take turns.
_MEMBERS = 16


def convolve(
    x: Array,
    w: Array,
    window: Window,
    form: str | None = None,
    extension: Extension | None = None,
) -> Array:
    """The strided convolution: `y`, of shape `(samples, out_channels, *window.out)`, from `x`, of
    shape `(samples, in_channels, *spatial)`, whose `extension` has `window.size` points, and `w`,
    of shape `(out_channels, in_channels // window.groups, *window.taps)`.

    With a `form`, that one carries it out, and so it does what differentiation makes of it.
    """
    return _bind(x, w, extension, target="y", window=window, form=form)


def convolve_transposed(
    y: Array,
    w: Array,
    window: Window,
    form: str | None = None,
    extension: Extension | None = None,
) -> Array:
    """The transpose of the strided convolution by its field: `x`, of shape
    `(samples, in_channels, *window.size)`, from the `extension` of `y` and `w`.
    """
    return _bind(y, w, extension, target="x", window=window, form=form)


def _bind(a: Array, b: Array, extension: Extension | None, **parameters: Any) -> Array:
    a, b = equally_varying(a, b)
    return trilinear_p.bind(
        a,
        b,
        extension=extension or Extension.none(parameters["window"]),
        members=False,
        precision=jax.config.jax_default_matmul_precision,
        partitioned=partitioned(),
        **parameters,
    )


def _reference(
    a: Array,
    b: Array,
    *,
    target: str,
    window: Window,
    members: bool,
    precision: str | None,
    form: str | None,
) -> Array:
    """As XLA and JAX carry it out: the transposes of a whole ensemble are those of its convolution,
    which is a grouped one.
    """
    convolution = xla_convolution(window)
    lead = int(members)
    if members:
        convolution = jax.vmap(convolution)
    channels = channels_of(target, a.shape[lead:], b.shape[lead:], window)
    shape = (*a.shape[:lead], *window.shape(target, a.shape[lead], channels))
    with _precision(precision):
        return transposed(convolution, target, a, b, shape)


def _by_choice(a: Array, b: Array, *, members: bool, **parameters: Any) -> Array:
    """By the chosen form, the members of an ensemble one by one."""
    shapes = (*a.shape, *b.shape)
    if 0 in shapes or not all(isinstance(n, int) for n in shapes):
        # No samples; or a number of them that `jax.export` leaves open.
        return _reference(a, b, members=members, **parameters)
    one = partial(_perform, **parameters)
    if not members:
        return one(a, b)
    if a.shape[0] > _MEMBERS:
        return jax.lax.map(lambda pair: one(*pair), (a, b))
    return jnp.stack([one(a[i], b[i]) for i in range(a.shape[0])])


def _perform(
    a: Array,
    b: Array,
    *,
    target: str,
    window: Window,
    form: str | None,
    precision: str | None,
) -> Array:
    with _precision(precision):
        return carry_out(target, a, b, window, form)


def _precision(precision: str | None) -> Any:
    """That of the call, which may be over when it is lowered."""
    return jax.default_matmul_precision(precision)


# A task on the arrays of its window, carried out as the platform has it.
task_p = Primitive("pdequinox_task")
task_p.def_abstract_eval(
    cache(lambda a, b, **parameters: abstract(partial(_reference, **parameters), a, b))
)
mlir.register_lowering(task_p, mlir.lower_fun(_reference, multiple_results=False))
mlir.register_lowering(task_p, mlir.lower_fun(_by_choice, multiple_results=False), platform="cpu")

# The same on fields, which are extended.
trilinear_p = Primitive("pdequinox_trilinear")


def _task(members: bool, precision: str | None, form: str | None) -> Task:
    carry = _reference if jax.config.jax_disable_jit else task_p.bind
    return lambda target, a, b, window: carry(
        a, b, target=target, window=window, members=members, precision=precision, form=form
    )


def _whole(
    a: Array,
    b: Array,
    *,
    target: str,
    window: Window,
    extension: Extension,
    members: bool,
    **parameters: Any,
) -> Array:
    task = _task(members, **parameters)
    lead = int(members)
    channels = channels_of(target, a.shape[lead:], b.shape[lead:], window)
    shape = window.shape(extension.field, a.shape[lead], channels)[:2] + extension.own(window)
    enter = lambda x: pad(x, extension.widths, extension.ends)
    maps = {extension.field: (enter, transpose(enter, (*a.shape[:lead], *shape)))}
    return between(task, target, a, b, window, maps)


def _split(
    request: Request,
    *,
    members: bool,
    precision: str | None,
    form: str | None,
    **parameters: Any,
) -> Split:
    return split_task(_task(members, precision, form), request, members=members, **parameters)


def _factors(shapes: Any, *, target: str, window: Window, members: bool, **_: Any) -> Any:
    return factors(shapes, target=target, window=window, members=members)


@trilinear_p.def_abstract_eval
@cache
def _(a: Any, b: Any, *, partitioned: Any, **parameters: Any) -> Any:
    return abstract(partial(_whole, **parameters), a, b)


@partial(
    jax.jit,
    static_argnames=(
        "target",
        "window",
        "extension",
        "members",
        "form",
        "precision",
        "partitioned",
    ),
)
def _jitted(a: Array, b: Array, **parameters: Any) -> Array:
    return trilinear_p.bind(a, b, **parameters)


@trilinear_p.def_impl
def _(a: Array, b: Array, **parameters: Any) -> Array:
    if jax.config.jax_disable_jit:
        return _whole(a, b, **{k: v for k, v in parameters.items() if k != "partitioned"})
    return _jitted(a, b, **parameters)


register_partitioned(trilinear_p, _whole, _split, _factors)


def _derivative(place: int, cotangent: Any, a: Any, b: Any, **parameters: Any) -> Any:
    """By the operand at `place`: the task of that name, whose operands are the cotangent, for the
    old target, and the other operand.
    """
    old = parameters["target"]
    names = OPERANDS[old]
    given = {old: cotangent, names[1 - place]: (a, b)[1 - place]}
    operands = [given[name] for name in OPERANDS[names[place]]]
    return trilinear_p.bind(*operands, **(parameters | {"target": names[place]}))


ad.defbilinear(trilinear_p, partial(_derivative, 0), partial(_derivative, 1))


def _batch(
    args: Any, axes: Any, *, target: str, window: Window, members: bool, **parameters: Any
) -> Any:
    """A batched field is more samples; a batched kernel more channels of the other field; both
    batched, members of an ensemble.
    """
    names = OPERANDS[target]
    bind = partial(trilinear_p.bind, target=target, window=window, **parameters)
    size = next(v.shape[i] for v, i in zip(args, axes, strict=True) if i is not None)
    first = [v if i is None else jnp.moveaxis(v, i, 0) for v, i in zip(args, axes, strict=True)]
    batched = [i is not None for i in axes]
    lead = int(members)  # the axis of the samples of a field

    if target != "w" and batched == [True, False]:
        # [size, (members), samples, ...] to [(members), size * samples, ...]
        field = jnp.moveaxis(first[0], 0, lead)
        samples = field.shape[lead + 1]
        field = field.reshape(*field.shape[:lead], size * samples, *field.shape[lead + 2 :])
        out = bind(field, first[1], members=members)
        return out.reshape(*out.shape[:lead], size, samples, *out.shape[lead + 1 :]), lead

    if batched != [True, True] and not members and window.groups == 1:
        # As channels of the field whose channels the target and the batched operand share.
        i = batched.index(True)
        at, to = _SHARED_CHANNELS[target, names[i]]
        value = jnp.moveaxis(first[i], 0, at)
        channels = value.shape[at + 1]
        first[i] = value.reshape(*value.shape[:at], size * channels, *value.shape[at + 2 :])
        out = bind(*first, members=False)
        return out.reshape(*out.shape[:to], size, channels, *out.shape[to + 1 :]), to

    first = [
        v if own else jnp.broadcast_to(v, (size, *v.shape))
        for v, own in zip(first, batched, strict=True)
    ]
    if members:
        count = first[0].shape[1]
        out = bind(*(v.reshape(size * count, *v.shape[2:]) for v in first), members=True)
        return out.reshape(size, count, *out.shape[1:]), 0
    return bind(*first, members=True), 0


# Their axes in the operand and in the target.
_SHARED_CHANNELS = {("y", "w"): (0, 1), ("x", "w"): (1, 1), ("w", "x"): (1, 1), ("w", "y"): (1, 0)}

batching.primitive_batchers[trilinear_p] = _batch
