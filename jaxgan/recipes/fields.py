"""Fields of a recipe's groups: each with what `--help` says of it, and which values it may have."""

import dataclasses
import math
import types
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

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
CLIP = Allowed("above 0 and finite", lambda x: 0 < x < math.inf)
PLAIN = {
    int: ("a whole number", int),
    float: ("a number", int | float),
    bool: ("True or False", bool),
    str: ("a name", str),
}


def setting(default: Any, text: str, allowed: Allowed | None = None) -> Any:
    """A field of a group: its default, what `--help` says of it, and which values it may have."""
    return dataclasses.field(default=default, metadata={"help": text, "allowed": allowed})


def check(group: Any) -> None:
    """Refuses values that no run could use.

    Raises:
      ValueError: with the flag, what is allowed, and the value.
    """
    for field in dataclasses.fields(group):
        value, allowed, kinds = getattr(group, field.name), field.metadata["allowed"], kinds_of(field.type)
        flag = f"--{field.name.replace('_', '-')}"
        if get_origin(field.type) is tuple and not (isinstance(value, tuple) and all(map(callable, value))):
            raise ValueError(f"{field.name} must be a tuple of functions, such as (f,), not {describe(value)}")
        words, plain = PLAIN.get(kinds[0], ("", object))
        is_plain = isinstance(value, plain) and (kinds[0] is bool or not isinstance(value, bool))
        is_other = value is None if type(None) in kinds else len(kinds) > 1 and callable(value)
        if words and not (is_plain or is_other):
            raise ValueError(f"{flag} must be {words}, not {value!r}")
        if get_origin(kinds[0]) is Literal and (len(kinds) == 1 or isinstance(value, str)):
            choices = get_args(kinds[0])
            allowed = Allowed(f"one of {', '.join(choices)}", choices.__contains__)
        if allowed and not is_other and not allowed.holds(value):
            shown = value if isinstance(value, str | int | float | list) else describe(value)
            raise ValueError(f"{flag} must be {allowed.words}, not {shown}")


def plain_kind(annotation: Any) -> Any:
    """What a flag of a setting gives: the type of its plain values, without functions and objects of one's own."""
    kinds = kinds_of(annotation)
    return kinds[0] | None if type(None) in kinds else kinds[0]


def kinds_of(annotation: Any) -> tuple[Any, ...]:
    """What a setting may be: first the type of its plain values, then others."""
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)
