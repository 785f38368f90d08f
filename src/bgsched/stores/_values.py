"""How the SQL stores hold a value: instants and spans as microseconds, JSON as text; and how they read damaged ones."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from bgsched.stores._columns import WHOLE

__all__ = [
    "EPOCH",
    "MICROSECOND",
    "dump",
    "instant",
    "is_whole",
    "lenient",
    "lenient_instant",
    "lenient_text",
    "load",
    "micros",
    "plain",
    "span",
]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def micros(instant: datetime | None) -> int | None:
    """Return an instant as microseconds since 1970 UTC."""
    return None if instant is None else (instant - EPOCH) // MICROSECOND


def instant(micros: int | None) -> datetime | None:
    """Return microseconds since 1970 UTC as an instant."""
    return None if micros is None else EPOCH + timedelta(0, 0, micros)


def span(micros: int | None) -> timedelta | None:
    """Return microseconds as a span."""
    return None if micros is None else timedelta(microseconds=micros)


def dump(value: Any) -> str | None:
    """Return *value* as JSON text, ``None`` as it is."""
    if value is None:
        return None
    if value == {}:  # most params
        return "{}"
    text = _encode(value)
    return text if _is_storable(text) else json.dumps(value, separators=(",", ":"))


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def _is_storable(text: str) -> bool:
    """Whether a database can take *text*: half a surrogate pair, as in undecodable file names, is no text to it."""
    try:
        text.isascii() or text.encode()
    except UnicodeEncodeError:
        return False
    return True


def plain(text: str | None) -> str | None:
    if text is None or _is_storable(text):
        return text
    return text.encode("utf-8", "backslashreplace").decode()


def load(text: str | None) -> Any:
    return None if text is None else json.loads(text)


def is_whole(number: Any) -> bool:
    return isinstance(number, int) and -WHOLE < number < WHOLE


def lenient(read: Callable[[Any], Any], text: str | None, otherwise: Any) -> Any:
    """Read a JSON column; one that somebody damaged reads as *otherwise*, so that the record can still be seen."""
    try:
        return otherwise if text is None else read(text)
    except (ValueError, TypeError, KeyError):
        return otherwise


def lenient_text(value: Any) -> str | None:
    """Return what stands in a column of words; what is no text, as one would write it."""
    return value if value is None or isinstance(value, str) else str(value)


def lenient_instant(micros: Any) -> datetime | None:
    """Return microseconds since 1970 UTC as an instant; what is none is ``None``."""
    try:
        return instant(micros)
    except (TypeError, OverflowError):
        return None
