"""Requests on their way into the store: their ids, and those that follow another run."""

import secrets
from datetime import datetime
from typing import Any

from bgsched._evolve import evolve
from bgsched.process import Process
from bgsched.request import Request
from bgsched.run import Run
from bgsched.timing import Immediate

__all__ = ["check_id", "follow_up", "new_id"]

_LONGEST_ID = 200


def check_id(id: object) -> None:
    """Raise ValueError for what cannot be the id of a request."""
    if not (isinstance(id, str) and 0 < len(id) <= _LONGEST_ID):
        raise ValueError(f"a request id is a string of 1 to {_LONGEST_ID} characters, got {id!r}")


def new_id(now: datetime) -> str:
    """Return an id that nobody else makes, ordered by time, so that stores append rather than scatter."""
    return f"{int(now.timestamp() * 1000):012x}{secrets.token_hex(8)}"


def follow_up(process: Process[Any, Any], leader: Run, now: datetime) -> Request:
    """Return the request that runs *process* at once, after the success of *leader*."""
    timing = Immediate()
    request = Request(
        id=new_id(now),
        process=process.name,
        params=process.defaults(),
        sensitive=process.policies.sensitive,
        timing=timing,
        user=leader.user,
        channel="after",
        priority=process.policies.priority,
        created_at=now,
    )
    return evolve(request.timed(timing, now), reason=f"after run {leader.id} of {leader.process!r}")
