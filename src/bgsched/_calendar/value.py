"""What all timings and frequencies share: how a frozen value is built, shown and stored."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import fields
from datetime import date, time, timedelta
from typing import Any, ClassVar

from dateutil.rrule import weekday

from bgsched._calendar.fields import time_text

__all__ = ["Value", "init"]


class Value(ABC):
    """A frozen value: JSON and repr leave out what is not set."""

    __slots__ = ()
    _positional: ClassVar[int] = 1

    def to_dict(self) -> dict[str, Any]:
        """Return the value as JSON types; :func:`timing_from_dict` reads it back."""
        named = {name: encoded(value) for name, value in self._set()}
        return {"type": type(self).__name__.lower(), **named}

    @abstractmethod
    def describe(self) -> str:
        """Say in words when it fires."""

    def _set(self) -> Iterator[tuple[str, Any]]:
        for place, item in enumerate(fields(self)):  # type: ignore[arg-type]  # every subclass is a dataclass
            value = getattr(self, item.name)
            if item.init and (value != item.default or (place < self._positional and value is not None)):
                yield item.name, value

    def __repr__(self) -> str:
        first = [item.name for item in fields(self)][: self._positional]  # type: ignore[arg-type]
        parts = [_shown(value) if name in first else f"{name}={_shown(value)}" for name, value in self._set()]
        return f"{type(self).__name__}({', '.join(parts)})"

    def __str__(self) -> str:
        return self.describe()


def encoded(value: Any) -> Any:
    if isinstance(value, Value):
        return value.to_dict()
    if isinstance(value, tuple):
        return [encoded(item) for item in value]
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, date | time):  # a datetime is a date
        return value.isoformat()
    return str(value) if isinstance(value, weekday) else value


def _shown(value: Any) -> str:
    if isinstance(value, time):
        return repr(time_text(value))
    if isinstance(value, tuple):
        return f"({', '.join(_shown(item) for item in value)}{',' if len(value) == 1 else ''})"
    return repr(value)


def init(value: object, **changes: Any) -> None:
    """Set fields of a frozen value while it is built."""
    for name, change in changes.items():
        object.__setattr__(value, name, change)
