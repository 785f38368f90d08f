"""Retry, and what an error is recorded as."""

from datetime import timedelta

import pytest
from behaviour import _work
from behaviour._host import T0, Host

from bgsched import Immediate, Retry, RunRetried, RunStatus

S = RunStatus
SECOND = timedelta(seconds=1)


class TestRetry:
    def test_each_attempt_has_its_start_end_and_log_and_the_waiting_survives(self, host: Host) -> None:
        host.process(_work.flaky, retry=Retry(attempts=3, delay=10 * SECOND, backoff=3))
        request = host.scheduler().run_now("p")
        for attempt, wait in ((1, 10), (2, 30)):
            one = host.start()
            run = host.tried(request, attempt)
            assert (run.status, run.owner, run.due_at) == (S.WAITING, None, host.clock.now() + wait * SECOND)
            one.shutdown()
            host.clock.advance(wait)
        host.start()
        run = host.end_of(request)
        assert (run.status, run.attempt, run.result) == (S.SUCCESS, 3, "printed")
        assert [(a.number, a.status, a.started_at, a.finished_at) for a in run.attempts] == [
            (1, S.ERROR, T0, T0),
            (2, S.ERROR, T0 + 10 * SECOND, T0 + 10 * SECOND),
        ]
        assert (run.started_at, run.finished_at) == (T0 + 40 * SECOND, T0 + 40 * SECOND)
        error = run.attempts[0].error
        assert error is not None
        assert (error.type, error.message) == ("OSError", "no paper")
        said = [(line.attempt, line.text) for line in host.monitor.log(run.id) if line.logger == "bgsched.run"]
        assert said == [(1, "attempt 1"), (2, "attempt 2"), (3, "attempt 3")]
        assert [line.attempt for line in host.monitor.log(run.id) if "no paper" in line.text] == [1, 2]
        assert sum(isinstance(event, RunRetried) for event in host.events) == 2

    def test_jitter_spreads_the_attempts_of_many_runs(self, host: Host) -> None:
        host.process(_work.fail, retry=Retry(delay=SECOND, jitter=60 * SECOND))
        scheduler = host.start()
        requests = scheduler.schedule_many([("p", Immediate(), None) for _ in range(5)])
        due = {host.tried(request, 1).due_at for request in requests}
        assert len(due) == 5
        assert all(at is not None and T0 + SECOND <= at < T0 + 61 * SECOND for at in due)

    @pytest.mark.parametrize(("kind", "status"), [("OSError", S.WAITING), ("ValueError", S.ERROR)])
    def test_only_what_is_named_is_tried_again(self, host: Host, kind: str, status: RunStatus) -> None:
        host.process(_work.fail, retry=Retry(retry_on=(OSError, LookupError)))
        host.start()
        request = host.file(kind=kind)
        run = host.tried(request, 1) if status is S.WAITING else host.end_of(request)
        assert run.status is status

    def test_the_last_failure_is_the_error_of_the_run(self, host: Host) -> None:
        host.process(_work.fail, retry=Retry(attempts=2, delay=timedelta(0)))
        host.start()
        run = host.run()
        assert (run.status, run.attempt, len(run.attempts)) == (S.ERROR, 2, 1)


class TestErrors:
    def test_an_error_keeps_type_message_and_traceback_with_its_causes(self, host: Host) -> None:
        host.process(_work.flaky)
        host.start()
        run = host.run()
        error = run.error
        assert error is not None
        assert (run.status, error.type, error.message) == (S.ERROR, "OSError", "no paper")
        assert "KeyError: 'tray'" in error.traceback
        assert "direct cause" in error.traceback
        assert 'raise OSError("no paper") from KeyError("tray")' in error.traceback
        assert "bgsched/_worker.py" not in error.traceback
        assert host.log_of(run, "ERROR") == [error.traceback]
