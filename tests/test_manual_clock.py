"""The clock that a test moves says what it takes."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from bgsched.testing import ManualClock

NAIVE = datetime(2026, 1, 2)


@pytest.mark.parametrize(
    ("move", "message"),
    [
        (lambda _: ManualClock(NAIVE), "a clock starts at an aware instant, got datetime.*; write datetime"),
        (
            lambda _: ManualClock(date(2026, 1, 2)),  # type: ignore[arg-type]  # what is tested
            "a clock starts at an aware instant, got datetime.date",
        ),
        (lambda clock: clock.advance_to(NAIVE), "time passes until an aware instant, got datetime"),
        (lambda clock: clock.advance_to("noon"), "time passes until an aware instant, got 'noon'"),
        (lambda clock: clock.advance(-1), r"time passes forward, got .*; jump\(\) moves the wall clock back"),
        (lambda clock: clock.jump(5), r"a clock jumps by a timedelta, got 5; write timedelta\(seconds="),
        (lambda clock: clock.advance(float("nan")), "time passes by a timedelta or a number of seconds, got nan"),
        (lambda clock: clock.advance("3"), "time passes by a timedelta or a number of seconds, got '3'"),
        (lambda clock: clock.advance(True), "got True"),  # noqa: FBT003  what is tested
        (lambda clock: clock.advance(1e300), "no clock shows what is 1e.300 seconds later"),
        (lambda clock: clock.advance(timedelta.max), "years go from 1 to 9999"),
        (lambda clock: clock.jump(timedelta(days=-2_000_000)), "years go from 1 to 9999"),
    ],
)
def test_what_moves_no_clock(move: Callable[[Any], object], message: str) -> None:
    clock = ManualClock()
    with pytest.raises(ValueError, match=message):
        move(clock)
    assert (clock.now(), clock.monotonic()) == (datetime(2026, 1, 1, tzinfo=UTC), 0)


def test_a_jump_takes_no_time() -> None:
    clock = ManualClock()
    clock.jump(timedelta(days=-1))
    assert (clock.now(), clock.monotonic()) == (datetime(2025, 12, 31, tzinfo=UTC), 0)
