"""Tests that the counter of communication counts correctly: on lines as XLA writes them, and on
programs with known communication.
"""

import jax
import jax.numpy as jnp
import pytest
from collectives import Collective, collectives, KINDS, largest, sent
from jax import lax
from jax.sharding import AxisType, PartitionSpec as P


ADD = """
add {
  a = f32[] parameter(0)
  b = f32[] parameter(1)
  ROOT c = f32[] add(a, b)
}
"""


def module(*lines, computations=ADD, head="num_partitions=8"):
    body = "\n".join(f"  {line}" for line in lines)
    return f"HloModule m, {head}\n{computations}\nENTRY main {{\n{body}\n}}\n"


def one(line, **options):
    (found,) = collectives(module(line, **options))
    return found


GROUPS = "channel_id=1, replica_groups={{0,1,2,3},{4,5,6,7}}, use_global_device_ids=true"
PAIRS = "source_target_pairs={{0,1},{1,2},{2,3}}"

# Line, kind, bytes of the result, group, bytes sent, size.
LINES = {
    "all-reduce": (
        f"ROOT %r = f32[32,4]{{1,0}} all-reduce(%x), {GROUPS}, to_apply=%add",
        ("all-reduce", 512, 4, 2 * 512 * 3 / 4, 512),
    ),
    "all-reduce, several arrays": (
        "%r = (f32[8]{0}, (bf16[3,2]{1,0:T(8,128)(2,1)S(1)}), /*index=2*/c64[]) "
        f"all-reduce(%x, %y, %z), {GROUPS}, to_apply=%add",
        None,  # The parentheses are nested in a way that XLA does not write.
    ),
    "all-reduce, several flat arrays": (
        "%r = (f32[8]{0}, bf16[3,2]{1,0:T(8,128)(2,1)S(1)}, /*index=2*/c64[]) "
        f"all-reduce(%x, %y, %z), {GROUPS}, to_apply=%add",
        ("all-reduce", 32 + 12 + 8, 4, 2 * 52 * 3 / 4, 52),
    ),
    "all-reduce-start": (
        f"%s = f32[32,4]{{1,0}} all-reduce-start(%x), {GROUPS}, to_apply=%add",
        ("all-reduce", 512, 4, 768, 512),
    ),
    "all-reduce-start, several arrays": (
        f"%s = (f32[32,4], f32[32,4]) all-reduce-start(%x, %y), {GROUPS}, to_apply=%add",
        ("all-reduce", 1024, 4, 1536, 1024),
    ),
    "all-gather": (
        f"%r = f32[32,16]{{1,0}} all-gather(f32[32,4]{{1,0}} %x), {GROUPS}, dimensions={{1}}",
        ("all-gather", 2048, 4, 1536, 2048),
    ),
    "all-gather-start": (
        f"%s = (f32[32,4]{{1,0}}, f32[32,16]{{1,0}}) all-gather-start(%x), {GROUPS}",
        ("all-gather", 2048, 4, 1536, 2048),
    ),
    "all-gather-start, several arrays": (
        f"%s = ((s32[4], s8[2]), (s32[16], s8[8])) all-gather-start(%x, %y), {GROUPS}",
        ("all-gather", 72, 4, 54, 72),
    ),
    "reduce-scatter": (
        f"%r = f64[8]{{0}} reduce-scatter(%x), {GROUPS}, dimensions={{0}}, to_apply=%add",
        ("reduce-scatter", 64, 4, 3 * 64, 4 * 64),
    ),
    "reduce-scatter-start": (
        f"%s = ((f32[32]{{0}}), f32[8]{{0}}) reduce-scatter-start(%x), {GROUPS}, to_apply=%add",
        ("reduce-scatter", 32, 4, 96, 128),
    ),
    "all-to-all": (
        f"%r = f32[4,8]{{1,0}} all-to-all(%x), {GROUPS}, dimensions={{0}}",
        ("all-to-all", 128, 4, 96, 128),
    ),
    "all-to-all, an array for each device": (
        f"%r = (f32[8], f32[8], f32[8], f32[8]) all-to-all(%a, %b, %c, %d), {GROUPS}",
        ("all-to-all", 128, 4, 96, 128),
    ),
    "all-to-all-start": (
        f"%s = ((f32[4,8]), f32[4,8], u32[], u32[]) all-to-all-start(%x), {GROUPS}",
        ("all-to-all", 128, 4, 96, 128),
    ),
    "ragged-all-to-all": (
        f"%r = bf16[16]{{0}} ragged-all-to-all(%x, %y, %a, %b, %c, /*index=5*/%d), {GROUPS}",
        ("ragged-all-to-all", 32, 4, 32, 32),
    ),
    "collective-permute": (
        f"%r = f32[32,4]{{1,0}} collective-permute(%x), channel_id=1, {PAIRS}",
        ("collective-permute", 512, 3, 512, 512),
    ),
    "collective-permute-start": (
        f"%s = (f32[4], f32[4], u32[], u32[]) collective-permute-start(%x), {PAIRS}",
        ("collective-permute", 16, 3, 16, 16),
    ),
    "collective-permute-start, several arrays": (
        f"%s = ((f32[4], pred[3]), (f32[4], pred[3])) collective-permute-start(%x, %y), {PAIRS}",
        ("collective-permute", 19, 3, 19, 19),
    ),
    "collective-permute to itself": (
        "%r = f32[4] collective-permute(%x), source_target_pairs={{0,0},{1,1}}",
        ("collective-permute", 16, 0, 0, 16),
    ),
    "collective-broadcast": (
        "%r = u32[2] collective-broadcast(%x), replica_groups={{1,0},{2,3}}",
        ("collective-broadcast", 8, 2, 8, 8),
    ),
    "alone": (
        "%r = u32[2] all-reduce(%x), replica_groups={{0},{1}}, to_apply=%add",
        ("all-reduce", 8, 1, 0, 8),
    ),
}


@pytest.mark.parametrize("name", [name for name, (_, wanted) in LINES.items() if wanted])
def test_line(name):
    line, wanted = LINES[name]
    found = one(line)
    assert (found.kind, found.bytes, found.group, found.sent, found.size) == wanted
    assert (found.times, found.in_loop) == (1, False)


def test_every_kind_has_a_line():
    assert {wanted[0] for _, wanted in LINES.values() if wanted} == set(KINDS)


def test_arrays_of_the_result():
    found = one(LINES["all-reduce, several flat arrays"][0])
    assert found.name == "r"
    assert found.dtypes == ("f32", "bf16", "c64")
    assert found.shapes == ((8,), (3, 2), ())


@pytest.mark.parametrize(
    "groups, size",
    [
        ("{{0,1},{2,3},{4,5},{6,7}}", 2),
        ("{{0,1,2},{3}}", 3),
        ("{}", 8),
        ("[2,4]<=[8]", 4),
        ("[4,2]<=[8]", 2),
        ("[4,2]<=[2,4]T(1,0)", 2),
        ("[1,8]<=[2,2,2]T(2,1,0)", 8),
        ("mesh['axis_0'=2,'axis_1'=4] {'axis_1'}", 4),
        ("mesh['axis_0'=2,'axis_1'=4] {'axis_0','axis_1'}", 8),
        ("mesh['a'=8] {'a':(1)2}", 2),
        ("mesh['a'=2,'b'=4], device_ids=([4,2]T(1,0)) {'b'}", 4),
    ],
)
def test_groups(groups, size):
    line = f"%r = f32[8] all-reduce(%x), channel_id=1, replica_groups={groups}, to_apply=%add"
    assert one(line).group == size


@pytest.mark.parametrize(
    "head, devices, size",
    [
        ("replica_count=2, num_partitions=4", None, 8),
        ("is_scheduled=true, replica_count=2", None, 2),
        ("is_scheduled=true", None, 1),
        ("num_partitions=4", 16, 16),
    ],
)
def test_group_of_all_devices(head, devices, size):
    line = "%r = f32[8] all-reduce(%x), replica_groups={}, to_apply=%add"
    (found,) = collectives(module(line, head=head), devices)
    assert found.group == size


def test_done_names_and_quotations_are_not_counted():
    lines = (
        "%all-reduce-start = f32[4] all-reduce-start(%x), replica_groups={{0,1}}, to_apply=%add",
        "%all-reduce-done = f32[4] all-reduce-done(%all-reduce-start)",
        "%all-gather.1 = f32[4] add(%all-reduce-done, %all-reduce-done)",
        '%y = f32[4] negate(%all-gather.1), metadata={op_name="f/all-reduce(x)" source_line=1}',
        r'%z = f32[4] custom-call(%y), custom_call_target="a \" all-gather(%x)"',
    )
    (found,) = collectives(module(*lines))
    assert found.name == "all-reduce-start"


def test_program_without_any():
    found = collectives(module("ROOT %x = f32[4] parameter(0)"))
    assert (found, largest(found), sent(found)) == ([], 0, 0)


@pytest.mark.parametrize(
    "line, message",
    [
        (LINES["all-reduce, several arrays"][0], "is not the shape of an array"),
        ("f32[4] all-reduce(%x), replica_groups={{0,1}}", "does not parse"),
        ("%r = f32[4] all-reduce(%x), to_apply=%add", "No groups of devices"),
        ("%r = f32[4] all-reduce(%x), replica_groups=<0,1>", "No groups of devices"),
        ("%r = f32[4] collective-permute(%x), channel_id=1", "No pairs"),
        ("%r = token[] all-reduce(%x), replica_groups={}", "size of 'token' is not known"),
        ("%r = f32[4] all-gather-start(%x), replica_groups={}", "is not a tuple"),
        ("%r = (f32[4]) all-gather-start(%x), replica_groups={}", "2 elements or more"),
        ("%r = (s8[4], s8[8], s8[8]) all-gather-start(%x), replica_groups={}", "be scalars"),
        ("%r = (f32[4], u32[], token[]) send(%x, %t), channel_id=1", "not counted"),
        ("%r = (f32[4], u32[], token[]) recv(%t), channel_id=1", "not counted"),
    ],
)
def test_nothing_is_skipped(line, message):
    with pytest.raises(ValueError, match=message) as raised:
        collectives(module(line))
    assert line in str(raised.value)


def test_texts_that_are_no_program():
    with pytest.raises(ValueError, match="no `ENTRY`"):
        collectives("")
    with pytest.raises(ValueError, match="outside of every computation"):
        collectives(module() + LINES["all-reduce"][0])


# Computations that call each other.

PERMUTE = f"%p = f32[4] collective-permute(%x), {PAIRS}"
BODY = f"%body {{\n  {PERMUTE}\n}}\n%cond {{\n  %c = pred[] parameter(0)\n}}\n"
WHILE = "%w = f32[4] while(%x), condition=%cond, body=%body"
SEVEN = WHILE + ', backend_config={"known_trip_count":{"n":"7"}}'


def test_loop():
    found = one(SEVEN, computations=BODY)
    assert (found.times, found.in_loop) == (7, True)
    assert sent([found]) == 7 * 16 and largest([found]) == 16
    escaped = WHILE + r', backend_config="{\"known_trip_count\":{\"n\":\"7\"}}"'
    assert one(escaped, computations=BODY) == found


def test_loop_of_an_unknown_number_of_turns():
    found = one(WHILE, computations=BODY)
    assert (found.times, found.in_loop) == (None, True)
    assert largest([found]) == 16
    with pytest.raises(ValueError, match="how often"):
        sent([found])


def test_condition_of_a_loop_is_asked_once_more():
    exchanged = SEVEN.replace("condition=%cond, body=%body", "condition=%body, body=%cond")
    found = one(exchanged, computations=BODY)
    assert (found.times, found.in_loop) == (8, True)


def test_loop_in_a_loop_and_calls():
    outer = f"%outer {{\n  {SEVEN}\n}}\n"
    calls = (
        "%called (a: f32[4], /*index=5*/b: f32[4]) -> f32[4] {\n"
        "  %f = f32[4] call(%x), to_apply=%twice\n"
        "}\n"
    )
    twice = (
        "%twice {\n"
        "  %a = f32[4] while(%x), condition=%cond, body=%outer, "
        'backend_config={"known_trip_count":{"n":"3"}}\n'
        "  %f = f32[4] fusion(%x), kind=kLoop, calls=%body\n"
        "}\n"
    )
    branches = "%r = f32[4] conditional(%i, %x, %x), branch_computations={%called, %twice}"
    found = one(branches, computations=BODY + outer + twice + calls)
    assert (found.times, found.in_loop) == (2 * (3 * 7 + 1), True)


def test_call_in_a_loop():
    inner = BODY.replace("%body", "%inner")
    body = "%body {\n  %f = f32[4] call(%x), to_apply=%inner\n}\n"
    found = one(SEVEN, computations=inner + body)
    assert (found.times, found.in_loop) == (7, True)


def test_asynchronous_computation_is_called_once():
    lines = (
        "%s = ((f32[4]), f32[4]) async-start(%x), calls=%wrapped",
        "%u = ((f32[4]), f32[4]) async-update(%s), calls=%wrapped",
        "%d = f32[4] async-done(%u), calls=%wrapped",
    )
    (found,) = collectives(module(*lines, computations=f"%wrapped {{\n  ROOT {PERMUTE}\n}}\n"))
    assert found.times == 1


def test_computation_that_nothing_calls():
    with pytest.raises(ValueError, match="Nothing calls the computation 'body'"):
        collectives(module("%x = f32[4] parameter(0)", computations=BODY))


# Programs.

RING = [(i, (i + 1) % 4) for i in range(4)]


def turn(x):
    step = lambda x, _: (2 * lax.ppermute(x, "b", RING), None)
    return lax.scan(step, x, length=7)[0]


def until(x):
    step = lambda x: 2 * lax.ppermute(x, "b", RING)
    return lax.while_loop(lambda x: x[0, 0] < 1, step, x)


# The function of a device's block, of shape (32, 4), and how the axes of the result are split.
PROGRAMS = {
    "nothing": (lambda x: 2 * x, P("a", "b")),
    "psum": (lambda x: lax.psum(x, "b"), P("a")),
    "psum over both": (lambda x: lax.psum(x, ("a", "b")), P()),
    "psum of two": (lambda x: sum(jnp.sum(v) for v in lax.psum((x, x[:3]), "b")), P()),
    "all_gather": (lambda x: lax.all_gather(x, "a"), P(None, None, "b")),
    "psum_scatter": (lambda x: lax.psum_scatter(x, "b", tiled=True), P(("a", "b"))),
    "all_to_all": (lambda x: lax.all_to_all(x, "b", 0, 1, tiled=True), P(("a", "b"))),
    "ppermute": (lambda x: lax.ppermute(x, "b", RING), P("a", "b")),
    "ppermute, open": (lambda x: lax.ppermute(x, "b", RING[:-1]), P("a", "b")),
    "scan": (turn, P("a", "b")),
    "while": (until, P("a", "b")),
}

BLOCK = 4 * 32 * 4
"""Bytes on a device."""

WANTED = {
    "nothing": [],
    "psum": [["all-reduce", BLOCK, 4, 2 * 3 / 4 * BLOCK, 1, False]],
    "psum over both": [["all-reduce", BLOCK, 8, 2 * 7 / 8 * BLOCK, 1, False]],
    "psum of two": [["all-reduce", BLOCK + 48, 4, 2 * 3 / 4 * (BLOCK + 48), 1, False]],
    "all_gather": [["all-gather", 2 * BLOCK, 2, BLOCK, 1, False]],
    "psum_scatter": [["reduce-scatter", BLOCK / 4, 4, 3 / 4 * BLOCK, 1, False]],
    "all_to_all": [["all-to-all", BLOCK, 4, 3 / 4 * BLOCK, 1, False]],
    # Each of the two rows of the mesh is a ring.
    "ppermute": [["collective-permute", BLOCK, 8, BLOCK, 1, False]],
    "ppermute, open": [["collective-permute", BLOCK, 6, BLOCK, 1, False]],
    "scan": [["collective-permute", BLOCK, 8, BLOCK, 7, True]],
    "while": [["collective-permute", BLOCK, 8, BLOCK, None, True]],
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_programs_of_known_communication(name):
    function, out = PROGRAMS[name]
    mesh = jax.make_mesh((2, 4), ("a", "b"), axis_types=(AxisType.Auto,) * 2)
    mapped = jax.shard_map(
        function, mesh=mesh, in_specs=P("a", "b"), out_specs=out, check_vma=False
    )
    field = jax.ShapeDtypeStruct((64, 16), jnp.float32)
    found = collectives(jax.jit(mapped).lower(field).compile())
    listed = [[c.kind, c.bytes, c.group, c.sent, c.times, c.in_loop] for c in found]
    assert listed == WANTED[name]


def test_a_collective_has_only_known_kinds():
    unknown = Collective("x", "all-shout", ("f32",), ((1,),), 4, 2, 1, False)
    with pytest.raises(ValueError, match="all-shout"):
        _ = unknown.sent
