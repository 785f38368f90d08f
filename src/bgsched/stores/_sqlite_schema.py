"""The tables of bgsched in a SQLite file: whether they are there, of which version, and how they are made."""

import sqlite3
from functools import cache
from importlib import resources
from pathlib import Path

from bgsched.errors import StoreSchemaError

__all__ = ["SCHEMA_VERSION", "Schema"]

SCHEMA_VERSION = 1


class Schema:
    """The tables in the file *path*."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def check(self, connection: sqlite3.Connection) -> None:
        """Refuse tables that are not for this bgsched; where there are none, that is fine.

        Raises:
            StoreSchemaError: a newer bgsched, or another program, made them.
        """
        if self._is_there(connection):
            self.version(connection)

    def check_readable(self, connection: sqlite3.Connection) -> None:
        """Refuse a file that holds no tables of this bgsched.

        Raises:
            StoreSchemaError: there are none, or not yet, or others.
        """
        if not self._is_there(connection):
            raise StoreSchemaError(f"{self._path} holds no bgsched tables; is it another database?")
        if self.version(connection) == 0:
            raise StoreSchemaError(
                f"{self._path} holds no bgsched tables of this version; "
                "a scheduler makes them when it first starts there"
            )

    def version(self, connection: sqlite3.Connection) -> int:
        """Return the version of the tables, 0 where there are none but that which says so.

        Raises:
            StoreSchemaError: a newer bgsched, or another program, made them.
        """
        version = connection.execute("SELECT max(version) FROM bgsched_schema").fetchone()[0]
        if version is None:
            return 0
        if not isinstance(version, int) or version < 1:
            raise self.not_ours(f"bgsched_schema says {version!r}")
        if version > SCHEMA_VERSION:
            raise StoreSchemaError(
                f"{self._path} has schema {version}, this bgsched knows up to {SCHEMA_VERSION}; "
                "upgrade bgsched, or give another file"
            )
        return version

    def bring_up_to_date(self, connection: sqlite3.Connection) -> None:
        """Make the tables, or bring them to this version, one step at a time; the transaction is the caller's."""
        connection.execute("CREATE TABLE IF NOT EXISTS bgsched_schema (version INTEGER NOT NULL)")
        for step in range(self.version(connection) + 1, SCHEMA_VERSION + 1):
            for statement in _statements(step):
                connection.execute(statement)
            connection.execute("INSERT INTO bgsched_schema (version) VALUES (?)", (step,))

    def not_ours(self, sign: str) -> StoreSchemaError:
        """Return the error that says so."""
        return StoreSchemaError(
            f"{self._path}: another program has its tables there ({sign}); give bgsched a file of its own"
        )

    def _is_there(self, connection: sqlite3.Connection) -> bool:
        return connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'bgsched_schema'").fetchone() is not None


@cache  # a host may give up the right to read what it was installed from
def _statements(step: int) -> tuple[str, ...]:
    """Return the statements of one migration."""
    text = resources.files("bgsched.stores.schema").joinpath(f"sqlite_{step:04}.sql").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("--")]
    return tuple(statement for statement in "\n".join(lines).split(";\n") if statement.strip())
