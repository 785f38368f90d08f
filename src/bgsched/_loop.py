"""The scheduler's thread: pass after pass, and waits between, until it is told to leave.

It survives every exception: it says each cause once, backs off, and tries again. It leaves when its runs have come to
an end, or the time to wait for them is over, and says so to the store; where that does not listen, others find out.
"""

import math
import random
import threading

from bgsched._current import StopCause
from bgsched._engine import Engine
from bgsched._outcome import text_of
from bgsched._runlog import LOGGER
from bgsched.clock import Clock, Signal, deadline_in, left_until
from bgsched.errors import StoreUnavailableError
from bgsched.run import Run

__all__ = ["Loop"]

_FIRST_BACKOFF = 0.5
_LONGEST_BACKOFF = 30.0
_LAST_WORDS = 5.0  # for how long a scheduler that leaves tries to tell the store what its runs came to


class Loop:
    """Makes the passes of *engine* on a thread of its own. *wake* calls for the next one."""

    def __init__(self, engine: Engine, clock: Clock, wake: Signal) -> None:
        self._engine = engine
        self._clock = clock
        self._wake = wake
        self._stopping = Signal()
        self._deadline = math.inf
        self._left: list[Run] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bgsched", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def tell(self, deadline: float) -> None:
        """Tell the thread to leave once what runs has come to its end, at *deadline* (`deadline_in`) at last.

        Told again, it takes the earliest of the deadlines.
        """
        self._engine.leaving = True
        self._deadline = min(deadline, self._deadline)
        self._stopping.set()
        self._wake.set()

    def stop(self, deadline: float) -> tuple[Run, ...]:
        """Let what runs come to its end, until *deadline*; return the runs that were left."""
        self.tell(deadline)
        self._over.wait()  # before 3.13, Ctrl-C within join() has the thread taken for ended
        self._thread.join()
        return tuple(self._left)

    def _run(self) -> None:
        try:
            self._go_on()
            self._leave()
        finally:
            self._over.set()

    def _go_on(self) -> None:
        failures = 0
        while not self._is_over():
            try:
                self._wake.clear()
                self._engine.one_pass()
                wait = self._engine.longest_wait()
                failures = 0
                self._no_trouble()
                if not self._is_over():
                    self._wait(wait)
            except BaseException as error:  # noqa: BLE001  even a panic of a driver in Rust: this thread goes on
                self._trouble(error)
                self._rest(failures)
                failures += 1

    def _wait(self, seconds: float) -> None:
        """Wait for what calls for a pass; in real time once there is a deadline, which the clock may never reach."""
        if self._deadline == math.inf:
            self._clock.wait(self._wake, seconds)
        else:
            self._wake.wait(min(seconds, left_until(self._deadline)))

    def _rest(self, failures: int) -> None:
        """Wait longer after each failure, while no run is over its time; when it is to stop, not long, in real time."""
        if self._stopping.is_set():
            threading.Event().wait(min(_FIRST_BACKOFF, left_until(self._deadline)))
            return
        wait = min(_FIRST_BACKOFF * 2 ** min(failures, 10), _LONGEST_BACKOFF) * random.uniform(0.8, 1.2)  # noqa: S311  no two march in step
        self._clock.wait(self._stopping, min(wait, self._engine.time_left()))

    def _is_over(self) -> bool:
        """Whether the thread is to leave and may: nothing runs any more, or the time to wait for it is over.

        Groups are left to others, or to later.
        """
        return self._stopping.is_set() and (not self._engine.busy or left_until(self._deadline) == 0)

    def _leave(self) -> None:
        """Sign off; when the store does not take it for long, others will find out and end what is left."""
        self._engine.stop_all(StopCause.SHUTDOWN)
        give_up = deadline_in(_LAST_WORDS) if self._deadline == math.inf else self._deadline
        while True:
            try:
                self._left = self._engine.sign_off()
            except BaseException as error:  # noqa: BLE001  leaving cannot be refused
                self._trouble(error)
                if left_until(give_up) == 0:
                    break
                self._rest(0)
            else:
                return
        self._left = self._engine.walk_out()

    def _trouble(self, error: BaseException) -> None:
        """Keep and log what keeps the thread from its work, once for each cause."""
        engine, problem = self._engine, f"{type(error).__name__}: {text_of(error)}"
        if problem != engine.problem:
            engine.problem = problem
            engine.problem_since = engine.problem_since or self._clock.now()
            frames = None if isinstance(error, StoreUnavailableError) else error  # that one says it all
            LOGGER.error("the scheduler cannot work and tries again: %s", problem, exc_info=frames)

    def _no_trouble(self) -> None:
        engine = self._engine
        if engine.problem is not None:
            since, engine.problem, engine.problem_since = engine.problem_since, None, None
            LOGGER.warning("the scheduler works again; it could not since %s", since)
            self._wake.set()  # the next heartbeat tells others, and does not have to wait
