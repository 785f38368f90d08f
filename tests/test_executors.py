"""One behaviour, whatever executes: threads of ours or the host's, OS processes, and executors that are elsewhere."""

import functools
import multiprocessing
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import _executor_processes as work
import pytest

from bgsched import (
    Daily,
    ExecutorError,
    Immediate,
    Later,
    MemoryStore,
    PostgresStore,
    Process,
    ProcessGroup,
    ProcessPool,
    ProcessRegistry,
    RemoteExecutor,
    Run,
    RunFinished,
    RunStatus,
    Schedule,
    Scheduler,
    SQLiteStore,
    Store,
    WorkerDiedError,
)
from bgsched._current import StopCause
from bgsched._events import Hooks
from bgsched._executors import children, foreign
from bgsched._executors.bench import Post
from bgsched._executors.choice import chosen
from bgsched._executors.errand import check_travels
from bgsched._executors.foreign import call_back
from bgsched.integrations.opentelemetry import span_per_run
from bgsched.process import Pool

S = RunStatus
PATIENCE = 60.0  # seconds until a signal that never comes fails a test
POOL = functools.partial(ProcessPool, grace=timedelta(seconds=0.1))


class Bench:
    """A scheduler that runs, and the ends of its runs."""

    def __init__(self, store: Store, executor: Any, registry: ProcessRegistry = work.registry, **options: Any) -> None:
        self.executor = executor
        self.scheduler = Scheduler(store, processes=registry, executor=executor, **options)
        self._ended: dict[str, Run] = {}
        self._changed = threading.Condition()
        self.scheduler.on(RunFinished, self._hear)

    def goes_on(self, request: str) -> bool:
        """Whether its run goes on here; the store hears of its beginning a little later."""
        return any(live.run.request_id == request for live in self.scheduler._life.live_runs if live.run.started_at)

    def _hear(self, event: RunFinished) -> None:
        with self._changed:
            self._ended[event.run.request_id] = event.run
            self._changed.notify_all()

    def file(self, process: Any, **params: Any) -> str:
        return self.scheduler.schedule(process, Immediate(), params).id

    def end_of(self, request: str) -> Run:
        with self._changed:
            assert self._changed.wait_for(lambda: request in self._ended, PATIENCE)
            return self._ended[request]

    def run(self, process: Any, **params: Any) -> Run:
        return self.end_of(self.file(process, **params))

    def log(self, run: Run) -> list[tuple[str, str, str]]:
        return [(line.level, line.logger, line.text) for line in self.scheduler.monitor.log(run.id)]


def written(mark: Path) -> str:
    """Return what a run wrote to *mark*, once it has."""
    pause = threading.Event()
    for _ in range(int(PATIENCE / 0.01)):
        if mark.exists() and (text := mark.read_text()):
            return text
        pause.wait(0.01)
    raise AssertionError("it did not begin")


def executor(kind: str, stack: ExitStack) -> Any:
    if kind == "host threads":
        return stack.enter_context(ThreadPoolExecutor(4))
    if kind == "process pool":
        return POOL(2)
    if kind == "elsewhere":
        context = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
        pool = stack.enter_context(ProcessPoolExecutor(2, mp_context=context))
        stack.callback(kill_workers, pool)
        return RemoteExecutor(pool)
    return None


@contextmanager
def busy_threads() -> Iterator[tuple[ThreadPoolExecutor, threading.Semaphore]]:
    """Yield threads of the host's that have something else to do, and what is released with each run that comes."""
    came, let_go = threading.Semaphore(0), threading.Event()

    class Busy(ThreadPoolExecutor):
        def submit(self, *args: Any, **kwargs: Any) -> Any:
            try:
                return super().submit(*args, **kwargs)
            finally:
                came.release()

    with Busy(1) as threads:
        threads.submit(let_go.wait, PATIENCE)
        came.acquire()
        try:
            yield threads, came
        finally:
            let_go.set()


def kill_workers(pool: Any) -> None:
    """End what still hangs in a pool of the standard library, which would wait for it."""
    for process in list(pool._processes.values()):
        process.kill()


@pytest.fixture(scope="module", params=["threads", "host threads", "process pool", "elsewhere"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def bench(kind: str) -> Iterator[Bench]:
    """A scheduler of each kind; its workers live on from test to test, as they do in a host."""
    with ExitStack() as stack:
        bench = Bench(MemoryStore(), executor(kind, stack))
        stack.enter_context(bench.scheduler)
        yield bench
        bench.scheduler.shutdown(timeout=0)
        work.LET_GO.set()


class TestEverywhere:
    def test_params_of_every_kind_arrive_and_the_result_comes_back(self, bench: Bench) -> None:
        run = bench.run(
            work.kinds,
            number=1,
            day="2026-01-31",
            at="2026-01-31T12:00:00+00:00",
            price="9.99",
            colour="red",
            key="12345678-1234-5678-1234-567812345678",
            path="/tmp/x",
            item={"name": "pen", "price": "1.20"},
            plain={"a": [1, None, {"b": 2.5}]},
        )
        assert run.result == ["int", "date", "datetime", "Decimal", "Colour", "UUID", "PosixPath", "Item", "dict"]

    def test_the_run_is_known_its_log_and_progress_are_seen(self, bench: Bench, kind: str) -> None:
        request = bench.scheduler.schedule(work.talk, Immediate(), {"password": "swordfish"}, user="ann")
        run = bench.end_of(request.id)
        assert run.result is not None
        pid = run.result.pop("pid")
        assert run.result == {"id": run.id, "params": ["password"], "user": "ann", "attempt": 1, "fence": [run.id, 1]}
        assert (pid == os.getpid()) == (kind in {"threads", "host threads"})
        assert run.progress is not None
        assert (run.progress.done, run.progress.total, run.progress.message) == (1, 3, "a third")
        assert [line for line in bench.log(run) if not line[2].startswith("it runs on")] == [
            ("WARNING", "app.mail", "a warning for ***"),
            ("DEBUG", "bgsched.run", "a word"),
            ("INFO", "stdout", "printed"),
        ]

    def test_an_error_comes_with_its_causes_and_without_our_frames(self, bench: Bench) -> None:
        run = bench.run(work.fail)
        assert run.status is S.ERROR
        assert run.error is not None
        assert (run.error.type, run.error.message) == ("ValueError", "outside")
        assert "KeyError: 'inside'" in run.error.traceback
        assert "_executor_processes.py" in run.error.traceback
        assert "src/bgsched" not in run.error.traceback
        assert ("ERROR", "bgsched", run.error.traceback) in bench.log(run)

    @pytest.mark.parametrize(("how", "error"), [("exit", "SystemExit"), ("interrupt", "KeyboardInterrupt")])
    def test_who_wants_to_leave_ends_its_run_alone(self, bench: Bench, how: str, error: str) -> None:
        run = bench.run(work.leave, how=how)
        assert run.status is S.ERROR
        assert run.error is not None
        assert run.error.type == error
        assert bench.run(work.plus, one=1).result == 2

    def test_a_kill_reaches_a_process_that_looks(self, bench: Bench, tmp_path: Path) -> None:
        request = bench.file(work.step_until_killed, mark=tmp_path / "mark")
        written(tmp_path / "mark")
        (run,) = bench.scheduler.monitor.runs(request=request)
        bench.scheduler.kill(run.id)
        run = bench.end_of(request)
        assert run.status is S.KILLED
        assert run.reason == f"run {run.id} was asked to stop: a kill was asked for"

    def test_what_stops_for_its_scheduler_alone_was_not_killed(self, bench: Bench, tmp_path: Path) -> None:
        request = bench.file(work.step_until_killed, mark=tmp_path / "mark")
        written(tmp_path / "mark")
        assert bench.scheduler._life.engine is not None
        bench.scheduler._life.engine.stop_all(StopCause.SHUTDOWN)
        run = bench.end_of(request)
        assert (run.status, run.reason) == (S.ABANDONED, "its scheduler was shut down while it ran")

    def test_attempts_go_on_until_one_succeeds(self, bench: Bench) -> None:
        run = bench.run(work.flaky)
        assert (run.status, run.result, run.attempt) == (S.SUCCESS, 3, 3)
        assert [attempt.error.message for attempt in run.attempts if attempt.error] == ["not yet", "not yet"]
        assert [text for _, logger, text in bench.log(run) if logger == "bgsched.run"] == [
            f"attempt {attempt}" for attempt in (1, 2, 3)
        ]

    def test_a_time_that_is_over_ends_the_run_and_shows_where_it_stood(self, bench: Bench) -> None:
        run = bench.run(work.hang_too_long)
        assert (run.status, run.reason) == (S.TIMED_OUT, "it took longer than 0:00:00.200000")
        (line,) = [text for _, _, text in bench.log(run) if "it stood here" in text]
        assert "in hang_too_long" in line

    def test_an_async_process_runs_and_can_be_killed(self, bench: Bench, kind: str, tmp_path: Path) -> None:
        name = f"sleep in {kind}"
        bench.scheduler.process(name, executor=bench.executor)(work.sleep_async)
        assert bench.run(name).result == "slept"
        request = bench.file(name, mark=str(tmp_path / "mark"))
        written(tmp_path / "mark")
        bench.scheduler.kill(bench.scheduler.monitor.runs(request=request)[0].id)
        run = bench.end_of(request)
        assert (run.status, "worker was killed" in (run.reason or "")) == (S.KILLED, False)

    def test_an_async_process_that_fails_as_it_is_cancelled_was_killed(
        self, bench: Bench, kind: str, tmp_path: Path
    ) -> None:
        name = f"fail in {kind}"
        bench.scheduler.process(name, executor=bench.executor)(work.sleep_and_fail)
        request = bench.file(name, mark=str(tmp_path / "mark"))
        written(tmp_path / "mark")
        bench.scheduler.kill(bench.scheduler.monitor.runs(request=request)[0].id)
        run = bench.end_of(request)
        said = "it was asked to stop: a kill was asked for; it failed while it stopped"
        assert (run.status, run.reason, run.error and run.error.message) == (S.KILLED, said, "no way out")

    def test_a_process_may_have_its_own_executor(self, bench: Bench) -> None:
        assert bench.run(work.where_am_i).result == os.getpid()

    def test_what_has_no_name_of_its_own_is_pickled(self, bench: Bench, kind: str) -> None:
        bench.scheduler.process(f"half bare in {kind}")(work.half_bare)
        assert bench.run(f"half bare in {kind}", right=2).result == 3

    def test_many_runs_go_through(self, bench: Bench) -> None:
        requests = bench.scheduler.schedule_many([(work.plus, Immediate(), {"one": n}) for n in range(40)])
        assert [bench.end_of(request.id).result for request in requests] == list(range(1, 41))


@pytest.fixture(autouse=True)
def let_go_of_nothing() -> None:
    work.LET_GO.clear()


@pytest.fixture
def pool() -> Iterator[Bench]:
    """A scheduler with a pool of two OS processes."""
    bench = Bench(MemoryStore(), POOL(2))
    with bench.scheduler:
        yield bench
        bench.scheduler.shutdown(timeout=0)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def gone(pid: int) -> bool:
    """Whether an OS process that is none of our children ends."""
    pause = threading.Event()
    for _ in range(int(PATIENCE / 0.01)):
        if not is_alive(pid):
            return True
        pause.wait(0.01)
    return False


class TestProcessPool:
    def test_one_that_its_scheduler_alone_cuts_off_was_not_killed(self, pool: Bench, tmp_path: Path) -> None:
        request = pool.file(work.hang, mark=tmp_path / "mark")
        written(tmp_path / "mark")
        assert pool.scheduler._life.engine is not None
        pool.scheduler._life.engine.stop_all(StopCause.REAPED)
        assert pool.end_of(request).status is S.ABANDONED

    def test_a_kill_is_hard_and_spares_the_others(self, pool: Bench, tmp_path: Path) -> None:
        one, other = (pool.file(work.hang, mark=tmp_path / name) for name in ("one", "other"))
        pids = [int(written(tmp_path / name)) for name in ("one", "other")]
        pool.scheduler.kill(pool.scheduler.monitor.runs(request=one)[0].id)
        run = pool.end_of(one)
        assert (run.status, run.reason) == (
            S.KILLED,
            "it was asked to stop: a kill was asked for; it did not, and its worker was killed",
        )
        assert gone(pids[0])
        assert is_alive(pids[1])
        assert pool.run(work.plus, one=1).result == 2  # a new worker has its place
        assert pool.goes_on(other)

    @pytest.mark.parametrize(
        ("how", "message"),
        [
            ("exit", "ended before the run did: with exit code 7"),
            ("segfault", "ended before the run did: killed by SIGSEGV"),
            ("kill", "ended before the run did: killed by SIGKILL; the system kills so when memory runs out"),
        ],
    )
    def test_a_worker_that_dies_ends_its_own_run(self, pool: Bench, how: str, message: str, tmp_path: Path) -> None:
        other = pool.file(work.hang, mark=tmp_path / "mark")
        written(tmp_path / "mark")
        run = pool.run(work.die, how=how)
        assert run.status is S.ERROR
        assert run.error is not None
        assert run.error.type == "WorkerDiedError"
        assert run.error.message.endswith(message)
        assert ("INFO", "bgsched.run", "the last words") in pool.log(run)
        assert pool.goes_on(other)
        assert pool.scheduler.monitor.health().ok

    def test_one_of_the_standard_library_works_as_ours(self, tmp_path: Path) -> None:
        bench = Bench(MemoryStore(), ProcessPoolExecutor(2))
        with bench.scheduler:
            request = bench.file(work.hang, mark=tmp_path / "mark")
            pid = int(written(tmp_path / "mark"))
            assert bench.run(work.die, how="exit").status is S.ERROR
            assert is_alive(pid)
            bench.scheduler.kill(bench.scheduler.monitor.runs(request=request)[0].id)
            assert bench.end_of(request).status is S.KILLED

    def test_a_worker_killed_from_outside_is_an_error_of_its_run(self, pool: Bench, tmp_path: Path) -> None:
        request = pool.file(work.hang, mark=tmp_path / "mark")
        os.kill(int(written(tmp_path / "mark")), signal.SIGKILL)
        run = pool.end_of(request)
        assert run.status is S.ERROR
        assert run.error is not None
        assert run.error.type == "WorkerDiedError"

    def test_one_that_dies_with_nothing_to_do_is_replaced(self, pool: Bench) -> None:
        pid = pool.run(work.pid).result
        os.kill(pid, signal.SIGKILL)
        assert gone(pid)
        assert pool.run(work.plus, one=1).result == 2

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
    def test_a_child_that_comes_back_from_a_run_ends(self, pool: Bench) -> None:
        assert pool.run(work.fork).result == "parent"

    def test_a_run_whose_worker_died_is_tried_again(self, pool: Bench) -> None:
        run = pool.run(work.die_once)
        assert (run.status, run.result, run.attempt) == (S.SUCCESS, "alive", 2)

    @pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="only Linux has a handle that outlives the fork server")
    def test_a_worker_is_killed_that_multiprocessing_takes_for_ended(self) -> None:
        """So it takes all of them where a service manager has ended the fork server."""
        child = children._Child(ProcessPool(workers=1))
        vars(child.process._popen)["returncode"] = 255
        child.kill()
        assert child.post.receive() is None
        child.dismiss()

    def test_a_shutdown_leaves_nothing_behind(self, tmp_path: Path) -> None:
        before = set(multiprocessing.active_children())
        bench = Bench(MemoryStore(), POOL(2))
        with bench.scheduler:
            idle = bench.run(work.pid).result
            bench.file(work.hang, mark=tmp_path / "one")
            bench.file(work.hang, mark=tmp_path / "other")
            busy = [int(written(tmp_path / name)) for name in ("one", "other")]
            left = bench.scheduler.shutdown(timeout=0).left
        assert {run.status for run in left} == {S.ABANDONED}
        assert all(gone(pid) for pid in (idle, *busy))
        assert set(multiprocessing.active_children()) <= before
        assert [thread.name for thread in threading.enumerate() if thread.name.startswith("bgsched-run")] == []

    def test_what_others_may_run_again_is_over_by_then(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The worker of a run that does not stop has ended before the shutdown signs off, which gives the run away."""
        bench, store_signs_off = Bench(MemoryStore(), POOL(1)), MemoryStore.sign_off
        lived: list[bool] = []

        def sign_off(store: MemoryStore, *words: Any) -> Any:
            lived.append(not gone(busy))
            return store_signs_off(store, *words)

        monkeypatch.setattr(MemoryStore, "sign_off", sign_off)
        with bench.scheduler:
            bench.file(work.hang, mark=tmp_path / "mark")
            busy = int(written(tmp_path / "mark"))
            (left,) = bench.scheduler.shutdown(timeout=0).left
        assert lived == [False]
        assert left.status is S.ABANDONED

    def test_workers_end_when_the_host_is_killed(self, tmp_path: Path) -> None:
        script = (
            "import _executor_processes as work\n"
            "from bgsched import Immediate, ProcessPool, Scheduler\n"
            "if __name__ == '__main__':\n"
            "    with Scheduler(processes=work.registry, executor=ProcessPool(1)) as scheduler:\n"
            f"        scheduler.schedule(work.hang, Immediate(), {{'mark': {str(tmp_path / 'mark')!r}}})\n"
            "        input()\n"
        )
        (tmp_path / "host.py").write_text(script)
        host = start_host(tmp_path / "host.py", stdin=subprocess.PIPE)
        pid = int(written(tmp_path / "mark"))
        host.kill()
        host.communicate()
        assert gone(pid)

    def test_so_they_do_when_a_fork_of_the_host_lives_on(self, tmp_path: Path) -> None:
        script = (
            "import os, sys, _executor_processes as work\n"
            "from bgsched import Immediate, ProcessPool, Scheduler\n"
            "if __name__ == '__main__':\n"
            "    with Scheduler(processes=work.registry, executor=ProcessPool(1)) as scheduler:\n"
            f"        scheduler.schedule(work.hang, Immediate(), {{'mark': {str(tmp_path / 'mark')!r}}})\n"
            "        assert sys.stdin.readline() == 'fork\\n'\n"
            "        os.fork()\n"
            "        os.write(1, b'forked\\n')\n"
            "        os.read(0, 1)\n"
            "        os._exit(0)\n"
        )
        (tmp_path / "host.py").write_text(script)
        host = start_host(tmp_path / "host.py", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert host.stdin is not None
        assert host.stdout is not None
        pid = int(written(tmp_path / "mark"))
        host.stdin.write("fork\n")
        host.stdin.flush()
        assert [host.stdout.readline() for _ in range(2)] == ["forked\n"] * 2
        host.kill()
        host.wait(PATIENCE)
        try:
            assert gone(pid)
        finally:
            host.communicate()  # the fork ends with its input

    def test_a_main_module_without_a_guard_is_told(self, tmp_path: Path) -> None:
        script = (
            "import threading, _executor_processes as work\n"
            "from bgsched import Immediate, ProcessPool, RunFinished, Scheduler\n"
            "scheduler = Scheduler(processes=work.registry, executor=ProcessPool(1, start_method='spawn'))\n"
            "over = threading.Event()\n"
            "scheduler.on(RunFinished, lambda _: over.set())\n"
            "with scheduler:\n"
            "    scheduler.schedule(work.plus, Immediate(), {'one': 1})\n"
            "    over.wait()\n"
            "print(scheduler.monitor.runs()[0].error.message)\n"
        )
        (tmp_path / "host.py").write_text(script)
        said, complaint = start_host(tmp_path / "host.py", stdout=subprocess.PIPE, stderr=subprocess.PIPE).communicate()
        assert "ended before it took the run; what it says stands on standard error: with exit code 1" in said
        assert "put start() under if __name__ == '__main__':" in complaint

    def test_a_worker_starts_no_scheduler_and_says_what_a_memory_store_cannot(self, pool: Bench) -> None:
        pool.scheduler.add(Process(work.file_and_start.function, name="file-and-start"))
        run = pool.run("file-and-start")
        texts = [text for _, _, text in pool.log(run)]
        assert run.status is S.SUCCESS, texts
        assert texts == [
            "no scheduler starts in a worker process: it only executes runs",
            "a MemoryStore is not shared between OS processes: nobody runs what is filed in a worker; "  # noqa: ISC004
            "use a SQLiteStore",
        ]

    def test_an_initializer_comes_first_and_workers_may_be_used_up(self, tmp_path: Path) -> None:
        mark = tmp_path / "mark"
        pool = POOL(1, initializer=work.greet_first, initargs=(str(mark),), runs_per_worker=1)
        bench = Bench(MemoryStore(), pool)
        with bench.scheduler:
            assert bench.run(work.greeted).result == "yes"
            assert mark.read_text() == "hello"
            assert bench.run(work.pid).result != bench.run(work.pid).result

    def test_around_hooks_are_there_too(self) -> None:
        bench = Bench(MemoryStore(), POOL(1), around=work.office)
        with bench.scheduler:
            run = bench.run(work.plus, one=1)
        assert [text for _, _, text in bench.log(run)] == ["the door opens", "plus 1", "the door closes"]

    def test_one_that_cannot_go_along_and_was_added_later_is_an_error_of_each_run(self, pool: Bench) -> None:
        request = pool.scheduler.schedule(work.plus, Later(datetime.now(UTC) + timedelta(hours=1)), {"one": 1}).id
        pool.scheduler.around(lambda _: ExitStack())
        pool.scheduler.run_now(request)
        run = pool.end_of(request)
        assert run.error is not None
        assert run.error.type == "ExecutorError"

    def test_a_pass_by_hand_waits_for_it(self) -> None:
        scheduler = Scheduler(processes=work.registry, executor=POOL(1))
        scheduler.schedule(work.plus, Immediate(), {"one": 1})
        scheduler.run_until_idle()
        assert scheduler.monitor.runs()[0].result == 2
        scheduler.shutdown()

    @pytest.mark.parametrize("url", ["sqlite", "postgres"])
    def test_any_scheduler_of_a_store_sees_the_log_and_kills(
        self, url: str, tmp_path: Path, request: pytest.FixtureRequest
    ) -> None:
        def opened() -> Store:
            if url == "sqlite":
                return SQLiteStore(tmp_path / "app.db")
            dsn, schema = request.getfixturevalue("postgres_dsn"), request.getfixturevalue("postgres_schema")
            return PostgresStore(dsn, schema=schema)

        bench = Bench(opened(), POOL(1))
        other = Scheduler(opened(), execute=False)
        with bench.scheduler:
            filed = bench.file(work.say_and_hang, mark=tmp_path / "mark")
            written(tmp_path / "mark")
            run_id = other.monitor.runs(request=filed)[0].id
            assert next(iter(other.monitor.follow(run_id))).text == "I hang"
            other.kill(run_id)
            assert bench.end_of(filed).status is S.KILLED
        bench.scheduler.store.close()
        other.store.close()


def start_host(script: Path, **streams: Any) -> "subprocess.Popen[str]":
    """Start a host application that finds the modules of the tests."""
    surroundings = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    return subprocess.Popen([sys.executable, script], text=True, env=surroundings, **streams)


def a_closure() -> Callable[[], None]:
    def inner() -> None: ...

    return inner


def shadowed() -> None: ...


SHADOWED = shadowed


def shadowed() -> None: ...  # type: ignore[no-redef]  # that is the point


class TestRefusals:
    @pytest.mark.parametrize("where", [ProcessPool(1), RemoteExecutor(ThreadPoolExecutor(1))])
    @pytest.mark.parametrize(
        ("function", "message"),
        [
            (a_closure(), "test_executors.a_closure.<locals>.inner is defined inside another function"),
            (lambda: None, "is a lambda"),
            (SHADOWED, "something else is found at test_executors.shadowed"),
            (functools.partial(a_closure()), "its function cannot be pickled"),
        ],
    )
    def test_a_function_that_cannot_travel_is_refused_when_scheduled(
        self, where: Any, function: Callable[[], None], message: str
    ) -> None:
        scheduler = Scheduler(executor=where)
        scheduler.process("p")(function)
        with pytest.raises(ExecutorError) as refusal:
            scheduler.schedule("p", Immediate())
        said = str(refusal.value)
        assert said.startswith(f"process 'p': cannot run in {where!r}: ")
        assert message in said
        assert said.endswith(
            "define its function, and the hooks around it, at the top of a module, "
            "or write executor='threads' for this process"
        )

    def test_so_is_one_whose_timing_is_declared(self) -> None:
        scheduler = Scheduler(executor=ProcessPool(1))
        scheduler.process("p", timing=Schedule(Daily(at="02:00")))(a_closure())
        with pytest.raises(ExecutorError, match="defined inside another function"):
            scheduler.start()

    def test_one_of_a_module_that_is_imported_later_is_declared(self) -> None:
        """While its decorator is at work, nothing is found yet under the name of the function."""

        def later() -> None: ...

        later.__module__, later.__qualname__ = work.__name__, "later"
        with Scheduler(executor=ProcessPool(1)) as scheduler:
            scheduler.process("p", timing=Schedule(Daily(at="02:00")))(later)
            assert [request.id for request in scheduler.monitor.requests()] == ["p"]

    def test_so_is_a_hook(self) -> None:
        scheduler = Scheduler(processes=work.registry, executor=ProcessPool(1), around=lambda _: ExitStack())
        with pytest.raises(ExecutorError, match=r"the hook <function .*<lambda> .*> around it cannot be pickled"):
            scheduler.schedule(work.plus, Immediate(), {"one": 1})

    def test_the_spans_of_opentelemetry_go_along(self) -> None:
        check_travels(work.plus, Hooks(span_per_run()), ProcessPool(1))

    def test_it_may_stay_on_threads(self) -> None:
        scheduler = Scheduler(executor=ProcessPool(1))
        scheduler.process("p", executor="threads")(a_closure())
        scheduler.schedule("p", Immediate())
        scheduler.run_until_idle()
        assert scheduler.monitor.runs()[0].status is S.SUCCESS

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: ProcessPool(0), "workers must be a whole number from 1 to 2147483647, got 0"),
            (
                lambda: ProcessPool(1, runs_per_worker=0),
                "runs_per_worker must be a whole number from 1 to 2147483647, got 0",
            ),
            (lambda: ProcessPool(1, grace=2), "grace must be a timedelta that is not negative, got 2"),  # type: ignore[arg-type]
            (lambda: ProcessPool(1, start_method="fork"), "write 'forkserver' or 'spawn'"),  # type: ignore[arg-type]
            (lambda: ProcessPool(1, start_method="dream"), "start_method must be 'spawn'"),  # type: ignore[arg-type]
            (lambda: ProcessPool(1, initializer="x"), "initializer must be a function, got 'x'"),  # type: ignore[arg-type]
            (lambda: RemoteExecutor(3), "executor must be a concurrent.futures.Executor, got 3"),  # type: ignore[arg-type]
            (lambda: RemoteExecutor(ThreadPoolExecutor(1), port=70_000), "port must be 0..65535, got 70000"),
            (
                lambda: RemoteExecutor(ThreadPoolExecutor(1), workers=0),
                "workers must be a whole number from 1 to 2147483647, got 0",
            ),
            (lambda: Scheduler(executor=3), "executor must be ProcessPool(...), a concurrent.futures.Executor"),  # type: ignore[arg-type]
            (lambda: ProcessRegistry().process(executor="pool"), "or 'threads', got 'pool'"),  # type: ignore[call-overload]
        ],
    )
    def test_settings_without_a_meaning_are_refused(self, make: Callable[[], object], message: str) -> None:
        with pytest.raises(ValueError, match=re.escape(message)):
            make()

    def test_a_group_takes_none(self) -> None:
        with pytest.raises(TypeError, match="no option 'executor'"):
            ProcessGroup("g", ["p"], executor=ProcessPool(1))  # type: ignore[call-arg]


def test_a_pool_of_the_standard_library_is_taken_as_settings() -> None:
    given = ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("spawn"), max_tasks_per_child=5)
    taken = chosen(given)
    assert isinstance(taken, ProcessPool)
    assert (taken.workers, taken.start_method, taken.runs_per_worker) == (3, "spawn", 5)
    forked = chosen(ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork"), initializer=a_closure))
    assert isinstance(forked, ProcessPool)
    assert (forked.start_method, forked.initializer) == (ProcessPool(1).start_method, a_closure)


class Elsewhere(Executor):
    """Does with what it is given what a test wants."""

    def __init__(self, do: "Callable[[Future[Any], Callable[..., Any], Any], None]") -> None:
        self._do = do

    def submit(self, function: Any, /, *given: Any, **_: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        self._do(future, function, given)
        return future


class TestElsewhere:
    def test_one_that_gives_a_run_away_twice_has_it_run_once(self) -> None:
        """As Dask does when a worker died."""
        workers: list[threading.Thread] = []

        def twice(future: "Future[Any]", function: Callable[..., Any], given: Any) -> None:
            def work_twice() -> None:
                function(*given)
                function(*given)
                future.set_result(None)

            workers.append(threading.Thread(target=work_twice))
            workers[0].start()

        bench = Bench(MemoryStore(), Elsewhere(twice))
        with bench.scheduler:
            run = bench.run(work.plus, one=1)
            workers[0].join(PATIENCE)  # a scheduler that is gone answers nobody
        assert [text for _, logger, text in bench.log(run) if logger == "bgsched.run"] == ["plus 1"]

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
    @pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
    def test_a_child_of_a_worker_says_nothing_in_its_place(self) -> None:
        here, there = multiprocessing.Pipe()
        with here, there:
            post = Post(there)
            if not (child := os.fork()):
                try:
                    post.send("of the child")
                finally:
                    os._exit(0)
            os.waitpid(child, 0)
            post.send("of the worker")
            assert Post(here).receive() == ["of the worker"]

    def test_a_connection_is_closed_when_nobody_reads_from_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its number goes to the next connection of the worker, and who still read by it would take what is not his."""
        readers: list[list[str]] = []

        class Watched(Connection):
            def close(self) -> None:
                readers.append([thread.name for thread in threading.enumerate() if thread.name == "bgsched-bench"])
                super().close()

        workers: list[threading.Thread] = []

        def once(future: "Future[Any]", function: Callable[..., Any], given: Any) -> None:
            def work_once() -> None:
                function(*given)
                future.set_result(None)

            workers.append(threading.Thread(target=work_once))
            workers[-1].start()

        called = foreign._called

        def watched(*to: Any) -> Watched:
            with called(*to) as connection:
                return Watched(os.dup(connection.fileno()))

        monkeypatch.setattr(foreign, "_called", watched)
        bench = Bench(MemoryStore(), Elsewhere(once))

        def plus(one: int) -> object:
            result = bench.run(work.plus, one=one).result
            workers[-1].join()  # its last step is to close, and the next one's reader is not its own
            return result

        with bench.scheduler:
            assert [plus(one) for one in range(10)] == list(range(1, 11))
        assert readers == [[]] * 10

    def test_one_that_gives_a_run_away_again_has_seen_its_worker_die(self, tmp_path: Path) -> None:
        """A machine that lost its power says nothing; Dask misses it before its connection does."""
        calls: list[Callable[[], None]] = []

        def call(_: "Future[Any]", function: Callable[..., Any], given: Any) -> None:
            calls.append(functools.partial(function, *given))
            threading.Thread(target=calls[0], daemon=True).start()

        bench = Bench(MemoryStore(), Elsewhere(call))
        with bench.scheduler:
            request = bench.file(work.hang, mark=tmp_path / "mark")
            written(tmp_path / "mark")
            calls[0]()
            run = bench.end_of(request)
        work.LET_GO.set()
        assert run.status is S.ERROR
        assert run.error is not None
        assert run.error.type == "WorkerDiedError"

    def test_a_shutdown_does_not_wait_for_who_does_not_look(self, tmp_path: Path) -> None:
        workers: list[threading.Thread] = []

        def call(_: "Future[Any]", function: Callable[..., Any], given: Any) -> None:
            workers.append(threading.Thread(target=function, args=given, daemon=True))
            workers[0].start()

        bench = Bench(MemoryStore(), Elsewhere(call))
        with bench.scheduler:
            bench.file(work.hang, mark=tmp_path / "mark")
            written(tmp_path / "mark")
            (left,) = bench.scheduler.shutdown(timeout=0).left
        assert left.status is S.ABANDONED
        assert workers[0].is_alive()
        work.LET_GO.set()
        workers[0].join(PATIENCE)
        assert not workers[0].is_alive()

    def test_one_that_was_killed_and_past_its_time_is_left_to_its_worker(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def call(_: "Future[Any]", function: Callable[..., Any], given: Any) -> None:
            threading.Thread(target=function, args=given, daemon=True).start()

        monkeypatch.setattr(foreign, "_GRACE", timedelta(0))
        bench = Bench(MemoryStore(), Elsewhere(call))
        with bench.scheduler:
            request = bench.file(work.hang, mark=tmp_path / "mark")
            written(tmp_path / "mark")
            (live,) = bench.scheduler._life.live_runs
            live.overdue = True
            bench.scheduler.kill(live.run.id)
            run = bench.end_of(request)
        work.LET_GO.set()
        said = "it was asked to stop: a kill was asked for; it did not, and its worker was left to itself"
        assert (run.status, run.reason) == (S.KILLED, said)

    def test_one_that_gives_a_run_back_is_asked_again(self) -> None:
        asked: list[int] = []

        def second_time(future: "Future[Any]", function: Callable[..., Any], given: Any) -> None:
            asked.append(1)
            if len(asked) == 1:
                future.cancel()
            else:
                threading.Thread(target=lambda: future.set_result(function(*given))).start()

        bench = Bench(MemoryStore(), Elsewhere(second_time))
        with bench.scheduler:
            assert bench.run(work.plus, one=1).result == 2
        assert len(asked) == 2

    def test_threads_of_the_host_that_were_shut_down_are_an_error(self, tmp_path: Path) -> None:
        with ThreadPoolExecutor(2) as threads:
            bench = Bench(MemoryStore(), threads)
            with bench.scheduler:
                first = bench.file(work.hang, mark=tmp_path / "mark")
                written(tmp_path / "mark")
                threads.shutdown(wait=False)
                run = bench.run(work.plus, one=1)
                work.LET_GO.set()
                assert bench.end_of(first).status is S.SUCCESS
        assert run.error is not None
        assert run.error.message == "cannot schedule new futures after shutdown"

    def test_threads_of_the_host_that_cannot_begin_are_an_error(self) -> None:
        """The first run is in their queue when their initializer fails; the next ones are not taken."""

        def fail() -> None:
            raise OSError("no licence left")

        with ThreadPoolExecutor(2, initializer=fail) as threads:
            bench = Bench(MemoryStore(), threads)
            with bench.scheduler:
                for run in (bench.run(work.plus, one=1), bench.run(work.plus, one=1)):
                    assert run.status is S.ERROR
                    assert run.error is not None
                    assert run.error.type == "BrokenThreadPool"

    @pytest.mark.parametrize("where", ["host threads", "elsewhere"])
    @pytest.mark.parametrize("inline", [False, True], ids=["started", "run_pending"])
    def test_what_waits_for_a_busy_executor_is_killed_and_put_back(self, where: str, *, inline: bool) -> None:
        """The host does something else there, for as long as it likes."""
        with busy_threads() as (threads, came):
            store = MemoryStore()
            bench = Bench(store, threads if where == "host threads" else RemoteExecutor(threads))
            first, second = (bench.file(work.plus, one=number) for number in (1, 2))
            host = threading.Thread(target=bench.scheduler.run_pending)
            if inline:
                host.start()
            else:
                bench.scheduler.start()
            assert came.acquire(timeout=PATIENCE)
            (run,) = bench.scheduler.monitor.runs(request=first)
            bench.scheduler.kill(run.id)
            assert bench.end_of(first).status is S.KILLED
            assert came.acquire(timeout=PATIENCE)
            bench.scheduler.pause()
            with (other := Bench(store, None)).scheduler:
                assert other.end_of(second).result == 3
            if inline:
                host.join(PATIENCE)
                assert not host.is_alive()
            assert bench.scheduler.shutdown().clean

    @pytest.mark.parametrize("how", ["it fails", "nobody calls", "it is not taken"])
    def test_what_fails_on_the_way_ends_the_run(self, how: str) -> None:
        def lose(future: "Future[Any]", *_: Any) -> None:
            if how == "it is not taken":
                raise RuntimeError("cannot schedule new futures after shutdown")
            if how == "it fails":
                future.set_exception(OSError("the cluster is gone"))
            else:
                future.set_result(None)

        bench = Bench(MemoryStore(), Elsewhere(lose))
        with bench.scheduler:
            run = bench.run(work.plus, one=1)
        assert run.status is S.ERROR
        assert run.error is not None
        assert (
            run.error.message
            == {
                "it fails": "the cluster is gone",
                "nobody calls": "its worker never called for it",
                "it is not taken": "cannot schedule new futures after shutdown",
            }[how]
        )

    def test_a_port_that_is_taken_ends_the_runs_that_need_it_and_no_other(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as door, ThreadPoolExecutor(1) as threads:
            there = RemoteExecutor(threads, port=door.getsockname()[1])
            bench = Bench(MemoryStore(), there)
            bench.scheduler.process("here", executor="threads")(work.bare)
            with bench.scheduler:
                run = bench.run(work.plus, one=1)
                assert bench.run("here", left=1, right=1).status is S.SUCCESS
        assert run.status is S.ERROR
        assert run.error is not None
        assert "Address already in use" in run.error.message

    def test_one_object_is_one_pool(self) -> None:
        """Whether it is the scheduler's or a process's; an async process stays on the event loop."""
        pool = ProcessPoolExecutor(1)
        scheduler = Scheduler(executor=pool)
        places: list[tuple[Any, Any]] = [(work.bare, None), (work.bare, pool), (work.sleep_async, pool)]
        lanes = [scheduler._life.crew.lane(Process(function, name="p", executor=given)) for function, given in places]
        assert len(set(lanes)) == 1
        assert scheduler._life.crew.lane(Process(work.sleep_async, name="p")) is Pool.ASYNC

    def test_a_kill_before_it_began_takes_it_back(self) -> None:
        given: list[Future[Any]] = []
        bench = Bench(MemoryStore(), Elsewhere(lambda future, *_: given.append(future)))
        with bench.scheduler:
            request = bench.file(work.plus, one=1)
            pause = threading.Event()
            while not given:
                pause.wait(0.01)
            bench.scheduler.kill(bench.scheduler.monitor.runs(request=request)[0].id)
            run = bench.end_of(request)
        assert (run.status, run.reason) == (S.KILLED, "it was asked to stop: a kill was asked for before it began")
        assert given[0].cancelled()

    def test_a_stranger_who_calls_learns_nothing(self) -> None:
        addresses: list[Any] = []
        bench = Bench(MemoryStore(), Elsewhere(lambda future, _, given: addresses.append((future, *given))))
        with bench.scheduler:
            bench.file(work.plus, one=1)
            pause = threading.Event()
            while not addresses:
                pause.wait(0.01)
            _, address, _, token = addresses[0]
            with pytest.raises(multiprocessing.AuthenticationError):
                call_back(address, b"another key", token)
            with pytest.raises(WorkerDiedError, match=r"cannot reach the scheduler at 127.0.0.1:1 .*host="):
                call_back(("127.0.0.1", 1), b"", token)
            bench.scheduler.shutdown(timeout=0)

    def test_a_worker_that_dies_ends_its_run(self) -> None:
        context = multiprocessing.get_context("forkserver" if sys.platform == "linux" else "spawn")
        bench = Bench(MemoryStore(), RemoteExecutor(ProcessPoolExecutor(1, mp_context=context)))
        with bench.scheduler:
            run = bench.run(work.die, how="exit")
        assert run.status is S.ERROR
        assert run.error is not None
        assert re.search(r"the worker \(.*, OS process \d+\) ended before the run did", run.error.message)
        assert ("INFO", "bgsched.run", "the last words") in bench.log(run)


def storm(count: int, tmp_path: Path) -> None:
    """Let a pool run what succeeds, dies, hangs and is killed, all at once; each must come to its own end, once."""
    store = SQLiteStore(tmp_path / "app.db")
    bench = Bench(store, ProcessPool(4, grace=timedelta(0)))
    kinds: list[tuple[Any, dict[str, Any], RunStatus]] = [
        (work.plus, {"one": 1}, S.SUCCESS),
        (work.die, {"how": "kill"}, S.ERROR),
        (work.die, {"how": "exit"}, S.ERROR),
        (work.hang_too_long, {}, S.TIMED_OUT),
        (work.hang, {"mark": "mark"}, S.KILLED),
        (work.die_once, {}, S.SUCCESS),
    ]
    with bench.scheduler:
        wanted: dict[str, RunStatus] = {}
        for number in range(count):
            process, params, status = kinds[number % len(kinds)]
            params = {name: tmp_path / str(number) if name == "mark" else value for name, value in params.items()}
            wanted[bench.file(process, **params)] = status
        for request, status in wanted.items():
            if status is S.KILLED:
                written(Path(bench.scheduler.monitor.request(request).params["mark"]))
                bench.scheduler.kill(bench.scheduler.monitor.runs(request=request)[0].id)
        ends = {request: bench.end_of(request).status for request in wanted}
        runs = bench.scheduler.monitor.runs(limit=2 * count)
    assert ends == wanted
    assert len(runs) == count
    store.close()


def test_whatever_happens_to_workers_each_run_has_its_own_end(tmp_path: Path) -> None:
    storm(12, tmp_path)


def test_a_finalizer_that_logs_while_a_line_goes_out_comes_after_it() -> None:
    sent: list[bytes] = []

    class Pipe:
        def send_bytes(self, data: bytes) -> None:
            if not sent:
                sent.append(b"[")
                post.send("from within")
            sent.append(data)

    post = Post(Pipe())  # type: ignore[arg-type]  # all that is used here
    thread = threading.Thread(target=post.send, args=("line",), kwargs={"then": b"more"}, daemon=True)
    thread.start()
    thread.join(20)
    assert sent == [b"[", b'["line"]', b"more", b'["from within"]']


@pytest.mark.slow
def test_whatever_happens_to_many_workers(tmp_path: Path) -> None:
    storm(120, tmp_path)
