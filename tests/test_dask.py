"""A real Dask cluster of OS processes, on this machine: runs, their logs, kill, and a worker that dies."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _executor_processes as work
import dask
import distributed
import pytest
import test_executors
from test_executors import Bench, written

from bgsched import ExecutorError, Immediate, RemoteExecutor, RunStatus, Scheduler, SQLiteStore

S = RunStatus


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    patient = {f"distributed.comm.timeouts.{what}": "60s" for what in ("connect", "tcp")}  # for a busy machine
    with (
        dask.config.set({**patient, "temporary_directory": str(tmp_path_factory.mktemp("dask"))}),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=8, processes=True, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def kind() -> str:
    return "Dask"


@pytest.fixture
def bench(client: Any, tmp_path: Path) -> Iterator[Bench]:
    store = SQLiteStore(tmp_path / "app.db")
    bench = Bench(store, RemoteExecutor(client.get_executor(), workers=16))
    with bench.scheduler:
        yield bench
        bench.scheduler.shutdown(timeout=0)
    store.close()


def all_with_their_logs(bench: Bench, count: int) -> set[int]:
    """Run so many; return the OS processes that they ran in, after each has been found with its own lines."""
    wishes = [(work.plus_there, Immediate(), {"one": n}) for n in range(count)]
    pids = set()
    for n, request in enumerate(bench.scheduler.schedule_many(wishes)):
        run = bench.end_of(request.id)
        assert (run.status, run.result and run.result[0]) == (S.SUCCESS, n + 1)
        assert [text for _, logger, text in bench.log(run) if logger != "bgsched"] == [f"plus {n}", f"it is {n + 1}"]
        pids.add(run.result[1])
    return pids


@pytest.mark.slow
class TestOnDask(test_executors.TestEverywhere):
    """What holds for every executor."""


def test_runs_come_back_with_their_logs(bench: Bench) -> None:
    pids = all_with_their_logs(bench, 50)
    assert os.getpid() not in pids
    assert len(pids) == 2


@pytest.mark.slow
def test_a_thousand_runs_come_back_with_their_logs(bench: Bench) -> None:
    assert len(all_with_their_logs(bench, 1_000)) == 2


def test_a_line_is_seen_and_a_kill_arrives_while_it_runs(bench: Bench, tmp_path: Path) -> None:
    request = bench.file(work.step_until_killed, mark=tmp_path / "mark")
    written(tmp_path / "mark")
    run_id = bench.scheduler.monitor.runs(request=request)[0].id
    assert next(iter(bench.scheduler.monitor.follow(run_id))).text.startswith("it runs on ")
    Scheduler(bench.scheduler.store, execute=False).kill(run_id)
    assert bench.end_of(request).status is S.KILLED


def test_a_closure_is_refused_though_dask_could_pickle_it(client: Any) -> None:
    scheduler = Scheduler(executor=client.get_executor())
    scheduler.process("p")(lambda: None)
    with pytest.raises(ExecutorError, match="is a lambda"):
        scheduler.schedule("p", Immediate())


def test_a_client_is_no_executor(client: Any) -> None:
    with pytest.raises(ValueError, match=r"write client.get_executor\(\)"):
        Scheduler(executor=client)


def test_a_worker_that_dies_ends_its_run_which_is_not_run_again(bench: Bench, tmp_path: Path) -> None:
    """Dask itself would run it again, on another worker, up to three times."""
    request = bench.file(work.sign_and_die, mark=tmp_path / "mark")
    run = bench.end_of(request)
    assert run.status is S.ERROR
    assert run.error is not None
    assert run.error.type == "WorkerDiedError"
    assert bench.run(work.plus, one=1).result == 2
    assert (tmp_path / "mark").read_text() == "x"
