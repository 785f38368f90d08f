"""One family of errors, built from data.

Every failure that a caller may want to tell apart is a class of its own, keeps what went wrong in attributes, and
builds its message from them: what happened, the value, and what to write instead. This module
imports nothing of bgsched.
"""

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["BgschedError", "TimingError", "did_you_mean"]


class BgschedError(Exception):
    """Everything that bgsched raises on its own account."""


class TimingError(BgschedError, ValueError):
    """A timing, frequency, time zone or instant that cannot mean anything."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the closest of *known*, or ``""`` when none is close."""
    close = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else ""
