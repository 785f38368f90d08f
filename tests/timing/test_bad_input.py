"""What a timing refuses, and what its error says to write instead."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from bgsched import Cron, Daily, EveryMinutes, EverySeconds, Hourly, Later, Monthly, Schedule, TimingError, Weekly

NAIVE = datetime(2026, 1, 1)
AWARE = datetime(2026, 1, 1, tzinfo=UTC)
EARLIER = datetime(2025, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EverySeconds(0), "1.*got 0"),
        (lambda: EveryMinutes(-1), "1.*got -1"),
        (lambda: Hourly(0), "1.*got 0"),
        (lambda: Monthly(day=32), r"day must be 1\.\.31 or -1\.\.-31.*got 32"),
        (lambda: Weekly(()), "at least one"),
        (lambda: Daily(at="25:00"), "25:00"),
        (lambda: Cron("61 * * * *"), r"minute.*61"),
        (lambda: Schedule(Cron("0 0 31 4 *")), "never fire"),
        (lambda: Later(NAIVE), "timezone='Europe/Madrid'"),
        (lambda: Schedule(Daily(at="09:00"), start=NAIVE), "timezone='Europe/Madrid'"),
        (lambda: Schedule(Daily(at="09:00"), timezone="Europe/Madird"), "did you mean 'Europe/Madrid'"),
        (lambda: Schedule(Daily(at="09:00"), start=AWARE, finish=EARLIER), "before"),
    ],
)
def test_the_error_names_the_value_and_what_to_write(make: Callable[[], object], message: str) -> None:
    with pytest.raises(TimingError, match=f"(?s){message}"):
        make()
