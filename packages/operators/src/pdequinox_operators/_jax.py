"""Holds every question about JAX's version, and everything for which JAX has no public name; no
other file has either.

Each function that asks for the version says which version ends the question.
"""

from collections.abc import Collection, Sequence
from functools import cache, partial
from importlib.metadata import version
from typing import Any

import jax
from jax import lax
from jax._src import checkify
from jax._src.interpreters import partial_eval as pe
from jax._src.named_sharding import DuplicateSpecError as DuplicateSpecError
from jax.experimental import jet
from jax.interpreters import ad


@cache
def jaxlib_version() -> str:
    """Gives the version of XLA, for choices that rest on measurements."""
    return version("jaxlib")


def varying(aval: Any) -> frozenset[str]:
    """Lists the axes of the mesh over which a value varies inside `jax.shard_map`.

    A floor of JAX 0.10 ends the question: from that version on, it is `manual_axis_type.varying`.
    """
    if hasattr(aval, "manual_axis_type"):
        return frozenset(aval.manual_axis_type.varying)
    return frozenset(aval.vma)


def is_undefined(value: Any) -> bool:
    """Tells whether a transpose rule is asked for the cotangent of this operand."""
    return ad.is_undefined_primal(value)


def register_bilinear_jet(primitive: Any) -> None:
    """Gives a bilinear primitive the rule for Taylor mode that JAX has for its own products."""
    rule = jet.jet_rules[lax.dot_general_p].func  # ty: ignore
    jet.jet_rules[primitive] = partial(rule, primitive)


def register_linear_jet(primitive: Any) -> None:
    """Gives a primitive that is linear in its first operand a rule for Taylor mode. Other operands
    only tell a shape.
    """

    def rule(primals: Sequence[Any], series: Sequence[Any], **parameters: Any) -> Any:
        first, *others = primals
        terms = [primitive.bind(term, *others, **parameters) for term in series[0]]
        return primitive.bind(first, *others, **parameters), terms

    jet.jet_rules[primitive] = rule


def register_checkify(primitive: Any) -> None:
    """Makes `checkify` look for NaNs in the result, as it does for JAX's own products."""
    rule = checkify.error_checks[lax.dot_general_p].func  # ty: ignore
    checkify.error_checks[primitive] = partial(rule, primitive)


def register_saveable(primitive: Any, saved_as: Collection[str]) -> None:
    """Makes the policies of `jax.checkpoint` that save JAX's own products or convolutions save the
    primitive's result too.

    Policies ask which primitive an equation has. Here they are asked about the primitive itself,
    and about those that it is saved as. Otherwise the rule does what JAX does without one
    (`partial_eval_jaxpr_custom` in `jax/_src/interpreters/partial_eval.py`): an equation with an
    unknown operand goes to the backward pass; one whose operands are known is carried out in the
    forward pass, and again in the backward pass if its result is not saved.
    """

    def rule(policy: Any, unknown: Any, known_there: Any, equation: Any) -> Any:
        missing = [
            x
            for x, there in zip(equation.invars, known_there, strict=True)
            if not there and isinstance(x, pe.Var)
        ]
        if any(unknown):
            return None, equation, [True], [True], missing
        avals = [x.aval for x in equation.invars]
        answers = [policy(primitive, *avals, **equation.params)]
        answers += [_ASK[name](policy, avals) for name in saved_as]
        # What a policy would move to the host's memory stays on the device.
        if any(isinstance(pe.ensure_enum(a), pe.SaveableType | pe.Offloadable) for a in answers):
            return equation, None, [False], [False], []
        return equation, equation, [False], [True], missing

    pe.partial_eval_jaxpr_custom_rules[primitive] = rule


# Asks whether a policy of `jax.checkpoint` saves these. This product has no batch axes.
_ASK = {
    "product": lambda policy, avals: policy(
        lax.dot_general_p, *avals[:2], dimension_numbers=(((0,), (0,)), ((), ()))
    ),
    "convolution": lambda policy, avals: policy(lax.conv_general_dilated_p, *avals[:2]),
}


def for_export(context: Any) -> bool:
    """Tells whether a program is lowered for `jax.export`; then it can no longer ask Python."""
    return context.module_context.lowering_parameters.for_export


def mesh_of(context: Any) -> Any:
    """Finds the mesh with named axes of a program for several devices that is being lowered; `None`
    if there is none.
    """
    axes = context.module_context.axis_context
    devices = getattr(axes, "device_assignment", None) or ()
    return getattr(axes, "abstract_mesh", None) if len(devices) > 1 else None


def on_one_device(context: Any) -> bool:
    """Tells whether the program that is being lowered is for one device."""
    return getattr(context.module_context.axis_context, "num_devices", 1) == 1


def debugs() -> bool:
    """Tells whether JAX is asked to run every operation separately, or to find where a NaN or an
    infinity arises.
    """
    config = jax.config
    return bool(config.jax_disable_jit or config.jax_debug_nans or config.jax_debug_infs)
