"""The examples run, and say what they are there to show."""

import importlib.util
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import SimpleQueue
from types import ModuleType

import pytest
from fastapi.testclient import TestClient

from bgsched import Monitor, RunFinished, RunStatus

EXAMPLES = Path(__file__).parent.parent / "examples"
SHOWN = {
    "retry": "attempt 1: error, no route to the bank\n"
    "attempt 2: error, no route to the bank\nattempt 3: success, fetched",
    "groups": "the ledger is closed\nreports for acme\nmail to the board\n"
    "close-ledger: success\nreports: success\nmonth-end: success",
    "async_processes": "100 answers, the sum is 4950",
    "progress_and_kill": "killed after at least 10 pages: True",
    "process_pool": "count_primes success 168 None\nspin timed_out None None\ncrash error None WorkerDiedError\n"
    "about to crash",
    "mixed_executors": "add_up success adding\nrefresh success refreshing\nsend_mail success sending\n"
    "499500 in another OS process\nrefresh ran on a thread of host",
    "dask_executor": "the sum is 285\nsquaring 0",
}


@pytest.mark.parametrize("name", SHOWN)
def test_an_example_shows_what_it_says(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / f"{name}.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == SHOWN[name]


def test_of_many_machines_each_sends_some(postgres_database: str) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / "many_machines.py"],
        env=os.environ | {"DATABASE_URL": postgres_database},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(
        r"100 runs sent 100 invoices\nof these, each scheduler sent [1-9]\d* [1-9]\d* [1-9]\d*\n", done.stdout
    )


def test_a_service_works_until_it_is_told_to_stop(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/service.db"
    with subprocess.Popen(
        [sys.executable, "-W", "error", EXAMPLES / "service.py", url],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "working; Ctrl-C ends it\n"
        assert child.stdout.readline() == "6 words\n"  # logged by the first run
        child.send_signal(signal.SIGTERM)
        assert child.communicate(timeout=30)[0].endswith("nothing was left\n")
    assert child.returncode == 0
    first = Monitor(url).runs()[-1]
    assert (first.status, first.result) == (RunStatus.SUCCESS, {"to": 2, "be": 2, "or": 1, "not": 1})


class TestWebApplications:
    """The sites of the examples, asked as their servers ask them."""

    @pytest.fixture
    def load(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
        loaded = []
        monkeypatch.setenv("BGSCHED_STORE", f"sqlite:///{tmp_path}/web.db")

        def load(name: str) -> ModuleType:
            spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            loaded.append(module)
            return module

        yield load
        for module in loaded:
            module.scheduler.shutdown()
            module.scheduler.store.close()

    def test_flask(self, load: Callable[[str], ModuleType]) -> None:
        example = load("flask_app")
        over = await_runs(example)
        client = example.create_app().test_client()
        asked = client.post("/reports/acme")
        assert asked.status_code == 202
        over.get(timeout=20)
        told = client.get(f"/reports/{asked.json['request']}").json
        assert (told["request"]["status"], told["run"]["result"]) == ("complete", "acme: 17 orders")
        assert "no request 'x'" in client.get("/reports/x").json["error"]
        assert client.get("/health").status_code == 200
        example.scheduler.shutdown()
        assert client.get("/health").status_code == 503

    def test_the_watcher_of_flask_runs_nothing(
        self, load: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FLASK_DEBUG", "1")
        example = load("flask_app")
        example.create_app()
        assert not example.scheduler.running
        monkeypatch.setenv("WERKZEUG_RUN_MAIN", "true")
        example.create_app()
        assert example.scheduler.running

    def test_fastapi(self, load: Callable[[str], ModuleType]) -> None:
        example = load("fastapi_app")
        over = await_runs(example)
        with TestClient(example.app) as client:
            asked = client.post("/reports/acme")
            assert asked.status_code == 202
            over.get(timeout=20)
            told = client.get(f"/reports/{asked.json()['request']}").json()
            assert (told["request"]["status"], told["run"]["result"]) == ("complete", "acme: 17 orders")
            assert client.get("/reports/x").status_code == 404
            assert example.scheduler.running
        assert not example.scheduler.running


def await_runs(example: ModuleType) -> SimpleQueue[object]:
    """Return a queue that gets something whenever a run of the example has ended."""
    over: SimpleQueue[object] = SimpleQueue()
    example.scheduler.on(RunFinished, over.put)
    return over
