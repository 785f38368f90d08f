"""Processes that misbehave: each is recorded properly, and the scheduler goes on unharmed."""

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from behaviour import _work
from behaviour._host import Host

from bgsched import Retry, RunStatus

S = RunStatus


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put back what a process in this OS process changes."""
    monkeypatch.chdir(Path.cwd())
    handlers = logging.getLogger().handlers[:]
    yield
    logging.getLogger().handlers[:] = handlers


@pytest.fixture
def rude(host: Host) -> Host:
    host.process(_work.misbehave, prints=True, retry=Retry(attempts=1))
    host.process(_work.narrate, "narrate")
    host.start(workers=1)
    return host


def goes_on(host: Host) -> bool:
    """Whether the next run is run, and its log kept."""
    run, visitor = host.at_the_door("narrate")
    visitor.let_on()
    return host.end_of(run).status is S.SUCCESS and host.log_of(run)[:2] == ["by run.log", "by logging"]


ERRORS = {
    "exits": ("SystemExit", "enough"),
    "is interrupted": ("KeyboardInterrupt", ""),
    "is mute": ("MuteError", "<its message failed: MuteError>"),
    "exits while it speaks": ("ExitingError", "<its message failed: ExitingError>"),
    "digs": ("RecursionError", "maximum recursion depth exceeded"),
    "is huge": ("ValueError", "x" * 10_000 + "... (9990000 more characters)"),
    "is no text": ("ValueError", "\\ud800\\x00"),
    "groups": ("ExceptionGroup", "several (2 sub-exceptions)"),
    "loops": ("ValueError", "one"),
}


def test_what_raises_is_an_error_in_words(rude: Host) -> None:
    told = {}
    for how in ERRORS:
        run = rude.run(how=how)
        assert run.error is not None
        (logged,) = rude.log_of(run, "ERROR")
        assert (run.status, logged[:10_000]) == (S.ERROR, run.error.traceback[:10_000])
        assert run.error.type in run.error.traceback
        assert len(run.error.traceback) < 110_000
        told[how] = run.error.type, run.error.message
        assert goes_on(rude)
    assert told == ERRORS


LOGGED = {
    "moves": "",
    "clears the handlers": "",
    "starts threads": "from a thread",
    "prints bytes": "\\xff\\x00binary",
    "returns no JSON": "the result was not kept: result is of type object, which is not JSON; ",
    "returns itself": "the result was not kept: maximum recursion depth exceeded",
    "returns too much": "the result was not kept: it has 16,000,004 characters as JSON, more than 16,000,000; put it ",
}


def test_what_returns_is_a_success(rude: Host) -> None:
    for how, logged in LOGGED.items():
        run = rude.run(how=how)
        assert (run.status, run.result) == (S.SUCCESS, None if how.startswith("returns") else how)
        assert "\n".join(rude.log_of(run)).startswith(logged)
        assert goes_on(rude)


@pytest.mark.parametrize("lines", [15_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_a_flood_of_lines_is_kept_at_both_ends(host: Host, lines: int) -> None:
    host.process(_work.flood)
    host.start()
    run = host.end_of(host.file(lines=lines), patience=300.0)  # a million lines take their time
    found = host.monitor.log(run.id, limit=100_000)
    assert run.status is S.SUCCESS
    assert 5_000 < len(found) < 10_000
    assert (found[0].text, found[-1].text, found[-1].seq) == ("line 0", f"line {lines - 1}", lines)


def test_the_folder_and_the_streams_are_as_they_were(threads: Host) -> None:
    streams = sys.stdout, sys.stderr
    threads.process(_work.misbehave, prints=True)
    threads.start()
    threads.run(how="prints bytes")
    assert (sys.stdout, sys.stderr) == streams
    assert threads.run(how="moves").status is S.SUCCESS
    assert Path.cwd() == Path(os.sep)  # it is the process's to move, and the scheduler does not mind
    assert threads.run(how="politely").status is S.SUCCESS
