"""Hypothesis strategies for the specs of the oracle, and the bgsched value that each stands for."""

from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache, partial

from _calendar_oracle import (
    CronSpec,
    Dated,
    Elapsed,
    EveryDay,
    HourlyAt,
    OnMonthDay,
    OnMonthWeekday,
    OnWeekdays,
    RuleSpec,
    Spec,
)
from hypothesis import strategies as st

from bgsched import timing as t
from bgsched.errors import TimingError

DAYS = (t.MO, t.TU, t.WE, t.TH, t.FR, t.SA, t.SU)
RFC_DAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
NAMES = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


def build(spec: Spec) -> t.Frequency:  # noqa: C901, PLR0911 - a table
    """Return the bgsched frequency that a spec stands for."""
    match spec:
        case Elapsed(step) if step % timedelta(hours=1) == timedelta(0):
            return t.Hourly(step // timedelta(hours=1))
        case Elapsed(step) if step % timedelta(minutes=1) == timedelta(0):
            return t.EveryMinutes(step // timedelta(minutes=1))
        case Elapsed(step):
            return t.EverySeconds(step // timedelta(seconds=1))
        case HourlyAt(every, minute):
            return t.Hourly(every, minute=minute)
        case Dated(EveryDay(every), at):
            return t.Daily(at, every=every)
        case Dated(OnWeekdays(weekdays, 1), at) if weekdays in ({0, 1, 2, 3, 4}, {5, 6}):
            return t.Daily(at, on=tuple(DAYS[day] for day in weekdays))
        case Dated(OnWeekdays(weekdays, every), at):
            return t.Weekly(tuple(DAYS[day] for day in weekdays), at=at, every=every)
        case Dated(OnMonthDay(day, every, clamp), at):
            return t.Monthly(day, at=at, every=every, short_month="last" if clamp else "skip")
        case Dated(OnMonthWeekday(weekday, n, every), at):
            return t.Monthly(on=DAYS[weekday](n), at=at, every=every)
        case CronSpec(text=text, quartz=True):
            return t.Cron(text, dialect="quartz")
        case CronSpec(text=text):
            return t.Cron(text, seconds="first" if len(text.split()) == 6 else None)
        case RuleSpec(text=text):
            return t.Recurrence(text)
    raise AssertionError(spec)


def built_or_none(spec: Spec) -> t.Frequency | None:
    """Return what a spec stands for, or None if it is refused; the only reason there may be is that it never fires."""
    try:
        return build(spec)
    except TimingError as error:
        if "never fire" not in str(error):
            raise
        return None


def times_near(local: datetime, *, seconds: bool) -> st.SearchStrategy[time]:
    """Draw a time of day, more often than not near the one of a transition."""
    near = st.integers(-150, 150).map(lambda n: (local + timedelta(minutes=n)).time())
    second = st.integers(0, 59) if seconds else st.just(0)
    return st.builds(lambda at, n: at.replace(second=n, microsecond=0), near | near | st.times(), second)


def dated(local: datetime, *, seconds: bool = False) -> st.SearchStrategy[Spec]:
    weekdays = st.frozensets(st.integers(0, 6), min_size=1)
    day = (
        st.builds(EveryDay, st.integers(1, 5))
        | st.builds(OnWeekdays, weekdays, st.integers(1, 3))
        | st.builds(OnWeekdays, st.sampled_from([frozenset(range(5)), frozenset({5, 6})]))
        | st.builds(
            OnMonthDay,
            (st.integers(local.day - 2, local.day + 2) | st.integers(-31, 31)).filter(lambda n: 1 <= abs(n) <= 31),
            st.integers(1, 3),
            st.booleans(),
        )
        | st.builds(OnMonthWeekday, st.integers(0, 6), st.sampled_from([-5, -3, -1, 1, 2, 3, 4, 5]), st.integers(1, 3))
    )
    return st.builds(Dated, day, st.none() | times_near(local, seconds=seconds))


@st.composite
def field(  # noqa: PLR0911 - one return for each kind
    draw: st.DrawFn, low: int, high: int, near: int, *, wrap: bool
) -> tuple[str, frozenset[int], bool]:
    """Draw the text of a numeric field, its numbers, and whether it starts with a star."""
    kind = draw(st.sampled_from(["*", "*/", "near", "list", "range", "/"]))
    span = high - low + 1
    step = draw(st.integers(1, min(high, 20)))
    if kind == "*":
        return "*", frozenset(range(low, high + 1)), True
    if kind == "*/":
        return f"*/{step}", frozenset(range(low, high + 1, step)), True
    if kind == "near":
        return str(near), frozenset({near}), False
    if kind == "list":
        values = draw(st.lists(st.integers(low, high) | st.just(near), min_size=1, max_size=4))
        return ",".join(map(str, values)), frozenset(values), False
    if kind == "range":
        first, last = draw(st.integers(low, high)), draw(st.integers(low, high))
        if not wrap and first == last:
            return str(first), frozenset({first}), False
        if not wrap:
            first, last = min(first, last), max(first, last)
        numbers = range(first, last + 1 if last >= first else last + 1 + span, step)
        return f"{first}-{last}/{step}", frozenset(low + (n - low) % span for n in numbers), False
    first = draw(st.integers(low, high if wrap else high - 1))
    if (low, high) == (0, 6):  # a weekday: where it ends is read differently, and refused
        return f"{first}-6/{step}", frozenset(range(first, 7, step)), False
    return f"{first}/{step}", frozenset(range(first, high + 1, step)), False


@st.composite
def days_of_cron(  # noqa: PLR0911 - one return for each kind
    draw: st.DrawFn, local: datetime, *, quartz: bool
) -> dict[str, object]:
    """Draw both day fields, plain or with L, W, #."""
    blank = "?" if quartz else "*"
    every = {"days": frozenset(range(1, 32)), "weekdays": frozenset(range(7)), "both_days": True}
    weekday, n = draw(st.integers(0, 6)), draw(st.integers(1, 5))
    number = str((weekday + 1) % 7 + quartz) if draw(st.booleans()) else NAMES[(weekday + 1) % 7]
    kind = draw(st.sampled_from(["plain"] * 6 + ["L", "W", "nL", "#"] + ["L-n", "LW"] * quartz))
    if kind in {"L", "L-n"}:
        before = n if kind == "L-n" else 0
        return {**every, "dom": f"L-{n}" if before else "L", "dow": blank, "special": ("last", 0, before)}
    if kind == "LW":
        return {**every, "dom": "LW", "dow": blank, "special": ("lastnear", 0, 0)}
    if kind == "W":
        day = draw(st.just(local.day) | st.integers(1, 31))
        return {**every, "dom": f"{day}W", "dow": blank, "special": ("near", day, 0)}
    if kind == "nL":
        return {**every, "dom": blank, "dow": f"{number}L", "special": ("nth", weekday, -1)}
    if kind == "#":
        return {**every, "dom": blank, "dow": f"{number}#{n}", "special": ("nth", weekday, n)}
    dom, days, star = draw(field(1, 31, local.day, wrap=quartz))
    low = 1 if quartz else 0
    dow, numbers, dow_star = draw(field(low, low + 6, (local.weekday() + 1) % 7 + low, wrap=quartz))
    weekdays = frozenset((number - low - 1) % 7 for number in numbers)
    if quartz and draw(st.booleans()):
        return {**every, "days": days, "dom": dom, "dow": "?"}
    if quartz:
        return {**every, "weekdays": weekdays, "dom": "?", "dow": dow}
    return {"dom": dom, "dow": dow, "days": days, "weekdays": weekdays, "both_days": star or dow_star}


@st.composite
def crons(draw: st.DrawFn, local: datetime, *, seconds: bool = False) -> Spec:
    quartz = draw(st.booleans())
    minute, minutes, minute_star = draw(field(0, 59, local.minute, wrap=quartz))
    hour, hours, hour_star = draw(field(0, 23, local.hour, wrap=quartz))
    month, months = ("*", frozenset(range(1, 13)))
    if draw(st.booleans()):
        month, months, _ = draw(field(1, 12, local.month, wrap=quartz))
    rest = draw(days_of_cron(local, quartz=quartz))
    dom, dow = rest.pop("dom"), rest.pop("dow")
    second, secs = "0", frozenset({0})
    if seconds:
        second, secs, _ = draw(field(0, 59, 0, wrap=quartz))
    text = f"{minute} {hour} {dom} {month} {dow}"
    return CronSpec(
        text=f"{second} {text}" if quartz or seconds else text,
        quartz=quartz,
        clock=minute_star or hour_star,
        minutes=minutes,
        hours=hours,
        months=months,
        seconds=secs,
        **rest,  # type: ignore[arg-type]  # one dict for several kinds of values
    )


def numbers(low: int, high: int, near: int, size: int = 3) -> st.SearchStrategy[str]:
    drawn = st.lists(st.integers(low, high) | st.just(near), min_size=1, max_size=size, unique=True)
    return drawn.map(lambda values: ",".join(map(str, values)))


FREQUENCIES = ("YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY", "MINUTELY", "SECONDLY")


@st.composite
def rules(draw: st.DrawFn, local: datetime, *, seconds: bool = False) -> Spec:
    """Draw an RRULE that means something by RFC 5545."""
    freq = draw(
        st.sampled_from(["YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY", "MINUTELY", *["SECONDLY"] * seconds])
    )
    parts = {"FREQ": freq}
    optional = rule_parts(freq, local)
    if seconds:
        optional["BYSECOND"] = numbers(0, 59, 0)
    if freq == "SECONDLY":
        optional["INTERVAL"] = st.integers(1, 5000).map(str)
    for name, strategy in optional.items():
        if draw(st.integers(0, 2)) == 0:
            parts[name] = draw(strategy)
    if freq == "YEARLY" and draw(st.integers(0, 3)) == 0:
        parts["BYWEEKNO"] = draw(numbers(1, 53, local.isocalendar().week, 9))
        parts.pop("BYYEARDAY", None)
        parts["BYDAY"] = draw(PLAIN_DAYS)
    # Not for weeks: dateutil counts the positions of the first week from DTSTART on, we in the whole week.
    if freq != "WEEKLY" and any(name.startswith("BY") for name in parts) and draw(st.integers(0, 3)) == 0:
        parts["BYSETPOS"] = draw(st.sampled_from(["1", "-1", "2", "1,-1"]))
    until = None
    ends = draw(st.sampled_from(["COUNT", "UNTIL", "UNTIL", *["never"] * 12]))
    if ends == "COUNT":
        parts["COUNT"] = str(draw(st.integers(1, 300)))
    elif ends == "UNTIL":
        zone = draw(st.none() | st.just(UTC))
        until = (local + draw(st.integers(-3000, 3000)) * timedelta(minutes=1)).replace(tzinfo=zone)
        parts["UNTIL"] = f"{until:%Y%m%dT%H%M%S}{'Z' if zone else ''}"
    text = ";".join(f"{name}={value}" for name, value in parts.items())
    return RuleSpec(text, freq in {"HOURLY", "MINUTELY", "SECONDLY"}, until)


PLAIN_DAYS = st.lists(st.sampled_from(RFC_DAYS), min_size=1, max_size=4, unique=True).map(",".join)
COUNTED_DAYS = st.lists(
    st.builds("{}{}".format, st.sampled_from([1, 2, 4, -1, -2]), st.sampled_from(RFC_DAYS)), min_size=1, max_size=3
).map(",".join)


@lru_cache(maxsize=500)
def rule_parts(freq: str, local: datetime) -> dict[str, st.SearchStrategy[str]]:
    """Return what may stand in a rule of this frequency."""
    parts: dict[str, st.SearchStrategy[str]] = {
        "INTERVAL": st.integers(1, 7).map(str),
        "BYMONTH": numbers(1, 12, local.month),
        "BYHOUR": numbers(0, 23, local.hour),
        "BYMINUTE": numbers(0, 59, local.minute),
        "WKST": st.sampled_from(RFC_DAYS),
    }
    parts["BYDAY"] = PLAIN_DAYS | COUNTED_DAYS if freq in {"MONTHLY", "YEARLY"} else PLAIN_DAYS
    if freq != "WEEKLY":
        parts["BYMONTHDAY"] = numbers(1, 31, local.day, 9) | numbers(-31, -1, -1)
    if freq not in {"MONTHLY", "WEEKLY", "DAILY"}:
        parts["BYYEARDAY"] = numbers(1, 366, local.timetuple().tm_yday, 20)
    return parts


def elapsed(*, seconds: bool = False) -> st.SearchStrategy[Spec]:
    steps = st.integers(1, 500).map(lambda n: timedelta(minutes=n)) | st.integers(1, 40).map(
        lambda n: timedelta(hours=n)
    )
    few = st.integers(1 if seconds else 300, 9999).map(lambda n: timedelta(seconds=n))
    return st.builds(Elapsed, steps | few) | st.builds(HourlyAt, st.integers(1, 30), st.integers(0, 59))


# Strategies are kept: to build one takes longer than to draw from it.
Strategy = Callable[[datetime], st.SearchStrategy[Spec]]
KINDS: dict[str, Strategy] = {
    "elapsed": lru_cache(lambda _: elapsed()),
    "dated": lru_cache(dated),
    "cron": lru_cache(crons),
    "rule": lru_cache(rules),
}
KINDS_IN_SECONDS: dict[str, Strategy] = {
    "elapsed": lru_cache(lambda _: elapsed(seconds=True)),
    "dated": lru_cache(partial(dated, seconds=True)),
    "cron": lru_cache(partial(crons, seconds=True)),
    "rule": lru_cache(partial(rules, seconds=True)),
}


@lru_cache
def specs(local: datetime) -> st.SearchStrategy[Spec]:
    """Draw any spec, its numbers gathered around the local time of a transition."""
    return st.one_of([kind(local) for kind in KINDS.values()])


@lru_cache
def specs_in_seconds(local: datetime) -> st.SearchStrategy[Spec]:
    """Draw any spec whose fire times need not be on whole minutes."""
    return st.one_of([kind(local) for kind in KINDS_IN_SECONDS.values()])
