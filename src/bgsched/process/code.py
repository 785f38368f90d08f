"""What a function tells of itself: its name, its params, whether it is async, where it stands in the source."""

import inspect
from collections.abc import Callable
from typing import Any

from bgsched._codec import show
from bgsched._names import name_problem
from bgsched.errors import ProcessNameError

__all__ = ["check_name", "is_async", "place_of", "same_code", "signature_of"]


def check_name(name: object) -> None:
    """Refuse what cannot name a process, or what was decorated where a function or a name belongs.

    Raises:
        ProcessNameError: it is that.
    """
    if not isinstance(name, str):
        hint = "options go by keyword, such as timing=Schedule(...)"
        if hasattr(name, "__get__"):  # classmethod(...) and its kin stand for a function, and are none
            hint = "register what belongs to a class bound: process('a-name')(Shop.restock)"
        raise ProcessNameError(f"process() takes a name or a function, got {show(name)}; {hint}")
    if (problem := name_problem(name)) is not None:
        raise ProcessNameError(f"a process's name {problem}")


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling it returns what is to be awaited."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004  an object that can be called may be async too


def signature_of(name: str, function: Callable[..., Any]) -> inspect.Signature:
    """Return the signature of what is to be the process of that name.

    Raises:
        ProcessNameError: calling it runs nothing, or its params cannot be stored by name.
    """
    if not callable(function):
        raise ProcessNameError(f"process {name!r} must be a function, got {function!r}")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ProcessNameError(f"process {name!r} has a yield: calling it runs nothing of it; write a plain function")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        raise ProcessNameError(
            f"process {name!r}: nobody can tell the params of {function!r}; register a function that calls it"
        ) from None
    first = next(iter(signature.parameters), None)
    if first in ("self", "cls") and _is_of_a_class(function):
        raise ProcessNameError(
            f"process {name!r} takes {first!r}, which no params can hold; "
            f"register the method bound to its object: process({name!r})(shop.restock)"
        )
    for parameter in signature.parameters.values():
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL):
            hint = "give it a name and a place before any '*', without '/'"
            if parameter.kind is parameter.VAR_POSITIONAL:
                hint += "; a decorator that hides the params of a function wants functools.wraps"
            raise ProcessNameError(
                f"process {name!r} takes {parameter} by position, but params are stored by name; {hint}"
            )
    return signature


def _is_of_a_class(function: Callable[..., Any]) -> bool:
    holder = getattr(function, "__qualname__", "").rpartition(".")[0]
    return bool(holder) and not holder.endswith("<locals>")


def same_code(one: Callable[..., Any], other: Callable[..., Any]) -> bool:
    """Return whether both come from one place in the source: who loads a module twice registers the same again."""
    return one is other or (place_of(one) == place_of(other) and "<locals>" not in place_of(one))


def place_of(function: Callable[..., Any]) -> str:
    """Return where a function is defined, in words."""
    return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', function)}"
