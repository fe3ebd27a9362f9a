"""Defines `Operator`, which declares in one call what JAX has to know of an operator on arrays.

JAX derives everything about a function from the operations that it consists of. If more is known of
an operator (a derivative in closed form, a batch that is just more samples, a way to split it over
devices, a faster way on some platform), it must be a primitive of its own, with a rule for
everything that JAX does. `Operator` writes these rules from the little that is known, and from
`apply`, which is the operator in JAX's own operations.
"""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial, wraps
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float

from . import _jax
from ._mesh import equally_varying, partitioned_marker, Shape, Sharding, transposed
from .checks import sum_dtype


# This is part of the key under which JAX keeps traced programs, so that a program that was traced
# without it is not used within it.
_PLAIN = jax.make_user_context(os.environ.get("PDEQUINOX_PLAIN_OPERATIONS", "0") not in ("", "0"))


def plain_operations() -> AbstractContextManager[Any]:
    """Makes every operator a composition of JAX's own operations: `with plain_operations(): ...`.

    This is for tools that read programs of JAX (jaxprs) and know only JAX's own primitives, such as
    exporters to other formats. Values agree up to rounding; forms for a platform and the exchange
    of halos between devices are lost. The environment variable `PDEQUINOX_PLAIN_OPERATIONS=1` does
    the same for a whole process.
    """
    return _PLAIN(True)


def one_program(function: Callable[..., Any], static_argnames: Sequence[str]) -> Callable[..., Any]:
    """Compiles a function as a whole if it is called outside `jax.jit`; inside, it becomes part of
    the program around it.

    It does not do so within `plain_operations`: some exporters replace the operations of
    `jax.numpy` by their own while they trace, and these would stay in JAX's cache of traced
    programs.
    """
    jitted = jax.jit(function, static_argnames=static_argnames, inline=True)

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return (function if _PLAIN.value else jitted)(*args, **kwargs)

    return call


def add_bias(
    y: Float[Array, " channels *spatial"], bias: Float[Array, " channels *ones"] | None
) -> Float[Array, " channels *spatial"]:
    """Adds a layer's bias, one number per channel; returns `y` itself if there is none.

    The gradient of a bias is a sum over all points and samples. The transposes of conversion and
    addition take that sum in the dtype of the addition, float32. The result is that of an addition
    in half precision, because a float32 holds the sum of two such numbers to more than twice their
    digits, and it is rounded once.
    """
    if bias is None:
        return y
    dtype = sum_dtype(y.dtype)
    return lax.convert_element_type(y.astype(dtype) + bias.astype(dtype), y.dtype)


class Operator:
    """Declares an operator on arrays, with one result, that JAX treats as one of its own.

    Calls take the operands and, as keywords, the `parameters`: hashable values that say which
    operator of the family it is. Inside `jax.shard_map`, operands are made to vary alike. The
    default precision of products is that of the call, whenever a program is lowered.
    """

    def __init__(
        self,
        name: str,
        apply: Callable[..., Array],
        *,
        bilinear: Callable[..., Array] | None = None,
        transpose: Callable[..., Array] | None = None,
        shape: Callable[..., Shape] | None = None,
        linear: bool = False,
        batch: Callable[..., tuple[Array, int | None]] | None = None,
        sharding: Sharding | None = None,
        lower: Mapping[str, Callable[..., Array]] | None = None,
        lower_alone: bool = False,
        saved_as: Collection[str] = (),
        plain: Callable[..., Array] | None = None,
    ):
        """Registers the operator with JAX.

        **Arguments:**

        - `name`: The name of the operator in jaxprs.
        - `apply`: The operator in JAX's own operations, `apply(*operands, **parameters)`. Whatever
            is not given below follows from it.
        - `bilinear`: The transposes of an operator that is linear in each of its two operands:
            `bilinear(place, cotangent, a, b, **parameters)` is the one by the operand at `place`, 0
            or 1. JAX passes a placeholder for that operand, which must not be used.
        - `transpose`: The transpose of an operator that is linear in its first operand,
            `transpose(cotangent, operand, *others, **parameters)`. The `operand` is an abstract
            value. The others tell a shape or how something is split, and have no derivatives.
        - `linear`: Whether the operator is linear in its first operand, and its transpose follows
            from `apply`. One of `bilinear`, `transpose` and `linear` must be given.
        - `shape`: The shape of the result, `shape(*shapes, **parameters)`, from the shapes of the
            operands. The dtype of the result is that of the first operand.
        - `batch`: The result for a batch, and its axis, `batch(operands, axes, **parameters)`. As
            for `jax.vmap`, the axis is `None` for operands without a batch.
        - `sharding`: How the operator is split over the devices of a mesh. Without it, XLA decides
            from `apply`.
        - `lower`: Functions that replace `apply` on a platform, such as `"cpu"`, where no axis is
            empty or of open size.
        - `lower_alone`: Whether `lower` applies only to programs of one device.
        - `saved_as`: `"product"`, `"convolution"` or both. Policies of `jax.checkpoint` that save
            the results of JAX's own products or convolutions then save this operator's result too.
        - `plain`: The function that replaces `apply` within
            [`pdequinox_operators.plain_operations`][], if `apply` has operations without a
            counterpart in other formats.

        **Raises:** `TypeError` if nothing is said about derivatives.
        """
        if bilinear is None and transpose is None and not linear:
            raise TypeError(f"`Operator` needs `bilinear`, `transpose` or `linear` for {name!r}.")
        self.name = name
        self._apply = apply
        self._written = plain or apply
        self._sharding = sharding
        self._shape = shape
        self.primitive = primitive = Primitive(name)
        primitive.def_impl(self._run)
        primitive.def_abstract_eval(self._abstract)
        if bilinear is not None:
            by_place = [self._at_its_precision(partial(bilinear, place)) for place in (0, 1)]
            ad.defbilinear(primitive, *by_place)
            _jax.register_bilinear_jet(primitive)
        else:
            self._transpose = self._at_its_precision(transpose or self._derived_transpose)
            ad.primitive_jvps[primitive] = self._jvp
            ad.primitive_transposes[primitive] = self._transpose_rule
            _jax.register_linear_jet(primitive)
        batching.primitive_batchers[primitive] = self._at_its_precision(
            batch or self._derived_batch
        )
        _jax.register_checkify(primitive)
        _jax.register_saveable(primitive, saved_as)
        mlir.register_lowering(primitive, self._lowering(None, False))
        for platform, function in (lower or {}).items():
            rule = self._lowering(function, lower_alone)
            mlir.register_lowering(primitive, rule, platform=platform)

        # This binds the primitive, so that the platform's rule applies.
        def bound(operands: tuple[Array, ...], parameters: tuple[tuple[str, Any], ...]) -> Array:
            return primitive.bind(*operands, **dict(parameters))

        bound.__name__ = name
        self._jitted = jax.jit(bound, static_argnums=1)

    def __call__(self, *operands: Array, **parameters: Any) -> Array:
        """Applies the operator."""
        operands = equally_varying(*operands)
        if _PLAIN.value:
            return self._written(*operands, **parameters)
        precision = jax.config.jax_default_matmul_precision
        marker = None if self._sharding is None else partitioned_marker()
        return self.primitive.bind(*operands, precision=precision, partitioned=marker, **parameters)

    def _plain(self, *operands: Array, precision: str | None, **parameters: Any) -> Array:
        with jax.default_matmul_precision(precision):
            return self._apply(*operands, **parameters)

    def _run(self, *operands: Array, **parameters: Any) -> Array:
        """Carries out the operator on arrays, compiled. If JAX is asked to, as by `jax.disable_jit`
        and `jax.debug_nans`, which point at one operation, it goes operation by operation.
        """
        if _jax.debugs():
            return self._plain(*operands, **_without_marker(parameters))
        return self._jitted(operands, tuple(sorted(parameters.items(), key=lambda item: item[0])))

    def _abstract(self, *operands: Any, **parameters: Any) -> Any:
        parameters = _without_marker(parameters)
        if self._shape is not None:
            del parameters["precision"]
            shape = self._shape(*(operand.shape for operand in operands), **parameters)
        else:
            shape = self._traced_shape(*operands, **parameters)
        like = operands[0]
        sharding = NamedSharding(like.sharding.mesh, PartitionSpec(*(None for _ in shape)))
        # The result varies over a mesh as the operands do, which vary alike.
        return like.update(shape=tuple(shape), weak_type=False, sharding=sharding)

    def _traced_shape(self, *operands: Any, **parameters: Any) -> Shape:
        like = [jax.ShapeDtypeStruct(operand.shape, operand.dtype) for operand in operands]
        return jax.eval_shape(partial(self._plain, **parameters), *like).shape

    def _at_its_precision(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Wraps a rule so that it, and everything that it applies, runs at the precision of the
        call. The rule does not see the parameters that only this class knows.
        """

        def at_its_precision(
            *values: Any, precision: str | None, partitioned: Any, **parameters: Any
        ) -> Any:
            with jax.default_matmul_precision(precision):
                return rule(*values, **parameters)

        return at_its_precision

    def _jvp(self, primals: Any, tangents: Any, **parameters: Any) -> Any:
        value = self.primitive.bind(*primals, **parameters)
        tangent, *_ = tangents
        if type(tangent) is ad.Zero:
            return value, ad.Zero(jax.typeof(value).to_tangent_aval())
        return value, self.primitive.bind(tangent, *primals[1:], **parameters)

    def _transpose_rule(self, cotangent: Any, operand: Any, *others: Any, **parameters: Any) -> Any:
        rest = [None] * len(others)
        if type(cotangent) is ad.Zero:
            return [ad.Zero(operand.aval), *rest]
        # `jax.linear_transpose` may leave the others undefined, as it does the first.
        given = [
            jnp.zeros(v.aval.shape, v.aval.dtype) if _jax.is_undefined(v) else v for v in others
        ]
        return [self._transpose(cotangent, operand.aval, *given, **parameters), *rest]

    def _derived_transpose(self, cotangent: Array, operand: Any, **parameters: Any) -> Array:
        return transposed(partial(self._apply, **parameters), operand.shape)(cotangent)

    def _derived_batch(self, operands: Any, axes: Any, **parameters: Any) -> tuple[Array, int]:
        return jax.vmap(partial(self._apply, **parameters), axes)(*operands), 0

    def _lowering(self, function: Callable[..., Array] | None, alone: bool) -> Callable[..., Any]:
        """Makes the rule that writes XLA's program of the platform's `function` or of `apply`."""

        def lower(context: Any, *operands: Any, **parameters: Any) -> Any:
            parameters = _without_marker(parameters)
            call = partial(self._plain, **parameters)
            avals = (*context.avals_in, *context.avals_out)
            known = all(isinstance(n, int) and n > 0 for aval in avals for n in aval.shape)
            if function is not None and known and (not alone or _jax.on_one_device(context)):
                call = partial(_at_precision, function, **parameters)
            if self._sharding is not None:
                call = self._sharding.partitioned(self.name, context, **parameters) or call
            return mlir.lower_fun(call, multiple_results=False)(context, *operands)

        return lower


def _at_precision(
    function: Callable[..., Array], *operands: Array, precision: str | None, **parameters: Any
) -> Array:
    with jax.default_matmul_precision(precision):
        return function(*operands, **parameters)


def _without_marker(parameters: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in parameters.items() if key != "partitioned"}
