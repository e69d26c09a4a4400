"""What a compiled program holds, read from its text: XLA's HLO, as `compiled.as_text()` gives it.

A program is a set of computations, lists of instructions. The entry runs one after the other; a loop runs its body, a
fusion is one launch whose own computation says what is in it. Of `jaxgan.train_steps` the outermost loop is the
updates: XLA doesn't know how often it runs, and everything here is of one pass through it. The loops within have a
known number of passes, and their bodies count as many times.
"""

import dataclasses
import math
import re
from collections.abc import Iterator

# What takes no time of its own: names for memory, and the ends of what was started before.
NAMES = {"parameter", "constant", "bitcast", "get-tuple-element", "tuple"}
FREE = NAMES | {"after-all", "partition-id", "replica-id", "opt-barrier", "add-dependency"}
COLLECTIVES = {"all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all", "collective-broadcast"}
HOST = {"infeed", "outfeed", "send", "recv"}  # what moves values between a device and the host
HOST_MEMORY = "S(5)"  # the memory space of the host in a layout
# Never one value alone: each of these is a launch, or a transfer.
LARGE = {"fusion", "custom-call", "copy", "copy-start", "while", "conditional", *COLLECTIVES, *HOST}
# The attributes that name the computations which an instruction runs.
RUNS = {"while": "condition|body", "call": "to_apply|calls", "async-start": "to_apply|calls"}
BRANCHES = "branch_computations|true_computation|false_computation"

ENTRY = "ENTRY"
COMPUTATION = re.compile(r"(ENTRY)? ?%?([\w.\-]+) \(.*\{$")
INSTRUCTION = re.compile(r"\s+(?:ROOT )?%?([\w.\-]+) = (.*?) ([a-z][\w\-]*)\((.*)")
NAME = re.compile(r"%([\w.\-]+)")
ARRAY = re.compile(r"\b(?P<type>pred|[a-z]+(?P<bits>\d+)\w*)\[(?P<shape>[\d,]*)\](?:\{(?P<layout>[^}]*)\})?")
TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
TILE = re.compile(r"T\(([\d,]+)\)")
# A call of cuDNN: which of its result, first and second operand are the input, the kernel and the output of the
# convolution that its window and labels describe. The gradients are described as the convolution they belong to.
ROLES = {"__cudnn$convBackwardInput": (0, 2, 1), "__cudnn$convBackwardFilter": (1, 0, 2)}
FORWARD = (1, 2, 0)
# In a product, and in the configuration of a call of cuBLAS.
CONTRACTED = re.compile(r'lhs_contracting_dim(?:ension)?s"?[=:][{\[]([\d,"]*)')


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
            shape[-len(sizes) :] = [-(-n // size) * size for n, size in zip(shape[-len(sizes) :], sizes, strict=True)]
        return -(-self.bits * math.prod(shape) // 8)


@dataclasses.dataclass(frozen=True)
class Instruction:
    """A line of a program.

    Attributes:
      opcode: what it does.
      arrays: what it gives.
      operands: the shapes of what it takes, of a tuple its first array's; () where that isn't known.
      text: the line, from its operands on.
    """

    opcode: str
    arrays: tuple[Array, ...]
    operands: tuple[tuple[int, ...], ...]
    text: str

    def attribute(self, name: str) -> str:
        """What follows `name=`, within quotes or up to a comma or a space; "" where there is none."""
        found = re.search(rf'\b{name}=(?:"([^"]*)|([^\s,]+))', self.text)
        return found[1] or found[2] or "" if found else ""

    def called(self, names: str) -> list[str]:
        """The computations that attributes give, one or several in braces; `names` has a bar between two."""
        return NAME.findall(" ".join(re.findall(rf"\b(?:{names})=(\{{[^}}]*|%[\w.\-]+)", self.text)))


Program = dict[str, list[Instruction]]  # the computations by name, the entry as `ENTRY`
Steps = list[tuple[int, Instruction]]  # what is run, and how many times


def read(text: str | None) -> Program:
    """The program of a text, which is None where a compiler gives none.

    Raises:
      ValueError: it has no entry.
    """
    program, current, shapes = {}, [], {}
    for line in (text or "").splitlines():
        if found := COMPUTATION.match(line):
            current = program[found[1] or found[2]] = []
            shapes = {}
        elif found := INSTRUCTION.match(line):
            name, kind, opcode, rest = found.groups()
            arrays = arrays_in(kind)
            shapes[name] = arrays[0].shape if arrays else ()
            operands = (shapes.get(operand, ()) for operand in NAME.findall(rest.partition(")")[0]))
            current.append(Instruction(opcode, arrays, tuple(operands), rest))
    if ENTRY not in program:
        raise ValueError("the text of the program has no entry")
    return program


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


def parameters(program: Program) -> list[Array]:
    """The arrays that the program takes, in their order, as they lie in memory."""
    found = [step for step in program[ENTRY] if step.opcode == "parameter"]
    return [step.arrays[0] for step in sorted(found, key=lambda step: int(step.text.partition(")")[0]))]


def update(program: Program) -> Steps:
    """All that one update runs. The bodies of fusions are not gone into.

    Raises:
      ValueError: the entry has no loop of updates, or more than one.
    """
    loops = [step for step in program[ENTRY] if step.opcode == "while" and not TRIPS.search(step.text)]
    if len(loops) != 1:
        raise ValueError(f"the program has {len(loops)} loops that could be the updates")
    return _run(program, loops, 1)


def whole(program: Program) -> Steps:
    """The same of a program that has no loop of updates: all that it runs."""
    return _run(program, program[ENTRY], 1)


def _run(program: Program, instructions: list[Instruction], times: int) -> Steps:
    """What they run; of the branches of a condition, the one with the most launches."""
    steps = []
    for step in instructions:
        if step.opcode == "conditional":
            branches = (_run(program, program[name], times) for name in step.called(BRANCHES))
            steps += max(branches, key=launches, default=[])
        elif names := RUNS.get(step.opcode):
            trips = TRIPS.search(step.text) if step.opcode == "while" else None
            # A GPU asks the condition only where it doesn't know the number of passes.
            for name in step.called("body" if trips else names):
                steps += _run(program, program[name], times * int(trips[1] if trips else 1))
        else:
            steps.append((times, step))
    return steps


def within_fusions(program: Program, steps: Steps) -> Iterator[tuple[int, Instruction]]:
    """The same instructions, and those in the fusions among them, at any depth."""
    for times, step in steps:
        yield times, step
        for name in step.called("calls") if step.opcode == "fusion" else ():
            yield from within_fusions(program, [(times, each) for each in program[name]])


def launches(steps: Steps) -> int:
    """How many instructions are started on the device by themselves.

    Outside of a fusion a GPU's programs have no arithmetic; in a TPU's what gives one number is the scalar unit's,
    between two launches.
    """
    timed = ((n, step) for n, step in steps if step.opcode not in FREE and not step.opcode.endswith("-done"))
    return sum(n for n, step in timed if step.opcode in LARGE or any(math.prod(x.shape) > 1 for x in step.arrays))


def is_convolution(step: Instruction) -> bool:
    """Whether it is one: a call of cuDNN on a GPU, or XLA's own with a window, which a matrix product has not."""
    if step.opcode == "custom-call":
        return step.attribute("custom_call_target").startswith("__cudnn$conv")
    return step.opcode == "convolution" and "window=" in step.text


def collectives(steps: Steps) -> dict[str, tuple[int, int]]:
    """By opcode how many are run, and the bytes of the arrays that they reduce or gather."""
    found = {}
    for times, step in steps:
        opcode = step.opcode.removesuffix("-start")
        if opcode in COLLECTIVES:
            count, size = found.get(opcode, (0, 0))
            found[opcode] = (count + times, size + times * exchanged(step))
    return dict(sorted(found.items()))


def exchanged(step: Instruction) -> int:
    """The bytes of the arrays that a collective reduces or gathers."""
    arrays = step.arrays
    if step.opcode.endswith("-start") and step.opcode != "all-reduce-start":  # which name their operands before them
        arrays = arrays[len(step.operands) : 2 * len(step.operands)]
    return sum(array.bytes for array in arrays)


def host_transfers(steps: Steps) -> int:
    """How many values are moved between the device and the host, and how often the host is called."""
    return sum(
        times
        for times, step in steps
        if step.opcode.removesuffix("-start") in HOST
        or any(HOST_MEMORY in array.layout for array in step.arrays)
        or (step.opcode == "custom-call" and re.search("callback|Host|python", step.attribute("custom_call_target")))
    )


def count_flops(program: Program, steps: Steps) -> int:
    """The floating-point operations of the convolutions and matrix products in `steps`, such as `update` gives.

    XLA counts them on a TPU and on a CPU, but the body of a loop once; for a GPU it tells nothing ahead of time, where
    convolutions are calls of cuDNN. So they are counted here, alike for all: a multiplication and an addition for each
    product of two values. Products with padding, or with the zeros that a dilation inserts, are not counted.
    """
    total = 0
    for times, step in within_fusions(program, steps):
        if step.opcode == "convolution" or is_convolution(step):
            total += times * _convolution(step)
        elif step.opcode == "dot" or step.attribute("custom_call_target").startswith("__cublas"):
            total += times * _product(step)
    return total


def _product(step: Instruction) -> int:
    axes = re.findall(r"\d+", CONTRACTED.findall(step.text)[0])
    return 2 * math.prod(step.arrays[0].shape) * math.prod(step.operands[0][int(axis)] for axis in axes)


def _convolution(step: Instruction) -> int:
    """Of a convolution, or of a gradient of one.

    As XLA counts it (HloCostAnalysis): for each axis of the window the pairs of an output and a tap that meet a value.
    """
    shapes, roles = [step.arrays[0].shape, *step.operands], ROLES.get(step.attribute("custom_call_target"), FORWARD)
    labels = re.split("_|->", step.attribute("dim_labels"))
    given, kernel, output = (dict(zip(names, shapes[i], strict=True)) for names, i in zip(labels, roles, strict=True))
    window = re.search(r"window=\{([^}]*)\}", step.text)
    window = {name: values.split("x") for name, values in re.findall(r"(\w+)=(\S+)", window[1] if window else "")}
    pairs = 1
    for i, axis in enumerate(sorted(label for label in given if label.isdigit())):
        one = {name: values[i] for name, values in window.items()}
        stride, spread, reach = (int(one.get(name, 1)) for name in ("stride", "lhs_dilate", "rhs_dilate"))
        low = int(one.get("pad", "0_0").split("_")[0])
        places = (y * stride + tap * reach - low for y in range(output[axis]) for tap in range(kernel[axis]))
        pairs *= sum(place % spread == 0 and 0 <= place < spread * given[axis] for place in places)
    return 2 * output["b"] * output["f"] * kernel["i"] * pairs
