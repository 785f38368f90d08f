"""Each integration against the real client library, with a receiver on loopback where it sends something."""

import dataclasses
import gzip
import http.client
import json
import math
import re
import socket
import threading
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import Any

import prometheus_client
import pytest
import sentry_sdk
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families

from bgsched import (
    FR,
    SU,
    WEEKDAYS,
    WEEKENDS,
    Cron,
    Daily,
    EveryMinutes,
    EverySeconds,
    Hourly,
    Immediate,
    Later,
    Monitor,
    Monthly,
    ProcessGroup,
    Recurrence,
    Request,
    Retention,
    Retry,
    Run,
    RunStarted,
    RunStatus,
    Schedule,
    Scheduler,
    SchedulerRecord,
    StoreUnavailableError,
    Timing,
    Weekly,
    current_run,
)
from bgsched._evolve import evolve
from bgsched.integrations import opentelemetry, ping as ping_module, sentry
from bgsched.integrations._mark import mark_of
from bgsched.integrations.opentelemetry import span_per_run
from bgsched.integrations.ping import ping
from bgsched.integrations.prometheus import ProcessCollector
from bgsched.integrations.sentry import check_in, monitor_config, slug
from bgsched.stores import MemoryStore
from bgsched.testing import ManualClock
from bgsched.testing.contract import FixedPlanner, make_request
from bgsched.testing.contract._tools import sign_on
from bgsched.timing import Frequency

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def broken() -> None:
    current_run().log.info("about to fail")
    raise ValueError("no paper")


class Receiver:
    """An HTTP server on loopback that keeps what it is sent."""

    def __init__(self) -> None:
        self.got: list[tuple[str, bytes]] = []
        self.status = 200
        self.answers = threading.Event()  # cleared: it takes what comes and hangs
        self.answers.set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                receiver.got.append((self.path, body))
                receiver.answers.wait()
                self.send_response(receiver.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def stop(self) -> None:
        self.answers.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.stop()


@pytest.fixture
def scheduler() -> Iterator[Scheduler]:
    scheduler = Scheduler(MemoryStore())
    scheduler.process("fine")(lambda: None)
    scheduler.process("broken")(broken)
    yield scheduler
    scheduler.shutdown(timeout=0)


def run_all(scheduler: Scheduler) -> None:
    scheduler.run_until_idle()
    scheduler._hooks.settle(30)


class TestPrometheus:
    def scrape(self, monitor: Monitor) -> dict[tuple[str, ...], float]:
        registry = prometheus_client.CollectorRegistry()
        registry.register(ProcessCollector(monitor))
        server, thread = prometheus_client.start_http_server(0, "127.0.0.1", registry)
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/metrics") as answer:
                text = answer.read().decode()
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
        return {
            (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def test_what_is_scraped_is_what_the_store_says(self, scheduler: Scheduler) -> None:
        for _ in range(3):
            scheduler.run_now("fine")
        scheduler.run_now("broken")
        later = scheduler.schedule("fine", Schedule(EveryMinutes(10)), id="later")
        run_all(scheduler)
        found = self.scrape(scheduler.monitor)
        assert found["bgsched_runs_total", "fine", "success"] == 4
        assert found["bgsched_runs_total", "broken", "error"] == 1
        assert found["bgsched_store_up",] == 1
        assert found["bgsched_run_duration_seconds", "fine", "0.99"] >= 0
        assert found["bgsched_run_lateness_seconds", "fine", "0.5"] >= 0
        due = scheduler.monitor.request(later.id).due_at
        assert due is not None
        assert found["bgsched_next_fire_timestamp_seconds", "fine"] == pytest.approx(due.timestamp())
        assert found["bgsched_last_success_timestamp_seconds", "fine"] > 1.7e9
        assert ("bgsched_last_success_timestamp_seconds", "broken") not in found
        assert [value for key, value in found.items() if key[0] == "bgsched_scheduler_up"] == [1]

    def test_a_container_that_started_again_is_up_and_there_once(self, scheduler: Scheduler) -> None:
        now = scheduler._clock.now()
        for owner, lease in (("dead", -10), ("living", 10), ("ahead", 50)):
            skew = timedelta(seconds=60) if owner == "ahead" else None
            scheduler.store.sign_on(
                SchedulerRecord(
                    owner=owner,
                    host="erp" if owner != "ahead" else "other",
                    pid=1,
                    started_at=now,
                    heartbeat_at=now,
                    lease_until=now + timedelta(seconds=lease),
                    clock_skew=skew,
                )
            )
        families = list(ProcessCollector(scheduler.monitor).collect())
        (up,) = (family for family in families if family.name == "bgsched_scheduler_up")
        assert [(sample.labels, sample.value) for sample in up.samples if sample.labels["pid"] == "1"] == [
            ({"host": "erp", "pid": "1"}, 1),
            ({"host": "other", "pid": "1"}, 0),
        ]

    def test_of_a_success_that_was_purged_only_the_count_is_left(self, scheduler: Scheduler) -> None:
        """Why the alarm in docs/how-to/metrics.md asks for runs without a last success, too."""
        failing: list[bool] = []
        scheduler.process("backup")(lambda: 1 // (not failing))
        scheduler.schedule("backup", Immediate(), id="nightly")
        run_all(scheduler)
        assert "bgsched_last_success_timestamp_seconds" in {name for name, *_ in self.scrape(scheduler.monitor)}
        failing.append(True)
        scheduler.reschedule("nightly")
        run_all(scheduler)
        assert scheduler.store.purge(Retention(), scheduler._clock.now() + timedelta(days=20)).runs == 1
        found = self.scrape(scheduler.monitor)
        assert ("bgsched_last_success_timestamp_seconds", "backup") not in found
        assert found["bgsched_runs_total", "backup", "success"] == found["bgsched_runs_total", "backup", "error"] == 1
        page = (Path(__file__).parent.parent / "docs/how-to/metrics.md").read_text()
        assert "unless on (process) bgsched_last_success_timestamp_seconds" in page

    @pytest.mark.parametrize("waits", ["request", "attempt"])
    def test_what_waits_for_a_process_that_nobody_has_is_overdue(self, waits: str) -> None:
        """What the alarm in docs/how-to/metrics.md asks for: it rings, although nothing of the process ever ended."""
        store, clock = MemoryStore(), ManualClock(datetime.now(UTC) - timedelta(hours=1))
        left = Scheduler(store, clock=clock)
        left.process("orphan", retry=Retry(attempts=2))(broken)
        left.process("later")(broken)
        left.schedule("orphan", Immediate())
        left.schedule("later", Later(datetime.now(UTC) + timedelta(hours=1)))
        if waits == "attempt":
            left.run_pending()
        left.shutdown()
        due = {key[1]: value for key, value in self.scrape(Monitor(store)).items() if "next_fire" in key[0]}
        assert due.keys() == {"orphan"}
        assert due["orphan"] < datetime.now(UTC).timestamp() - 60

    def test_however_much_waits_after_it(self) -> None:
        now = datetime.now(UTC)
        orphan = Run(request_id="orphan", process="orphan", fire_time=now, recorded_at=now, due_at=now)
        younger = [dataclasses.replace(orphan, request_id=f"{n}", process="known") for n in range(1_000)]
        store = MemoryStore()
        with store.transaction() as tx:
            tx.insert_runs([orphan, *younger])
        assert Monitor(store).active_processes() == {"orphan", "known"}
        assert any("next_fire" in key[0] and key[1] == "orphan" for key in self.scrape(Monitor(store)))

    def test_a_second_scrape_counts_on(self, scheduler: Scheduler) -> None:
        registry = prometheus_client.CollectorRegistry()
        registry.register(ProcessCollector(scheduler.monitor))
        for expected in (1, 2):
            scheduler.run_now("fine")
            run_all(scheduler)
            wanted = {"process": "fine", "status": "success"}
            assert registry.get_sample_value("bgsched_runs_total", wanted) == expected

    def test_hours_that_are_over_are_counted_once(self, scheduler: Scheduler) -> None:
        collector = ProcessCollector(scheduler.monitor)
        scheduler.run_now("fine")
        run_all(scheduler)
        now = scheduler._clock.now()
        for hours in (0, 1, 2, 3, 30, 30):
            assert collector._totals(now + timedelta(hours=hours)) == {("fine", RunStatus.SUCCESS): 1}

    def test_a_clock_that_was_ahead_for_a_scrape_loses_nothing(self, scheduler: Scheduler) -> None:
        collector = ProcessCollector(scheduler.monitor)
        now = scheduler._clock.now()
        collector._totals(now + timedelta(days=1))
        scheduler.run_now("fine")
        run_all(scheduler)
        for hours in (0, 30):
            assert collector._totals(now + timedelta(hours=hours)) == {("fine", RunStatus.SUCCESS): 1}

    def test_a_store_that_is_down_fails_no_scrape(self, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
        def down(*_: object) -> None:
            raise StoreUnavailableError("gone")

        monkeypatch.setattr(Monitor, "totals", down)
        assert self.scrape(scheduler.monitor) == {("bgsched_store_up",): 0}


class Telling(SpanProcessor):
    """Tells that a span of a run has ended, and that those before it know."""

    def __init__(self, ended: threading.Semaphore) -> None:
        self._ended = ended

    def on_end(self, span: ReadableSpan) -> None:
        if span.name.startswith("run "):
            self._ended.release()


def exporting_to(exporter: InMemorySpanExporter) -> tuple[TracerProvider, threading.Semaphore]:
    """Return a provider of spans that end there, and what is released when one has."""
    provider, ended = TracerProvider(), threading.Semaphore(0)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    provider.add_span_processor(Telling(ended))
    return provider, ended


class TestOpenTelemetry:
    def test_each_run_is_a_span(self) -> None:
        exporter = InMemorySpanExporter()
        provider, ended = exporting_to(exporter)
        scheduler = Scheduler(around=span_per_run(provider))

        def fine() -> None:
            with trace.get_tracer("host", tracer_provider=provider).start_as_current_span("inside"):
                pass

        scheduler.process("fine")(fine)
        scheduler.process("broken")(broken)
        scheduler.run_now("fine")
        scheduler.run_now("broken")
        scheduler.run_until_idle()
        scheduler.shutdown()
        for _ in range(2):
            assert ended.acquire(timeout=30)
        inside, span, failed = exporter.get_finished_spans()
        assert (span.name, failed.name) == ("run fine", "run broken")
        assert inside.parent is not None
        assert inside.parent.span_id == span.context.span_id
        assert span.attributes is not None
        assert span.attributes["bgsched.run.id"] == scheduler.monitor.runs("fine")[0].id
        assert not failed.status.is_ok
        assert failed.events[0].name == "exception"
        assert failed.events[0].attributes is not None
        assert failed.events[0].attributes["exception.type"] == "ValueError"

    def test_what_is_sensitive_is_masked_as_in_the_run(self) -> None:
        exporter = InMemorySpanExporter()
        provider, ended = exporting_to(exporter)
        scheduler = Scheduler(around=span_per_run(provider))

        @scheduler.process(sensitive=("token",))
        def leaky(token: str) -> None:
            raise http.client.BadStatusLine(token) from LookupError(f"refused: {token}")

        scheduler.run_now(leaky, params={"token": "s3cret!"})
        scheduler.run_until_idle()
        scheduler.shutdown()
        assert ended.acquire(timeout=30)
        (span,) = exporter.get_finished_spans()
        assert "s3cret" not in span.to_json()
        attributes = span.events[0].attributes
        assert attributes is not None
        assert attributes["exception.type"] == "http.client.BadStatusLine"
        assert attributes["exception.message"] == "***"
        assert "LookupError: refused: ***" in str(attributes["exception.stacktrace"])
        assert span.status.description == "BadStatusLine: ***"

    def test_a_run_that_returned_after_its_time_was_over_is_an_error(self) -> None:
        exporter = InMemorySpanExporter()
        provider, ended = exporting_to(exporter)
        clock = ManualClock()
        scheduler = Scheduler(around=span_per_run(provider), clock=clock)
        scheduler.process("slow", timeout=timedelta(seconds=2))(lambda: clock.advance(timedelta(seconds=3)))
        scheduler.run_now("slow")
        scheduler.run_until_idle()
        scheduler.shutdown()
        assert ended.acquire(timeout=30)
        (span,) = exporter.get_finished_spans()
        assert scheduler.monitor.runs()[0].status is RunStatus.TIMED_OUT
        assert not span.status.is_ok
        assert span.status.description == scheduler.monitor.runs()[0].reason

    def test_an_exporter_that_hangs_delays_no_run(self) -> None:
        answers = threading.Event()

        class Hanging(InMemorySpanExporter):
            def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
                answers.wait()
                return super().export(spans)

        exporter = Hanging()
        provider, ended = exporting_to(exporter)
        scheduler = Scheduler(around=span_per_run(provider))
        scheduler.process("fine")(lambda: None)
        for _ in range(3):
            scheduler.run_now("fine")
        scheduler.run_until_idle()
        runs = scheduler.monitor.runs()
        assert [run.status for run in runs] == [RunStatus.SUCCESS] * 3
        assert exporter.get_finished_spans() == ()
        answers.set()
        for _ in runs:
            assert ended.acquire(timeout=30)
        for run, span in zip(reversed(runs), exporter.get_finished_spans(), strict=True):
            assert run.finished_at is not None
            assert span.end_time is not None
            assert span.end_time / 1e9 == pytest.approx(run.finished_at.timestamp(), abs=1)
        scheduler.shutdown()

    @pytest.mark.parametrize("problem", [OSError("no disk"), SystemExit(1)])
    def test_a_tracer_that_fails_breaks_no_run(self, problem: BaseException) -> None:
        class Broken(SpanProcessor):
            def on_start(self, span: object, parent_context: object = None) -> None:
                raise problem

            def on_end(self, span: ReadableSpan) -> None:
                raise problem

        provider = TracerProvider()
        provider.add_span_processor(Broken())
        scheduler = Scheduler(around=span_per_run(provider))
        scheduler.process("fine")(lambda: None)
        scheduler.run_now("fine")
        scheduler.run_until_idle()
        scheduler.shutdown()
        assert scheduler.monitor.runs()[0].status is RunStatus.SUCCESS

    def test_where_no_thread_can_be_had_the_run_goes_on_and_the_next_one_brings_its_span(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(opentelemetry, "_ending", opentelemetry._Ending())
        exporter = InMemorySpanExporter()
        provider, ended = exporting_to(exporter)
        scheduler = Scheduler(around=span_per_run(provider))
        scheduler.process("fine")(lambda: None)
        with monkeypatch.context() as limit:
            limit.setattr(threading.Thread, "start", refuse_threads_for_spans)
            scheduler.run_now("fine")
            scheduler.run_until_idle()
        assert exporter.get_finished_spans() == ()
        scheduler.run_now("fine")
        scheduler.run_until_idle()
        for _ in range(2):
            assert ended.acquire(timeout=30)
        assert [run.status for run in scheduler.monitor.runs()] == [RunStatus.SUCCESS] * 2
        assert len(exporter.get_finished_spans()) == 2
        scheduler.shutdown()

    def test_after_the_thread_was_ended_by_a_span_another_one_goes_on(self, monkeypatch: pytest.MonkeyPatch) -> None:
        class Interrupted(SpanProcessor):
            def on_end(self, span: ReadableSpan) -> None:
                if not ended:
                    ended.append(span)
                    raise KeyboardInterrupt
                ended.append(span)

        ended: list[ReadableSpan] = []
        ending = opentelemetry._Ending()
        monkeypatch.setattr(opentelemetry, "_ending", ending)
        monkeypatch.setattr(threading, "excepthook", lambda _: None)
        provider = TracerProvider()
        provider.add_span_processor(Interrupted())
        scheduler = Scheduler(around=span_per_run(provider))
        scheduler.process("fine")(lambda: None)
        for expected in (1, 2):
            scheduler.run_now("fine")
            scheduler.run_until_idle()
            ending.settle(30)
            assert len(ended) == expected
            if expected == 1:
                assert ending._thread is not None
                ending._thread.join(30)
        scheduler.shutdown()


def two_schedulers(failures: list[Exception]) -> tuple[Scheduler, Scheduler, ManualClock]:
    """Return two schedulers on one store, and their clock; their process fails as often as is given."""

    def p() -> None:
        if failures:
            raise failures.pop()

    store, clock = MemoryStore(), ManualClock()
    here, there = Scheduler(store, clock=clock), Scheduler(store, clock=clock)
    for scheduler in (here, there):
        scheduler.process(retry=Retry(delay=timedelta(minutes=1)))(p)
    return here, there, clock


def check_out(*schedulers: Scheduler) -> None:
    for scheduler in schedulers:
        scheduler.shutdown(timeout=0)


def refuse_threads_for_spans(thread: threading.Thread, start: Any = threading.Thread.start) -> None:
    if thread.name == "bgsched-spans":
        raise RuntimeError("can't start new thread")
    start(thread)


class TestSentry:
    @pytest.fixture
    def check_ins(self, receiver: Receiver) -> Iterator[Any]:
        sentry_sdk.init(
            dsn=f"http://key@127.0.0.1:{receiver.port}/1", default_integrations=False, auto_session_tracking=False
        )

        def sent() -> list[dict[str, Any]]:
            sentry_sdk.flush(10)
            lines = [line for _, body in receiver.got for line in body.split(b"\n") if line]
            return [item for item in map(json.loads, lines) if "check_in_id" in item]

        yield sent
        sentry_sdk.get_client().close()
        sentry_sdk.init()

    def test_a_scheduled_run_checks_in_and_out(self, scheduler: Scheduler, check_ins: Any) -> None:
        undo = check_in(scheduler)
        scheduler.schedule("broken", Schedule(EveryMinutes(10)), id="broken")
        scheduler.schedule("fine", Schedule(Daily(at="02:30"), timezone="Europe/Madrid"), id="x")
        scheduler.schedule("fine", Immediate())
        scheduler.run_now("x")
        run_all(scheduler)
        sent = check_ins()
        name_of_x = slug(scheduler.monitor.request("x"))
        assert name_of_x.startswith("fine-x-")
        by_slug = {name: [i for i in sent if i["monitor_slug"] == name] for name in ("broken", name_of_x)}
        assert len(sent) == 4
        assert [item["status"] for item in by_slug["broken"]] == ["in_progress", "error"]
        assert [item["status"] for item in by_slug[name_of_x]] == ["in_progress", "ok"]
        assert len({item["check_in_id"] for item in sent}) == 2
        assert by_slug[name_of_x][0]["monitor_config"] == {
            "schedule": {"type": "crontab", "value": "30 2 * * *"},
            "timezone": "Europe/Madrid",
        }
        undo()
        scheduler.run_now("x")
        run_all(scheduler)
        assert len(check_ins()) == 4

    def test_whoever_ends_a_run_closes_what_another_scheduler_opened(self, check_ins: Any) -> None:
        failures: list[Exception] = [ValueError("no paper")]
        here, there, clock = two_schedulers(failures)
        for one in (here, there):
            check_in(one)
        here.schedule("p", Schedule(EveryMinutes(10)), id="p")
        run_all(here)
        clock.advance(60)
        run_all(there)
        assert not failures
        sent = check_ins()
        assert [item["status"] for item in sent] == ["in_progress", "in_progress", "ok"]
        assert len({item["check_in_id"] for item in sent}) == 1
        check_out(here, there)

    def test_a_run_whose_scheduler_died_is_checked_in_as_an_error(self, check_ins: Any) -> None:
        died, there, clock = two_schedulers([])
        there.process("q")(broken)
        died.schedule("p", Schedule(EveryMinutes(10)), id="p")
        there.schedule("p", Immediate(), id="once")
        sign_on(died.store, "dead", clock.now())
        left = died.store.claim(FixedPlanner(owner="dead"), "dead", clock.now(), 2)
        check_in(there)
        there.run_pending()
        clock.advance(30)
        run_all(there)
        assert {there.monitor.run(run.id).status for run in left} == {RunStatus.ABANDONED}
        (sent,) = check_ins()
        assert (sent["monitor_slug"], sent["status"]) == ("p", "error")
        assert sent["monitor_config"]["schedule"] == {"type": "interval", "value": 10, "unit": "minute"}
        check_out(died, there)

    def test_what_is_deleted_while_it_waits_is_closed(self, check_ins: Any) -> None:
        here, there, _ = two_schedulers([ValueError("no paper")])
        check_in(here)
        here.schedule("p", Schedule(EveryMinutes(10)), id="p")
        run_all(here)
        here.delete("p")
        run_all(here)
        assert [item["status"] for item in check_ins()] == ["in_progress", "error"]
        check_out(here, there)

    def test_of_too_many_that_are_open_the_first_is_forgotten(
        self, scheduler: Scheduler, check_ins: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sentry, "_MOST_OPEN", 2)
        reporter = sentry._Reporter(scheduler, slug)
        for id in "123":
            scheduler.schedule("fine", Schedule(EveryMinutes(10)), id=id)
        scheduler.run_until_idle()
        for run in scheduler.monitor.runs()[::-1]:
            reporter.started(RunStarted(run))
        assert list(reporter._open) == [2, 3]
        assert len(check_ins()) == 3

    def test_a_receiver_that_hangs_delays_no_run(
        self, scheduler: Scheduler, receiver: Receiver, check_ins: Any
    ) -> None:
        receiver.answers.clear()
        check_in(scheduler)
        scheduler.schedule("fine", Schedule(EveryMinutes(10)), id="fine")
        run_all(scheduler)
        assert [run.status for run in scheduler.monitor.runs()] == [RunStatus.SUCCESS]
        receiver.answers.set()
        assert [item["status"] for item in check_ins()] == ["in_progress", "ok"]

    @pytest.mark.parametrize(
        ("frequency", "schedule"),
        [
            (EverySeconds(120), (2, "minute")),
            (EveryMinutes(5), (5, "minute")),
            (Hourly(2), (2, "hour")),
            (Hourly(2, minute=30), (2, "hour")),
            (Daily(at="09:00:30"), (1, "day")),
            (Daily(every=2, at="01:00"), (2, "day")),
            (Weekly("mon", at="01:00", every=2), (2, "week")),
            (Monthly(1, at="01:00", every=2), (2, "month")),
        ],
    )
    def test_what_comes_again_after_so_long_is_an_interval(
        self, frequency: Frequency, schedule: tuple[int, str]
    ) -> None:
        config = monitor_config(make_request(timing=Schedule(frequency)))
        assert config["schedule"] == {"type": "interval", "value": schedule[0], "unit": schedule[1]}

    @pytest.mark.parametrize(
        ("frequency", "crontab"),
        [
            (Daily(at="09:00"), "0 9 * * *"),
            (Daily(at="09:00", on=WEEKDAYS), "0 9 * * 1,2,3,4,5"),
            (Weekly("mon", at="01:00"), "0 1 * * 1"),
            (Weekly((FR, SU), at="01:30"), "30 1 * * 0,5"),
            (Weekly("mon-sun", at="01:30"), "30 1 * * *"),
            (Monthly(1, at="01:00"), "0 1 1 * *"),
            (Monthly(31, at="01:00"), "0 1 31 * *"),
            (Monthly(28, at="01:00", short_month="last"), "0 1 28 * *"),
            (Hourly(minute=30), "30 * * * *"),
            (Cron("*/5 * * * *"), "*/5 * * * *"),
            (Cron("0 9 * jul wed-fri"), "0 9 * jul wed-fri"),
            (Cron("0 0 1-31 * mon"), "0 0 1-31 * mon"),
            (Cron("5/20 0/8 */2 * mon"), "5,25,45 0,8,16 */2 * mon"),
            (Cron("@daily"), "0 0 * * *"),
            (Cron("@hourly"), "0 * * * *"),
            (Cron("@weekly"), "0 0 * * 0"),
            (Cron("@monthly"), "0 0 1 * *"),
            (Cron("@yearly"), "0 0 1 1 *"),
            (Cron("0 30 9 * * mon", seconds="first"), "30 9 * * mon"),
            (Cron("30 9 * * mon 0", seconds="last"), "30 9 * * mon"),
            (Cron("0 30 9 ? * MON-FRI", dialect="quartz"), "30 9 * * 1,2,3,4,5"),
            (Cron("0 30 9 ? * 7,1", dialect="quartz"), "30 9 * * 0,6"),
            (Cron("0 */15 */6 1/10 * ?", dialect="quartz"), "*/15 */6 1,11,21,31 * *"),
            (Cron("0 /15 22-2 * * ? *", dialect="quartz"), "*/15 0,1,2,22,23 * * *"),
        ],
    )
    def test_what_a_crontab_says_is_one(self, frequency: Frequency, crontab: str) -> None:
        """And that it is the same: it fires when the frequency does, in a zone whose clocks move."""
        zone = "Europe/Madrid"
        config = monitor_config(make_request(timing=Schedule(frequency, timezone=zone)))
        assert config == {"schedule": {"type": "crontab", "value": crontab}, "timezone": zone}
        start = datetime(2026, 1, 1, tzinfo=UTC)
        said, meant = (
            Schedule(Cron(crontab), timezone=zone, start=start),
            Schedule(frequency, timezone=zone, start=start),
        )
        assert list(islice(said.fire_times(start), 1000)) == list(islice(meant.fire_times(start), 1000))

    def test_without_a_time_of_day_it_is_that_of_the_start_on_the_clock_of_the_zone(self) -> None:
        for start in (datetime(2026, 1, 1, 8, 30, tzinfo=UTC), datetime(2026, 1, 1, 9, 30)):
            timing = Schedule(Daily(on=WEEKDAYS), start=start, timezone="Europe/Madrid")
            assert monitor_config(make_request(timing=timing))["schedule"]["value"] == "30 9 * * 1,2,3,4,5"
        late = Schedule(Daily(on=WEEKDAYS), start=datetime(2026, 1, 1, 8, 30, 1, tzinfo=UTC))
        assert monitor_config(make_request(timing=late)) is None
        unknown = evolve(make_request(), timing=Schedule(Daily(on=WEEKDAYS)))
        assert monitor_config(unknown) is None

    @pytest.mark.parametrize(
        "timing",
        [
            Schedule(EverySeconds(7)),
            Schedule(Daily(at="09:00:30", on=WEEKDAYS)),
            Schedule(Weekly("mon tue", at="09:00", every=2)),
            Schedule(Monthly(-1, at="09:00")),
            Schedule(Monthly(31, at="09:00", short_month="last")),
            Schedule(Monthly(31, at="09:00", every=2)),
            Schedule(Monthly(on="tue(2)", at="09:00")),
            Schedule(Cron("0 9 l * *")),
            Schedule(Cron("0 9 * * fri#2")),
            Schedule(Cron("30 0 9 * * *", seconds="first")),
            Schedule(Cron("0/30 0 9 * * ?", dialect="quartz")),
            Schedule(Cron("0 0 9 15W * ?", dialect="quartz")),
            Schedule(Cron("0 0 9 * * ? 2030-2031", dialect="quartz")),
            Schedule(Recurrence("FREQ=DAILY"), start=datetime(2026, 1, 1, tzinfo=UTC)),
            Schedule((Daily(at="01:00"), Daily(at="13:00"))),
            Schedule(Daily(at="01:00"), exclude=Daily(on=WEEKENDS)),
            Immediate(),
            Later(datetime(2026, 1, 1, tzinfo=UTC)),
        ],
        ids=lambda timing: timing.describe(),
    )
    def test_what_is_neither_goes_without(self, timing: Timing) -> None:
        assert monitor_config(make_request(timing=timing)) is None

    def test_a_slug_is_spelled_as_sentry_wants(self) -> None:
        request: Request = make_request("Büro/7" * 20)
        assert slug(request).isascii()
        assert len(slug(request)) <= 50

    def test_a_plain_name_is_its_own_slug(self) -> None:
        for name in ("nightly-report", "import_2", "x" * 50):
            assert slug(make_request(name, process=name)) == name

    def test_no_two_schedules_share_a_slug(self) -> None:
        long = "x" * 45
        pairs = [(name, name) for name in ("a-b", "Büro", "Bäro", "büro", "Ω", "Ж", "7", "Report", "report", "a--b")]
        pairs += [("a", "b"), ("a-b", "c"), ("a", "b-c"), (long, "invoices-spain"), (long, "invoices-france")]
        slugs = {slug(make_request(id, process=process)) for process, id in pairs}
        assert len(slugs) == len(pairs)
        for name in slugs:  # as Sentry makes it of what it gets, and what it refuses
            assert re.sub(r"-+", "-", name).strip("-_") == name
            assert re.fullmatch(r"(?!\d+$)[a-z0-9_-]{1,50}", name)

    def test_a_slug_is_the_same_on_every_machine(self) -> None:
        assert slug(make_request("Büro", process="Büro")) == "b-ro-6101204a"


class TestPing:
    def test_the_ends_of_a_run_have_one_mark_whoever_has_it(self, receiver: Receiver) -> None:
        here, there, clock = two_schedulers([ValueError("no paper")])
        for one in (here, there):
            ping(one, {"p": f"http://127.0.0.1:{receiver.port}"})
        here.run_now("p")
        run_all(here)
        clock.advance(60)
        run_all(there)
        assert [path.partition("?")[0] for path, _ in receiver.got] == ["/start", "/start", "/"]
        assert len({path.partition("?")[2] for path, _ in receiver.got}) == 1
        check_out(here, there)

    def test_a_run_has_another_mark_in_another_store(self) -> None:
        run = Run(request_id="p", process="p", fire_time=NOW, recorded_at=NOW)
        assert mark_of(run) == mark_of(evolve(run, owner="a", attempt=2))
        for other in ({"revision": 2}, {"request_id": "q"}, {"recorded_at": NOW + timedelta(microseconds=1)}):
            assert mark_of(evolve(run, **other)) != mark_of(run)

    def test_start_success_and_fail_with_the_end_of_the_log(self, scheduler: Scheduler, receiver: Receiver) -> None:
        base = f"http://127.0.0.1:{receiver.port}"
        undo = ping(scheduler, {"fine": f"{base}/a", "broken": f"{base}/b/?x=1"})
        scheduler.run_now("fine")
        scheduler.run_now("broken")
        run_all(scheduler)
        got = sorted((path.partition("?")[0], path.partition("rid=")[2]) for path, _ in receiver.got)
        assert [path for path, _ in got] == ["/a", "/a/start", "/b/fail", "/b/start"]
        assert got[0][1] == got[1][1] != got[2][1] == got[3][1]
        said = next(body.decode() for path, body in receiver.got if path.startswith("/b/fail"))
        assert "error: ValueError: no paper" in said
        assert "INFO about to fail" in said
        assert next(path for path, _ in receiver.got if path.startswith("/b/fail")).startswith("/b/fail?x=1&rid=")
        undo()
        scheduler.run_now("fine")
        run_all(scheduler)
        assert len(receiver.got) == 4

    def test_a_member_of_a_group_is_told_under_its_name_and_not_under_its_groups_request(
        self, scheduler: Scheduler, receiver: Receiver
    ) -> None:
        base = f"http://127.0.0.1:{receiver.port}"
        ping(scheduler, {"fine": f"{base}/member", "closing": f"{base}/group"})
        scheduler.add(ProcessGroup("month-end", ["fine"]))
        scheduler.schedule("month-end", Immediate(), id="closing")
        run_all(scheduler)
        got = sorted(path.partition("?")[0] for path, _ in receiver.got)
        assert got == ["/group", "/group/start", "/member", "/member/start"]

    def test_what_nobody_answers_harms_no_run(self, scheduler: Scheduler, receiver: Receiver) -> None:
        receiver.status = 500
        ping(scheduler, {"fine": f"http://127.0.0.1:{receiver.port}", "broken": "http://127.0.0.1:1/x"})
        scheduler.run_now("fine")
        scheduler.run_now("broken")
        run_all(scheduler)
        assert {run.status for run in scheduler.monitor.runs()} == {RunStatus.SUCCESS, RunStatus.ERROR}

    def test_a_receiver_that_hangs_delays_no_run(
        self, scheduler: Scheduler, receiver: Receiver, caplog: pytest.LogCaptureFixture
    ) -> None:
        receiver.answers.clear()
        ping(scheduler, {"fine": f"http://127.0.0.1:{receiver.port}"}, timeout=0.05)
        scheduler.run_now("fine")
        scheduler.run_until_idle()
        assert [run.status for run in scheduler.monitor.runs()] == [RunStatus.SUCCESS]
        scheduler._hooks.settle(30)
        assert sum("the ping for run 1 of fine failed: timed out" in text for text in caplog.messages) == 2

    def test_a_receiver_that_drips_is_left_when_its_time_is_over(
        self, scheduler: Scheduler, caplog: pytest.LogCaptureFixture
    ) -> None:
        """It sends one byte of its answer after another, so that no step of the exchange takes long."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            ping(scheduler, {"fine": f"http://127.0.0.1:{server.getsockname()[1]}"}, timeout=0.05)
            dripping = threading.Thread(target=drip, args=(server, told := threading.Event()), daemon=True)
            dripping.start()
            scheduler.run_now("fine")
            run_all(scheduler)
            told.set()
            dripping.join(30)
        assert sum("the ping for run 1 of fine failed: timed out" in text for text in caplog.messages) == 2

    def test_while_many_hang_no_further_one_is_sent(
        self, scheduler: Scheduler, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = threading.Event()
        monkeypatch.setattr(ping_module, "_MOST_HANGING", 2)
        monkeypatch.setattr(ping_module, "_post", lambda *_: asked.wait(30))
        pings = ping_module._Pings(scheduler.monitor, {}, timeout=0)
        request = urllib.request.Request(f"http://127.0.0.1:{receiver.port}")
        assert [pings._deliver(request) for _ in range(3)] == ["timed out", "timed out", "2 others hang"]
        hanging = pings._hanging
        asked.set()
        for thread in hanging:
            thread.join(30)
        assert pings._deliver(request) != "2 others hang"

    def test_where_no_thread_can_be_had_it_is_said(
        self, scheduler: Scheduler, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(thread: threading.Thread, start: Any = threading.Thread.start) -> None:
            if thread.name == "bgsched-ping":
                raise RuntimeError("can't start new thread")
            start(thread)

        ping(scheduler, {"fine": "http://127.0.0.1:1"})
        monkeypatch.setattr(threading.Thread, "start", refuse)
        scheduler.run_now("fine")
        run_all(scheduler)
        assert sum("of fine failed: can't start new thread" in text for text in caplog.messages) == 2

    def test_an_answer_that_is_no_http_is_said(
        self, scheduler: Scheduler, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def garbage(*_: object, **__: object) -> None:
            raise http.client.BadStatusLine("garbage")

        monkeypatch.setattr(urllib.request, "urlopen", garbage)
        ping(scheduler, {"fine": "http://127.0.0.1:1"})
        scheduler.run_now("fine")
        run_all(scheduler)
        assert sum("the ping for run 1 of fine failed: garbage" in text for text in caplog.messages) == 2

    @pytest.mark.parametrize("url", ["ftp://host/x", "http://", "http://h:99999/", "http://h:x/", "host", 3, None])
    def test_an_address_is_http(self, scheduler: Scheduler, url: Any) -> None:
        with pytest.raises(ValueError, match="the address for 'fine' must begin with http"):
            ping(scheduler, {"fine": url})

    @pytest.mark.parametrize("timeout", [None, "5", 0, -1, math.inf, math.nan])
    def test_a_ping_is_waited_for_so_many_seconds(self, scheduler: Scheduler, timeout: Any) -> None:
        with pytest.raises(ValueError, match="timeout must be a number of seconds above 0"):
            ping(scheduler, {"fine": "http://127.0.0.1:1"}, timeout=timeout)


def drip(server: socket.socket, told: threading.Event) -> None:
    """Answer whoever comes, byte by byte, until *told* to end."""
    with ExitStack() as stack:
        taken: list[socket.socket] = []
        server.settimeout(0.01)
        while not told.is_set():
            with suppress(TimeoutError):
                taken.append(stack.enter_context(server.accept()[0]))
            for one in taken:
                with suppress(OSError):
                    one.send(b"H")
