"""What a type checker must accept and must refuse, written as a user writes it.

Pyright reads this file, nothing runs it. A line that must be refused carries the error it must get; an ignore that
ignores nothing is an error of its own (`reportUnnecessaryTypeIgnoreComment`), so whatever becomes too lenient is found.
"""

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, assert_type

import bgsched
from bgsched import (
    FR,
    WEEKDAYS,
    Cron,
    CurrentRun,
    Daily,
    EverySeconds,
    Health,
    Immediate,
    Later,
    LogLine,
    MemoryStore,
    Monitor,
    Monthly,
    Overlap,
    Page,
    PostgresStore,
    Process,
    ProcessGroup,
    ProcessPool,
    ProcessRegistry,
    Progress,
    Request,
    RequestStatus,
    Retry,
    Run,
    RunError,
    RunFinished,
    RunStarted,
    RunStatus,
    Schedule,
    Scheduler,
    ShutdownReport,
    SQLiteStore,
    Store,
    StoreReader,
    Summary,
    Timing,
    Weekly,
    current_run,
    open_store,
)
from bgsched.testing import ManualClock

scheduler = Scheduler("sqlite:///app.db", workers=4, timezone="Europe/Madrid", clock=ManualClock())
registry = ProcessRegistry()


# -- names are known, and those that are misspelled are not ----------------------------------------------------------

assert_type(bgsched.PostgresStore, type[PostgresStore])
Scheduler(bgsched.MemorySture())  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownArgumentType]


# -- a decorated function keeps its type ---------------------------------------------------------------------------


@scheduler.process
def count(file: str, *, strict: bool = False) -> int:
    return len(file) + strict


@scheduler.process(
    "send-invoices",
    timing=Schedule(Daily(at="02:00", on=WEEKDAYS), timezone="Europe/Madrid"),
    overlap=Overlap.SKIP,
    overlap_scope=("company",),
    misfire="run_once",
    misfire_grace=timedelta(minutes=5),
    retry=Retry(attempts=3, delay=timedelta(seconds=10), backoff=2.0),
    timeout=timedelta(minutes=30),
    after=count,
    executor=ProcessPool(2, grace=timedelta(seconds=5)),
)
def send_invoices(company: str = "all") -> list[str]:
    return [company]


@registry.process("later")
async def later(seconds: float) -> None: ...


@registry.process
def rebuild_index(*, full: bool = False) -> None: ...


@scheduler.process
def announce(timing: str) -> None: ...


@scheduler.process
async def ask(host: str, **more: int) -> bytes:
    return host.encode()


@scheduler.process("with-timing", timing=Schedule((Daily(at="02:00"), Cron("30 4 * * 1"))), on_abandon="rerun")
async def with_timing() -> None: ...


assert_type(count("orders.csv"), int)
assert_type(count("orders.csv", strict=True), int)
assert_type(send_invoices(), list[str])
assert_type(count.name, str)
as_callable: Callable[[str], int] = count


async def awaits() -> None:
    assert_type(await ask("db", port=5432), bytes)
    await later(1.5)
    await later("soon")  # pyright: ignore[reportArgumentType]
    assert_type(rebuild_index(full=True), None)


ask("db", port="high")  # pyright: ignore[reportArgumentType, reportUnusedCoroutine]
rebuild_index(1)  # pyright: ignore[reportCallIssue]

count(3)  # pyright: ignore[reportArgumentType]
count()  # pyright: ignore[reportCallIssue]
count("orders.csv", strct=True)  # pyright: ignore[reportCallIssue]
wrong: str = count("orders.csv")  # pyright: ignore[reportAssignmentType]


# -- options are checked -------------------------------------------------------------------------------------------

scheduler.process("a", overlap="skpi")  # pyright: ignore[reportArgumentType]
scheduler.process("b", timeout=30)  # pyright: ignore[reportArgumentType]
scheduler.process("c", retries=3)  # pyright: ignore[reportCallIssue]
scheduler.process("d", timing=EverySeconds(1))  # pyright: ignore[reportArgumentType]
scheduler.process("e", executor="pool")  # pyright: ignore[reportArgumentType]
Scheduler(executor=ProcessPoolExecutor(4))
Scheduler(executor=4)  # pyright: ignore[reportArgumentType]
ProcessPool(2, start_method="fork")  # pyright: ignore[reportArgumentType]


# -- .schedule takes what the function takes -----------------------------------------------------------------------

assert_type(count.schedule(Immediate(), "orders.csv"), Request)
assert_type(count.schedule(Immediate(), file="orders.csv", strict=True), Request)
assert_type(later.schedule(Later(datetime(2026, 1, 1, tzinfo=UTC)), seconds=1.5), Request)

assert_type(ask.schedule(Immediate(), "db", port=5432), Request)
assert_type(rebuild_index.schedule(Schedule(Daily(at="03:00")), full=True), Request)
assert_type(with_timing.schedule(Immediate()), Request)
assert_type(announce.schedule(Immediate(), timing="daily"), Request)

later.schedule(Immediate(), "soon")  # pyright: ignore[reportArgumentType]
rebuild_index.schedule(Immediate(), 1)  # pyright: ignore[reportCallIssue]
with_timing.schedule(Immediate(), 1)  # pyright: ignore[reportCallIssue]
count.schedule(Daily(at="03:00"), "orders.csv")  # pyright: ignore[reportArgumentType]
count.schedule(file="orders.csv")  # pyright: ignore[reportCallIssue]
count.schedule(Immediate(), 3)  # pyright: ignore[reportArgumentType]
count.schedule(Immediate())  # pyright: ignore[reportCallIssue]
count.schedule(Immediate(), fiel="orders.csv")  # pyright: ignore[reportCallIssue]
count.schedule("now", "orders.csv")  # pyright: ignore[reportArgumentType]


# -- timings -------------------------------------------------------------------------------------------------------

timings: list[Timing] = [
    Immediate(),
    Later(datetime(2026, 1, 1, 9), timezone="Europe/Madrid"),
    Schedule(EverySeconds(5), repetitions=3, jitter=timedelta(seconds=1)),
    Schedule((Weekly("mon fri", at="09:00"), Monthly(on=FR(-1))), exclude=()),
    Schedule(Cron("30 2 * * 1-5")),
]
for timing in timings:
    assert_type(timing.next_fire_time(datetime.now(UTC)), datetime | None)
    assert_type(timing.fire_times(datetime.now(UTC)), Iterator[datetime])
    assert_type(timing.describe(), str)


# -- the scheduler -------------------------------------------------------------------------------------------------

assert_type(scheduler.schedule("count", Immediate(), {"file": "orders.csv"}, id="one", user="ann"), Request)
assert_type(scheduler.schedule(count, Immediate(), {"file": "orders.csv"}), Request)
assert_type(scheduler.schedule_many([(count, Immediate(), {"file": "a"}), ("count", Immediate(), None)]), list[Request])
assert_type(scheduler.unschedule("one"), Request)
assert_type(scheduler.reschedule("one", Immediate(), params={"file": "b"}), Request)
assert_type(scheduler.run_now(send_invoices, params={"company": "acme"}), Request)
assert_type(scheduler.kill(7), Run)
assert_type(scheduler.run_pending(), datetime | None)
assert_type(scheduler.run_until_idle(), datetime | None)
assert_type(scheduler.shutdown(timeout=5), ShutdownReport)
with Scheduler(processes=registry) as started:
    assert_type(started, Scheduler)

assert_type(registry.add(ProcessGroup("month-end", [count, ("later", {"seconds": 1.5})])), ProcessGroup)
assert_type(scheduler.add(ProcessGroup("other", [count])).schedule(Immediate()), Request)
assert_type(list(registry), list[Process[Any, Any]])


def hear(event: RunFinished) -> None:
    assert_type(event.run, Run)


@contextmanager
def watched(run: CurrentRun) -> Generator[None]:
    yield


assert_type(scheduler.on(RunFinished, hear), Callable[[], None])
assert_type(scheduler.around(watched), Callable[[], None])
scheduler.on(RunStarted, hear)  # pyright: ignore[reportArgumentType]
Scheduler(Path("app.db"))  # pyright: ignore[reportArgumentType]
scheduler.schedule("count", "now")  # pyright: ignore[reportArgumentType]
scheduler.schedule("count", Immediate(), ["a"])  # pyright: ignore[reportArgumentType]
scheduler.kill("7")  # pyright: ignore[reportArgumentType]
scheduler.unschedule(7)  # pyright: ignore[reportArgumentType]
Scheduler(workers="four")  # pyright: ignore[reportArgumentType]


# -- inside a run --------------------------------------------------------------------------------------------------


def inside() -> None:
    run = current_run()
    assert_type(run, CurrentRun)
    assert_type(current_run(default=None), CurrentRun | None)
    assert_type(run.id, int)
    assert_type(run.attempt, int)
    assert_type(run.fire_time, datetime)
    for line in run.track(["a", "b"]):
        assert_type(line, str)
    run.progress(1, 2, "half")
    run.log.info("%s", "text")
    run.id = 3  # pyright: ignore[reportAttributeAccessIssue]


# -- the monitor answers, and has nothing that writes ---------------------------------------------------------------

monitor = Monitor("sqlite:///app.db")
assert_type(scheduler.monitor, Monitor)
assert_type(monitor.runs(status=["error", RunStatus.TIMED_OUT], since=datetime.now(UTC)), Page)
newest: list[Run] = monitor.runs()
assert_type(monitor.run(1), Run)
assert_type(monitor.log(1), list[LogLine])
assert_type(monitor.follow(1), Iterator[LogLine])
assert_type(monitor.requests(status=RequestStatus.SCHEDULED), list[Request])
assert_type(monitor.upcoming(5), list[Request])
assert_type(monitor.request("one").timing.first_fire_time(datetime.now(UTC)), datetime | None)
assert_type(list(monitor.request("one").timing.fire_times(datetime.now(UTC))), list[datetime])
assert_type(monitor.summary(), Summary)
assert_type(monitor.health(), Health)
assert_type(monitor.why("one"), str)

run = monitor.run(1)
assert_type(run.started_at, datetime | None)
assert_type(run.duration, timedelta | None)
assert_type(run.error, RunError | None)
assert_type(run.progress, Progress | None)
assert_type(run.to_dict(), dict[str, Any])
run.status = RunStatus.SUCCESS  # pyright: ignore[reportAttributeAccessIssue]

monitor.schedule("count", Immediate())  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
monitor.unschedule("one")  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
monitor.kill(1)  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
monitor.delete("one")  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]


# -- a store and its reading half ----------------------------------------------------------------------------------

store: Store = open_store("sqlite:///app.db")
shared: Store = PostgresStore("postgresql://host/database", schema="shop")
reader: StoreReader = SQLiteStore("app.db").reader()
Monitor(reader)
Monitor(MemoryStore())
reader.transaction()  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
reader.kill(1, datetime.now(UTC))  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
