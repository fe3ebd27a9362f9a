"""Makes operators of the transforms, and of the product between them. The transforms of all axes
are one operator, so that a field may be split over a mesh: every device analyses what it has, and
the devices exchange only the sum over them. The product is one because CPUs have their own forms of
it (`_cpu.forms`).
"""

from collections.abc import Callable
from functools import partial
from itertools import accumulate
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from pdequinox_operators import on_auto_axes, one_program, Operator, Shape, Sharding, sum_dtype

from ._basis import Basis, Runs
from ._convolution import gradient, product
from ._cpu.choice import fits, LARGEST_MATRIX, Method
from ._cpu.forms import gradient_of_lines, product_of_lines
from ._sharding import factors, resampled_factors, split, split_resampled
from ._transform import parts_and_groups, resampled, transform
from ._weights import multiply, Parts, Structure


@partial(one_program, static_argnames=("structure", "inputs", "outputs", "output_shape", "method"))
def spectral_convolve(
    x: Float[Array, "in_channels *spatial"],
    weights: Parts,
    structure: Structure,
    inputs: Runs,
    outputs: Runs,
    output_shape: tuple[int, ...],
    method: Method = "auto",
) -> Float[Array, "out_channels *output_shape"]:
    """Analyses every axis of one sample, multiplies the kept coefficients, and synthesises every
    axis. `weights` has the arrays of the real parts and, if there is a periodic axis, those of the
    imaginary parts. `inputs` and `outputs` are the runs of channels of the input and of the output,
    each with its own functions.

    Half-precision fields are transformed in float32.
    """
    dtype = sum_dtype(x.dtype)
    convolved = partial(
        _convolve,
        structure=structure,
        inputs=inputs,
        outputs=outputs,
        shape=output_shape,
        method=method,
    )
    place = structure.place_of_out_channels
    arrays = [w.astype(dtype) for part in weights for w in part]
    out = on_auto_axes(
        convolved,
        (arrays[0].shape[place], *output_shape),
        lambda x, w, *_: (w[place], *x[1:]),
        x.astype(dtype),
        *arrays,
    )
    return out.astype(x.dtype)


def _convolve(
    x: Array,
    *arrays: Array,
    structure: Structure,
    inputs: Runs,
    outputs: Runs,
    shape: tuple[int, ...],
    method: Method,
) -> Array:
    whole = partial(_transform, grid=x.shape[1:], method=method, transpose=False)
    analysed = partial(whole, points=x.shape[1:], analysis=True)
    synthesised = partial(whole, points=shape, analysis=False)
    z = _by_runs(lambda own, bases: analysed(own, own, bases=bases), x, inputs, (0, 2))
    count = len(structure.axes)
    weights = tuple(arrays[i : i + count] for i in range(0, len(arrays), count))
    y = multiplied(z, weights, structure)
    return _by_runs(lambda own, bases: synthesised(own, x, bases=bases), y, outputs, (2, 0))


def _by_runs(
    function: Callable[[Array, tuple[Basis, ...]], Array],
    value: Array,
    runs: Runs,
    channels: tuple[int, int],
) -> Array:
    """Applies a transform to every run; `channels` are their axes before and after."""
    if len(runs) == 1:
        ((_, bases),) = runs
        return function(value, bases)
    before, after = channels
    ends = list(accumulate(count for count, _ in runs))
    blocks = [
        function(lax.slice_in_dim(value, end - count, end, axis=before), bases)
        for end, (count, bases) in zip(ends, runs, strict=True)
    ]
    return jnp.concatenate(blocks, axis=after)


def multiplied(
    z: Float[Array, "parts groups in_channels *num_modes"], weights: Parts, structure: Structure
) -> Float[Array, "parts groups out_channels *num_modes"]:
    """Multiplies each mode's coefficients by its matrix."""
    product = partial(_product, members=0, space=z.ndim - 3, adjoint=False)
    return multiply(z, weights, structure, product)


@partial(one_program, static_argnames=("channels", "shape", "method"))
def evaluate_on(
    x: Float[Array, "channels *spatial"],
    channels: Runs,
    shape: tuple[int, ...],
    method: Method = "auto",
) -> Float[Array, "channels *shape"]:
    """Evaluates each run of channels, in its own functions, on another grid."""

    def function(x: Array) -> Array:
        parameters = dict(grid=x.shape[1:], points=shape, method=method, transpose=False)
        return _by_runs(
            lambda own, bases: _resampled(own, bases=bases, **parameters), x, channels, (0, 0)
        )

    dtype = sum_dtype(x.dtype)
    out = on_auto_axes(function, (x.shape[0], *shape), lambda x: x, x.astype(dtype))
    return out.astype(x.dtype)


def _by_either(
    place: int, cotangent: Array, weight: Any, z: Any, *, adjoint: bool, **counts: int
) -> Array:
    """Transposes `y = W z`: by `z` to `W^T y`, and by `W` to the sum of `y z^T`."""
    if place == 1:
        return _product(weight, cotangent, adjoint=not adjoint, **counts)
    return _gradient(*((z, cotangent) if adjoint else (cotangent, z)), **counts)


def _of_gradient(place: int, cotangent: Array, y: Any, z: Any, **counts: int) -> Array:
    """Transposes `G = sum y z^T`: by `y` to `G z`, and by `z` to `G^T y`."""
    return _product(cotangent, y if place else z, adjoint=place == 1, **counts)


def _batch_of_products(
    operands: Any, axes: Any, *, members: int, space: int, adjoint: bool
) -> tuple[Array, int]:
    """Treats a batch of coefficients as more samples, and a batch of weights as more members."""
    (weight, z), (own, at) = operands, axes
    parameters = dict(space=space, adjoint=adjoint)
    if own is None:
        return _product(weight, jnp.moveaxis(z, at, 0), members=members, **parameters), 0
    weight = jnp.moveaxis(weight, own, 0)
    z, place = _as_members(z, at, len(weight), members, space)
    return _product(weight, z, members=members + 1, **parameters), place


def _batch_of_gradients(operands: Any, axes: Any, *, members: int, space: int) -> tuple[Array, int]:
    count = next(v.shape[i] for v, i in zip(operands, axes, strict=True) if i is not None)
    y, z = (
        _as_members(v, at, count, members, space)[0] for v, at in zip(operands, axes, strict=True)
    )
    return _gradient(y, z, members=members + 1, space=space), 0


def _as_members(
    z: Array, at: int | None, count: int, members: int, space: int
) -> tuple[Array, int]:
    """Moves a batch's axis, or adds one, to the front of the members', and says where that is."""
    if at is None:
        z, at = jnp.broadcast_to(z, (count, *z.shape)), 0
    place = z.ndim - 1 - 3 - space - members
    return jnp.moveaxis(z, at, place), place


def _product_shape(weight: Shape, z: Shape, *, members: int, space: int, adjoint: bool) -> Shape:
    channels = len(z) - 1 - space
    return (*z[:channels], weight[members + (2 if adjoint else 1)], *z[channels + 1 :])


def _gradient_shape(y: Shape, z: Shape, *, members: int, space: int) -> Shape:
    front, channels = len(z) - 3 - space, len(z) - 1 - space
    return (*z[front - members : front], z[front + 1], y[channels], *z[channels:])


# Over several devices, the sum over samples comes before the sum over devices.
_product = Operator(
    "pdequinox_spectral_product",
    product,
    bilinear=_by_either,
    shape=_product_shape,
    batch=_batch_of_products,
    lower={"cpu": product_of_lines},
    lower_alone=True,
    saved_as=("product", "convolution"),
)

_gradient = Operator(
    "pdequinox_spectral_gradient",
    gradient,
    bilinear=_of_gradient,
    shape=_gradient_shape,
    batch=_batch_of_gradients,
    lower={"cpu": gradient_of_lines},
    lower_alone=True,
    saved_as=("product", "convolution"),
)


def _apply(value: Array, like: Array, **parameters: Any) -> Array:
    """Transforms a field; or coefficients, to a field that is split over a mesh like `like`."""
    del like
    return transform(value, **parameters)


def _plain(value: Array, like: Array, *, bases: Any, method: Method, **parameters: Any) -> Array:
    """Transforms by products, if the method was left open: other formats than JAX's have no complex
    numbers, or few operations on them.
    """
    del like
    if method == "auto" and all(map(partial(fits, dtype=value.dtype), bases, parameters["points"])):
        method = "product"
    return transform(value, bases=bases, method=method, **parameters)


def _shape(
    value: Shape,
    like: Shape,
    *,
    bases: tuple[Basis, ...],
    points: tuple[int, ...],
    analysis: bool,
    transpose: bool,
    **_: Any,
) -> Shape:
    del like
    dims = len(bases)
    if analysis == transpose:
        return (*value[: -dims - 3], value[-dims - 1], *points)
    parts, groups = parts_and_groups(bases)
    modes = (basis.num_modes for basis in bases)
    return (*value[: -dims - 1], parts, groups, value[-dims - 1], *modes)


def _transposed(cotangent: Array, _: Any, like: Array, *, transpose: bool, **rest: Any) -> Array:
    return _transform(cotangent, like, transpose=not transpose, **rest)


def _batch(operands: Any, axes: Any, **parameters: Any) -> tuple[Array, int | None]:
    front = [v if i is None else jnp.moveaxis(v, i, 0) for v, i in zip(operands, axes, strict=True)]
    return _transform(*front, **parameters), None if axes[0] is None else 0


_transform = Operator(
    "pdequinox_transform",
    _apply,
    transpose=_transposed,
    shape=_shape,
    batch=_batch,
    sharding=Sharding(factors, split),
    saved_as=("product", "convolution"),
    plain=_plain,
)


def _resampled_shape(
    x: Shape, *, grid: tuple[int, ...], points: tuple[int, ...], transpose: bool, **_: Any
) -> Shape:
    return (*x[: -len(grid)], *(grid if transpose else points))


def _resampled_transposed(cotangent: Array, _: Any, *, transpose: bool, **rest: Any) -> Array:
    return _resampled(cotangent, transpose=not transpose, **rest)


def _batch_of_resampled(operands: Any, axes: Any, **parameters: Any) -> tuple[Array, int]:
    return _resampled(jnp.moveaxis(operands[0], axes[0], 0), **parameters), 0


def _resampled_plain(x: Array, *, method: Method, **parameters: Any) -> Array:
    """Evaluates by products, if the method was left open, like `_plain`."""
    sizes = zip(parameters["grid"], parameters["points"], strict=True)
    if method == "auto" and all(n * m * x.dtype.itemsize <= LARGEST_MATRIX for n, m in sizes):
        method = "product"
    return resampled(x, method=method, **parameters)


_resampled = Operator(
    "pdequinox_resample",
    resampled,
    transpose=_resampled_transposed,
    shape=_resampled_shape,
    batch=_batch_of_resampled,
    sharding=Sharding(resampled_factors, split_resampled),
    saved_as=("product", "convolution"),
    plain=_resampled_plain,
)
