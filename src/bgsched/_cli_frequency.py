"""What a person types for a timing -> a frequency: ``daily at 02:30``, ``every 10 seconds``, cron text, an RRULE."""

import re
from collections.abc import Callable
from typing import Literal

from bgsched.errors import TimingError, did_you_mean
from bgsched.timing import (
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

__all__ = ["EXAMPLES", "parse_frequency"]

EXAMPLES = (
    "every 10 seconds",
    "every 15 minutes",
    "hourly at :15",
    "daily at 02:30",
    "every 3 days at 09:00",
    "weekdays at 09:00",
    "weekly on mon fri at 09:00",
    "every 2 weeks on mon at 09:00",
    "monthly on 15 at 12:00",
    "monthly on last friday at 18:00",
    "@daily",
    "0 9 * * mon-fri",
    "FREQ=MONTHLY;BYDAY=-1FR;BYHOUR=9;BYMINUTE=0",
)
Dialect = Literal["unix", "quartz"]

_ORDINALS = {"first": 1, "second": 2, "third": 3, "fourth": 4, "fifth": 5, "last": -1}
_UNITS = ("second", "minute", "hour", "day", "week", "month")
_SHORT = {"sec": "second", "min": "minute", "hr": "hour"}
_SINGLE = {"secondly": "second", "minutely": "minute", "hourly": "hour", "daily": "day", "weekly": "week"}
_DAY = r"mon[a-z]*|tue[a-z]*|wed[a-z]*|thu[a-z]*|fri[a-z]*|sat[a-z]*|sun[a-z]*"
_DAY_NAMES = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_HEADS = ("every", "hourly", "daily", "weekly", "monthly", "weekdays", "weekends")
_SHAPE = re.compile(
    rf"""(?:
        every \s+ (?:(?P<n>\d{{1,9}}|other) \s+)? (?P<unit>second|minute|hour|day|week|month|sec|min|hr)s?
      | (?P<single>secondly|minutely|hourly|daily|weekly|monthly)
      | (?:every \s+ | on \s+)? (?P<days>weekdays? | weekends? | (?:(?:{_DAY}) (?:\s*(?:,|-|\s|and)\s*)?)+)
    )
    (?: \s+ on \s+ (?P<on>.+?) )?
    (?: \s+ at \s+ (?P<at>.+) )?""",
    re.VERBOSE,
)


def parse_frequency(
    text: str, *, dialect: Dialect | None = None, seconds: Literal["first", "last"] | None = None
) -> Frequency:
    """Return the frequency that a text stands for; raise TimingError with examples of what can be written.

    *dialect* and *seconds* are those of a Cron, and say that the text is one.
    """
    words = " ".join(text.split())
    lower = words.lower()
    if lower.startswith("rrule:") or "freq=" in lower:
        return Recurrence(words)
    if dialect is None and seconds is None:
        match = _SHAPE.fullmatch(lower)
        if match is not None:
            return _built(match)
        if re.match(r"[a-z]{2}", lower):  # no cron expression begins so
            raise TimingError(f"{words!r} cannot be read{_hint(lower)}")
        dialect = "quartz" if "?" in words else None
    return Cron(words, dialect=dialect or "unix", seconds=seconds)


def _hint(words: str) -> str:
    head = words.partition(" ")[0]
    if head in _ORDINALS:
        return f"; write 'monthly on {words}'"
    if head in {"yearly", "annually"}:
        return "; write '@yearly', a cron expression or an RRULE such as 'FREQ=YEARLY;BYMONTH=12;BYMONTHDAY=24'"
    mean = did_you_mean(head, _HEADS) if head not in _HEADS else ""
    return f"{mean}; write for example {', '.join(map(repr, EXAMPLES[:9]))}"


def _built(match: re.Match[str]) -> Frequency:
    if match["days"]:
        if match["on"]:
            raise TimingError(f"{match[0]!r} names days twice; write 'weekly on {match['days'].strip()}'")
        days = match["days"].strip()
        named = {"weekday": WEEKDAYS, "weekend": WEEKENDS}.get(days.rstrip("s"))
        return Daily(_at(match), on=named) if named else Weekly(_days(days), at=_at(match))
    count = 2 if match["n"] == "other" else int(match["n"] or 1)
    unit = _SHORT.get(match["unit"], match["unit"]) or _SINGLE.get(match["single"], "month")
    return _OF_UNIT[unit](match, count)


def _at(match: re.Match[str]) -> str | None:
    at: str | None = {"midnight": "00:00", "noon": "12:00"}.get(match["at"], match["at"])
    if at is not None and not re.fullmatch(r"\d{1,2}(:\d{2}){1,2}", at):
        raise TimingError(f"{at!r} {_no_time(at)}")
    return at


def _no_time(at: str) -> str:
    """Say what to write instead of what is no time of day."""
    if sum(word[:1].isdigit() for word in re.split(r"[,\s]+", at)) > 1:
        return "are several times; write a cron expression such as '0 9,17 * * *'"
    clock = re.fullmatch(r"(\d{1,2})(?::(\d{2}))?\s*(am|pm)?", at)
    if clock is None or (clock[3] and not 1 <= int(clock[1]) <= 12):  # noqa: PLR2004 - the twelve-hour clock
        return "is no time of day; write it as 00:00 to 23:59"
    hour = int(clock[1]) % 12 + 12 * (clock[3] == "pm") if clock[3] else int(clock[1])
    return f"is no time of day; write '{hour:02}:{clock[2] or '00'}'"


def _nothing_more(match: re.Match[str], *parts: str) -> None:
    for part in parts:
        if match[part]:
            raise TimingError(f"{match[0]!r}: {part!r} has no meaning here; write for example {EXAMPLES[0]!r}")


def _seconds(match: re.Match[str], count: int) -> Frequency:
    _nothing_more(match, "on", "at")
    return EverySeconds(count)


def _minutes(match: re.Match[str], count: int) -> Frequency:
    _nothing_more(match, "on", "at")
    return EveryMinutes(count)


def _hours(match: re.Match[str], count: int) -> Frequency:
    _nothing_more(match, "on")
    if match["at"] is None:
        return Hourly(count)
    minute = re.fullmatch(r":?(\d{1,2})", match["at"])
    if minute is None:
        raise TimingError(f"{match['at']!r} is no minute of the hour; write 'hourly at :15'")
    return Hourly(count, minute=int(minute[1]))


def _every_day(match: re.Match[str], count: int) -> Frequency:
    _nothing_more(match, "on")
    return Daily(_at(match), every=count)


def _every_week(match: re.Match[str], count: int) -> Frequency:
    if not match["on"]:
        raise TimingError(f"{match[0]!r} needs days; write 'weekly on mon fri at 09:00'")
    return Weekly(_days(match["on"]), at=_at(match), every=count)


def _every_month(match: re.Match[str], count: int) -> Frequency:
    on = (match["on"] or "").removeprefix("the ").removeprefix("day ").strip()
    number = re.fullmatch(r"(-?\d{1,2})(?:st|nd|rd|th)?", on)
    if number is not None:
        return Monthly(int(number[1]), at=_at(match), every=count)
    if on == "last day":
        return Monthly(-1, at=_at(match), every=count)
    nth = re.fullmatch(rf"(?:(?P<n>\d)(?:st|nd|rd|th)|(?P<word>{'|'.join(_ORDINALS)})) (?P<day>{_DAY})", on)
    if nth is None:
        hint = did_you_mean(on.rpartition(" ")[2], _DAY_NAMES)
        raise TimingError(
            f"{match[0]!r} needs a day; write 'monthly on 15', 'on last day' or 'on second tuesday'{hint}"
        )
    n = int(nth["n"]) if nth["n"] else _ORDINALS[nth["word"]]
    return Monthly(on=f"{nth['day']}({n})", at=_at(match), every=count)


def _days(text: str) -> str:
    return re.sub(r"\s*-\s*", "-", re.sub(r"[\s,]+(and\s+)?", " ", text).replace(" and ", " "))


_OF_UNIT: dict[str, Callable[[re.Match[str], int], Frequency]] = dict(
    zip(_UNITS, (_seconds, _minutes, _hours, _every_day, _every_week, _every_month), strict=True)
)
