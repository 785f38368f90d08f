"""What people may write in a timing, checked and brought to one form. Each refusal says what to write instead."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime, time, timedelta, tzinfo
from functools import lru_cache
from typing import TypeVar
from zoneinfo import ZoneInfo, available_timezones

from dateutil.rrule import FR, MO, SA, SU, TH, TU, WE, weekday

from bgsched._calendar.units import instant_of, local_of
from bgsched._calendar.zone import Fold, Gap, Unambiguous, zone_of
from bgsched.errors import TimingError, did_you_mean

__all__ = [
    "WEEKDAY_OBJECTS",
    "Weekdays",
    "aware",
    "integer",
    "moment",
    "moment_instant",
    "nth_weekday",
    "one_of",
    "plain_weekdays",
    "time_of_day",
    "time_text",
    "weekdays",
    "zone_key",
]

Choice = TypeVar("Choice", bound=str)
Weekdays = str | weekday | Iterable[weekday | str]

WEEKDAY_OBJECTS = (MO, TU, WE, TH, FR, SA, SU)
_NAMES = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_WEEKDAY = re.compile(r"([a-z]+)\s*(?:\(\s*([+-]?\d{1,2})\s*\))?")
_TIME = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?")
_FOREIGN_ZONES = ("right/", "posix/")
_NO_ZONES = {"localtime", "posixrules", "Factory"}


def integer(name: str, value: object, *, minimum: int | None = 1) -> int:
    """Return *value* if it is an int, which a bool is not, and not below *minimum*."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TimingError(f"{name} must be a whole number, got {value!r}")
    if minimum is not None and value < minimum:
        raise TimingError(f"{name} must be at least {minimum}, got {value}")
    return int(value)


def one_of(name: str, value: object, *choices: Choice) -> Choice:
    """Return the one of *choices* that *value* is."""
    found = next((choice for choice in choices if choice == value), None)
    if found is None:
        raise TimingError(f"{name} must be {' or '.join(map(repr, choices))}, got {value!r}")
    return found


def aware(value: object, name: str) -> datetime:
    """Return *value* if it is a datetime that knows its offset from UTC."""
    if not isinstance(value, datetime) or value.utcoffset() is None:
        raise TimingError(f"{name} must be a datetime with a time zone, got {value!r}; write tzinfo=UTC")
    return value


def time_of_day(value: object, name: str = "at") -> time:
    """Return a time of day with whole seconds from a naive ``datetime.time`` or ``"HH:MM[:SS]"``."""
    if isinstance(value, str):
        match = _TIME.fullmatch(value.strip())
        parts = [int(part or 0) for part in match.groups()] if match else [99]
        if len(parts) < 3 or parts[0] > 23 or parts[1] > 59 or parts[2] > 59:  # noqa: PLR2004 - the clock's own numbers
            raise TimingError(f"{name} must be a time of day such as '09:00' or '23:59:30', got {value!r}")
        return time(parts[0], parts[1], parts[2])
    if not isinstance(value, time):
        raise TimingError(f"{name} must be a datetime.time or text such as '09:00', got {value!r}")
    if value.tzinfo is not None:
        raise TimingError(f"{name} must be a time without a time zone, got {value!r}; give the zone as timezone=")
    if value.microsecond:
        raise TimingError(f"{name} must be on a whole second, got {value!r}")
    return value.replace(fold=0)


def time_text(value: time) -> str:
    """Return ``HH:MM``, with the seconds only where there are some."""
    return value.isoformat("minutes" if not value.second else "seconds")


def _weekday_number(word: str) -> int:
    for number, name in enumerate(_NAMES):
        if len(word) > 1 and name.startswith(word):
            return number
    known = [*_NAMES, *(name[:3] for name in _NAMES)]
    raise TimingError(f"{word!r} is no day of the week; write 'mon', 'tue', ... 'sun'{did_you_mean(word, known)}")


def _weekdays_of_word(word: str) -> list[weekday]:
    first, dash, last = word.partition("-") if "(" not in word else (word, "", "")
    if dash:
        start, end = _weekday_number(first), _weekday_number(last)
        return [WEEKDAY_OBJECTS[(start + step) % 7] for step in range((end - start) % 7 + 1)]
    match = _WEEKDAY.fullmatch(word)
    if match is None:
        raise TimingError(f"{word!r} is no day of the week; write 'mon', 'mon-fri', 'mon fri' or 'fri(-1)'")
    day = WEEKDAY_OBJECTS[_weekday_number(match[1])]
    return [day if match[2] is None else _with_number(day, int(match[2]))]


def _with_number(day: weekday, number: int) -> weekday:
    if not number:
        raise TimingError(f"{day}(0) is no day; count from 1, or from the end with -1")
    return day(number)


def _checked(day: weekday, name: str) -> weekday:
    """Return a day of dateutil's, which takes anything for a number."""
    number: object = day.weekday
    n: object = day.n
    if type(number) is not int or not 0 <= number < len(WEEKDAY_OBJECTS) or not (n is None or type(n) is int):
        raise TimingError(f"{name} must be MO..SU, or one of them with a whole number, got weekday({number!r}, {n!r})")
    return day


def weekdays(value: object, name: str = "on") -> tuple[weekday, ...]:
    """Return the weekdays in *value*, text or dateutil's objects, in the order of the week and each once."""
    if isinstance(value, str):
        words = re.split(r"(?:\s+and\s+|[\s,]+)(?![^(]*\))", value.strip().lower())
        found = [day for word in words for day in _weekdays_of_word(word)]
    elif isinstance(value, weekday):
        found = [_checked(value, name)]
    elif isinstance(value, Iterable):
        found = [day for item in value for day in weekdays(item, name)]
    else:
        raise TimingError(f"{name} must be days such as MO, (MO, FR), 'mon fri' or 'mon-fri', got {value!r}")
    if not found:
        raise TimingError(f"{name} needs at least one day, such as MO or 'mon fri'; got {value!r}")
    return tuple(sorted(set(found), key=lambda day: (day.weekday, day.n or 0)))


def plain_weekdays(value: object, name: str = "on") -> tuple[weekday, ...]:
    """Return the weekdays in *value*, none of them counted within a month."""
    found = weekdays(value, name)
    for day in found:
        if day.n is not None:
            plain = WEEKDAY_OBJECTS[day.weekday]
            raise TimingError(f"{name} cannot count weeks here, got {day}; write {plain}, or Monthly(on={day})")
    return found


def nth_weekday(value: object, name: str = "on") -> weekday:
    """Return the one counted weekday in *value*: the second Tuesday is ``TU(2)``, the last Friday ``FR(-1)``."""
    found = weekdays(value, name)
    if len(found) != 1:
        raise TimingError(f"{name} must be one day such as TU(2) or FR(-1), got {value!r}")
    if found[0].n is None:
        raise TimingError(f"{name} must say which one: {found[0]}(1) is the first, {found[0]}(-1) the last")
    if abs(found[0].n) > 5:  # noqa: PLR2004 - a month holds five of a weekday at most
        raise TimingError(f"{name} must count 1..5 or -1..-5 within a month, got {found[0]}")
    return found[0]


@lru_cache(maxsize=1)
def _known_zones() -> frozenset[str]:
    return frozenset(available_timezones())


@lru_cache(maxsize=1024)
def _check_zone(key: str) -> str:
    if key.startswith(_FOREIGN_ZONES) or key in _NO_ZONES:
        bare = key.partition("/")[2]
        hint = f"write {bare!r}" if bare in _known_zones() else "write an IANA name such as 'Europe/Madrid'"
        raise TimingError(f"timezone {key!r} differs from machine to machine; {hint}")
    if key not in _known_zones():
        if not _known_zones():
            raise TimingError(
                f"timezone {key!r} cannot be read, as this machine has no time zone database; pip install tzdata"
            )
        raise TimingError(
            f"timezone {key!r} is not in the time zone database; write a name such as 'Europe/Madrid'{_zone_hint(key)}"
        )
    zone_of(key)
    return key


def _zone_hint(key: str) -> str:
    """Return which zone may be meant: not one that is like it by chance, as EST is like CEST, and hours off."""
    word = key.lower()
    places = {name for name in _known_zones() if name not in _NO_ZONES and not name.startswith(_FOREIGN_ZONES)}
    same = [name for name in places if name.lower() == word]
    same += sorted(name for name in places if name.lower().rpartition("/")[2] == word)
    if same:
        return f"; did you mean {same[0]!r}?"
    if "/" not in key:
        return "; an abbreviation or a country is no zone"
    return did_you_mean(key, (name for name in places if "/" in name))


def zone_key(value: object, name: str = "timezone") -> str:
    """Return the IANA name of a zone given by name or as ``ZoneInfo``."""
    key = value.key if isinstance(value, ZoneInfo) else "UTC" if value is UTC else value
    if isinstance(value, tzinfo) and not isinstance(key, str):
        raise TimingError(f"{name} must have an IANA name such as 'Europe/Madrid', got {value!r}")
    if not isinstance(key, str):
        raise TimingError(f"{name} must be an IANA name such as 'Europe/Madrid' or a ZoneInfo, got {value!r}")
    return _check_zone(key[:100])


def moment(value: object, zone: str | None, name: str) -> datetime:
    """Return a datetime in one of two forms: aware in UTC, or naive on the clock of *zone*.

    A naive one stays naive, so that it keeps its wall-clock time when the rules of the zone change before it comes.
    Only the second pass of a fold, which a naive datetime shows in no comparison, becomes an instant.
    """
    if not isinstance(value, datetime):
        raise TimingError(f"{name} must be a datetime.datetime, got {value!r}")
    value = datetime.combine(value, value.timetz())  # what a subclass adds could be neither shown nor stored
    try:
        if value.tzinfo is not None and value.utcoffset() is not None:
            return value.astimezone(UTC)
    except OverflowError as error:
        raise TimingError(f"{name} is outside of the calendar: {value!r}") from error
    if zone is None:
        hint = f"write {name}={value!r} with tzinfo=, or give timezone='Europe/Madrid'"
        raise TimingError(f"{name} has no time zone to be read in; {hint}")
    naive = value.replace(tzinfo=None)
    if naive.fold:
        resolved = zone_of(zone).resolve(local_of(naive))
        naive = naive.replace(fold=0)
        if isinstance(resolved, Fold):
            return datetime.fromtimestamp(0, UTC) + timedelta(seconds=resolved.second, microseconds=naive.microsecond)
    return naive


def moment_instant(value: datetime, zone: str | None) -> int:
    """Return the instant of what :func:`moment` returned; a naive one in a gap is the end of the gap."""
    if value.tzinfo is not None:
        return instant_of(value)
    resolved = zone_of(zone or "UTC").resolve(local_of(value))
    if isinstance(resolved, Gap):
        return resolved.end * 1_000_000
    at = resolved.at if isinstance(resolved, Unambiguous) else resolved.first
    return at * 1_000_000 + value.microsecond
