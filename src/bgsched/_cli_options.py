"""What the commands are told: options they share, and how an instant, a span or a status is written."""

import argparse
import contextlib
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from bgsched.errors import StoreURLError, did_you_mean
from bgsched.monitor import Monitor
from bgsched.stores import open_store

__all__ = ["STORE_VARIABLE", "moment", "one_of", "open_monitor", "positive", "shared_options", "span", "store_url"]

STORE_VARIABLE = "BGSCHED_STORE"
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def shared_options(*, json: bool = True) -> argparse.ArgumentParser:
    """Return the options that every command takes."""
    options = argparse.ArgumentParser(add_help=False)
    options.add_argument("--store", metavar="URL", help=f"the store, as sqlite:///app.db (default: ${STORE_VARIABLE})")
    if json:
        options.add_argument("--json", action="store_true", help="write JSON: instants in UTC, spans in seconds")
    options.add_argument(
        "--color",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="colour (default: on a terminal, unless NO_COLOR is set)",
    )
    return options


def store_url(given: str | None) -> str:
    """Return the URL that was given, or that of the environment.

    Raises:
        StoreURLError: there is neither, or it names what only one OS process can see.
    """
    url = os.environ.get(STORE_VARIABLE) if given is None else given
    if not url:
        raise StoreURLError(f"which store? write --store sqlite:///app.db, or set {STORE_VARIABLE}")
    if url.strip().lower().startswith("memory:"):
        raise StoreURLError("memory:// is seen by its own OS process only; give the URL of a database")
    return url


def open_monitor(given: str | None) -> Monitor:
    """Return a monitor on the store that is meant."""
    return Monitor(open_store(store_url(given), read_only=True).reader())


def span(text: str) -> timedelta:
    """Read ``15``, ``15s``, ``1m``, ``2h`` or ``3d``."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", text.strip().lower())
    with contextlib.suppress(OverflowError):
        if match is not None:
            return timedelta(**{_UNITS[match[2] or "s"]: float(match[1])})
    raise argparse.ArgumentTypeError(f"{text!r} is no span; write 15s, 1m, 2h or 3d")


def moment(text: str) -> datetime:
    """Read an instant: ISO 8601, local time unless it has an offset; or a span, which means so long ago."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    try:
        return datetime.now(UTC) - span(text)
    except (argparse.ArgumentTypeError, OverflowError):
        message = (
            f"{text!r} is no instant; write 2026-05-01, 2026-05-01T09:00, 2026-05-01T09:00Z, or 2h for 2 hours ago"
        )
        raise argparse.ArgumentTypeError(message) from None


def positive(text: str) -> int:
    """Read a number from 1."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1")
    return int(text)


def one_of(kind: type[StrEnum]) -> Callable[[str], list[str]]:
    """Return what reads one or more statuses with commas between them."""
    known = [member.value for member in kind]

    def statuses(text: str) -> list[str]:
        names = [name.strip().lower().replace("-", "_") for name in text.split(",")]
        for name in names:
            if name not in known:
                hint = did_you_mean(name, known) or f"; there are {', '.join(known)}"
                raise argparse.ArgumentTypeError(f"no status {name!r}{hint}")
        return names

    return statuses
