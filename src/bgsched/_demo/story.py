"""The main program of the demo: make a scheduler, start it, act as the people of the office do, stop, tell.

Everything that people do is put into the store before the call returns. After ``kill -9`` the same program, started
again, finds the requests as they were, and files only what is not there yet.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bgsched import (
    EverySeconds,
    Immediate,
    Later,
    Request,
    RequestExistsError,
    RequestStatus,
    Schedule,
    Scheduler,
    Store,
    Timing,
)
from bgsched._cli_text import Terminal
from bgsched._demo.closing import tell
from bgsched._demo.office import Office
from bgsched._demo.processes import register
from bgsched._demo.screen import Screen, open_screen
from bgsched.clock import Clock, Signal, SystemClock

__all__ = ["Act", "act_in", "begin", "make_scheduler", "open_office", "play"]

_REFRESH = 0.2
_PATIENCE = 5.0


def play(folder: Path, store: str | None, span: timedelta, terminal: Terminal) -> int:
    """Run the demo for *span*; return its exit code."""
    office, came = open_office(folder)
    url = store or f"sqlite:///{office.folder / 'bgsched.db'}"
    scheduler = make_scheduler(url, office)
    terminal.say(f"{came or 'No new'} invoices came into {office.inbox}")
    terminal.say(
        f"OS process {os.getpid()} works for {span.total_seconds():g} s; it survives Ctrl-C and kill -9", "dim"
    )
    began = datetime.now(UTC)
    with scheduler, open_screen(terminal, scheduler.monitor, span) as screen:
        begin(scheduler, began)
        _watch(scheduler, span, screen)
        report = scheduler.shutdown(timeout=_PATIENCE)
        screen.refresh(span.total_seconds())  # what came to its end meanwhile
    tell(terminal, scheduler.monitor, office, url, began=began, left=report.left)
    scheduler.store.close()
    return 0


def open_office(folder: Path) -> tuple[Office, int]:
    """Open the office in a folder, and let the post come; return how many invoices it brought."""
    office = Office(folder.absolute())
    return office, office.deliver()


def make_scheduler(store: Store | str, office: Office, *, clock: Clock | None = None) -> Scheduler:
    """Return the scheduler of the office, not started."""
    scheduler = Scheduler(store, workers=4, clock=clock)
    register(scheduler, office)
    return scheduler


def begin(scheduler: Scheduler, now: datetime) -> None:
    """File what the office wants from the first moment on."""
    file_once(scheduler, "rates", "fetch-rates", Immediate(), user="bank")
    file_once(scheduler, "rates of the bank", "publish-rates", Later(now + timedelta(seconds=2)), user="bank")
    file_once(scheduler, "reminders", "remind-customers", Schedule(EverySeconds(2)), {"days": 14}, user="maria")


def file_once(
    scheduler: Scheduler,
    id: str,
    process: str,
    timing: Timing,
    params: Mapping[str, Any] | None = None,
    *,
    user: str | None = None,
) -> Request:
    """File a request unless it is there from an earlier start and has fire times left; then leave it as it is."""
    try:
        return scheduler.schedule(process, timing, params, id=id, user=user)
    except RequestExistsError:
        found = scheduler.monitor.request(id)
        if found.status is RequestStatus.SCHEDULED:
            return found
        return scheduler.reschedule(id, timing, params=params)


# -- what people do meanwhile ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Act:
    """Something that somebody does when this *share* of the time is over."""

    share: float
    text: str
    do: Callable[[Scheduler], object]


def _audit(scheduler: Scheduler) -> None:
    file_once(scheduler, "audit", "audit-archive", Immediate(), {"passes": 1000}, user="auditor")


def _kill_audit(scheduler: Scheduler) -> None:
    for run in scheduler.monitor.runs(request="audit", status=("waiting", "running")):
        scheduler.kill(run.id)


ACTS = (
    Act(0.35, "Maria unschedules the reminders", lambda s: s.unschedule("reminders")),
    Act(0.45, "the auditor wants all seals checked", _audit),
    Act(0.6, "Maria reschedules the reminders, for 30 days", lambda s: s.reschedule("reminders", params={"days": 30})),
    Act(0.65, "the auditor has seen enough and kills the run", _kill_audit),
)


def act_in(scheduler: Scheduler, elapsed: float, span: float, done: int) -> list[Act]:
    """Do what is to be done by now, after the first *done* acts; return what was done."""
    due = [act for act in ACTS[done:] if elapsed >= act.share * span]
    for act in due:
        act.do(scheduler)
    return due


def _watch(scheduler: Scheduler, span: timedelta, screen: Screen) -> None:
    """Show what happens, until the time is over or Ctrl-C."""
    clock, never = SystemClock(), Signal()
    began, done = clock.monotonic(), 0
    try:
        while (elapsed := clock.monotonic() - began) < span.total_seconds():
            for act in act_in(scheduler, elapsed, span.total_seconds(), done):
                screen.note(act.text)
                done += 1
            screen.refresh(elapsed)
            clock.wait(never, min(_REFRESH, span.total_seconds() - elapsed))
    except KeyboardInterrupt:
        screen.note("stopped by Ctrl-C")
