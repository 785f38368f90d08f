"""Frequencies: how a Schedule repeats. The public way to them is :mod:`bgsched.timing`."""

from abc import abstractmethod
from dataclasses import dataclass, field
from datetime import time
from functools import lru_cache
from typing import Literal

from dateutil.rrule import FR, MO, SA, SU, TH, TU, WE, weekday

from bgsched._calendar import cron_words, words
from bgsched._calendar.days import DailyDays, Days, WeeklyDays, monthly_days
from bgsched._calendar.engine import Elapsed, Ended, Engine, HourlyAt, Product, WallClock
from bgsched._calendar.exclusion import DaysExcluded, Exclusion, InstantsExcluded, TimesExcluded
from bgsched._calendar.fields import Weekdays, integer, nth_weekday, one_of, plain_weekdays, time_of_day
from bgsched._calendar.notes import TimingWarning
from bgsched._calendar.plan import Anchor
from bgsched._calendar.recurrence import days_of, first_local, nominal_of
from bgsched._calendar.rule import TIME_PARTS, parse_rule, plain_text
from bgsched._calendar.times import Times
from bgsched._calendar.units import DAY, MICRO
from bgsched._calendar.value import Value, init
from bgsched._cron import CronFields, parse_cron
from bgsched.errors import TimingError

__all__ = [
    "WEEKDAYS",
    "WEEKENDS",
    "Cron",
    "Daily",
    "EveryMinutes",
    "EverySeconds",
    "Frequency",
    "Hourly",
    "Monthly",
    "Recurrence",
    "Weekly",
]

WEEKDAYS = (MO, TU, WE, TH, FR)
WEEKENDS = (SA, SU)

ShortMonth = Literal["skip", "last"]

_HOUR = 3600 * MICRO
_OFTEN = 1000  # so many days, weeks or months pass well within the calendar
_EVERY_SECOND = TimingWarning("every-second", "it fires every second")


class Frequency(Value):
    """How a Schedule repeats."""

    __slots__ = ()

    def describe(self) -> str:
        """Say in words when it fires."""
        return self._say(None)

    @abstractmethod
    def _say(self, start: time | None, unknown: str = words.AT_START) -> str:
        """Say it: with the time of day of the start where it has none of its own, or what to say if that is unknown."""

    @abstractmethod
    def _engine(self, anchor: Anchor) -> Engine:
        """Return its fire times, counted from *anchor*, as instants."""

    def _exclusion(self, anchor: Anchor) -> Exclusion:
        """Return what it covers as an exclusion: its instants, unless it names days or clock times."""
        return InstantsExcluded(self._engine(anchor), self._fraction(anchor))

    def _fraction(self, _anchor: Anchor) -> int:
        """Return the microseconds of its fire times."""
        return 0

    @abstractmethod
    def _needs_start(self, *, excluding: bool = False) -> bool:
        """Tell whether the fire times depend on the start."""

    def _is_endless(self) -> bool:
        """Tell whether it fires again and again wherever it starts."""
        return True

    def _warnings(self) -> tuple[TimingWarning, ...]:
        """Return what is probably not meant, whatever the time."""
        return ()


class _Elapsed(Frequency):
    __slots__ = ()

    @abstractmethod
    def _step(self) -> int:
        """Return the microseconds from one fire time to the next."""

    def _engine(self, anchor: Anchor) -> Engine:
        return Elapsed(anchor.instant, self._step())

    def _fraction(self, anchor: Anchor) -> int:
        return anchor.instant % MICRO

    def _needs_start(self, *, excluding: bool = False) -> bool:  # noqa: ARG002 - one answer for both
        return True


class _Dated(Frequency):
    """Days crossed with one time of day; without one, that of the start, or as an exclusion the whole day."""

    __slots__ = ()
    at: time | None
    every: int

    @abstractmethod
    def _days(self, anchor: Anchor) -> Days:
        """Return its local days, counted from that of *anchor*."""

    def _engine(self, anchor: Anchor) -> Engine:
        second = anchor.local % DAY if self.at is None else _second_of(self.at)
        return WallClock(Product(self._days(anchor), Times.at(second)), anchor.zone)

    def _exclusion(self, anchor: Anchor) -> Exclusion:
        if self.at is not None:
            return super()._exclusion(anchor)
        return DaysExcluded(self._days(anchor).next, anchor.zone)

    def _needs_start(self, *, excluding: bool = False) -> bool:
        return self.every > 1 or (self.at is None and not excluding)

    def _is_endless(self) -> bool:
        return self.every < _OFTEN


def _second_of(at: time) -> int:
    return at.hour * 3600 + at.minute * 60 + at.second


@dataclass(frozen=True, slots=True, repr=False)
class EverySeconds(_Elapsed):
    """Every n seconds of real time, counted from the start.

    Args:
        n: whole seconds, 1 or more.

    Raises:
        TimingError: *n* is something else.
    """

    n: int

    def __post_init__(self) -> None:
        init(self, n=integer("n", self.n))

    def _say(self, start: time | None, unknown: str = "") -> str:  # noqa: ARG002 - it needs no time of day
        return words.elapsed(self.n, "second")

    def _step(self) -> int:
        return self.n * MICRO

    def _warnings(self) -> tuple[TimingWarning, ...]:
        return (_EVERY_SECOND,) if self.n == 1 else ()


@dataclass(frozen=True, slots=True, repr=False)
class EveryMinutes(_Elapsed):
    """Every n minutes of real time, counted from the start.

    Args:
        n: whole minutes, 1 or more.

    Raises:
        TimingError: *n* is something else.
    """

    n: int

    def __post_init__(self) -> None:
        init(self, n=integer("n", self.n))

    def _say(self, start: time | None, unknown: str = "") -> str:  # noqa: ARG002 - it needs no time of day
        return words.elapsed(self.n, "minute")

    def _step(self) -> int:
        return self.n * 60 * MICRO


@dataclass(frozen=True, slots=True, repr=False)
class Hourly(_Elapsed):
    """Every n hours of real time, counted from the start, or from the first local `minute` (second 0) after it.

    Args:
        every: whole hours, 1 or more.
        minute: 0 to 59, on the local clock; ``None``: that of the start, with its seconds.

    Raises:
        TimingError: a value is something else.
    """

    every: int = 1
    minute: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        minute = None if self.minute is None else integer("minute", self.minute, minimum=0)
        if minute is not None and minute > 59:  # noqa: PLR2004 - the clock
            raise TimingError(f"minute must be 0..59, got {minute}")
        init(self, every=integer("every", self.every), minute=minute)

    def _say(self, start: time | None, unknown: str = "") -> str:  # noqa: ARG002 - it needs no time of day
        return words.hourly(self.every, self.minute)

    def _step(self) -> int:
        return self.every * _HOUR

    def _engine(self, anchor: Anchor) -> Engine:
        if self.minute is None:
            return super(Hourly, self)._engine(anchor)  # a plain super() is lost in dataclass(slots=True)
        return HourlyAt(anchor.instant, self.every, self.minute, anchor.zone)

    def _fraction(self, anchor: Anchor) -> int:
        return super(Hourly, self)._fraction(anchor) if self.minute is None else 0


@dataclass(frozen=True, slots=True, repr=False, init=False)
class Daily(_Dated):
    """Every n-th day, or on some days of the week, at a local time.

    Args:
        at: a naive `datetime.time` of whole seconds, or ``"HH:MM"``, ``"HH:MM:SS"``; ``None``: that of the start.
        every: 1 or more, counted from the local day of the start; more than 1 not together with *on*.
        on: days of the week: ``WEEKDAYS``, ``(MO, FR)``, ``"mon fri"`` or ``"mon-fri"``; ``None``: all.

    Raises:
        TimingError: a value is something else.
    """

    at: time | None = None
    every: int = 1
    on: tuple[weekday, ...] | None = None

    def __init__(self, at: time | str | None = None, *, every: int = 1, on: Weekdays | None = None) -> None:
        init(
            self,
            at=None if at is None else time_of_day(at),
            every=integer("every", every),
            on=None if on is None else plain_weekdays(on),
        )
        if self.on is not None and every > 1:
            raise TimingError(f"every={every} cannot be combined with on=; write Weekly({self.on}, every=...)")

    def _say(self, start: time | None, unknown: str = words.AT_START) -> str:
        return words.daily(self.every, self.on) + words.at_text(start if self.at is None else self.at, unknown)

    def _days(self, anchor: Anchor) -> Days:
        if self.on is not None:
            return WeeklyDays(tuple(day.weekday for day in self.on))
        return DailyDays(anchor.local // DAY, self.every)


@dataclass(frozen=True, slots=True, repr=False, init=False)
class Weekly(_Dated):
    """On some days of every n-th week, at a local time; weeks begin on Monday.

    Args:
        on: days of the week: ``WEEKDAYS``, ``(MO, FR)``, ``"mon fri"`` or ``"mon-fri"``.
        at: a naive `datetime.time` of whole seconds, or ``"HH:MM"``, ``"HH:MM:SS"``; ``None``: that of the start.
        every: 1 or more, counted from the local week of the start.

    Raises:
        TimingError: a value is something else.
    """

    on: tuple[weekday, ...]
    at: time | None = None
    every: int = 1

    def __init__(self, on: Weekdays, *, at: time | str | None = None, every: int = 1) -> None:
        init(
            self,
            on=plain_weekdays(on),
            at=None if at is None else time_of_day(at),
            every=integer("every", every),
        )

    def _say(self, start: time | None, unknown: str = words.AT_START) -> str:
        return words.weekly(self.on, self.every) + words.at_text(start if self.at is None else self.at, unknown)

    def _days(self, anchor: Anchor) -> Days:
        return WeeklyDays(tuple(day.weekday for day in self.on), anchor.local // DAY, self.every)


@dataclass(frozen=True, slots=True, repr=False, init=False)
class Monthly(_Dated):
    """On one day of every n-th month, by number or by weekday, at a local time.

    Args:
        day: 1 to 31, or -1 (the last day) to -31; either this or *on*.
        on: the n-th weekday of the month: ``TU(2)``, ``FR(-1)``, ``"tue(2)"``.
        at: a naive `datetime.time` of whole seconds, or ``"HH:MM"``, ``"HH:MM:SS"``; ``None``: that of the start.
        every: 1 or more, counted from the local month of the start.
        short_month: what happens in a month without that *day*: ``"skip"`` leaves it out, ``"last"`` takes its nearest
            day. A month without that weekday is always left out.

    Raises:
        TimingError: a value is something else, or there is neither or both of *day* and *on*.
    """

    day: int | None = None
    on: weekday | None = None
    at: time | None = None
    every: int = 1
    short_month: ShortMonth = "skip"

    def __init__(
        self,
        day: int | None = None,
        *,
        on: weekday | str | None = None,
        at: time | str | None = None,
        every: int = 1,
        short_month: ShortMonth = "skip",
    ) -> None:
        if (day is None) == (on is None):
            raise TimingError("Monthly needs a day or a weekday: write Monthly(15), Monthly(-1) or Monthly(on=TU(2))")
        if isinstance(day, weekday):
            raise TimingError(f"day must be a number, got {day}; write Monthly(on={day})")
        day = None if day is None else integer("day", day, minimum=None)
        if day is not None and not 1 <= abs(day) <= 31:  # noqa: PLR2004 - days of a month
            raise TimingError(f"day must be 1..31 or -1..-31, got {day}")
        short_month = one_of("short_month", short_month, "skip", "last")
        if short_month == "last" and on is not None:
            raise TimingError("short_month='last' needs a day number; a weekday that a month lacks is always skipped")
        init(
            self,
            day=day,
            on=None if on is None else nth_weekday(on),
            at=None if at is None else time_of_day(at),
            every=integer("every", every),
            short_month=short_month,
        )

    def _say(self, start: time | None, unknown: str = words.AT_START) -> str:
        days = words.monthly(self.day, self.on, self.every, clamp=self.short_month == "last")
        head, bracket, note = days.partition(" (")
        return head + words.at_text(start if self.at is None else self.at, unknown) + bracket + note

    def _days(self, anchor: Anchor) -> Days:
        rule = (self.day or 0, None) if self.on is None else (self.on.n or 0, self.on.weekday)
        return monthly_days(rule, anchor.local // DAY, self.every, clamp=self.short_month == "last")

    def _is_endless(self) -> bool:
        always = self.short_month == "last" or (self.day is not None and 0 < self.day <= 28)  # noqa: PLR2004 - February
        return self.every == 1 or (always and self.every < _OFTEN)

    def _warnings(self) -> tuple[TimingWarning, ...]:
        if self.day is None or abs(self.day) <= 28 or self.short_month == "last":  # noqa: PLR2004 - February
            return ()
        message = f"months with fewer than {abs(self.day)} days are skipped; short_month='last' takes their nearest day"
        return (TimingWarning("short-month", message),)


@dataclass(frozen=True, slots=True, repr=False)
class Cron(Frequency):
    """What a cron expression says, as Debian's cron or (``dialect="quartz"``) as Quartz 2.3 reads it.

    Args:
        expression: five fields (minute, hour, day, month, weekday) or a macro such as ``@daily``; six fields where
            *seconds* says so; six or seven for Quartz (seconds first, the year last).
        dialect: ``"unix"`` or ``"quartz"``.
        seconds: where the field for seconds of a six-field unix expression stands: ``"first"`` or ``"last"``.

    Raises:
        CronError: the expression cannot be read, is read differently by different crons, or never fires.
        TimingError: another value is something else.
    """

    expression: str
    dialect: Literal["unix", "quartz"] = field(default="unix", kw_only=True)
    seconds: Literal["first", "last"] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.expression, str):
            raise TimingError(f"a cron expression must be text such as '0 9 * * mon-fri', got {self.expression!r}")
        dialect = one_of("dialect", self.dialect, "unix", "quartz")
        seconds = None if self.seconds is None else one_of("seconds", self.seconds, "first", "last")
        if dialect == "quartz" and seconds is not None:
            raise TimingError("a Quartz expression always begins with the seconds; leave seconds= out")
        init(self, expression=" ".join(self.expression.split()), dialect=dialect, seconds=seconds)
        parse_cron(self.expression, self.dialect, self.seconds)

    def _say(self, start: time | None, unknown: str = "") -> str:  # noqa: ARG002 - it needs no time of day
        return cron_words.cron(self._fields())

    def _fields(self) -> CronFields:
        return parse_cron(self.expression, self.dialect, self.seconds)

    def _engine(self, anchor: Anchor) -> Engine:
        fields = self._fields()
        return WallClock(_product(fields.expression, self.dialect, self.seconds), anchor.zone, clock=fields.clock)

    def _exclusion(self, anchor: Anchor) -> Exclusion:
        fields = self._fields()
        return TimesExcluded(fields.dates(), fields.times(), 1 if fields.has_seconds else 60, anchor.zone)

    def _needs_start(self, *, excluding: bool = False) -> bool:  # noqa: ARG002 - one answer for both
        return False

    def _is_endless(self) -> bool:
        return self._fields().years is None

    def _warnings(self) -> tuple[TimingWarning, ...]:
        read = self._fields()
        found = [_EVERY_SECOND] if len(read.seconds) == 60 else []  # noqa: PLR2004 - a minute
        if not read.both_days:
            days = cron_words.cron_days(read) or "every day"
            days += cron_words.cron_months(read)
            message = f"day of month and day of week are joined by OR, as in every cron: it fires {days}"
            found.append(TimingWarning("either-day", message))
        return tuple(found)


@lru_cache(maxsize=4096)
def _product(expression: str, dialect: str, seconds: str | None) -> Product:
    """Return the local seconds of an expression, shared by all schedules that have it."""
    fields = parse_cron(expression, dialect, seconds)
    return Product(fields.dates(), fields.times())


@dataclass(frozen=True, slots=True, repr=False)
class Recurrence(Frequency):
    """What the text of an RFC 5545 RRULE says; the start of the Schedule is its DTSTART."""

    rule: str

    def __post_init__(self) -> None:
        if not isinstance(self.rule, str):
            raise TimingError(f"a recurrence rule must be text such as 'FREQ=DAILY;INTERVAL=2', got {self.rule!r}")
        parse_rule(self.rule)
        init(self, rule=plain_text(self.rule))

    def _say(self, start: time | None, unknown: str = words.AT_START) -> str:
        return cron_words.recurrence(parse_rule(self.rule), start, unknown)

    def _engine(self, anchor: Anchor) -> Engine:
        rule = parse_rule(self.rule)
        first = first_local(rule, anchor.instant, anchor.local, anchor.zone)
        engine = WallClock(nominal_of(rule, anchor.local, first, anchor.effort), anchor.zone, clock=rule.clock)
        return Ended(engine, rule.until_instant) if rule.until_instant is not None else engine

    def _exclusion(self, anchor: Anchor) -> Exclusion:
        rule = parse_rule(self.rule)
        if rule.clock or any(name in rule.numbers for name in TIME_PARTS):
            return super(Recurrence, self)._exclusion(anchor)  # a plain super() is lost in dataclass(slots=True)
        return DaysExcluded(days_of(rule, anchor.local, anchor.zone, anchor.effort), anchor.zone)

    def _needs_start(self, *, excluding: bool = False) -> bool:  # noqa: ARG002 - one answer for both
        return True

    def _is_endless(self) -> bool:
        return False

    def _warnings(self) -> tuple[TimingWarning, ...]:
        rule = parse_rule(self.rule)
        every_second = rule.frequency == "SECONDLY" and rule.every == 1 and "BYSECOND" not in rule.numbers
        return (_EVERY_SECOND,) if every_second else ()
