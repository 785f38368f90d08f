"""One family of errors, built from data.

Every failure that a caller may want to tell apart is a class of its own, keeps what went wrong in attributes, and
builds its message from them: what happened, the value, and what to write instead. This module imports nothing of
bgsched.
"""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["BgschedError", "CronError", "TimingError", "did_you_mean"]


class BgschedError(Exception):
    """Everything that bgsched raises on its own account."""


class TimingError(BgschedError, ValueError):
    """A timing, frequency, time zone or instant that cannot mean anything."""


class CronError(TimingError):
    """A cron expression that cannot be read, is read differently by different crons, or never fires.

    Attributes:
        expression: The expression as it was read, an alias replaced.
        problem: What is wrong and what to write instead.
        field: The name of the field, or None when the expression as a whole is wrong.
        position: Where the field begins in the expression.
        length: How many characters it has.
    """

    def __init__(
        self, expression: str, problem: str, field: str | None = None, position: int = 0, length: int = 0
    ) -> None:
        self.expression = expression
        self.problem = problem
        self.field = field
        self.position = position
        self.length = length
        where = f"{field}: " if field else ""
        caret = f"\n  {' ' * position}{'^' * length}" if length else ""
        super().__init__(f"{where}{problem}\n  {expression}{caret}")

    def __reduce__(self) -> tuple[type["CronError"], tuple[str, str, str | None, int, int]]:
        """Rebuild from the attributes, not from the message."""
        return type(self), (self.expression, self.problem, self.field, self.position, self.length)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest of *known*, or ``""`` when none is close."""
    close = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""
