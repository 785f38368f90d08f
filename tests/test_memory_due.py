"""What the memory store finds due, and how little of the rest it looks at."""

from collections.abc import Iterator
from datetime import timedelta

from bgsched.request import Request
from bgsched.stores._memory_due import DueTimes
from bgsched.testing.contract import T0, make_request
from bgsched.timing import Later

SECOND = timedelta(seconds=1)


class _Watched(dict[str, Request]):
    """A table that counts how often it is looked into."""

    looks = 0

    def get(self, key: str, default: object = None) -> Request | None:  # type: ignore[override]
        self.looks += 1
        return super().get(key)


def put(table: dict[str, Request], due: DueTimes, *requests: Request) -> None:
    for request in requests:
        table[request.id] = request
        due.enter(request)


def of(process: str, count: int) -> Iterator[Request]:
    return (make_request(f"{process}{number}", process=process) for number in range(count))


def test_what_nobody_asks_for_is_not_looked_at() -> None:
    """A thousand requests of a process that has no room, or that another scheduler runs, hold up nobody."""
    table = _Watched()
    due = DueTimes(table)
    put(table, due, *of("there", 1000), *of("here", 3))
    for _ in range(2):
        assert [request.process for request in due.due(T0, ["here"], 10)] == ["here"] * 3
        assert due.earliest(["here"]) == T0
    assert table.looks < 50


def test_the_earliest_is_behind_one_of_higher_priority() -> None:
    table: dict[str, Request] = {}
    due = DueTimes(table)
    late, early = make_request("late", Later(T0 + SECOND), T0 - SECOND, priority=1), make_request("early")
    put(table, due, late, early, make_request("first", priority=2))
    assert [request.id for request in due.due(T0 + SECOND, ["p"], 1)] == ["first"]
    assert due.earliest(["p"]) == T0
    assert [request.id for request in due.due(T0 + SECOND, ["p"], 3)] == ["first", "late", "early"]


def test_a_request_that_is_put_off_again_and_again_fills_no_memory() -> None:
    table: dict[str, Request] = {}
    due = DueTimes(table)
    for number in range(10_000):
        put(table, due, make_request("r", Later(T0 + timedelta(days=1) + number * SECOND)))
    assert sum(map(len, due._lanes.values())) < 100
    assert due.earliest(["p"]) == T0 + timedelta(days=1) + 9_999 * SECOND


def test_what_is_entered_twice_is_found_once() -> None:
    table: dict[str, Request] = {}
    due = DueTimes(table)
    for _ in range(2):
        put(table, due, make_request("r"), make_request("s"))
        assert [request.id for request in due.due(T0, ["p"], 10)] == ["r", "s"]
