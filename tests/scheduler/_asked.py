"""What tests of the scheduler ask it, and for how long."""

from datetime import UTC, datetime

from bgsched import (
    Run,
    RunStatus,
    Scheduler,
)

T0 = datetime(2026, 1, 1, tzinfo=UTC)
PATIENCE = 20.0  # seconds until a signal that never comes fails a test


def runs_of(scheduler: Scheduler, request: str) -> list[Run]:
    """Return the runs of a request, oldest first."""
    return scheduler.monitor.runs(request=request)[::-1]


def statuses(scheduler: Scheduler, request: str) -> list[RunStatus]:
    return [run.status for run in runs_of(scheduler, request)]
