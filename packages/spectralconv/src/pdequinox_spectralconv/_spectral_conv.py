"""Defines the spectral layer and documents it. The arithmetic is in `_convolution`."""

import math
import warnings
from typing import Any, no_type_check

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

from pdequinox_operators.checks import (
    Integer,
    integer,
    Integers,
    integers,
    parameter_dtype,
    sample,
    sum_dtype,
)
from pdequinox_padding import Boundary, BoundaryMode, Ends, PerChannel

from ._basis import boundary_with_waves, Runs, runs
from ._cpu.choice import Method, METHODS
from ._operator import multiplied, spectral_convolve
from ._weights import Structure, Weights


class SpectralConv(eqx.Module):
    """Convolves real fields with a global kernel that is given by its lowest modes.

    The modes are Fourier modes on periodic axes (Li et al., "Fourier Neural Operator for Parametric
    Partial Differential Equations", https://arxiv.org/abs/2010.08895). Between walls they are the
    sines or cosines that satisfy the boundary condition.

    **Periodic axes.** Let `X_k` be the coefficients of the unnormalised discrete Fourier transform
    of the input. With `m` modes on an axis, the wavenumbers `0..m-1` are kept on the last periodic
    axis (the other half follows, because the field is real), and `-m..m-1` on every other periodic
    axis. Let `Y_k = W_k X_k`, with a complex matrix `W_k` per mode. On axes of `N_a` points, `N` in
    all, the output at point `j` is `1/N sum over kept k of c_k Re(Y_k exp(2 pi i sum over a of k_a
    j_a / N_a))`, where `c_k` is 2 if the last periodic axis's wavenumber lies strictly between 0
    and half its number of points, else 1.

    **Axes between walls** keep the first `m` functions that are even about a wall of `"neumann"`
    (the last node) or `"neumann_cell"` (the last face), and odd about a wall of `"dirichlet_cell"`
    (the last face), `"dirichlet_node"` or `"dirichlet"` (one point beyond the last node).
    `"outflow"` has no slope at its last face, and is the same as `"neumann_cell"` here, so that one
    `boundary_mode` serves all layers of a network. Let `t` go from 0 at the lower wall to 1 at the
    upper wall, and let `k = 0..m-1`:

    | lower end | upper end | functions |
    |---|---|---|
    | even | even | `cos(pi k t)`, DCT-I or II |
    | odd | odd | `sin(pi (k + 1) t)`, DST-I or II |
    | even | odd | `cos(pi (k + 1/2) t)`, quarter waves |
    | odd | even | `sin(pi (k + 1/2) t)`, quarter waves |

    Here `X_k` is the coefficient of the function in the field's expansion into all `N` of them, and
    takes the place of `X_k / N` above. The output, too, has the value or the slope 0 at the wall.
    If no axis is periodic, the matrices `W_k` are real.

    With identity matrices, the layer is the projection onto the kept modes, with one exception: a
    mode of wavenumber `-m` on a periodic axis other than the last, and 0 (or half the number of
    points) on the last, counts half, because its partner at `+m` is not kept.

    **Modes per channel.** `pdequinox_padding.per_channel` gives the channels of the input their own
    functions, and `out_boundary_mode` those of the output. On an axis where all channels have the
    same functions, these are as above. On any other axis, channels meet by their wavenumbers. Let
    `k = 0..m-1`:

    | ends of a channel | functions |
    |---|---|
    | even and even | `cos(pi k t)` |
    | odd and odd | `sin(pi k t)`; the one of `k = 0` is 0 |
    | even and odd | `cos(pi (k + 1/2) t)`, which meet only quarter waves |
    | odd and even | `sin(pi (k + 1/2) t)`, which meet only quarter waves |

    Output channel `o` is `sum over k of (sum over i of W_k[o, i] X_k[i]) f_k^o(t)`, with the
    functions `f_k^o` of that channel. `X_k[i]` is the coefficient in the expansion of channel `i`
    into its own `N` functions, and 0 for a sine of `k = 0`: a weight that has this sine on either
    side has no influence. `t` goes from wall to wall of each channel's own grid: walls may be at
    nodes for one channel and at faces for another.

    Differentiation turns cosines into sines of the same wavenumber. So the gradient of a pressure
    that is even at the walls is one such layer, and the divergence of a velocity that slips along
    them is another. With a distance `L` between the walls, `W_k` is `-pi k / L` from a cosine to a
    sine, and `pi k / L` from a sine to a cosine; along a period `L`, it is `2 pi i k / L`.

    **Weights that are factors.** The matrices of all modes are most of a network's parameters, and,
    on many devices, most of the memory of each device. With `weights` other than `"dense"`, they
    are sums of products of smaller arrays. The coefficients are multiplied with these arrays, and
    the dense array is never formed. With a factor for each axis, taken at that axis's wavenumber:

    | `weights` | `W_k[o, i]` | numbers |
    |---|---|---|
    | `"dense"` | any | `C_o C_i M` |
    | `"depthwise"` | any if `o = i`, else 0 | `C M` |
    | `"axiswise"` | `sum over a of A^a[k_a, o, i]` | `C_o C_i (m_1 + ... + m_D)` |
    | `("cp", R)` | `sum over r of U[o, r] V[i, r] f_r` | `R (C_o + C_i + m_1 + ... + m_D)` |
    | `("tucker", ranks)` | `sum over p, q of U[o, p] V[i, q] g_pq` | factors and core |

    Here `f_r` is the product of `F^a[r, k_a]` over the axes `a`, and `g_pq` is the sum over all
    `r_a` of `core[p, q, r_1, ..., r_D]` times the product of `F^a[r_a, k_a]`. The number of an
    axis's wavenumbers is `m_a` (twice `num_modes` if they have both signs), and `M` is the product
    of all `m_a`. All numbers are complex if there is a periodic axis. For CP and Tucker
    decompositions, see Kolda and Bader, "Tensor Decompositions and Applications" (2009); for those
    of these weights, Kossaifi et al., "Multi-Grid Tensorized Fourier Neural Operator",
    https://arxiv.org/abs/2310.00120. Sums over axes follow Tran et al., "Factorized Fourier Neural
    Operators", https://arxiv.org/abs/2111.13802, who transform one axis at a time and keep all
    waves along the others. [`pdequinox_spectralconv.dense_weights`][] gives `W_k`.

    **Precision.** Half-precision parameters and fields are converted to float32, everything is
    computed in float32, and the output is rounded once. Products are in full float32 unless
    `jax.default_matmul_precision` asks for less. For waves on top of a mean of 1000 times their
    size, three digits are left in float32, and few in half precision or with products of rounded
    factors.

    **Limits.** A value other than 0 at an odd wall is projected away: subtract one function with
    that value first (a lifting), and add it again afterwards. There is no bias, and fields are
    real. Points are equidistant, with one exception: over the index of a `"neumann_cell"` or
    `"neumann_node"` axis, the cosines are Chebyshev polynomials of the position on Gauss or
    Gauss-Lobatto nodes, `cos(pi t)`. Poles have no basis of waves.
    """

    weights_real: Float[Array, "..."] | tuple[Float[Array, "..."], ...]
    weights_imag: Float[Array, "..."] | tuple[Float[Array, "..."], ...] | None
    num_spatial_dims: int = eqx.field(static=True)
    in_channels: int = eqx.field(static=True)
    out_channels: int = eqx.field(static=True)
    num_modes: tuple[int, ...] = eqx.field(static=True)
    boundary: Boundary = eqx.field(static=True)
    out_boundary: Boundary = eqx.field(static=True)
    structure: Structure = eqx.field(static=True)
    method: Method = eqx.field(static=True)

    @no_type_check
    def __init__(
        self,
        num_spatial_dims: Integer,
        in_channels: Integer,
        out_channels: Integer,
        num_modes: Integers,
        *,
        key: PRNGKeyArray,
        boundary_mode: BoundaryMode = "periodic",
        out_boundary_mode: BoundaryMode | None = None,
        weights: Weights = "dense",
        weight_scale: float | None = None,
        method: Method = "auto",
        dtype: Any = None,
        transform: Method | None = None,
    ):
        """Initialises the weights.

        **Arguments:**

        - `num_spatial_dims`: The number `D >= 1` of spatial axes.
        - `in_channels`: The number of input channels.
        - `out_channels`: The number of output channels.
        - `num_modes`: The number `m` of modes: an integer for all axes, or a sequence of `D`
            integers. An axis of `N` points holds at most `N // 2 + 1` modes if it is the last
            periodic one, `N // 2` if it is another periodic one, and `N` between walls (`N + 1` for
            sines that meet cosines of another grid, because the first such sine is 0).
            neuraloperator's `n_modes` counts both signs: its `(16, 16)` is `(8, 9)` here.
        - `key`: A `jax.random.key` for the initial weights. (Keyword only.)
        - `boundary_mode`: What the field is outside the grid: one of
            [`pdequinox_padding.BOUNDARY_MODES`][] for all axes, or a sequence of `D` entries, one
            per axis, each a name or a pair `(lower, upper)` of names for the two ends of that axis.
            So `[["neumann_cell"] * 2, ["dirichlet_cell"] * 2]` is for two axes. To give input
            channels different modes, use `per_channel((1, "neumann_cell"), (1, "dirichlet_cell"))`.
            See [`pdequinox_padding.pad`][] and [`pdequinox_padding.per_channel`][]. (Keyword only.)
        - `out_boundary_mode`: The boundary mode of the output, in the same forms. `None` means that
            of the input, which must then have one mode for all channels, or as many channels as the
            output. Both must be periodic on the same axes. (Keyword only.)
        - `weights`: What the matrices of the modes consist of: `"dense"`, `"depthwise"` (with as
            many output channels as input channels), `"axiswise"`, `("cp", rank)`, or
            `("tucker", ranks)` with one rank for all or one for each of
            `(out_channels, in_channels, *num_modes)`. (Keyword only.)
        - `weight_scale`: The standard deviation of the initial matrices' real and imaginary parts,
            whatever the matrices consist of. `None` means `1 / (in_channels * out_channels)`, as in
            pdequinox; this makes the output small, and smaller with more channels.
            `(2 * in_channels)**-0.5` keeps the variance of a field of kept modes
            (`in_channels**-0.5` if no axis is periodic; with 1 for `in_channels` if the weights are
            `"depthwise"`). It keeps about half the variance of waves that are constant along the
            last periodic axis, or alternate along it from point to point. We recommend a tenth of
            that scale: the size of the output then does not depend on the number of channels, and
            in an experiment with Adam it trained at least as well as the default, and better than
            the full scale. (Keyword only.)
        - `method`: How every axis is transformed: by a `"product"` with a matrix, by `"fft"`, or by
            `"auto"`, which chooses for each axis from its size, modes, dtype and device. The
            matrices of `"auto"` have at most 4 MB; those of `"product"` may be larger. An axis that
            is split over devices is always multiplied with a matrix. (Keyword only.)
        - `dtype`: The dtype of the parameters: `float16`, `bfloat16`, `float32` or `float64`.
            `None` means JAX's default float. (Keyword only.)
        - `transform`: The name of `method` before version 0.4; deprecated. (Keyword only.)

        The weights are two real arrays, `weights_real` and `weights_imag`, of shape
        `(G, out_channels, in_channels, *num_modes)`, where `G = 2**(P-1)` for `P` periodic axes. On
        each periodic axis but the last, index `i = 0..m-1` of group `g` holds the wavenumber `i` if
        that axis's bit of `g` is 0, and `i - m` if it is 1. The first such axis has the lowest bit.
        Without a periodic axis, `G` is 1 and `weights_imag` is `None`.

        With factors, each of the two is an array `(G, channels, *num_modes)` for `"depthwise"`, and
        else a tuple of arrays. Let `g` be 2 for each periodic axis but the last, and 1 for others.
        For `"axiswise"`, there is one `(g, out_channels, in_channels, m)` for each axis. For
        `"cp"`, there are `(out_channels, R)`, `(in_channels, R)` and one `(g, R, m)` for each axis.
        For `"tucker"`, there are the same, each with its own rank, and then the core of these
        ranks.

        **Raises:** `TypeError` or `ValueError` for an argument that is not as described above.
        """
        self.num_spatial_dims = integer(num_spatial_dims, "num_spatial_dims")
        self.in_channels = integer(in_channels, "in_channels")
        self.out_channels = integer(out_channels, "out_channels")
        self.num_modes = integers(num_modes, self.num_spatial_dims, "num_modes")
        self.boundary = boundary_with_waves(
            boundary_mode, self.num_spatial_dims, self.in_channels, "boundary_mode"
        )
        self.out_boundary = self._out_boundary(out_boundary_mode)
        self._runs()  # Raises an error where they do not meet.
        signed = self._periodic[:-1]
        full = tuple(axis in signed for axis in range(self.num_spatial_dims))
        self.structure = Structure.parse(weights, (self.in_channels, self.out_channels), full)
        parsed_dtype = parameter_dtype(dtype)
        scale = self._weight_scale(weight_scale)
        if transform is not None:
            message = "`transform` is called `method` since pdequinox-spectralconv 0.4."
            warnings.warn(message, DeprecationWarning, stacklevel=2)
            method = transform
        if not (isinstance(method, str) and method in METHODS):
            raise ValueError(f"`method` must be one of {list(METHODS)}, got {method!r}.")
        self.method = method

        shapes = self.structure.shapes((self.in_channels, self.out_channels), self.num_modes)
        keys = jr.split(key)[: 2 if self._periodic else 1]
        deviation = self.structure.deviation(scale, len(keys))
        # A single array has the key itself, as in pdequinox.
        of_arrays = lambda key: jr.split(key, len(shapes)) if len(shapes) > 1 else [key]
        parts = [
            [
                deviation * jr.normal(key, shape, parsed_dtype)
                for key, shape in zip(of_arrays(part_key), shapes, strict=True)
            ]
            for part_key in keys
        ]
        real, *imag = (part[0] if len(part) == 1 else tuple(part) for part in parts)
        self.weights_real, self.weights_imag = real, imag[0] if imag else None

    @property
    def _periodic(self) -> list[int]:
        return [axis for axis, (lower, _) in enumerate(self.boundary.axes) if lower.wraps]

    def _out_boundary(self, boundary_mode: Any) -> Boundary:
        if boundary_mode is None:
            if len(self.boundary.parts) == 1:
                ((_, same),) = self.boundary.parts
                return same
            if self.in_channels == self.out_channels:
                return self.boundary
            raise ValueError(
                "`out_boundary_mode` is required if `boundary_mode` is per channel and the output "
                f"has another number of channels, {self.out_channels} here: their modes do not "
                f"follow from those of the {self.in_channels} channels of the input, "
                f"{self.boundary.boundary_mode!r}."
            )
        boundary = boundary_with_waves(
            boundary_mode, self.num_spatial_dims, self.out_channels, "out_boundary_mode"
        )
        for axis, ends in enumerate(zip(self.boundary.axes, boundary.axes, strict=True)):
            if len({lower.wraps for lower, _ in ends}) == 2:
                raise ValueError(
                    "`out_boundary_mode` must be periodic on the same axes as `boundary_mode`, got "
                    f"{boundary.boundary_mode!r} and {self.boundary.boundary_mode!r}, which differ "
                    f"on spatial axis {axis}."
                )
        return boundary

    def _runs(self) -> tuple[Runs, Runs]:
        channels = (self.in_channels, self.out_channels)
        return runs(self.boundary, self.out_boundary, channels, self.num_modes)

    def _weight_scale(self, weight_scale: Any) -> float:
        if weight_scale is None:
            return 1 / (self.in_channels * self.out_channels)
        try:
            refused = isinstance(weight_scale, bool | np.bool_ | str | bytes)
            scale = math.nan if refused else float(weight_scale)
        except (TypeError, ValueError, OverflowError):
            scale = math.nan
        if not 0 <= scale < math.inf:
            raise ValueError(
                f"`weight_scale` must be None or a finite number >= 0, got {weight_scale!r}."
            )
        return scale

    def _weights(self) -> tuple[tuple[Any, ...], ...]:
        both = (self.weights_real, self.weights_imag)
        parts = tuple(w if isinstance(w, tuple) else (w,) for w in both if w is not None)
        channels = (self.in_channels, self.out_channels)
        wanted = self.structure.shapes(channels, self.num_modes)
        for name, part in zip(("weights_real", "weights_imag"), parts, strict=False):
            found = tuple(w.shape for w in part)
            if found != wanted:
                raise ValueError(
                    f"`{name}` must have the shapes {list(wanted)} of one layer, got "
                    f"{list(found)}; call the members of an ensemble by `equinox.filter_vmap`."
                )
        return parts

    @property
    def weights(self) -> Weights:
        """Gives the kind of the weights, in the form of the argument with this name."""
        return self.structure.spelled

    @property
    def boundary_mode(self) -> str | tuple[Ends, ...] | PerChannel:
        """Gives the boundary mode in its shortest spelling: a name, or a pair of names per axis. If
        channels differ, every run of them has one of these.
        """
        return self.boundary.boundary_mode

    @property
    def out_boundary_mode(self) -> str | tuple[Ends, ...] | PerChannel:
        """Gives the output's boundary mode, spelled like the input's."""
        return self.out_boundary.boundary_mode

    @no_type_check
    def __call__(
        self,
        x: ArrayLike,
        *,
        output_shape: Integers | None = None,
        key: PRNGKeyArray | None = None,
    ) -> Array:
        """Applies the layer to one sample; batches go through `jax.vmap`.

        **Arguments:**

        - `x`: One sample, of shape `(in_channels, N_1, ..., N_D)` and of the parameters' dtype.
        - `output_shape`: The numbers of points of the output: an integer for all axes, or a
            sequence of `D` integers. They are another grid on the same domain, from wall to wall or
            over the same period; `None` means the grid of the input. All modes must fit on both
            grids. `c_k` is that of the input's grid. If a grid has exactly two points per period of
            a wave on the last periodic axis, the wave is real there, and loses the imaginary part
            of its product on that grid only. (Keyword only.)
        - `key`: Ignored. It is here because `equinox.nn.Sequential` passes a key to every layer.

        **Returns:**

        An array of shape `(out_channels, *output_shape)`.

        **Raises:** `ValueError` or `TypeError` for an input of another shape or dtype, for a grid
        that does not hold all modes, and for sizes that `jax.export` leaves open.
        """
        del key
        dims = self.num_spatial_dims
        weights = self._weights()
        x = sample(x, dims, self.in_channels, weights[0][0].dtype)
        if not all(isinstance(n, int) for n in x.shape[1:]):
            raise ValueError(
                "`x` must have known sizes along the axes of space, because the modes of a "
                f"`SpectralConv` depend on them, got shape {x.shape}; only the batch may be open."
            )
        shape, where = x.shape[1:], ""
        if output_shape is not None:
            shape = integers(output_shape, dims, "output_shape")
            where = " of `output_shape`"
        inputs, outputs = self._runs()
        _check_modes(inputs, x.shape[1:], "")
        _check_modes(outputs, shape, where)
        return spectral_convolve(x, weights, self.structure, inputs, outputs, shape, self.method)

    @property
    def receptive_field(self) -> tuple[tuple[float, float], ...]:
        """Gives `(inf, inf)` for every axis: every output depends on every input."""
        return ((math.inf, math.inf),) * self.num_spatial_dims


def dense_weights(
    layer: SpectralConv,
) -> tuple[
    Float[Array, "groups out_channels in_channels *num_modes"],
    Float[Array, "groups out_channels in_channels *num_modes"] | None,
]:
    """Computes the matrices of all modes that a layer's factors stand for. The layer itself never
    does this; it is for tests and for inspection.

    **Arguments:**

    - `layer`: A [`pdequinox_spectralconv.SpectralConv`][] with any kind of `weights`.

    **Returns:**

    The `weights_real` and `weights_imag` of a layer with `weights="dense"` that computes the same
    function. The second is `None` if no axis is periodic. In half precision, sums are taken in
    float32.
    """
    weights = layer._weights()
    if layer.structure.kind == "dense":
        return layer.weights_real, layer.weights_imag
    dtype = weights[0][0].dtype
    wide = tuple(tuple(w.astype(sum_dtype(dtype)) for w in part) for part in weights)
    groups, channels = 2 ** sum(layer.structure.full), jnp.arange(layer.in_channels)
    shape = (layer.in_channels, len(weights), groups, layer.in_channels, *layer.num_modes)
    # The coefficients of one channel at a time are 1: the products are a column of each matrix.
    units = jnp.zeros(shape, wide[0][0].dtype).at[channels, 0, :, channels].set(1)
    columns = jax.vmap(lambda z: multiplied(z, wide, layer.structure))(units)
    real, *imag = jnp.moveaxis(columns, 0, 3).astype(dtype)
    return real, imag[0] if imag else None


def _check_modes(channels: Runs, shape: tuple[int, ...], where: str) -> None:
    """Checks that a grid holds all modes of all channels."""
    for _, bases in channels:
        for axis, (size, basis) in enumerate(zip(shape, bases, strict=True)):
            limit, formula = basis.limit(size)
            if basis.num_modes > limit:
                raise ValueError(
                    f"`num_modes` must be at most {limit} on spatial axis {axis}{where}, which has "
                    f"{size} points ({formula}), got {basis.num_modes}."
                )
