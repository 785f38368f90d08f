"""Changes of stored requests, those that the code declares among them. Listeners are told of each."""

from collections.abc import Callable, Iterable
from typing import Any

from bgsched._current import StopCause
from bgsched._filing import Desk, sought_request
from bgsched._parts import Parts
from bgsched._runlog import LOGGER
from bgsched.errors import StoreError, UnknownRequestError, did_you_mean
from bgsched.process import Process
from bgsched.request import Request
from bgsched.run import Run, RunStatus

__all__ = ["Changes"]


class Changes:
    """Changes requests as somebody asks, or as the code declares."""

    def __init__(self, parts: Parts, desk: Desk) -> None:
        self._store = parts.store
        self._processes = parts.processes
        self._clock = parts.clock
        self._hooks = parts.hooks
        self._desk = desk

    def change(self, id: str, change: Callable[[Request], Request], *, end_waiting: str | None = None) -> Request:
        """Change a request that there is; *end_waiting*: why its runs that wait end, ``None`` where they stay.

        Raises:
            UnknownRequestError: there is no such request.
            StoreUnavailableError: the store could not take it.
        """

        def checked(request: Request | None) -> Request:
            if request is None:
                raise UnknownRequestError(id)
            return change(request)

        changed = self._replace(sought_request(id), checked, end_waiting=end_waiting)
        assert changed is not None  # noqa: S101  checked() returns one or raises
        return changed

    def delete(self, id: str) -> None:
        """Delete a request, and tell the end of its runs that waited, and are gone with it."""

        def tell(waiting: Iterable[Run]) -> None:
            now, why = self._clock.now(), StopCause.DELETED.value
            self._hooks.ended([run.move(RunStatus.KILLED, finished_at=now, reason=why) for run in waiting])

        self._store.delete(sought_request(id), ended=tell)

    def declare(self, process: Process[Any, Any], *, only_missing: bool = False) -> None:
        """Make true what the code declares of a process; where *only_missing*, what is there stays."""
        now = self._clock.now()

        def declared(request: Request | None) -> Request | None:
            if only_missing and request is not None:
                return None
            if process.timing is not None and request is not None and request.process != process.name:
                LOGGER.warning(
                    "request %r of process %r makes way for the timing that process %r declares, which has that id",
                    request.id,
                    request.process,
                    process.name,
                )
            wanted = self._desk.declared(process, request, now)
            _tell_of_timing(process, request, wanted)
            return wanted

        self._replace(process.name, declared)

    def declare_anew(self) -> None:
        """Declare all timings to a store that may not know them any more; what cannot be declared holds up no other.

        What is there stays: this scheduler may have slept through the start of another one with newer code.
        """
        for process in self._processes:
            try:
                self.declare(process, only_missing=True)
            except StoreError:
                raise
            except Exception as error:  # noqa: BLE001  of the code, and known since the start
                LOGGER.error("the timing of process %r cannot be declared: %s", process.name, error, exc_info=error)

    def warn_of_leaders(self, process: Process[Any, Any]) -> None:
        """Say it where a process runs after one that nobody has registered."""
        for leader in process.policies.after:
            if leader not in self._processes:
                hint = did_you_mean(leader, self._processes.names())
                LOGGER.warning("process %r runs after %r, which is not registered here%s", process.name, leader, hint)

    def _replace(
        self, id: str, change: Callable[[Request | None], Request | None], *, end_waiting: str | None = None
    ) -> Request | None:
        """Replace a stored request, and tell of it."""
        seen: list[Request | None] = []

        def seen_change(found: Request | None) -> Request | None:
            seen[:] = found, change(found)
            return seen[1]

        now = self._clock.now()
        changed = self._store.change(id, seen_change, now, end_waiting=end_waiting, ended=self._hooks.ended)
        self._hooks.changed(*seen)
        return changed


def _tell_of_timing(process: Process[Any, Any], before: Request | None, wanted: Request | None) -> None:
    """Say it where the code declares another timing than before, or one that never fires."""
    if wanted is None or wanted.declared is None or (before is not None and before.declared == wanted.declared):
        return
    said = wanted.timing.describe()
    if wanted.next_fire_time is None:
        LOGGER.warning("the timing that process %r declares never fires: %s; %s", process.name, said, wanted.reason)
    elif before is not None:
        LOGGER.info("process %r declares another timing than before: %s", process.name, said)
