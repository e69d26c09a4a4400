"""Whether a function of a batch goes example by example, as its program shows: nothing is tried out.

The program that JAX traces is read operation by operation. Of each value it is known along which axis the examples lie,
the i-th depending on example i alone. An operation that brings examples together, or is not known here, is named.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jax.extend import core, source_info_util

from jaxgan.convolutions import native


class Mixing(NamedTuple):
    """Why an example of the output may depend on several of the input.

    Attributes:
      where: the operation, and where it stands in the source.
      certain: whether it brings examples together; else it is only not known that it does not.
    """

    where: str
    certain: bool


Lie = int | Mixing | None  # the axis along which the examples lie; None where a value does not depend on them

TOGETHER, UNKNOWN = "together", "unknown"  # what a rule says of an operation that leaves the examples no axis

ELEMENTWISE = (
    "abs", "acos", "acosh", "add", "add_any", "and", "asin", "asinh", "atan", "atan2", "atanh", "cbrt", "ceil", "clamp",
    "convert_element_type", "copy", "copy_p", "cos", "cosh", "div", "eq", "erf", "erf_inv", "erfc", "exp", "exp2",
    "expm1", "floor", "ge", "gt", "imag", "integer_pow", "is_finite", "le", "log", "log1p", "log2", "logistic", "lt",
    "max", "min", "mul", "ne", "neg", "nextafter", "not", "one_minus_square", "or", "pow", "real", "reduce_precision",
    "rem", "round", "rsqrt", "select_n", "sign", "sin", "sinh", "sqrt", "square", "stop_gradient", "sub", "tan", "tanh",
    "xor", "pvary", "pcast",
)  # fmt: skip
REDUCTIONS = ("reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or", "argmax", "argmin")
ALONG_ONE_AXIS = {  # operations on the lines along an axis, and the name of the parameter that says which
    **dict.fromkeys(("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp", "split", "top_k"), "axis"),
    **dict.fromkeys(("sort", "concatenate"), "dimension"),
}
WINDOWS = ("reduce_window", "reduce_window_sum", "reduce_window_max", "reduce_window_min")
COLLECTIVES = ("psum", "psum_invariant", "pmax", "pmin", "all_gather", "all_gather_invariant", "all_to_all", "ppermute")
CALLS = {"jit": "jaxpr", "remat2": "jaxpr", "custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr"}


def mixing(function: Callable[..., jax.Array], batch: Any, *others: Any) -> Mixing | None:
    """Why row i of function(batch, *others) may depend on other rows of the batch than i; None where it does not.

    Args:
      function: what JAX can trace, to an array of as many rows. What it closes over does not depend on the batch.
      batch: an array [B, ...], or its shape and type.
      others: trees of the same, which do not depend on the batch either.
    """
    with native():  # a CPU's forms of convolutions divide a batch into pieces; that they equal these is tested
        program = jax.make_jaxpr(function)(batch, *others).jaxpr
    (lie,) = _outputs(program, [0, *[None] * (len(program.invars) - 1)])
    return (
        Mixing(f"a result with its examples along axis {lie}", False) if isinstance(lie, int) and lie else lie or None
    )


def _outputs(jaxpr: core.Jaxpr, inputs: Sequence[Lie]) -> list[Lie]:
    """How the examples lie in what a program gives, by how they lie in what it is given."""
    known = dict(zip(jaxpr.invars, inputs, strict=True))
    for equation in jaxpr.eqns:
        lies = [None if isinstance(x, core.Literal) else known.get(x) for x in equation.invars]
        known |= zip(equation.outvars, _of_equation(equation, lies), strict=True)
    return [None if isinstance(x, core.Literal) else known.get(x) for x in jaxpr.outvars]


def _of_equation(equation: core.JaxprEqn, lies: list[Lie]) -> list[Lie]:
    name, count = equation.primitive.name, len(equation.outvars)
    if all(lie is None for lie in lies):
        return [None] * count
    if name in CALLS:
        return [_at(equation, lie) for lie in _outputs(_program(equation.params[CALLS[name]]), lies)]
    mixed = next((lie for lie in lies if isinstance(lie, Mixing)), None)
    if mixed and name not in SEVERAL:
        return [mixed] * count
    found = RULES.get(name, _unknown)(equation, lies)
    if isinstance(found, str):
        found = _at(equation, Mixing(name, found == TOGETHER))
    return found if isinstance(found, list) else [found] * count


def _at(equation: core.JaxprEqn, lie: Lie) -> Lie:
    """The same with the place in the source, where that is not known yet: JAX's own functions do not say where."""
    place = source_info_util.summarize(equation.source_info)
    if isinstance(lie, Mixing) and place and " at " not in lie.where:
        return lie._replace(where=f"{lie.where} at {place}")
    return lie


def _program(jaxpr: Any) -> core.Jaxpr:
    return getattr(jaxpr, "jaxpr", jaxpr)


def _shape(x: Any) -> tuple[int, ...]:
    return x.aval.shape


# The rules: of an operation of which some operands depend on the examples, along which axis they lie in its result.


def _unknown(equation: core.JaxprEqn, lies: list[Any]) -> str:
    return UNKNOWN


def _together(equation: core.JaxprEqn, lies: list[Any]) -> str:
    return TOGETHER


def _elementwise(equation: core.JaxprEqn, lies: list[Any]) -> int | str:
    axes = {lie for lie in lies if lie is not None}
    return axes.pop() if len(axes) == 1 else TOGETHER


def _barrier(equation: core.JaxprEqn, lies: list[Any]) -> list[Lie]:
    return lies


def _reduction(equation: core.JaxprEqn, lies: list[Any]) -> int | str:
    axes = equation.params["axes"]
    return TOGETHER if lies[0] in axes else lies[0] - sum(a < lies[0] for a in axes)


def _along_one_axis(equation: core.JaxprEqn, lies: list[Any]) -> int | str:
    axis = _elementwise(equation, lies)
    return TOGETHER if axis == equation.params[ALONG_ONE_AXIS[equation.primitive.name]] else axis


def _stack(equation: core.JaxprEqn, lies: list[Any]) -> int | str:
    axis = _elementwise(equation, lies)
    return axis if isinstance(axis, str) else axis + (equation.params["axis"] <= axis)


def _unstack(equation: core.JaxprEqn, lies: list[Any]) -> int | str:
    axis = equation.params["axis"]
    return TOGETHER if axis == lies[0] else lies[0] - (axis < lies[0])


def _tile(equation: core.JaxprEqn, lies: list[Any]) -> int | str:
    return lies[0] if equation.params["reps"][lies[0]] == 1 else TOGETHER


def _broadcast(equation: core.JaxprEqn, lies: list[Any]) -> int | str:
    axis = equation.params["broadcast_dimensions"][lies[0]]
    return axis if equation.params["shape"][axis] == _shape(equation.invars[0])[lies[0]] else TOGETHER


def _reshape(equation: core.JaxprEqn, lies: list[Any]) -> int | str:
    before, after = _shape(equation.invars[0]), equation.params["new_sizes"]
    rows = math.prod(before[: lies[0]])
    same = (i for i, size in enumerate(after) if size == before[lies[0]] and math.prod(after[:i]) == rows)
    return next(same, UNKNOWN)


def _squeeze(equation: core.JaxprEqn, lies: list[Any]) -> int | str:
    axes = equation.params["dimensions"]
    return UNKNOWN if lies[0] in axes else lies[0] - sum(a < lies[0] for a in axes)


def _transpose(equation: core.JaxprEqn, lies: list[Any]) -> int:
    return equation.params["permutation"].index(lies[0])


def _reverse(equation: core.JaxprEqn, lies: list[Any]) -> int | str:
    return TOGETHER if lies[0] in equation.params["dimensions"] else lies[0]


def _pad(equation: core.JaxprEqn, lies: list[Any]) -> int | str:
    operand, value = lies
    return operand if value is None and not any(equation.params["padding_config"][operand]) else TOGETHER


def _slice(equation: core.JaxprEqn, lies: list[Any]) -> int | str:
    operand, *places = lies
    if operand is None or any(place is not None for place in places):
        return UNKNOWN
    return operand if _shape(equation.outvars[0])[operand] == _shape(equation.invars[0])[operand] else TOGETHER


def _gather(equation: core.JaxprEqn, lies: list[Any]) -> int | str:
    """Values at places: at each example's own (a batching dimension), or at the same ones in all."""
    (operand, places), numbers, shape = lies, equation.params["dimension_numbers"], _shape(equation.invars[0])
    over_places = [d for d in range(len(_shape(equation.outvars[0]))) if d not in numbers.offset_dims]
    if operand is None:
        return over_places[places] if places < len(over_places) else TOGETHER
    if operand in numbers.operand_batching_dims:
        own = numbers.start_indices_batching_dims[numbers.operand_batching_dims.index(operand)]
        return over_places[own] if places in (None, own) else TOGETHER
    gone = (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)
    if places is not None or operand in gone or equation.params["slice_sizes"][operand] != shape[operand]:
        return TOGETHER
    return int(numbers.offset_dims[[d for d in range(len(shape)) if d not in gone].index(operand)])


def _dot(equation: core.JaxprEqn, lies: list[Any]) -> int | str:
    contracted, batched = equation.params["dimension_numbers"]
    if None not in lies:
        pairs = list(zip(*batched, strict=True))
        return pairs.index(tuple(lies)) if tuple(lies) in pairs else TOGETHER
    side = int(lies[0] is None)
    if lies[side] in contracted[side]:
        return TOGETHER
    if lies[side] in batched[side]:
        return batched[side].index(lies[side])
    taken = [(*contracted[i], *batched[i]) for i in (0, 1)]
    free = [[d for d in range(len(_shape(x))) if d not in taken[i]] for i, x in enumerate(equation.invars)]
    return len(batched[0]) + side * len(free[0]) + free[side].index(lies[side])


def _convolution(equation: core.JaxprEqn, lies: list[Any]) -> int | str:
    numbers = equation.params["dimension_numbers"]
    if lies[1] is not None or equation.params["batch_group_count"] != 1:
        return UNKNOWN
    return numbers.out_spec[0] if lies[0] == numbers.lhs_spec[0] else TOGETHER


def _window(equation: core.JaxprEqn, lies: list[Any]) -> Lie | str:
    axis, p = lies[0], equation.params
    alone = axis is not None and p["window_dimensions"][axis] == p["window_strides"][axis] == 1
    return axis if alone and not any(p["padding"][axis]) else TOGETHER


def _cond(equation: core.JaxprEqn, lies: list[Any]) -> list[Lie] | Mixing | str:
    choice, *operands = lies
    if choice is not None:
        return UNKNOWN
    branches = [_outputs(_program(branch), operands) for branch in equation.params["branches"]]
    joined = [{lie for lie in outputs if lie is not None} for outputs in zip(*branches, strict=True)]
    if any(len(lies) > 1 for lies in joined):
        mixed = [lie for lies in joined for lie in lies if isinstance(lie, Mixing)]
        return max(mixed, key=lambda lie: lie.certain, default=UNKNOWN)
    return [lies.pop() if lies else None for lies in joined]


def _scan(equation: core.JaxprEqn, lies: list[Any]) -> list[Lie] | str:
    """A loop over the examples, which carries nothing from one to the next."""
    program = _program(equation.params["jaxpr"])
    # In the loop a value is a row of what it goes over, and has an axis less; what it carries has as many.
    row_of_input, row_of_output = (
        [len(_shape(inside)) < len(_shape(outside)) for outside, inside in zip(*both, strict=True)]
        for both in ((equation.invars, program.invars), (equation.outvars, program.outvars))
    )
    if any(lie not in ((0, None) if row else (None,)) for row, lie in zip(row_of_input, lies, strict=True)):
        return UNKNOWN
    one = Mixing("an example", False)  # all of a row in the loop is of one
    found = _outputs(program, [one if lie == 0 else lie for lie in lies])
    carried = any(lie for row, lie in zip(row_of_output, found, strict=True) if not row)
    return UNKNOWN if carried else [0 if lie else None for lie in found]


SEVERAL = {"cond": _cond, "scan": _scan, "optimization_barrier": _barrier}  # whose results may differ in it
RULES = {
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **dict.fromkeys(REDUCTIONS, _reduction),
    **dict.fromkeys(ALONG_ONE_AXIS, _along_one_axis),
    **dict.fromkeys(WINDOWS, _window),
    **dict.fromkeys(COLLECTIVES, _together),
    **SEVERAL,
    "broadcast_in_dim": _broadcast,
    "reshape": _reshape,
    "squeeze": _squeeze,
    "transpose": _transpose,
    "rev": _reverse,
    "pad": _pad,
    "slice": _slice,
    "dynamic_slice": _slice,
    "gather": _gather,
    "stack": _stack,
    "unstack": _unstack,
    "tile": _tile,
    "dot_general": _dot,
    "conv_general_dilated": _convolution,
}
