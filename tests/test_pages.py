"""Every filter of a page, and every pair of them: the same runs on every store, page by page.

Where an index tells which runs are meant, every page but the last is full; what has to be looked for may come in short
pages, and is complete all the same.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from bgsched import LogLine, MemoryStore, Monitor, PostgresStore, Run, RunError, RunStatus, SQLiteStore, Store
from bgsched.run import ACTIVE
from bgsched.stores import _sql_filters, memory

NOW = datetime(2026, 6, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
RUNS = 240
_STATUSES = (RunStatus.SUCCESS, RunStatus.ERROR, RunStatus.KILLED, RunStatus.RUNNING, RunStatus.WAITING)

FILTERS: dict[str, Any] = {
    "process": "p1",
    "request": "r1",
    "status": (RunStatus.SUCCESS, RunStatus.RUNNING),
    "user": "ann",
    "since": NOW + 60 * MINUTE,
    "until": NOW + 200 * MINUTE,
    "text": "Paper",
    "before": 220,
}
LOOKED_FOR = {frozenset({"request", "process"}), frozenset({"request", "user"})}


def _run(n: int) -> Run:
    """Return run *n* (from 1): each column has its own period; the request's newest sixty never succeed."""
    status = _STATUSES[n * 7 % 5] if n <= RUNS - 60 else RunStatus.ERROR
    at = NOW + n * MINUTE
    return Run(
        request_id=f"r{n % 2}",
        revision=n,
        process=f"p{n * 5 % 3}",
        user=(None, "ann", "bob")[n // 4 % 3],
        fire_time=at,
        recorded_at=at,
        status=status,
        owner="x" if status is RunStatus.RUNNING else None,
        finished_at=None if status in ACTIVE else at,
        error=RunError("ValueError", "no paper", "") if n % 4 == 0 else None,
    )


@pytest.fixture(scope="module", params=["memory", "sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    from _postgres import temporary_schema

    makers: dict[str, Callable[[], Store]] = {
        "memory": MemoryStore,
        "sqlite": lambda: SQLiteStore(tmp_path_factory.mktemp("pages") / "app.db"),
    }
    if request.param in makers:
        yield filled(makers[request.param]())
        return
    dsn = request.getfixturevalue("postgres_dsn")
    with temporary_schema(dsn) as schema:
        yield filled(PostgresStore(dsn, schema=schema))


def filled(store: Store) -> Store:
    with store.transaction() as tx:
        stored = tx.insert_runs([_run(n) for n in range(1, RUNS + 1)])
        tx.append_log([LogLine(run.id, 1, NOW, "INFO", "x", "out of PAPER") for run in stored if run.id % 5 == 0])
    return store


def wanted(run: Run, filters: dict[str, Any]) -> bool:
    said = "no paper" * (run.id % 4 == 0) + "out of PAPER" * (run.id % 5 == 0)
    tests: dict[str, Callable[[Any], bool]] = {
        "process": lambda value: run.process == value,
        "request": lambda value: run.request_id == value,
        "status": lambda value: run.status in value,
        "user": lambda value: run.user == value,
        "since": lambda value: run.recorded_at >= value,
        "until": lambda value: run.recorded_at <= value,
        "text": lambda value: value.lower() in said.lower(),
        "before": lambda value: run.id < value,
    }
    return all(tests[name](value) for name, value in filters.items())


CHOSEN = [frozenset(names) for count in (0, 1, 2, 3) for names in combinations(FILTERS, count)]


@pytest.mark.parametrize("names", CHOSEN, ids=lambda names: " ".join(sorted(names)) or "all")
def test_pages_hold_what_is_asked_for(store: Store, names: frozenset[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sql_filters, "LOOK", 20)
    monkeypatch.setattr(_sql_filters, "LOOK_LINES", 3)
    monkeypatch.setattr(memory, "_LOOK", 20)
    filters = {name: FILTERS[name] for name in names}
    expected = [n for n in range(RUNS, 0, -1) if wanted(_stored(n), filters)]
    found: list[int] = []
    before = filters.pop("before", None)
    while True:
        page = Monitor(store).runs(**filters, before=before, limit=20)
        found += [run.id for run in page]
        if page.before is None:
            break
        if "text" not in names and not any(pair <= names for pair in LOOKED_FOR):
            assert len(page) == 20
        before = page.before
    assert found == expected


def _stored(n: int) -> Run:
    return replace(_run(n), id=n)


def test_a_log_longer_than_one_question_looks_at_is_looked_into_whole(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_sql_filters, "LOOK_LINES", 3)
    with store.transaction() as tx:
        tx.append_log([LogLine(RUNS, seq, NOW, "INFO", "x", f"line {seq}") for seq in range(10, 20)])
        tx.append_log([LogLine(RUNS - 1, seq, NOW, "INFO", "x", f"row {seq}") for seq in range(10, 20)])
    page = Monitor(store).runs(text="line 19", limit=1)
    assert [run.id for run in page] == [RUNS]
    found: list[int] = []
    before = None
    while before is None or before > RUNS - 10:
        page = Monitor(store).runs(text="row 19", before=before)
        found += [run.id for run in page]
        before = page.before or 0
    assert found == [RUNS - 1]


def test_a_run_that_begins_while_sqlite_reads_a_page_is_on_it(tmp_path: Path) -> None:
    with closing(SQLiteStore(tmp_path / "app.db")) as store:
        waiting = Run(request_id="r", process="p", fire_time=NOW, recorded_at=NOW, claimed_at=NOW, attempt=1, owner="x")
        with store.transaction() as tx:
            (run,) = tx.insert_runs([waiting])
        store.reader().find_run(run.id)
        (reading,) = store._open.idle
        began: list[Run] = []

        def begin(statement: str) -> None:
            if "status = 'waiting'" in statement and not began:  # those that run have been looked for
                began.append(run)
                with store.transaction() as tx:
                    tx.update_runs([run.started(NOW)], "x")

        reading.set_trace_callback(begin)
        assert [found.id for found in Monitor(store).runs("p")] == [run.id]
        reading.set_trace_callback(None)
        assert began
