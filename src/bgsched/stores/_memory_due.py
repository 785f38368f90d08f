"""When the requests in memory are due, by priority and process: what nobody asks for is not looked at.

A heap for each priority and process, of instants and ids. What changes is entered anew; an entry that is true of its
request no more is dropped when it comes to the front, or when such entries are more than the others.
"""

import heapq
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime

from bgsched.request import Request

__all__ = ["DueTimes"]

_Lane = tuple[int, str]
_Place = tuple[datetime, str]
_FEW = 64


class DueTimes:
    """Finds what is due among *requests*, a table that is changed elsewhere; whoever changes it says so here."""

    def __init__(self, requests: Mapping[str, Request]) -> None:
        self._requests = requests
        self._lanes: dict[_Lane, list[_Place]] = {}
        self._looked_at: list[tuple[_Lane, _Place]] = []

    def enter(self, request: Request) -> None:
        """Hear of a request that was stored."""
        if request.due_at is not None:
            lane = request.priority, request.process
            heap = self._lanes.get(lane)
            if heap is None:
                heap = self._lanes[lane] = []
            heapq.heappush(heap, (request.due_at, request.id))
            if len(heap) > _FEW + 2 * len(self._requests):
                self._sweep(lane)

    def due(self, now: datetime, processes: Collection[str], limit: int) -> list[Request]:
        """Return up to *limit* requests that are due, highest priority first, then earliest.

        Most are advanced at once. Those that are not are put back when somebody asks again.
        """
        self._put_back()
        fronts = [(-lane[0], front, lane) for lane, front in self._fronts(processes) if front[0] <= now]
        heapq.heapify(fronts)
        due: list[Request] = []
        while fronts and len(due) < limit:
            rank, place, lane = fronts[0]
            heapq.heappop(self._lanes[lane])
            self._looked_at.append((lane, place))
            due.append(self._requests[place[1]])
            front = self._front(lane, after=place)
            if front is not None and front[0] <= now:
                heapq.heapreplace(fronts, (rank, front, lane))
            else:
                heapq.heappop(fronts)
        return due

    def earliest(self, processes: Collection[str]) -> datetime | None:
        """Return the instant at which the first of the requests of *processes* is due."""
        self._put_back()
        return min((front[0] for _, front in self._fronts(processes)), default=None)

    def _fronts(self, processes: Collection[str]) -> Iterator[tuple[_Lane, _Place]]:
        wanted = frozenset(processes)
        for lane in [lane for lane in self._lanes if lane[1] in wanted]:
            front = self._front(lane)
            if front is not None:
                yield lane, front

    def _front(self, lane: _Lane, after: _Place | None = None) -> _Place | None:
        """Return the first entry of a lane that is true, and not the one *after* which is asked."""
        heap = self._lanes[lane]
        while heap:
            if heap[0] != after and self._is_true(lane, heap[0]):
                return heap[0]
            heapq.heappop(heap)
        del self._lanes[lane]
        return None

    def _put_back(self) -> None:
        """Let those be found again that were found the last time, and that were not advanced since."""
        for lane, place in self._looked_at:
            if self._is_true(lane, place):
                heapq.heappush(self._lanes.setdefault(lane, []), place)
        self._looked_at.clear()

    def _sweep(self, lane: _Lane) -> None:
        """Drop what is not true any more: a request may be given a far time again and again."""
        self._lanes[lane] = sorted({place for place in self._lanes[lane] if self._is_true(lane, place)})

    def _is_true(self, lane: _Lane, place: _Place) -> bool:
        request = self._requests.get(place[1])
        return request is not None and request.due_at == place[0] and (request.priority, request.process) == lane
