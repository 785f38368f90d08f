"""What hosts do to a scheduler: fork, preload, exit without a word, press Ctrl-C, set the clock, raise in handlers.

Among them, one test for each failure that peers are known for.
"""

import logging
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar
from uuid import uuid4
from weakref import WeakSet

import pytest

from bgsched import (
    EverySeconds,
    Immediate,
    Later,
    MemoryStore,
    Misfire,
    OnAbandon,
    ProcessRegistry,
    RequestStatus,
    Run,
    RunStatus,
    Schedule,
    Scheduler,
    SchedulerStateError,
    SQLiteStore,
    StoreUnavailableError,
    _runlog,
    current_run,
)
from bgsched._lease import LEASE
from bgsched.clock import Signal
from bgsched.request import RUN_ALL_LIMIT, Policies, plan
from bgsched.stores import memory, sqlite
from bgsched.testing import ManualClock
from bgsched.testing.contract import T0, make_request

PATIENCE = 30.0
T = TypeVar("T")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "app.db"


def in_time(function: Callable[[], T]) -> T:
    """Return what *function* returns; one that hangs is left to itself, so that it fails the test and holds up none."""
    answers: SimpleQueue[T] = SimpleQueue()
    threading.Thread(target=lambda: answers.put(function()), daemon=True).start()
    return answers.get(timeout=PATIENCE)


def registry_of(**functions: Any) -> ProcessRegistry:
    registry = ProcessRegistry()
    for name, function in functions.items():
        registry.process(name)(function)
    return registry


def in_a_fork(function: Any) -> int:
    """Call *function* in a forked child; return the child's exit code: what it returned, or 99."""
    child = os.fork()
    if child == 0:
        code = 99
        try:
            code = function()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


_FORKING = """
import asyncio, os, sys, threading
from bgsched import Immediate, Scheduler, SQLiteStore

path, where, how = sys.argv[1:]
scheduler, waited = Scheduler(SQLiteStore(path), workers=1), threading.Semaphore(0)

def say(text):
    os.write(1, f"{text}\\n".encode())  # at once, and once: a buffer would have a copy in the child

def fork():
    say("forks")
    scheduler.run_now("waits")  # nobody has claimed it when the child comes back
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return say("child ended")
    if how == "exits":
        sys.exit(3)
    if how == "raises":
        raise RuntimeError("in the child")

def wait():
    say("waits" if os.getpid() == parent else "waits in the child")
    waited.release()

async def fork_there():
    fork()

async def wait_there():
    await asyncio.sleep(0)
    wait()

parent, is_async = os.getpid(), where == "on the event loop"
scheduler.process("forks")(fork_there if is_async else fork)
scheduler.process("waits")(wait_there if is_async else wait)
if where != "in run_pending":
    scheduler.start()
    scheduler._life.engine._claims._mean_run = 0.001  # those that wait are claimed before the first one forks
scheduler.schedule_many([("waits", Immediate(), None)] * is_async + [("forks", Immediate(), None)])
scheduler.schedule_many([("waits", Immediate(), None)] * (3 - is_async))
if where == "in run_pending":
    scheduler.run_until_idle()
    if os.getpid() != parent:
        os._exit(0)
for _ in range(4):
    waited.acquire()
scheduler.shutdown()
for run in scheduler.monitor.runs():
    say(run.status)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
class TestForks:
    def test_a_forked_child_knows_that_it_does_not_run(self, path: Path) -> None:
        done = threading.Event()
        with Scheduler(SQLiteStore(path), processes=registry_of(p=done.set)) as scheduler:

            def child() -> int:
                if scheduler.running:
                    return 1
                scheduler.run_now("p")  # the parent runs it
                return 0

            assert in_a_fork(child) == 0
            assert done.wait(PATIENCE)
            assert scheduler.running
        assert len(scheduler.monitor.runs()) == 1

    def test_a_forked_child_can_start_a_scheduler_of_its_own(self, path: Path) -> None:
        with Scheduler(SQLiteStore(path), processes=registry_of(p=lambda: None)) as scheduler:

            def child() -> int:
                with scheduler:
                    return 0 if len(scheduler.monitor.schedulers()) == 2 else 1

            assert in_a_fork(child) == 0
            assert len(scheduler.monitor.schedulers()) == 1
            assert scheduler.store.reap(T0) == []

    def test_a_child_that_lives_on_does_not_keep_a_dead_parent_alive(self, path: Path) -> None:
        script = (
            "import os, sys, time\n"
            "from bgsched import *\n"
            f"s = Scheduler(SQLiteStore({str(path)!r})); s.process('p')(lambda: None); s.start()\n"
            "if os.fork() == 0:\n"
            "    print(os.getpid(), flush=True); sys.stdin.read(); os._exit(0)\n"
            "os.kill(os.getpid(), 9)\n"
        )
        with subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as parent:
            assert parent.stdout is not None
            assert parent.stdout.readline()
            parent.wait(PATIENCE)
            store = SQLiteStore(path)
            assert len(store.reader().schedulers()) == 1
            store.reap(T0)
            assert store.reader().schedulers() == []
            store.close()
            parent.stdin.close()  # type: ignore[union-attr]

    @pytest.mark.parametrize("how", ["exits", "raises", "returns"])
    @pytest.mark.parametrize("where", ["on a worker", "on the event loop", "in run_pending"])
    def test_a_child_that_comes_back_from_a_run_leaves_all_runs_to_its_parent(
        self, path: Path, where: str, how: str
    ) -> None:
        """Nothing that its parent has claimed begins in it, and what it comes to is not the end of the run."""
        command = [sys.executable, "-W", "ignore", "-c", _FORKING, str(path), where, how]
        ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE)
        assert sorted(ended.stdout.splitlines()) == ["child ended", "forks", *["success"] * 5, *["waits"] * 4]
        assert ("RuntimeError: in the child" in ended.stderr) == (how == "raises")

    def test_threads_that_fork_at_once_leave_no_memory_locked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(memory, "_ALL", WeakSet())  # without the stores of other tests
        comes = threading.Event()

        class Store(MemoryStore):
            def before_fork(self) -> None:
                comes.set()
                super().before_fork()

        def fork() -> None:
            memory._before_fork()
            memory._after_fork()

        store = Store()
        memory._before_fork()  # this thread is about to fork
        comes.clear()
        other = threading.Thread(target=fork, daemon=True)
        other.start()
        assert comes.wait(PATIENCE)  # the one before is not done yet
        memory._after_fork()
        other.join(PATIENCE)
        assert store._lock.acquire(timeout=PATIENCE)

    def test_what_is_filed_in_a_child_on_a_memory_store_is_warned_of(self) -> None:
        messages: list[str] = []

        class Handler(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                messages.append(record.getMessage())

        with Scheduler(processes=registry_of(p=lambda: None)) as scheduler:

            def child() -> int:
                logging.getLogger("bgsched").addHandler(Handler())
                scheduler.schedule("p", Immediate())
                scheduler.schedule("p", Immediate())
                return len([text for text in messages if "nobody runs what is filed here" in text])

            assert in_a_fork(child) == 1

    def test_the_parents_connections_survive_the_end_of_many_children(self, path: Path) -> None:
        store = SQLiteStore(path)
        for n in range(10):
            store.file([make_request(f"r{n}")])
            assert in_a_fork(lambda n=n: len(store.reader().requests(_everything())) - n - 1) == 0
        assert store._write_connection().execute("PRAGMA integrity_check").fetchone() == ("ok",)
        store.close()

    def test_who_waits_for_another_writer_makes_way_for_a_fork(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store, waits = SQLiteStore(path, timeout=PATIENCE), threading.Event()

        def patiently(step: Any, value: Any, patiently: Any = store._patiently) -> None:
            waits.set()
            patiently(step, value)

        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            monkeypatch.setattr(store, "_patiently", patiently)
            files = [threading.Thread(target=store.file, args=([make_request(f"r{n}")],)) for n in range(3)]
            for thread in files:
                thread.start()
            assert waits.wait(PATIENCE)
            assert sqlite._GATE.shut(PATIENCE / 3)
            other.execute("ROLLBACK")
        sqlite._GATE.open()
        for thread in files:
            thread.join(PATIENCE)
        assert [request.id for request in store.reader().requests(_everything())] == ["r0", "r1", "r2"]
        store.close()

    def test_a_child_does_not_touch_a_database_that_somebody_used_at_the_fork(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store, reads, over = SQLiteStore(path), threading.Event(), threading.Event()
        monkeypatch.setattr(sqlite, "_LONGEST_FORK", 0.01)

        def read() -> None:
            with store.reading():
                reads.set()
                over.wait(PATIENCE)

        def child() -> int:
            uses: list[Callable[[], object]] = [lambda: store.file([make_request("child")]), lambda: SQLiteStore(path)]
            for use in uses:
                with pytest.raises(StoreUnavailableError, match="forked while the database was in use"):
                    use()
            return 0

        reader = threading.Thread(target=read)
        reader.start()
        assert reads.wait(PATIENCE)
        assert in_a_fork(child) == 0
        over.set()
        reader.join(PATIENCE)
        store.file([make_request("parent")])
        assert [request.id for request in store.reader().requests(_everything())] == ["parent"]
        store.close()

    def test_a_child_can_use_the_database_whatever_others_did_at_the_fork(self, path: Path) -> None:
        """SQLite keeps locks and mutexes in its memory: a child must find none that somebody held."""
        store, over = SQLiteStore(path, timeout=PATIENCE), threading.Event()
        store._write_connection().execute("PRAGMA synchronous = OFF")  # no power is cut here

        def write() -> None:
            while not over.is_set():
                store.file([make_request(uuid4().hex)])

        def read() -> None:
            while not over.is_set():
                store.reader().schedulers()
                SQLiteStore(path.with_name("other.db")).close()

        def child() -> int:
            signal.alarm(int(PATIENCE))  # one that hangs ends as killed
            store.file([make_request(uuid4().hex)])
            return len(store.reader().schedulers())

        threads = [threading.Thread(target=function) for function in (write, read, read)]
        for thread in threads:
            thread.start()
        try:
            assert [in_a_fork(child) for _ in range(8)] == [0] * 8
        finally:
            over.set()
            for thread in threads:
                thread.join()
        store.close()

    def test_a_child_of_a_run_can_log_whatever_others_did_at_the_fork(self) -> None:
        ends: list[int] = []
        done = threading.Event()

        def child() -> int:
            signal.alarm(int(PATIENCE))  # one that hangs ends as killed
            logging.getLogger("app").warning("in the child")
            current_run().progress(1)
            return 0

        def work() -> None:
            over, run = threading.Event(), current_run()

            def write() -> None:
                while not over.is_set():
                    run.log.info("in the parent")
                    run.progress(1)

            thread = threading.Thread(target=write)
            thread.start()
            ends.extend(in_a_fork(child) for _ in range(10))
            over.set()
            thread.join()
            done.set()

        with Scheduler(processes=registry_of(p=work)) as scheduler:
            scheduler.run_now("p")
            assert done.wait(PATIENCE)
        assert ends == [0] * 10

    def test_what_a_child_files_is_kept_when_its_parent_closes_the_database(self, path: Path) -> None:
        """The last who closes a database removes its write-ahead log: a child must count as one who has it open."""
        store = SQLiteStore(path)
        store.file([make_request("parent")])
        closed, filed = os.pipe(), os.pipe()

        def child() -> int:
            store.reader().schedulers()
            store.file([make_request("child, before")])
            os.write(filed[1], b".")
            os.read(closed[0], 1)
            store.file([make_request("child, after")])
            return 0

        with ThreadPoolExecutor(1) as pool:
            end = pool.submit(in_a_fork, child)
            os.read(filed[0], 1)
            store.close()
            os.write(closed[1], b".")
            assert end.result() == 0
        with closing(SQLiteStore(path)) as after:
            ids = {request.id for request in after.reader().requests(_everything())}
        assert ids == {"parent", "child, before", "child, after"}
        for end_of_pipe in (*closed, *filed):
            os.close(end_of_pipe)

    @pytest.mark.parametrize("method", ["fork", "spawn"])
    def test_children_of_multiprocessing_file_and_the_parent_runs(self, path: Path, method: str) -> None:
        ran = threading.Semaphore(0)
        with Scheduler(SQLiteStore(path), processes=registry_of(p=ran.release)) as scheduler:
            context = multiprocessing.get_context(method)
            child = context.Process(target=_file_one, args=(str(path),))  # type: ignore[attr-defined]  # of each kind
            child.start()
            child.join(PATIENCE)
            assert child.exitcode == 0
            assert ran.acquire(timeout=PATIENCE)
        assert scheduler.monitor.runs()[0].status is RunStatus.SUCCESS


def calls_of(function: Callable[[], object]) -> int:
    """Count the calls, in Python and C, that a call of *function* makes: what it costs, on any machine."""
    counted = 0

    def count(_: object, event: str, __: object) -> None:
        nonlocal counted
        counted += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(None)
    return counted


def _everything() -> Any:
    from bgsched.stores.base import RequestFilter

    return RequestFilter(limit=10_000)


def _file_one(path: str) -> None:
    Scheduler(SQLiteStore(path), processes=registry_of(p=lambda: None)).run_now("p")


class TestExits:
    SCRIPT = (
        "import sys, threading\n"
        "from bgsched import *\n"
        "s = Scheduler(SQLiteStore(sys.argv[1])); begun = threading.Event()\n"
        "@s.process\n"
        "def work():\n"
        "    begun.set(); current_run().sleep(float(sys.argv[2]))\n"
        "s.start(); s.run_now('work'); begun.wait(30); print('begun', flush=True)\n"
    )

    def test_a_host_that_ends_without_shutdown_waits_for_what_runs(self, path: Path) -> None:
        subprocess.run([sys.executable, "-c", self.SCRIPT, str(path), "0.1"], check=True, timeout=PATIENCE)
        store = SQLiteStore(path)
        assert [run.status for run in Scheduler(store).monitor.runs()] == [RunStatus.SUCCESS]
        assert store.reader().schedulers() == []
        store.close()

    def test_ctrl_c_ends_the_host_and_leaves_nothing_running(self, path: Path) -> None:
        script = f"{self.SCRIPT}threading.Event().wait()\n"
        with subprocess.Popen(
            [sys.executable, "-c", script, str(path), "0.2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as host:
            assert host.stdout is not None
            assert host.stdout.readline() == "begun\n"
            host.send_signal(signal.SIGINT)
            host.wait(PATIENCE)
        store = SQLiteStore(path)
        assert store.reader().schedulers() == []
        assert not any(run.is_active for run in Scheduler(store).monitor.runs())
        store.close()

    def test_a_run_that_has_no_time_to_wait_hurries_who_waits_for_it(self) -> None:
        began = threading.Event()

        def leave() -> None:
            began.set()
            assert scheduler._life.loop is not None
            assert scheduler._life.loop._stopping.wait(PATIENCE)
            scheduler.shutdown(wait=False)

        scheduler = Scheduler(processes=registry_of(p=leave)).start()
        scheduler.run_now("p")
        assert began.wait(PATIENCE)
        assert [run.status for run in in_time(scheduler.shutdown).left] == [RunStatus.ABANDONED]

    @pytest.fixture
    def hanging(self) -> Iterator[Scheduler]:
        """Return a scheduler with a run that does not stop."""
        began, release = threading.Event(), threading.Event()

        def hang() -> None:
            began.set()
            release.wait()

        scheduler = Scheduler(processes=registry_of(p=hang)).start()
        scheduler.run_now("p")
        assert began.wait(PATIENCE)
        yield scheduler
        release.set()

    def test_who_has_more_time_does_not_hold_up_who_has_less(self, hanging: Scheduler) -> None:
        left: list[Run] = []
        first = threading.Thread(target=lambda: left.extend(hanging.shutdown().left), daemon=True)
        first.start()
        assert hanging._life.loop is not None
        assert hanging._life.loop._stopping.wait(PATIENCE)
        with hanging.store.transaction():  # a signal handler interrupts it, twice
            hanging.shutdown(wait=False)
            hanging.shutdown()
        first.join(PATIENCE)
        assert [run.status for run in left] == [RunStatus.ABANDONED]

    def test_a_shutdown_after_one_that_ctrl_c_ended_waits_all_the_same(self, hanging: Scheduler) -> None:
        assert hanging._life.loop is not None
        hanging._life.loop._thread.join = lambda *_: None  # type: ignore[method-assign]  # what it then does before 3.13
        assert len(hanging.shutdown(timeout=0).left) == 1

    def test_who_hurries_another_shutdown_hears_what_was_left(self, hanging: Scheduler) -> None:
        first = threading.Thread(target=hanging.shutdown, daemon=True)
        first.start()
        assert hanging._life.loop is not None
        assert hanging._life.loop._stopping.wait(PATIENCE)
        assert len(in_time(lambda: hanging.shutdown(timeout=0)).left) == 1
        first.join(PATIENCE)

    def test_a_signal_handler_that_shuts_down_within_a_shutdown_undoes_nothing_twice(self) -> None:
        with Scheduler() as other:
            users = _runlog._captured._users
            loop = (scheduler := Scheduler().start())._life.loop
            assert loop is not None

            def interrupted(deadline: float | None, stop: Any = loop.stop) -> Any:
                loop.stop = stop  # type: ignore[method-assign]
                scheduler.shutdown()
                return stop(deadline)

            loop.stop = interrupted  # type: ignore[method-assign]
            assert in_time(scheduler.shutdown).clean
            assert _runlog._captured._users == users
            assert other.running

    def test_a_signal_handler_that_shuts_down_within_a_start_ends_it(self) -> None:
        class Store(MemoryStore):
            def listen(self, wake: Any) -> None:
                super().listen(wake)
                scheduler.shutdown()

        scheduler = Scheduler(Store())
        scheduler.start()
        assert not scheduler.running
        assert scheduler.monitor.schedulers() == []

    @pytest.mark.parametrize("ahead", [0, 1])
    def test_what_run_pending_executes_elsewhere_is_told_to_stop_and_not_waited_for(self, ahead: int) -> None:
        began, release = threading.Event(), threading.Event()

        def hang() -> None:
            began.set()
            release.wait(PATIENCE)

        scheduler = Scheduler(processes=registry_of(p=hang, short=lambda: None))
        if ahead:  # what follows a short run is claimed together
            scheduler.run_now("short")
            scheduler.run_pending()
        scheduler.schedule_many([("p", Immediate(), None)] * 2)
        elsewhere = threading.Thread(target=scheduler.run_pending, daemon=True)
        elsewhere.start()
        assert began.wait(PATIENCE)
        left = in_time(lambda: scheduler.shutdown(wait=False)).left
        assert sorted(run.status for run in left) == [RunStatus.RUNNING, RunStatus.WAITING][: 1 + ahead]
        release.set()
        elsewhere.join(PATIENCE)
        assert scheduler.shutdown().clean
        runs = scheduler.monitor.runs(process="p")
        assert sorted(run.status for run in runs) == [RunStatus.SUCCESS, RunStatus.WAITING][: 1 + ahead]
        assert scheduler.monitor.schedulers() == []

    def test_a_run_of_run_pending_that_shuts_down_leaves_nobody_signed_on(self) -> None:
        clock = ManualClock()

        def leave() -> None:
            clock.advance(LEASE)
            scheduler.shutdown(wait=False)

        scheduler = Scheduler(processes=registry_of(p=leave), clock=clock)
        scheduler.run_now("p")
        scheduler.run_pending()
        assert scheduler.monitor.schedulers() == []

    @pytest.mark.parametrize("kind", [MemoryStore, SQLiteStore])
    def test_a_signal_handler_within_a_call_of_the_store_hangs_and_breaks_nothing(self, kind: Any, path: Path) -> None:
        store = MemoryStore() if kind is MemoryStore else SQLiteStore(path)
        scheduler = Scheduler(store, processes=registry_of(p=lambda: None)).start()

        def interrupted() -> bool:
            with store.transaction() as tx:
                tx.put_requests([make_request("before")])
                with pytest.raises(StoreUnavailableError, match="in the midst of another call"):
                    scheduler.run_now("p")
                left = scheduler.shutdown().left
                tx.put_requests([make_request("after")])
            return left == ()

        assert in_time(interrupted)
        assert in_time(scheduler.shutdown).clean
        assert [request.id for request in scheduler.monitor.requests()] == ["after", "before"]
        store.close()

    def test_a_run_cannot_wait_for_its_own_end(self) -> None:
        answer: list[BaseException] = []
        asked = threading.Event()

        def work() -> None:
            try:
                scheduler.shutdown()
            except SchedulerStateError as error:
                answer.append(error)
            asked.set()

        with Scheduler(processes=registry_of(p=work)) as scheduler:
            scheduler.run_now("p")
            assert asked.wait(PATIENCE)
        assert "write shutdown(wait=False)" in str(answer[0])

    def test_what_was_claimed_and_has_not_started_is_put_back(self, path: Path) -> None:
        started, release = threading.Event(), threading.Event()

        def work() -> None:
            started.set()
            release.wait(PATIENCE)

        scheduler = Scheduler(SQLiteStore(path), processes=registry_of(p=work), workers=1).start()
        engine = scheduler._life.engine
        assert engine is not None
        engine._claims._mean_run = 0.001  # as if runs were short: it claims ahead
        scheduler.schedule_many([("p", Immediate(), None) for _ in range(4)])
        assert started.wait(PATIENCE)
        report = scheduler.shutdown(timeout=0)
        release.set()
        statuses = sorted(run.status for run in scheduler.monitor.runs())
        assert RunStatus.ABANDONED in statuses
        assert statuses.count(RunStatus.ABANDONED) == len(report.left) == 1
        scheduler.run_until_idle()
        assert [run.status for run in scheduler.monitor.runs()].count(RunStatus.SUCCESS) == 3

    def test_who_stops_while_its_scheduler_signs_off_is_left_once(self, path: Path) -> None:
        started, release = threading.Event(), threading.Event()

        def work() -> None:
            started.set()
            release.wait(PATIENCE)

        store = SQLiteStore(path)
        scheduler = Scheduler(store, processes=registry_of(p=work)).start()
        scheduler.run_now("p")
        assert started.wait(PATIENCE)
        engine, sign_off = scheduler._life.engine, store.sign_off
        assert engine is not None

        def hearing(owner: str, now: datetime) -> list[Run]:
            left = sign_off(owner, now)
            for live in engine.live:
                live.close(lambda run, now, _: run.abandoned(now, "its scheduler was shut down", crashed=False))
            return left

        store.sign_off = hearing  # type: ignore[method-assign]
        report = scheduler.shutdown(timeout=0)
        release.set()
        assert len(report.left) == 1

    def test_a_sign_off_that_fails_leaves_the_runs_to_others(self, path: Path) -> None:
        started, release = threading.Event(), threading.Event()

        def work() -> None:
            started.set()
            release.wait(PATIENCE)

        store = SQLiteStore(path)
        scheduler = Scheduler(store, processes=registry_of(p=work)).start()
        scheduler.run_now("p")
        assert started.wait(PATIENCE)

        def refuse(*_: object) -> list[Run]:
            raise StoreUnavailableError("not now")

        store.sign_off = refuse  # type: ignore[method-assign,assignment]
        assert len(scheduler.shutdown(timeout=0).left) == 1
        release.set()
        assert [run.status for run in store.reap(T0)] == [RunStatus.ABANDONED]


class TestTrouble:
    @pytest.mark.parametrize("problem", [RuntimeError, SystemExit, GeneratorExit])
    def test_a_handler_of_the_host_that_raises_ends_nothing(self, path: Path, problem: type[BaseException]) -> None:
        class Raising(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                raise problem("no log today")

        store, done, handler = SQLiteStore(path), threading.Event(), Raising()
        changes, calls = store.changes, iter([True, True, False])

        def flaky() -> Any:
            if next(calls, False):
                raise RuntimeError("no answer")
            return changes()

        logging.getLogger("bgsched").addHandler(handler)
        try:
            with Scheduler(store, processes=registry_of(p=done.set)) as scheduler:
                store.changes = flaky  # type: ignore[method-assign]
                scheduler.run_now("p")
                assert done.wait(PATIENCE)
                assert scheduler.running
        finally:
            logging.getLogger("bgsched").removeHandler(handler)

    def test_health_says_since_when_and_why_even_without_the_store(self, path: Path) -> None:
        store, tried = SQLiteStore(path), threading.Event()

        def refuse(*_: object, **__: object) -> Any:
            tried.set()
            raise StoreUnavailableError("the disk is on fire")

        with Scheduler(store, processes=registry_of(p=lambda: None)) as scheduler:
            good = store.changes
            store.changes = refuse  # type: ignore[method-assign]
            scheduler._life.wake.set()
            assert tried.wait(PATIENCE)
            while scheduler._life.engine is not None and scheduler._life.engine.problem is None:
                scheduler._clock.wait(Signal(), 0.001)
            health = scheduler.monitor.health()
            store.changes = good  # type: ignore[method-assign]
        assert not health.ok
        assert "the disk is on fire (since 20" in health.problems[0]

    def test_a_result_that_the_store_cannot_take_holds_up_nobody(self) -> None:
        store, clock = MemoryStore(), ManualClock(T0)
        record = store.record

        def picky(owner: str, now: Any, report: Any, **named: Any) -> Any:
            if any(run.result == "poison" for run in report.runs):
                raise ValueError("cannot be stored")
            return record(owner, now, report, **named)

        store.record = picky  # type: ignore[method-assign]
        scheduler = Scheduler(store, processes=registry_of(bad=lambda: "poison", good=lambda: "fine"), clock=clock)
        bad, good = scheduler.run_now("bad"), scheduler.run_now("good")
        scheduler.run_until_idle()
        assert scheduler.monitor.runs(request=good.id)[0].result == "fine"
        (run,) = scheduler.monitor.runs(request=bad.id)
        assert run.reason == "what the run ended with could not be stored"
        assert not run.is_active

    def test_a_result_that_is_too_big_for_sqlite_holds_up_nobody(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        connect = SQLiteStore._connect_to_write

        def narrow(store: SQLiteStore) -> sqlite3.Connection:
            connection = connect(store)
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 50_000)  # a gigabyte, as SQLite comes
            return connection

        monkeypatch.setattr(SQLiteStore, "_connect_to_write", narrow)
        store, clock = SQLiteStore(path), ManualClock(T0)
        scheduler = Scheduler(store, processes=registry_of(big=lambda: "x" * 100_000, good=lambda: "fine"), clock=clock)
        scheduler.run_now("big")
        scheduler.run_now("good")
        scheduler.run_until_idle()
        (good,), (big,) = (scheduler.monitor.runs(process=name) for name in ("good", "big"))
        assert (good.result, big.reason) == ("fine", "what the run ended with could not be stored")
        scheduler.shutdown()
        store.close()

    def test_an_error_between_claim_and_start_loses_no_run(self, path: Path) -> None:
        store, clock = SQLiteStore(path), ManualClock(T0)
        registry = registry_of(p=lambda: None)
        registry.get("p").policies = Policies(on_abandon=OnAbandon.RERUN)
        scheduler = Scheduler(store, processes=registry, clock=clock)
        scheduler.schedule("p", Immediate(), id="r")
        from bgsched.testing.contract import FixedPlanner, sign_on

        sign_on(store, "dead")
        store.claim(FixedPlanner(Policies(on_abandon=OnAbandon.RERUN), owner="dead"), "dead", T0, 1)
        store.let_go("dead")
        last_seq, failures = store.last_seq, iter([True])

        def flaky(run_id: int) -> int:
            if next(failures, False):
                raise StoreUnavailableError("once")
            return last_seq(run_id)

        store.last_seq = flaky  # type: ignore[method-assign]
        with pytest.raises(StoreUnavailableError):
            scheduler.run_pending()
        scheduler.run_pending()
        assert [run.status for run in scheduler.monitor.runs()] == [RunStatus.SUCCESS]
        scheduler.shutdown()


class TestClocks:
    @pytest.fixture
    def clock(self) -> ManualClock:
        return ManualClock(T0)

    @pytest.fixture
    def scheduler(self, clock: ManualClock) -> Scheduler:
        return Scheduler(clock=clock, processes=registry_of(p=lambda: None))

    def test_a_clock_set_back_fires_nothing_twice(self, scheduler: Scheduler, clock: ManualClock) -> None:
        scheduler.schedule("p", Schedule(EverySeconds(10)), id="s")
        for _ in range(6):
            scheduler.run_pending()
            clock.advance(10)
        clock.jump(timedelta(seconds=-60))
        for _ in range(12):
            scheduler.run_pending()
            clock.advance(10)
        fires = [run.fire_time for run in scheduler.monitor.runs(request="s")][::-1]
        assert fires == [T0 + timedelta(seconds=10 * n) for n in range(len(fires))]
        assert len(fires) == 12

    def test_a_clock_set_forward_follows_the_misfire_policy(self, scheduler: Scheduler, clock: ManualClock) -> None:
        scheduler.schedule("p", Schedule(EverySeconds(10)), id="s")
        scheduler.run_pending()
        clock.jump(timedelta(days=1))
        scheduler.run_pending()
        newest, misfired, _ = scheduler.monitor.runs(request="s")
        assert (newest.status, newest.fire_time) == (RunStatus.SUCCESS, T0 + timedelta(days=1))
        assert (misfired.status, misfired.fire_count) == (RunStatus.MISFIRED, 8639)

    @pytest.mark.parametrize("jump", [timedelta(hours=3), -timedelta(hours=3)])
    def test_a_jump_makes_nobody_dead(self, clock: ManualClock, jump: timedelta) -> None:
        store = MemoryStore()
        one, other = (Scheduler(store, clock=clock, processes=registry_of(p=lambda: None)) for _ in range(2))
        one.run_pending()
        other.run_pending()
        names = {record.owner for record in store.reader().schedulers()}
        clock.advance(LEASE)
        one.run_pending()
        other.run_pending()
        clock.jump(jump)
        one.run_pending()
        other.run_pending()
        assert {record.owner for record in store.reader().schedulers()} == names


class TestWhatPeersAreKnownFor:
    @pytest.mark.parametrize("misfire", list(Misfire))
    def test_a_year_of_misfired_seconds_is_one_record_and_no_list(self, misfire: Misfire) -> None:
        request = make_request(timing=Schedule(EverySeconds(1)))
        policies = Policies(misfire=misfire)
        made = plan(request, policies, "a", T0 + timedelta(days=365))
        (range_,) = [run for run in made.runs if run.status is RunStatus.MISFIRED]
        assert sum(run.fire_count for run in made.runs) == 365 * 86_400 + 1
        assert range_.fire_count > 31_000_000
        assert len(made.runs) <= RUN_ALL_LIMIT + 1
        an_hour = calls_of(lambda: plan(request, policies, "a", T0 + timedelta(hours=1)))
        a_year = calls_of(lambda: plan(request, policies, "a", T0 + timedelta(days=365)))
        assert a_year < 2 * an_hour + 100

    def test_a_mere_listing_changes_nothing(self, path: Path) -> None:
        first = Scheduler(SQLiteStore(path), processes=registry_of(gone=lambda: None))
        request = first.schedule("gone", Immediate())
        with SQLiteStore(path).reading() as connection:
            before = connection.execute("PRAGMA data_version").fetchone()
            for _ in range(3):
                first.monitor.requests()
                first.monitor.runs()
                first.monitor.upcoming()
                first.monitor.summary()
                first.monitor.health()
            assert connection.execute("PRAGMA data_version").fetchone() == before
        second = Scheduler(SQLiteStore(path))
        second.run_pending()
        assert second.monitor.request(request.id).status is RequestStatus.SCHEDULED

    def test_a_one_shot_that_waited_behind_busy_workers_runs(self) -> None:
        release, started = threading.Event(), threading.Event()

        def busy() -> None:
            started.set()
            release.wait(PATIENCE)

        done = threading.Event()
        clock = ManualClock(T0)
        scheduler = Scheduler(processes=registry_of(busy=busy, late=done.set), workers=1, clock=clock)
        with scheduler:
            scheduler.run_now("busy")
            assert started.wait(PATIENCE)
            scheduler.schedule("late", Later(T0 + timedelta(seconds=1)), id="late")
            clock.advance(timedelta(hours=2))
            release.set()
            while not done.is_set():
                clock.advance(0.3)
        assert [run.status for run in scheduler.monitor.runs(request="late")] == [RunStatus.SUCCESS]

    def test_two_workers_fire_once(self, path: Path) -> None:
        clock = ManualClock(T0)
        workers = [Scheduler(SQLiteStore(path), clock=clock) for _ in range(2)]
        for worker in workers:
            worker.process("p", timing=Schedule(EverySeconds(1)))(lambda: None)
        for _ in range(20):
            for worker in workers:
                worker.run_pending()
            clock.advance(1)
        fires = [run.fire_time for run in workers[0].monitor.runs()]
        assert len(fires) == len(set(fires)) == 20
        assert len(workers[0].monitor.requests()) == 1
        for worker in workers:
            worker.shutdown()
