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
    """Others may not read what Python imports, and a store reads, only when it is needed."""
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


def let_it_run(path: Path, steps: int) -> None:
    with somebody(HOST, hosting(path)) as host:
        for _ in range(steps):
            host.says()


def files(path: Path) -> set[str]:
    return {found.name for found in path.parent.iterdir() if found.is_file()}


@pytest.mark.parametrize("mode", [0o755, 0o777], ids=["may not write beside it", "may write beside it"])
class TestWhoOnlyWatches:
    def test_reads_a_database_that_nobody_has_open(self, path: Path, mode: int) -> None:
        let_it_run(path, 5)
        path.parent.chmod(mode)
        with somebody(WATCHER, watching(path)) as watcher:
            assert watcher.says() == watcher.says() == "0,1,2,3 []"
            assert files(path) == {"app.db"}

    def test_sees_what_others_do_meanwhile(self, path: Path, mode: int) -> None:
        let_it_run(path, 5)
        path.parent.chmod(mode)
        with somebody(WATCHER, watching(path)) as watcher, somebody(HOST, changing(path)) as host:
            assert watcher.says() == "0,1,2,3 []"
            assert host.says() == "more"
            assert watcher.says() == "0,1,2,3,more []"
            assert host.says() == "fewer"
            assert watcher.says() == "more []"
            assert host.says() == "closed"
            assert watcher.says() == "0,1,2,3 []"

    def test_reads_what_a_killed_scheduler_left(self, path: Path, mode: int) -> None:
        let_it_run(path, 2)
        path.parent.chmod(mode)
        assert files(path) == {"app.db", "app.db-wal", "app.db-shm"}
        with somebody(WATCHER, watching(path)) as watcher:
            assert watcher.says() == "0,1 [False]"

    def test_sees_who_lives(self, path: Path, mode: int) -> None:
        path.parent.chmod(mode)
        with somebody(HOST, hosting(path)) as host:
            assert host.says() == "0"
            with somebody(WATCHER, watching(path)) as watcher:
                assert watcher.says() == "0 [True]"
                assert host.says() == "1"
                assert watcher.says() == "0,1 [True]"
                host.kill()
                assert watcher.says() == "0,1 [False]"

    def test_is_in_no_scheduler_s_way(self, path: Path, mode: int) -> None:
        """Neither while it looks nor when it was killed."""
        let_it_run(path, 5)
        path.parent.chmod(mode)
        for stays in (True, False):
            with somebody(WATCHER, watching(path)) as watcher, somebody(HOST, changing(path)) as host:
                watcher.says()
                if not stays:
                    watcher.kill()
                assert [host.says() for _ in range(3)] == ["more", "fewer", "closed"]

    def test_is_told_what_it_lacks(self, path: Path, mode: int) -> None:
        let_it_run(path, 2)
        path.parent.chmod(mode)
        path.with_name("app.db-shm").unlink()
        with somebody(WATCHER, watching(path)) as watcher:
            said = watcher.says()
        assert said.startswith(f"StoreUnavailableError: {path}: ")
        assert f"cannot be read without {path}-shm, which this user may not make" in said
        assert said.endswith(f"start a scheduler, or look as user {HOST}")
        assert files(path) == {"app.db", "app.db-wal"}
        with somebody(HOST, watching(path)) as host:
            assert host.says() == "0,1 [False]"


def changing(path: Path) -> Callable[[], Iterator[str]]:
    def work() -> Iterator[str]:
        store = SQLiteStore(path)
        scheduler = Scheduler(store, clock=ManualClock(T0))
        scheduler.process("p")(lambda: None)
        yield scheduler.schedule("p", Immediate(), id="more").id
        for n in range(4):
            scheduler.delete(str(n))
        store._write_connection().execute("PRAGMA wal_checkpoint(TRUNCATE)")
        yield "fewer"
        scheduler.schedule("p", Immediate(), id="0")
        scheduler.delete("more")
        scheduler.delete("0")
        for n in range(4):
            scheduler.schedule("p", Immediate(), id=str(n))
        store.close()
        yield "closed"

    return work


def test_a_file_that_may_not_be_read_is_said_to_be_so(path: Path) -> None:
    let_it_run(path, 5)
    path.chmod(0o600)
    with somebody(WATCHER, watching(path)) as watcher:
        assert watcher.says().endswith(f": it belongs to user {HOST}, and this user may not read it")


@pytest.mark.parametrize("work", ["hosting", "watching"])
def test_a_folder_into_which_one_may_not_look(path: Path, work: str) -> None:
    let_it_run(path, 5)
    path.parent.chmod(0o700)
    with somebody(WATCHER, {"hosting": hosting, "watching": watching}[work](path)) as one:
        said = one.says()
    assert said.startswith("StoreUnavailableError: ")
    assert "Permission denied" in said or "or none that this user may see" in said


def test_another_user_s_file_in_the_way_is_named(path: Path) -> None:
    let_it_run(path, 5)
    index = path.with_name("app.db-shm")
    index.touch(0o644)
    path.with_name("app.db-wal").touch(0o644)
    os.chown(index, WATCHER, WATCHER)
    os.chown(path.with_name("app.db-wal"), HOST, HOST)
    with somebody(HOST, hosting(path)) as host:
        said = host.says()
    assert said.startswith("StoreUnavailableError")
    assert f"{index} belongs to user {WATCHER}, and this user may not write it" in said
    assert f"give it to user {HOST} (chown)" in said


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
            Monitor(SQLiteStore(path, read_only=True)).requests()
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
