"""Converts whole models: replaces every layer that can be replaced by one of this project."""

import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import equinox as eqx
import jax

import pdequinox_padding
import pdequinox_physconv
import pdequinox_pointwise
import pdequinox_spectralconv
from pdequinox_physconv import MorePaddingConv, MorePaddingConvTranspose
from pdequinox_pointwise import PointwiseLinearConv
from pdequinox_spectralconv import SpectralConv

from ._equinox import BASES, conv_from_equinox
from ._layers import named, only_made_differently
from ._pdequinox import known


OWN = (MorePaddingConv, MorePaddingConvTranspose, PointwiseLinearConv, SpectralConv)


@dataclass(frozen=True)
class Replaced:
    """Says which layer was replaced: its place in the model, and both classes."""

    path: str
    before: str
    after: str


@dataclass(frozen=True)
class Left:
    """Says which layer was left: its place in the model, its class, and the reason."""

    path: str
    before: str
    reason: str


@dataclass(frozen=True)
class Report:
    """Lists what [`pdequinox_convert.adopt`][] replaced, and what it left and why, in the order of
    the model. `print` shows it as text.
    """

    replaced: tuple[Replaced, ...]
    left: tuple[Left, ...]

    def __str__(self) -> str:
        lines = [f"{len(self.replaced)} replaced, {len(self.left)} left"]
        lines += [f"  {r.path}: {r.before} -> {r.after}" for r in self.replaced]
        lines += [f"  {r.path}: {r.before} left, because {r.reason}" for r in self.left]
        return "\n".join(lines)


def adopt(model: Any) -> tuple[Any, Report]:
    """Replaces the convolutions of pdequinox 0.1.2 and of Equinox in a model by those of this
    project.

    Arrays stay as they are, and outputs and gradients are equal up to rounding. A layer of
    pdequinox, or of a class that differs from it only in its constructor, becomes the layer of the
    same name. Layers of Equinox become what [`pdequinox_convert.conv_from_equinox`][] gives. A
    layer that computes something that these layers do not is left, and the report says why.

    Two kinds of pdequinox's layers are not what they were meant to be. Transposed layers with even
    kernels are shifted by a point: they become a [`pdequinox_physconv.MorePaddingConvTranspose`][]
    that is shifted, too. Spectral layers let modes overwrite each other on a grid that does not
    hold them all, such as 12 modes on 22 x 22 points; here, this is an error when the layer is
    called.

    **Arguments:**

    - `model`: Any pytree: a network, a layer, an ensemble of networks made by
        `equinox.filter_vmap`, or the state of an optimiser of `optax` for one of these, which
        becomes the state for the adopted model. In a state, only the shape of its weights tells the
        number of dimensions of a spectral layer. If the shape allows several, as for one channel
        with equally many modes along two axes, the layer is left, and the state must be made for
        the adopted model.

    **Returns:**

    The pytree with its layers replaced, and a [`pdequinox_convert.Report`][].
    """
    nodes, treedef = jax.tree_util.tree_flatten_with_path(model, is_leaf=_is_foreign)
    replaced, left = [], []
    leaves = []
    for path, node in nodes:
        if _is_foreign(node):
            where, before = jax.tree_util.keystr(path), named(type(node))
            try:
                after = _replacement(node)
            except (TypeError, ValueError) as reason:
                left.append(Left(where, before, str(reason).rstrip(".")))
            else:
                replaced.append(Replaced(where, before, named(type(after))))
                node = after
        leaves.append(node)
    adopted = jax.tree_util.tree_unflatten(treedef, leaves)
    return adopted, Report(tuple(replaced), tuple(left))


def _base(cls: type) -> type | None:
    """Finds the convolution of another library that a class is, or is derived from."""
    if issubclass(cls, OWN):
        return None
    return next((base for base in cls.__mro__ if base in BASES or known(base)), None)


def _is_foreign(node: Any) -> bool:
    return isinstance(node, eqx.Module) and _base(type(node)) is not None


def _replacement(layer: Any) -> eqx.Module:
    base = _base(type(layer))
    assert base is not None
    if not only_made_differently(type(layer), base):
        raise TypeError(f"it is derived from `{named(base)}`, and may compute something else")
    if convert := known(base):
        return convert(layer)
    return conv_from_equinox(layer)


def provide_pdequinox_conv() -> None:
    """Puts the layers of this project in the place of `pdequinox.conv`, before it is imported.

    The blocks and architectures of pdequinox 0.1.2, and whatever is built from them, such as the
    networks of APEBench, are then made of the layers here from the start, with the same initial
    weights for the same key. Call it once, before the first import of pdequinox or of anything that
    imports it.

    **Raises:** `RuntimeError` if pdequinox has been imported already, because its classes then hold
    its own layers. [`pdequinox_convert.adopt`][] replaces the layers of existing models.
    """
    if sys.modules.get(PROVIDED) is _module:
        return
    if "pdequinox" in sys.modules:
        raise RuntimeError(
            "`provide_pdequinox_conv` must be called before the first import of `pdequinox`, which "
            "has been imported already, perhaps by another library such as apebench. Move the call "
            "before that import, or use `adopt` on the networks."
        )
    sys.modules[PROVIDED] = _module


def _public_names() -> dict[str, Any]:
    packages = (
        pdequinox_padding, pdequinox_physconv, pdequinox_pointwise, pdequinox_spectralconv
    )  # fmt: skip
    names = {name: value for package in packages for name, value in vars(package).items()}
    return {n: v for n, v in names.items() if n[0] != "_" and not isinstance(v, ModuleType)}


PROVIDED = "pdequinox.conv"
_module = ModuleType(PROVIDED, "Holds the layers of this project in the place of pdequinox's.")
vars(_module).update(_public_names())
