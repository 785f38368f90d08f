"""Requests on their way into the store: the `Desk` where wishes become requests, and those that follow another run."""

import json
import os
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Any, TypeVar

from bgsched._codec import MisfitError, Plain, show
from bgsched._evolve import evolve, maker
from bgsched._names import name_problem
from bgsched.errors import ParamsError, TimingError
from bgsched.process import Process, ProcessRegistry
from bgsched.request import OnAbandon, Request, UnreadableTiming, overlap_key
from bgsched.run import MASK, Run
from bgsched.timing import Immediate, Schedule, Timing, checked_timing, timing_from_dict

__all__ = ["Desk", "Wish", "follow_up", "new_id", "sought_request", "sought_run", "wish_of"]

P = TypeVar("P", bound=Mapping[str, Any] | None)
Wish = tuple[str | Process[Any, Any], Timing, Mapping[str, Any] | None]
_new_request: Callable[..., Request] = maker(
    Request, "id", "process", "params", "sensitive", "timing", "user", "channel", "priority", "created_at"
)


def _check_name(what: str, name: object, least: int = 1) -> None:
    """Raise ValueError for what cannot be the id of a request, who asks, or by what."""
    if (problem := name_problem(name, least)) is not None:
        raise ValueError(f"{what} {problem}")


def _check_asker(user: object, channel: object) -> None:
    """Raise ValueError for what cannot be who asks, or by what; ``None`` is nobody."""
    if user is not None:
        _check_name("a user", user, least=0)
    _check_name("a channel", channel, least=0)


def sought_request(id: object) -> str:
    """Return the id of a request that is looked for.

    Raises:
        ValueError: it is no string.
    """
    if not isinstance(id, str):
        hint = "; write request.id" if isinstance(id, Request) else ""
        raise ValueError(f"a request is spoken of by its id, a string, got {show(id)}{hint}")  # noqa: TRY004  as its neighbours
    return id


def sought_run(id: object) -> int:
    """Return the id of a run that is looked for.

    Raises:
        ValueError: it is no whole number.
    """
    if not isinstance(id, int) or isinstance(id, bool):  # True is 1 to Python, and no number to PostgreSQL
        hint = "; write run.id" if isinstance(id, Run) else ""
        raise ValueError(f"a run is spoken of by its id, a whole number, got {show(id)}{hint}")  # noqa: TRY004  as its neighbours
    return id


def wish_of(given: object) -> Wish:
    """Return what `Scheduler.schedule_many` is given for one request.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(given, tuple | list) or len(given) != 3:  # noqa: PLR2004  as many as it says
        raise ValueError(f"schedule_many() takes (process, timing, params), params may be None; got {show(given)}")
    process, timing, params = given
    return process, timing, params


def new_id(now: datetime) -> str:
    """Return an id that nobody else makes, ordered by time, so that stores append rather than scatter."""
    return f"{_stamp(now)}{os.urandom(8).hex()}"


@lru_cache(maxsize=1)  # many requests may be filed at one instant
def _stamp(now: datetime) -> str:
    return f"{int(now.timestamp() * 1000):012x}"


def follow_up(process: Process[Any, Any], leader: Run, now: datetime) -> Request:
    """Return the request that runs *process* at once, after the success of *leader*.

    It has the same id however often that success has to be reported.
    """
    timing = Immediate()
    identity = f"{leader.id}/{leader.recorded_at.isoformat()}/{process.name}".encode()
    request = Request(
        id=f"{_stamp(leader.finished_at or now)}{blake2b(identity, digest_size=8).hexdigest()}",
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


class Desk:
    """Turns wishes into requests, by the processes that are registered and the time zone of a scheduler.

    *check* refuses a process that cannot be executed here.
    """

    def __init__(self, processes: ProcessRegistry, zone: str, check: Callable[[Process[Any, Any]], None]) -> None:
        self._processes = processes
        self._zone = zone
        self._check = check
        self._last_pinned: tuple[Timing, datetime, Timing] | None = None  # many requests may share one timing

    def request(
        self,
        process: str | Process[Any, Any],
        timing: Timing,
        params: Mapping[str, Any] | None,
        now: datetime,
        *,
        id: str | None = None,
        user: str | None = None,
        channel: str = "code",
    ) -> Request:
        """Return the new request, as `Scheduler.schedule` files it."""
        registered = self._processes.get(process)
        self._check(registered)
        if id is not None:
            _check_name("a request id", id)
        if user is not None or channel != "code":  # which most are not
            _check_asker(user, channel)
        request = _new_request(
            id if id is not None else new_id(now),
            registered.name,
            registered.bind(_unmasked(registered.name, params, registered.policies.sensitive, {})),
            registered.policies.sensitive,
            timing,
            user,
            channel,
            registered.policies.priority,
            now,
        )
        return _with_fire_time(request.timed(self._pinned(timing, now), now))

    def rescheduled(
        self, request: Request, timing: Timing | None, params: Mapping[str, Any] | None, now: datetime, **changes: Any
    ) -> Request:
        """Return the request with fire times again, with *params* unless ``None`` and the *changes* that are not.

        Its priority becomes what the code says today. With the timing that it has, it keeps the fire time that is next.
        """
        wanted = timing if timing is not None else request.timing
        if isinstance(wanted, UnreadableTiming):
            raise TimingError(f"the timing of request {request.id!r} {wanted.describe()}; give a new one")
        kept = {name: value for name, value in changes.items() if value is not None}
        _check_asker(kept.get("user"), kept.get("channel", ""))
        if params is not None:
            kept |= self._bind(request, params)
        process = self._processes.find(request.process)
        if process is not None:
            kept["priority"] = process.policies.priority
        if request.next_fire_time is not None and self._is_same(wanted, request.timing, now):
            return request.changed(**kept)  # it may be due, and not claimed yet
        pinned = self._pinned(wanted, now)
        return _with_fire_time(request.rescheduled(pinned, now, **kept))

    def run_beside(
        self, request: Request, params: Mapping[str, Any] | None, now: datetime, *, user: str | None, channel: str
    ) -> Run:
        """Return a waiting run of the request beside its fire times."""
        process = self._processes.get(request.process)
        _check_asker(user, channel)
        policies = process.policies
        if params is not None:
            request = evolve(request, params=self._bind(request, params)["params"])
        return Run(
            request_id=request.id,
            revision=request.revision,
            process=request.process,
            params=request.params,
            user=user if user is not None else request.user,
            channel=channel,
            sensitive=request.hidden_by(policies),
            fire_time=now,
            recorded_at=now,
            due_at=now,
            overlap_key=overlap_key(request, policies),
            reruns_left=policies.max_reruns if policies.on_abandon is OnAbandon.RERUN else 0,
        )

    def declared(self, process: Process[Any, Any], request: Request | None, now: datetime) -> Request | None:
        """Return what the request under the process's name becomes by what the code declares; ``None``: it stays.

        It stays as it is, whatever was done to it at run time, unless the code has changed since it was last declared.
        What is over by the time that it is declared is filed as complete: a date that passes keeps no scheduler from
        its start.
        """
        if process.timing is None:
            if request is None or request.declared is None or request.process != process.name:
                return None
            return evolve(request.unscheduled(now, "its timing is no longer declared in the code"), declared=None)
        said, priority = self._declaration(process.timing), process.policies.priority
        if request is not None and request.declared == said:
            return None if request.priority == priority else evolve(request, priority=priority)
        since = None if request is None else self._declared_since(request, process)
        own: dict[str, Any] = {"priority": priority, "user": None, "channel": "declared", "declared": said}
        if request is None or request.process != process.name:  # nothing of another process's goes with its name
            own |= {
                "process": process.name,
                "params": process.bind({}),
                "sensitive": process.policies.sensitive,
            }
        if request is None:
            request = Request(id=process.name, timing=process.timing, created_at=now, **own)
        else:
            request = evolve(request, revision=request.revision + 1, **own)
        try:
            return request.timed(self._pinned(process.timing, since or now), now)
        except TimingError as error:
            return request.over(process.timing, str(error))

    def _is_same(self, wanted: Timing, stored: Timing | UnreadableTiming, now: datetime) -> bool:
        """Return whether a timing is the *stored* one, which was given a start and a zone where it had none."""
        since = _start_of(stored, wanted)
        if since is not None and (since.tzinfo is None or since > now):  # not one that was given it
            return False
        with suppress(TimingError):  # one that the stored one cannot be, as it would never fire
            return _said(self._pinned(wanted, since or now)) == _said(stored)
        return False

    def _declared_since(self, request: Request, process: Process[Any, Any]) -> datetime | None:
        """Return the start that the declared timing of before was given, if code has no say in it, before or now.

        An edit of the code moves no phase then, and "n times in all" stays n in all. What somebody rescheduled at run
        time has another start, which goes with it.
        """
        if request.declared is None or request.process != process.name or process.timing is None:
            return None
        with suppress(TimingError):  # of a version that could say what this one cannot read
            before = timing_from_dict(json.loads(request.declared))
            since = _start_of(request.timing, before) if _start_of(request.timing, process.timing) else None
            return since if since is not None and _said(before.pinned(since)) == _said(request.timing) else None
        return None

    def _declaration(self, timing: Timing) -> str:
        """Return what the code says: the timing, and the time zone that it is read in."""
        said = _said(timing)
        if isinstance(timing, Schedule):
            said.setdefault("timezone", self._zone)
        return json.dumps(said, sort_keys=True)

    def _pinned(self, timing: Timing, now: datetime) -> Timing:
        last = self._last_pinned
        if last is not None and last[0] is timing and last[1] is now:
            return last[2]
        pinned = checked_timing(timing).pinned(now, self._zone)
        self._last_pinned = timing, now, pinned
        return pinned

    def _bind(self, request: Request, params: Mapping[str, Any]) -> dict[str, Any]:
        process = self._processes.find(request.process)
        hidden = request.sensitive if process is None else request.hidden_by(process.policies)
        masked = [name for name in hidden if _is_mask(params, name)]
        params = _unmasked(request.process, params, hidden, request.params)
        if process is not None:
            bound = process.bind(params, before=request.params, hidden=masked)
            return {"params": bound, "sensitive": tuple(dict.fromkeys((*process.policies.sensitive, *masked)))}
        try:
            return {"params": dict(Plain().store(dict(params), "params"))}
        except MisfitError as misfit:
            raise ParamsError(request.process, str(misfit)) from None


def _said(timing: Timing | UnreadableTiming) -> dict[str, Any]:
    """Return a timing as data, without what makes no difference: the order of its frequencies and exclusions.

    They may come from a set, or a query without ORDER BY, and be listed otherwise at each start.
    """
    said = timing.to_dict()
    for name in ("frequency", "exclude"):
        if isinstance(said.get(name), list):
            unique = {json.dumps(item, sort_keys=True): item for item in said[name]}
            said[name] = [unique[text] for text in sorted(unique)]
    return said


def _start_of(stored: Timing | UnreadableTiming, wanted: Timing) -> datetime | None:
    """Return the start of a stored schedule for another one that has none of its own."""
    if isinstance(stored, Schedule) and isinstance(wanted, Schedule) and wanted.start is None:
        return stored.start
    return None


def _is_mask(params: object, name: str) -> bool:
    return isinstance(params, Mapping) and isinstance(params.get(name), str) and params[name] == MASK


def _unmasked(process: str, params: P, sensitive: Collection[str], before: Mapping[str, Any]) -> P | dict[str, Any]:
    """Return *params*, which may be those that a monitor shows: where it masks a value, that stays as it was *before*.

    Raises:
        ParamsError: there was none before.
    """
    if not sensitive or not isinstance(params, Mapping):
        return params
    masked = [name for name in sensitive if _is_mask(params, name)]
    for name in masked:
        if name not in before:
            raise ParamsError(process, f"{name} is {MASK!r}, which only stands for a value; give the value itself")
    return {**params, **{name: before[name] for name in masked}}


def _with_fire_time(request: Request) -> Request:
    if request.next_fire_time is None:
        raise TimingError(f"{request.timing.describe()}: no fire time is left; give a later finish, or another timing")
    return request
