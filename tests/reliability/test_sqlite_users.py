"""Several users of one machine at one SQLite file: who only watches is in nobody's way, and sees what there is.

Each is an OS process of its own, forked from the superuser, and goes on by a step whenever it is asked to.
"""

import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from bgsched import Immediate, Monitor, Scheduler, SQLiteStore
from bgsched.testing import ManualClock
from bgsched.testing.contract import T0

pytestmark = pytest.mark.skipif(
    not hasattr(os, "setuid") or os.getuid() != 0, reason="only the superuser can be several others"
)

HOST, WATCHER, COLLEAGUE = 64_001, 64_002, 64_003
TEAM = 64_010


class Somebody:
    """An OS process of user *uid*, in the group *gid*, that goes on with *work* as often as it is asked."""

    def __init__(self, uid: int, gid: int, work: Callable[[], Iterator[str]]) -> None:
        asked, self._ask = os.pipe()
        self._said, say = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            try:
                os.setgroups([])
                os.setgid(gid)
                os.setuid(uid)
                os.umask(0o022)
                steps = work()
                while os.read(asked, 1):
                    os.write(say, _next(steps).encode())
            finally:
                os._exit(0)
        os.close(asked)
        os.close(say)

    def says(self) -> str:
        """Let it go on, and return what it says."""
        os.write(self._ask, b".")
        return os.read(self._said, 65_536).decode()

    def kill(self) -> None:
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            os.close(self._ask)
            os.close(self._said)
            self._pid = 0


def _next(steps: Iterator[str]) -> str:
    try:
        return next(steps)
    except Exception as error:  # noqa: BLE001  it is told to the other side
        return f"{type(error).__name__}: {error}"


@contextmanager
def somebody(uid: int, work: Callable[[], Iterator[str]], gid: int | None = None) -> Iterator[Somebody]:
    one = Somebody(uid, uid if gid is None else gid, work)
    try:
        yield one
    finally:
        one.kill()


@pytest.fixture(scope="module", autouse=True)
def _everything_is_imported(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Others may not read what Python imports only when it is needed."""
    for _ in hosting(tmp_path_factory.mktemp("imported") / "app.db")():
        pass


@pytest.fixture
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:  # not pytest's, where nobody else may look
        folder = Path(name)
        folder.chmod(0o755)
        os.chown(folder, HOST, TEAM)
        yield folder / "app.db"


def hosting(path: Path) -> Callable[[], Iterator[str]]:
    """Return the work of a host that files a request with each step, and stops with the fifth."""

    def work() -> Iterator[str]:
        store = SQLiteStore(path)
        scheduler = Scheduler(store, clock=ManualClock(T0))
        scheduler.process("p")(lambda: None)
        scheduler.run_pending()
        for n in range(4):
            yield scheduler.schedule("p", Immediate(), id=str(n)).id
        scheduler.shutdown()
        store.close()
        yield "stopped"

    return work


def watching(path: Path) -> Callable[[], Iterator[str]]:
    """Return the work of a watcher that lists the requests, and who is alive however old its lease is."""

    def work() -> Iterator[str]:
        with closing(SQLiteStore(path, read_only=True)) as store:
            monitor = Monitor(store)
            while True:
                requests = ",".join(sorted(request.id for request in monitor.requests()))
                alive = [one.is_alive(T0 + timedelta(days=1)) for one in monitor.schedulers()]
                yield f"{requests} {alive}"

    return work


def test_users_of_one_group_share_a_database(path: Path) -> None:
    """Each sees that the other lives, and ends what the other left."""
    path.parent.chmod(0o2775)
    path.touch()
    path.chmod(0o664)  # as whoever shares one sets it up
    os.chown(path, HOST, TEAM)
    owners = path.with_name("app.db.owners")
    with somebody(HOST, hosting(path), TEAM) as host, somebody(COLLEAGUE, hosting_too(path), TEAM) as colleague:
        assert host.says() == "0"
        assert colleague.says() == "2 alive"
        host.kill()
        assert colleague.says() == "1 alive"
        assert owners.stat().st_mode & 0o777 == 0o775
        assert {found.stat().st_mode & 0o777 for found in owners.iterdir()} == {0o664}


def hosting_too(path: Path) -> Callable[[], Iterator[str]]:
    def work() -> Iterator[str]:
        store = SQLiteStore(path)
        scheduler = Scheduler(store, clock=ManualClock(T0))
        scheduler.process("q")(lambda: None)
        while True:
            scheduler.run_pending()
            yield f"{len(scheduler.monitor.schedulers())} alive"
            store.reap(T0)

    return work


def test_what_the_superuser_made_belongs_to_the_owner_of_the_database(path: Path) -> None:
    path.touch()
    os.chown(path, HOST, HOST)
    owners = path.with_name("app.db.owners")
    with somebody(0, hosting(path)) as superuser:
        assert superuser.says() == "0"
        assert {found.stat().st_uid for found in (owners, *owners.iterdir())} == {HOST}
    with somebody(HOST, watching(path)) as host:
        assert host.says() == "0 [False]"
