"""What a host or a preview may say beside a fire time: gaps, folds, and what is probably not meant."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from bgsched._calendar.engine import Ended, WallClock
from bgsched._calendar.fields import time_text
from bgsched._calendar.units import DAY, MICRO, naive_of
from bgsched._calendar.words import day_text
from bgsched._calendar.zone import Fold, Zone

__all__ = ["TimingWarning", "fire_time_note", "next_gap_note"]

_AHEAD = 366 * DAY


@dataclass(frozen=True, slots=True)
class TimingWarning:
    """Something about a timing that is legal and probably not meant; `kind` is for programs, `message` for people."""

    kind: Literal["either-day", "every-second", "far", "gap", "short-month", "over"]
    message: str

    def __str__(self) -> str:
        return self.message


def _clock_text(local: int) -> str:
    return time_text(naive_of(local).time())


Clocks = tuple[WallClock | Ended, ...]


def fire_time_note(clocks: Clocks, zone: Zone, instant: int) -> str:
    """Say whether a fire time stands for a local time in a gap, or for one that happens twice; ``""`` for neither."""
    second = instant // MICRO
    span = zone.span(second)
    if second == span.start:
        jump_from = second + zone.offset(second - 1)
        for clock in clocks:
            local = clock.moved_to(second)
            if local is not None:
                jump = f"the clock goes from {_clock_text(jump_from)} to {_clock_text(second + span.offset)}"
                return f"gap: {_clock_text(local)} does not exist, {jump}"
    resolved = zone.resolve(second + span.offset)
    if isinstance(resolved, Fold):
        which = "first" if second == resolved.first else "second"
        return f"fold: {_clock_text(second + span.offset)} happens twice, this is the {which}"
    return ""


def next_gap_note(clocks: Clocks, zone: Zone, now: int, allows: Callable[[int], bool]) -> str:
    """Say which local time of a schedule falls into the first gap within a year; ``""`` if none does.

    *allows* tells whether it may fire at an instant: where it may not, nobody misses anything.
    """
    second = now // MICRO
    for before in zone.spans(second, second + _AHEAD)[:-1]:  # the last one ends later
        at = before.end
        local = next((found for clock in clocks if (found := clock.loses(at)) is not None), None)
        if local is None or not allows(at * MICRO):
            continue
        fires = any(clock.moved_to(at) is not None for clock in clocks)
        then = f"it fires at {_clock_text(at + zone.offset(at))} instead" if fires else "it does not fire then"
        return f"{_clock_text(local)} does not exist on {day_text(naive_of(local).date())} in {zone.key}: {then}"
    return ""
