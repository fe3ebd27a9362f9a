"""Reads from the text of a compiled JAX program what it sends between devices.

`collectives(jax.jit(f).lower(...).compile())` lists every collective operation of the program with
the size of its result and the bytes that a device sends for it. Tests compare these with what the
mathematics of a layer needs, and the tables of communication in the docs are made from them.

The grammar is that of XLA's printer of HLO (`HloInstruction::ToString`): one instruction on a line.
A line with a collective that does not parse is an error, and so is communication of other kinds
(`send`, `recv`), so that nothing goes uncounted.
"""

import math
import re
from collections.abc import Iterable
from typing import Any, NamedTuple


KINDS = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
    "collective-broadcast",
    "ragged-all-to-all",
)


class Collective(NamedTuple):
    """Describes one collective operation, as one device sees it."""

    name: str
    """The name of the instruction."""
    kind: str
    """One of `KINDS`; the asynchronous form counts as the same kind."""
    dtypes: tuple[str, ...]
    """XLA's names of the dtypes of the result, one for each array of it."""
    shapes: tuple[tuple[int, ...], ...]
    """The shapes of the arrays of the result."""
    bytes: int
    """The bytes of all arrays of the result on one device."""
    group: int
    """How many devices take part together; for a permutation, how many send to another."""
    times: int | None
    """How often it runs in one run of the program; `None` in a loop of an unknown number of turns.
    Each branch of a condition counts as if it were taken.
    """
    in_loop: bool

    @property
    def size(self) -> int:
        """Gives the bytes of the operand or of the result on one device, whichever is larger."""
        return self.bytes * (self.group if self.kind == "reduce-scatter" else 1)

    @property
    def sent(self) -> float:
        """Counts the bytes that a device sends each time. With `P` devices in a group and a result
        of `B` bytes:

        | kind | bytes | |
        |---|---|---|
        | all-reduce | `2 (P - 1) / P B` | reduce-scatter, then all-gather |
        | all-gather | `(P - 1) / P B` | each passes on all shards but one |
        | reduce-scatter | `(P - 1) / P` of the operand, `(P - 1) B` | the same backwards |
        | all-to-all | `(P - 1) / P B` | all but its own part |
        | ragged-all-to-all | `B` | what a device receives at most: the mean over devices is below |
        | collective-permute | `B` | of a device that sends; 0 if none does |
        | collective-broadcast | `B` | each passes it on; 0 for a single device |

        These are the least that any algorithm of point-to-point messages sends, and rings reach
        them (Thakur, Rabenseifner, Gropp, "Optimization of Collective Communication Operations in
        MPICH", 2005; the factors of `doc/PERFORMANCE.md` of NVIDIA's nccl-tests). Networks that add
        on the way send less, trees for short messages more.
        """
        others = self.group - 1
        match self.kind:
            case "all-reduce":
                return 2 * others * self.bytes / self.group
            case "reduce-scatter":
                return float(others * self.bytes)
            case "all-gather" | "all-to-all":
                return others * self.bytes / self.group
            case "collective-permute":
                return float(self.bytes if self.group else 0)
            case "collective-broadcast" | "ragged-all-to-all":
                return float(self.bytes if others else 0)
        raise ValueError(f"{self.kind!r} is none of {KINDS}.")


def collectives(program: Any, devices: int | None = None) -> list[Collective]:
    """Lists all collectives of a program, in the order of its text.

    **Arguments:**

    - `program`: The result of `jax.jit(f).lower(...).compile()`, or the text of a program in HLO.
    - `devices`: How many devices it runs on; by default what the text's first line says.
    """
    text = program if isinstance(program, str) else program.as_text()
    computations, entry = _computations(text)
    turns = _turns(computations, entry)
    devices = _devices(text) if devices is None else devices
    found = []
    for name, lines in computations.items():
        for line in lines:
            if (collective := _collective(line, devices)) is None:
                continue
            if name not in turns:
                raise ValueError(f"Nothing calls the computation {name!r}, which has: {line}")
            times, in_loop = turns[name]
            found.append(collective._replace(times=times, in_loop=in_loop))
    return found


def largest(found: Iterable[Collective]) -> int:
    """Finds the size of the largest, in bytes on one device; 0 if there is none."""
    return max((collective.size for collective in found), default=0)


def sent(found: Iterable[Collective]) -> float:
    """Counts the bytes that a device sends in one run of the program, with all turns of loops."""
    total = 0.0
    for collective in found:
        if collective.times is None:
            raise ValueError(f"It is not known how often this runs: {collective}")
        total += collective.times * collective.sent
    return total


# One line.

_KIND = "|".join(sorted(KINDS, key=len, reverse=True))  # "ragged-all-to-all" before "all-to-all".
_INSTRUCTION = re.compile(
    rf"""^(?:ROOT\ )? %?(?P<name>[\w.\-]+)\ =\ (?P<shape>\S.*?)
    \ (?P<kind>{_KIND})(?P<start>-start)?\((?P<rest>.*)$""",
    re.VERBOSE,
)
_ANY_COLLECTIVE = re.compile(rf"(?<![\w.\-%])(?:{_KIND})(?:-start)?\(")
_UNCOUNTED = re.compile(r"(?<![\w.\-%])(?:send|recv)\(")
_ARRAY = re.compile(r"(?P<dtype>[a-z]\w*)\[(?P<shape>[\d,<= ]*)\]")


def _collective(line: str, devices: int) -> Collective | None:
    """Reads the collective of a line, or `None`. How often it runs is filled in later."""
    # Names of operations and of files may contain anything.
    plain = re.sub(r'"(?:[^"\\]|\\.)*"', '""', line).strip()
    if _UNCOUNTED.search(plain):
        raise ValueError(f"Communication that is not counted: {line}")
    if not _ANY_COLLECTIVE.search(plain):
        return None
    if (match := _INSTRUCTION.match(plain)) is None:
        raise ValueError(f"A collective that does not parse: {line}")
    try:
        arrays = _result(match["shape"], match["kind"], match["start"] is not None)
        group = (
            _senders(match["rest"])
            if match["kind"] == "collective-permute"
            else _group(match["rest"], devices)
        )
        size = sum(_item_size(dtype) * math.prod(shape) for dtype, shape in arrays)
    except ValueError as error:
        raise ValueError(f"{error} In: {line}") from error
    dtypes, shapes = zip(*arrays, strict=True) if arrays else ((), ())
    return Collective(match["name"], match["kind"], dtypes, shapes, size, group, 1, False)


def _result(text: str, kind: str, start: bool) -> list[tuple[str, tuple[int, ...]]]:
    """Reads the dtype and the shape of every array of the result.

    The shape of an asynchronous all-reduce is that of the result. The shape of all others is a
    tuple `(operands, results, context...)`, in which several operands are a tuple of their own and
    the context is scalars.
    """
    # Layouts, such as `{1,0:T(8,128)S(1)}`, and comments, such as `/*index=5*/`.
    text = re.sub(r"\{[^{}]*\}|/\*.*?\*/", "", text)
    if start and kind != "all-reduce":
        _, result, *context = _elements(text, 2)
        if any(math.prod(shape) != 1 for part in context for _, shape in [_array(part)]):
            raise ValueError(f"The context {context} should be scalars.")
        text = result
    return [_array(part) for part in (_elements(text) if text.startswith("(") else [text])]


def _elements(text: str, at_least: int = 0) -> list[str]:
    """Splits a tuple, `(a, (b, c))` into `a` and `(b, c)`."""
    if not (text.startswith("(") and text.endswith(")")):
        raise ValueError(f"{text!r} is not a tuple.")
    parts, depth = [""], 0
    for character in text[1:-1]:
        depth += (character in "([") - (character in ")]")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    parts = [part.strip() for part in parts if part.strip()]
    if len(parts) < at_least:
        raise ValueError(f"{text!r} should have {at_least} elements or more.")
    return parts


def _array(text: str) -> tuple[str, tuple[int, ...]]:
    """Reads `f32[4,<=8]`; a dimension whose size is not fixed counts with its bound."""
    if (match := _ARRAY.fullmatch(text)) is None:
        raise ValueError(f"{text!r} is not the shape of an array.")
    sizes = match["shape"].replace("<=", "").split(",") if match["shape"] else []
    return match["dtype"], tuple(int(size) for size in sizes)


def _item_size(dtype: str) -> int:
    """Counts bytes. An element of less than a byte takes a whole one, as XLA stores it."""
    if dtype == "pred":
        return 1
    if (match := re.match(r"(?:s|u|f|bf|c)(\d+)", dtype)) is None:
        raise ValueError(f"The size of {dtype!r} is not known.")
    return max(1, int(match[1]) // 8)


def _senders(text: str) -> int:
    """Counts the pairs `{{source,target},...}` that lead to another device."""
    match = re.search(r"source_target_pairs=\{((?:\{\d+,\d+\},?)*)\}", text)
    if match is None:
        raise ValueError("No pairs of source and target.")
    return sum(a != b for a, b in re.findall(r"\{(\d+),(\d+)\}", match[1]))


def _group(text: str, devices: int) -> int:
    """Finds the size of a group of devices, or of the largest if they differ. There are three ways
    to write the groups:

    - `{{0,1},{2,3}}`, and `{}` for one group of all devices;
    - `[2,4]<=[8]`: the devices `0..7` as a table of shape 2 x 4 (`<=[4,2]T(1,0)`: transposed from
      one of shape 4 x 2), a row for each group;
    - `mesh['x'=2,'y'=4] {'y'}`: the axes of a mesh along which they lie; `'y':(1)2` is a factor 2
      of an axis.
    """
    if match := re.search(r"replica_groups=\{((?:\{[\d,]*\},?)*)\}", text):
        groups = re.findall(r"\{([\d,]*)\}", match[1])
        return max((len(group.split(",")) for group in groups), default=devices)
    if match := re.search(r"replica_groups=\[\d+,(\d+)\]<=\[[\d,]+\](?:T\([\d,]+\))?", text):
        return int(match[1])
    mesh = r"replica_groups=mesh\[([^\]]*)\](?:, ?device_ids=\([^)]*(?:\([^)]*\))?\))? ?\{([^}]*)\}"
    if match := re.search(mesh, text):
        sizes = dict(re.findall(r"'([^']+)'=(\d+)", match[1]))
        axes = re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", match[2])
        return math.prod(int(factor or sizes[name]) for name, factor in axes)
    raise ValueError("No groups of devices.")


# The whole text.

# The attributes that name computations.
_CALL = re.compile(
    r"\b(calls|to_apply|body|condition|branch_computations|true_computation|false_computation"
    r"|called_computations)=(?:\{([^}]*)\}|%?([\w.\-]+))"
)
_TRIP_COUNT = re.compile(r'"known_trip_count":\s*\{\s*"n":\s*"?(\d+)"?')


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
    """Finds the lines of each computation, and the name of the one that runs."""
    computations: dict[str, list[str]] = {}
    entry, current = None, None
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.endswith("{") and " = " not in stripped:
            match = re.match(r"(ENTRY )?%?([\w.\-]+)", stripped)
            if match is None:
                raise ValueError(f"A computation that does not parse: {line}")
            current = computations.setdefault(match[2], [])
            entry = match[2] if match[1] else entry
        elif stripped.startswith("}"):
            current = None
        elif current is not None:
            current.append(stripped)
        elif _ANY_COLLECTIVE.search(re.sub(r'"[^"]*"', "", stripped)):
            raise ValueError(f"A collective outside of every computation: {line}")
    if entry is None:
        raise ValueError("The text has no `ENTRY`: it is no program in HLO.")
    return computations, entry


def _turns(computations: dict[str, list[str]], entry: str) -> dict[str, tuple[int | None, bool]]:
    """Counts how often each called computation runs, and whether in a loop. Calls do not recur."""
    calls: dict[str, list[tuple[str, int | None, bool]]] = {name: [] for name in computations}
    for caller, lines in computations.items():
        for line in lines:
            if re.search(r" async-(?:update|done)\(", line):
                continue  # They name the computation that `async-start` has begun.
            for key, several, one in _CALL.findall(line):
                loop = key in ("body", "condition")
                count = _TRIP_COUNT.search(line.replace("\\", "")) if loop else None
                # The condition runs once more than the body.
                extra = int(key == "condition")
                factor = (int(count[1]) + extra if count else None) if loop else 1
                for name in re.findall(r"[\w.\-]+", several or one):
                    if name in calls:
                        calls[name].append((caller, factor, loop))

    turns: dict[str, tuple[int | None, bool]] = {entry: (1, False)}

    def resolve(name: str) -> tuple[int | None, bool]:
        if name not in turns:
            total: int | None = 0
            in_loop = False
            for caller, factor, loop in calls[name]:
                times, outer = resolve(caller)
                if total is None or times is None or factor is None:
                    total = None
                else:
                    total += times * factor
                in_loop |= loop or outer
            turns[name] = (total, in_loop)
        return turns[name]

    for name in computations:
        resolve(name)
    return {name: found for name, found in turns.items() if name == entry or calls[name]}


def _devices(text: str) -> int:
    """Reads replicas times partitions from the first line; each is 1 where it is not given."""
    head = next((line for line in text.splitlines() if line.startswith("HloModule")), "")
    counts = re.findall(r"\b(?:replica_count|num_partitions)=(\d+)", head)
    return math.prod(int(count) for count in counts)
