"""Processes for the tests of executors, at the top of a module that a worker can import."""

import asyncio
import dataclasses
import functools
import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

from bgsched import CurrentRun, Immediate, MemoryStore, ProcessRegistry, Retry, Scheduler, WorkerDiedError, current_run

registry = ProcessRegistry()
LET_GO = threading.Event()  # ends what hangs in this OS process


class Colour(Enum):
    RED = "red"


@dataclasses.dataclass
class Item:
    name: str
    price: Decimal


@registry.process
def kinds(
    number: int,
    day: date,
    at: datetime,
    price: Decimal,
    colour: Colour,
    key: UUID,
    path: Path,
    item: Item,
    plain: dict[str, Any],
) -> list[str]:
    return [type(value).__name__ for value in (number, day, at, price, colour, key, path, item, plain)]


@registry.process(prints=True, sensitive="password")
def talk(password: str) -> dict[str, Any]:
    run = current_run()
    logging.getLogger("app.mail").warning("a warning for %s", password)
    run.log.debug("a word")
    print("printed")  # noqa: T201  that is the point
    run.progress(1, 3, "a third")
    return {
        "id": run.id,
        "params": list(run.params),
        "user": run.user,
        "attempt": run.attempt,
        "fence": list(run.fence),
        "pid": os.getpid(),
    }


@registry.process
def fail() -> None:
    try:
        raise KeyError("inside")  # noqa: TRY301  it is the cause
    except KeyError as inner:
        raise ValueError("outside") from inner


@registry.process
def step_until_killed(mark: Path) -> None:
    run = current_run()
    mark.write_text("begun")
    while True:
        run.sleep(60)


@registry.process
def hang(mark: Path) -> None:
    mark.write_text(str(os.getpid()))
    LET_GO.wait(60)


@registry.process
def say_and_hang(mark: Path) -> None:
    current_run().log.info("I hang")
    mark.write_text("begun")
    LET_GO.wait(60)


@registry.process(timeout=timedelta(seconds=0.2))
def hang_too_long() -> None:
    LET_GO.wait(60)


@registry.process(retry=Retry(attempts=3, delay=timedelta(0)))
def flaky() -> int:
    current_run().log.info("attempt %s", current_run().attempt)
    if current_run().attempt < 3:
        raise OSError("not yet")
    return current_run().attempt


@registry.process
def die(how: str) -> None:
    current_run().log.info("the last words")
    if how == "exit":
        os._exit(7)
    if how == "segfault":
        os.kill(os.getpid(), signal.SIGSEGV)
    os.kill(os.getpid(), signal.SIGKILL)


@registry.process(retry=Retry(attempts=2, delay=timedelta(0), retry_on=WorkerDiedError))
def die_once() -> str:
    if current_run().attempt == 1:
        os._exit(1)
    return "alive"


@registry.process(executor="threads")
def where_am_i() -> int:
    return os.getpid()


async def sleep_async(mark: Path | None = None) -> str:
    if mark is not None:
        mark.write_text("begun")  # noqa: ASYNC240  quick enough
        await asyncio.sleep(60)
    await asyncio.sleep(0)
    return "slept"


async def sleep_and_fail(mark: Path) -> None:
    mark.write_text("begun")  # noqa: ASYNC240  quick enough
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        raise OSError("no way out") from None


@registry.process
def leave(how: str) -> None:
    raise SystemExit(4) if how == "exit" else KeyboardInterrupt


@registry.process
def plus(one: int) -> int:
    current_run().log.info("plus %s", one)
    return one + 1


@registry.process
def plus_there(one: int) -> list[int]:
    run = current_run()
    run.log.info("plus %s", one)
    logging.getLogger("app").warning("it is %s", one + 1)
    return [one + 1, os.getpid()]


@registry.process
def sign_and_die(mark: Path) -> None:
    with mark.open("a") as file:
        file.write("x")
    os._exit(1)


@contextmanager
def office(run: CurrentRun) -> Iterator[None]:
    run.log.info("the door opens")
    yield
    run.log.info("the door closes")


def bare(left: int, right: int) -> int:
    return left + right


half_bare = functools.partial(bare, 1)
_here = Scheduler(MemoryStore())


@_here.process
def file_and_start() -> None:
    """Do what a host's module may do when a worker imports it."""
    assert not _here.start().running
    _here.schedule(file_and_start, Immediate())


def greet_first(path: str) -> None:
    Path(path).write_text("hello")
    os.environ["BGSCHED_TEST_GREETED"] = "yes"


@registry.process
def greeted() -> str | None:
    return os.environ.get("BGSCHED_TEST_GREETED")


@registry.process
def pid() -> int:
    return os.getpid()


@registry.process
def fork() -> str:
    """Return twice: in a child, too, which ends before this one goes on."""
    if child := os.fork():
        os.waitpid(child, 0)
    return "parent" if child else "child"
