"""Runs that fail, are tried again or killed, and what they write."""

import logging
from datetime import timedelta

import pytest
from scheduler._asked import T0, runs_of, statuses

from bgsched import (
    NoCurrentRunError,
    Retry,
    RunStatus,
    Scheduler,
    current_run,
)
from bgsched.testing import ManualClock


class TestFailing:
    def test_an_error_is_kept_with_its_traceback_in_the_log(self, scheduler: Scheduler) -> None:
        def fail() -> None:
            raise ValueError("no paper")

        scheduler.process("p")(fail)
        request = scheduler.run_now("p")
        scheduler.run_pending()
        (run,) = runs_of(scheduler, request.id)
        assert run.status is RunStatus.ERROR
        assert run.error is not None
        assert (run.error.type, run.error.message) == ("ValueError", "no paper")
        assert "in fail" in run.error.traceback
        assert "_worker.py" not in run.error.traceback
        assert 'raise ValueError("no paper")' in scheduler.monitor.log(run.id)[-1].text

    @pytest.mark.parametrize("failure", [SystemExit(3), GeneratorExit()])
    def test_nothing_gets_out_of_a_process(self, scheduler: Scheduler, failure: BaseException) -> None:
        def fail() -> None:
            raise failure

        scheduler.process("p")(fail)
        request = scheduler.run_now("p")
        scheduler.run_pending()
        (run,) = runs_of(scheduler, request.id)
        assert run.error is not None
        assert run.error.type == type(failure).__name__

    def test_ctrl_c_in_a_run_reaches_the_host_whose_thread_it_is(self, scheduler: Scheduler) -> None:
        def interrupted() -> None:
            raise KeyboardInterrupt

        scheduler.process("p")(interrupted)
        first, second = scheduler.run_now("p"), scheduler.run_now("p")
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt):
                scheduler.run_pending()
        assert statuses(scheduler, first.id) == statuses(scheduler, second.id) == [RunStatus.ERROR]

    def test_an_error_that_cannot_say_what_it_is(self, scheduler: Scheduler) -> None:
        class MuteError(Exception):
            def __str__(self) -> str:
                raise RuntimeError

        def fail() -> None:
            raise MuteError

        scheduler.process("p")(fail)
        request = scheduler.run_now("p")
        scheduler.run_pending()
        (run,) = runs_of(scheduler, request.id)
        assert run.error is not None
        assert "its message failed" in run.error.message

    def test_a_retry_waits_and_keeps_each_attempt(self, scheduler: Scheduler, clock: ManualClock) -> None:
        seen: list[int] = []

        def flaky() -> str:
            run = current_run()
            seen.append(run.attempt)
            run.log.info("attempt %s", run.attempt)
            if run.attempt < 3:
                raise OSError("not yet")
            return "done"

        scheduler.process("p", retry=Retry(attempts=3, delay=timedelta(seconds=10), backoff=2.0))(flaky)
        request = scheduler.run_now("p")
        assert scheduler.run_pending() == T0 + timedelta(seconds=10)
        clock.advance(10)
        assert scheduler.run_pending() == T0 + timedelta(seconds=30)
        clock.advance(20)
        scheduler.run_pending()
        (run,) = runs_of(scheduler, request.id)
        assert (run.status, run.result, run.attempt) == (RunStatus.SUCCESS, "done", 3)
        assert [attempt.status for attempt in run.attempts] == [RunStatus.ERROR, RunStatus.ERROR]
        texts = [line.text for line in scheduler.monitor.log(run.id) if line.logger == "bgsched.run"]
        assert texts == ["attempt 1", "attempt 2", "attempt 3"]
        assert seen == [1, 2, 3]

    def test_the_last_attempt_ends_the_run(self, scheduler: Scheduler, clock: ManualClock) -> None:
        def fail() -> None:
            raise OSError("never")

        scheduler.process("p", retry=Retry(attempts=2, delay=timedelta(0)))(fail)
        request = scheduler.run_now("p")
        scheduler.run_until_idle()
        (run,) = runs_of(scheduler, request.id)
        assert (run.status, run.attempt, len(run.attempts)) == (RunStatus.ERROR, 2, 1)

    def test_a_result_that_is_no_json_is_named_in_the_log(self, scheduler: Scheduler) -> None:
        scheduler.process("p")(lambda: {"at": object()})
        request = scheduler.run_now("p")
        scheduler.run_pending()
        (run,) = runs_of(scheduler, request.id)
        assert (run.status, run.result) == (RunStatus.SUCCESS, None)
        assert "result.at is of type object" in scheduler.monitor.log(run.id)[0].text


class TestRunLog:
    def test_everything_that_is_logged_in_a_run_is_kept(self, scheduler: Scheduler) -> None:
        def work() -> None:
            logging.getLogger("host.invoices").warning("number %s is missing", 7)
            current_run().log.debug("detail")
            current_run().log.info("wrong %d", "format")

        scheduler.process("p")(work)
        logging.getLogger("host.invoices").warning("not in a run")
        request = scheduler.run_now("p")
        scheduler.run_pending()
        (run,) = runs_of(scheduler, request.id)
        lines = scheduler.monitor.log(run.id)
        assert [(line.level, line.logger) for line in lines] == [
            ("WARNING", "host.invoices"),
            ("DEBUG", "bgsched.run"),
            ("INFO", "bgsched.run"),
        ]
        assert lines[0].text == "number 7 is missing"
        assert "TypeError" in lines[2].text

    def test_logging_is_left_as_it_was(self, scheduler: Scheduler) -> None:
        handlers, level = list(logging.root.handlers), logging.root.level
        scheduler.process("p")(lambda: None)
        scheduler.run_now("p")
        scheduler.run_pending()
        assert (logging.root.handlers, logging.root.level) == (handlers, level)

    def test_a_flood_keeps_its_head_and_its_tail(self, scheduler: Scheduler) -> None:
        def flood() -> None:
            for n in range(8000):
                current_run().log.info("line %s", n)

        scheduler.process("p")(flood)
        request = scheduler.run_now("p")
        scheduler.run_pending()
        (run,) = runs_of(scheduler, request.id)
        texts = [line.text for line in scheduler.monitor.log(run.id, limit=10_000)]
        assert texts[0] == "line 0"
        assert texts[-1] == "line 7999"
        assert "2000 lines were dropped here" in texts[5000]
        assert len(texts) == 6001

    def test_outside_a_run_there_is_no_current_run(self) -> None:
        with pytest.raises(NoCurrentRunError, match="no run here"):
            current_run()
        assert current_run(default=None) is None
