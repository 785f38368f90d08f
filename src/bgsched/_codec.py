"""How params become JSON and come back, guided by type hints.

A `Codec` stands for one type hint. `store` turns a value into JSON, and takes JSON that can be read as such a value
just as well, so that a command line or a form can file requests; `load` turns JSON back into the value. What is stored
is plain JSON without a single name of a type: which class is made from it is decided by the hints of the code that
runs, never by what is stored.

What goes in comes out equal: a value that would come back as something else (a text that looks like a date, where the
hint allows either) is refused when it goes in.
"""

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

__all__ = [
    "TEXTS",
    "AmbiguousError",
    "Choice",
    "Codec",
    "MisfitError",
    "Plain",
    "Refused",
    "Scalar",
    "Span",
    "Text",
    "check_key",
    "show",
]

_LONGEST_SHOWN = 80
_DEEPEST = 100
_FLOAT_BITS = 1_023  # a whole number of more may be too great for a float
_MOST_BITS = 14_280  # a whole number of more has more digits than Python's own reader of JSON takes


class MisfitError(Exception):
    """A value that does not fit, with its place and what to write instead."""


class AmbiguousError(MisfitError):
    """A value that would come back as another."""


class Codec(ABC):
    """Turns the values of one type hint into JSON and back."""

    what = "a value"
    late = 0  # the arms of a union are tried in this order: what takes any text comes last

    @abstractmethod
    def store(self, value: Any, path: str) -> Any:
        """Return *value* as JSON. Raises MisfitError."""

    @abstractmethod
    def load(self, data: Any, path: str) -> Any:
        """Return the value that *data* stands for. Raises MisfitError."""

    def kept(self, data: Any, path: str) -> Any:
        """Return a copy of *data*, which was stored before, if it still stands for something. Raises MisfitError."""
        self.load(data, path)
        return _copied(data)

    def settled(self, data: Any, path: str) -> Any:
        """Return the one JSON for what *data* stands for: equal values have equal ones. Raises MisfitError."""
        return self.store(self.load(data, path), path)

    def misfit(self, value: Any, path: str) -> MisfitError:
        """Return the error for a value that does not fit at all."""
        return MisfitError(f"{path} must be {self.what}, got {show(value)}")


def show(value: Any, longest: int = _LONGEST_SHOWN) -> str:
    """Return the value for a message, cut where it is long."""
    try:
        text = repr(value)
    except Exception as error:  # noqa: BLE001  a value may fail to say what it is
        text = f"<{type(value).__name__} whose repr failed: {type(error).__name__}>"
    return text if len(text) <= longest else text[: longest - 3] + "..."


class Plain(Codec):
    """No hint, ``Any`` or ``object``: JSON as it is."""

    what = "JSON"
    late = 9

    def store(self, value: Any, path: str) -> Any:
        """Return *value* if it is JSON, as a database would give it back."""
        self._check(value, path, 0)
        return _copied(value)

    def load(self, data: Any, path: str) -> Any:  # noqa: ARG002  the shape of a codec
        """Return *data*, as the process's own: what it changes in it is changed nowhere else."""
        return _copied(data)

    def _check(self, value: Any, path: str, depth: int) -> None:
        if depth > _DEEPEST:
            raise MisfitError(f"{path[:40]}... is nested deeper than {_DEEPEST}, or contains itself")
        if isinstance(value, list):
            for place, item in enumerate(value):
                self._check(item, f"{path}[{place}]", depth + 1)
        elif isinstance(value, dict):
            for key, item in value.items():
                check_key(key, path)
                self._check(item, f"{path}.{key}", depth + 1)
        else:
            _check_scalar(value, path)


def _copied(data: Any) -> Any:
    if isinstance(data, dict):
        return {_exact(name): _copied(item) for name, item in data.items()}
    return [_copied(item) for item in data] if isinstance(data, list) else _exact(data)


def _exact(value: Any) -> Any:
    """Return a text or number of a class of its own, such as a member of an ``IntEnum``, as what JSON makes of it."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return int.__int__(value)
    return float.__float__(value) if isinstance(value, float) else value


def _check_scalar(value: Any, path: str) -> None:
    if isinstance(value, str):
        _check_text(value, path)
    elif isinstance(value, float):
        _check_finite(value, path)
    elif isinstance(value, int):
        if value.bit_length() > _MOST_BITS:
            raise MisfitError(
                f"{path} is a whole number of thousands of digits, which JSON cannot carry; write a string"
            )
    elif value is not None:
        raise MisfitError(f"{path} is of type {type(value).__name__}, which is not JSON; {_advice(value, path)}")


def _check_text(value: str, path: str) -> None:
    if "\0" in value:  # PostgreSQL would keep it, and then answer no question about any param with `->>`
        raise MisfitError(f"{path} is {show(value)}, which has a NUL character; write it without, or as base64")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise MisfitError(f"{path} is {show(value)}, which is no text that UTF-8 can hold") from None


def _check_finite(value: float, path: str) -> None:
    if not math.isfinite(value):
        raise MisfitError(f"{path} is {value}, which JSON does not have; write None or a string")


def check_key(key: Any, path: str) -> None:
    """Refuse what is no key of JSON."""
    if not isinstance(key, str):
        raise MisfitError(
            f"{path} has the key {show(key)}, which is no string; JSON keys are strings: write {str(key)!r}"
        )
    _check_text(key, path)


def _advice(value: Any, path: str) -> str:
    if isinstance(value, tuple | set | frozenset):
        return "write a list, or give the param a type hint"
    if isinstance(value, bytes | bytearray):
        return "write a string, such as base64.b64encode(...).decode()"
    if isinstance(value, (*TEXTS, timedelta, Enum)) or dataclasses.is_dataclass(value):
        name = path.split(".", maxsplit=1)[0].split("[", maxsplit=1)[0]
        return f"give the param a type hint, such as {name}: {type(value).__name__}"
    return "write a string, number, list or dict"


class Scalar(Codec):
    """``str``, ``int``, ``float``, ``bool``, ``None``: what JSON has itself."""

    def __init__(self, kind: type) -> None:
        self.kind = kind
        self.what = (
            "None" if kind is type(None) else {"str": "a str", "int": "an int"}.get(kind.__name__, f"a {kind.__name__}")
        )
        self.late = {str: 8, int: -1}.get(kind, 0)

    def store(self, value: Any, path: str) -> Any:
        if isinstance(value, Enum) and isinstance(value, self.kind):
            value = value.value
        if self.kind is float and isinstance(value, int) and not isinstance(value, bool):
            if value.bit_length() > _FLOAT_BITS:
                raise self.misfit(value, path)
            if float(value) != value:
                raise MisfitError(f"{path} has more digits than a float keeps, got {show(value)}; write a float")
            return _exact(value)
        if not isinstance(value, self.kind) or (isinstance(value, bool) and self.kind is not bool):
            raise self.misfit(value, path)
        _check_scalar(value, path)
        return _exact(value)

    def load(self, data: Any, path: str) -> Any:
        stored = self.store(data, path)
        return float(stored) if self.kind is float else stored


@dataclasses.dataclass(frozen=True)
class _Form:
    """How a type is written as text: an *example*, and the functions there and back."""

    example: str
    write: Callable[[Any], str]
    read: Callable[[str], Any]


def _write_datetime(value: datetime) -> str:
    """Return ISO 8601; where the zone has a name, with the name behind it, as RFC 9557 does."""
    zone = value.tzinfo
    return value.isoformat() + (f"[{zone.key}]" if isinstance(zone, ZoneInfo) and zone.key else "")


def _read_datetime(text: str) -> datetime:
    text, bracket, zone = text.partition("[")
    if len(text) <= len("2026-01-31"):
        raise ValueError("a date alone is no datetime")
    value = datetime.fromisoformat(text)
    if not bracket:
        return value
    local = value.replace(tzinfo=ZoneInfo(zone.removesuffix("]")))
    # the offset says which of two equal local times is meant
    return local if local.utcoffset() == value.utcoffset() else local.replace(fold=1 - local.fold)


def _write_time(value: time) -> str:
    """Return ISO 8601, with the zone as a datetime has it: without a date, few zones have an offset that could tell."""
    zone = value.tzinfo
    return value.isoformat() + (f"[{zone.key}]" if isinstance(zone, ZoneInfo) and zone.key else "")


def _read_time(text: str) -> time:
    text, bracket, zone = text.partition("[")
    value = time.fromisoformat(text)
    return value.replace(tzinfo=ZoneInfo(zone.removesuffix("]"))) if bracket else value


TEXTS: dict[type, _Form] = {
    datetime: _Form("2026-01-31T09:00:00+00:00", _write_datetime, _read_datetime),
    date: _Form("2026-01-31", date.isoformat, date.fromisoformat),
    time: _Form("09:00", _write_time, _read_time),
    Decimal: _Form("10.50", str, Decimal),
    UUID: _Form("12345678-1234-5678-1234-567812345678", str, UUID),
    PurePath: _Form("/tmp/report.pdf", str, str),  # noqa: S108  an example; read as the hint's own class
}


class Text(Codec):
    """What is written as text: dates, times, decimals, UUIDs, paths."""

    def __init__(self, kind: type, form: _Form) -> None:
        self.kind = kind
        self.form = form
        self.what = f"a {kind.__name__}, or a string such as {form.example!r}"
        self.late = 7 if issubclass(kind, PurePath) else 2 if kind is not datetime else 1

    def store(self, value: Any, path: str) -> Any:
        if not isinstance(value, self.kind) or (self.kind is date and isinstance(value, datetime)):
            value = self.load(value, path)
        text = self.form.write(value)
        _check_text(text, path)
        return text

    def load(self, data: Any, path: str) -> Any:
        if self.kind is Decimal and isinstance(data, int) and not isinstance(data, bool):
            return Decimal(data)
        if not isinstance(data, str):
            raise self.misfit(data, path)
        try:
            return self.kind(data) if issubclass(self.kind, PurePath) else self.form.read(data)
        except (ValueError, InvalidOperation, LookupError, OSError):
            raise self.misfit(data, path) from None


class Span(Codec):
    """A timedelta, as seconds: a number, or text where a number would not be exact."""

    what = "a timedelta, or a number of seconds"
    late = 5

    def store(self, value: Any, path: str) -> Any:
        if not isinstance(value, timedelta):
            value = self.load(value, path)
        if not value.microseconds:
            return value.days * 86400 + value.seconds
        seconds = value.total_seconds()
        with suppress(OverflowError):
            if timedelta(seconds=seconds) == value:
                return seconds
        return str(Decimal(value // timedelta(microseconds=1)).scaleb(-6))

    def load(self, data: Any, path: str) -> timedelta:
        if isinstance(data, bool) or not isinstance(data, int | float | str):
            raise self.misfit(data, path)
        try:
            if isinstance(data, str):
                return timedelta(microseconds=int(Decimal(data).scaleb(6)))
            return timedelta(seconds=data)
        except (ValueError, InvalidOperation, OverflowError):
            raise self.misfit(data, path) from None


class Choice(Codec):
    """One of a few: an Enum, by its values where JSON has them, else by its names; or a ``Literal``."""

    def __init__(self, choices: Collection[tuple[Any, Any]]) -> None:
        self._choices = tuple(choices)  # as stored, and the value
        self.what = f"one of {', '.join(repr(stored) for stored, _ in choices)}"

    def store(self, value: Any, path: str) -> Any:
        for stored, known in self._choices:
            if known is value or (known == value and type(known) is type(value)):
                _check_scalar(stored, path)
                return stored
        self.load(value, path)
        _check_scalar(value, path)
        return value

    def load(self, data: Any, path: str) -> Any:
        for stored, known in self._choices:
            if stored == data and type(stored) is type(data):
                return known
        raise self.misfit(data, path)


class Refused(Codec):
    """A hint whose values cannot be stored."""

    def __init__(self, hint: Any) -> None:
        self.name = getattr(hint, "__name__", str(hint))

    def store(self, value: Any, path: str) -> Any:
        raise MisfitError(
            f"{path} is {show(value)}; a {self.name} cannot be stored: store what it can be found by, such as its id"
        )

    def load(self, data: Any, path: str) -> Any:
        raise self.store(data, path)
