"""A database file and what SQLite keeps beside it, looked at and never opened: closing one would drop SQLite's locks.

SQLite follows links before it names its own files, so what is beside the file is looked for where the name leads to.
"""

import os
import re
import sqlite3
import stat
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import ParamSpec, TypeVar
from urllib.parse import quote

from bgsched.errors import StoreUnavailableError, StoreURLError

__all__ = ["DatabaseFile", "Identity", "OvertakenError", "Stamp", "asking_again", "checked_path"]

P = ParamSpec("P")
R = TypeVar("R")

Identity = tuple[int, int]
"""What tells a file from another one of the same name."""

Stamp = tuple[int, int, int, int]
"""What changes when somebody writes in a file."""

_URL = re.compile(r"(?:sqlite|file):|([a-z][a-z0-9+.-]+)://", re.IGNORECASE)  # one letter is a drive
_COARSEST = 2.0  # seconds that pass in the clocks of some file systems from one time to the next


class OvertakenError(StoreUnavailableError):
    """A file was written while it was read without a lock: what was read counts for nothing."""


def asking_again(ask: Callable[P, R], attempts: int = 5) -> Callable[P, R]:
    """Return *ask*, asked again where it was overtaken: who writes seldom does so twice in a row."""

    @wraps(ask)
    def again(*args: P.args, **kwargs: P.kwargs) -> R:
        for _ in range(attempts - 1):
            with suppress(OvertakenError):
                return ask(*args, **kwargs)
        return ask(*args, **kwargs)

    return again


def checked_path(path: str | os.PathLike[str]) -> Path:
    """Return the path of a file; SQLite would take a URL, or its own word for no file, as the name of one.

    Raises:
        StoreURLError: it is that, or names nothing.
    """
    checked = Path(path)
    if not checked.name:
        raise StoreURLError(f"{str(path)!r} names no file; name one, as in SQLiteStore('app.db')")
    if checked.name == ":memory:":
        raise StoreURLError("':memory:' names no file; for a store that is forgotten write MemoryStore()")
    found = _URL.match(str(path))
    if found is not None:  # it may hold a password
        url = f"{found[1]}://..." if found[1] else "sqlite:///app.db"
        raise StoreURLError(f"SQLiteStore takes the path of a file, and got a URL; write open_store('{url}')")
    return checked


class DatabaseFile:
    """The file that *name* leads to, also when another one of that name has taken its place."""

    def __init__(self, name: Path) -> None:
        self._name = name
        self.path = Path(os.path.realpath(name))
        self.log = self._beside("-wal")
        self.index = self._beside("-shm")
        self._journal = self._beside("-journal")

    def identity(self) -> Identity | None:
        """Return that of the file that the name leads to now."""
        return _identity(self._name)

    def look(self) -> Stamp | None:
        """Return the stamp of the file that the name leads to now; it begins with the identity."""
        return _stamp(self._name)

    def log_identity(self) -> Identity | None:
        return _identity(self.log)

    def leads_elsewhere(self) -> bool:
        """Return whether a link leads to another place than it did."""
        return os.path.realpath(self._name) != str(self.path)

    def is_without_its_log(self) -> bool:
        """Return whether somebody has the database open whose log was removed.

        SQLite makes the log before its index, and removes it after that: so one index means one log, all the while.
        """
        index = _identity(self.index)
        return index is not None and self.log_identity() is None and _identity(self.index) == index

    def stamp(self) -> Stamp | None:
        return _stamp(self.path)

    def is_still(self, stamp: Stamp, since: float) -> bool:
        """Return whether nobody wrote in the file since the instant of that stamp, by the clock of the machine.

        Where the file system counts in seconds, a write within the same one goes unnoticed.
        """
        seconds, rest = divmod(stamp[3], 10**9)
        return self.stamp() == stamp and (rest != 0 or since - seconds > _COARSEST)

    def stamp_at_rest(self) -> Stamp | None:
        """Return the stamp if all that is stored is in the file itself, as long as that stays the same."""
        stamp = self.stamp()
        is_at_rest = all(found is None or found.st_size == 0 for found in map(_stat, (self.log, self._journal)))
        return stamp if is_at_rest else None

    def names(self) -> int:
        """Return how many names the file has in the file system."""
        found = _stat(self.path)
        return 1 if found is None else found.st_nlink

    def address(self, options: str) -> str:
        """Return the URI of the file, with *options* for SQLite."""
        path = quote(os.fsencode(self.path.as_posix()))
        return f"file://{'' if path.startswith('/') else '/'}{path}?{options}"

    def refuses_writers(self) -> str | None:
        """Return why this user cannot write the database; what SQLite made beside it would be in others' way."""
        found = _stat(self.path)
        if found is None or not stat.S_ISREG(found.st_mode) or os.access(self.path, os.W_OK):
            return None
        return f": it belongs to {_owner(self.path)}, and this user may not write it; read it with read_only=True"

    def to_read(self) -> str:
        """Return the options of who only reads; another user makes no index, which would be in its owner's way.

        Whoever may write the one that is there uses it as writers do: SQLite has one index for a whole OS process.
        """
        may_write = not self._is_anothers() or os.access(self.index, os.W_OK)
        return "mode=ro" if may_write else "mode=ro&readonly_shm=1"

    def _is_anothers(self) -> bool:
        """Return whether files that this user makes beside the database would not belong to its owner."""
        found = _stat(self.path)
        return hasattr(os, "geteuid") and found is not None and os.geteuid() not in (0, found.st_uid)

    def advice(self, primary: int | None) -> str:
        """Return what lies behind an error of SQLite's that has to do with files, as far as can be seen."""
        if primary == sqlite3.SQLITE_CANTOPEN:
            try:
                return self._why_closed()
            except OSError as error:  # a folder into which this user may not even look
                return f": {error}"
        if primary == sqlite3.SQLITE_READONLY:
            return self._who_is_in_the_way() or ": the file or its folder cannot be written"
        if primary == sqlite3.SQLITE_FULL:
            return ": the disk is full"
        return ""

    def _beside(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name + suffix)

    def _why_closed(self) -> str:
        if self.path.is_dir():
            return ": it is a folder; name a file in it"
        if self.path.is_file() and not os.access(self.path, os.R_OK):
            return f": it belongs to {_owner(self.path)}, and this user may not read it"
        if self._is_anothers() and self.log.exists() and not self.index.exists():
            return (
                f": nobody has it open, and what is in {self.log} cannot be read without {self.index}, which this "
                f"user may not make; start a scheduler, or look as {_owner(self.path)}"
            )
        folder = self.path.parent
        why = "cannot be written, or the file is no plain file" if folder.is_dir() else "is no folder"
        return self._who_is_in_the_way() or f": {folder} {why}"

    def _who_is_in_the_way(self) -> str:
        """Return which of the files beside a database that can be written is another user's."""
        if not os.access(self.path, os.W_OK):
            return ""
        for beside in (self.log, self.index):
            if beside.exists() and not os.access(beside, os.W_OK):
                return (
                    f": {beside} belongs to {_owner(beside)}, and this user may not write it; "
                    f"while nobody has the database open, give it to {_owner(self.path)} (chown)"
                )
        return ""


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _stamp(path: Path) -> Stamp | None:
    found = _stat(path)
    return None if found is None else (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def _identity(path: Path) -> Identity | None:
    found = _stat(path)
    return None if found is None else (found.st_dev, found.st_ino)


def _owner(path: Path) -> str:
    try:
        return repr(path.owner())
    except (KeyError, OSError, NotImplementedError):  # a user without a name, for one
        found = _stat(path)
        return "another user" if found is None else f"user {found.st_uid}"
