"""Frozen values, made and changed fast.

Does what the constructor and ``dataclasses.replace`` do for values whose constructor only keeps what it is given, at a
fraction of the cost: a run is made once and copied at every step of its way. A frozen class refuses to set its own
fields, so a value is put together as an *open twin* of its class, and takes the class on when it is whole: Python lets
it where both have the same slots. Such a value is a frozen dataclass with slots and without ``__post_init__``.
"""

from collections.abc import Callable, Iterator
from dataclasses import MISSING, Field, fields
from functools import cache
from typing import Any, ParamSpec, TypeVar, cast

__all__ = ["changer", "evolve", "maker"]

P = ParamSpec("P")
V = TypeVar("V")


def evolve(value: V, /, **changes: Any) -> V:
    """Return a copy of *value* with *changes*, which must be names of its fields."""
    changed: V = changer(type(value), *changes)(value, *changes.values())  # type: ignore[arg-type]  # it is hashable
    return changed


def maker(kind: Callable[P, V]) -> Callable[P, V]:
    """Return a function that does what ``kind(...)`` does; all arguments by name."""
    parts = fields(cast("Any", kind))
    names = [part.name for part in parts]
    known = {"_open": _open_twin(cast("type", kind)), "_kind": kind, "_given": MISSING}
    wanted = ", ".join(_parameter(part, known) for part in parts)
    lines = ["made = _open()", *_settings(names, known), "made.__class__ = _kind", "return made"]
    return cast("Callable[P, V]", _function(f"make(*, {wanted})", lines, known))


@cache
def changer(kind: Callable[..., V], *changed: str) -> Callable[..., V]:
    """Return what `evolve` does for one kind and these fields: called with a value, and with what they become."""
    names = [part.name for part in fields(cast("Any", kind))]
    if unknown := set(changed).difference(names):
        raise TypeError(f"{kind} has no field {' and no field '.join(sorted(unknown))}")
    sources = [f"made.{name} = {name if name in changed else f'value.{name}'}" for name in names]
    known = {"_open": _open_twin(cast("type", kind)), "_kind": kind}
    lines = ["made = _open()", *sources, "made.__class__ = _kind", "return made"]
    return _function(f"change(value, {', '.join(changed)})", lines, known)


@cache
def _open_twin(kind: type) -> type:
    return type(f"Open{kind.__name__}", (), {"__slots__": [part.name for part in fields(kind)]})


def _parameter(part: Field[Any], known: dict[str, Any]) -> str:
    """Return the parameter for a field; what it stands for when it is not given is put among the *known* names."""
    if part.default is not MISSING:
        known[f"_default_{part.name}"] = part.default
        return f"{part.name}=_default_{part.name}"
    if part.default_factory is not MISSING:
        known[f"_factory_{part.name}"] = part.default_factory
        return f"{part.name}=_given"
    return part.name


def _settings(names: list[str], known: dict[str, Any]) -> Iterator[str]:
    for name in names:
        made = f"_factory_{name}() if {name} is _given else " if f"_factory_{name}" in known else ""
        yield f"made.{name} = {made}{name}"


def _function(signature: str, lines: list[str], known: dict[str, Any]) -> Callable[..., Any]:
    """Write the function out, as `dataclasses` does with its own: a loop over the fields would cost ten times that."""
    defined: dict[str, Any] = {}
    exec(f"def {signature}:\n " + "\n ".join(lines), known, defined)  # noqa: S102  names of our own fields
    return cast("Callable[..., Any]", next(iter(defined.values())))
