"""Settings as values that JSON can hold: what a run's `config.json` says of modules, functions and objects."""

import dataclasses
import functools
import hashlib
import types
from typing import Any, NamedTuple

import jax
import numpy as np

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


class Part(NamedTuple):
    """A function or an object taken apart; equal to another that was made in the same way of equal parts.

    Attributes:
      name: where it is defined.
      held: the parts it holds, each with its name, or "".
      code: of a function.
    """

    name: str
    held: tuple[tuple[str, Any], ...] = ()
    code: Any = None

    def __str__(self) -> str:
        """As `describe` writes it, without the code."""
        shown = [f"{name}={part}" if name else str(part) for name, part in self.held]
        return self.name + (f"({', '.join(shown)})" if shown else "")


def take_apart(value: Any, seen: dict[int, int] | None = None) -> Any:
    """A value down to what its functions close over, such as an optimiser's rates, so that two can be compared.

    What cannot be looked into is itself, and so equal to nothing that was made anew. Globals that a function reads are
    not followed.
    """
    seen = {} if seen is None else seen
    inner = functools.partial(take_apart, seen=seen)
    if is_plain(value):
        return value
    if isinstance(value, tuple | list) and not hasattr(value, "_fields"):
        return Part("", tuple(("", inner(item)) for item in value))
    if isinstance(value, np.ndarray | np.generic | jax.Array) and not isinstance(value, jax.core.Tracer):
        if jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
            value = jax.random.key_data(value)
        array = np.asarray(value)
        content = array.item() if array.ndim == 0 else hashlib.sha256(array.tobytes()).hexdigest()[:16]
        return Part(f"{array.dtype}{list(array.shape)}", (("", content),))
    if isinstance(value, types.ModuleType):
        return Part(value.__name__)
    if isinstance(value, type | types.BuiltinFunctionType):
        return Part(_defined(value))
    if id(value) in seen:
        return Part(f"again {seen[id(value)]}")
    seen[id(value)] = len(seen)
    if isinstance(value, types.FunctionType):
        held = [(name, cell.cell_contents) for name, cell in _cells(value)]
        held += [("defaults", value.__defaults__)] * bool(value.__defaults__)
        held += [("defaults", value.__kwdefaults__)] * bool(value.__kwdefaults__)
        return Part(_defined(value), tuple((name, inner(content)) for name, content in held), value.__code__)
    if isinstance(value, types.MethodType):
        return Part(_defined(value), (("", inner(value.__self__)), ("", inner(value.__func__))))
    if isinstance(value, functools.partial):
        held = [*value.args, *value.keywords.items()]
        return Part("partial", (("", inner(value.func)), *(("", inner(item)) for item in held)))
    if isinstance(value, dict):
        return Part("", tuple((str(name), inner(item)) for name, item in value.items()))
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
        return value
    return Part(_defined(type(value)), tuple((name, inner(content)) for name, content in held))


def _cells(function: types.FunctionType) -> list[tuple[str, Any]]:
    """What a function closes over, by name; a name that has no value yet is left out."""
    named = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    return [(name, cell) for name, cell in named if cell != types.CellType()]
