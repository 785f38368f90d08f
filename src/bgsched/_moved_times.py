"""Fire times that a new time zone database has moved.

A stored next fire time is a cache of its timing. Where the rules of a zone have changed, the same local time is another
instant now, which may come before the stored one: then a claim would find it too late. So all requests are looked over
after a start, a few at a time, if any fire time may have been computed by another database than the one in use.

The store knows by which ones. Each scheduler says which is its own, again if that was forgotten: an OS process keeps
the rules with which it began, and may go on with old ones after another has looked over what was there. Where two
schedulers go by different databases, each looks over all when it starts, and only then.
"""

import math
import os
import zoneinfo
from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import cache, partial
from hashlib import blake2b
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bgsched._runlog import LOGGER
from bgsched.clock import Clock
from bgsched.request import Request, as_of_today
from bgsched.stores.base import RequestFilter, Store

__all__ = ["MovedTimes", "zone_database"]

_BITE = 100
_REST = 10  # times as long as a bite took, until the next
_SAY_EVERY = 60.0
_NO_ZONES = {"posix", "right", "localtime", "posixrules"}  # the same again, with leap seconds, and of this machine


class MovedTimes:
    """One scheduler's look over the requests. *after*: the id of the last one that it has seen; ``None``: of all."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._begin()

    def _begin(self) -> None:
        self._is_known = False
        self._after: str | None = None
        self._next_bite = self._next_word = -math.inf

    def go_on(self, now: datetime) -> None:
        """Look at the next few, if it is time to."""
        self.say()
        began = self._clock.monotonic()
        if self._after is not None and began >= self._next_bite:
            self._take_a_bite(self._after, now)
            self._next_bite = began + (1 + _REST) * (self._clock.monotonic() - began)

    def say(self) -> None:
        """Say which database is this scheduler's, unless that was said just now; who only files requests says it, too.

        Nobody else can know by what their fire times were computed.
        """
        now = self._clock.monotonic()
        if now >= self._next_word:
            self._say_which()
            self._next_word = now + _SAY_EVERY

    def start_over(self) -> None:
        """Begin anew: the store may be another one."""
        self._begin()

    def leave(self) -> None:
        """Say for the last time by which database the fire times of this scheduler were computed."""
        if self._is_known:
            self._say_which()

    def left(self) -> float:
        """Return for how many seconds there is nothing to do here."""
        return math.inf if self._after is None else max(0.0, self._next_bite - self._clock.monotonic())

    def _say_which(self) -> None:
        mine = zone_database()
        known = self._store.reader().zone_databases()
        if mine not in known:
            self._store.compute_by(mine)
        if not self._is_known and known - {mine}:
            self._after = ""
        self._is_known = True

    def _take_a_bite(self, after: str, now: datetime) -> None:
        reader = self._store.reader()
        if not after:  # some may come before it is their turn
            self._look_at(reader.upcoming(_BITE), now)
        found = reader.requests(RequestFilter(after=after or None, limit=_BITE))
        self._look_at(found, now)
        if len(found) < _BITE:
            self._after = None
            self._store.compute_by(zone_database(), alone=True)
        else:
            self._after = found[-1].id

    def _look_at(self, found: Iterable[Request], now: datetime) -> None:
        ids = [request.id for request in found if _moved(request, now) is not None]
        if ids:
            for request in self._store.change_all(ids, partial(_moved, now=now)):
                LOGGER.info("the next fire time of request %r was moved: its zone has other rules now", request.id)


def _moved(request: Request, now: datetime) -> Request | None:
    """Return the request with its moved fire time, ``None`` where that did not move."""
    try:
        moved = as_of_today(request, now)
    except Exception:  # noqa: BLE001  the claim parks it, and says why
        return None
    return None if moved is request else moved


@cache
def zone_database() -> str:
    """Return a digest of the time zone database of this OS process; only the same files have the same."""
    digest = blake2b(_package().encode(), digest_size=16)
    for path in _zone_files():
        try:
            content = path.read_bytes()
        except OSError:  # of no use to anybody here
            continue
        if content.startswith(b"TZif"):
            digest.update(b"%s %d " % (os.fsencode(path.name), len(content)) + content)
    return digest.hexdigest()


def _zone_files() -> Iterator[Path]:
    for root in zoneinfo.TZPATH:
        for folder, folders, names in os.walk(root):
            folders[:] = sorted(set(folders) - _NO_ZONES)
            yield from (Path(folder, name) for name in sorted(set(names) - _NO_ZONES))


def _package() -> str:
    """Return the version of the package that stands in where the machine has no such files."""
    try:
        return version("tzdata")
    except PackageNotFoundError:
        return ""
