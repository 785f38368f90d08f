"""How far a search may go while a timing is judged.

Most questions are a division and a look-up. What exclusions leave, and rules whose parts rarely meet, are searched for
in steps: one question to one engine or exclusion, a microsecond or two. All parts of a timing share one effort, so that
many of them take no longer than one. It is counted, not timed: what is accepted is accepted on every machine, and when
it is read back from the store.
"""

from math import inf

__all__ = ["MOST_STEPS", "Effort", "Undecided"]

MOST_STEPS = 15_000


class Undecided(Exception):  # noqa: N818 - no error: it says how a search ended
    """A search has not come to an end within its effort."""


class Effort:
    """So many steps, shared by all that search; any number of them unless told otherwise."""

    __slots__ = ("_left",)

    def __init__(self, steps: float = inf) -> None:
        self._left = steps

    def spend(self, steps: int = 1) -> None:
        """Take some steps, or raise :class:`Undecided` where there are none left."""
        self._left -= steps
        if self._left < 0:
            raise Undecided

    def lift(self) -> None:
        """Allow any number of steps from now on."""
        self._left = inf
