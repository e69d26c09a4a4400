"""How many floating-point operations the convolutions and matrix products of a compiled program take.

XLA counts them on a TPU and on a CPU, but the body of a loop once; for a GPU it tells nothing ahead of time, where
convolutions are calls of cuDNN. So they are counted here, alike for all: a multiplication and an addition for each
product of two values. What falls on padding, or on the zeros that a dilation puts between values, is no product.
"""

import math
import re

from jaxgan.programs.programs import Array, Instruction, Program, is_convolution, within_fusions

# A call of cuDNN: which of its result, first and second operand are the input, the kernel and the output of the
# convolution that its window and labels describe. The gradients are described as the convolution they belong to.
ROLES = {
    "__cudnn$convForward": (1, 2, 0),
    "__cudnn$convBiasActivationForward": (1, 2, 0),
    "__cudnn$convBackwardInput": (0, 2, 1),
    "__cudnn$convBackwardFilter": (1, 0, 2),
}


def flops(program: Program, steps: list[tuple[int, str, Instruction]]) -> int:
    """Those of an update: `steps` is what `programs.update` gives."""
    total = 0
    for times, part, step in within_fusions(program, steps):
        if step.opcode == "convolution" or is_convolution(step):
            total += times * _convolution(_shapes(program, part, step), step)
        elif step.opcode == "dot":
            total += times * _dot(*_shapes(program, part, step)[:2], step)
        elif step.opcode == "custom-call" and step.target.startswith("__cublas"):
            total += times * _gemm(*_shapes(program, part, step)[:2], step)
    return total


def _shapes(program: Program, part: str, step: Instruction) -> list[tuple[int, ...]]:
    """Of the result, and of the operands."""
    operands = [_first(program.computations[part][name]).shape for name in step.operands]
    return [_first(step).shape, *operands]


def _first(step: Instruction) -> Array:
    return step.arrays[0] if step.arrays else Array("token", 0, ())


def _dot(result: tuple[int, ...], left: tuple[int, ...], step: Instruction) -> int:
    axes = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", step.line)
    return 2 * math.prod(result) * math.prod(left[int(axis)] for axis in axes[1].split(",") if axis)


def _gemm(result: tuple[int, ...], left: tuple[int, ...], step: Instruction) -> int:
    """Of a call of cuBLAS, whose axes stand in its configuration."""
    axes = re.search(r'"lhs_contracting_dimensions":\[([^\]]*)\]', step.line)
    return 2 * math.prod(result) * math.prod(left[int(axis)] for axis in re.findall(r"\d+", axes[1]))


def _convolution(shapes: list[tuple[int, ...]], step: Instruction) -> int:
    """Of a convolution, or of a gradient of one.

    As XLA counts it (HloCostAnalysis): for each axis of the window the pairs of an output and a tap that meet a value.
    """
    given, kernel, output = (shapes[i] for i in ROLES.get(step.target, (1, 2, 0)))
    labels = re.split("_|->", step.attribute("dim_labels"))
    window = _window(step)
    axes = sorted(label for label in labels[0] if label.isdigit())
    size = lambda shape, which, label: shape[labels[which].index(label)]  # noqa: E731
    pairs = 1
    for i, axis in enumerate(axes):
        one = {name: values[i] for name, values in window.items()}
        pairs *= _pairs(size(given, 0, axis), size(kernel, 1, axis), size(output, 2, axis), one)
    return 2 * size(output, 2, "b") * size(output, 2, "f") * size(kernel, 1, "i") * pairs


def _window(step: Instruction) -> dict[str, list]:
    """`{size=3x3 pad=1_1x1_1}` as lists, a value for each axis."""
    found = re.search(r"window=\{([^}]*)\}", step.line)
    parts = (part.split("=") for part in found[1].split()) if found else ()
    return {name: values.split("x") for name, values in parts}


def _pairs(given: int, taps: int, outputs: int, window: dict[str, str]) -> int:
    """How many pairs of an output and a tap meet a value of the input, along one axis."""
    stride, spread, reach = (int(window.get(name, 1)) for name in ("stride", "lhs_dilate", "rhs_dilate"))
    low = int(window.get("pad", "0_0").split("_")[0])
    places = (y * stride + tap * reach - low for y in range(outputs) for tap in range(taps))
    return sum(place % spread == 0 and 0 <= place < spread * given for place in places)
