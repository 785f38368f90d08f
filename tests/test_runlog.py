"""The run log's buffer: bounded, live, and honest about what it dropped."""

from collections import deque
from datetime import UTC, datetime

import pytest

from bgsched._runlog import LogBounds, RunLog
from bgsched.run import LogLine, LogTrim

T0 = datetime(2026, 1, 1, tzinfo=UTC)
SMALL = LogBounds(head_lines=3, head_size=1000, tail_lines=2, tail_size=1000, line_size=100)


def make(bounds: LogBounds = SMALL, after: int = 0) -> RunLog:
    return RunLog(7, 1, lambda: T0, after=after, bounds=bounds)


def drained(log: RunLog, *, to_the_end: bool = False) -> tuple[list[int], LogTrim | None]:
    lines, trim = log.drain(to_the_end=to_the_end)
    return [line.seq for line in lines], trim


def test_lines_are_drained_once() -> None:
    log = make()
    log.write("INFO", "x", "hello")
    assert log.drain() == ([LogLine(7, 1, T0, "INFO", "x", "hello", 1)], None)
    assert log.drain() == ([], None)


def test_numbers_go_on_from_the_attempt_before() -> None:
    log = make(after=40)
    log.write("INFO", "x", "hello")
    assert drained(log) == ([41], None)


def test_a_flood_between_two_drains_is_dropped_in_memory() -> None:
    log = make()
    for n in range(1000):
        log.write("INFO", "x", str(n))
    assert drained(log) == ([1, 2, 3, 999, 1000], LogTrim(7, 1, 3, 999))
    assert drained(log, to_the_end=True) == ([], None)


@pytest.mark.parametrize("every", [1, 2, 3, 5, 11])
def test_what_is_stored_is_always_the_head_and_the_newest(every: int) -> None:
    log = make()
    stored: deque[int] = deque()
    for n in range(1, 60):
        log.write("INFO", "x", str(n))
        if n % every == 0 or n == 59:
            seqs, trim = drained(log, to_the_end=n == 59)
            stored.extend(seqs)
            if trim is not None:
                stored = deque(seq for seq in stored if seq <= trim.after or seq >= trim.before)
            assert len(stored) <= 3 + 2 * 2 + every
            if seqs:
                assert list(stored)[: min(3, n)] == list(range(1, min(3, n) + 1))
                assert stored[-1] == n
    assert list(stored) == [1, 2, 3, 58, 59]


def test_size_bounds_the_head_and_the_tail() -> None:
    log = make(LogBounds(head_lines=99, head_size=25, tail_lines=99, tail_size=25, line_size=100))
    for _ in range(20):
        log.write("INFO", "x", "0123456789")
    assert drained(log)[0] == [1, 2, 3, 19, 20]


def test_long_lines_and_strange_characters_are_kept_as_text() -> None:
    log = make()
    log.write("INFO", "x", "a" * 150)
    log.write("INFO", "x", "nul \x00 and half a pair \ud800")
    first, second = log.drain()[0]
    assert first.text == "a" * 100 + "... (50 more characters)"
    assert second.text == "nul \\x00 and half a pair \\ud800"
