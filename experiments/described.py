"""Settings as values that JSON can hold: what a run's `config.json` says of modules, functions and objects."""

import dataclasses
import functools
from typing import Any


def is_plain(value: Any) -> bool:
    """Whether a value is one that a flag can give."""
    return value is None or isinstance(value, str | int | float)


def describe(value: Any) -> Any:
    """A value as JSON can hold it: an object by where it is defined, with those attributes that are not the default."""
    if is_plain(value):
        return value
    if isinstance(value, tuple | list):
        return [describe(item) for item in value]
    if isinstance(value, dict):
        return {name: describe(item) for name, item in value.items()}
    if isinstance(value, functools.partial):
        bound = [str(describe(arg)) for arg in value.args] + [f"{k}={describe(v)}" for k, v in value.keywords.items()]
        return f"partial({', '.join([describe(value.func), *bound])})"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        kind = type(value)
        shown = [
            f"{field.name}={describe(getattr(value, field.name))}"
            for field in dataclasses.fields(value)
            if field.name not in ("parent", "name") and getattr(value, field.name) != field.default
        ]
        return f"{kind.__module__}:{kind.__qualname__}" + (f"({', '.join(shown)})" if shown else "")
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{named.__module__}:{named.__qualname__}"
