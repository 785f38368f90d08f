"""The parts of a Schedule, checked and brought to one form: frequencies, exclusions, jitter."""

from collections.abc import Collection
from datetime import date, datetime, timedelta
from typing import Any, TypeVar

from dateutil.rrule import weekday

from bgsched._calendar import words
from bgsched._calendar.days import ListedDays
from bgsched._calendar.exclusion import DaysExcluded, Exclusion, RangesExcluded
from bgsched._calendar.fields import moment, moment_instant
from bgsched._calendar.frequency import Frequency
from bgsched._calendar.plan import Anchor
from bgsched._calendar.units import MICRO, day_of, instant_of, naive_of
from bgsched._calendar.zone import Zone
from bgsched.errors import TimingError

__all__ = ["Excluded", "excluded_text", "exclusion_engines", "exclusions", "frequencies", "jitter", "on_clock"]

T = TypeVar("T")
_SEVERAL = (tuple, list, set, frozenset)
_LONGEST_JITTER = timedelta(days=3650)  # of more, JSON would not keep every microsecond
Excluded = date | tuple[datetime, datetime] | Frequency


def frequencies(value: object) -> Frequency | tuple[Frequency, ...]:
    several = _listed(value) if isinstance(value, _SEVERAL) else (value,)
    for item in several:
        if not isinstance(item, Frequency):
            hint = f"; a cron expression is Cron({item!r})" if isinstance(item, str) else ""
            raise TimingError(
                f"frequency must be one such as Daily(at='09:00'), or a tuple of them, got {item!r}{hint}"
            )
    if not several:
        raise TimingError("frequency is an empty tuple; it would never fire")
    unique = tuple(dict.fromkeys(several))
    return unique if len(unique) > 1 else unique[0]


def _listed(several: Collection[T]) -> tuple[T, ...]:
    """Return what is in a collection; of a set, in an order that is the same each time."""
    return tuple(sorted(several, key=repr)) if isinstance(several, set | frozenset) else tuple(several)


def on_clock(moment_: datetime, zone: Zone) -> datetime:
    """Return what the clock of a zone reads at a moment that :func:`moment` returned."""
    if moment_.tzinfo is None:
        return moment_
    instant = instant_of(moment_)
    return naive_of(instant // MICRO + zone.offset(instant // MICRO)).replace(microsecond=instant % MICRO)


def excluded_text(item: Excluded, zone: Zone) -> str:
    if isinstance(item, tuple):
        first, last = (words.instant_text(on_clock(bound, zone)) for bound in item)
        return f"{first} to {last}"
    return words.day_text(item) if isinstance(item, date) else item._say(None, "")  # noqa: SLF001 - the same family


def jitter(value: object) -> timedelta:
    if not isinstance(value, timedelta) or not timedelta(0) <= value <= _LONGEST_JITTER:
        raise TimingError(f"jitter must be a timedelta from 0 to {_LONGEST_JITTER.days} days, got {value!r}")
    return value


def exclusions(value: object, zone: str | None) -> tuple[Excluded, ...]:
    several = _listed(value) if isinstance(value, _SEVERAL) and not _is_pair(value) else (value,)
    return tuple(_excluded(item, zone) for item in several)


def _is_pair(value: object) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2 and all(isinstance(item, datetime) for item in value)  # noqa: PLR2004


def _excluded(item: Any, zone: str | None) -> Excluded:
    if _is_pair(item):
        start, end = (moment(bound, zone, "exclude") for bound in item)
        if moment_instant(end, zone) <= moment_instant(start, zone):
            raise TimingError(f"exclude has a pair that ends before it begins: {item!r}")
        return start, end
    if isinstance(item, Frequency):
        return item
    if isinstance(item, date) and not isinstance(item, datetime):
        return date(item.year, item.month, item.day)
    hint = "; a pair is made of datetimes" if isinstance(item, tuple | list) else ""
    if isinstance(item, datetime):
        hint = f"; for that day, write {item!r}.date()"
    elif isinstance(item, weekday | str):
        hint = f"; for days of the week, write Weekly({item!r})"
    raise TimingError(f"exclude must be dates, (from, to) pairs of datetimes or frequencies, got {item!r}{hint}")


def exclusion_engines(items: tuple[Excluded, ...], anchor: Anchor, zone: str | None) -> tuple[Exclusion, ...]:
    """Return what the items exclude; all dates, which may be many, are one of these, and so are all pairs."""
    dates = [day_of(item) for item in items if isinstance(item, date)]
    found: list[Exclusion] = [DaysExcluded(ListedDays(dates).next, anchor.zone)] if dates else []
    pairs = [
        (moment_instant(item[0], zone), moment_instant(item[1], zone)) for item in items if isinstance(item, tuple)
    ]
    found += [RangesExcluded(*pairs)] if pairs else []
    found += [item._exclusion(anchor) for item in items if isinstance(item, Frequency)]  # noqa: SLF001 - one family
    return tuple(found)
