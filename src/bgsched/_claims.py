"""What a scheduler has under way, and how much more it may claim: by lane, the processes of one way of executing.

A lane has room for as many runs as its executor takes. Threads of our own get a few more where runs are short: a batch
that waits behind busy workers costs one transaction, not a hundred. But only as many as those workers will come for in
a moment, who are in no long run: what waits here waits for nobody else. A process may have a bound of its own within
its lane.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from bgsched._current import LiveRun
from bgsched._executors.crew import Crew, Lane
from bgsched.process import Pool, Process, ProcessRegistry
from bgsched.request import Plan, Policies, Request, overlap_key, plan
from bgsched.run import Run

__all__ = ["AHEAD", "Claims", "OpenLane", "Planning", "UnderWay"]

AHEAD = timedelta(milliseconds=20)
"""How much work may wait, claimed, behind busy workers."""

_AHEAD = AHEAD.total_seconds()
_MOST_AHEAD = 512
_THREADS = Pool.THREADS  # to look a member up costs ten times a name
_MEMORY = 10  # how many of the last runs the mean of how long they take is mostly about


class UnderWay:
    """The runs that are under way in one scheduler. Changed by its thread only; others may look."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._live: dict[int, LiveRun] = {}
        self._timed: dict[int, LiveRun] = {}
        self.by_lane: defaultdict[Lane, dict[int, LiveRun]] = defaultdict(dict)
        self.by_process: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._live)

    def __iter__(self) -> Iterator[LiveRun]:
        return iter(list(self._live.values()))

    def __contains__(self, run_id: int) -> bool:
        return run_id in self._live

    def find(self, run_id: int) -> LiveRun | None:
        """Return the run of that id, or ``None``."""
        return self._live.get(run_id)

    def add(self, live: LiveRun) -> None:
        """Count a run that begins."""
        self._live[live.run.id] = self.by_lane[self._crew.lane(live.process)][live.run.id] = live
        self.by_process[live.process.name] += 1
        if live.process.policies.timeout is not None:
            self._timed[live.run.id] = live

    def remove(self, live: LiveRun) -> bool:
        """Forget a run that is over; ``False``: it was of the owner before, or of a life before this one."""
        if self._live.get(live.run.id) is not live:
            return False
        del self._live[live.run.id]
        self._timed.pop(live.run.id, None)
        self.by_lane[self._crew.lane(live.process)].pop(live.run.id, None)
        self.by_process[live.process.name] -= 1
        return True

    def clear(self) -> None:
        """Forget them all."""
        for live in self:
            self.remove(live)

    def times_left(self, elapsed: float) -> list[tuple[LiveRun, float]]:
        """Return the started runs that have a timeout and are not overdue, with the seconds that they still have."""
        return [
            (live, live.process.policies.timeout.total_seconds() - (elapsed - live.began))
            for live in self._timed.values()
            if live.process.policies.timeout is not None
            and live.began is not None
            and not (live.closed or live.overdue)
        ]


@dataclass(slots=True)
class OpenLane:
    """Processes of one lane of which runs may be claimed now: up to *room*, and up to *bounds* of some of them."""

    names: frozenset[str]
    room: int
    bounds: dict[str, int] = field(default_factory=dict)


class Claims:
    """How much of what one scheduler may claim."""

    def __init__(self, processes: ProcessRegistry, crew: Crew, under_way: UnderWay) -> None:
        self._processes = processes
        self._crew = crew
        self._under_way = under_way
        self._workers = crew.bound(Pool.THREADS)
        self._mean_run = 1.0
        self._room = self._workers
        self._seen = 0
        self._sorted: tuple[int, dict[Lane, _Lane]] = -1, {}

    def took(self, over: Iterable[LiveRun]) -> None:
        """Hear of runs that are over: how long runs take decides how many may wait for the workers."""
        for live in over:
            if live.began is not None and live.ended is not None and self._crew.is_here(live.process):
                self._seen = min(self._seen + 1, _MEMORY)
                self._mean_run += (live.ended - live.began - self._mean_run) / self._seen

    def look(self, elapsed: float) -> None:
        """See how many the workers may have at *elapsed*: one each, and what those in no long run come for soon.

        A run that takes longer than `AHEAD` may take for ever.
        """
        began = [live.began for live in self._under_way.by_lane[_THREADS].values()]
        long = sum(instant is not None and elapsed - instant > _AHEAD for instant in began)
        self._room = self._workers + self._soon(self._workers - long)

    def few(self) -> int:
        """Return how many to claim for one thread that executes them one after another."""
        return max(1, self._soon(1))

    def _soon(self, workers: int) -> int:
        """Return how many runs so many workers come for within `AHEAD`."""
        return max(0, min(int(workers * _AHEAD / max(self._mean_run, 1e-6)), _MOST_AHEAD))

    def waiting(self, workers: int | None = None) -> list[LiveRun]:
        """Return the runs that wait behind busy workers, of which there may be fewer than the scheduler's own."""
        here = self._under_way.by_lane[_THREADS]
        most = self._workers if workers is None else workers
        return [live for live in here.values() if live.began is None] if len(here) > most else []

    def waiting_elsewhere(self) -> list[LiveRun]:
        """Return the runs of other lanes that have not begun, such as behind what else a host's executor has to do."""
        elsewhere = (runs for lane, runs in self._under_way.by_lane.items() if lane is not _THREADS)
        return [live for runs in elsewhere for live in runs.values() if live.began is None]

    def open_lanes(self, limit: int | None = None, *, ahead: bool = True) -> list[OpenLane]:
        """Return the lanes that have room. *limit*: how much each has, whatever is under way; *ahead*: see above."""
        found = []
        for where, lane in self._lanes().items():
            most = self._room if ahead and where is Pool.THREADS else self._crew.bound(where)
            room = most - len(self._under_way.by_lane[where]) if limit is None else limit
            left = {name: bound - self._under_way.by_process[name] for name, bound in lane.bounded.items()}
            bounds = {name: bound for name, bound in left.items() if bound > 0}
            names = lane.free.union(bounds) if bounds else lane.free
            if room > 0 and names:
                found.append(OpenLane(names, room, bounds))
        return found

    def has_plenty(self, more: int = 0) -> bool:
        """Whether the workers have more than half of what they may have, with *more* or, negative, less to come."""
        return len(self._under_way.by_lane[_THREADS]) + more > max(self._workers, self._room // 2)

    def _lanes(self) -> "dict[Lane, _Lane]":
        """Sort the processes by lane, once for each change of the registry."""
        version, lanes = self._sorted
        if version != self._processes.version:
            version, lanes = self._processes.version, {}
            sorted_by: dict[Lane, list[Process[Any, Any]]] = {}
            for process in self._processes:
                sorted_by.setdefault(self._crew.lane(process), []).append(process)
            lanes = {where: _Lane(processes) for where, processes in sorted_by.items()}
            self._sorted = version, lanes
        return lanes


class _Lane:
    """The processes of one lane: those without a bound of their own, and those with one."""

    def __init__(self, processes: Sequence[Process[Any, Any]]) -> None:
        self.free = frozenset(process.name for process in processes if process.policies.limit is None)
        self.bounded = {process.name: limit for process in processes if (limit := process.policies.limit) is not None}


class Planning:
    """What a claim asks: the policies of the processes of one lane, applied for one owner."""

    def __init__(self, processes: ProcessRegistry, lane: OpenLane, owner: str) -> None:
        self._registry = processes
        self._owner = owner
        self.processes: Collection[str] = lane.names
        self.bounds: Mapping[str, int] = lane.bounds

    def overlap_key(self, request: Request) -> str | None:
        """Return the key under which the request's runs exclude each other."""
        return overlap_key(request, self._policies(request))

    def plan(self, request: Request, now: datetime, blockers: Sequence[Run]) -> Plan:
        """Return what becomes of a due request."""
        return plan(request, self._policies(request), self._owner, now, blockers)

    def _policies(self, request: Request) -> Policies:
        return self._registry.get(request.process).policies
