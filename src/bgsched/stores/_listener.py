"""Hearing, over PostgreSQL's LISTEN, that somebody elsewhere made something due.

A thread with a link of its own. What it hears is a hint: notifications get lost with any connection, and behind a
pooler such as PgBouncer they do not come at all, so whoever relies on the store polls as well, less often while it
`works`. A link that says nothing is asked for a sign of life; one that broke is replaced, after a wait that grows.
"""

import contextlib
import logging
import os
import random
import selectors
import socket
import threading
from collections.abc import Callable, Sequence

import psycopg

from bgsched.errors import StoreError
from bgsched.stores._address import Address
from bgsched.stores._wire import Link, dial

__all__ = ["Listener"]

LOGGER = logging.getLogger("bgsched")

_SIGN_OF_LIFE = 15.0
_FIRST_BACKOFF = 0.5
_LONGEST_BACKOFF = 30.0


class Listener:
    """Calls *heard* with each notification of *channel* that nobody of *ours* (the server's pids) sent."""

    def __init__(
        self, address: Address, channel: str, ours: Callable[[int], bool], heard: Callable[[str], None]
    ) -> None:
        self.works = False
        self._may_warn = True
        self._address = address
        self._channel = channel
        self._ours = ours
        self._heard = heard
        self._pid = os.getpid()
        self._end_here, self._end_there = socket.socketpair()
        self._thread = threading.Thread(target=self._listen, name="bgsched-listen", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread goes on: not in a forked child."""
        return self._pid == os.getpid() and self._thread.is_alive()

    def end(self) -> None:
        """Stop listening, and wait until the link is closed."""
        if self._pid == os.getpid():
            self._end_there.shutdown(socket.SHUT_RDWR)  # to close it is not enough where a forked child has it, too
            self._thread.join()
        self._end_there.close()
        self._end_here.close()

    def _listen(self) -> None:
        backoff = _FIRST_BACKOFF
        while True:
            try:
                with contextlib.closing(dial(self._address)) as link:
                    if _is_pooled(link):
                        return
                    link.execute(f'LISTEN "{self._channel}"')
                    self.works = self._may_warn = True
                    backoff = _FIRST_BACKOFF
                    self._heard("due")  # whatever came while nobody listened
                    if self._hear(link):
                        return
            except (psycopg.Error, StoreError, OSError) as error:
                self._failed(error)
            if self._ended_within(backoff * random.uniform(0.8, 1.2)):  # noqa: S311  so that not all come back at once
                return
            backoff = min(backoff * 2, _LONGEST_BACKOFF)

    def _hear(self, link: Link) -> bool:
        """Pass on what comes, until the link fails (it raises) or nobody wants to know any more (``True``)."""
        while True:
            ready = _readable([link, self._end_here], _SIGN_OF_LIFE)
            if self._end_here in ready:
                self.works = False
                return True
            if not ready:
                link.execute("SELECT 1")
            for notice in link.notifies(timeout=0):
                if not self._ours(notice.pid):
                    self._heard(notice.payload)

    def _failed(self, error: Exception) -> None:
        """Say once why there is no link; that one broke is no news, if the next one stands."""
        if not self.works and self._may_warn:
            self._may_warn = False
            said = self._address.unavailable(error) if isinstance(error, psycopg.Error) else error
            LOGGER.warning("what others file is seen within a second, not at once, as we cannot listen: %s", said)
        self.works = False

    def _ended_within(self, seconds: float) -> bool:
        return bool(_readable([self._end_here], seconds))


def _readable(files: Sequence[Link | socket.socket], seconds: float) -> list[object]:
    """Wait until something can be read. Not with `select.select`, which takes no descriptor above 1023."""
    with selectors.DefaultSelector() as selector:
        for file in files:
            selector.register(file, selectors.EVENT_READ)
        return [key.fileobj for key, _ in selector.select(seconds)]


def _is_pooled(link: Link) -> bool:
    """Return whether a pooler stands between: the server's process is then another one than we were told."""
    return link.execute("SELECT pg_backend_pid()").fetchone() != (link.pid,)
