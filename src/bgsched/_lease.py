"""For how long others take a scheduler for alive that they have not heard of, and how it keeps within that.

Leases are read on the wall clock, by whoever looks; here the seconds are counted by the clock that only goes forward.
"""

from datetime import datetime, timedelta

from bgsched._runlog import LOGGER
from bgsched.clock import Clock

__all__ = ["HEARTBEAT", "LEASE", "Lease"]

HEARTBEAT = timedelta(seconds=5)
LEASE = timedelta(seconds=15)
_CLOCKS_APART = 3.0  # seconds that others, who judge by their own clocks, may be ahead of ours
_JUMP = 2.0  # by how many seconds the two clocks must disagree to call it a jump


class Lease:
    """The lease of one owner after another, and when the leases of others count."""

    def __init__(self, clock: Clock) -> None:
        self._looked_at = clock.now(), clock.monotonic()
        self._renewed = 0.0
        self._next_heartbeat = 0.0
        self._others_count_from = clock.monotonic() + LEASE.total_seconds()  # of jumps before its time it cannot know

    def until(self, now: datetime) -> datetime:
        """Return until when a lease goes that begins now."""
        return now + LEASE

    def renew(self, asked_at: float) -> None:
        """Count the lease from when it was asked for."""
        self._renewed = asked_at
        self._next_heartbeat = asked_at + HEARTBEAT.total_seconds()

    def hurry(self) -> None:
        """Let the next heartbeat be due."""
        self._next_heartbeat = 0.0

    def is_to_renew(self, elapsed: float) -> bool:
        """Return whether a heartbeat is due."""
        return elapsed >= self._next_heartbeat

    def is_nearly_over(self, elapsed: float) -> bool:
        """Return whether somebody may take this owner for dead."""
        return elapsed - self._renewed > LEASE.total_seconds() - _CLOCKS_APART

    def others_count(self, elapsed: float) -> bool:
        """Return whether a lease that has run out means that its owner is dead."""
        return elapsed >= self._others_count_from

    def has_jumped(self, now: datetime, elapsed: float) -> bool:
        """Return whether the wall clock was set, or the machine slept, since the last call.

        Then all leases seem to have run out, or not to have for long. This owner renews its own at once; the others
        get the time to do the same.
        """
        then, at = self._looked_at
        self._looked_at = now, elapsed
        jump = (now - then).total_seconds() - (elapsed - at)
        if abs(jump) <= _JUMP:
            return False
        LOGGER.warning("the wall clock went %+.1f s in %.1f s: it was set, or the machine slept", jump, elapsed - at)
        self.hurry()
        self._others_count_from = elapsed + LEASE.total_seconds()
        return True
