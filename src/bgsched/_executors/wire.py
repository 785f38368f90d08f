"""The scheduler's side: follows one run that goes on in another OS process, until it ends or its worker does."""

import threading
from collections.abc import Callable
from datetime import timedelta

from bgsched._current import LiveRun, StopCause
from bgsched._executors.bench import Post
from bgsched._outcome import Outcome, broken_off, failed, timed_out
from bgsched._worker import close
from bgsched.run import Progress

__all__ = ["Wire"]


class Wire:
    """What connects a run to its worker.

    A run that was asked to stop is *cut* off when it has not stopped within *grace*: if *hard*, whatever it was asked
    for; if not, only when its time is over. Then nothing more is heard of it.
    """

    def __init__(self, post: Post, live: LiveRun, *, grace: timedelta, hard: bool, cut: Callable[[], None]) -> None:
        self._post = post
        self._live = live
        self._grace = grace.total_seconds()
        self._hard = hard
        self._cut = cut
        self._said: set[StopCause] = set()
        self._timer: threading.Timer | None = None
        self._over = False
        self._lock = threading.Lock()

    def follow(self, errand: bytes, died: Callable[[], BaseException]) -> bool:
        """Send the errand, and end the run as its worker says; ``False``: the worker is gone. *died* says how."""
        self._post.send("run", then=errand)
        self._live.interrupt = self.stop
        if self._live.asked:
            self.stop()
        try:
            outcome = self._listen()
        finally:
            self._hang_up()
        self._end(outcome, died)
        return outcome is not None

    def stop(self) -> None:
        """Pass on that the run is asked to stop, once for each cause. From any thread."""
        cause = self._live.cause or StopCause.KILLED
        with self._lock:
            if self._over:
                return
            if (self._hard or self._live.overdue) and self._timer is None:
                self._timer = threading.Timer(self._grace, self._cut_off)
                self._timer.daemon = True
                self._timer.start()
            if cause not in self._said:
                self._said.add(cause)
                self._post.send("stop", *self._live.token, cause.name)  # locked: whose line is over may close it

    def _cut_off(self) -> None:
        with self._lock:
            if not self._over:
                self._cut()

    def _hang_up(self) -> None:
        with self._lock:
            self._over = True
            if self._timer is not None:
                self._timer.cancel()

    def _listen(self) -> Outcome | None:
        """Take what the worker says; return the outcome, ``None`` when the worker is gone."""
        live = self._live
        while (message := self._post.receive()) is not None:
            kind, *values = message
            if kind == "end":
                return Outcome.from_dict(values[0])
            if kind == "line" and not live.closed:
                live.log.write(*values)
            elif kind == "progress":
                live.say(Progress(*values))
        return None

    def _end(self, outcome: Outcome | None, died: Callable[[], BaseException]) -> None:
        live = self._live
        if live.cause is StopCause.TIMED_OUT:
            live.close(timed_out(live))
        elif outcome is not None:
            close(live, outcome)
        elif live.asked:
            live.close(broken_off(live, "its worker was killed" if self._hard else "its worker was left to itself"))
        else:
            live.close(failed(live, died()))
