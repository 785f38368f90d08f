"""What a scheduler has to say of its runs, kept until the store has taken it.

Each report goes out under the owner that held the run: who was taken for dead goes on under a new name, and what its
runs still say is refused. A value that the store cannot take holds up nobody else's.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from bgsched._current import LiveRun
from bgsched._events import RequestScheduled, RunFinished, RunRetried
from bgsched._evolve import evolve
from bgsched._filing import follow_up
from bgsched._parts import Parts
from bgsched._runlog import LOGGER
from bgsched.errors import StoreError
from bgsched.request import Request
from bgsched.run import LogLine, LogTrim, Run, RunError, RunStatus
from bgsched.stores.base import Report

__all__ = ["Reports"]


@dataclass(slots=True)
class _Unsent:
    """What the store has not taken yet, of one owner."""

    runs: dict[int, Run] = field(default_factory=dict)
    log: list[LogLine] = field(default_factory=list)
    trims: list[LogTrim] = field(default_factory=list)


@dataclass(slots=True)
class _Answer:
    """What the store made of reports: the runs that it *refused*, others that are *over*, and the requests *filed*."""

    refused: list[Run] = field(default_factory=list)
    over: list[Run] = field(default_factory=list)
    filed: list[Request] = field(default_factory=list)


class Reports:
    """Collects the news of runs, and sends them. *refused* hears of each run of which the store took nothing."""

    def __init__(self, parts: Parts, refused: Callable[[Run], None]) -> None:
        self._store = parts.store
        self._processes = parts.processes
        self._clock = parts.clock
        self._hooks = parts.hooks
        self._refused = refused
        self._unsent: dict[str, _Unsent] = {}

    @property
    def wait(self) -> bool:
        """Whether there is something that the store has not taken when it was last asked."""
        return bool(self._unsent)

    @property
    def untold(self) -> list[Run]:
        """The runs that have ended, and of which the store does not know it yet."""
        return [run for unsent in self._unsent.values() for run in unsent.runs.values() if not run.is_active]

    def collect(self, live: LiveRun) -> None:
        """Keep what is new of a run."""
        changed, lines, trim = live.news()
        if changed is None and trim is None and not lines:
            return
        unsent = self._unsent.get(live.owner)
        if unsent is None:
            unsent = self._unsent[live.owner] = _Unsent()
        if lines:
            unsent.log.extend(lines)
        if trim is not None:
            unsent.trims.append(trim)
        if changed is not None:
            unsent.runs[changed.id] = changed

    def send(self) -> None:
        """Send everything. What the store cannot take now stays for the next time."""
        for owner in list(self._unsent):
            self._send(owner, self._unsent[owner])
            del self._unsent[owner]

    def _send(self, owner: str, unsent: _Unsent) -> None:
        now, answer = self._clock.now(), _Answer()
        try:
            runs = list(unsent.runs.values())
            self._record(owner, now, Report(runs, unsent.log, unsent.trims, self._follow_ups(runs, now)), answer)
        except StoreError:
            raise
        except Exception as error:  # noqa: BLE001  one value that the store cannot take must not hold up the others
            LOGGER.error("a report could not be stored, each run goes alone: %s", error, exc_info=error)
            self._send_singly(owner, now, unsent, answer)
        for run in answer.refused:
            LOGGER.warning("run %s: %s was refused, the run is no longer ours", run.id, run.status.value)
            self._refused(run)
        if self._hooks.listening:
            self._tell(unsent.runs.values(), answer)

    def _record(self, owner: str, now: datetime, report: Report, answer: _Answer) -> None:
        refused = self._store.record(owner, now, report, ended=answer.over.extend)
        answer.refused += refused
        gone = {run.id for run in refused}
        answer.filed += [request for run_id, request in report.follow_ups if run_id not in gone]

    def _follow_ups(self, runs: Iterable[Run], now: datetime) -> list[tuple[int, Request]]:
        """Return the requests that the successes among *runs* bring about, each with the run that it follows."""
        found = []
        for run in runs:
            for process in self._processes.followers(run.process) if run.status is RunStatus.SUCCESS else ():
                try:
                    found.append((run.id, follow_up(process, run, now)))
                except Exception as error:  # noqa: BLE001  what cannot be filed must not hold up the result before it
                    LOGGER.error("process %r cannot run after run %s: %s", process.name, run.id, error, exc_info=error)
        return found

    def _tell(self, runs: Iterable[Run], answer: _Answer) -> None:
        self._hooks.ended(answer.over)
        over = {run.id for run in answer.over}
        refused = {run.id for run in answer.refused if not self._is_deleted(run)}
        for run in runs:
            if run.id in over or run.id in refused:
                continue
            if not run.is_active:
                self._hooks.emit(RunFinished(run.masked()))
            elif run.attempts and run.attempts[-1].number == run.attempt:  # not one that was only put back
                self._hooks.emit(RunRetried(run.masked()))
        for request in answer.filed:
            self._hooks.emit(RequestScheduled(request.masked()))

    def _is_deleted(self, run: Run) -> bool:
        """Whether a run that was refused has ended with its request, of which nobody else tells."""
        try:
            return not run.is_active and self._store.reader().find_run(run.id) is None
        except StoreError:  # what was stored with it is not to be sent again for this
            return False

    def _send_singly(self, owner: str, now: datetime, unsent: _Unsent, answer: _Answer) -> None:
        """Store run by run; one that cannot be stored as it is ends without what its process gave it."""
        for line in unsent.log:
            self._try_to_record(owner, now, Report((), [line]), answer)
        self._try_to_record(owner, now, Report((), (), unsent.trims), answer)
        for run in unsent.runs.values():
            whole = Report([run], follow_ups=self._follow_ups([run], now))
            if not self._try_to_record(owner, now, whole, answer):
                error = RunError("ValueError", "what the run ended with could not be stored")
                bare = evolve(run, result=None, progress=None, attempts=(), error=error, reason=error.message)
                self._try_to_record(owner, now, Report([bare]), answer)

    def _try_to_record(self, owner: str, now: datetime, report: Report, answer: _Answer) -> bool:
        try:
            self._record(owner, now, report, answer)
        except StoreError:
            raise
        except Exception:  # noqa: BLE001  the cause was logged with the report that it came with
            return False
        return True
