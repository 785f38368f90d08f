"""Where a PostgreSQL database is, and what it said in one sentence; neither ever tells the password."""

import re
from typing import Any

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from bgsched.errors import StoreError, StoreSchemaError, StoreUnavailableError, StoreURLError

__all__ = ["Address", "ConflictError"]

_DEFAULTS: dict[str, Any] = {
    "connect_timeout": 5,
    "fallback_application_name": "bgsched",
    "keepalives_idle": 5,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 8000,
}


class ConflictError(StoreUnavailableError):
    """Two transactions stood in each other's way, and PostgreSQL undid this one: it can be done again at once."""


class Address:
    """Where a database is. Its text has no password.

    Raises:
        StoreURLError: *dsn* cannot be read; the message repeats nothing of it, for a password may be anywhere.
    """

    def __init__(self, dsn: str) -> None:
        if not isinstance(dsn, str):
            raise TypeError(f"dsn must be text, like 'postgresql://user@host/database', got {type(dsn).__name__}")
        try:
            self._parts = conninfo_to_dict(dsn.strip())
        except (psycopg.Error, UnicodeError) as error:
            known = re.match(r'invalid (URI query parameter|connection option|port number)[: ]+"[^"@]*"', str(error))
            raise StoreURLError(
                f"the PostgreSQL address cannot be read{': ' + known[0] if known else ''}; "
                "write 'postgresql://user:password@host:5432/database'"
            ) from None

        port = str(self._parts.get("port") or "")
        if not re.fullmatch(r"[0-9,]*", port):
            raise StoreURLError(f"the PostgreSQL address cannot be read: its port is {len(port)} characters, no number")
        if re.search(r"[^,]@", str(self._parts.get("host") or "")):
            raise StoreURLError(
                "the PostgreSQL address cannot be read: its host has an '@'; in a name or password write %40 for it"
            )
        if re.match(r"[a-z]+://[^/?]*/[^?]*@", dsn.strip()):  # the '/' of a password has ended the host
            raise StoreURLError(
                "the PostgreSQL address cannot be read: there is an '@' behind a '/'; in a name or password write %40 "
                "and %2F for them"
            )

    def __str__(self) -> str:
        part = {name: str(value) for name, value in self._parts.items() if value is not None}
        user = f"{part['user']}@" if "user" in part else ""
        port = f":{part['port']}" if "port" in part else ""
        return f"{user}{part.get('host', part.get('hostaddr', ''))}{port}/{part.get('dbname', '')}"

    @property
    def conninfo(self) -> str:
        """What libpq needs, the password included: only ever for libpq."""
        return make_conninfo(**{**_DEFAULTS, **self._parts, "client_encoding": "UTF8"})  # what we pack is UTF-8

    def unavailable(self, error: psycopg.Error) -> StoreUnavailableError:
        """Return *error* as one of ours: one sentence that says where, and what PostgreSQL said."""
        return StoreUnavailableError(f"PostgreSQL at {self}: {_said(error)}")

    def explain(self, error: psycopg.Error) -> StoreError | ValueError:
        """Return the same for what a statement met, as what it means.

        A ``ValueError`` where it lies with a value: to say the same again will not help, and nothing else is wrong.
        """
        if isinstance(error, errors.DeadlockDetected | errors.SerializationFailure | errors.UniqueViolation):
            return ConflictError(f"PostgreSQL at {self}: two transactions stood in each other's way ({_said(error)})")
        if isinstance(error, errors.UndefinedTable | errors.InvalidSchemaName | errors.UndefinedColumn):
            return StoreSchemaError(
                f"PostgreSQL at {self}: the tables of bgsched are not as they were made ({_said(error)})"
            )
        if isinstance(error, errors.DataError | errors.ProgramLimitExceeded | errors.StatementTooComplex):
            return ValueError(f"PostgreSQL at {self} cannot keep a value: {_said(error)}")
        return self.unavailable(error)


def _said(error: psycopg.Error) -> str:
    return error.diag.message_primary or _first_sentence(str(error))


def _first_sentence(text: str) -> str:
    """Return what of libpq's many lines says what is wrong: each cause, where it tried several hosts."""
    lines = [line.strip(" -\t") for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if "FATAL:" in line or "failed:" in line] or lines[-1:] or ["it said nothing"]
    return ", ".join(dict.fromkeys(map(_cause, telling)))


def _cause(line: str) -> str:
    """Return what is wrong without where it is, unless that is a socket which is not there."""
    said = re.sub(r"^.*?connection (failed|is bad): ", "", line)
    return re.sub(r"^connection to server (at .*? failed: (FATAL: *)?|on .*? failed: FATAL: *)", "", said).rstrip(":.")
