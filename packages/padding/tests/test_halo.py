"""Tests `halo_pad` against the extension of the whole field, and what it sends.

The fields on several devices are dyadic numbers of few bits, whose sums and products in float64 are
exact in any order, so that results must be equal.
"""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from collectives import collectives
from hypothesis import given, strategies as st
from jax.experimental.custom_partitioning import custom_partitioning
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

from pdequinox_padding import Boundary, BOUNDARY_MODES, halo_pad, pad, per_channel
from pdequinox_padding._exchange import exchange


def jaxpr_of(widths, mode, names, shape=(2, 6), **bound):
    """Traces the program of one of several devices on the mesh axes `bound`."""
    pads = lambda x: halo_pad(x, widths, mode, names)
    return jax.make_jaxpr(pads, axis_env=list(bound.items()))(jnp.zeros(shape))


def carried_out(plan, field, blocks, constants):
    """Computes what every device has in the end: the transfers on arrays, then the pieces."""
    own = field.reshape(blocks, -1)
    strips = [[block] for block in own]
    for start, stop, pairs in plan.transfers:
        received = {to: own[sender, start:stop] for sender, to in pairs}
        for block in range(blocks):
            strips[block].append(received.get(block))

    def side(halo, block):
        (pieces,) = (pieces for pieces, where in halo if block in where)
        for strip, ((index, sign, *walls, _), step, length) in pieces:
            read = strips[block][strip][index + step * np.arange(length)]
            yield from sign * read + np.dot(walls, constants)

    return [
        [*side(plan.below, block), *own[block], *side(plan.above, block)] for block in range(blocks)
    ]


@given(data=st.data())
def test_transfers_bring_the_extension_and_nothing_else(data):
    size, blocks = data.draw(st.integers(1, 5), "size"), data.draw(st.integers(1, 6), "blocks")
    periodic, *mixed = oracles.ALL_ENDS
    ends = data.draw(st.just(periodic) | st.sampled_from(mixed), "ends")
    # The halo ends within the next block, of which a part is sent, or further away.
    width = st.integers(0, size) | st.integers(0, 40)
    widths = data.draw(st.tuples(width, width), "widths")
    total, (lower, upper), constants = size * blocks, widths, (0.5, -3.0)
    plan = exchange(size, blocks, widths, Boundary.parse([ends], 1).axes[0])

    field = np.random.default_rng(0).permutation(total) + 1.0
    rows, constant = oracles.extension_matrix(range(-lower, total + upper), total, ends, constants)
    windows = [slice(d * size, (d + 1) * size + lower + upper) for d in range(blocks)]
    expected = rows @ field + constant
    actual = carried_out(plan, field, blocks, constants)
    np.testing.assert_array_equal(actual, [expected[window] for window in windows])

    arrived = set()
    for start, stop, pairs in plan.transfers:
        # Each pair of devices needs some of the transfer, and together they need all of it.
        needs = {
            (a, to): rows[windows[to], a * size + start : a * size + stop].any(0) for a, to in pairs
        }
        assert all(need.any() for need in needs.values()) and np.any([*needs.values()], 0).all()
        assert len({a for a, _ in pairs}) == len({to for _, to in pairs}) == len(pairs)
        arrivals = {(to, a, i) for a, to in pairs for i in range(start, stop)}
        assert not arrivals & arrived and all(to != a for a, to in pairs)
        arrived |= arrivals


@pytest.mark.parametrize("mode", BOUNDARY_MODES)
@pytest.mark.parametrize("widths", [(1, 0), (2, 3), (3, 4), (0, 4)])
def test_a_width_within_the_block_is_one_transfer(mode, widths):
    size, blocks, (lower, upper) = 5, 4, widths
    up = [(d, d + 1) for d in range(blocks - 1)]
    down = [(d + 1, d) for d in range(blocks - 1)]
    if mode == "periodic":
        up, down = [*up, (blocks - 1, 0)], [*down, (0, blocks - 1)]
    expected = [each for each in ((size - lower, size, up), (0, upper, down)) if each[0] < each[1]]
    transfers = exchange(size, blocks, widths, Boundary.parse(mode, 1).axes[0]).transfers
    actual = [(start, stop, sorted(pairs)) for start, stop, pairs in transfers]
    assert sorted(actual) == sorted((start, stop, sorted(pairs)) for start, stop, pairs in expected)


@pytest.mark.parametrize("widths", [(2, 2), (1, 3), (3, 2)])
def test_intervals_that_touch_or_overlap_are_one_transfer(widths):
    """Both neighbours of one of two periodic blocks are the other one, and all of it is needed."""
    (transfer,) = exchange(4, 2, widths, Boundary.parse("periodic", 1).axes[0]).transfers
    assert transfer == (0, 4, ((1, 0), (0, 1)))


@pytest.mark.parametrize("ends", oracles.ALL_ENDS, ids="-".join)
def test_long_halos_are_planned_by_runs(ends):
    """Point by point, this would take hours. Even so wide a halo has at most three edges of blocks
    or of their images in it, and the two of a wall.
    """
    size, blocks, widths = 10**7, 8, (10**7, 2 * 10**7 + 3)
    plan = exchange(size, blocks, widths, Boundary.parse([ends], 1).axes[0])
    for halo, width in zip((plan.below, plan.above), widths, strict=True):
        assert sorted(block for _, where in halo for block in where) == [*range(blocks)]
        for pieces, _ in halo:
            assert sum(piece.run.length for piece in pieces) == width and len(pieces) <= 6


def test_what_is_sent_is_sliced_first():
    for mode in BOUNDARY_MODES:
        names, widths = ["a", None, "b"], [(1, 3), 2, (2, 0)]
        sent = [
            (equation.invars[0].aval.shape, equation.params["axis_name"])
            for equation in jaxpr_of(widths, mode, names, (4, 5, 6), a=3, b=2).eqns
            if str(equation.primitive) == "ppermute"
        ]
        assert sorted(sent) == [((1, 5, 6), ("a",)), ((3, 5, 6), ("a",)), ((8, 9, 2), ("b",))]


@pytest.mark.parametrize("mode", ["periodic", "neumann", "zeros"])
def test_half_precision_is_sent_and_single_is_summed(mode):
    pads = lambda x: halo_pad(x, [(2, 3)], mode, ["a"])

    def both(x):
        y, pull = jax.vjp(pads, x)
        return pull(y)

    found = {"ppermute": set(), "add": set()}
    x = jnp.zeros((2, 6), jnp.bfloat16)
    for equation in jax.make_jaxpr(both, axis_env=[("a", 3)])(x).eqns:
        dtype = equation.outvars[0].aval.dtype
        if jnp.issubdtype(dtype, jnp.floating):
            found.get(str(equation.primitive).removesuffix("_any"), set()).add(str(dtype))
    assert found == {"ppermute": {"bfloat16"}, "add": {"float32"}}


@pytest.mark.parametrize("mode", BOUNDARY_MODES)
def test_no_widths_no_work(mode):
    assert not jaxpr_of([0, (0, 0)], mode, ["a", None], a=4).eqns


def test_axes_that_are_not_split_are_padded():
    for names in ([None], [()], ["a"], [("a", "b")]):
        primitives = {str(e.primitive) for e in jaxpr_of([2], "neumann", names, a=1, b=1).eqns}
        assert primitives == {"slice", "rev", "concatenate"}


@pytest.mark.parametrize(
    "widths, names, error, text",
    [
        ([1], ["z"], ValueError, "got ['z'], where 'z' is not bound"),
        ([1], [("a", "z")], ValueError, "where 'z' is not bound"),
        ([1, 1], ["a"], ValueError, "(2 here)"),
        ([1, 1], ["a"], ValueError, "got ['a'], which has 1 entries"),
        ([1, 1], ["a", "a"], ValueError, "where 'a' appears twice"),
        ([1, 1], ["b", ("a", "b")], ValueError, "where 'b' appears twice"),
        ([1], "a", TypeError, "`axis_names` must be a sequence"),
        ([1], None, TypeError, "`axis_names` must be a sequence"),
        ([1], [0], TypeError, "where 0 is not a name"),
        ([1], [("a", None)], TypeError, "where None is not a name"),
        ([1], [("a", "b")], ValueError, "('a', 'b'), where their order in the mesh is not known"),
        ([-1], ["a"], ValueError, "`widths` must be an integer >= 0"),
        (1, ["a"], TypeError, "`widths` must be a sequence"),
    ],
)
def test_bad_arguments(widths, names, error, text):
    with pytest.raises(error, match=re.escape(text)):
        jaxpr_of(widths, "neumann", names, a=2, b=2)


def test_arguments_that_pad_refuses():
    with pytest.raises(ValueError, match="where 'wall' is unknown"):
        jaxpr_of([1], "wall", ["a"], a=2)
    with pytest.raises(ValueError, match="`value` needs an end"):
        halo_pad(jnp.zeros((2, 3)), [1], "neumann", [None], value=1.0)
    with pytest.raises(TypeError, match="signed dtype"):
        halo_pad(jnp.zeros((2, 3), "uint8"), [1], "dirichlet_cell", [None])


@functools.cache
def mesh():
    """Makes a mesh of eight devices."""
    return jax.make_mesh((2, 2, 2), ("a", "b", "c"), axis_types=(AxisType.Auto,) * 3)


def random(shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).integers(-64, 64, shape) / 8)


def sharded(function, names, check_vma=True):
    """Splits axes of arrays over the axes of the mesh with those names."""
    spec = P(*names)
    return jax.jit(
        jax.shard_map(function, mesh=mesh(), in_specs=spec, out_specs=spec, check_vma=check_vma)
    )


def count(entry):
    """Counts the blocks of an axis."""
    return 1 if entry is None else 2 ** len((entry,) if isinstance(entry, str) else entry)


def windows(extended, widths, names):
    """Cuts the windows that the blocks see from the extension of the whole field, side by side."""
    for axis, (pair, entry) in enumerate(zip(widths, names, strict=True), -len(widths)):
        blocks = count(entry)
        size = (extended.shape[axis] - sum(pair)) // blocks
        places = [np.arange(size + sum(pair)) + block * size for block in range(blocks)]
        extended = jnp.take(extended, np.concatenate(places), axis)
    return extended


@pytest.mark.usefixtures("x64")
def test_blocks_of_every_extension():
    x, names = random((2, 12)), (None, ("c", "a"))
    cases = []
    for ends in oracles.ALL_ENDS:
        given = zip(ends, (1.5, -0.25), strict=True)
        values = tuple(v if mode.startswith("dirichlet") else None for mode, v in given)
        value = None if values == (None, None) else (values,)
        for widths in ((2, 1), (5, 17)):
            cases.append((ends, widths, value))

    def extensions(x):
        return [halo_pad(x, [w], [ends], names[1:], value) for ends, w, value in cases]

    results = sharded(extensions, names)(x)
    for (ends, widths, value), result in zip(cases, results, strict=True):
        positions = range(-widths[0], 12 + widths[1])
        values = [v or 0.0 for v in value[0]] if value else (0.0, 0.0)
        rows, constant = oracles.extension_matrix(positions, 12, ends, values)
        expected = windows(x @ rows.T + constant[None], [widths], names[1:])
        np.testing.assert_array_equal(result, expected, str((ends, widths)))


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("seed", range(24))
def test_random_blocks_on_several_axes(seed):
    draw = np.random.default_rng(seed)
    dims = int(draw.integers(1, 4))
    free, names = draw.permutation(["a", "b", "c"]).tolist(), []
    for _ in range(dims):
        taken = [free.pop() for _ in range(int(draw.integers(0, min(len(free), 2) + 1)))]
        names.append(None if not taken else taken[0] if len(taken) == 1 else tuple(taken))
    shape = [count(entry) * int(draw.integers(1, 4)) for entry in names]
    widths = [tuple(draw.integers(0, 6, 2).tolist()) for _ in names]
    ends = [oracles.ALL_ENDS[draw.integers(len(oracles.ALL_ENDS))] for _ in names]
    walls = any(mode.startswith("dirichlet") for pair in ends for mode in pair)
    value = random(3, seed) if walls else None
    x = random((2, 3, *shape), seed)
    check_vma = bool(seed % 2)

    pads = lambda x: halo_pad(x, widths, ends, names, value)
    actual = sharded(pads, (None, None, *names), check_vma)(x)
    whole = jax.jit(lambda x: windows(pad(x, widths, ends, value), widths, names))
    case = str((seed, shape, names, widths, ends))
    np.testing.assert_array_equal(actual, whole(x), case)


SIGNS = ("neumann_cell", "dirichlet_cell")


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("seed", range(12))
def test_random_modes_per_channel(seed):
    draw = np.random.default_rng(seed)
    dims = int(draw.integers(1, 4))
    free = draw.permutation(["a", "b", "c"]).tolist()
    names = [free.pop() if draw.random() < 0.7 else None for _ in range(dims)]
    shape = [count(entry) * int(draw.integers(1, 4)) for entry in names]
    widths = [tuple(draw.integers(0, 7, 2).tolist()) for _ in names]
    modes = SIGNS if seed % 2 else oracles.END_MODES
    ends = lambda: [tuple(draw.choice(modes, 2).tolist()) for _ in names]
    mode = per_channel(*((int(draw.integers(1, 3)), ends()) for _ in range(3)))
    walls = any(m.startswith("dirichlet") for _, ends in mode.runs for pair in ends for m in pair)
    value = random(mode.num_channels, seed) if walls else None
    x = random((2, mode.num_channels, *shape), seed)
    pads = lambda x: halo_pad(x, widths, mode, names, value)
    actual = sharded(pads, (None, None, *names), bool(seed % 2))(x)
    whole = jax.jit(lambda x: windows(pad(x, widths, mode, value), widths, names))
    np.testing.assert_array_equal(actual, whole(x), str((seed, shape, names, widths, mode)))


POLES = {
    "the longitude": (None, "a"),
    "the longitude, in four": (None, ("c", "a")),
    "the latitude": ("b", None),
    "the latitude, in four": (("a", "b"), None),
    "both": ("c", "b"),
    "both, in eight": (("b", "a"), "c"),
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("names", POLES.values(), ids=POLES)
@pytest.mark.parametrize("ends", [("pole_cell", "pole_cell"), ("pole_node_odd", "pole_cell_odd")])
def test_blocks_over_poles(names, ends):
    """Tests both orders of the axes, within the first rows and far beyond, and the transpose."""
    x = random((2, 8, 8))
    for widths in ([(1, 2), (2, 1)], [(9, 3), (0, 5)]):
        mode = [ends, "periodic"]
        for order in (slice(None), slice(None, None, -1)):
            field = x if order == slice(None) else x.swapaxes(1, 2)
            pads = lambda x, w=widths[order], m=mode[order], n=names[order]: halo_pad(x, w, m, n)
            whole = jax.jit(
                lambda x, w=widths[order], m=mode[order], n=names[order]: windows(
                    pad(x, w, m), w, n
                )
            )
            spread = sharded(pads, (None, *names[order]))
            expected = whole(field)
            np.testing.assert_array_equal(spread(field), expected)
            y = random(expected.shape, 1)
            transposes = [jax.linear_transpose(each, field)(y)[0] for each in (spread, whole)]
            np.testing.assert_array_equal(*transposes)


@pytest.mark.usefixtures("x64")
def test_an_odd_number_of_blocks_around_the_pole():
    """Half way around three blocks is a block and a half: parts of the blocks of two devices."""
    three = jax.make_mesh((3,), ("a",), axis_types=(AxisType.Auto,), devices=jax.devices()[:3])
    x, mode, widths = random((2, 4, 12)), ["pole_cell", "periodic"], [(2, 3), (1, 2)]
    for order in (slice(None), slice(None, None, -1)):
        names, field = (None, "a")[order], x if order == slice(None) else x.swapaxes(1, 2)
        pads = lambda x, n=names, o=order: halo_pad(x, widths[o], mode[o], n)
        spec = P(None, *names)
        found = jax.jit(jax.shard_map(pads, mesh=three, in_specs=spec, out_specs=spec))(field)
        whole = pad(field, widths[order], mode[order])
        axis = 1 + names.index("a")
        places = [np.arange(4 + 3) + 4 * block for block in range(3)]
        np.testing.assert_array_equal(found, jnp.take(whole, np.concatenate(places), axis))


@pytest.mark.usefixtures("x64")
def test_only_devices_at_the_poles_exchange_over_them():
    """Of four rows of two blocks, only the first and the last row send over the poles."""
    x = jax.ShapeDtypeStruct((3, 16, 8), float)
    pads = sharded(
        lambda x: halo_pad(x, [(1, 1), 0], ["pole_cell", "periodic"], [("a", "b"), "c"]),
        (None, ("a", "b"), "c"),
    )
    # Between the rows, 3 times 2 devices send each way; over the poles, two at each.
    assert sent(pads, x) == [((3, 1, 4), 2), ((3, 1, 4), 2), ((3, 1, 4), 6), ((3, 1, 4), 6)]


def test_poles_need_an_even_number_of_points_in_all():
    with pytest.raises(ValueError, match=re.escape("even number of points along the longitude")):
        jaxpr_of([1, 0], ["pole_cell", "periodic"], [None, "a"], (4, 3), a=3)
    jaxpr_of([1, 0], ["pole_cell", "periodic"], [None, "a"], (4, 3), a=2)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(
    "mode", [("neumann", "dirichlet_cell"), "periodic", ("outflow", "dirichlet_node")]
)
def test_transpose_derivatives_and_batches(mode):
    names, widths, ends = (("b", "a"), "c"), [(3, 6), (1, 2)], [mode, "neumann_cell"]
    whole = jax.vmap(lambda x: windows(pad(x, widths, ends), widths, names))
    blocks = jax.vmap(lambda x: halo_pad(x, widths, ends, names))
    x, tangent = random((5, 2, 8, 6)), random((5, 2, 8, 6), 1)
    y = random(jax.eval_shape(whole, x).shape, 2)

    def derivatives(pads):
        @jax.jit
        def all_of_them(x, tangent, y):
            (transposed,) = jax.linear_transpose(pads, x)(y)
            gradient = jax.grad(lambda x: jnp.sum(y * pads(x) ** 2))(x)
            return *jax.jvp(pads, (x,), (tangent,)), transposed, gradient

        return jax.device_get(all_of_them(x, tangent, y))

    expected = derivatives(whole)
    for check_vma in (True, False):
        actual = derivatives(sharded(blocks, (None, None, *names), check_vma))
        for a, b in zip(actual, expected, strict=True):
            np.testing.assert_array_equal(a, b)
        padded, _, transposed, _ = actual
        assert np.vdot(padded, y) == np.vdot(x, transposed)


@pytest.mark.usefixtures("x64")
def test_derivatives_by_wall_values_that_all_devices_share():
    names, widths, mode = (("b", "a"), "c"), [(3, 6), (1, 2)], "dirichlet_cell"
    blocks = lambda x, value: halo_pad(x, widths, mode, names, value)
    whole = lambda x, value: windows(pad(x, widths, mode, value), widths, names)
    x, value, spec = random((2, 8, 6)), random(2, 3), P(None, *names)

    def gradients(pads):
        return jax.jit(jax.grad(lambda x, v: jnp.sum(pads(x, v) ** 2), (0, 1)))(x, value)

    expected = gradients(whole)
    for check_vma in (True, False):
        pads = jax.shard_map(
            blocks, mesh=mesh(), in_specs=(spec, P()), out_specs=spec, check_vma=check_vma
        )
        for a, b in zip(gradients(pads), expected, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.usefixtures("x64")
def test_dtypes():
    dtypes = ("float32", "float64", "bfloat16", "complex64", "int32", "uint8", "bool")
    given = {dtype: jnp.arange(32).reshape(2, 16).astype(dtype) for dtype in dtypes}
    unsigned = ("uint8", "bool")
    ends = {d: "neumann" if d in unsigned else ("neumann", "dirichlet_cell") for d in dtypes}

    blocks = lambda fields: {d: halo_pad(x, [(1, 3)], [ends[d]], ["c"]) for d, x in fields.items()}
    whole = lambda x, d: windows(pad(x, [(1, 3)], [ends[d]]), [(1, 3)], ["c"])
    actual = sharded(blocks, (None, "c"))(given)
    expected = jax.jit(lambda fields: {d: whole(x, d) for d, x in fields.items()})(given)
    for dtype in dtypes:
        assert actual[dtype].dtype == dtype
        np.testing.assert_array_equal(actual[dtype], expected[dtype], dtype)


@pytest.mark.usefixtures("x64")
def test_what_is_not_read_may_be_anything():
    x, pair = jnp.full((1, 16), jnp.inf), ("a", "b")
    pads = sharded(lambda x: halo_pad(x, [(2, 2)], "dirichlet", [pair]), (None, pair))
    padded = np.asarray(pads(x))
    assert not np.any(np.isnan(padded)) and np.sum(padded == 0) == 4


@pytest.mark.usefixtures("x64")
def test_convolution_in_blocks():
    names, widths = (("a", "c"), "b"), [(1, 1), (1, 2)]
    weight, x = random((3, 2, 3, 4)), random((2, 8, 6), 1)
    ends, spec = ["neumann_cell", ("dirichlet_cell", "outflow")], P(None, *names)

    def valid(weight, padded):
        return jax.lax.conv_general_dilated(padded[None], weight, (1, 1), "VALID")[0]

    def blockwise(weight, block):
        return valid(weight, halo_pad(block, widths, ends, names))

    def value_and_gradients(layer):
        loss = lambda weight, x: jnp.sum(layer(weight, x) ** 2)
        both = lambda *given: (layer(*given), *jax.grad(loss, (0, 1))(*given))
        return jax.jit(both)(weight, x)

    expected = value_and_gradients(lambda weight, x: valid(weight, pad(x, widths, ends)))
    for check_vma in (True, False):
        layer = jax.shard_map(
            blockwise, mesh=mesh(), in_specs=(P(), spec), out_specs=spec, check_vma=check_vma
        )
        for a, b in zip(value_and_gradients(layer), expected, strict=True):
            np.testing.assert_array_equal(a, b)


def sent(function, *arguments):
    """Lists the shape of every message, and how many devices send it; all are permutations."""
    found = collectives(function.lower(*arguments).compile())
    assert {c.kind for c in found} == {"collective-permute"}
    return sorted((shape, c.group) for c in found for shape in c.shapes)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("mode", BOUNDARY_MODES)
def test_messages_of_the_compiled_program(mode):
    names, x = (None, ("b", "a"), None, "c"), jax.ShapeDtypeStruct((3, 16, 5, 8), float)
    pads = sharded(lambda x: halo_pad(x, [(1, 2), 2, (0, 3)], mode, names[1:]), names)
    # Four blocks twice, then two blocks four times; without a wrap around, one block sends nothing.
    first, last = (8, 8) if mode == "periodic" else (6, 4)
    expected = [((3, 1, 5, 4), first), ((3, 2, 5, 4), first), ((3, 7, 9, 3), last)]
    assert sent(pads, x) == expected
    transpose = jax.jit(lambda y: jax.linear_transpose(pads, x)(y)[0])
    y = jax.eval_shape(pads, x)
    split = jax.ShapeDtypeStruct(y.shape, y.dtype, sharding=NamedSharding(mesh(), P(*names)))
    assert sent(transpose, split) == expected


@pytest.mark.usefixtures("x64")
def test_messages_from_further_than_the_next_block():
    # A block and a half: all four points of the next device, and two of the device after it.
    pads = sharded(lambda x: halo_pad(x, [(6, 0)], "outflow", [("a", "b")]), (("a", "b"),))
    assert sent(pads, jnp.zeros(16)) == [((2,), 4), ((4,), 6)]
    # Each of two periodic blocks has the whole field once it has the other block.
    pads = sharded(lambda x: halo_pad(x, [(9, 9)], "periodic", ["a"]), ("a",))
    assert sent(pads, jnp.zeros(8)) == [((4,), 8)]


@pytest.mark.usefixtures("x64")
def test_where_a_function_is_partitioned_by_hand():
    widths = [(2, 5)]

    @custom_partitioning
    def smooth(x):
        padded = pad(x, widths, "neumann")
        return padded[:, 2:-5] + padded[:, :-7] + padded[:, 7:]

    def partition(mesh, arguments, result):
        sharding = arguments[0].sharding

        def on_block(x):
            with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
                padded = halo_pad(x, widths, "neumann", sharding.spec[1:])
            return padded[:, 2:-5] + padded[:, :-7] + padded[:, 7:]

        return mesh, on_block, sharding, (sharding,)

    smooth.def_partition(
        partition=partition,
        infer_sharding_from_operands=lambda mesh, arguments, result: arguments[0].sharding,
        sharding_rule="c n -> c n",
    )
    x = random((2, 16))
    expected = smooth(x)
    for entry in ("b", ("a", "c"), ("c", "a")):
        split = jax.device_put(x, NamedSharding(mesh(), P(None, entry)))
        compiled = jax.jit(smooth).lower(split).compile()
        np.testing.assert_array_equal(compiled(split), expected)
        assert {c.kind for c in collectives(compiled)} == {"collective-permute"}
