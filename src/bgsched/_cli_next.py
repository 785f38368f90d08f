"""``bgsched next``: when would this fire? Needs no scheduler, no store and no set-up."""

import argparse
import sys
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TextIO
from zoneinfo import ZoneInfo

from bgsched._cli_frequency import EXAMPLES, parse_frequency
from bgsched._cli_options import positive
from bgsched._cli_text import one_line
from bgsched.errors import TimingError
from bgsched.timing import Later, Recurrence, Schedule

__all__ = ["add_parser", "run"]


def add_parser(subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]") -> argparse.ArgumentParser:
    """Add the command ``next`` to a command line."""
    parser = subparsers.add_parser(
        "next",
        help="show when a timing would fire",
        description="Show the next fire times of a timing, those in a gap or a fold of the time zone marked.",
        epilog="timings: " + "; ".join(EXAMPLES),
    )
    parser.add_argument("timing", nargs="+", help="a timing in words, a cron expression or an RRULE")
    parser.add_argument("--tz", default="UTC", metavar="ZONE", help="IANA time zone (default: UTC)")
    parser.add_argument("-n", "--count", type=positive, default=5, metavar="N", help="how many fire times (default: 5)")
    parser.add_argument("--from", dest="start", metavar="WHEN", help="ISO date or time to start from (default: now)")
    parser.add_argument("--dialect", choices=["unix", "quartz"], help="how to read a cron expression")
    parser.add_argument("--seconds", choices=["first", "last"], help="where a cron expression of six fields has them")
    parser.set_defaults(command=lambda args, _terminal: run(args, sys.stdout), color=None)
    return parser


def run(args: argparse.Namespace, out: TextIO) -> int:
    """Print the fire times; return 2 and say why on standard error if the timing cannot be read."""
    try:
        frequency = parse_frequency(" ".join(args.timing), dialect=args.dialect, seconds=args.seconds)
        schedule = Schedule(frequency, timezone=args.tz)
        now = _instant(args.start, args.tz)
        pinned = schedule.pinned(now)
    except TimingError as error:
        for line in f"bgsched next: {error}".split("\n"):  # an expression, and below it the place in it
            sys.stderr.write(one_line(line) + "\n")
        return 2
    # What a rule leaves open of its times comes from the start, which therefore is said.
    print((pinned if isinstance(frequency, Recurrence) else schedule).describe(), file=out)
    for fire_time in islice(pinned.fire_times(now - timedelta.resolution), args.count):
        print(_row(pinned, fire_time), file=out)
    for warning in pinned.warnings(now):
        print(f"warning: {warning}", file=out)
    return 0


def _instant(text: str | None, zone: str) -> datetime:
    now = datetime.now(UTC).replace(microsecond=0)
    if text is None:
        return now
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise TimingError(f"--from must be like 2026-03-29 or 2026-03-29T01:30, got {text!r}") from None
    try:
        return Later(moment, timezone=zone).first_fire_time(now)
    except TimingError:
        raise TimingError(f"--from {text} is outside of the calendar") from None


def _row(schedule: Schedule, fire_time: datetime) -> str:
    local = fire_time.astimezone(ZoneInfo(schedule.timezone or "UTC"))
    precision = "microseconds" if local.microsecond else "seconds" if local.second else "minutes"
    row = f"  {local:%a} {local.replace(tzinfo=None).isoformat(' ', precision)} {local:%Z}"
    if local.utcoffset():
        row += f"  = {fire_time.replace(tzinfo=None).isoformat(' ', precision)} UTC"
    note = schedule.note_on(fire_time)
    return f"{row}  <- {note}" if note else row
