"""How many floating-point operations the convolutions and matrix products of a compiled program take.

XLA counts them on a TPU and on a CPU, but the body of a loop once; for a GPU it tells nothing ahead of time, where
convolutions are calls of cuDNN. So they are counted here, alike for all: a multiplication and an addition for each
product of two values. What falls on padding, or on the zeros that a dilation puts between values, is no product.
"""

import math
import re

from jaxgan.programs.hlo import Instruction, Program, Steps, is_convolution, within_fusions

# A call of cuDNN: which of its result, first and second operand are the input, the kernel and the output of the
# convolution that its window and labels describe. The gradients are described as the convolution they belong to.
ROLES = {"__cudnn$convBackwardInput": (0, 2, 1), "__cudnn$convBackwardFilter": (1, 0, 2)}
FORWARD = (1, 2, 0)
# In a product, and in the configuration of a call of cuBLAS.
CONTRACTED = re.compile(r'lhs_contracting_dim(?:ension)?s"?[=:][{\[]([\d,"]*)')


def count_flops(program: Program, steps: Steps) -> int:
    """Those of the products in `steps`, such as `hlo.update` gives."""
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
