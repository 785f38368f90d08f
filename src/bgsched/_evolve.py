"""Frozen values, made and changed fast.

Does what the constructor and ``dataclasses.replace`` do for values whose constructor only keeps what it is given, at a
fraction of the cost: a run is made once and copied at every step of its way. A frozen class refuses to set its own
fields, so a value is put together as an *open twin* of its class, and takes the class on when it is whole: Python lets
it where both have the same slots. Such a value is a frozen dataclass with slots and without ``__post_init__``.
"""

from collections.abc import Callable
from dataclasses import fields
from functools import cache, partial
from typing import Any, TypeVar, cast

__all__ = ["changer", "evolve", "maker"]

V = TypeVar("V")


def evolve(value: V, /, **changes: Any) -> V:
    """Return a copy of *value* with *changes*, which must be names of its fields."""
    changed: V = changer(type(value), *changes)(value, *changes.values())  # type: ignore[arg-type]  # it is hashable
    return changed


def maker(kind: Callable[..., V], *names: str) -> Callable[..., V]:
    """Return a function that makes values of *kind* from these fields, in this order; the others are as by default."""
    return partial(changer(kind, *names), kind(**dict.fromkeys(names)))


@cache
def changer(kind: Callable[..., V], *changed: str) -> Callable[..., V]:
    """Return what `evolve` does for one kind and these fields: called with a value, and with what they become."""
    names = [part.name for part in fields(cast("Any", kind))]
    if unknown := set(changed).difference(names):
        raise TypeError(f"{kind} has no field {' and no field '.join(sorted(unknown))}")
    # Written out, as `dataclasses` writes its own functions: a loop over the fields would cost ten times that.
    copied = "".join(f" made.{name} = {name if name in changed else f'value.{name}'}\n" for name in names)
    text = f"def change(value, {', '.join(changed)}):\n made = _open()\n{copied} made.__class__ = _kind\n return made\n"
    known: dict[str, Any] = {"_open": _open_twin(cast("type", kind)), "_kind": kind}
    exec(text, known)  # noqa: S102  names of our own fields
    return cast("Callable[..., V]", known["change"])


@cache
def _open_twin(kind: type) -> type:
    return type(f"Open{kind.__name__}", (), {"__slots__": [part.name for part in fields(kind)]})
