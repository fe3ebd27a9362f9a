"""Defines the Fourier neural operator of neuraloperator 2.0.0 as a pytree of the layers of this
project, and converts its `state_dict` there and back.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast, no_type_check, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from pdequinox_operators.checks import sample
from pdequinox_pointwise import PointwiseLinearConv
from pdequinox_spectralconv import SpectralConv

from ._layers import CannotConvertError, layer_with, named, parameter, spread
from ._neuraloperator import read_weight, spectral_of, spectral_to_neuraloperator


Activation: TypeAlias = Callable[[Array], Array]


def _exact_gelu(x: Array) -> Array:
    """Computes GELU with the error function, as PyTorch does; JAX's default is an approximation."""
    return jax.nn.gelu(x, approximate=False)


ACTIVATIONS: dict[str, Activation] = {
    "gelu": _exact_gelu,
    "relu": jax.nn.relu,
    "silu": jax.nn.silu,
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "softplus": jax.nn.softplus,
    "elu": jax.nn.elu,
}


class SoftGating(eqx.Module):
    """Multiplies every channel by a number."""

    weight: Float[Array, " channels *ones"]

    def __call__(self, x: Float[Array, " channels *spatial"]) -> Float[Array, " channels *spatial"]:
        """Applies the gating to one sample."""
        return self.weight * x


Skip: TypeAlias = PointwiseLinearConv | SoftGating | eqx.nn.Identity


class ChannelMLP(eqx.Module):
    """Applies pointwise layers, with an activation between them."""

    layers: tuple[PointwiseLinearConv, ...]
    activation: Activation = eqx.field(static=True)

    def __call__(self, x: Float[Array, " in *spatial"]) -> Float[Array, " out *spatial"]:
        """Applies the layers to one sample."""
        for layer in self.layers[:-1]:
            x = self.activation(layer(x))
        return self.layers[-1](x)


class FNOBlock(eqx.Module):
    """Adds a skip connection to a spectral convolution, and another to an MLP of the channels.

    With a spectral convolution `S`, skips `p` and `q`, norms `n_1` and `n_2` and an activation `a`,
    the output is `a(n_2(mlp(a(n_1(S(x)) + p(x))) + q(x)))`; the last block of a network has no `a`.
    With `preactivation`, the output is `mlp(n_2(a(S(z) + p(z)))) + q(z)`, where `z = n_1(a(x))`;
    the last block has only the innermost `a`. The `stabilizer` is applied before `S`.
    """

    spectral: SpectralConv
    bias: Float[Array, " channels *ones"]
    skip: Skip | None
    mlp: ChannelMLP | None
    mlp_skip: Skip | None
    norms: tuple[eqx.nn.GroupNorm, eqx.nn.GroupNorm] | None
    activation: Activation = eqx.field(static=True)
    is_last: bool = eqx.field(static=True)
    preactivation: bool = eqx.field(static=True)
    stabilizer: str | None = eqx.field(static=True)

    def __call__(self, x: Float[Array, " channels *spatial"]) -> Float[Array, " channels *spatial"]:
        """Applies the block to one sample."""
        if self.preactivation:
            x = self._norm(0, self.activation(x))
        convolved = self.spectral(jnp.tanh(x) if self.stabilizer == "tanh" else x) + self.bias
        if not self.preactivation:
            convolved = self._norm(0, convolved)
        out = convolved if self.skip is None else convolved + self.skip(x)
        out = self._activation(out)
        if self.preactivation:
            out = self._norm(1, out)
        if self.mlp is not None:
            out = self.mlp(out)
            out = out if self.mlp_skip is None else out + self.mlp_skip(x)
        return out if self.preactivation else self._activation(self._norm(1, out))

    def _norm(self, place: int, x: Array) -> Array:
        return x if self.norms is None else self.norms[place](x)

    def _activation(self, x: Array) -> Array:
        return x if self.is_last else self.activation(x)


class FNO(eqx.Module):
    """Computes what the Fourier neural operator of neuraloperator does (Li et al., "Fourier Neural
    Operator for Parametric Partial Differential Equations", https://arxiv.org/abs/2010.08895). It
    adds coordinates as channels, and applies a lifting, blocks on a padded domain and a projection.

    [`pdequinox_convert.load_neuraloperator_fno`][] makes it. All of its arrays are parameters.
    """

    lifting: ChannelMLP
    blocks: tuple[FNOBlock, ...]
    projection: ChannelMLP
    positional_embedding: str | None = eqx.field(static=True)
    domain_padding: tuple[float, ...] | None = eqx.field(static=True)

    @property
    def num_spatial_dims(self) -> int:
        """Gives the number of spatial axes."""
        return self.blocks[0].spectral.num_spatial_dims

    @property
    def in_channels(self) -> int:
        """Gives the number of input channels, without those of the coordinates."""
        coordinates = self.num_spatial_dims if self.positional_embedding else 0
        return self.lifting.layers[0].in_channels - coordinates

    @no_type_check
    def __call__(
        self, x: Float[Array, " in_channels *spatial"], *, key: PRNGKeyArray | None = None
    ) -> Float[Array, " out_channels *spatial"]:
        """Applies the network to one sample; batches go through `jax.vmap`.

        **Arguments:**

        - `x`: One sample, of shape `(in_channels, N_1, ..., N_D)` and of the parameters' dtype.
        - `key`: Ignored. It is here because `equinox.nn.Sequential` passes a key to every layer.

        **Returns:**

        An array of shape `(out_channels, N_1, ..., N_D)`.

        **Raises:** `ValueError` or `TypeError` for an input of another shape or dtype, and for a
        grid that does not hold all modes.
        """
        del key
        dtype = self.lifting.layers[0].weight.dtype
        x = sample(x, self.num_spatial_dims, self.in_channels, dtype)
        shape = x.shape[1:]
        if self.positional_embedding:
            # Coordinates go from 0 to 1, without the end.
            axes = [jnp.arange(n, dtype=dtype) / n for n in shape]
            x = jnp.concatenate([x, *(c[None] for c in jnp.meshgrid(*axes, indexing="ij"))])
        x = self.lifting(x)
        if self.domain_padding is not None:
            widths = [round(p * n) for p, n in zip(self.domain_padding, shape, strict=True)]
            x = jnp.pad(x, [(0, 0), *((w, w) for w in widths)])
        for block in self.blocks:
            x = block(x)
        if self.domain_padding is not None:
            within = (slice(w, w + n) for w, n in zip(widths, shape, strict=True))
            x = x[(slice(None), *within)]
        return self.projection(x)


# The arguments of neuraloperator's FNO in their order, and their defaults. Arguments that the
# arrays also determine are compared with these, if they are given.
UNSAID = object()
OPTIONS: dict[str, Any] = {
    "n_modes": UNSAID,
    "in_channels": UNSAID,
    "out_channels": UNSAID,
    "hidden_channels": UNSAID,
    "n_layers": UNSAID,
    "lifting_channel_ratio": 2,
    "projection_channel_ratio": 2,
    "positional_embedding": "grid",
    "non_linearity": "gelu",
    "norm": None,
    "complex_data": False,
    "use_channel_mlp": True,
    "channel_mlp_dropout": 0,
    "channel_mlp_expansion": 0.5,
    "channel_mlp_skip": "soft-gating",
    "fno_skip": "linear",
    "resolution_scaling_factor": None,
    "domain_padding": None,
    "fno_block_precision": "full",
    "stabilizer": None,
    "max_n_modes": None,
    "factorization": UNSAID,
    "rank": 1.0,
    "fixed_rank_modes": False,
    "implementation": "factorized",
    "decomposition_kwargs": None,
    "separable": UNSAID,
    "preactivation": False,
    "conv_module": "SpectralConv",
}

SKIPS = ("linear", "identity", "soft-gating", None)
ALLOWED: dict[str, tuple[Any, ...]] = {
    "positional_embedding": ("grid", None),
    "norm": (None, "group_norm", "instance_norm"),
    "complex_data": (False,),
    "use_channel_mlp": (True, False),
    "channel_mlp_dropout": (0,),
    "channel_mlp_skip": SKIPS,
    "fno_skip": SKIPS,
    "resolution_scaling_factor": (None,),
    "fno_block_precision": ("full",),
    "stabilizer": (None, "tanh"),
    "factorization": (UNSAID, "dense", "cp", "tucker"),
    "separable": (UNSAID, False, True),
    "preactivation": (True, False),
    "conv_module": ("SpectralConv",),
}


@no_type_check
def load_neuraloperator_fno(
    state_dict: Mapping[str, Any], *, dtype: Any = None, **options: Any
) -> FNO:
    """Makes the network of an FNO of neuraloperator 2.0.0 from its `state_dict`.

    Outputs are equal on grids with even numbers of points along all axes but the last (after the
    padding of the domain). On odd numbers, neuraloperator shifts wavenumbers.

    **Arguments:**

    - `state_dict`: The `state_dict` of a `neuralop.models.FNO`. Its entries are arrays of NumPy, or
        anything that NumPy reads as an array, such as tensors in main memory. Its entry
        `"_metadata"`, which neuraloperator adds, has the arguments with which the network was made.
    - `dtype`: The dtype of the parameters; `None` means that of the entries. (Keyword only.)
    - `options`: Arguments of the network, by their names in neuraloperator. They override those in
        `"_metadata"`, which say what the network was made with, and not what was changed later,
        such as `n_modes` in incremental training. Arguments in neither have neuraloperator's
        defaults. Supported are `n_modes` (all that the weights have, or fewer), `factorization`
        (`None`, `"CP"` or `"Tucker"`, with any `rank` and `implementation`), `separable` (for a
        network without factorization), `positional_embedding` (`"grid"` or `None`),
        `non_linearity` (`"gelu"`, `"relu"`, `"silu"`, `"tanh"`, `"sigmoid"`, `"softplus"`, `"elu"`,
        or any function of JAX), `norm` (`None`, `"group_norm"` or `"instance_norm"`),
        `use_channel_mlp`, `channel_mlp_skip` and `fno_skip` (`"linear"`, `"identity"`,
        `"soft-gating"` or `None`), `domain_padding`, `stabilizer` (`None` or `"tanh"`) and
        `preactivation`. (Keyword only.)

    **Returns:**

    A [`pdequinox_convert.FNO`][].

    **Raises:** `CannotConvertError`, a `ValueError`, which names the option or the entry that is
    not supported, is missing or is not expected; `TypeError` for an unknown option.
    """
    settings = _settings(state_dict.get("_metadata"), options)
    entries = {name: value for name, value in state_dict.items() if name != "_metadata"}
    reader = _Reader(entries, dtype)
    numbers = {name.split(".")[2] for name in entries if name.startswith("fno_blocks.convs.")}
    if not numbers:
        raise CannotConvertError(
            "`state_dict` must have entries 'fno_blocks.convs.*', as an FNO has, got "
            f"{sorted(entries)[:8]}."
        )
    blocks = tuple(
        _block(reader, index, index == len(numbers) - 1, settings) for index in range(len(numbers))
    )
    dims = blocks[0].spectral.num_spatial_dims
    lifting = reader.mlp("lifting", dims, settings["non_linearity"])
    projection = reader.mlp("projection", dims, settings["non_linearity"])
    if other := sorted({*entries} - reader.read):
        raise CannotConvertError(
            f"`state_dict` has the entries {other}, which a network with the options "
            f"{_shown(settings)} does not have."
        )
    model = FNO(
        lifting, blocks, projection, settings["positional_embedding"],
        _padding(settings["domain_padding"], dims),
    )  # fmt: skip
    for name, found in (
        ("in_channels", model.in_channels),
        ("out_channels", projection.layers[-1].out_channels),
        ("hidden_channels", blocks[0].spectral.in_channels),
        ("n_layers", len(blocks)),
    ):
        if settings[name] is not UNSAID and settings[name] != found:
            raise CannotConvertError(
                f"`{name}` must be {found}, as the arrays of `state_dict` say, got "
                f"{settings[name]!r}."
            )
    return model


@no_type_check
def fno_to_neuraloperator(
    model: FNO, *, non_linearity: Any = None
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Gives the arguments and the entries of the FNO of neuraloperator that computes the same.

    **Arguments:**

    - `model`: A [`pdequinox_convert.FNO`][].
    - `non_linearity`: The function of PyTorch that is the network's activation. It becomes one of
        the arguments. It is required for any activation but GELU, which is neuraloperator's
        default. (Keyword only.)

    **Returns:**

    The arguments of `neuralop.models.FNO`, and the arrays for its `load_state_dict`, which
    `torch.from_numpy` must convert first.

    **Raises:** `TypeError` for another model; `CannotConvertError`, a `ValueError`, if
    `non_linearity` is required, or if [`pdequinox_convert.spectral_to_neuraloperator`][] raises it.
    """
    if not isinstance(model, FNO):
        raise TypeError(f"`model` must be a `pdequinox_convert.FNO`, got a `{named(type(model))}`.")
    if non_linearity is None and model.lifting.activation is not ACTIVATIONS["gelu"]:
        raise CannotConvertError(
            "`non_linearity` must be the function of PyTorch that the network's activation is, "
            f"{model.lifting.activation!r}, got None."
        )
    state: dict[str, np.ndarray] = {}

    def write_mlp(name: str, mlp: ChannelMLP) -> None:
        for place, layer in enumerate(mlp.layers):
            state[f"{name}.fcs.{place}.weight"] = _flat(layer.weight, 1)
            state[f"{name}.fcs.{place}.bias"] = _flat(layer.bias, 0)

    def write_skip(name: str, skip: Skip | None) -> str | None:
        if isinstance(skip, PointwiseLinearConv):
            state[f"{name}.conv.weight"] = _flat(skip.weight, 1)
            return "linear"
        if isinstance(skip, SoftGating):
            state[f"{name}.weight"] = np.array(skip.weight)[None]
            return "soft-gating"
        return None if skip is None else "identity"

    first = model.blocks[0]
    kinds = [(block.spectral.num_modes, block.spectral.weights) for block in model.blocks]
    if len({*kinds}) > 1:
        raise CannotConvertError(
            "`model` must have the same `num_modes` and `weights` in all of its blocks, because "
            f"neuraloperator's FNO has one setting for all, got {kinds}."
        )
    for index, block in enumerate(model.blocks):
        n_modes, weight = spectral_to_neuraloperator(block.spectral)
        entries = weight if isinstance(weight, dict) else {"tensor": weight}
        state |= {f"fno_blocks.convs.{index}.weight.{k}": array for k, array in entries.items()}
        state[f"fno_blocks.convs.{index}.bias"] = np.array(block.bias)
        fno_skip = write_skip(f"fno_blocks.fno_skips.{index}", block.skip)
        mlp_skip = write_skip(f"fno_blocks.channel_mlp_skips.{index}", block.mlp_skip)
        if block.mlp is not None:
            write_mlp(f"fno_blocks.channel_mlp.{index}", block.mlp)
        for place, norm in enumerate(block.norms or ()):
            if norm.channelwise_affine:
                name = f"fno_blocks.norm.{2 * index + place}"
                state[f"{name}.weight"] = np.array(norm.weight)
                state[f"{name}.bias"] = np.array(norm.bias)
    write_mlp("lifting", model.lifting)
    write_mlp("projection", model.projection)

    hidden = first.spectral.in_channels
    norm = None
    if first.norms is not None:
        norm = "group_norm" if first.norms[0].channelwise_affine else "instance_norm"
    lifted = model.lifting.layers[0].out_channels if len(model.lifting.layers) > 1 else 0
    arguments = {
        "n_modes": n_modes,
        "in_channels": model.in_channels,
        "out_channels": model.projection.layers[-1].out_channels,
        "hidden_channels": hidden,
        "n_layers": len(model.blocks),
        "lifting_channel_ratio": _ratio(lifted, hidden),
        "projection_channel_ratio": _ratio(model.projection.layers[0].out_channels, hidden),
        "positional_embedding": model.positional_embedding,
        "norm": norm,
        "use_channel_mlp": first.mlp is not None,
        "channel_mlp_skip": mlp_skip,
        "fno_skip": fno_skip,
        "domain_padding": None if model.domain_padding is None else [*model.domain_padding],
        "stabilizer": first.stabilizer,
        "preactivation": first.preactivation,
        "separable": first.spectral.weights == "depthwise",
    }
    if "core" in entries:
        arguments |= {"factorization": "Tucker", "rank": entries["core"].shape}
    elif "weights" in entries:
        arguments |= {"factorization": "CP", "rank": entries["weights"].size}
    if non_linearity is not None:
        arguments["non_linearity"] = non_linearity
    if first.mlp is not None:
        arguments["channel_mlp_expansion"] = first.mlp.layers[0].out_channels / hidden
    return arguments, state


def _flat(array: Array, kept: int) -> np.ndarray:
    """Drops all axes of space, which have length 1, except for `kept` of them."""
    channels = 2 if kept else 1
    return np.array(array).reshape(*array.shape[:channels], *(1,) * kept)


def _ratio(channels: int, hidden: int) -> float:
    """Finds a ratio for which `int(ratio * hidden)` is the number of channels."""
    exact = channels / hidden
    return exact if int(exact * hidden) == channels else (channels + 0.5) / hidden


def _settings(metadata: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Merges the caller's options, those of the `state_dict`, and neuraloperator's defaults."""
    if unknown := sorted({*options} - {*OPTIONS}):
        raise TypeError(f"`options` must be among {[*OPTIONS]}, got {unknown}.")
    given = dict(metadata or {})
    positional = dict(zip(OPTIONS, given.pop("args", ()), strict=False))
    given = {name: value for name, value in given.items() if name in OPTIONS}
    settings = {**OPTIONS, **given, **positional, **options}
    # neuraloperator ignores the case of these.
    for name in ("factorization", "channel_mlp_skip", "fno_skip"):
        if isinstance(settings[name], str):
            settings[name] = settings[name].lower()
    if settings["factorization"] is None:
        settings["factorization"] = "dense"
    if isinstance(module := settings["conv_module"], type):
        settings["conv_module"] = module.__name__
    for name, allowed in ALLOWED.items():
        value = settings[name]
        known = value is UNSAID or isinstance(value, str | int | float | None)
        if not known or value not in allowed:
            shown = [choice for choice in allowed if choice is not UNSAID]
            raise CannotConvertError(
                f"`{name}` must be one of {shown}, which these layers can represent, got {value!r}."
            )
    if settings["max_n_modes"] is not None and settings["n_modes"] is UNSAID:
        raise CannotConvertError(
            "`n_modes` must be given if `max_n_modes` is, because the weights do not tell how many "
            "modes are in use."
        )
    own = "non_linearity" in options
    settings["non_linearity"] = _activation(settings["non_linearity"], own)
    return settings


def _activation(function: Any, own: bool) -> Activation:
    """Finds the function of JAX for a function or module of PyTorch. If it is the caller's `own`,
    it may already be a function of JAX.
    """
    name: Any = function
    if (getattr(function, "__module__", None) or "").partition(".")[0] == "torch":
        # The text of a module shows its settings.
        name = _MODULES.get(repr(function)) or getattr(function, "__name__", repr(function))
    elif own and callable(function):
        return cast(Activation, function)
    if name not in ACTIVATIONS:
        raise CannotConvertError(
            f"`non_linearity` must be one of {[*ACTIVATIONS]} or a function of JAX, got "
            f"{function!r}."
        )
    return ACTIVATIONS[name]


_MODULES = {
    "GELU(approximate='none')": "gelu",
    "ReLU()": "relu",
    "SiLU()": "silu",
    "Tanh()": "tanh",
    "Sigmoid()": "sigmoid",
    "Softplus(beta=1.0, threshold=20.0)": "softplus",
    "ELU(alpha=1.0)": "elu",
}


def _shown(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Selects the options that determine which entries there are."""
    names = ("norm", "use_channel_mlp", "channel_mlp_skip", "fno_skip")
    return {name: settings[name] for name in names}


def _padding(domain_padding: Any, dims: int) -> tuple[float, ...] | None:
    if domain_padding is None:
        return None
    # neuraloperator silently takes anything else, even a tuple, for no padding.
    scalar = isinstance(domain_padding, int | float)
    fractions = [domain_padding] * dims if scalar else domain_padding
    numbers = isinstance(fractions, list) and len(fractions) == dims
    if not (numbers and all(isinstance(f, int | float) and f >= 0 for f in fractions)):
        raise CannotConvertError(
            "`domain_padding` must be None, a number >= 0 or a list of such numbers, one per "
            f"spatial axis ({dims} here), got {domain_padding!r}."
        )
    return tuple(map(float, fractions)) if any(fractions) else None


class _Reader:
    """Reads the entries of a `state_dict`, and remembers which ones it has read."""

    def __init__(self, entries: Mapping[str, Any], dtype: Any):
        self.entries, self.dtype, self.read = entries, dtype, set()

    def names(self, prefix: str) -> Iterator[str]:
        return (name for name in self.entries if name.startswith(f"{prefix}."))

    def raw(self, name: str) -> Any:
        if name not in self.entries:
            raise CannotConvertError(
                f"`state_dict` must have an entry {name!r}, got {sorted(self.entries)}."
            )
        self.read.add(name)
        return self.entries[name]

    def array(self, name: str) -> Array:
        return parameter(self.raw(name), name, self.dtype)

    def pointwise(self, name: str, dims: int, use_bias: bool) -> PointwiseLinearConv:
        weight = self.array(f"{name}.weight")
        out_channels, in_channels = weight.shape[:2]
        arrays = {"weight": weight.reshape(out_channels, in_channels, *(1,) * dims), "bias": None}
        if use_bias:
            arrays["bias"] = spread(self.array(f"{name}.bias"), dims)
        return layer_with(
            arrays,
            PointwiseLinearConv,
            num_spatial_dims=dims,
            in_channels=in_channels,
            out_channels=out_channels,
            use_bias=use_bias,
        )

    def mlp(self, name: str, dims: int, activation: Activation) -> ChannelMLP:
        count = len({*self.names(f"{name}.fcs")}) // 2
        if count == 0:
            self.raw(f"{name}.fcs.0.weight")
        layers = [self.pointwise(f"{name}.fcs.{i}", dims, True) for i in range(count)]
        return ChannelMLP(tuple(layers), activation)

    def skip(self, name: str, kind: str | None, dims: int) -> Skip | None:
        if kind == "linear":
            return self.pointwise(f"{name}.conv", dims, False)
        if kind == "soft-gating":
            return SoftGating(self.array(f"{name}.weight")[0])
        return None if kind is None else eqx.nn.Identity()


def _block(reader: _Reader, index: int, is_last: bool, settings: Mapping[str, Any]) -> FNOBlock:
    name = f"fno_blocks.convs.{index}"
    bias = reader.array(f"{name}.bias")
    dims = bias.ndim - 1
    spectral = _spectral(reader, f"{name}.weight", dims, settings)
    norms = None
    channels = spectral.out_channels
    if settings["norm"] == "instance_norm":
        norm = eqx.nn.GroupNorm(channels, channels, channelwise_affine=False)
        norms = (norm, norm)
    elif settings["norm"] == "group_norm":
        first, second = (_group_norm(reader, 2 * index + place, channels) for place in range(2))
        norms = (first, second)
    mlp = mlp_skip = None
    if settings["use_channel_mlp"]:
        # neuraloperator has its default activation here, whatever `non_linearity` is.
        mlp = reader.mlp(f"fno_blocks.channel_mlp.{index}", dims, _exact_gelu)
        kind = settings["channel_mlp_skip"]
        mlp_skip = reader.skip(f"fno_blocks.channel_mlp_skips.{index}", kind, dims)
    return FNOBlock(
        spectral=spectral,
        bias=bias,
        skip=reader.skip(f"fno_blocks.fno_skips.{index}", settings["fno_skip"], dims),
        mlp=mlp,
        mlp_skip=mlp_skip,
        norms=norms,
        activation=settings["non_linearity"],
        is_last=is_last,
        preactivation=settings["preactivation"],
        stabilizer=settings["stabilizer"],
    )


def _spectral(reader: _Reader, name: str, dims: int, settings: Mapping[str, Any]) -> SpectralConv:
    arrays = {n.removeprefix(f"{name}."): reader.raw(n) for n in [*reader.names(name)]}
    if not arrays:
        reader.raw(f"{name}.tensor")
    if {key.partition(".")[0] for key in arrays} == {"factors"}:
        raise CannotConvertError(
            "`factorization` must be None, 'CP' or 'Tucker', but `state_dict` has only factors, as "
            f"'TT' has, in {name!r}: {sorted(arrays)}."
        )
    weight = read_weight(arrays, name)
    separable = len(weight.shape) == dims + 1
    if separable and weight.kind != "dense":
        raise CannotConvertError(
            f"`separable` must be False if `factorization` is {weight.kind!r}, because layers with "
            f"one multiplier per channel are dense here, but {name!r} has factors of a "
            f"weight of shape {weight.shape} in {dims} dimensions."
        )
    for option, found in (("factorization", weight.kind), ("separable", separable)):
        said = settings[option]
        if said is not UNSAID and said != found:
            raise CannotConvertError(
                f"`{option}` must be {found!r}, as the arrays of `state_dict` say, got {said!r}."
            )
    n_modes = settings["n_modes"]
    return spectral_of(weight, None if n_modes is UNSAID else n_modes, separable, reader.dtype)


def _group_norm(reader: _Reader, place: int, channels: int) -> eqx.nn.GroupNorm:
    norm = eqx.nn.GroupNorm(1, channels)
    arrays = [reader.array(f"fno_blocks.norm.{place}.{name}") for name in ("weight", "bias")]
    return eqx.tree_at(lambda n: (n.weight, n.bias), norm, arrays)
