"""The run log's buffer: bounded, live, and honest about what it dropped."""

import gc
import io
import logging
import logging.config
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from bgsched import Monitor, RunStatus, Scheduler, SQLiteStore, StoreUnavailableError, _runlog, current_run
from bgsched._current import LiveRun
from bgsched._runlog import LogBounds, RunLog, RunLogger
from bgsched.run import LogLine, LogTrim, Progress
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


@pytest.mark.parametrize("text", ["0123456789", "äöüéà", "発注処a"])
def test_bytes_bound_the_head_and_the_tail(text: str) -> None:
    log = make(LogBounds(head_lines=99, head_size=25, tail_lines=99, tail_size=25, line_size=100))
    for _ in range(20):
        log.write("INFO", "x", text)  # ten bytes
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
            [(it.level, it.disabled, it.propagate, it.filters[:], it.handlers[:]) for it in loggers],
            [(handler, handler.level, handler.formatter) for handler in logging.root.handlers],
        )

    def test_keeps_its_loggers_as_they_are(self) -> None:
        seen = []
        before = self.set_up()
        call_handlers = logging.Logger.callHandlers
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
        assert logging.Logger.callHandlers is call_handlers

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

    def test_what_the_host_disables_still_reaches_the_run_log(self, caplog: pytest.LogCaptureFixture) -> None:
        scheduler = Scheduler(MemoryStore())
        scheduler.process("work")(lambda: current_run().log.error("for the run log only"))
        scheduler.run_now("work")
        logging.disable(logging.CRITICAL)
        try:
            scheduler.run_until_idle()
        finally:
            logging.disable(logging.NOTSET)
        assert not caplog.records
        lines = scheduler.monitor.log(scheduler.monitor.runs()[0].id)
        assert [line.text for line in lines] == ["for the run log only"]
        scheduler.shutdown()


@pytest.fixture
def scheduler() -> Iterator[Scheduler]:
    scheduler = Scheduler(MemoryStore())
    yield scheduler
    in_time(scheduler.shutdown)


def texts_of(scheduler: Scheduler, work: Callable[[], object], *, prints: bool = False) -> list[str]:
    """Return what is in the log of a run of *work*, which is to be a success."""
    scheduler.process("work", prints=prints)(work)
    scheduler.run_now("work")
    in_time(scheduler.run_until_idle)
    (run,) = scheduler.monitor.runs()
    assert run.status is RunStatus.SUCCESS, run.error
    return [line.text for line in scheduler.monitor.log(run.id)]


def in_time(function: Callable[[], object]) -> None:
    """Call *function*, on a thread that the tests need not wait for if it hangs."""
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()


class Rubbish:
    """Part of a cycle: it goes when the garbage collector comes, and says so."""

    def __init__(self, says: Callable[[str], object]) -> None:
        self.me, self.says = self, says

    def __del__(self) -> None:
        self.says("gone")


class Collecting(str):
    """Has the garbage collector come while a piece is put to the one printed before."""

    __slots__ = ()

    def __radd__(self, before: str) -> str:
        gc.collect()
        return before + str(self)


def interrupted(monkeypatch: pytest.MonkeyPatch, what: str, by: Callable[[], object]) -> None:
    """Let *by* come, once, where a line, or a trim, is made: in the midst of the run log's own work."""
    made, waiting = getattr(_runlog, what), [by]

    def make(*values: Any) -> Any:
        if waiting:
            waiting.pop()()
        return made(*values)

    monkeypatch.setattr(_runlog, what, make)


class TestWhatInterrupts:
    """A finalizer or a signal handler comes in the midst of our work, on the same thread, and says something."""

    @pytest.fixture(autouse=True)
    def _no_other_collection(self) -> Iterator[None]:
        """Let the garbage collector come when a test says so, and not a moment before."""
        gc.disable()
        yield
        gc.enable()

    @pytest.mark.parametrize("level", ["write", "record"])
    def test_while_a_line_is_written(self, monkeypatch: pytest.MonkeyPatch, level: str) -> None:
        log = make()
        run_log = RunLogger("x", log)
        say = run_log.info if level == "record" else lambda text: log.write("INFO", "x", text)
        interrupted(monkeypatch, "LogLine", gc.collect)
        Rubbish(say)
        in_time(lambda: say("hello"))
        assert [(line.seq, line.text) for line in log.drain()[0]] == [(1, "hello"), (2, "gone")]

    def test_while_lines_are_drained(self, monkeypatch: pytest.MonkeyPatch) -> None:
        log = make()
        for n in range(10):
            log.write("INFO", "x", str(n))
        interrupted(monkeypatch, "LogTrim", lambda: log.write("INFO", "x", "gone"))
        in_time(lambda: log.drain(to_the_end=True))
        assert [line.text for line in log.drain()[0]] == ["gone"]

    def test_to_drain_lines_while_one_is_written_takes_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        log = make()
        drained = []
        interrupted(monkeypatch, "LogLine", lambda: drained.append(log.drain()))
        in_time(lambda: log.write("INFO", "x", "hello"))
        assert drained == [([], None)]
        assert [line.text for line in log.drain()[0]] == ["hello"]

    def test_while_something_is_printed(self, scheduler: Scheduler) -> None:
        def work() -> None:
            Rubbish(print)
            sys.stdout.write(Collecting("hello\n"))

        assert texts_of(scheduler, work, prints=True) == ["hello", "gone"]

    def test_of_all_kinds(self, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
        def work() -> None:
            for say in (print, current_run().log.info, logging.getLogger("x").warning):
                Rubbish(say)
            interrupted(monkeypatch, "LogLine", gc.collect)
            print("hello")  # noqa: T201  that is the point

        assert sorted(texts_of(scheduler, work, prints=True)) == ["gone", "gone", "gone", "hello"]

    def test_a_clock_that_says_that_it_is_read(self) -> None:
        class Talking(ManualClock):
            def now(self) -> datetime:
                if current_run(default=None) is not None:
                    logging.getLogger("x").warning("read")
                    current_run().log.info("read")
                    print("read")  # noqa: T201  that is the point
                return super().now()

        scheduler = Scheduler(MemoryStore(), clock=Talking(T0))
        texts = texts_of(scheduler, lambda: current_run().log.info("hello"), prints=True)
        assert texts[:4] == ["hello", "read", "read", "read"]
        scheduler.shutdown()

    def test_a_signal_handler(self, tmp_path: Path) -> None:
        """In an OS process of its own: what hangs here is a main thread."""
        script = tmp_path / "host.py"
        script.write_text(SIGNALLED)
        done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60, check=False)
        assert done.stdout.splitlines()[-1] == "['hello', 'a signal', 'a signal', 'a signal']", done.stderr

    def test_the_scheduler_never_holds_what_a_finalizer_may_want_while_it_waits_for_a_line(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The finalizer says progress, while its thread writes a line and the scheduler's collects them."""
        scheduler = Scheduler(MemoryStore())
        scheduler.process("p")(lambda: None)
        scheduler.run_now("p")
        scheduler.run_until_idle()
        live = LiveRun(scheduler.monitor.runs()[0], scheduler.processes.get("p"), ManualClock(T0))
        drain = RunLog.drain

        def drain_while_another_speaks(log: RunLog, **how: bool) -> Any:
            in_time(lambda: live.say(Progress(1)))
            return drain(log, **how)

        monkeypatch.setattr(RunLog, "drain", drain_while_another_speaks)
        live.log.write("INFO", "x", "hello")
        assert [line.text for line in live.news()[1]] == ["hello"]
        scheduler.shutdown()


SIGNALLED = """
import logging, signal
from bgsched import MemoryStore, Scheduler, _runlog, current_run

scheduler, made = Scheduler(MemoryStore()), _runlog.LogLine

def say(*_):
    logging.getLogger("x").warning("a signal")
    current_run().log.info("a signal")
    print("a signal")

def make(*values):
    _runlog.LogLine = made
    signal.raise_signal(signal.SIGINT)
    return made(*values)

@scheduler.process(prints=True)
def work():
    signal.signal(signal.SIGINT, say)
    _runlog.LogLine = make
    print("hello")

scheduler.run_now("work")
scheduler.run_until_idle()
print([line.text for line in scheduler.monitor.log(1)])
"""


class Detached:
    """As an object of a database session that was closed."""

    def __repr__(self) -> str:
        raise RuntimeError("the session is closed")


class MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("nor this")


class MuteInWords:
    def __str__(self) -> str:
        raise MuteError


class TestWhatCannotBeShown:
    """Capturing a record never disturbs who logs it."""

    @pytest.mark.parametrize(
        ("values", "text"),
        [
            (("done with %s", Detached()), "(<Detached that cannot be shown>) (RuntimeError: the session is closed)"),
            (("%s of %s", Detached(), 7), "'%s of %s' % (<Detached that cannot be shown>, 7) (RuntimeError:"),
            (("%(a)s", {"a": Detached()}), "'%(a)s' % <dict that cannot be shown> (RuntimeError:"),
            ((Detached(),), "<Detached that cannot be shown>"),
            (("%s", MuteInWords()), "(MuteError: <MuteError that cannot be shown>)"),
            (("%d of %s", "x", 7), "'%d of %s' % ('x', 7) (TypeError: "),
        ],
    )
    @pytest.mark.parametrize("by", ["run.log", "a logger"])
    def test_is_written_as_it_can_be(
        self, scheduler: Scheduler, silent: logging.Logger, values: tuple[Any, ...], text: str, by: str
    ) -> None:
        def work() -> None:
            (current_run().log if by == "run.log" else silent).info(*values)

        (line,) = texts_of(scheduler, work)
        assert text in line

    def test_an_error_that_cannot_say_itself(self, scheduler: Scheduler, silent: logging.Logger) -> None:
        def work() -> None:
            silent.info("oh", exc_info=MuteError())

        (line,) = texts_of(scheduler, work)
        assert line.startswith("oh\n")
        assert "MuteError" in line

    def test_what_is_no_error(self, scheduler: Scheduler, silent: logging.Logger) -> None:
        def work() -> None:
            silent.info("oh", exc_info=(1, 2, 3))  # type: ignore[arg-type]  # that is the point

        (line,) = texts_of(scheduler, work)
        assert line.startswith("<a record that cannot be shown: ")

    def test_a_clock_that_fails(self, scheduler: Scheduler, silent: logging.Logger) -> None:
        def broken() -> datetime:
            raise OSError("no time")

        log = RunLog(7, 1, broken)
        RunLogger("x", log).info("hello")
        assert log.drain() == ([], None)


@pytest.fixture
def silent() -> logging.Logger:
    """A logger of the host that does not propagate, whose handlers do not mind what they get; pytest finds it not."""
    logger = logging.Logger("silent", logging.INFO)  # noqa: LOG001  see above
    logger.propagate = False
    logger.addHandler(logging.NullHandler())
    return logger


@contextmanager
def nothing_set_up() -> Iterator[None]:
    """Be a host that has set up nothing; pytest has handlers on the root logger."""
    root = logging.root
    handlers, root.handlers, level = root.handlers, [], root.level
    try:
        yield
    finally:
        root.handlers = handlers
        root.setLevel(level)


class TestAHostThatHasSetUpNothing:
    @nothing_set_up()
    def test_has_its_warnings_on_stderr(self, scheduler: Scheduler, capsys: pytest.CaptureFixture[str]) -> None:
        def work() -> None:
            logging.getLogger("x").warning("from inside")
            current_run().log.warning("by run.log")

        with Scheduler(MemoryStore()):
            logging.getLogger("x").warning("beside a scheduler that runs")
            assert texts_of(scheduler, work) == ["from inside", "by run.log"]
        assert capsys.readouterr().err.splitlines() == ["beside a scheduler that runs", "from inside", "by run.log"]

    @nothing_set_up()
    def test_has_each_of_them_once_in_a_run_that_keeps_its_prints(
        self, scheduler: Scheduler, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def work() -> None:
            logging.getLogger("x").warning("hello")
            print("hello, too", file=sys.stderr)  # noqa: T201  that is the point

        assert texts_of(scheduler, work, prints=True) == ["hello", "hello, too"]
        assert capsys.readouterr().err.splitlines() == ["hello", "hello, too"]

    @nothing_set_up()
    def test_may_set_logging_up_while_a_scheduler_runs(self) -> None:
        with Scheduler(MemoryStore()):
            logging.basicConfig(stream=io.StringIO(), level=logging.DEBUG)
            assert logging.root.level == logging.DEBUG
            assert len(logging.root.handlers) == 1

    @pytest.mark.parametrize(
        "change",
        [
            lambda: logging.basicConfig(force=True, stream=io.StringIO()),
            lambda: logging.config.dictConfig(
                {"version": 1, "disable_existing_loggers": False, "root": {"level": "WARNING", "handlers": []}}
            ),
            lambda: logging.root.handlers.clear(),  # noqa: PLW0108  each test has a list of its own
        ],
    )
    @nothing_set_up()
    def test_may_set_logging_up_while_a_run_goes_on(self, scheduler: Scheduler, change: Callable[[], None]) -> None:
        def work() -> None:
            logging.getLogger("x").warning("before")
            change()
            logging.getLogger("x").warning("after")

        assert texts_of(scheduler, work) == ["before", "after"]


class TestCapture:
    def test_a_logger_that_does_not_propagate(self, scheduler: Scheduler, silent: logging.Logger) -> None:
        assert texts_of(scheduler, lambda: silent.error("hello")) == ["hello"]

    def test_gets_what_the_filters_of_the_logger_leave(self, scheduler: Scheduler, silent: logging.Logger) -> None:
        def masking(record: logging.LogRecord) -> bool:
            record.msg = record.msg.replace("1234", "****")
            return "secret" not in record.msg

        def work() -> None:
            silent.debug("below its level")
            silent.info("card 1234")
            silent.info("a secret")

        silent.addFilter(masking)
        assert texts_of(scheduler, work) == ["card ****"]

    def test_gets_what_a_handler_masks(self, scheduler: Scheduler, silent: logging.Logger) -> None:
        class Masking(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                record.msg = "****"

        silent.addHandler(Masking())
        assert texts_of(scheduler, lambda: silent.info("card 1234")) == ["****"]

    def test_keeps_the_line_when_a_handler_raises(self, scheduler: Scheduler, silent: logging.Logger) -> None:
        class Raising(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                raise OSError("no disk")

        def work() -> None:
            with pytest.raises(OSError, match="no disk"):
                silent.info("hello")

        silent.addHandler(Raising())
        assert texts_of(scheduler, work) == ["hello"]

    def test_takes_what_this_library_says_of_a_run(self, scheduler: Scheduler) -> None:
        assert texts_of(scheduler, lambda: _runlog.LOGGER.warning("of ours")) == ["of ours"]

    def test_goes_on_until_the_last_scheduler_ends(self, scheduler: Scheduler) -> None:
        original = logging.Logger.callHandlers
        one, other = Scheduler(MemoryStore()).start(), Scheduler(MemoryStore()).start()
        layer = logging.Logger.callHandlers
        assert texts_of(scheduler, lambda: logging.getLogger("x").warning("hello")) == ["hello"]
        one.shutdown()
        one.shutdown()
        assert logging.Logger.callHandlers is layer is not original
        other.shutdown()
        assert logging.Logger.callHandlers is original

    def test_leaves_what_others_put_around_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """As Sentry's integration does: a layer of its own, for good, here from within the first run."""
        passed: list[str] = []
        original = logging.Logger.callHandlers
        monkeypatch.setattr(logging.Logger, "callHandlers", original)  # so that it is put back

        def wrap() -> None:
            below = logging.Logger.callHandlers

            def theirs(logger: logging.Logger, record: logging.LogRecord) -> None:
                passed.append(record.getMessage())
                below(logger, record)

            monkeypatch.setattr(logging.Logger, "callHandlers", theirs)
            logging.getLogger("x").warning("one")

        for work, text in ((wrap, "one"), (lambda: logging.getLogger("x").warning("two"), "two")):
            scheduler = Scheduler(MemoryStore())
            assert texts_of(scheduler, work) == [text]
            scheduler.shutdown()
        logging.getLogger("x").warning("outside")
        assert passed == ["one", "two", "outside"]
        assert logging.Logger.callHandlers.__name__ == "theirs"

    def test_of_a_forked_child_ends_with_its_parents_scheduler(self) -> None:
        original = logging.Logger.callHandlers
        with Scheduler(MemoryStore()):
            assert in_a_fork(lambda: logging.Logger.callHandlers is original)


def in_a_fork(function: Callable[[], bool]) -> bool:
    if not hasattr(os, "fork"):
        pytest.skip("no fork here")
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        child = os.fork()
    if child == 0:
        signal.alarm(20)
        os._exit(0 if function() else 1)
    return os.waitpid(child, 0)[1] == 0


def test_lines_are_in_the_store_within_a_second() -> None:
    clock = ManualClock(T0)
    scheduler = Scheduler(MemoryStore(), clock=clock)
    seen: list[str] = []

    @scheduler.process
    def work() -> None:
        engine = scheduler._life.engine
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

    def away(*_: object, **__: object) -> None:
        raise StoreUnavailableError("gone")

    @scheduler.process
    def flood() -> None:
        engine = scheduler._life.engine
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
