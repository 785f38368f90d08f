"""How params become JSON and come back, guided by type hints.

A `Codec` stands for one type hint. `store` turns a value into JSON, and takes JSON that can be read as such a value
just as well, so that a command line or a form can file requests; `load` turns JSON back into the value. What is stored
is plain JSON without a single name of a type: which class is made from it is decided by the hints of the code that
runs, never by what is stored.

What goes in comes out equal: a value that would come back as something else (a text that looks like a date, where the
hint allows either) is refused when it goes in.
"""

import dataclasses
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Set as AbstractSet
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
    "Choice",
    "Codec",
    "Dict",
    "Many",
    "MisfitError",
    "Plain",
    "Record",
    "Refused",
    "Row",
    "Scalar",
    "Span",
    "Text",
    "Union",
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
                _check_key(key, path)
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


def _check_key(key: Any, path: str) -> None:
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


class Many(Codec):
    """A list, set or tuple of equal things. A set is stored in one order, so that equal sets are equal JSON."""

    def __init__(self, kind: type, item: Codec) -> None:
        self.kind = kind
        self.item = item
        self.what = "a list" if kind is list else f"a {kind.__name__} or a list"

    def store(self, value: Any, path: str) -> Any:
        if isinstance(value, str | bytes | Mapping) or not isinstance(value, Collection):
            raise self.misfit(value, path)
        stored = [self.item.store(item, f"{path}[{place}]") for place, item in enumerate(value)]
        if not issubclass(self.kind, set | frozenset):
            return stored
        if not isinstance(value, AbstractSet):
            self.load(stored, path)  # JSON may list what no set can hold
        return sorted(stored, key=repr)

    def load(self, data: Any, path: str) -> Any:
        if not isinstance(data, list):
            raise self.misfit(data, path)
        items = [self.item.load(item, f"{path}[{place}]") for place, item in enumerate(data)]
        try:
            return self.kind(items)
        except TypeError as error:
            raise MisfitError(f"{path} is no {self.kind.__name__}: {error}") from None


class Row(Codec):
    """A tuple of given things."""

    def __init__(self, items: tuple[Codec, ...]) -> None:
        self.items = items
        self.what = f"a tuple or list of {len(items)}"

    def store(self, value: Any, path: str) -> Any:
        return [item.store(part, f"{path}[{n}]") for n, (item, part) in enumerate(self._parts(value, path))]

    def load(self, data: Any, path: str) -> Any:
        return tuple(item.load(part, f"{path}[{n}]") for n, (item, part) in enumerate(self._parts(data, path)))

    def _parts(self, value: Any, path: str) -> list[tuple[Codec, Any]]:
        if not isinstance(value, tuple | list) or len(value) != len(self.items):
            raise self.misfit(value, path)
        return list(zip(self.items, value, strict=True))


class Dict(Codec):
    """A dict; a key that is not stored as text becomes text, as JSON writes it."""

    what = "a dict"

    def __init__(self, key: Codec, value: Codec) -> None:
        self.key = key
        self.value = value

    def store(self, value: Any, path: str) -> Any:
        if not isinstance(value, Mapping):
            raise self.misfit(value, path)
        stored = {}
        for key, item in value.items():
            name = self._name(key, path)
            if name in stored:
                raise MisfitError(f"{path} has two keys that are stored as {name!r}")
            stored[name] = self.value.store(item, f"{path}.{name}")
        return stored

    def load(self, data: Any, path: str) -> Any:
        if not isinstance(data, dict):
            raise self.misfit(data, path)
        return {self._key(key, path): self.value.load(item, f"{path}.{key}") for key, item in data.items()}

    def _name(self, key: Any, path: str) -> str:
        stored = _or_as_json(self.key.store, key, f"{path}, its key")
        if not isinstance(stored, str):
            name = json.dumps(stored)
            if self.key.store(self._key(name, path), path) != stored:  # a text may be meant as well
                _check_key(stored, path)
            return name
        _check_key(stored, path)
        return stored

    def _key(self, name: str, path: str) -> Any:
        return _or_as_json(self.key.load, name, f"{path}, its key")


def _or_as_json(turn: Callable[[Any, str], Any], key: Any, path: str) -> Any:
    """Turn a key as it is or, where it is a text and does not fit, as the JSON that it may be the text of."""
    try:
        return turn(key, path)
    except MisfitError:
        if isinstance(key, str):
            with suppress(ValueError, MisfitError):
                return turn(json.loads(key), path)
        raise


class Record(Codec):
    """A dataclass, ``NamedTuple`` or ``TypedDict``, as a dict of its fields."""

    def __init__(
        self, kind: type, codecs: Callable[[], Mapping[str, Codec]], needed: Callable[[], Collection[str]]
    ) -> None:
        self.kind = kind
        self._codecs = codecs
        self._needed = needed
        self._unasked = _unasked_of(kind)
        self.what = f"a {kind.__name__}, or a dict of its fields"

    def store(self, value: Any, path: str) -> Any:
        is_made = type(value) is self.kind
        parts = {name: getattr(value, name) for name in self._codecs()} if is_made else value
        stored = self._each(parts, path, lambda codec, item, place: codec.store(item, place))
        if not is_made or self._unasked:
            loaded = self.load(stored, path)  # the class may refuse what each field alone may be
            self._check_unasked(value if is_made else loaded, loaded, path)
        return stored

    def _check_unasked(self, value: Any, loaded: Any, path: str) -> None:
        """Refuse what would be lost: the constructor does not take it, and does not make it of the rest."""
        for name in self._unasked:
            given = getattr(value, name, None)
            if given != getattr(loaded, name, None):
                raise MisfitError(
                    f"{path} has {name}={show(given)}, which {self.kind.__name__}(...) does not take, so it is lost; "
                    "let the constructor take that field, or pass it as a param of its own"
                )

    def load(self, data: Any, path: str) -> Any:
        parts = self._each(data, path, lambda codec, item, place: codec.load(item, place))
        try:
            return self.kind(**parts)
        except Exception as error:  # noqa: BLE001  the class may refuse its values with what it likes
            raise MisfitError(f"{path} is no {self.kind.__name__}: {error}") from None

    def _each(self, value: Any, path: str, turn: Callable[[Codec, Any, str], Any]) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise self.misfit(value, path)
        codecs = self._codecs()
        for name in value:
            if name not in codecs:
                raise MisfitError(f"{path} has no field {name!r}; {self.kind.__name__} has {', '.join(codecs)}")
        for name in sorted(set(self._needed()).difference(value)):
            raise MisfitError(f"{path} lacks the field {name!r} of {self.kind.__name__}")
        return {name: turn(codecs[name], item, f"{path}.{name}") for name, item in value.items()}


def _unasked_of(kind: type) -> list[str]:
    """Return the fields of a dataclass that its constructor does not take."""
    return (
        [field.name for field in dataclasses.fields(kind) if not field.init] if dataclasses.is_dataclass(kind) else []
    )


class Union(Codec):
    """One of several hints: the one whose value it is, else the first that takes it as JSON."""

    def __init__(self, arms: tuple[Codec, ...]) -> None:
        self.arms = tuple(sorted(arms, key=lambda arm: arm.late))
        self.late = max(arm.late for arm in arms)
        self.what = " or ".join(arm.what for arm in arms)

    def store(self, value: Any, path: str) -> Any:
        taken = []
        for arm in self.arms:
            try:
                stored = arm.store(value, path)
                if _same(arm.load(stored, path), value):
                    return self._that_comes_back(value, stored, path)
            except AmbiguousError:
                raise
            except MisfitError:
                continue
            taken.append(stored)
        if not taken:
            raise self.misfit(value, path)
        return taken[0]

    def _that_comes_back(self, value: Any, stored: Any, path: str) -> Any:
        back = self.load(stored, path)
        if not _same(back, value):
            raise AmbiguousError(
                f"{path} would come back as {show(back)} instead of {show(value)}; use a narrower type hint"
            )
        return stored

    def load(self, data: Any, path: str) -> Any:
        for arm in self.arms:
            try:
                return arm.load(data, path)
            except MisfitError:
                continue
        raise self.misfit(data, path)


def _same(one: Any, other: Any) -> bool:
    try:
        return type(one) is type(other) and bool(one == other)
    except Exception:  # noqa: BLE001  some values refuse to be compared, such as Decimal("sNaN")
        return False


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
