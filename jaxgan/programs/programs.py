"""What a compiled program holds, read from its text: XLA's HLO, as `compiled.as_text()` gives it.

A program is a set of computations, lists of instructions. The entry runs one after the other; a loop runs its body, a
fusion is one launch whose own computation says what is in it. Of `jaxgan.train_steps` the outermost loop is the
updates: XLA doesn't know how often it turns, and everything here is of one turn of it. The loops within have a number
of turns that is known, and count as often.
"""

import dataclasses
import itertools
import math
import re
from collections import Counter
from collections.abc import Iterator

# What takes no time of its own: names for memory, and the ends of what was started before.
FREE = {"parameter", "constant", "bitcast", "get-tuple-element", "tuple", "after-all", "partition-id", "replica-id"}
FREE |= {"opt-barrier", "add-dependency"}
COLLECTIVES = {"all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all", "collective-broadcast"}
HOST = {"infeed", "outfeed", "send", "recv"}  # what moves values between a device and the host
HOST_MEMORY = "S(5)"  # the memory space of the host in a layout
# Never one value alone: each of these is a launch, or a transfer.
LARGE = {"fusion", "custom-call", "copy", "copy-start", "while", "conditional", *COLLECTIVES, *HOST}

COMPUTATION = re.compile(r"(?P<entry>ENTRY )?%?(?P<name>[\w.\-]+) \(.*\{$")
INSTRUCTION = re.compile(r"\s+(?:ROOT )?%?(?P<name>[\w.\-]+) = (?P<rest>.*)")
ARRAY = re.compile(r"\b(?P<type>pred|[a-z]+(?P<bits>\d+)\w*)\[(?P<shape>[\d,]*)\](?:\{(?P<layout>[^}]*)\})?")
TURNS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
TILE = re.compile(r"T\(([\d,]+)\)")


@dataclasses.dataclass(frozen=True)
class Array:
    """An array in a program: its type, as `f32`; its shape; and its layout, as `1,0:T(8,128)`."""

    type: str
    bits: int
    shape: tuple[int, ...]
    layout: str = ""

    @property
    def bytes(self) -> int:
        """Of its values alone."""
        return -(-self.bits * math.prod(self.shape) // 8)

    @property
    def bytes_in_memory(self) -> int:
        """With what a TPU pads: the last axes, in the layout's order, come in tiles of `T(…)`."""
        order, _, tiles = self.layout.partition(":")
        shape = [self.shape[int(axis)] for axis in reversed(order.split(","))] if order else list(self.shape)
        if tile := TILE.search(tiles):
            sizes = [int(size) for size in tile[1].split(",")]
            shape = [1] * (len(sizes) - len(shape)) + shape
            for i, size in enumerate(sizes, len(shape) - len(sizes)):
                shape[i] = -(-shape[i] // size) * size
        return -(-self.bits * math.prod(shape) // 8)


@dataclasses.dataclass(frozen=True)
class Instruction:
    """A line of a program: its name, what it does, the arrays it gives, whose it takes, and the line from there on."""

    name: str
    opcode: str
    arrays: tuple[Array, ...]
    operands: tuple[str, ...]
    line: str

    def attribute(self, name: str) -> str:
        """What follows `name=` up to a comma or a space; "" where there is none."""
        found = re.search(rf"\b{name}=([^\s,]+)", self.line)
        return found[1] if found else ""

    def called(self, *names: str) -> list[str]:
        """The computations that attributes of these names give, one or several in braces."""
        found = itertools.chain.from_iterable(
            re.findall(rf"\b{name}=(?:\{{([^}}]*)\}}|%?([\w.\-]+))", self.line) for name in names
        )
        return [part.strip().lstrip("%") for pair in found for part in (pair[0] or pair[1]).split(",") if part.strip()]

    @property
    def target(self) -> str:
        """Of a custom call: what is called, as `__cudnn$convForward`."""
        return self.attribute("custom_call_target").strip('"')


@dataclasses.dataclass(frozen=True)
class Program:
    """The computations of a program, by name: the instructions of each, by name, in their order."""

    entry: str
    computations: dict[str, dict[str, Instruction]]

    def all(self) -> Iterator[Instruction]:
        """Every instruction there is."""
        return itertools.chain.from_iterable(part.values() for part in self.computations.values())


def read(text: str) -> Program:
    """The program of a text.

    Raises:
      ValueError: it has no entry.
    """
    computations, current, entry = {}, None, None
    for line in text.splitlines():
        if current is None:
            if found := COMPUTATION.match(line):
                current = computations[found["name"]] = {}
                entry = found["name"] if found["entry"] else entry
        elif line.startswith("}"):
            current = None
        elif found := INSTRUCTION.match(line):
            current[found["name"]] = _instruction(found["name"], found["rest"])
    if entry is None:
        raise ValueError("the text of the program has no entry")
    return Program(entry, computations)


def _instruction(name: str, rest: str) -> Instruction:
    """From what stands behind the `=`: arrays, opcode(operands), attributes."""
    end = _closing(rest, 0) if rest.startswith("(") else rest.index(" ")
    arrays, rest = rest[:end], rest[end:].lstrip()
    opcode, _, _ = rest.partition("(")
    end = _closing(rest, len(opcode))
    operands = re.findall(r"%([\w.\-]+)", rest[len(opcode) : end])
    return Instruction(name, opcode, arrays_in(arrays), tuple(operands), rest[len(opcode) :])


def _closing(text: str, start: int) -> int:
    """The place behind the bracket that closes the one at `start`."""
    depth = 0
    for i in range(start, len(text)):
        depth += (text[i] == "(") - (text[i] == ")")
        if depth == 0:
            return i + 1
    return len(text)


def arrays_in(text: str) -> tuple[Array, ...]:
    """The arrays that a type names, such as `(f32[2,3]{1,0}, u8[])`."""
    return tuple(
        Array(
            found["type"],
            int(found["bits"] or 8),
            tuple(int(size) for size in found["shape"].split(",") if size),
            found["layout"] or "",
        )
        for found in ARRAY.finditer(text)
    )


def update(program: Program) -> list[tuple[int, str, Instruction]]:
    """All that one update runs: how many times, in which computation it stands, and the instruction.

    The bodies of fusions are not gone into; of the branches of a condition, the one with the most launches is taken.

    Raises:
      ValueError: the entry has no loop of updates, or more than one.
    """
    loops = [each for each in program.computations[program.entry].values() if each.opcode == "while"]
    loops = [loop for loop in loops if not TURNS.search(loop.line)]
    if len(loops) != 1:
        raise ValueError(f"the program has {len(loops)} loops that could be the updates")
    return list(_run(program, loops[0], 1))


def whole(program: Program) -> list[tuple[int, str, Instruction]]:
    """The same of a program that has no loop of updates: all that it runs."""
    return list(_within(program, program.entry, 1))


def _run(program: Program, step: Instruction, times: int) -> Iterator[tuple[int, str, Instruction]]:
    """What an instruction of control flow runs."""
    if step.opcode == "while":
        turns = TURNS.search(step.line)
        # A GPU asks the condition only where it doesn't know the number of turns.
        parts = step.called("body") if turns else step.called("condition", "body")
        times *= int(turns[1]) if turns else 1
    elif step.opcode == "conditional":
        branches = step.called("branch_computations", "true_computation", "false_computation")
        found = [list(_within(program, name, times)) for name in branches]
        yield from max(found, key=lambda steps: sum(n for n, _, each in steps if is_launch(each)), default=[])
        return
    else:
        parts = step.called("to_apply", "calls")
    for name in parts:
        yield from _within(program, name, times)


def _within(program: Program, name: str, times: int) -> Iterator[tuple[int, str, Instruction]]:
    for each in program.computations[name].values():
        if each.opcode in ("while", "conditional", "call", "async-start"):
            yield from _run(program, each, times)
        else:
            yield times, name, each


def is_launch(step: Instruction) -> bool:
    """Whether an instruction is started on the device by itself.

    Outside of a fusion a GPU's programs have no arithmetic; in a TPU's what gives one number is the scalar unit's,
    between two launches.
    """
    if step.opcode in FREE or step.opcode.endswith("-done"):
        return False
    return step.opcode in LARGE or any(math.prod(array.shape) > 1 for array in step.arrays)


def launches(steps: list[tuple[int, str, Instruction]]) -> int:
    """How many there are in an update."""
    return sum(times for times, _, step in steps if is_launch(step))


def within_fusions(
    program: Program, steps: list[tuple[int, str, Instruction]]
) -> Iterator[tuple[int, str, Instruction]]:
    """The same instructions, and those in the fusions among them, at any depth."""
    for times, name, step in steps:
        yield times, name, step
        if step.opcode == "fusion":
            for part in step.called("calls"):
                inner = [(times, part, each) for each in program.computations[part].values()]
                yield from within_fusions(program, inner)


def is_convolution(step: Instruction) -> bool:
    """Whether it is one: a call of cuDNN on a GPU, or XLA's own with a window, which a matrix product has not."""
    if step.opcode == "custom-call":
        return step.target.startswith("__cudnn$conv")
    return step.opcode == "convolution" and "window=" in step.line


def collectives(steps: list[tuple[int, str, Instruction]]) -> dict[str, tuple[int, int]]:
    """By opcode how many are run in an update, and the bytes of the arrays that they reduce or gather."""
    count, total = Counter(), Counter()
    for times, _, step in steps:
        opcode = step.opcode.removesuffix("-start")
        if opcode in COLLECTIVES:
            count[opcode] += times
            total[opcode] += times * sum(array.bytes for array in _results(step))
    return {opcode: (count[opcode], total[opcode]) for opcode in sorted(count)}


def _results(step: Instruction) -> tuple[Array, ...]:
    """The arrays that a collective gives. What starts one of these, but a sum, names its operands before them."""
    if step.opcode.endswith("-start") and step.opcode != "all-reduce-start":
        return step.arrays[len(step.operands) : 2 * len(step.operands)]
    return step.arrays


def host_transfers(steps: list[tuple[int, str, Instruction]]) -> int:
    """How many values an update moves between the device and the host, or how often it calls the host."""
    return sum(
        times
        for times, _, step in steps
        if step.opcode.removesuffix("-start") in HOST
        or any(HOST_MEMORY in array.layout for array in step.arrays)
        or (step.opcode == "custom-call" and re.search("callback|Host|python", step.target))
    )


def parameters(program: Program) -> list[Array]:
    """The arrays that the program takes, in their order, as they lie in memory."""
    found = [each for each in program.computations[program.entry].values() if each.opcode == "parameter"]
    number = [int(re.match(r"\((\d+)\)", each.line)[1]) for each in found] if found else []
    return [each.arrays[0] for _, each in sorted(zip(number, found, strict=True), key=lambda pair: pair[0])]
