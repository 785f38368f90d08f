"""The run log's buffer: bounded, live, and honest about what it dropped."""

import logging
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from datetime import UTC, datetime
from pathlib import Path

import pytest

from bgsched import Monitor, RunStatus, Scheduler, SQLiteStore, StoreUnavailableError, current_run
from bgsched._current import LiveRun
from bgsched._runlog import LogBounds, RunLog
from bgsched.run import LogLine, LogTrim
from bgsched.stores import MemoryStore
from bgsched.testing import ManualClock

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


def test_a_value_that_logs_while_it_is_logged_ends_in_one_line() -> None:
    log = make()

    class Talkative:
        def __str__(self) -> str:
            log.take_record(logging.LogRecord("x", logging.INFO, "", 0, "%s", (self,), None))
            return "talkative"

    log.take_record(logging.LogRecord("x", logging.INFO, "", 0, "%s", (Talkative(),), None))
    log.take_record(logging.LogRecord("x", logging.INFO, "", 0, "and on", (), None))
    assert [line.text for line in log.drain()[0]] == ["talkative", "and on"]


def test_what_logs_while_it_is_thrown_away_holds_up_no_run() -> None:
    """A finalizer comes at any moment: here, while the progress that it is part of is replaced."""
    scheduler = Scheduler(MemoryStore())

    class Loud(int):
        def __del__(self) -> None:
            logging.getLogger("x").warning("%d is gone", self)

    @scheduler.process
    def work() -> None:
        run = current_run()
        run.progress(Loud(1))
        run.progress(2)

    scheduler.run_now("work")
    thread = threading.Thread(target=scheduler.run_pending, daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    (run,) = scheduler.monitor.runs()
    assert [line.text for line in scheduler.monitor.log(run.id)] == ["1 is gone"]


def test_a_finalizer_may_kill_the_run_that_it_interrupts() -> None:
    scheduler = Scheduler(MemoryStore())

    class Deadly(int):
        def __del__(self) -> None:
            scheduler.kill(current_run().id)

    @scheduler.process
    def work() -> None:
        run = current_run()
        run.progress(Deadly(1))
        run.progress(2)
        run.raise_if_killed()

    scheduler.run_now("work")
    thread = threading.Thread(target=scheduler.run_pending, daemon=True)
    thread.start()
    thread.join(30)
    assert not thread.is_alive()
    assert [run.status for run in scheduler.monitor.runs()] == [RunStatus.KILLED]


class TestTheHost:
    """What a host set up in `logging` stays as it is, while runs go on and afterwards."""

    def set_up(self) -> tuple[object, ...]:
        loggers = [logging.root, *(logging.getLogger(name) for name in ("bgsched", "bgsched.run", "host"))]
        return (
            logging.root.manager.disable,
            [
                (it.level, it.disabled, it.propagate, it.filters[:], [h for h in it.handlers if not is_ours(h)])
                for it in loggers
            ],
            [(handler, handler.level, handler.formatter) for handler in logging.root.handlers if not is_ours(handler)],
        )

    def test_keeps_its_loggers_as_they_are(self) -> None:
        seen = []
        before = self.set_up()
        handlers = logging.root.handlers[:]
        scheduler = Scheduler(MemoryStore())

        @scheduler.process
        def work() -> None:
            seen.append(self.set_up())
            logging.getLogger("host").warning("hello")
            current_run().log.debug("quietly")

        scheduler.run_now("work")
        scheduler.run_until_idle()
        scheduler.shutdown()
        assert seen == [before]
        assert self.set_up() == before
        assert logging.root.handlers == handlers

    def test_hears_of_each_line_once_and_only_at_its_levels(self, caplog: pytest.LogCaptureFixture) -> None:
        scheduler = Scheduler(MemoryStore())

        @scheduler.process
        def work() -> None:
            current_run().log.debug("for the run log only")
            current_run().log.warning("for both")
            logging.getLogger("host").warning("from the host")
            logging.getLogger("host").info("below the host's level")

        scheduler.run_now("work")
        scheduler.run_until_idle()
        assert [record.getMessage() for record in caplog.records] == ["for both", "from the host"]
        lines = scheduler.monitor.log(scheduler.monitor.runs()[0].id)
        assert [(line.level, line.logger, line.text) for line in lines] == [
            ("DEBUG", "bgsched.run", "for the run log only"),
            ("WARNING", "bgsched.run", "for both"),
            ("WARNING", "host", "from the host"),
        ]
        scheduler.shutdown()


def is_ours(handler: logging.Handler) -> bool:
    return type(handler).__module__.startswith("bgsched")


def test_lines_are_in_the_store_within_a_second() -> None:
    clock = ManualClock(T0)
    scheduler = Scheduler(MemoryStore(), clock=clock)
    seen: list[str] = []

    @scheduler.process
    def work() -> None:
        engine = scheduler._engine
        assert engine is not None
        engine.report()
        current_run().log.info("hello")
        assert engine.longest_wait() < 0.5  # so long until the scheduler's thread looks again
        clock.advance(0.5)
        engine.ended(other)  # another run that ends just now is no reason to wait
        engine.report()
        seen.extend(line.text for line in scheduler.monitor.log(current_run().id))

    scheduler.process("other")(lambda: None)
    scheduler.run_now("other")
    scheduler.run_pending()
    other = LiveRun(scheduler.monitor.runs()[0], scheduler.processes.get("other"), clock)
    assert other.close(lambda run, _now, _spent: run)
    scheduler.run_now("work")
    scheduler.run_pending()
    assert seen == ["hello"]
    scheduler.shutdown()


def test_a_store_that_is_away_holds_up_no_process_and_fills_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process logs thirty thousand lines meanwhile; what is kept is the head and the tail."""
    clock = ManualClock(T0)
    scheduler = Scheduler(MemoryStore(), clock=clock)
    kept: list[int] = []

    def away(*_: object) -> None:
        raise StoreUnavailableError("gone")

    @scheduler.process
    def flood() -> None:
        engine = scheduler._engine
        assert engine is not None
        with monkeypatch.context() as patch:
            patch.setattr(scheduler.store, "record", away)
            for n in range(30_000):
                current_run().log.info("line %s", n)
                if n % 2_000 == 0:
                    clock.advance(1)
                    with pytest.raises(StoreUnavailableError):
                        engine.report()
                    kept.append(sum(len(unsent.log) for unsent in engine._reports._unsent.values()))

    scheduler.run_now("flood")
    scheduler.run_until_idle()
    assert max(kept) <= 6_000
    (run,) = scheduler.monitor.runs()
    assert run.status == "success"
    lines = scheduler.monitor.log(run.id, limit=10_000)
    assert [lines[0].text, lines[-1].text] == ["line 0", "line 29999"]
    assert sum("lines were dropped here" in line.text for line in lines) == 1
    scheduler.shutdown()


HOST = """
import sys
from bgsched import Scheduler, current_run
scheduler = Scheduler(sys.argv[1])
@scheduler.process
def work():
    current_run().log.info("the last words")
    sys.stdin.read()
scheduler.run_now("work")
scheduler.start()
print("started", flush=True)
sys.stdin.read()
"""


def test_lines_of_a_killed_os_process_are_kept(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'app.db'}"
    SQLiteStore(tmp_path / "app.db").close()
    with subprocess.Popen([sys.executable, "-c", HOST, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as host:
        assert host.stdout is not None
        host.stdout.readline()
        monitor = Monitor(url)
        while not (runs := monitor.runs()):
            continue
        line = next(monitor.follow(runs[0].id))
        os.kill(host.pid, signal.SIGKILL)
    assert line.text == "the last words"
    assert monitor.log(runs[0].id) == [line]
    scheduler = Scheduler(url)
    scheduler.run_pending()
    assert scheduler.monitor.run(runs[0].id).status == "abandoned"
    assert scheduler.monitor.log(runs[0].id)[0] == line
    scheduler.shutdown()
