"""Broken links, slow ones, half-open ones, servers that restart and fail over: what runs goes on, and ends once."""

import os
import random
import re
import threading
from contextlib import closing
from typing import Any

import psycopg
import pytest
from postgres._machines import PATIENCE, Load, wait_until
from postgres._own_servers import own_server, pg_ctl, standby

from bgsched import (
    Immediate,
    PostgresStore,
    RequestExistsError,
    RunStatus,
    Scheduler,
    StoreUnavailableError,
    SystemClock,
)
from bgsched.stores import _address, _links, _wire
from bgsched.stores.base import RunFilter
from bgsched.testing.contract import make_request


class TestBrokenLinks:
    @pytest.fixture(autouse=True)
    def _impatient(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_wire, "PATIENCE", 1.0)
        monkeypatch.setattr(_links, "_GREETING", 0.5)
        monkeypatch.setitem(_address._DEFAULTS, "connect_timeout", 2)

    def test_connections_that_the_server_ends(self, store: PostgresStore, make_store: Any, sql: Any) -> None:
        load = Load(store, 1000)
        with load.scheduler:
            assert load.some.wait(PATIENCE)
            for _ in range(5):
                sql(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE application_name = 'bgsched' AND pid <> pg_backend_pid()"
                )
                threading.Event().wait(random.uniform(0.0, 0.1))
            load.assert_each_ran_once(make_store())

    def test_a_network_that_drops_connections(self, proxy: Any, make_store: Any) -> None:
        load = Load(make_store(proxy.dsn), 1000)
        with load.scheduler as scheduler:
            assert load.some.wait(PATIENCE)
            proxy.drop()
            wait_until(lambda: bool(scheduler._life.problems()))
            assert not scheduler.monitor.health().ok
            tries = proxy.accepted
            threading.Event().wait(1.0)  # what is shown is that little happens in this time
            assert proxy.accepted - tries < 12, "a tight loop of connecting"
            proxy.heal()
            load.assert_each_ran_once(make_store())
            wait_until(lambda: scheduler.monitor.health().ok)

    def test_a_link_that_is_half_open_hangs_nobody(self, proxy: Any, make_store: Any) -> None:
        load = Load(make_store(proxy.dsn), 1000)
        with load.scheduler as scheduler:
            assert load.some.wait(PATIENCE)
            proxy.hang()
            wait_until(lambda: bool(scheduler._life.problems()))
            assert re.search("no answer within|timeout expired", str(scheduler._life.problems()))
            proxy.heal()
            load.assert_each_ran_once(make_store())

    def test_a_slow_network_is_only_slow(self, proxy: Any, make_store: Any) -> None:
        proxy.delay(0.005)
        load = Load(make_store(proxy.dsn), 100)
        with load.scheduler as scheduler:
            load.assert_each_ran_once(make_store())
            assert scheduler.monitor.health().ok

    def test_a_commit_whose_answer_is_lost_says_so(self, store: PostgresStore, monkeypatch: pytest.MonkeyPatch) -> None:
        execute = _wire.Link.execute

        def fail(link: Any, query: Any, *options: Any, **named: Any) -> Any:
            done = execute(link, query, *options, **named)
            if query == "COMMIT":
                raise psycopg.OperationalError("server closed the connection unexpectedly")
            return done

        monkeypatch.setattr(_wire.Link, "execute", fail)
        with pytest.raises(StoreUnavailableError, match="whether it did is not known"):
            store.file([make_request()])
        monkeypatch.undo()
        with pytest.raises(RequestExistsError):
            store.file([make_request()])

    def test_a_server_that_restarts_under_load(self) -> None:
        with own_server() as server, closing(PostgresStore(server.dsn)) as store:
            load = Load(store, 800)
            with load.scheduler:
                assert load.some.wait(PATIENCE)
                pg_ctl(server, "restart", "-m", "immediate")
                with closing(PostgresStore(server.dsn)) as another:
                    load.assert_each_ran_once(another)

    @pytest.mark.slow
    def test_a_server_that_fails_over_under_load(self) -> None:
        with own_server() as server, standby(server) as (folder, promote):
            hosts = f"{server.folder},{folder}"
            both = psycopg.conninfo.make_conninfo(server.dsn, host=hosts, target_session_attrs="read-write")
            with closing(PostgresStore(both)) as store:
                load = Load(store, 800)
                with load.scheduler as scheduler:
                    assert load.some.wait(PATIENCE)
                    pg_ctl(server, "stop", "-m", "immediate")
                    both_say = re.compile("(?=.*No such file or directory).*session is read-only")
                    wait_until(lambda: bool(both_say.search(str(scheduler._life.problems()))))
                    assert not scheduler.monitor.health().ok
                    promote()
                    with closing(PostgresStore(both)) as another:
                        load.assert_each_ran_once(another)

    def test_what_comes_too_late_is_refused_and_recorded(self, proxy: Any, make_store: Any, sql: Any) -> None:
        began, go_on = threading.Event(), threading.Event()

        def work() -> str:
            began.set()
            assert go_on.wait(PATIENCE)
            return "late"

        other = make_store()
        with Scheduler(make_store(proxy.dsn)) as scheduler:
            scheduler.process("work")(work)
            request = scheduler.schedule("work", Immediate())
            assert began.wait(PATIENCE)
            running = RunFilter(status=frozenset({RunStatus.RUNNING}))
            wait_until(lambda: len(other.reader().runs(running)) == 1)
            proxy.drop()
            sql(f"UPDATE {other.schema}.schedulers SET expires_at = '-infinity'")
            (run,) = other.reap(SystemClock().now())
            proxy.heal()
            go_on.set()
            wait_until(lambda: other.reader().log(run.id, 0, 9) != [])
            assert "a late result (success)" in other.reader().log(run.id, 0, 9)[-1].text
            (ended,) = other.reader().runs(RunFilter(request=request.id))
            assert (ended.status, ended.result) == (RunStatus.ABANDONED, None)
            scheduler.run_now("work")  # it goes on, under a new name
            wait_until(lambda: len(other.reader().runs(RunFilter(status=frozenset({RunStatus.SUCCESS})))) == 1)

    def test_a_child_leaves_its_parents_links_alone(self, store: PostgresStore) -> None:
        store.file([make_request("before")])
        child = os.fork()
        if child == 0:
            try:
                store.file([make_request("of-the-child")])
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        store.file([make_request("after")])
        assert len(store.reader().upcoming(9)) == 3

    def test_a_child_that_lives_on_does_not_hold_up_its_parent(self, store: PostgresStore) -> None:
        """It has the parent's end of what wakes the listener, so that to close that end says nothing."""
        store.listen(lambda _: None)
        stays, goes = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(goes)
            os.read(stays, 1)
            os._exit(0)
        closing = threading.Thread(target=store.close, daemon=True)
        closing.start()
        closing.join(PATIENCE)
        is_closed = not closing.is_alive()
        os.close(goes)
        os.close(stays)
        assert os.waitpid(child, 0)[1] == 0
        assert is_closed
