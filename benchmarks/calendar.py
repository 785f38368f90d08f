"""How fast the next fire time is found: ``uv run --group bench python -m benchmarks.calendar``.

Every contender is asked for one fire time after another, each later than the last, as its documentation shows: croniter
and cronsim by iterating, APScheduler's ``CronTrigger`` and bgsched with the fire time before. They take turns, on one
thread's own CPU time; a figure is the median of the rounds. What bgsched keeps from one question to the next is the
parsed text, the year and the zone's span; no answer is kept.

All read an expression alike, but for APScheduler, to which day of month *and* day of week must match. dateutil is asked
on naive local time, which spares it the zone.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from apscheduler.triggers.cron import CronTrigger
from croniter import croniter
from cronsim import CronSim
from dateutil.rrule import DAILY, FR, MO, MONTHLY, TU, WEEKLY, rrule

from bgsched.timing import Cron, Daily, Frequency, Monthly, Schedule, Weekly

EXPRESSIONS = ("* * * * *", "*/5 * * * *", "0 2 * * *", "0 9 * * mon-fri", "0 0 13 * fri", "0 0 29 2 *")
ZONES = ("UTC", "America/New_York")
ROUNDS, CALLS = 15, 40

Ask = Callable[[], Any]
_START = datetime(2026, 1, 1)  # noqa: DTZ001 - each zone reads it on its own clock
_DATED: tuple[tuple[Frequency, rrule, dict[str, Any]], ...] = (
    (
        Daily("02:30"),
        rrule(DAILY, dtstart=_START, byhour=2, byminute=30, bysecond=0),
        {"hour": 2, "minute": 30},
    ),
    (
        Weekly("mon fri", at="09:00"),
        rrule(WEEKLY, dtstart=_START, byweekday=(MO, FR), byhour=9, byminute=0, bysecond=0),
        {"day_of_week": "mon,fri", "hour": 9},
    ),
    (
        Monthly(on=TU(2), at="09:00"),
        rrule(MONTHLY, dtstart=_START, byweekday=TU(2), byhour=9, byminute=0, bysecond=0),
        {"day": "2nd tue", "hour": 9},
    ),
)


class Row(NamedTuple):
    """What one question cost each contender, in microseconds."""

    what: str
    zone: str
    ours: float
    peers: dict[str, float]

    @property
    def ratio(self) -> float:
        """Return how many times faster than the fastest peer bgsched is."""
        return min(self.peers.values()) / self.ours


def cron_rows(rounds: int = ROUNDS) -> list[Row]:
    """Measure six usual expressions in two zones against croniter, cronsim and APScheduler."""
    return [_cron_row(text, zone, rounds) for zone in ZONES for text in EXPRESSIONS]


def dated_rows(rounds: int = ROUNDS) -> list[Row]:
    """Measure Daily, Weekly and Monthly in two zones against dateutil and APScheduler."""
    return [_dated_row(*dated, zone, rounds) for zone in ZONES for dated in _DATED]


def geometric_mean(rows: Sequence[Row]) -> float:
    """Return the geometric mean of the ratios."""
    return statistics.geometric_mean(row.ratio for row in rows)


def _cron_row(text: str, zone: str, rounds: int) -> Row:
    start = _START.replace(tzinfo=ZoneInfo(zone))
    contenders: dict[str, Callable[[], Ask]] = {
        "bgsched": lambda: _ours(Cron(text), start),
        "croniter": lambda: croniter(text, start, ret_type=datetime).get_next,
        "cronsim": lambda: CronSim(text, start).__next__,
        "APScheduler": lambda: _apscheduler(CronTrigger.from_crontab(text, timezone=start.tzinfo), start),
    }
    ours, theirs = contenders["bgsched"](), contenders["cronsim"]()
    assert [ours() for _ in range(CALLS)] == [theirs().astimezone(UTC) for _ in range(CALLS)], text
    return _measured(text, zone, contenders, rounds)


def _dated_row(frequency: Frequency, rule: rrule, fields: dict[str, Any], zone: str, rounds: int) -> Row:
    start = _START.replace(tzinfo=ZoneInfo(zone))
    contenders: dict[str, Callable[[], Ask]] = {
        "bgsched": lambda: _ours(frequency, start),
        "dateutil": lambda: iter(rule).__next__,
        "APScheduler": lambda: _apscheduler(CronTrigger(**fields, timezone=start.tzinfo), start),
    }
    return _measured(str(frequency), zone, contenders, rounds)


def _ours(frequency: Frequency, start: datetime) -> Ask:
    schedule = Schedule(frequency, timezone=start.tzinfo)  # type: ignore[arg-type]  # it is a ZoneInfo
    return _chained(schedule.next_fire_time, start)


def _apscheduler(asked: CronTrigger, start: datetime) -> Ask:
    return _chained(lambda after: asked.get_next_fire_time(after, after), start)


def _chained(next_after: Callable[[datetime], datetime | None], start: datetime) -> Ask:
    after: datetime | None = start

    def ask() -> datetime | None:
        nonlocal after
        assert after is not None
        after = next_after(after)
        return after

    return ask


def _measured(what: str, zone: str, contenders: dict[str, Callable[[], Ask]], rounds: int) -> Row:
    spent: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, fresh in contenders.items():
            spent[name].append(_microseconds(fresh()))
    median = {name: statistics.median(figures) for name, figures in spent.items()}
    return Row(what, zone, median.pop("bgsched"), median)


def _microseconds(ask: Ask) -> float:
    ask()
    began = time.thread_time()
    for _ in range(CALLS):
        ask()
    return (time.thread_time() - began) / CALLS * 1e6


def _print(rows: Sequence[Row]) -> None:
    names = list(rows[0].peers)
    print(f"{'us per fire time':50}{'zone':18}{'bgsched':>9}", *(f"{name:>12}" for name in names), f"{'ratio':>8}")
    for row in rows:
        figures = (f"{row.peers[name]:12.1f}" for name in names)
        print(f"{row.what:50}{row.zone:18}{row.ours:9.2f}", *figures, f"{row.ratio:7.1f}x")
    slowest = min(rows, key=lambda row: row.ratio)
    print(
        f"geometric mean of the ratio to the fastest peer {geometric_mean(rows):.1f}x; "
        f"least {slowest.ratio:.1f}x ({slowest.what}, {slowest.zone})\n"
    )


def main() -> None:
    """Print both tables."""
    _print(cron_rows())
    _print(dated_rows())


if __name__ == "__main__":
    main()
