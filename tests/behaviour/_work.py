"""Processes for the tests of this folder.

They are plain functions of a module, so that another OS process can import them, and they keep nothing: what a test has
to learn comes back as result, log or progress, or through a `Door`, on which a process knocks from wherever it runs.
"""

import asyncio
import logging
import os
import socket
import sys
import threading
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, Literal, TypedDict
from uuid import UUID

from bgsched import RunKilled, current_run

LOGGER = logging.getLogger("host")


def knock(port: int, word: str) -> str:
    """Say *word* at the door and wait there; return what the test says. "" when it has gone home."""
    with socket.create_connection(("127.0.0.1", port)) as talk:
        talk.sendall(f"{word}\n".encode())
        return talk.makefile(encoding="utf-8").readline().strip()


def visit(port: int, word: str = "", company: str = "") -> str:
    """Wait at the door without ever looking whether to stop."""
    return knock(port, word or company)


def linger(port: int, word: str = "") -> None:
    """Knock, then sleep until asked to stop."""
    knock(port, word)
    current_run().sleep(0)
    current_run().sleep(timedelta(hours=1))


def about() -> dict[str, Any]:
    run = current_run()
    return {
        "id": run.id,
        "request": run.request_id,
        "process": run.process,
        "fire_time": run.fire_time.isoformat(),
        "attempt": run.attempt,
        "user": run.user,
        "channel": run.channel,
        "parent": run.parent_id,
        "fence": list(run.fence),
        "killed": run.killed,
    }


def narrate(port: int) -> str:
    """Write, say and print a little; then wait at the door."""
    run = current_run()
    run.log.debug("by run.log")
    LOGGER.warning("by logging")
    print("by print")  # noqa: T201  what is tested
    run.progress(1, 2, "half of it")
    return knock(port, "told")


def echo(**values: Any) -> dict[str, Any]:
    return values


def say(word: str = "") -> str:
    return word


class Mode(Enum):
    FAST = 1
    SLOW = "slow"


@dataclass
class Period:
    first: date
    last: date | None = None

    def __post_init__(self) -> None:
        if self.last is not None and self.last < self.first:
            raise ValueError(f"it ends on {self.last}, before it begins")


class Options(TypedDict, total=False):
    day: date


def kinds(
    day: date,
    at: datetime,
    span: timedelta,
    price: Decimal,
    mode: Mode,
    key: UUID,
    file: Path,
    period: Period,
    options: Options,
    size: Literal["s", "m"] = "s",
    maybe: int | None = None,
    *,
    nested: dict[date, list[Period]],
    **more: Decimal,
) -> list[str]:
    """Return what arrived, so that it can be compared as it is written."""
    return [repr(value) for value in locals().values()]


def kinds_of_results() -> dict[str, Any]:
    return {
        "day": date(2026, 1, 31),
        "price": Decimal("1.50"),
        "mode": Mode.SLOW,
        "file": Path("a/b"),
        "period": Period(date(2026, 1, 1)),
        "pair": (1, {2}),
    }


def log_in(user: str, password: str, pin: int = 0) -> str:
    """Do with a password what should not be done with it."""
    run = current_run()
    run.log.info("trying %r and %s", password, pin)
    LOGGER.warning("still %s", password)
    run.progress(1, message=f"with {password}")
    if user == "bad":
        raise ValueError(f"wrong password {password}") from KeyError(password)
    return password


def flaky(until: int = 3) -> str:
    """Fail until attempt *until*."""
    run = current_run()
    run.log.info("attempt %s", run.attempt)
    if run.attempt < until:
        raise OSError("no paper") from KeyError("tray")
    return "printed"


def fail(kind: str = "ValueError") -> None:
    raise {"ValueError": ValueError, "OSError": OSError}[kind]("no ledger")


def stop_somehow(port: int, how: str) -> str:
    """Knock; when let on, having been asked to stop by then, do *how*."""
    knock(port, "started")
    run = current_run()
    if how == "sees it and returns":
        return "half" if run.killed else "whole"
    if how == "sees it and fails":
        assert run.killed
        raise OSError("cleaning up")
    if how == "raises":
        run.raise_if_killed()
    if how == "tracks":
        list(run.track(range(3)))
    if how == "fails of it":
        try:
            run.raise_if_killed()
        except RunKilled as stopped:
            raise OSError("cleaning up") from stopped
    if how == "fails of it among others":
        raise ExceptionGroup("several", [OSError(), RunKilled("as told")])
    if how == "fails of something else":
        raise OSError("something else")
    return "whole"


async def meet(port: int, n: int) -> int:
    """Log around a wait on the loop; all are let on together."""
    LOGGER.warning("before %s", n)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{n}\n".encode())
    await reader.readline()
    writer.close()
    assert current_run().params["n"] == n
    LOGGER.warning("after %s", n)
    return n


class MuteError(Exception):
    def __str__(self) -> str:
        raise SystemError

    __repr__ = __str__


class ExitingError(Exception):
    def __str__(self) -> str:
        raise SystemExit(1)


def _in_threads() -> None:
    """Log from a thread of one's own, and leave another behind."""
    inside = threading.Thread(target=current_run().carry(LOGGER.warning), args=("from a thread",))
    inside.start()
    inside.join()
    threading.Thread(target=threading.Event().wait, args=(0.01,)).start()


def _dig(depth: int = 0) -> None:
    _dig(depth + 1)


def misbehave(how: str) -> Any:  # noqa: C901, PLR0912  a list of bad manners
    """Do what a host's scheduler should not suffer from."""
    if how == "exits":
        sys.exit("enough")
    if how == "is interrupted":
        raise KeyboardInterrupt
    if how == "is mute":
        raise MuteError
    if how == "exits while it speaks":
        raise ExitingError
    if how == "digs":
        _dig()
    if how == "is huge":
        raise ValueError("x" * 10_000_000)
    if how == "is no text":
        raise ValueError("\ud800\x00")
    if how == "groups":
        raise ExceptionGroup("several", [OSError("one"), ValueError("two")])
    if how == "loops":
        one, other = ValueError("one"), ValueError("other")
        one.__cause__, other.__cause__ = other, one
        raise one
    if how == "moves":
        os.chdir("/")
    if how == "clears the handlers":
        logging.getLogger().handlers.clear()
    if how == "starts threads":
        _in_threads()
    if how == "returns no JSON":
        return object()
    if how == "returns too much":
        return ["x" * 16_000_000]
    if how == "returns itself":
        endless: list[Any] = []
        endless.append(endless)
        return endless
    if how == "prints bytes":
        sys.stdout.buffer.write(b"\xff\x00binary\n")
    return how


def flood(lines: int) -> None:
    log = current_run().log
    for n in range(lines):
        log.info("line %s", n)
