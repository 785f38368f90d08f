"""When a process runs: timings and frequencies, pure values without a clock.

A timing stands for a set of instants, its *fire times*. The set depends on nothing but the value and the zone database:
never on now, on what was asked before, or on whether a run was late. ``next_fire_time(after)`` is its least member
strictly later than *after*. All of it is computed in UTC integers; local time exists only on the way.

A frequency reads time in one of three ways, which differ only where the clocks of a zone are moved, forward (a *gap*:
local times that never happen) or back (a *fold*: local times that happen twice):

- *Elapsed* (`EverySeconds`, `EveryMinutes`, `Hourly`): exact microseconds from the start. Moved clocks change nothing,
  except that ``Hourly(minute=m)`` moves forward to the next local minute m where a zone shifts by a non-whole hour.
- *Fixed* (`Daily`, `Weekly`, `Monthly`, a `Cron` whose minute and hour do not start with ``*``, a `Recurrence` of DAILY
  and slower): once for each local time. In a gap: at the first instant after it. In a fold: at the first occurrence. A
  local day that does not exist at all (Apia, 30 December 2011) is skipped, like 30 February. What falls on one instant
  is one.
- *Clock* (a `Cron` whose minute or hour starts with ``*``, a `Recurrence` of HOURLY and faster): whenever the local
  clock reads so. Nothing in a gap, both passes of a fold.

*Fixed* and *clock* are the rule of Debian's cron. A missed nightly run is worse than one that is half an hour late, and
a doubled one is worse than either; but who writes ``*`` asks for what the clock reads.

"Every n" days, weeks and months count from the local day, the Monday-to-Sunday week and the month that hold the start,
so that the phase stays when a time of day or a list of days is edited. `start` and `finish` are inclusive. Never is a
fire time found by walking from the start: `bgsched._calendar` divides, or asks a table of one of the 28 kinds of years.
"""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence, Set as AbstractSet
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any, Self
from zoneinfo import ZoneInfo

from dateutil.rrule import FR, MO, SA, SU, TH, TU, WE

from bgsched._calendar import parts, words
from bgsched._calendar.effort import MOST_STEPS, Effort, Undecided
from bgsched._calendar.fields import aware, integer, moment, moment_instant, zone_key
from bgsched._calendar.frequency import (
    WEEKDAYS,
    WEEKENDS,
    Cron,
    Daily,
    EveryMinutes,
    EverySeconds,
    Frequency,
    Hourly,
    Monthly,
    Recurrence,
    Weekly,
)
from bgsched._calendar.notes import TimingWarning, fire_time_note, next_gap_note
from bgsched._calendar.parts import Excluded
from bgsched._calendar.plan import Anchor, Plan
from bgsched._calendar.stored import decoded, shown
from bgsched._calendar.units import DAY, FIRST_INSTANT, HORIZON, MICRO, datetime_of, instant_of, local_of
from bgsched._calendar.value import Value, init
from bgsched._calendar.zone import zone_of
from bgsched.errors import TimingError

__all__ = [
    "FR",
    "MO",
    "SA",
    "SU",
    "TH",
    "TU",
    "WE",
    "WEEKDAYS",
    "WEEKENDS",
    "Cron",
    "Daily",
    "EveryMinutes",
    "EverySeconds",
    "Frequency",
    "Hourly",
    "Immediate",
    "Later",
    "Monthly",
    "Recurrence",
    "Schedule",
    "Timing",
    "TimingWarning",
    "Weekly",
    "checked_timing",
    "timing_from_dict",
]


# What fires again and again does so within 400 years.
_CERTAIN_BEFORE = HORIZON - 400 * 366 * DAY * MICRO


class _Timing(Value):
    """What the three timings have in common."""

    __slots__ = ()

    @abstractmethod
    def next_fire_time(self, after: datetime) -> datetime | None:
        """Return the first fire time strictly later than *after* (aware), in UTC."""

    @abstractmethod
    def first_fire_time(self, now: datetime) -> datetime | None:
        """Return what a request that is scheduled at *now* fires first, in UTC."""

    @abstractmethod
    def last_fire_time(self, until: datetime, after: datetime | None = None) -> datetime | None:
        """Return the latest fire time not later than *until*, and later than *after* if given."""

    @abstractmethod
    def count_fire_times(self, after: datetime, until: datetime) -> int:
        """Count the fire times later than *after* and not later than *until*."""

    def fire_times(self, after: datetime, until: datetime | None = None) -> Iterator[datetime]:
        """Iterate over the fire times later than *after* and not later than *until*."""
        last = None if until is None else instant_of(aware(until, "until"))
        fire_time = self.next_fire_time(after)
        while fire_time is not None and (last is None or instant_of(fire_time) <= last):
            yield fire_time
            fire_time = self.next_fire_time(fire_time)

    def warnings(self, now: datetime) -> tuple[TimingWarning, ...]:  # noqa: ARG002 - only a Schedule has any
        """Return what is legal and probably not meant, for a host to show beside the preview."""
        return ()

    def due_at(self, fire_time: datetime, key: str) -> datetime:  # noqa: ARG002 - only a Schedule has a jitter
        """Return when the run for *fire_time* is due for the request *key*."""
        return fire_time


@dataclass(frozen=True, slots=True, repr=False)
class Immediate(_Timing):
    """Once, at the instant of scheduling; it runs as soon as it can, however late that is: it never misfires."""

    def next_fire_time(self, after: datetime) -> datetime | None:
        """Return None: it has no fire time of its own, only the one of :meth:`first_fire_time`."""
        aware(after, "after")
        return None

    def first_fire_time(self, now: datetime) -> datetime | None:
        """Return *now*."""
        return datetime_of(instant_of(aware(now, "now")))

    def last_fire_time(self, until: datetime, after: datetime | None = None) -> datetime | None:  # noqa: ARG002
        """Return None, like :meth:`next_fire_time`."""
        aware(until, "until")
        return None

    def count_fire_times(self, after: datetime, until: datetime) -> int:
        """Return 0, like :meth:`next_fire_time`."""
        aware(after, "after")
        aware(until, "until")
        return 0

    def pinned(self, now: datetime, timezone: str | ZoneInfo | None = None) -> Self:  # noqa: ARG002
        """Return itself: there is nothing to fill in."""
        return self

    def describe(self) -> str:
        """Say in words when it fires."""
        return "immediately"


@dataclass(frozen=True, slots=True, repr=False, init=False)
class Later(_Timing):
    """Once, at an instant: an aware `at`, or a naive one on the clock of `timezone`.

    A local time in a gap is the first instant after the gap, one in a fold the first occurrence (the second with
    fold=1).
    """

    at: datetime
    timezone: str | None = None

    def __init__(self, at: datetime, *, timezone: str | ZoneInfo | None = None) -> None:
        zone = None if timezone is None else zone_key(timezone)
        init(self, at=moment(at, zone, "at"), timezone=zone)
        if not FIRST_INSTANT <= self._instant() <= HORIZON:
            raise TimingError(f"at is outside of the calendar: {at!r}")

    def next_fire_time(self, after: datetime) -> datetime | None:
        """Return `at` as UTC if it is later than *after*."""
        instant = self._instant()
        return datetime_of(instant) if instant > instant_of(aware(after, "after")) else None

    def first_fire_time(self, now: datetime) -> datetime:
        """Return `at` as UTC, even if it is in the past: then it is due at once."""
        aware(now, "now")
        return datetime_of(self._instant())

    def last_fire_time(self, until: datetime, after: datetime | None = None) -> datetime | None:
        """Return `at` as UTC if it lies between the two."""
        instant = self._instant()
        if after is not None and instant <= instant_of(aware(after, "after")):
            return None
        return datetime_of(instant) if instant <= instant_of(aware(until, "until")) else None

    def count_fire_times(self, after: datetime, until: datetime) -> int:
        """Return 1 if `at` lies between the two, else 0."""
        return int(self.last_fire_time(until, after) is not None)

    def pinned(self, now: datetime, timezone: str | ZoneInfo | None = None) -> Self:
        """Return the same with the time zone filled in."""
        aware(now, "now")
        return self if self.timezone else type(self)(self.at, timezone=zone_key(timezone or "UTC"))

    def describe(self) -> str:
        """Say in words when it fires."""
        zone = self.timezone or "UTC"
        return f"once, on {words.instant_text(parts.on_clock(self.at, zone_of(zone)))}, {zone}"

    def _instant(self) -> int:
        return moment_instant(self.at, self.timezone)


@dataclass(frozen=True, slots=True, repr=False, init=False)
class Schedule(_Timing):
    """Again and again: a frequency (or several), within bounds.

    Attributes:
        frequency: One frequency, or a tuple: then it fires at any of them, an instant once.
        start: The first instant that may be a fire time, and what phases count from; None is "when it is scheduled".
        finish: The last instant that may be a fire time.
        timezone: The IANA name of the zone whose clock counts; None is the scheduler's.
        repetitions: How many fire times there are in all.
        exclude: Dates, pairs of datetimes (the second one is not excluded itself) and frequencies in which it does not
            fire. A Daily, Weekly, Monthly or Recurrence without a time of day excludes whole local days, a Cron the
            minutes that it matches (with a field for seconds: the seconds), any other frequency its fire times.
        jitter: The longest time by which a run may be due after its fire time, see :meth:`due_at`.
    """

    frequency: Frequency | tuple[Frequency, ...]
    start: datetime | None = None
    finish: datetime | None = None
    timezone: str | None = None
    repetitions: int | None = None
    exclude: tuple[Excluded, ...] = ()
    jitter: timedelta = timedelta(0)
    _plan: Plan | None = field(default=None, init=False, repr=False, compare=False)

    def __init__(
        self,
        frequency: Frequency | Sequence[Frequency] | AbstractSet[Frequency],
        *,
        start: datetime | None = None,
        finish: datetime | None = None,
        timezone: str | ZoneInfo | None = None,
        repetitions: int | None = None,
        exclude: Excluded | Sequence[Excluded] | AbstractSet[Excluded] = (),
        jitter: timedelta = timedelta(0),
    ) -> None:
        zone = None if timezone is None else zone_key(timezone)
        init(
            self,
            frequency=parts.frequencies(frequency),
            start=None if start is None else moment(start, zone, "start"),
            finish=None if finish is None else moment(finish, zone, "finish"),
            timezone=zone,
            repetitions=None if repetitions is None else integer("repetitions", repetitions),
            exclude=parts.exclusions(exclude, zone),
            jitter=parts.jitter(jitter),
            _plan=None,
        )
        self._check_feasible()

    def next_fire_time(self, after: datetime) -> datetime | None:
        """Return the first fire time strictly later than *after* (aware), in UTC."""
        try:
            instant = instant_of(after)
        except TypeError:
            instant = instant_of(aware(after, "after"))  # which says what is wrong
        found = (self._plan or self._planned(instant)).next(instant)
        return None if found is None else datetime_of(found)

    def fire_times(self, after: datetime, until: datetime | None = None) -> Iterator[datetime]:
        """Iterate over the fire times later than *after* and not later than *until*."""
        last = HORIZON if until is None else instant_of(aware(until, "until"))
        instant = instant_of(aware(after, "after"))
        plan = self._planned(instant)
        while (found := plan.next(instant, last)) is not None:
            yield datetime_of(found)
            instant = found

    def first_fire_time(self, now: datetime) -> datetime | None:
        """Return the first fire time not before *now* and `start`, in UTC."""
        instant = instant_of(aware(now, "now"))
        found = self._planned(instant).next(instant - 1)
        return None if found is None else datetime_of(found)

    def last_fire_time(self, until: datetime, after: datetime | None = None) -> datetime | None:
        """Return the latest fire time not later than *until*, and later than *after* if given."""
        last, first = instant_of(aware(until, "until")), None if after is None else instant_of(aware(after, "after"))
        found = self._planned(last if first is None else first).last(last, first)
        return None if found is None else datetime_of(found)

    def count_fire_times(self, after: datetime, until: datetime) -> int:
        """Count the fire times later than *after* and not later than *until*.

        One frequency is counted by division and by whole years, with one correction for each transition of the zone.
        Several, or exclusions, are counted one by one where they are rare and day by day where they are not.
        """
        first = instant_of(aware(after, "after"))
        return self._planned(first).count(first, instant_of(aware(until, "until")))

    def due_at(self, fire_time: datetime, key: str) -> datetime:
        """Return *fire_time* plus 0 to `jitter`: the same for the same *key* and fire time, on every machine."""
        instant = instant_of(aware(fire_time, "fire_time"))
        if not self.jitter:
            return fire_time
        digest = blake2b(f"{key}\0{instant}".encode(), digest_size=8).digest()
        spread = self.jitter // timedelta(microseconds=1) + 1
        return datetime_of(min(instant + int.from_bytes(digest, "big") * spread // 2**64, HORIZON))

    def pinned(self, now: datetime, timezone: str | ZoneInfo | None = None) -> "Schedule":
        """Return the same with `start` and `timezone` filled in where they are None."""
        start = self.start if self.start is not None else datetime_of(instant_of(aware(now, "now")))
        zone = self.timezone or zone_key(timezone or "UTC")
        if self.start is None and self.finish is not None and moment_instant(self.finish, zone) < instant_of(now):
            raise TimingError(f"finish {self.finish} is over, it is {now}; give a later finish")
        if start is self.start and zone == self.timezone:
            return self
        given = {item.name: getattr(self, item.name) for item in fields(self) if item.init}
        return Schedule(**{**given, "start": start, "timezone": zone})

    def describe(self) -> str:
        """Say in words when it fires."""
        zone = zone_of(self.timezone or "UTC")
        start = None if self.start is None else parts.on_clock(self.start, zone)
        at = None if start is None else start.time().replace(microsecond=0)
        said = [words.joined(frequency._say(at) for frequency in self._all())]  # noqa: SLF001 - the same family
        said += [self.timezone] if self.timezone else []
        said += [] if start is None else [f"from {words.instant_text(start)}"]
        said += [] if self.finish is None else [words.until_text(parts.on_clock(self.finish, zone))]
        said += [] if self.repetitions is None else [words.count(self.repetitions, "time")]
        said += [words.excluded(parts.excluded_text(item, zone) for item in self.exclude)] if self.exclude else []
        said += [f"spread over {words.span_text(self.jitter)}"] if self.jitter else []
        return ", ".join(said)

    def warnings(self, now: datetime) -> tuple[TimingWarning, ...]:
        """Return what is legal and probably not meant, for a host to show beside the preview."""
        instant = instant_of(aware(now, "now"))
        plan = self._planned(instant)
        found = [warning for frequency in self._all() for warning in frequency._warnings()]  # noqa: SLF001
        following = plan.next(instant)
        if following is None:
            found.append(TimingWarning("over", "there is no fire time left"))
        elif following > instant + 366 * DAY * MICRO:
            when = words.instant_text(parts.on_clock(datetime_of(following), plan.zone))
            found.append(TimingWarning("far", f"the next fire time is over a year away, on {when}"))
        gap = next_gap_note(plan.clocks, plan.zone, instant, plan.allows)
        return (*found, TimingWarning("gap", gap)) if gap else tuple(found)

    def note_on(self, fire_time: datetime) -> str:
        """Say if *fire_time* stands for a local time that does not exist or happens twice, else ``""``."""
        instant = instant_of(aware(fire_time, "fire_time"))
        plan = self._planned(instant)
        return fire_time_note(plan.clocks, plan.zone, instant)

    def _all(self) -> tuple[Frequency, ...]:
        return self.frequency if isinstance(self.frequency, tuple) else (self.frequency,)

    def _needs_start(self) -> bool:
        excluding = (item for item in self.exclude if isinstance(item, Frequency))
        return (
            self.repetitions is not None
            or any(frequency._needs_start() for frequency in self._all())  # noqa: SLF001 - the same family
            or any(frequency._needs_start(excluding=True) for frequency in excluding)  # noqa: SLF001
        )

    def _check_feasible(self) -> None:
        """Refuse what never fires; what depends on a start that is not known yet is judged when it is pinned."""
        first, last = (None if at is None else moment_instant(at, self.timezone) for at in (self.start, self.finish))
        if first is not None and last is not None and last < first:
            raise TimingError(f"finish {self.finish} is before start {self.start}; it would never fire")
        certain = last is None and not self.exclude and (first is None or first < _CERTAIN_BEFORE)
        if certain and all(frequency._is_endless() for frequency in self._all()):  # noqa: SLF001 - the same family
            return
        if self.start is None and self._needs_start():
            return
        effort = Effort(MOST_STEPS)
        try:
            if not self._planned(0, effort).is_feasible():
                raise TimingError(f"{self!r:.300} would never fire; change its start, finish or exclude")
        except Undecided:
            found = f"no fire time was found in {MOST_STEPS} steps: it would never fire, or too rarely to be told"
            raise TimingError(f"{self!r:.300}: {found}; change its start, rule or exclude") from None
        effort.lift()

    def _planned(self, asked: int, effort: Effort | None = None) -> Plan:
        """Return the plan; without a start it is the one of a schedule pinned at the instant *asked*."""
        if self._plan is not None:
            return self._plan
        zone = zone_of(self.timezone or "UTC")
        if self.start is not None:
            instant = moment_instant(self.start, self.timezone)
            naive = self.start.tzinfo is None
            local = local_of(self.start) if naive else instant // MICRO + zone.offset(instant // MICRO)
        else:
            instant = asked
            local = instant // MICRO + zone.offset(instant // MICRO)
        anchor = Anchor(instant, max(local, FIRST_INSTANT // MICRO), zone, effort or Effort())
        bounded = self.start is not None or self._needs_start()
        plan = Plan(
            anchor,
            tuple((frequency._engine(anchor), frequency._fraction(anchor)) for frequency in self._all()),  # noqa: SLF001
            parts.exclusion_engines(self.exclude, anchor, self.timezone),
            start=instant if bounded else None,
            finish=None if self.finish is None else moment_instant(self.finish, self.timezone),
            repetitions=self.repetitions,
        )
        if self.start is not None or not bounded:
            init(self, _plan=plan)
        return plan

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild from the public values; the plan is made anew."""
        return timing_from_dict, (self.to_dict(),)


Timing = Immediate | Later | Schedule


def checked_timing(value: object) -> Timing:
    """Return *value*, if it is a timing."""
    if isinstance(value, Timing):
        return value
    hint = f"; write Schedule({value!r})" if isinstance(value, Frequency) else ""
    raise TimingError(f"timing must be Immediate(), Later(...) or Schedule(...), got {value!r}{hint}")


_TIMINGS: dict[str, type[_Timing]] = {"immediate": Immediate, "later": Later, "schedule": Schedule}
_FREQUENCIES: dict[str, type[Frequency]] = {
    kind.__name__.lower(): kind
    for kind in (EverySeconds, EveryMinutes, Hourly, Daily, Weekly, Monthly, Cron, Recurrence)
}


def timing_from_dict(data: Mapping[str, Any]) -> Timing:
    """Read what :meth:`to_dict` of a timing returned; raise TimingError on anything else."""
    kind = data.get("type") if isinstance(data, Mapping) else None  # type: ignore[redundant-expr]  # JSON may be any
    if not isinstance(kind, str) or kind not in _TIMINGS:
        raise TimingError(
            f"a stored timing must be an object with type 'immediate', 'later' or 'schedule', got {shown(data)}"
        )
    timing = decoded(data, _TIMINGS, _FREQUENCIES)
    assert isinstance(timing, Timing)  # noqa: S101 - what _TIMINGS names
    return timing
