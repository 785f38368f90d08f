"""Processes and requests as they are registered and filed, and what is refused."""

import functools
import gc
import math
import threading
import weakref
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from scheduler._asked import PATIENCE, T0, runs_of

from bgsched import (
    Daily,
    EveryMinutes,
    Immediate,
    Later,
    MemoryStore,
    Monitor,
    ParamsError,
    Process,
    ProcessNameError,
    ProcessRegistry,
    RequestExistsError,
    RequestStatus,
    Schedule,
    Scheduler,
    SchedulerStateError,
    SQLiteStore,
    Store,
    StoreSchemaError,
    StoreUnavailableError,
    StoreURLError,
    TimingError,
    UnknownProcessError,
    UnknownRequestError,
    UnknownRunError,
    open_store,
)
from bgsched._turns import Turns
from bgsched.process import Filer
from bgsched.testing import ManualClock


@pytest.mark.parametrize("way", ["schedule", "schedule_many", "run_now", "run_now_by_id"])
def test_a_worker_that_files_in_its_own_memory_is_told(
    way: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    scheduler = Scheduler()
    scheduler.process("p")(lambda: None)
    scheduler.schedule("p", Immediate(), id="mine")
    monkeypatch.setattr("bgsched._life.is_worker", lambda: True)
    ways: dict[str, Callable[[], object]] = {
        "schedule": lambda: scheduler.schedule("p", Immediate()),
        "schedule_many": lambda: scheduler.schedule_many([("p", Immediate(), None)]),
        "run_now": lambda: scheduler.run_now("p"),
        "run_now_by_id": lambda: scheduler.run_now("mine"),
    }
    ways[way]()
    assert [record.message for record in caplog.records] == [
        "a MemoryStore is not shared between OS processes: nobody runs what is filed in a worker; use a SQLiteStore"
    ]


class TestProcesses:
    def test_the_function_stays_a_function(self, scheduler: Scheduler) -> None:
        @scheduler.process
        def add(a: int, b: int = 1) -> int:
            """Add."""
            return a + b

        assert add(1, 2) == 3
        assert (add.name, add.__doc__) == ("add", "Add.")
        request = add.schedule(Immediate(), 1, b=5)
        assert request.params == {"a": 1, "b": 5}
        scheduler.run_pending()
        assert runs_of(scheduler, request.id)[0].result == 6

    def test_a_registry_needs_no_scheduler(self, clock: ManualClock) -> None:
        registry = ProcessRegistry()

        @registry.process
        def work() -> None: ...

        with pytest.raises(SchedulerStateError, match="belongs to no scheduler yet"):
            work.schedule(Immediate())
        scheduler = Scheduler(processes=registry, clock=clock)
        assert work.schedule(Immediate()).id == scheduler.monitor.requests()[0].id

    def test_of_the_schedulers_of_a_registry_the_running_one_files(self, store: Store) -> None:
        registry = ProcessRegistry()
        work = registry.process("work")(lambda: None)
        schedulers = {"first": Scheduler(store, processes=registry), "last": Scheduler(processes=registry)}

        def filer() -> list[str]:
            id = work.schedule(Later(datetime(2999, 1, 1, tzinfo=UTC))).id
            return [name for name, one in schedulers.items() if id in {found.id for found in one.monitor.requests()}]

        assert filer() == ["last"]
        with schedulers["first"]:
            assert filer() == ["first"]
            with Scheduler(processes=registry):
                pass
            assert filer() == ["first"]
        assert filer() == ["last"]  # all others were shut down
        schedulers["last"].shutdown()
        schedulers["first"].run_pending()
        assert filer() == ["first"]

    def test_two_that_take_a_registry_at_once_are_both_known(self) -> None:
        class Slow(ProcessRegistry):
            def _others(self, filer: Filer) -> list[Filer]:
                others = super()._others(filer)
                if meanwhile:
                    thread = meanwhile.pop()
                    thread.start()
                    thread.join(PATIENCE)
                return others

        made: list[Scheduler] = []
        meanwhile: list[threading.Thread] = []
        registry = Slow()
        registry._turns = Turns(patience=0.01)  # it need not wait for who waits for it here
        meanwhile.append(threading.Thread(target=lambda: made.append(Scheduler(processes=registry))))
        made.append(Scheduler(processes=registry))
        assert set(registry._attached()) == set(made)

    def test_a_registry_keeps_no_scheduler_but_the_last(self) -> None:
        registry = ProcessRegistry()
        work = registry.process("work")(lambda: None)

        def used() -> "weakref.ref[Scheduler]":
            with Scheduler(processes=registry) as scheduler:
                return weakref.ref(scheduler)

        made = [used() for _ in range(3)]
        gc.collect()
        assert len([scheduler for scheduler in made if scheduler() is not None]) == 1
        assert work.schedule(Immediate()).process == "work"

    def test_a_process_keeps_its_scheduler(self) -> None:
        def made() -> Process[[], None]:
            return Scheduler().process("work")(lambda: None)

        work = made()
        gc.collect()
        assert work.schedule(Immediate()).process == "work"

    def test_a_name_is_taken_once(self, scheduler: Scheduler) -> None:
        scheduler.process("p")(lambda: None)
        with pytest.raises(ProcessNameError, match="'p' is registered already"):
            scheduler.process("p")(lambda: None)

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            (5, "to 200 characters, got 5"),
            ("x" * 201, "to 200 characters"),
            ("a\0b", "every store can hold"),
            ("\udc80", "every store can hold"),
        ],
    )
    def test_a_name_is_what_every_store_can_hold_and_index(self, scheduler: Scheduler, name: Any, message: str) -> None:
        """One that a store cannot take would hold up all that is due, on every machine."""
        scheduler.process("p")(lambda: None)
        with pytest.raises(ValueError, match=f"a request id is .*{message}"):
            scheduler.schedule("p", Immediate(), id=name)
        assert scheduler.monitor.requests() == []
        scheduler.schedule("p", Immediate(), id="mine", user="")
        for what in ("user", "channel"):
            asker: Any = {what: name}
            for file in (scheduler.run_now, scheduler.reschedule):
                with pytest.raises(ValueError, match=f"a {what} is .*{message}"):
                    file("mine", **asker)
            with pytest.raises(ValueError, match=f"a {what} is .*{message}"):
                scheduler.schedule("p", Immediate(), **asker)
            with pytest.raises(ValueError, match=f"a {what} is .*{message}"):
                scheduler.schedule_many([("p", Immediate(), None)], **asker)

    def test_an_id_is_not_empty(self, scheduler: Scheduler) -> None:
        scheduler.process("p")(lambda: None)
        with pytest.raises(ValueError, match="a request id is a string of 1 to 200 characters, got ''"):
            scheduler.schedule("p", Immediate(), id="")

    def test_what_params_cannot_reach_is_refused(self, scheduler: Scheduler) -> None:
        with pytest.raises(ProcessNameError, match=r"takes \*args by position, .*wants functools\.wraps"):
            scheduler.process("p")(lambda *args: args)
        with pytest.raises(ProcessNameError, match=r"takes n by position, .*without '/'$"):
            scheduler.process("p")(lambda n, /: n)

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (5, "takes a name or a function, got 5; options go by keyword"),
            (Schedule(Daily(at="02:00")), "such as timing=Schedule"),
            (classmethod(print), "register what belongs to a class bound"),
            (property(print), "register what belongs to a class bound"),
            ("", "a string of 1 to 200 characters"),
            ("x" * 201, "a string of 1 to 200 characters"),
            ("a\0b", "without NUL"),
            ("\ud800", "halves of surrogate pairs"),
        ],
    )
    def test_what_is_no_name_is_refused_where_it_is_given(self, scheduler: Scheduler, given: Any, message: str) -> None:
        with pytest.raises(ProcessNameError, match=message):
            scheduler.process(given)
        assert not scheduler.processes

    def test_a_method_is_registered_bound(self, scheduler: Scheduler) -> None:
        class Shop:
            def restock(self, shelf: int = 1) -> int:
                return shelf

        with pytest.raises(ProcessNameError, match="takes 'self', which no params can hold; register the method bound"):
            scheduler.process("restock")(Shop.restock)
        assert scheduler.process("restock")(Shop().restock)(3) == 3

    def test_a_callable_without_a_signature_is_refused(self, scheduler: Scheduler) -> None:
        with pytest.raises(ProcessNameError, match=r"nobody can tell the params of .*; register a function that calls"):
            scheduler.process("greatest")(max)

    def test_only_a_process_is_added(self, scheduler: Scheduler) -> None:
        with pytest.raises(ProcessNameError, match="takes a process, got 'work'; decorate a function"):
            scheduler.add("work")  # type: ignore[type-var]

    def test_attributes_of_a_function_hide_nothing_of_the_process(self, scheduler: Scheduler) -> None:
        class Importer:
            def __init__(self) -> None:
                self.schedule = self.load = self.bind = self.pool = "its own"
                self.owner_team = "sales"

            def __call__(self, lines: int) -> int:
                return lines

        process = scheduler.process("import")(Importer())
        request = process.schedule(Immediate(), lines=3)
        scheduler.run_pending()
        assert runs_of(scheduler, request.id)[0].result == 3
        assert vars(process)["owner_team"] == "sales"

    def test_what_it_wraps_is_what_was_decorated(self, scheduler: Scheduler) -> None:
        def inner() -> None: ...

        @functools.wraps(inner)
        def outer() -> None: ...

        assert vars(scheduler.process("p")(outer))["__wrapped__"] is outer

    def test_a_param_may_be_called_self(self, scheduler: Scheduler) -> None:
        @scheduler.process
        def report(about: str, self: int = 0) -> str:
            return f"{about} {self}"

        assert report("all", self=2) == "all 2"
        request = report.schedule(Immediate(), about="all", self=2)
        assert request.params == {"about": "all", "self": 2}

    def test_a_param_may_be_called_timing(self, scheduler: Scheduler) -> None:
        scheduler.process("report")(lambda timing: timing)
        report = scheduler.processes.get("report")
        assert report.schedule(Immediate(), timing="daily").params == {"timing": "daily"}

    def test_only_in_a_class_is_the_first_param_the_object(self, scheduler: Scheduler) -> None:
        @scheduler.process
        def enrol(cls: str) -> str:
            return cls

        assert enrol.schedule(Immediate(), "4b").params == {"cls": "4b"}

    def test_an_unknown_option_is_refused(self, scheduler: Scheduler) -> None:
        with pytest.raises(TypeError, match="did you mean 'misfire'"):
            scheduler.process("p", misfyre=1)  # type: ignore[call-overload]

    def test_a_process_that_left_the_code_waits_in_sight(self, store: Store, clock: ManualClock) -> None:
        first = Scheduler(store, clock=clock)
        first.process("old")(lambda: None)
        request = first.run_now("old")
        second = Scheduler(store, clock=clock)
        assert second.run_pending() is None
        assert second.monitor.request(request.id).status is RequestStatus.SCHEDULED
        second.process("old")(lambda: "back")
        second.run_pending()
        assert runs_of(second, request.id)[0].result == "back"


class TestBadInput:
    def test_an_unknown_process(self, scheduler: Scheduler) -> None:
        scheduler.process("send-invoices")(lambda: None)
        with pytest.raises(UnknownProcessError, match="no process 'send-invoice'; did you mean 'send-invoices'"):
            scheduler.schedule("send-invoice", Immediate())

    def test_a_function_that_is_no_process(self, scheduler: Scheduler) -> None:
        def send() -> None: ...

        with pytest.raises(UnknownProcessError, match="no process 'send'; none is registered yet: decorate one"):
            scheduler.schedule(send, Immediate())  # type: ignore[arg-type]
        scheduler.process("send")(send)
        with pytest.raises(
            UnknownProcessError, match="given is not the process 'send' that is registered here; give the name, or what"
        ):
            scheduler.schedule(send, Immediate())  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        ("params", "message"),
        [
            ({"compny": "a"}, "no param 'compny'; did you mean 'company'"),
            ({}, "missing a required argument: 'company'"),
            ({"company": object()}, "company is of type object, which is not JSON; write a string"),
            ({"company": {"a": [1, {2}]}}, r"company.a\[1\] is of type set, which is not JSON; write a list"),
            ({"company": {1: 2}}, "company has the key 1, which is no string"),
            ({"company": float("nan")}, "company is nan, which JSON does not have"),
            ({"company": T0}, "company is of type datetime, which is not JSON"),
        ],
    )
    def test_params_that_do_not_fit(self, scheduler: Scheduler, params: dict[str, Any], message: str) -> None:
        scheduler.process("p")(lambda company, day="today": (company, day))
        with pytest.raises(ParamsError, match=message):
            scheduler.schedule("p", Immediate(), params)
        assert scheduler.monitor.requests() == []

    def test_another_process_of_the_same_name(self, scheduler: Scheduler) -> None:
        """As of another scheduler of the host: it is not this one's work that was meant."""
        scheduler.process("send")(lambda: "here")
        there = ProcessRegistry().process("send")(lambda: "there")
        with pytest.raises(UnknownProcessError, match="given is not the process 'send' that is registered here"):
            scheduler.schedule(there, Immediate())
        with pytest.raises(UnknownProcessError, match="given is not the process 'send' that is registered here"):
            scheduler.run_now(there)
        assert scheduler.monitor.requests() == []

    def test_a_timing_that_is_none(self, scheduler: Scheduler) -> None:
        scheduler.process("p")(lambda: None)
        with pytest.raises(TimingError, match="timing must be Immediate"):
            scheduler.schedule("p", "tomorrow")  # type: ignore[arg-type]

    def test_a_finish_that_is_over(self, scheduler: Scheduler) -> None:
        scheduler.process("p")(lambda: None)
        with pytest.raises(TimingError, match=r"finish 2025-12-24 00:00:00.* is over, it is .*; give a later finish"):
            scheduler.schedule("p", Schedule(Daily(at="09:00"), finish=datetime(2025, 12, 24, tzinfo=UTC)))

    @pytest.mark.parametrize(
        ("timing", "message"),
        [("daily", "timing must be Immediate.*got 'daily'"), (EveryMinutes(5), r"write Schedule\(EveryMinutes\(5\)\)")],
    )
    def test_a_declared_timing_that_is_none(self, scheduler: Scheduler, timing: Any, message: str) -> None:
        with pytest.raises(TimingError, match=message):
            scheduler.process("p", timing=timing)(lambda: None)

    def test_a_declared_timing_for_a_process_that_needs_params(self, scheduler: Scheduler) -> None:
        with pytest.raises(
            ProcessNameError, match=r"runs by its own timing, without params, but .*'company'.* default"
        ):
            scheduler.process("p", timing=Schedule(EveryMinutes(5)))(lambda company: company)

    def test_a_timing_that_is_over(self, scheduler: Scheduler) -> None:
        scheduler.process("p")(lambda: None)
        with pytest.raises(TimingError, match="no fire time is left"):
            scheduler.schedule(
                "p", Schedule(Daily(at="09:00"), start=T0 - timedelta(days=9), finish=T0 - timedelta(days=5))
            )

    def test_an_unknown_zone(self) -> None:
        with pytest.raises(TimingError, match="Europe/Madrid"):
            Scheduler(timezone="Europe/Madird")

    def test_an_id_that_is_taken(self, scheduler: Scheduler) -> None:
        scheduler.process("p")(lambda: None)
        scheduler.schedule("p", Immediate(), id="mine")
        with pytest.raises(RequestExistsError, match="reschedule"):
            scheduler.schedule("p", Immediate(), id="mine")

    @pytest.mark.parametrize("wish", [("p", Immediate()), {"process": "p"}, "p", 5])
    def test_a_wish_that_is_no_triple(self, scheduler: Scheduler, wish: Any) -> None:
        scheduler.process("p")(lambda: None)
        with pytest.raises(ValueError, match=r"takes \(process, timing, params\), params may be None; got "):
            scheduler.schedule_many([("p", Immediate(), None), wish])
        assert scheduler.monitor.requests() == []

    @pytest.mark.parametrize("id", ["nope", "", "a\0b", "\ud800", "x" * 500])
    def test_a_request_that_is_not_there(self, scheduler: Scheduler, id: str) -> None:
        for change in (scheduler.unschedule, scheduler.reschedule, scheduler.delete):
            with pytest.raises(UnknownRequestError):
                change(id)
        with pytest.raises(UnknownProcessError):
            scheduler.run_now(id)

    def test_who_asked_before_is_not_judged_again(self, scheduler: Scheduler) -> None:
        scheduler.process("p")(lambda: None)
        request = replace(scheduler.run_now("p"), id="old", channel="x" * 201)
        scheduler.store.file([request])
        assert scheduler.reschedule("old").channel == request.channel
        with pytest.raises(ValueError, match="a channel is a string of 0 to 200 characters"):
            scheduler.reschedule("old", channel="x" * 201)

    def test_a_request_or_run_in_place_of_its_id(self, scheduler: Scheduler) -> None:
        scheduler.process("p")(lambda: None)
        request: Any = scheduler.schedule("p", Immediate(), id="mine")
        for change in (scheduler.unschedule, scheduler.reschedule, scheduler.delete):
            with pytest.raises(ValueError, match=r"by its id, a string, got Request\(.*; write request\.id"):
                change(request)
        scheduler.run_pending()
        run: Any = scheduler.monitor.runs()[0]
        with pytest.raises(ValueError, match=r"by its id, a whole number, got Run\(.*; write run\.id"):
            scheduler.kill(run)
        for odd in (str(run.id), run.id + 0.5, True, None):
            with pytest.raises(ValueError, match="a run is spoken of by its id, a whole number, got"):
                scheduler.kill(odd)  # type: ignore[arg-type]  # what is tested

    @pytest.mark.parametrize("id", [0, -1, 2**31, 2**63, 2**70])
    def test_a_run_that_is_not_there(self, scheduler: Scheduler, id: int) -> None:
        with pytest.raises(UnknownRunError):
            scheduler.kill(id)

    def test_no_workers(self) -> None:
        with pytest.raises(ValueError, match="workers must be a whole number from 1 to 2147483647, got 0"):
            Scheduler(workers=0)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"workers": "4"}, "workers must be a whole number from 1 to 2147483647, got '4'"),
            ({"workers": None}, "workers must be a whole number from 1 to 2147483647, got None"),
            ({"workers": 2**31}, "workers must be a whole number from 1 to 2147483647, got 2147483648"),
            ({"async_limit": 2.5}, r"async_limit must be a whole number from 1 to 2147483647, got 2\.5"),
            ({"processes": [len]}, "processes must be a ProcessRegistry, got "),
            ({"retention": timedelta(1)}, "retention must be a Retention, got "),
            ({"clock": Mock(spec=["now", "wait"])}, "clock must be a Clock, got .*, which has no monotonic"),
            ({"clock": ManualClock}, "clock must be a Clock, got .*, which is a class"),
            ({"around": 5}, r"around\(\) takes a function of the run that returns a context manager, got 5"),
            ({"around": [5]}, r"around\(\) takes a function of the run that returns a context manager, got 5"),
        ],
    )
    def test_what_a_scheduler_cannot_be_made_of(self, options: Any, message: str) -> None:
        with pytest.raises((TypeError, ValueError), match=message):
            Scheduler(**options)

    def test_a_timeout_that_is_no_number(self, scheduler: Scheduler) -> None:
        with pytest.raises(TypeError, match="timeout must be a number of seconds or None, got datetime"):
            scheduler.shutdown(timeout=timedelta(seconds=5))  # type: ignore[arg-type]  # what is tested
        with pytest.raises(ValueError, match="timeout must be a number of seconds or None, got nan"):
            scheduler.shutdown(timeout=math.nan)

    @pytest.mark.parametrize(
        ("wait", "message"),
        [
            (1, r"wait must be True or False, got 1; write shutdown\(timeout=1\)"),
            (2.5, r"wait must be True or False, got 2\.5; write shutdown\(timeout=2\.5\)"),
            (None, "wait must be True or False, got None$"),
        ],
    )
    def test_a_wait_that_may_be_meant_as_a_timeout(self, scheduler: Scheduler, wait: Any, message: str) -> None:
        with pytest.raises(TypeError, match=message):
            scheduler.shutdown(wait)

    def test_a_file_that_is_no_database(self, tmp_path: Path) -> None:
        path = tmp_path / "notes.txt"
        path.write_text("these are only notes, but long enough to be read as a header of a file" * 9)
        with pytest.raises(StoreSchemaError, match=r"notes\.txt is not an SQLite database"):
            SQLiteStore(path)
        assert path.read_text().startswith("these are only notes")

    def test_a_folder_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(StoreUnavailableError, match="nowhere is no folder"):
            SQLiteStore(tmp_path / "nowhere" / "app.db")

    def test_a_folder_that_cannot_be_written(self) -> None:
        with pytest.raises(StoreUnavailableError, match="cannot be written"):
            SQLiteStore("/proc/app.db")

    @pytest.mark.parametrize(
        ("url", "message"),
        [
            ("sqllite:///app.db", "unknown store 'sqllite'.*did you mean 'sqlite'"),
            ("app.db", "has no scheme; for a file write 'sqlite:///app.db'"),
            ("", "has no scheme; for a file write 'sqlite:///app.db'"),
            ("sqlite://", "names no file"),
            ("sqlite:app.db", "names no file; write 'sqlite:///app.db'"),
            ("sqlite:///:memory:", "write 'memory://'"),
            ("sqlite:///app.db?timeout=3", "has options, and there are none for a file"),
            ("sqlite:///app#1.db", "write [?] as %3F and # as %23"),
            ("mysql://ann:secret@host/db", r"unknown store 'mysql' in 'mysql://ann:\*\*\*@host/db'"),
            ("postgresql//ann:secret@host/db", r"'postgresql//ann:\*\*\*@host/db' has no scheme; for PostgreSQL write"),
            (
                "host=h dbname=d password=secret",
                r"'host=h dbname=d password=\*\*\*' has no scheme; for PostgreSQL write",
            ),
        ],
    )
    def test_a_url_that_names_no_store(self, url: str, message: str) -> None:
        with pytest.raises(StoreURLError, match=message):
            open_store(url)

    @pytest.mark.parametrize(
        ("path", "message"),
        [
            (":memory:", r"':memory:' names no file; for a store that is forgotten write MemoryStore\(\)"),
            ("sqlite:///app.db", r"takes the path of a file, and got a URL; write open_store\('sqlite:///app.db'\)"),
            ("sqlite:app.db", r"got a URL; write open_store\('sqlite:///app.db'\)"),
            ("file:app.db?mode=ro", r"got a URL; write open_store\('sqlite:///app.db'\)"),
            ("postgresql://ann:secret@host/db", r"got a URL; write open_store\('postgresql://...'\)$"),
        ],
    )
    def test_a_path_that_names_no_file(
        self, path: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(StoreURLError, match=message):
            SQLiteStore(path)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("timeout", "error"), [("a", TypeError), (None, TypeError), (-1, ValueError), (math.nan, ValueError)]
    )
    def test_a_time_to_wait_that_is_none(self, timeout: Any, error: type[Exception], tmp_path: Path) -> None:
        with pytest.raises(error, match="timeout must be a number of seconds"):
            SQLiteStore(tmp_path / "app.db", timeout=timeout)

    @pytest.mark.parametrize(
        ("url", "message"),
        [(None, "got NoneType$"), (Path("app.db"), r"got .*Path; for a file write SQLiteStore\('app.db'\)")],
    )
    def test_a_url_that_is_no_text(self, url: Any, message: str) -> None:
        with pytest.raises(TypeError, match=f"a store URL must be text, like 'sqlite:///app.db', {message}"):
            open_store(url)

    def test_a_monitor_that_would_always_be_empty(self) -> None:
        with pytest.raises(StoreURLError, match=r"take scheduler\.monitor"):
            Monitor("memory://")

    def test_a_folder_in_place_of_a_file(self, tmp_path: Path) -> None:
        with pytest.raises(StoreUnavailableError, match="it is a folder; name a file in it"):
            SQLiteStore(tmp_path)

    @pytest.mark.parametrize("make", [Scheduler, Monitor])
    @pytest.mark.parametrize(
        ("store", "message"),
        [
            (Path("app.db"), r"got .*Path\('app.db'\); for a file write SQLiteStore\('app.db'\)"),
            (MemoryStore, "store must be a Store or a URL such as 'sqlite:///app.db', got <class"),
        ],
    )
    def test_what_is_no_store(self, make: Callable[[Any], object], store: object, message: str) -> None:
        with pytest.raises(TypeError, match=message):
            make(store)

    def test_a_monitor_makes_no_database(self, tmp_path: Path) -> None:
        with pytest.raises(StoreUnavailableError, match="no database"):
            Monitor(f"sqlite:///{tmp_path}/app.db")
        assert list(tmp_path.iterdir()) == []

    def test_questions_that_cannot_be_answered(self, scheduler: Scheduler) -> None:
        monitor = scheduler.monitor
        with pytest.raises(UnknownRunError, match="no run 7"):
            monitor.run(7)
        with pytest.raises(UnknownRunError):
            monitor.log(7)
        with pytest.raises(ValueError, match="no status 'sucess'; did you mean 'success'"):
            monitor.runs(status="sucess")
        with pytest.raises(ValueError, match="limit must be 1 or more, got 0"):
            monitor.runs(limit=0)
        with pytest.raises(ValueError, match="since must be aware"):
            monitor.runs(since=datetime(2026, 1, 1))
