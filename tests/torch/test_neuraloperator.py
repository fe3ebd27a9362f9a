"""Tests conversions of neuraloperator 2.0.0's layers and networks by `state_dict`, and back."""

import functools
import itertools
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import torch

from pdequinox_convert import (
    CannotConvertError,
    FNO,
    fno_to_neuraloperator,
    load_neuraloperator_fno,
    spectral_from_neuraloperator,
    spectral_to_neuraloperator,
)
from pdequinox_spectralconv import dense_weights, SpectralConv


with warnings.catch_warnings():
    # Warnings of the libraries that it depends on.
    warnings.simplefilter("ignore")
    import neuralop.layers.spectral_convolution
    import neuralop.models


EPS = float(np.finfo(np.float32).eps)


def normal(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def outputs(other, x, **keywords):
    with torch.no_grad():
        return other(torch.from_numpy(x)[None], **keywords)[0].numpy()


def their_layer(channels, n_modes, seed=0, **arguments):
    torch.manual_seed(seed)
    return neuralop.layers.spectral_convolution.SpectralConv(
        *channels, n_modes, bias=False, **arguments
    )


def assert_same_layer(mine, other, x):
    """Compares two outputs. Both go through a transform along every axis, a product with a matrix
    of the channels and a transform back: `2 * sum(shape) + 2 * C_in` roundings. The error is
    compared in the 2-norm: by Parseval's theorem `||y|| <= max ||W_k|| ||x||`, over all modes,
    which count up to twice.
    """
    expected = outputs(other, x)
    actual = np.asarray(mine(x))
    assert actual.shape == expected.shape and actual.dtype == np.float32
    bound = roundings(mine, x.shape) * np.linalg.norm(x)
    assert np.linalg.norm(actual - expected) <= bound


def roundings(layer, shape):
    """Bounds the distance of two outputs for fields of norm 1. Each factor adds a product, and the
    ranks add sums; all of these are as large as with absolute values.
    """
    n = 2 * sum(shape[1:]) + 2 * shape[0]
    real, imag = map(np.asarray, dense_weights(layer))
    weights = real + 1j * imag
    if layer.structure.ranks:
        n += 2 * sum(layer.structure.ranks) + 2 * (layer.num_spatial_dims + 3)
        absolute = [
            jnp.hypot(*parts) for parts in zip(layer.weights_real, layer.weights_imag, strict=True)
        ]
        zeros = tuple(map(jnp.zeros_like, absolute))
        where = lambda layer: (layer.weights_real, layer.weights_imag)
        weights = np.asarray(dense_weights(eqx.tree_at(where, layer, (tuple(absolute), zeros)))[0])
    gain = np.linalg.norm(np.moveaxis(weights, (1, 2), (-2, -1)), 2, axis=(-2, -1)).max()
    return 2 * n * EPS * 2 * gain


# (spatial shape, n_modes): even and odd numbers of modes, up to all, odd last axes.
LAYERS = [
    ((16,), (8,)),
    ((15,), (9,)),
    ((12,), (12,)),
    ((8, 10), (6, 4)),
    ((8, 10), (8, 10)),
    ((8, 11), (5, 7)),
    ((10, 6), (3, 1)),
    ((6, 8, 4), (4, 3, 2)),
    ((8, 6, 9), (8, 5, 8)),
    ((4, 6, 4, 6), (2, 3, 4, 5)),
]


@pytest.mark.converts("spectral convolution", "neuraloperator", "spectral_from_neuraloperator")
@pytest.mark.converts("spectral convolution", "to neuraloperator", "spectral_to_neuraloperator")
@pytest.mark.parametrize(("shape", "n_modes"), LAYERS, ids=str)
def test_spectral_convolution(shape, n_modes):
    other = their_layer((2, 3), n_modes)
    weight = other.state_dict()["weight.tensor"].numpy()
    mine = spectral_from_neuraloperator(weight)
    x = normal((2, *shape))
    assert_same_layer(mine, other, x)

    there, array = spectral_to_neuraloperator(mine)
    again = their_layer((2, 3), there, seed=1)
    again.load_state_dict({"weight.tensor": torch.from_numpy(array)})
    assert_same_layer(mine, again, x)
    if all(n % 2 == 0 for n in n_modes[:-1]):
        np.testing.assert_array_equal(array, weight)


@pytest.mark.parametrize(
    ("shape", "n_modes", "max_n_modes"),
    [((16,), (6,), (12,)), ((10, 12), (6, 4), (8, 8)), ((10, 12), (5, 5), (8, 10))],
)
def test_modes_that_are_not_in_use(shape, n_modes, max_n_modes):
    other = their_layer((2, 3), n_modes, max_n_modes=max_n_modes)
    mine = spectral_from_neuraloperator(other.state_dict()["weight.tensor"].numpy(), n_modes)
    assert_same_layer(mine, other, normal((2, *shape)))


# (spatial shape, n_modes, max_n_modes): also odd numbers, and modes that are not used.
SHAPES = [
    ((15,), (9,), None),
    ((16,), (6,), (12,)),
    ((8, 10), (6, 4), None),
    ((10, 12), (5, 5), (8, 10)),
    ((8, 6, 9), (8, 5, 8), None),
    ((8, 6, 4), (3, 4, 3), (6, 5, 3)),
]
KINDS = {
    "CP": dict(factorization="CP", rank=5),
    "CP, factors": dict(factorization="CP", rank=4, implementation="factorized"),
    "Tucker": dict(factorization="Tucker", rank=0.6),
    "Tucker, factors": dict(factorization="tucker", rank=0.3, implementation="factorized"),
    "Tucker, fixed": dict(factorization="Tucker", rank=0.5, fixed_rank_modes=True),
    "separable": dict(separable=True),
    "separable, factors": dict(separable=True, implementation="factorized"),
}


@pytest.mark.converts("spectral convolution", "neuraloperator", "spectral_from_neuraloperator")
@pytest.mark.converts("spectral convolution", "to neuraloperator", "spectral_to_neuraloperator")
@pytest.mark.parametrize(("shape", "n_modes", "max_n_modes"), SHAPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_spectral_convolution_with_fewer_weights(kind, shape, n_modes, max_n_modes):
    arguments = KINDS[kind]
    separable = "separable" in arguments
    channels = (3, 3) if separable else (3, 2)
    other = their_layer(channels, n_modes, max_n_modes=max_n_modes, **arguments)
    with torch.no_grad():
        for parameter in other.parameters():  # The weights of CP are ones at first.
            parameter += 0.1 * torch.randn_like(parameter)
    in_use = None if max_n_modes is None else n_modes
    mine = spectral_from_neuraloperator(other.state_dict(), in_use, separable=separable)
    assert mine.structure.kind == ("depthwise" if separable else arguments["factorization"].lower())
    x = normal((3, *shape))
    assert_same_layer(mine, other, x)

    # The gradient by the field is the adjoint, which enlarges errors as much.
    cotangent = normal((channels[1], *shape), seed=1)
    there = torch.from_numpy(x).requires_grad_()
    (other(there[None])[0] * torch.from_numpy(cotangent)).sum().backward()
    _, pullback = jax.vjp(mine, jnp.asarray(x))
    (here,) = pullback(jnp.asarray(cotangent))
    bound = roundings(mine, cotangent.shape) * np.linalg.norm(cotangent)
    assert np.linalg.norm(np.asarray(here) - there.grad.numpy()) <= bound

    n_modes_there, weight = spectral_to_neuraloperator(mine)
    given = {**arguments, "fixed_rank_modes": False}
    if isinstance(weight, dict):
        given["rank"] = weight["core"].shape if "core" in weight else len(weight["weights"])
    again = their_layer(channels, n_modes_there, seed=1, **given)
    entries = weight if isinstance(weight, dict) else {"tensor": weight}
    again.weight.load_state_dict({name: torch.from_numpy(a) for name, a in entries.items()})
    assert_same_layer(mine, again, x)
    if max_n_modes is None and all(n % 2 == 0 for n in n_modes[:-1]) and "weights" not in entries:
        for name, array in entries.items():
            np.testing.assert_array_equal(array, other.weight.state_dict()[name].numpy())


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("'TT'", dict(factorization="TT", rank=0.5)),
        ("`separable`", dict(factorization="CP", rank=2, separable=True)),
        ("`separable`", dict(factorization="Tucker", rank=0.5, separable=True)),
        ("'bias'", dict(bias=True)),
    ],
)
def test_weights_that_are_not_representable_are_refused_by_name(name, arguments):
    cls = neuralop.layers.spectral_convolution.SpectralConv
    other = cls(3, 3, (4, 4), **{"bias": False, **arguments})
    with pytest.raises(CannotConvertError, match=name):
        spectral_from_neuraloperator(other.state_dict(), (4, 4))


def test_the_initial_scale_and_the_modes_of_the_readme():
    """Sixteen of neuraloperator's modes are eight of both signs, or nine of one sign."""
    other = their_layer((3, 5), (16, 16))
    weight = other.state_dict()["weight.tensor"].numpy()
    assert spectral_from_neuraloperator(weight).num_modes == (8, 9)
    # Their scale, (2 / (in + out))**0.5, is that of the complex number.
    scale = (2 / (3 + 5)) ** 0.5
    draws = weight.size
    mean = np.mean(np.abs(weight) ** 2)
    # The variance of |w|^2 is scale^4 for a complex normal number; five standard deviations.
    assert abs(mean - scale**2) < 5 * scale**2 / draws**0.5


def networks():
    """Lists networks with every supported option, in 1-D to 3-D, most in combinations."""
    yield "1-D", ((16,), (8,), {})
    yield "2-D", ((8, 10), (6, 4), {})
    yield "3-D", ((8, 6, 6), (4, 4, 3), {})
    yield "no coordinates", ((16,), (8,), dict(positional_embedding=None, n_layers=2))
    yield "relu", ((16,), (8,), dict(non_linearity=torch.nn.functional.relu))
    yield "module", ((16,), (8,), dict(non_linearity=torch.nn.SiLU()))
    for norm in ("group_norm", "instance_norm"):
        yield norm, ((8, 8), (4, 6), dict(norm=norm, n_layers=2))
        yield f"{norm} before", ((12,), (8,), dict(norm=norm, preactivation=True, n_layers=3))
    for skips in itertools.product(("linear", "identity", "soft-gating", None), repeat=2):
        arguments = dict(fno_skip=skips[0], channel_mlp_skip=skips[1], n_layers=2)
        yield f"skips {skips}", ((12,), (6,), arguments)
    yield "no MLP", ((8, 8), (4, 4), dict(use_channel_mlp=False, norm="group_norm"))
    yield "before", ((8, 8), (4, 4), dict(preactivation=True))
    yield "tanh", ((8, 8), (4, 4), dict(stabilizer="tanh", n_layers=1))
    yield "padding", ((12, 8), (6, 4), dict(domain_padding=0.25))
    yield "paddings", ((12, 8), (6, 4), dict(domain_padding=[0.25, 0.0], n_layers=2))
    yield "one lifting layer", ((16,), (8,), dict(lifting_channel_ratio=0))
    ratios = dict(lifting_channel_ratio=1.4, projection_channel_ratio=0.9)
    yield "ratios", ((16,), (8,), dict(channel_mlp_expansion=1.7, **ratios))
    yield "fewer modes", ((8, 12), (4, 6), dict(max_n_modes=(8, 8), n_layers=2))
    yield "CP", ((8, 10), (6, 4), dict(factorization="CP", rank=4, n_layers=2))
    reconstructed = dict(factorization="cp", rank=4, implementation="reconstructed")
    yield "CP, whole", ((16,), (7,), dict(**reconstructed, n_layers=2))
    tucker = dict(factorization="Tucker", rank=0.4)
    yield "Tucker", ((8, 6, 6), (4, 4, 3), dict(**tucker, n_layers=2))
    yield "Tucker, fewer", ((8, 12), (4, 6), dict(**tucker, max_n_modes=(8, 8), n_layers=2))
    yield "separable", ((8, 10), (5, 4), dict(separable=True, n_layers=2))


NETWORKS = dict(networks())


def their_network(n_modes, arguments, seed=0):
    torch.manual_seed(seed)
    other = neuralop.models.FNO(n_modes, 2, 3, 7, **arguments)
    with torch.no_grad():
        for parameter in other.parameters():  # Soft gates are ones at first, the norms' too.
            parameter += 0.1 * torch.randn_like(parameter)
    return other.eval()


def assert_same_network(mine, other, x):
    """Compares networks. Each layer sums at most `n` numbers, along the axes and over channels, and
    is off by as many roundings of its largest value. The layers after it enlarge that error by no
    more than the network enlarges a change of its input, up to a factor of two.
    """
    apply = jax.jit(lambda x: mine(x))
    expected = outputs(other, x)
    actual = np.asarray(apply(x))
    assert actual.shape == expected.shape and actual.dtype == np.float32
    n = 2 * sum(x.shape[1:]) + 2 * 10
    depth = len(mine.blocks) + 4
    change = np.asarray(apply(x + 1e-2 * np.abs(x).max() * normal(x.shape, seed=9))) - actual
    gain = 2 * np.abs(change).max() / 1e-2
    size = max(gain, np.abs(expected).max())
    assert np.abs(actual - expected).max() <= n * depth * EPS * size


@pytest.mark.converts("network", "neuraloperator", "load_neuraloperator_fno")
@pytest.mark.converts("network", "to neuraloperator", "fno_to_neuraloperator")
@pytest.mark.parametrize("name", NETWORKS)
def test_network(name):
    shape, n_modes, arguments = NETWORKS[name]
    other = their_network(n_modes, arguments)
    state = other.state_dict()
    mine = load_neuraloperator_fno(state)
    assert isinstance(mine, FNO)
    x = normal((2, *shape))
    assert_same_network(mine, other, x)

    given, arrays = fno_to_neuraloperator(mine, non_linearity=arguments.get("non_linearity"))
    again = neuralop.models.FNO(**given).eval()
    again.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    assert_same_network(mine, again, x)

    # Options that are not neuraloperator's defaults leave out what it adds.
    bare = {name: array.numpy() for name, array in state.items() if name != "_metadata"}
    options = {k: v for k, v in arguments.items() if k not in ("n_layers", "max_n_modes")}
    same = load_neuraloperator_fno(bare, n_modes=n_modes, **options)
    assert jax.tree.structure(same) == jax.tree.structure(mine)


def test_another_activation_is_not_lost_on_the_way_back():
    mine = load_neuraloperator_fno(
        their_network((4,), dict(non_linearity=torch.tanh, n_layers=1)).state_dict()
    )
    with pytest.raises(CannotConvertError, match="`non_linearity` must be the function of PyTorch"):
        fno_to_neuraloperator(mine)


def test_modes_that_were_changed_after_the_network_was_made():
    """The metadata has the modes that the layer was made with; the caller says which count."""
    other = their_network((8,), dict(n_layers=1))
    other.n_modes = (4,)
    x = normal((2, 16))
    assert_same_network(load_neuraloperator_fno(other.state_dict(), n_modes=(4,)), other, x)
    with pytest.raises(CannotConvertError, match="`n_modes` must be given"):
        load_neuraloperator_fno(
            {k: v for k, v in other.state_dict().items() if k != "_metadata"}, max_n_modes=(8,)
        )


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        dict(factorization="CP", rank=4),
        dict(factorization="Tucker", rank=0.4),
        dict(separable=True),
    ],
    ids=str,
)
def test_gradients_agree(arguments):
    other = their_network((6, 4), dict(n_layers=2, **arguments))
    with torch.no_grad():
        for name, parameter in other.named_parameters():
            if name.endswith(".weight.weights"):  # CP's, which become part of a factor here.
                parameter.fill_(1)
    mine = load_neuraloperator_fno(other.state_dict())
    x = normal((2, 8, 10))
    there = torch.from_numpy(x).requires_grad_()
    out = other(there[None])
    (out**2).sum().backward()
    theirs = {name: p.grad.numpy() for name, p in other.named_parameters()}
    gradient = jax.grad(lambda model: jnp.sum(model(x) ** 2))(mine)
    _, ours = fno_to_neuraloperator(gradient)
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        # PyTorch's gradient of a complex number is that of its parts, like JAX's by the two arrays.
        if name.endswith(".weight.weights"):
            continue
        size = np.abs(theirs[name]).max()
        n = (2 * 18 + 2 * 10) * 2 * 6
        assert np.abs(array - theirs[name]).max() <= n * EPS * size, name
    by_field = np.asarray(jax.grad(lambda x: jnp.sum(mine(x) ** 2))(jnp.asarray(x)))
    size = np.abs(by_field).max()
    assert np.abs(by_field - there.grad.numpy()).max() <= n * EPS * size


@pytest.mark.converts("network", "neuraloperator", "load_neuraloperator_fno")
@pytest.mark.converts("network", "to neuraloperator", "fno_to_neuraloperator")
def test_the_tucker_network_by_its_own_name():
    """The metadata do not name the factorization, and list the other arguments in order."""
    torch.manual_seed(0)
    other = neuralop.models.TFNO((6, 4), 2, 3, 8, n_layers=2, rank=0.3).eval()
    mine = load_neuraloperator_fno(other.state_dict())
    assert mine.blocks[0].spectral.structure.kind == "tucker"
    x = normal((2, 8, 10))
    assert_same_network(mine, other, x)
    given, arrays = fno_to_neuraloperator(mine)
    assert given["factorization"] == "Tucker"
    again = neuralop.models.FNO(**given).eval()
    again.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    assert_same_network(mine, again, x)


REFUSED = {
    "domain_padding": dict(domain_padding=(0.25, 0.25)),  # neuraloperator ignores it.
    "stabilizer": dict(stabilizer="Tanh"),  # It ignores this too.
    "complex_data": dict(complex_data=True),
    "resolution_scaling_factor": dict(resolution_scaling_factor=2),
    "fno_block_precision": dict(fno_block_precision="mixed"),
    "factorization": dict(factorization="tt", rank=0.5),
    "separable": dict(separable=True, factorization="cp", rank=2),
    "norm": dict(norm="batch_norm"),
    "channel_mlp_dropout": dict(channel_mlp_dropout=0.1),
    "positional_embedding": dict(
        positional_embedding=neuralop.layers.embeddings.GridEmbeddingND(2, 2, [[0, 2], [0, 1]])
    ),
    "non_linearity": dict(non_linearity=torch.nn.GELU(approximate="tanh")),
    "conv_module": dict(
        conv_module=type("Other", (neuralop.layers.spectral_convolution.SpectralConv,), {})
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_option_that_is_not_representable_is_refused_by_name(name):
    state = their_network((4, 4), dict(n_layers=1, **REFUSED[name])).state_dict()
    with pytest.raises(CannotConvertError, match=f"`{name}`"):
        load_neuraloperator_fno(state)


def test_a_function_of_pytorch_in_disguise_is_refused():
    function = functools.partial(torch.nn.functional.gelu, approximate="tanh")
    state = their_network((4, 4), dict(n_layers=1, non_linearity=function)).state_dict()
    with pytest.raises(CannotConvertError, match="`non_linearity`"):
        load_neuraloperator_fno(state)


def test_tensors_with_a_tape_are_named():
    other = their_network((4, 4), dict(n_layers=1))
    with pytest.raises(TypeError, match=r"`fno_blocks\.convs\.0\.bias` must be an array"):
        load_neuraloperator_fno(other.state_dict(keep_vars=True))


def test_refused_without_metadata_where_the_entries_show_it():
    for name in ("factorization", "separable", "complex_data", "norm"):
        state = their_network((4, 4), dict(n_layers=1, **REFUSED[name])).state_dict()
        del state["_metadata"]
        with pytest.raises(CannotConvertError):
            load_neuraloperator_fno(state)


def test_a_layer_between_walls_has_no_counterpart_there():
    walls = SpectralConv(2, 2, 3, 4, boundary_mode=["periodic", "neumann"], key=jr.key(0))
    with pytest.raises(CannotConvertError, match="periodic along every axis"):
        spectral_to_neuraloperator(walls)


def test_in_double_precision(x64):
    other = their_network((6, 4), {})
    mine = load_neuraloperator_fno(other.state_dict(), dtype="float64")
    x = normal((2, 8, 10))
    expected = outputs(other, x)
    actual = np.asarray(mine(x.astype("float64")))
    assert actual.dtype == np.float64
    assert np.abs(actual - expected).max() <= 56 * 8 * EPS * np.abs(expected).max()
