"""Any other executor: its workers connect back to this OS process.

What is submitted is one function with plain values. It calls the scheduler, and only when that says *run* does the run
begin: an executor that gives the function away twice, as Dask does when a worker died, is told the second time that
there is nothing to do. So a run begins at most once, and when its connection ends before it does, its worker has died.

Both sides prove, before anything else is said, that they know a key that is fresh for each start.
"""

import contextlib
import os
import secrets
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from multiprocessing import AuthenticationError
from multiprocessing.connection import Client, Connection, answer_challenge, deliver_challenge
from typing import Any
from urllib.parse import urlsplit

from bgsched._current import LiveRun, StopCause
from bgsched._events import Hooks
from bgsched._executors.bench import Bench, Line, Post
from bgsched._executors.choice import RemoteExecutor
from bgsched._executors.errand import packed
from bgsched._executors.wire import Wire
from bgsched._outcome import never_began
from bgsched._runlog import LOGGER
from bgsched._worker import fail_on_the_way, set_off
from bgsched.errors import WorkerDiedError

__all__ = ["Foreign"]

_GRACE = timedelta(seconds=1)
_REST = 0.5  # seconds until calls are taken again after that failed
_PATIENCE = 5.0  # seconds for a caller to show that it knows the key, and for an executor to see what ended


@dataclass(slots=True)
class _Given:
    """A run that was given away, with what came back for it."""

    live: LiveRun
    errand: bytes
    future: Future[Any] | None = None

    def take_back(self) -> None:
        """Let the executor forget it, if it can."""
        if self.future is not None:
            self.future.cancel()


class Foreign:
    """Gives runs to an executor of the host's. *done* hears of each run that is over."""

    def __init__(self, remote: RemoteExecutor, done: Callable[[LiveRun], object], hooks: Hooks) -> None:
        self._remote = remote
        self._done = done
        self._hooks = hooks
        self._switchboard: _Switchboard | None = None
        self._given: dict[str, _Given] = {}
        self._talking: dict[str, Line] = {}
        self._futures: dict[str, Future[Any]] = {}
        self._lock = threading.Lock()

    def submit(self, live: LiveRun) -> None:
        """Give a run away."""
        token = secrets.token_hex(8)
        try:
            switchboard = self._connected()
            given = _Given(live, packed(live, self._hooks))
            with self._lock:
                self._given[token] = given  # before its worker can call for it
            live.interrupt = partial(self._withdraw, token)
            future = self._remote.executor.submit(call_back, switchboard.address, switchboard.key, token)
        except Exception as error:  # noqa: BLE001  an executor that was shut down, a port that is taken, anything
            with self._lock:
                self._given.pop(token, None)
            self._fail(live, error)
            return
        with self._lock:
            given.future = self._futures[token] = future
        future.add_done_callback(partial(self._came_back, token))

    def overdue(self, live: LiveRun) -> None:
        """Ask a run whose time is over to stop; after a grace it ends all the same, wherever its worker is."""
        live.ask_to_stop(StopCause.TIMED_OUT)

    def stop(self) -> None:
        """Take back what has not begun, and hang up on what has: then it is told to stop.

        The executor gets a moment to see what ended, as its host may close it next.
        """
        if self._switchboard is not None:
            self._switchboard.close()
        with self._lock:
            given = list(self._given.values())
            for connection in self._talking.values():
                _hang_up(connection)
        for one in given:
            one.take_back()
        with self._lock:
            through = [future for token, future in self._futures.items() if token not in self._talking]
        wait([future for future in through if not future.cancelled()], _PATIENCE)

    def _connected(self) -> "_Switchboard":
        """Return the switchboard; where none can be made, that is an error of the run that needs it, no other."""
        if self._switchboard is None:
            host = self._remote.host or _towards(self._remote.executor)
            self._switchboard = _Switchboard(host, self._remote.port, self._attend)
        return self._switchboard

    def _withdraw(self, token: str) -> None:
        """Take a run back that is asked to stop before it began."""
        with self._lock:
            given = self._given.pop(token, None)
        if given is not None:
            given.take_back()
            if given.live.cause is StopCause.KILLED:
                given.live.close(never_began(given.live))
            self._done(given.live)

    def _came_back(self, token: str, future: Future[Any]) -> None:
        """Hear that the executor is through with a run; if nobody called for it, it failed on the way."""
        with self._lock:
            given = self._given.pop(token, None)
            self._futures.pop(token, None)
        if given is None:
            return
        if future.cancelled():
            given.live.put_back("its executor was shut down")
            self._done(given.live)
        else:
            self._fail(given.live, future.exception() or WorkerDiedError("its worker never called for it"))

    def _fail(self, live: LiveRun, error: BaseException) -> None:
        fail_on_the_way(live, error, self._hooks)
        self._done(live)

    def _attend(self, connection: Line) -> None:
        """Talk to a worker that calls for a run."""
        post = Post(connection)
        token, worker = post.receive() or ("", "")
        with self._lock:
            given = self._given.pop(token, None)
            if (talks := self._talking.get(token)) is not None:
                _hang_up(talks)  # the executor knows that this worker died before its machine's silence tells us
            if given is not None:
                self._talking[token] = connection
        if given is None:
            post.send("leave")
            return
        came_back = self._lead(given, post, worker)
        with self._lock:
            del self._talking[token]
            if not came_back:
                self._futures.pop(token, None)
        self._done(given.live)

    def _lead(self, given: _Given, post: Post, worker: str) -> bool:
        """Let the worker execute the run, if it may still begin; return whether it is free again."""
        live = given.live
        if not set_off(live, self._hooks):
            post.send("leave")
            return True
        live.log.write("DEBUG", "bgsched", f"it runs on {worker}")
        wire = Wire(post, live, grace=_GRACE, hard=False, cut=partial(_hang_up, post.connection))
        return wire.follow(given.errand, lambda: WorkerDiedError(f"the worker ({worker}) ended before the run did"))


class _Switchboard:
    """Takes the calls of workers; *attend* talks to each, on a thread of its own."""

    def __init__(self, host: str, port: int, attend: Callable[[Line], None]) -> None:
        self.key = secrets.token_bytes(32)
        self._attend = attend
        self._closed = threading.Event()
        self._socket = socket.create_server((host, port), backlog=128)
        self.address: tuple[str, int] = (host, self._socket.getsockname()[1])
        threading.Thread(target=self._take_calls, name="bgsched-switchboard", daemon=True).start()

    def close(self) -> None:
        """Take no more calls."""
        self._closed.set()
        with contextlib.suppress(OSError):  # closing alone would not wake who waits for a call
            socket.create_connection(self.address, timeout=1.0).close()
        self._socket.close()

    def _take_calls(self) -> None:
        while not self._closed.is_set():
            try:
                caller, _ = self._socket.accept()
            except OSError:  # no file descriptor is left, or the caller has gone
                if not self._closed.wait(_REST):
                    LOGGER.warning("a worker that called could not be heard", exc_info=True)
                continue
            threading.Thread(target=self._hear, args=(caller,), name="bgsched-call", daemon=True).start()

    def _hear(self, caller: socket.socket) -> None:
        _tune(caller)
        with Connection(caller.detach()) as connection:
            shy = threading.Timer(_PATIENCE, _hang_up, (connection,))
            shy.daemon = True
            shy.start()
            try:
                deliver_challenge(connection, self.key)
                answer_challenge(connection, self.key)
            except (AuthenticationError, OSError, EOFError):
                return
            finally:
                shy.cancel()
            self._attend(connection)


def call_back(address: tuple[str, int], key: bytes, token: str) -> None:
    """Call the scheduler for the run of that token, and execute it if it says so. What a worker is given to call."""
    with _called(address, key) as connection:
        post = Post(connection)
        post.send(token, f"{socket.gethostname()}, OS process {os.getpid()}")
        bench = Bench(post, orphaned=lambda live: live.ask_to_stop(StopCause.REAPED))
        try:
            errand = bench.next()
            if errand is not None:
                bench.execute(errand)
        finally:
            if not post.is_copy:  # of a child that the process forked, which has it from its parent
                _hang_up(connection)
                bench.close()


def _called(address: tuple[str, int], key: bytes) -> Connection:
    try:
        connection = Client(address, authkey=key)
    except OSError as error:
        host, port = address
        raise WorkerDiedError(
            f"the worker on {socket.gethostname()} cannot reach the scheduler at {host}:{port} ({error}); "
            "give RemoteExecutor(executor, host=...) the address of the scheduler's machine as the workers see it"
        ) from None
    with _socket_of(connection) as line:
        _tune(line)
    return connection


def _hang_up(connection: Line) -> None:
    """End a connection that another thread may be listening to.

    That thread alone may close it then: a descriptor's number is given to the next connection, and whoever still reads
    by it takes from that one what is another's.
    """
    with contextlib.suppress(OSError, ValueError), _socket_of(connection) as line:
        line.shutdown(socket.SHUT_RDWR)


def _socket_of(connection: Line) -> socket.socket:
    """Return the connection's socket, to be closed apart from it."""
    return socket.socket(fileno=os.dup(connection.fileno()))


def _tune(line: socket.socket) -> None:
    """Send each message at once, and notice within half a minute that the machine at the other end is gone."""
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, option):  # not everywhere
            line.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def _towards(executor: Any) -> str:
    """Return the address of this machine that an executor's workers see: Dask knows where its scheduler is."""
    client = getattr(executor, "_client", None)
    address = str(getattr(getattr(client, "scheduler", None), "address", ""))
    host = urlsplit(address).hostname if address.startswith(("tcp:", "tls:")) else None
    if host is None:
        return "127.0.0.1"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((host, 9))  # sends nothing: it only asks which way leads there
        return str(probe.getsockname()[0])
