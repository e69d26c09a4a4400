"""Functions of the user's own: where they stand, and whether what they give and ask for is there."""

import contextlib
import inspect
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp


def place(function: Any) -> str:
    """What a function of the user's is called, and where it stands."""
    function = inspect.unwrap(getattr(function, "func", function))
    code = getattr(function, "__code__", None) or getattr(type(function).__call__, "__code__", None)
    where = f" ({Path(code.co_filename).name}:{code.co_firstlineno})" if code else ""
    return f"{getattr(function, '__qualname__', type(function).__name__)}{where}"


@contextlib.contextmanager
def keys_named(there: Callable[[], Mapping[str, Any]]) -> Iterator[None]:
    """Within this block a function of the user's that asks for a key that is missing is told which there are.

    Raises:
      ValueError: in place of the KeyError, in one line with its place.
    """
    try:
        yield
    except KeyError as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        has = {name: sorted(map(str, x)) for name, x in there().items() if isinstance(x, Mapping)}
        raise ValueError(
            f"there is no {error} ({Path(frame.filename).name}:{frame.lineno}); "
            + "; ".join(f"{name} has {', '.join(names) or 'nothing'}" for name, names in has.items())
        ) from error


def scalar(what: str, value: Any) -> tuple[jax.Array, dict[str, jax.Array]]:
    """What a function of the user's gives, if it is one number, or a pair of one and metrics.

    Raises:
      ValueError: it is not.
    """
    value, metrics = value if isinstance(value, tuple) else (value, {})
    for name, x in {what: value, **{f"{what}: the metric {name}": x for name, x in metrics.items()}}.items():
        if jnp.shape(x) != ():
            raise ValueError(f"{name} must give a scalar, a mean over examples, not shape {list(jnp.shape(x))}")
    return value, dict(metrics)


def joined(*metrics: Mapping[str, Any]) -> dict[str, Any]:
    """All of several metrics.

    Raises:
      ValueError: two have one name.
    """
    names = [name for each in metrics for name in each]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"two metrics are named {twice[0]!r}; give one another name")
    return {name: value for each in metrics for name, value in each.items()}
