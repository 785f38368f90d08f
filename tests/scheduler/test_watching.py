"""What its monitor says."""

import json
from datetime import timedelta

from bgsched import (
    EverySeconds,
    Immediate,
    OnAbandon,
    PostgresStore,
    Schedule,
    Scheduler,
    current_run,
)
from bgsched.testing import ManualClock


class TestMonitor:
    def test_health_says_what_is_wrong(self, scheduler: Scheduler, clock: ManualClock) -> None:
        scheduler.process("p")(lambda: None)
        assert scheduler.monitor.health().problems == ("no scheduler is signed on",)
        scheduler.run_pending()
        if isinstance(scheduler.store, PostgresStore):  # whose server knows that the clock of this test is wrong
            theirs, ours = scheduler.monitor.health().problems
            assert "behind that of the database server" in theirs
            assert ours.startswith("the clock here is")
        else:
            assert scheduler.monitor.health().ok
        scheduler.schedule("p", Immediate(), id="waits")
        clock.advance(120)
        health = scheduler.monitor.health()
        assert health.overdue_by == timedelta(minutes=2)
        assert any("'waits'" in problem for problem in health.problems)
        json.dumps(health.to_dict())

    def test_following_a_log_ends_with_the_run(self, scheduler: Scheduler) -> None:
        scheduler.process("p")(lambda: current_run().log.info("hello"))
        scheduler.run_now("p")
        scheduler.run_pending()
        run = scheduler.monitor.runs()[0]
        assert [line.text for line in scheduler.monitor.follow(run.id)] == ["hello"]

    def test_everything_is_json(self, scheduler: Scheduler) -> None:
        @scheduler.process("p", on_abandon=OnAbandon.RERUN)
        def work() -> dict[str, int]:
            for _ in current_run().track([1, 2]):
                current_run().log.info("one")
            return {"n": 1}

        scheduler.schedule("p", Schedule(EverySeconds(5)))
        scheduler.run_pending()
        run = scheduler.monitor.runs()[0]
        assert json.loads(json.dumps(run.to_dict()))["progress"] == {"done": 2, "total": 2, "message": None}
        json.dumps([line.to_dict() for line in scheduler.monitor.log(run.id)])
        json.dumps([request.to_dict() for request in scheduler.monitor.requests()])
        json.dumps(scheduler.monitor.summary().to_dict())
        assert scheduler.monitor.upcoming()[0].id == run.request_id
        assert scheduler.monitor.running() == []
