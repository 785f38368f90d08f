"""Fire times by brute force: every minute (or second) of a window is looked at, and the definition is applied to it.

Nothing here knows bgsched. A frequency is a *spec*, a plain dataclass of numbers; `_calendar_specs` builds the bgsched
value from it. The window is a list of instants, one a minute, each with what zoneinfo says the wall clock reads. From
that list alone the three ways of reading time follow:

- clock: every instant whose reading matches;
- fixed: every reading that matches, also those in no row of the list; its first row if it has one, else (a gap) the
  first row that reads later, unless no row at all reads that day;
- elapsed: addition, from the start.
"""

import calendar
import datetime as dt
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from types import SimpleNamespace
from unittest.mock import patch
from zoneinfo import ZoneInfo

from dateutil import rrule as rrule_module
from dateutil.rrule import MO, rrulestr

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)

ZONES = (
    "America/New_York", "Europe/Berlin", "Europe/Dublin", "Australia/Lord_Howe", "Antarctica/Troll",
    "America/Sao_Paulo", "Africa/Cairo", "Asia/Beirut", "America/Nuuk", "Atlantic/Azores", "America/St_Johns",
    "Africa/Casablanca", "Pacific/Apia", "America/Caracas", "Asia/Pyongyang", "Pacific/Chatham", "Asia/Kathmandu",
)  # fmt: skip


@lru_cache(maxsize=64)
def transitions(zone: str) -> tuple[datetime, ...]:
    """Return every instant from 1970 to 2037 at which the offset changes, found by stepping."""
    info = ZoneInfo(zone)
    found = []
    at = datetime(1970, 1, 1, tzinfo=UTC)
    step = timedelta(hours=12)
    while at.year < 2038:
        if at.astimezone(info).utcoffset() != (at + step).astimezone(info).utcoffset():
            moment = at
            while moment.astimezone(info).utcoffset() == at.astimezone(info).utcoffset():
                moment += MINUTE
            found.append(moment)
        at += step
    return tuple(found)


@dataclass(frozen=True)
class Window:
    """The instants ``after < t <= until`` of a zone; rows reach some days further on both sides."""

    zone: str
    after: datetime
    until: datetime
    step: timedelta
    rows: tuple[tuple[datetime, datetime], ...]
    first_row: dict[datetime, datetime]
    nominal: tuple[datetime, ...]  # every reading from the least to the greatest, those in a gap included
    dates: frozenset[date]

    @classmethod
    def around(cls, zone: str, centre: datetime, reach: timedelta = 2 * DAY, step: timedelta = MINUTE) -> "Window":
        info = ZoneInfo(zone)
        margin = min(reach, 2 * DAY)
        rows = []
        at = centre - reach - margin
        while at <= centre + reach + margin:
            rows.append((at, at.astimezone(info).replace(tzinfo=None, fold=0)))
            at += step
        first: dict[datetime, datetime] = {}
        for instant, reading in rows:
            first.setdefault(reading, instant)
        least, greatest = min(first), max(first)
        nominal = tuple(least + step * n for n in range((greatest - least) // step + 1))
        dates = frozenset(reading.date() for reading in first)
        return cls(zone, centre - reach, centre + reach, step, tuple(rows), first, nominal, dates)

    @property
    def days(self) -> list[date]:
        first, last = self.nominal[0].date(), self.nominal[-1].date()
        return [first + n * DAY for n in range((last - first).days + 1)]

    def clock(self, matches: Callable[[datetime], bool]) -> set[datetime]:
        return self.cut(instant for instant, reading in self.rows if matches(reading))

    def fixed(self, readings: Iterable[datetime]) -> set[datetime]:
        found = set()
        for reading in readings:
            instant = self.first_row.get(reading)
            if instant is None and reading.date() in self.dates and self.nominal[0] <= reading <= self.nominal[-1]:
                instant = self.after_gap(reading)
            if instant is not None:
                found.add(instant)
        return self.cut(found)

    def after_gap(self, reading: datetime) -> datetime:
        for (_, before), (instant, after) in zip(self.rows, self.rows[1:], strict=False):
            if before < reading < after:
                return instant
        raise AssertionError(f"{reading} is in no gap of {self.zone}")

    def cut(self, instants: "Iterator[datetime] | set[datetime]") -> set[datetime]:
        return {instant for instant in instants if self.after < instant <= self.until}


@dataclass(frozen=True)
class Elapsed:
    step: timedelta

    def fire_times(self, window: Window, start: datetime) -> set[datetime]:
        found, at = set(), start
        if at < window.after:  # skip ahead by whole steps, to keep it short
            at += (window.after - at) // self.step * self.step
        while at <= window.until:
            found.add(at)
            at += self.step
        return window.cut(found)


@dataclass(frozen=True)
class HourlyAt:
    every: int
    minute: int

    def fire_times(self, window: Window, start: datetime) -> set[datetime]:
        first = self.align(window, start.replace(second=0, microsecond=0) if not (start.second or start.microsecond)
                           else start.replace(second=0, microsecond=0) + MINUTE)  # fmt: skip
        found, at = set(), first
        while at <= window.until:
            found.add(self.align(window, at))
            at += timedelta(hours=self.every)
        return window.cut(found)

    def align(self, window: Window, at: datetime) -> datetime:
        info = ZoneInfo(window.zone)
        while at.astimezone(info).minute != self.minute:
            at += MINUTE
        return at


@dataclass(frozen=True)
class Dated:
    """A day rule and a time of day (None: that of the start)."""

    day: "EveryDay | OnWeekdays | OnMonthDay | OnMonthWeekday"
    at: time | None

    def fire_times(self, window: Window, start: datetime) -> set[datetime]:
        local = start.astimezone(ZoneInfo(window.zone)).replace(tzinfo=None)
        at = self.at or local.time().replace(microsecond=0)
        return window.fixed(datetime.combine(day, at) for day in window.days if self.day.holds(day, local.date()))


@dataclass(frozen=True)
class EveryDay:
    every: int

    def holds(self, day: date, start: date) -> bool:
        return (day - start).days % self.every == 0


@dataclass(frozen=True)
class OnWeekdays:
    weekdays: frozenset[int]
    every: int = 1

    def holds(self, day: date, start: date) -> bool:
        monday, first = day - day.weekday() * DAY, start - start.weekday() * DAY
        return day.weekday() in self.weekdays and (monday - first).days // 7 % self.every == 0


def month_days(day: date) -> int:
    return calendar.monthrange(day.year, day.month)[1]


def months_between(start: date, day: date) -> int:
    return (day.year - start.year) * 12 + day.month - start.month


@dataclass(frozen=True)
class OnMonthDay:
    day: int
    every: int = 1
    clamp: bool = False

    def holds(self, day: date, start: date) -> bool:
        length = month_days(day)
        wanted = self.day if self.day > 0 else length + 1 + self.day
        if self.clamp:
            wanted = max(1, min(wanted, length))
        return day.day == wanted and months_between(start, day) % self.every == 0


def nth_of_month(day: date, weekday: int, n: int) -> bool:
    same = [d for d in range(1, month_days(day) + 1) if day.replace(day=d).weekday() == weekday]
    index = n - 1 if n > 0 else n
    return -len(same) <= index < len(same) and same[index] == day.day


@dataclass(frozen=True)
class OnMonthWeekday:
    weekday: int
    n: int
    every: int = 1

    def holds(self, day: date, start: date) -> bool:
        return nth_of_month(day, self.weekday, self.n) and months_between(start, day) % self.every == 0


@dataclass(frozen=True)
class CronSpec:
    """Numbers that a cron expression stands for; how it is spelled is the business of whoever built it."""

    text: str
    quartz: bool
    clock: bool
    both_days: bool
    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]  # Monday is 0
    special: tuple[str, int, int] | None = None
    seconds: frozenset[int] = frozenset({0})

    def fire_times(self, window: Window, start: datetime) -> set[datetime]:
        matches = self.matching(window)
        found = window.clock(matches) if self.clock else window.fixed(filter(matches, window.nominal))
        return {at for at in found if at >= start}

    def matching(self, window: Window) -> Callable[[datetime], bool]:
        days = frozenset(day for day in window.days if self.day_matches(day))
        return lambda reading: (
            reading.second in self.seconds
            and reading.minute in self.minutes
            and reading.hour in self.hours
            and reading.date() in days
        )

    def day_matches(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        if self.special is not None:
            return self.special_matches(day, *self.special)
        by_day, by_weekday = day.day in self.days, day.weekday() in self.weekdays
        return (by_day and by_weekday) if self.both_days else (by_day or by_weekday)

    def special_matches(self, day: date, kind: str, number: int, n: int) -> bool:
        length = month_days(day)
        if kind == "last":  # n days before the last
            return day.day == length - n
        if kind == "nth":
            return nth_of_month(day, number, n)
        target = number if kind == "near" else length - n
        if not 1 <= target <= length:
            return False
        near = sorted(range(1, length + 1), key=lambda d: (abs(d - target), d))
        return day.day == next(d for d in near if day.replace(day=d).weekday() < 5)


@contextmanager
def walking_no_further_than(year: int) -> Iterator[None]:
    """Keep dateutil from looking for the next match of a rare rule until the year 9999, which takes it seconds."""
    names = {name: getattr(dt, name) for name in dir(dt)}
    with patch.object(rrule_module, "datetime", SimpleNamespace(**{**names, "MAXYEAR": year})):
        yield


def first_reading(start: datetime, zone: str, *, clock: bool) -> datetime:
    """Return the first reading that a rule can fire at from the start on: the second pass of a fold repeats the first.

    A rule that follows the clock reads again what lies before the start; another one has no use for the second pass.
    """
    at = start.replace(microsecond=0) + timedelta(seconds=start.microsecond > 0)
    info, second = ZoneInfo(zone), timedelta(seconds=1)
    if clock:
        while is_read_again(at.astimezone(info)) and is_read_again((at - second).astimezone(info)):
            at -= second
    else:
        while at.astimezone(info).fold:
            at += second
    return at.astimezone(info).replace(tzinfo=None)


def is_read_again(local: datetime) -> bool:
    """Tell whether the second of a local time comes once more; zoneinfo is asked for both passes."""
    return not local.fold and local.astimezone(UTC) < local.replace(fold=1).astimezone(UTC)


UNITS = {"HOURLY": timedelta(hours=1), "MINUTELY": MINUTE, "SECONDLY": timedelta(seconds=1)}


@dataclass(frozen=True)
class RuleSpec:
    """An RRULE; dateutil expands it in naive local time from DTSTART, one by one. Its end is applied here."""

    text: str
    clock: bool
    until: datetime | None = None  # naive: on the local clock

    def fire_times(self, window: Window, start: datetime) -> set[datetime]:
        local = start.astimezone(ZoneInfo(window.zone)).replace(tzinfo=None, microsecond=0)
        first = first_reading(start, window.zone, clock=self.clock)
        readings = self.readings(self.begun_before(local, first) if self.clock else local, window.nominal[-1], first)
        found = window.clock(readings.__contains__) if self.clock else window.fixed(readings)
        last = self.until if self.until is not None and self.until.tzinfo is not None else window.until
        return {at for at in found if start <= at <= last}

    def begun_before(self, local: datetime, first: datetime) -> datetime:
        """Return a DTSTART of the same phase that is not after the first reading: by whole turns back."""
        parts = dict(part.split("=") for part in self.text.split(";"))
        turn = int(parts.get("INTERVAL", "1")) * UNITS[parts["FREQ"]]
        return local - max(-((first - local) // turn), 0) * turn

    def readings(self, local: datetime, last: datetime, first: datetime | None = None) -> set[datetime]:
        """Return the readings from *first* on, if given; with a COUNT, so many of them."""
        parts = [part for part in self.text.split(";") if not part.startswith(("UNTIL", "COUNT"))]
        count = next((int(part[6:]) for part in self.text.split(";") if part.startswith("COUNT")), None)
        text = ";".join(parts)
        if self.until is not None and self.until.tzinfo is None:
            last = min(last, self.until)
        readings: set[datetime] = set()
        try:
            rule = rrulestr(text if "WKST" in text else f"{text};WKST={MO}", dtstart=local)
            with walking_no_further_than(last.year):
                for reading in rule:
                    if reading > last or len(readings) == count:
                        break
                    if first is None or reading >= first:
                        readings.add(reading)
        except ValueError as error:  # hours or minutes and INTERVAL never meet: said when built, or by the first step
            if "empty" not in str(error):
                raise
        return readings

    def lasts_to(self, midnight: datetime, zone: str) -> bool:
        if self.until is None or self.until.tzinfo is None:
            return True
        return midnight <= self.until.astimezone(ZoneInfo(zone)).replace(tzinfo=None)

    @property
    def of_days(self) -> bool:
        return not self.clock and not any(name in self.text for name in ("BYHOUR", "BYMINUTE", "BYSECOND"))


Spec = Elapsed | HourlyAt | Dated | CronSpec | RuleSpec


def fire_times(specs: tuple[Spec, ...], window: Window, start: datetime) -> list[datetime]:
    """Return the fire times of any of the specs in the window, from the start on."""
    found: set[datetime] = set()
    for spec in specs:
        found |= {at for at in spec.fire_times(window, start) if at >= start}
    return sorted(found)


Excluded = date | tuple[datetime, datetime] | Spec


def left(found: list[datetime], exclude: tuple[Excluded, ...], window: Window, start: datetime) -> list[datetime]:
    """Return the fire times that none of the exclusions covers."""
    covers = [covering(item, window, start) for item in exclude]
    info = ZoneInfo(window.zone)
    clock = {at: at.astimezone(info).replace(tzinfo=None) for at in found}
    return [at for at in found if not any(cover(at, clock[at]) for cover in covers)]


def covering(item: Excluded, window: Window, start: datetime) -> Callable[[datetime, datetime], bool]:
    """Return what tells whether an exclusion covers an instant, given what the clock reads then."""
    local = start.astimezone(ZoneInfo(window.zone)).replace(tzinfo=None, microsecond=0)
    match item:
        case date():
            return lambda _, reading: reading.date() == item
        case (first, last):
            return lambda at, _: first <= at < last
        case Dated(day, None):
            return lambda _, reading: day.holds(reading.date(), local.date())
        case CronSpec():
            minutes = len(item.text.split()) == 5
            matches = item.matching(window)
            return lambda _, reading: matches(reading.replace(second=0) if minutes else reading)
        case RuleSpec() if item.of_days:
            midnights = item.readings(datetime.combine(local, time()), window.nominal[-1])
            days = {midnight.date() for midnight in midnights if item.lasts_to(midnight, window.zone)}
            return lambda _, reading: reading.date() in days
    instants = item.fire_times(window, start)
    return lambda at, _: at in instants
