"""Fields of a recipe's groups: each with what `--help` says of it, and which values it may have."""

import dataclasses
import math
import types
from collections.abc import Callable
from typing import Any, Literal, Union, get_args, get_origin

from jaxgan.recipes.description import describe

Allowed = tuple[str, Callable[[Any], bool]]  # which values a setting may have: in words, and as a function
POSITIVE: Allowed = ("at least 1", lambda x: x >= 1)
NOT_NEGATIVE: Allowed = ("at least 0", lambda x: x >= 0)
RATE: Allowed = ("at least 0 and finite", lambda x: 0 <= x < math.inf)
SHARE: Allowed = ("from 0 to 1", lambda x: 0 <= x <= 1)
DECAY: Allowed = ("at least 0 and below 1", lambda x: 0 <= x < 1)
FACTOR: Allowed = ("above 0 and at most 1", lambda x: 0 < x <= 1)
ABOVE_0: Allowed = ("above 0 and finite", lambda x: 0 < x < math.inf)
ANY: Allowed = ("", lambda x: True)
# What a setting of a plain type must be: in words, and as types.
PLAIN = {int: ("a whole number", int), float: ("a number", int | float), str: ("a name", str)}


def setting(default: Any, text: str, allowed: Allowed = ANY) -> Any:
    """A field of a group: its default, what `--help` says of it, and which values it may have."""
    return dataclasses.field(default=default, metadata={"help": text, "allowed": allowed})


def check(group: Any) -> None:
    """Refuses values that no run could use.

    Raises:
      ValueError: with the setting, what is allowed, and the value.
    """
    for field in dataclasses.fields(group):
        value, name, (kind, *others) = getattr(group, field.name), f"`{field.name}`", kinds(field)
        if get_origin(kind) is tuple and not (isinstance(value, tuple) and all(map(callable, value))):
            raise ValueError(f"{field.name} must be a tuple of functions, such as (f,), not {describe(value)}")
        if kind is bool and not isinstance(value, bool):
            raise ValueError(f"{name} must be True or False, not {value!r}")
        if others and (value is None if others == [type(None)] else callable(value)):
            continue
        words, types_of = PLAIN.get(kind, ("", object))
        if words and (isinstance(value, bool) or not isinstance(value, types_of)):
            raise ValueError(f"{name} must be {words}, not {value!r}")
        words, holds = field.metadata["allowed"]
        if get_origin(kind) is Literal and (isinstance(value, str) or not others):
            words, holds = f"one of {', '.join(get_args(kind))}", get_args(kind).__contains__
        if not holds(value):
            shown = value if isinstance(value, str | int | float | list) else describe(value)
            raise ValueError(f"{name} must be {words}, not {shown}")


def kinds(field: dataclasses.Field[Any]) -> tuple[Any, ...]:
    """What a setting may be: first the type of its plain values, then None, or what else there is in recipes."""
    return get_args(field.type) if get_origin(field.type) in (Union, types.UnionType) else (field.type,)


def plain_kind(field: dataclasses.Field[Any]) -> Any:
    """What a flag of a setting gives: the type of its plain values, without functions and objects of one's own."""
    kind, *others = kinds(field)
    return kind | None if type(None) in others else kind
