"""Cron text -> sets of numbers. Pure: no zone, no clock.

croniter expands the numbers, behind a strict check of our own: what cron implementations read differently is refused
with the clear spelling (``5-5`` is the whole field to croniter, ``59/15`` was to croniter 6; day-of-week ranges over
the weekend are an error to some), and an error shows the place. The special days (``L``, ``W``, ``#``), Quartz's
dialect and the way from numbers to instants are ours.
"""

import re
from calendar import monthrange
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, NamedTuple

from croniter import CroniterError, croniter

from bgsched._calendar.days import DailyDays, Days, WeeklyDays, YearDays, day_in_month
from bgsched._calendar.times import Times, minutes_of
from bgsched._calendar.units import date_of, weekday_of
from bgsched.errors import CronError, did_you_mean

__all__ = ["ALIASES", "CronFields", "FieldText", "parse_cron"]

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_LONGEST = 256
_ITEM = re.compile(r"(?P<first>\*|[a-z]+|\d+)?(?:-(?P<last>[a-z]+|\d+))?(?:/(?P<step>\d+))?")
_RANDOM = re.compile(r"[hr](\(.*\))?(/\d+)?")
_SPECIAL_DAY = re.compile(r"l(?:-(?P<before>\d{1,2}))?(?P<lw>w)?|(?P<near>\d{1,2})w|w(?P<near2>\d{1,2})")
_SPECIAL_WEEKDAY = re.compile(r"(?P<nth>[a-z]{3}|\d)#(?P<n>\d+)|(?P<last>[a-z]{3}|\d)l|l(?P<last2>\d)")


class Field(NamedTuple):
    """What one field of an expression may hold."""

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()
    first_name: int = 0


_SECOND, _MINUTE, _HOUR = Field("second", 0, 59), Field("minute", 0, 59), Field("hour", 0, 23)
_DAY, _MONTH = Field("day of month", 1, 31), Field("month", 1, 12, MONTHS, 1)
_WEEKDAY = Field("day of week", 0, 7, WEEKDAYS)
_QUARTZ_WEEKDAY = Field("day of week", 1, 7, WEEKDAYS, 1)
_QUARTZ_YEAR = Field("year", 1970, 2099)
_CRONITER = (_MINUTE, _HOUR, _DAY, _MONTH, _WEEKDAY, _SECOND)  # its order


class FieldText(NamedTuple):
    """One field as written, with its place in the expression."""

    field: Field
    text: str
    start: int

    @property
    def star(self) -> bool:
        """Tell whether the field starts with a star, which decides how days combine and how folds are read."""
        return self.text.startswith("*") or self.text.startswith("/")

    def fail(self, expression: str, problem: str) -> CronError:
        """Return the error that points at this field."""
        return CronError(expression, problem, self.field.name, self.start, max(len(self.text), 1))


@dataclass(frozen=True, slots=True)
class CronFields:
    """A parsed expression: numbers (Monday is weekday 0), the special days, and the fields as written."""

    expression: str
    texts: dict[str, FieldText]
    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...]
    months: tuple[int, ...]
    weekdays: tuple[int, ...]
    special_day: tuple[str, int] | None
    special_weekday: tuple[int, int] | None
    both_days: bool
    clock: bool
    years: tuple[int, ...] | None

    def times(self) -> Times:
        """Return the times of the day."""
        return Times(minutes_of(self.hours, self.minutes), self.seconds)

    def dates(self) -> Days:
        """Return the days: by division where only weekdays matter, else from a table of the year."""
        special = self.special_day is not None or self.special_weekday is not None
        partly = self.years is not None or len(self.months) < len(MONTHS) or len(self.days) < _DAY.high
        if special or partly or not self.both_days:
            return YearDays(partial(_days_of_year, self), self.years)
        return WeeklyDays(self.weekdays) if len(self.weekdays) < len(WEEKDAYS) else DailyDays()

    @property
    def has_seconds(self) -> bool:
        """Tell whether the expression has a field for seconds."""
        return "second" in self.texts


def _days_of_year(fields: CronFields, year: int) -> tuple[int, ...]:
    """Return the matching days of a year, counted from 0."""
    first = day_in_month(year, 1, (1, None)) or 0
    days: list[int] = []
    for month in fields.months:
        start = (day_in_month(year, month, (1, None)) or 0) - first
        length = monthrange(year, month)[1]
        special = _special_days(fields, year, month, length)
        numbers = range(1, length + 1) if special is None else special
        days += [
            start + day - 1 for day in numbers if special is not None or _matches(fields, day, first + start + day - 1)
        ]
    return tuple(days)


def _matches(fields: CronFields, day: int, number: int) -> bool:
    by_day, by_weekday = day in fields.days, weekday_of(number) in fields.weekdays
    return (by_day and by_weekday) if fields.both_days else (by_day or by_weekday)


def _special_days(fields: CronFields, year: int, month: int, length: int) -> list[int] | None:
    """Return the day of the month that ``L``, ``W`` or ``#`` names, in a list; an empty one where there is none."""
    if fields.special_weekday is not None:
        number, weekday = fields.special_weekday
        found = day_in_month(year, month, (number, weekday))
        return [] if found is None else [date_of(found).day]
    if fields.special_day is None:
        return None
    kind, number = fields.special_day
    day = number if kind == "near" else length - number
    if not 1 <= day <= length:
        return []
    return [_nearest_weekday(year, month, day, length)] if kind != "last" else [day]


def _nearest_weekday(year: int, month: int, day: int, length: int) -> int:
    """Return the day from Monday to Friday nearest to *day* within the same month."""
    weekday = (monthrange(year, month)[0] + day - 1) % 7
    if weekday == 5:  # noqa: PLR2004 - Saturday
        return day - 1 if day > 1 else day + 2
    if weekday == 6:  # noqa: PLR2004 - Sunday
        return day + 1 if day < length else day - 2
    return day


class _Parser:
    """One expression on its way from text to numbers."""

    def __init__(self, expression: str, *, quartz: bool) -> None:
        self.expression = expression
        self.quartz = quartz

    def items(self, text: FieldText) -> str:
        """Check one field without special days, and return it in numbers, the way croniter reads them."""
        return ",".join(self._item(text, item) for item in text.text.lower().split(","))

    def _item(self, text: FieldText, item: str) -> str:
        match = _ITEM.fullmatch(item)
        if not item or match is None or _RANDOM.fullmatch(item):
            raise text.fail(self.expression, self._unreadable(text, item))
        if match["first"] is None and (match["last"] or not self.quartz):
            raise text.fail(self.expression, self._unreadable(text, item))
        step = self._step(text, match["step"])
        if match["first"] in (None, "*"):
            if match["last"]:
                raise text.fail(
                    self.expression, f"{item!r} is no range; write * or a range such as {self._example(text)}"
                )
            whole = step == 1 and text.field is not _QUARTZ_YEAR
            return "*" if whole else self._stretch(text, text.field.low, self._top(text), step)
        first = self._number(text, match["first"])
        if match["last"] is None:
            return self._single(text, item, first, step if match["step"] else 0)
        last = self._number(text, match["last"])
        if not self.quartz and first >= last:
            raise text.fail(self.expression, self._reversed(text, item, first, last, step))
        return self._stretch(text, first, last, step)

    def _top(self, text: FieldText) -> int:
        return 6 if text.field is _WEEKDAY else text.field.high

    def _single(self, text: FieldText, item: str, first: int, step: int) -> str:
        if not step:
            return self._stretch(text, first, first, 1)
        if first >= self._top(text) and not self.quartz:
            raise text.fail(self.expression, f"{item!r} is one value to some crons and many to others; write {first}")
        if text.field is _WEEKDAY and not (text.field.high - first) % step:
            problem = f"{item!r} ends on Sunday to some crons; write {first}-6/{step} or {first}-7/{step}"
            raise text.fail(self.expression, problem)
        return self._stretch(text, first, self._top(text), step)

    def _stretch(self, text: FieldText, first: int, last: int, step: int) -> str:
        """Return a range, wrapped around where the dialect allows it, as croniter reads it."""
        low, high = text.field.low, text.field.high
        if last < first:
            if text.field is _QUARTZ_YEAR:
                raise text.fail(self.expression, f"the range {first}-{last} runs backwards; write {last}-{first}")
            last += high - low + 1
        numbers = [low + (value - low) % (high - low + 1) for value in range(first, last + 1, step)]
        if text.field is _QUARTZ_WEEKDAY:
            numbers = [value - 1 for value in numbers]
        elif text.field is _WEEKDAY:
            numbers = [value % 7 for value in numbers]
        return ",".join(map(str, numbers))

    def _step(self, text: FieldText, step: str | None) -> int:
        if step is None:
            return 1
        if not 1 <= int(step) <= text.field.high:
            problem = f"the step /{step} must be between 1 and {text.field.high}"
            raise text.fail(self.expression, problem)
        return int(step)

    def _number(self, text: FieldText, word: str) -> int:
        field = text.field
        if word.isdigit():
            number = int(word)
            if field.low <= number <= field.high:
                return number
            raise text.fail(self.expression, f"{word!r} is out of range; {self._allowed(text)}")
        if word in field.names:
            return field.names.index(word) + field.first_name
        hint = did_you_mean(word, field.names) or _full_name(word, field.names)
        raise text.fail(self.expression, f"{word!r} is not known here; {self._allowed(text)}{hint}")

    def _allowed(self, text: FieldText) -> str:
        field = text.field
        names = f" or {field.names[0]}..{field.names[-1]}" if field.names else ""
        return f"allowed are {field.low}..{field.high}{names}"

    def _example(self, text: FieldText) -> str:
        return f"{text.field.low}-{text.field.high}"

    def _reversed(self, text: FieldText, item: str, first: int, last: int, step: int) -> str:
        bare = item.partition("/")[0]
        if first == last:
            return f"{bare!r} is one value to some crons and the whole field to others; write {first} or *"
        bottom, top = text.field.low, self._top(text)
        low = f"{bottom}-{last}" if last > bottom else str(last)
        high = f"{first}-{top}" if first < top else str(first)
        meant = f"{high},{low}"
        if step > 1:
            size = top - bottom + 1
            meant = ",".join(str(bottom + (value - bottom) % size) for value in range(first, last + size + 1, step))
        return f"the range {bare!r} runs backwards; write {meant}"

    def _unreadable(self, text: FieldText, item: str) -> str:
        head = item[:1]
        if head == "?":
            return "'?' belongs to dialect=\"quartz\"; write *"
        if _RANDOM.fullmatch(item):
            return f"{item!r} is a different time in each installation; write the value, such as {text.field.low}"
        return (
            f"{item!r} cannot be read; write *, a value, a range a-b, a step */n or a list a,b; {self._allowed(text)}"
        )


def _full_name(word: str, names: tuple[str, ...]) -> str:
    return f"; did you mean {word[:3]!r}?" if word[:3] in names else ""


def _split(expression: str, fields: tuple[Field, ...]) -> list[FieldText]:
    words = list(re.finditer(r"\S+", expression))
    return [FieldText(field, word[0], word.start()) for field, word in zip(fields, words, strict=True)]


def _layout(expression: str, dialect: str, seconds: str | None) -> tuple[Field, ...]:
    """Return the fields that the words of an expression stand for, or say how many there must be."""
    count = len(expression.split())
    five = (_MINUTE, _HOUR, _DAY, _MONTH, _WEEKDAY)
    if dialect == "quartz":
        if count not in {6, 7}:
            hint = '; five fields are dialect="unix"' if count == 5 else ""  # noqa: PLR2004 - the unix layout
            raise CronError(expression, f"a Quartz expression has 6 or 7 fields, got {count}{hint}")
        return (_SECOND, _MINUTE, _HOUR, _DAY, _MONTH, _QUARTZ_WEEKDAY, _QUARTZ_YEAR)[:count]
    if seconds is None:
        if count == 6:  # noqa: PLR2004 - with seconds
            hint = 'say where the seconds are with seconds="first" or seconds="last", or give dialect="quartz"'
            raise CronError(expression, f"six fields are read differently by different crons; {hint}")
        if count != len(five):
            raise CronError(expression, f"a cron expression has 5 fields (minute hour day month weekday), got {count}")
        return five
    if count != len(five) + 1:
        raise CronError(expression, f"with seconds={seconds!r} an expression has 6 fields, got {count}")
    return (_SECOND, *five) if seconds == "first" else (*five, _SECOND)


def _special_day(parser: _Parser, text: FieldText) -> tuple[str, int] | None:
    match = _SPECIAL_DAY.fullmatch(text.text.lower())
    if match is None:
        return None
    near = match["near"] or match["near2"]
    if match["near2"] and parser.quartz:
        raise text.fail(parser.expression, f"write {near}W")
    if near is not None:
        if not 1 <= int(near) <= _DAY.high:
            raise text.fail(parser.expression, f"{text.text!r} names no day; write 1W to 31W")
        return "near", int(near)
    before = int(match["before"] or 0)
    if not parser.quartz and (match["before"] or match["lw"]):
        raise text.fail(parser.expression, f'{text.text!r} belongs to dialect="quartz"; write L for the last day')
    if before >= _DAY.high:
        raise text.fail(parser.expression, f"{text.text!r} names no day; write L-1 to L-30")
    return "lastweekday" if match["lw"] else "last", before


def _special_weekday(parser: _Parser, text: FieldText) -> tuple[int, int] | None:
    """Return (n, weekday) for ``fri#2``, ``5#2``, ``5L``, ``L5``; Monday is weekday 0."""
    word = text.text.lower()
    match = _SPECIAL_WEEKDAY.fullmatch(word)
    if match is None or (match["last2"] and parser.quartz):
        return None
    day = parser._number(text, match["nth"] or match["last"] or match["last2"])  # noqa: SLF001 - of the same module
    weekday = (day - 1 - text.field.first_name) % 7
    if match["nth"] is None:
        return -1, weekday
    if not 1 <= int(match["n"]) <= 5:  # noqa: PLR2004 - a month holds five of a weekday at most
        raise text.fail(parser.expression, f"{text.text!r} names no day; write #1 to #5")
    return int(match["n"]), weekday


def _check_special(parser: _Parser, day: FieldText, weekday: FieldText) -> None:
    """Refuse what stands beside ``L``, ``W`` or ``#``, in the same field or in the other one."""
    for text, other, letters in ((day, weekday, "lw"), (weekday, day, "l#")):
        bare = re.sub(r"[a-z]{3}", "", text.text.lower())
        marked = next((letter for letter in letters if letter in bare), None)
        if marked is None:
            continue
        if "," in text.text:
            raise text.fail(parser.expression, f"{marked.upper()!r} cannot be one of a list; use one Cron for each")
        if other.text not in {"*", "?"}:
            hint = "write * there" if not parser.quartz else "write ? there"
            raise text.fail(parser.expression, f"{marked.upper()!r} allows no {other.field.name} beside it; {hint}")


def _days(parser: _Parser, texts: dict[str, FieldText]) -> tuple[dict[str, str], dict[str, Any]]:
    """Read the two day fields: their items, every day where a special day decides, and what else CronFields keeps."""
    day, weekday = texts["day of month"], texts["day of week"]
    blank = [text for text in (day, weekday) if text.text == "?" and parser.quartz]
    if parser.quartz:
        if len(blank) != 1:
            raise weekday.fail(parser.expression, "exactly one of day of month and day of week must be '?'")
        if weekday.text.lower() == "l":
            weekday = weekday._replace(text="7")  # Quartz: the last day of the week
    _check_special(parser, day, weekday)
    special_day, special_weekday = _special_day(parser, day), _special_weekday(parser, weekday)
    if not parser.quartz and weekday.text.lower() == "l":
        raise weekday.fail(parser.expression, "'L' needs a day here; write 5L for the last Friday")
    items = {
        text.field.name: "*" if special is not None or text in blank else parser.items(text)
        for text, special in ((day, special_day), (weekday, special_weekday))
    }
    both = day.star or weekday.star or bool(blank)
    return items, {"special_day": special_day, "special_weekday": special_weekday, "both_days": both}


def _numbers(expression: str, items: dict[str, str]) -> dict[str, tuple[int, ...]]:
    """Let croniter expand the items of all fields; years have no place in it. Monday becomes weekday 0."""
    try:
        found = croniter.expand(" ".join(items[field.name] for field in _CRONITER))[0]
    except CroniterError as error:  # pragma: no cover - our check is stricter; a newer croniter might differ
        raise CronError(expression, f"croniter refuses it: {error}") from error
    numbers = {}
    for field, values in zip(_CRONITER, found, strict=True):
        named = range(field.low, field.high + 1) if "*" in values else map(int, values)
        numbers[field.name] = tuple(sorted({(day - 1) % 7 for day in named} if field is _WEEKDAY else set(named)))
    return numbers


def _words(expression: str, dialect: str) -> str:
    """Return the expression with single blanks and its alias replaced."""
    if not expression.isascii() or len(expression) > _LONGEST:
        what = "longer than 256 characters" if expression.isascii() else "not plain ASCII"
        raise CronError(expression[:_LONGEST], f"a cron expression that is {what} is refused")
    if not expression.startswith("@"):
        return expression
    if dialect == "quartz":
        raise CronError(expression, 'Quartz has no aliases; give it as dialect="unix"')
    if expression.lower() == "@reboot":
        raise CronError(expression, "'@reboot' is no time; use Immediate() when your program starts")
    if expression.lower() not in ALIASES:
        hint = did_you_mean(expression.lower(), ALIASES)
        raise CronError(expression, f"the alias is not known; write one of {', '.join(ALIASES)}{hint}")
    return ALIASES[expression.lower()]


@lru_cache(maxsize=4096)
def parse_cron(expression: str, dialect: str = "unix", seconds: str | None = None) -> CronFields:
    """Read an expression with single blanks, or raise CronError."""
    words = _words(expression, dialect)
    parser = _Parser(words, quartz=dialect == "quartz")
    texts = {text.field.name: text for text in _split(words, _layout(words, dialect, seconds))}
    items = {name: parser.items(text) for name, text in texts.items() if not name.startswith("day")}
    day_items, days = _days(parser, texts)
    numbers = _numbers(words, {"second": "0", **items, **day_items})
    has_years = "year" in items and texts["year"].text != "*"
    fields = CronFields(
        expression=words,
        texts=texts,
        seconds=numbers["second"],
        minutes=numbers["minute"],
        hours=numbers["hour"],
        days=numbers["day of month"],
        months=numbers["month"],
        weekdays=numbers["day of week"],
        clock=texts["minute"].star or texts["hour"].star,
        years=tuple(sorted({int(year) for year in items["year"].split(",")})) if has_years else None,
        **days,
    )
    dates = fields.dates()
    if isinstance(dates, YearDays) and dates.is_empty():
        raise texts["day of month"].fail(words, "no year has such a day, so that it would never fire")
    return fields
