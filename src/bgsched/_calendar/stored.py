"""From JSON types back to values; whatever else comes is refused in words."""

from collections.abc import Mapping
from dataclasses import fields
from datetime import date, datetime, timedelta
from reprlib import Repr
from typing import Any

from bgsched._calendar.value import Value
from bgsched.errors import TimingError, did_you_mean

__all__ = ["decoded", "shown"]

# What is stored may be anything, of any size and depth.
_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 100
shown = _SHORT.repr


Types = Mapping[str, type[Value]]


def decoded(data: Mapping[str, Any], types: Types, inner: Types) -> Value:
    """Build the value that a dictionary stands for, or raise TimingError; *inner* are the types of values within it."""
    kind = data.get("type")
    if not isinstance(kind, str) or kind not in types:
        hint = did_you_mean(kind[:50], types) if isinstance(kind, str) else ""
        raise TimingError(f"type must be one of {', '.join(types)}, got {shown(kind)}{hint}")
    cls = types[kind]
    known = [item.name for item in fields(cls) if item.init]  # type: ignore[arg-type]  # each is a dataclass
    unknown = [name for name in data if name != "type" and name not in known]
    if unknown:
        raise TimingError(f"a stored {kind} has no {unknown[0]!r}; it may have {', '.join(known) or 'nothing'}")
    given = {name: _decoded_field(kind, name, value, inner) for name, value in data.items() if name != "type"}
    try:
        return cls(**given)
    except TypeError as error:
        raise TimingError(f"a stored {kind} is incomplete: {shown(data)}") from error


def _decoded_field(kind: str, name: str, value: Any, types: Types) -> Any:
    if name in {"start", "finish"} or (kind == "later" and name == "at"):
        return None if value is None else _decoded_moment(value)
    if name == "jitter":
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TimingError(f"a stored jitter must be a number of seconds, got {shown(value)}")
        try:
            return timedelta(seconds=value)
        except (OverflowError, ValueError) as error:
            raise TimingError(f"a stored jitter must be a number of seconds, got {shown(value)}") from error
    if name in {"frequency", "exclude"}:
        several = (
            [_decoded_item(item, types) for item in value] if isinstance(value, list) else _decoded_item(value, types)
        )
        return tuple(several) if isinstance(several, list) else several
    if any(isinstance(item, Mapping | list) for item in (value if isinstance(value, list) else [value])):
        raise TimingError(f"a stored {kind} has an unreadable {name!r}: {shown(value)}")
    return value


def _decoded_item(value: Any, types: Types) -> Any:
    if isinstance(value, Mapping):
        return decoded(value, types, {})
    if isinstance(value, list) and len(value) == 2:  # noqa: PLR2004 - a pair
        return tuple(_decoded_moment(item) for item in value)
    try:
        return date.fromisoformat(value)
    except (TypeError, ValueError):
        raise TimingError(f"a stored schedule has something unreadable in it: {shown(value)}") from None


def _decoded_moment(value: Any) -> datetime:
    try:
        return datetime.fromisoformat(value)
    except (TypeError, ValueError):
        raise TimingError(
            f"a stored instant must be text such as '2026-01-31T09:00:00+00:00', got {shown(value)}"
        ) from None
