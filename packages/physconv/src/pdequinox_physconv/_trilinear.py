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

from ._choice import carry_out
from ._forms import channels_of, transposed, xla_convolution
from ._window import OPERANDS, Window


# So many members of an ensemble are written out. More would compile for too long: they take turns.
_MEMBERS = 16


def convolve(x: Array, w: Array, window: Window, form: str | None = None) -> Array:
    """The strided convolution: `y`, of shape `(samples, out_channels, *window.out)`, from `x`, of
    shape `(samples, in_channels, *window.size)`, and `w`, of shape
    `(out_channels, in_channels // window.groups, *window.taps)`.

    With a `form`, that one carries it out, and so it does what differentiation makes of it.
    """
    return _bind(x, w, target="y", window=window, form=form)


def convolve_transposed(y: Array, w: Array, window: Window, form: str | None = None) -> Array:
    """The transpose of [`convolve`][] by `x`: `x` from `y` and `w`."""
    return _bind(y, w, target="x", window=window, form=form)


def _bind(a: Array, b: Array, **parameters: Any) -> Array:
    a, b = _equally_varying(a, b)
    precision = jax.config.jax_default_matmul_precision
    return trilinear_p.bind(a, b, members=False, precision=precision, **parameters)


def _equally_varying(*values: Array) -> list[Array]:
    """Inside of `jax.shard_map`: varying over the same axes of the mesh, as the operands of JAX's
    own primitives are made to be. The transpose of this is the sum over devices that the gradient
    of a replicated kernel needs.
    """
    if not hasattr(jax, "typeof"):
        return list(values)
    varying = []
    for value in values:
        # Named anew in JAX 0.11.
        aval = jax.typeof(value)
        axes = aval.mat.varying if hasattr(aval, "mat") else getattr(aval, "vma", ())
        varying.append(frozenset(axes))
    every = frozenset().union(*varying)
    missing = [tuple(sorted(every - own, key=str)) for own in varying]
    if hasattr(jax.lax, "pcast"):
        cast = partial(jax.lax.pcast, to="varying")
    else:
        cast = getattr(jax.lax, "pvary", None)
    return [cast(v, axes) if axes else v for v, axes in zip(values, missing, strict=True)]


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


trilinear_p = Primitive("pdequinox_trilinear")


@trilinear_p.def_abstract_eval
@cache
def _(a: Any, b: Any, **parameters: Any) -> Any:
    # From JAX's own rules, which know about more than shapes.
    out = jax.make_jaxpr(partial(_reference, **parameters))(a, b).out_avals[0]
    # The operands vary alike (`_equally_varying`).
    if hasattr(a, "manual_axis_type"):
        return out.update(manual_axis_type=a.manual_axis_type)
    return out.update(vma=a.vma) if hasattr(a, "vma") else out


@partial(jax.jit, static_argnames=("target", "window", "members", "form", "precision"))
def _jitted(a: Array, b: Array, **parameters: Any) -> Array:
    return trilinear_p.bind(a, b, **parameters)


@trilinear_p.def_impl
def _(a: Array, b: Array, **parameters: Any) -> Array:
    if jax.config.jax_disable_jit:
        return _reference(a, b, **parameters)
    return _jitted(a, b, **parameters)


mlir.register_lowering(trilinear_p, mlir.lower_fun(_reference, multiple_results=False))
mlir.register_lowering(
    trilinear_p, mlir.lower_fun(_by_choice, multiple_results=False), platform="cpu"
)


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
