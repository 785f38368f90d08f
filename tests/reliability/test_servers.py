"""The servers that hosts run under: each worker of gunicorn, and each import of Flask's reloader, has a scheduler."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest

from bgsched import Monitor, RunStatus, SQLiteStore
from bgsched.testing.contract import T0

APP = """
import os
from bgsched import Immediate, Scheduler, SQLiteStore
from flask import Flask

def say(*words):  # one write, so that what several OS processes say is not mixed
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())

app = Flask(__name__)
scheduler = Scheduler(SQLiteStore("app.db", timeout=30))

@scheduler.process(timing=Immediate())
def declared():
    say("declared ran in", os.getpid())

@scheduler.process
def asked():
    say("asked ran in", os.getpid())

@app.get("/ask")
def ask():
    scheduler.run_now("asked")
    return f"{os.getpid()} {scheduler.running}"

scheduler.start()
say("imported in", os.getpid())
"""


PATIENCE = 60.0


class Server:
    """A server in OS processes of its own, which are ended with it."""

    def __init__(self, folder: Path, command: list[str]) -> None:
        (folder / "app.py").write_text(APP)
        self.said: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-m", *command],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def hear(self, pattern: str, times: int = 1) -> list[str]:
        """Read what is said until *pattern* has come so often; return what its group was each time."""
        assert self.process.stdout is not None
        heard = [found for line in self.said for found in re.findall(pattern, line)]
        while len(heard) < times:
            line = self.process.stdout.readline()
            assert line, "".join(self.said)
            self.said.append(line)
            heard += re.findall(pattern, line)
        return heard

    def stop(self, how: signal.Signals) -> None:
        """End all of its OS processes, which are a group."""
        os.killpg(self.process.pid, how)
        with self.process as process:
            assert process.stdout is not None
            self.said += process.stdout.readlines()


@contextmanager
def server(folder: Path, *command: str) -> Iterator[Server]:
    running = Server(folder, list(command))
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.stop(signal.SIGKILL)


def outcome(folder: Path) -> list[tuple[str, RunStatus]]:
    """Return what ran, once whoever was killed is ended."""
    with closing(SQLiteStore(folder / "app.db")) as store:
        store.reap(T0)
        assert store.reader().schedulers() == []
        return sorted((run.process, run.status) for run in Monitor(store).runs())


@pytest.mark.parametrize("preload", [[], ["--preload"]], ids=["each worker imports", "preload"])
def test_the_workers_of_gunicorn_fire_once(preload: list[str], tmp_path: Path) -> None:
    with server(tmp_path, "gunicorn", "app:app", "--workers=2", "--bind=127.0.0.1:0", *preload) as gunicorn:
        port = int(gunicorn.hear(r"Listening at: http://127.0.0.1:(\d+)")[0])
        if not preload:
            gunicorn.hear(r"imported in (\d+)", times=2)
        with urlopen(f"http://127.0.0.1:{port}/ask", timeout=PATIENCE) as answer:
            worker, is_running = answer.read().decode().split()
        (ran_in,) = gunicorn.hear(r"asked ran in (\d+)")
        assert is_running == str(not preload)
        assert (int(ran_in) == gunicorn.process.pid) == bool(preload)
        assert int(worker) != gunicorn.process.pid
        gunicorn.stop(signal.SIGTERM)
    assert outcome(tmp_path) == [("asked", RunStatus.SUCCESS), ("declared", RunStatus.SUCCESS)]


def test_the_reloader_of_flask_imports_twice_and_fires_once(tmp_path: Path) -> None:
    with server(tmp_path, "flask", "--app=app", "run", "--debug", "--port=0") as flask:
        one, other = flask.hear(r"imported in (\d+)", times=2)
        flask.hear(r"declared ran in (\d+)")
        flask.stop(signal.SIGKILL)
    assert one != other
    assert len(flask.hear(r"declared ran in (\d+)")) == 1
    assert [process for process, _ in outcome(tmp_path)] == ["declared"]
