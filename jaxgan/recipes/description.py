"""Settings as JSON values and as text: what `config.json` says of modules, functions and objects."""

import dataclasses
import functools
import hashlib
import types
from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

FILE_MODULE = "recipe_file"  # what a config says for the module of a user's file; in a process, @ and more follow


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
        shown = [
            f"{field.name}={describe(getattr(value, field.name))}"
            for field in dataclasses.fields(value)
            if field.name not in ("parent", "name") and getattr(value, field.name) != field.default
        ]
        return _defined(type(value)) + (f"({', '.join(shown)})" if shown else "")
    return _defined(value if hasattr(value, "__qualname__") else type(value))


def _defined(named: Any) -> str:
    """Where a class or a function is defined. A user's file is called the same wherever it lies."""
    return f"{str(named.__module__).partition('@')[0]}:{named.__qualname__}"


def take_apart(value: Any, code: bool = True, seen: dict[int, int] | None = None) -> Any:
    """A value as text, down to what its functions close over, such as an optimiser's rates; a plain one is itself.

    Globals that a function reads are not followed. What cannot be looked into is as `str` has it.

    Args:
      value: what.
      code: whether functions that do otherwise have another text, so that two values can be compared in this process;
        without, it is for people.
      seen: objects that were met on the way here, by their number.
    """
    seen = {} if seen is None else seen
    if is_plain(value):
        return value
    if isinstance(value, np.ndarray | np.generic | jax.Array) and not isinstance(value, Tracer):
        if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            value = jax.random.key_data(value)
        array = np.asarray(value)
        content = array.item() if array.ndim == 0 else hashlib.sha256(array.tobytes()).hexdigest()[:16]
        return f"{array.dtype}{list(array.shape)}({content})"
    if isinstance(value, types.ModuleType):
        return value.__name__
    if isinstance(value, type | types.BuiltinFunctionType):
        return _defined(value)
    if id(value) in seen:
        return f"again {seen[id(value)]}"
    if not _is_sequence(value):
        seen[id(value)] = len(seen)
    name, held = _opened(value)
    if code and isinstance(value, types.FunctionType):
        name += f" {hash(value.__code__)}"
    parts = [(label, take_apart(item, code, seen)) for label, item in held]
    shown = [f"{label}={part}" if label else str(part) for label, part in parts]
    return name + (f"({', '.join(shown)})" if shown else "")


def _is_sequence(value: Any) -> bool:
    return isinstance(value, tuple | list) and not hasattr(value, "_fields")


def _opened(value: Any) -> tuple[str, Iterable[tuple[str, Any]]]:
    """What a function or an object is called, and what it holds: values with their names, or ""."""
    if _is_sequence(value):
        return "", [("", item) for item in value]
    if isinstance(value, types.FunctionType):
        cells = zip(value.__code__.co_freevars, value.__closure__ or (), strict=True)
        held = [(name, cell.cell_contents) for name, cell in cells if cell != types.CellType()]  # that have a value
        return _defined(value), held + [("defaults", x) for x in (value.__defaults__, value.__kwdefaults__) if x]
    if isinstance(value, types.MethodType):
        return _defined(value), [("", value.__self__), ("", value.__func__)]
    if isinstance(value, functools.partial):
        return "partial", [("", item) for item in (value.func, *value.args, *value.keywords.items())]
    if isinstance(value, dict):
        return "", [(str(name), item) for name, item in value.items()]
    if hasattr(value, "_fields"):
        held = zip(value._fields, value, strict=True)
    elif dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value) if field.name not in ("parent", "name")]
        held = [(name, getattr(value, name)) for name in names]
    elif hasattr(value, "__wrapped__"):
        held = [("", value.__wrapped__)]
    elif hasattr(value, "__dict__"):
        held = vars(value).items()
    else:
        return str(value), ()
    return _defined(type(value)), held
