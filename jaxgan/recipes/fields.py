"""Fields of a recipe's groups: each with what `--help` says of it, and which values it may have."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args, get_origin

from jaxgan.recipes.described import describe


class Allowed(NamedTuple):
    """Which values a setting may have: in words, and as a function."""

    words: str
    holds: Callable[[Any], bool]


POSITIVE = Allowed("at least 1", lambda x: x >= 1)
NOT_NEGATIVE = Allowed("at least 0", lambda x: x >= 0)
RATE = Allowed("at least 0 and finite", lambda x: 0 <= x < math.inf)
SHARE = Allowed("from 0 to 1", lambda x: 0 <= x <= 1)
DECAY = Allowed("at least 0 and below 1", lambda x: 0 <= x < 1)
FACTOR = Allowed("above 0 and at most 1", lambda x: 0 < x <= 1)
CLIP = Allowed("above 0 and finite", lambda x: x is None or 0 < x < math.inf)


def setting(default: Any, text: str, allowed: Allowed | None = None) -> Any:
    """A field of a group: its default, what `--help` says of it, and which values it may have."""
    return dataclasses.field(default=default, metadata={"help": text, "allowed": allowed})


def check(group: Any) -> None:
    """Refuses values that no run could use.

    Raises:
      ValueError: with the flag, what is allowed, and the value.
    """
    for field in dataclasses.fields(group):
        value, allowed = getattr(group, field.name), field.metadata["allowed"]
        choices = choices_of(field.type)
        if wrong := _wrong_type(field.type, value):
            raise ValueError(f"--{field.name.replace('_', '-')} must be {wrong}, not {value!r}")
        if choices and (get_origin(field.type) is Literal or isinstance(value, str)):
            allowed = Allowed(f"one of {', '.join(choices)}", lambda x, choices=choices: x in choices)
        elif callable(value):  # `_wrong_type` has seen that it may be one
            allowed = None
        if allowed and not allowed.holds(value):
            shown = value if isinstance(value, str | int | float | list) else describe(value)
            raise ValueError(f"--{field.name.replace('_', '-')} must be {allowed.words}, not {shown}")


def _wrong_type(annotation: Any, value: Any) -> str:
    """What a plain value should be, in words, where it is not; else nothing."""
    kinds = {int: ("a whole number", int), float: ("a number", int | float), str: ("a name", str)}
    if annotation is bool:
        return "" if isinstance(value, bool) else "True or False"
    if others := set(get_args(annotation)) - {float} if float in get_args(annotation) else ():  # a schedule, or None
        allowed = value is None if others == {type(None)} else callable(value)
        return "" if allowed else _wrong_type(float, value)
    words, kind = kinds.get(annotation, ("", object))
    return "" if isinstance(value, kind) and not (words and isinstance(value, bool)) else words


def choices_of(annotation: Any) -> tuple[str, ...]:
    """The names that a field may have as its value, where it has such."""
    kinds = (annotation, *get_args(annotation))
    return next((get_args(kind) for kind in kinds if get_origin(kind) is Literal), ())
