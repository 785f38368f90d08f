"""What tells a run from every other, everywhere: the same for whoever starts it, goes on with it, or ends it."""

from uuid import UUID, uuid5

from bgsched.run import Run

__all__ = ["mark_of"]

_SPACE = UUID("4f0aa628-f1d5-4b06-8698-36f8e5d1652d")  # ours


def mark_of(run: Run) -> UUID:
    """Return the mark of *run*: made of what stays as it is, whichever scheduler has it at whichever attempt.

    The instant of its record tells it from the same run of another store, which may report to the same receiver: that
    of a test system, say, where the same requests have the same numbers and fire times.
    """
    return uuid5(_SPACE, f"{run.request_id}/{run.revision}/{run.fire_time.isoformat()}/{run.recorded_at.isoformat()}")
