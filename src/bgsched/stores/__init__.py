"""The stores, and how a URL names one."""

import os
import re
from pathlib import Path
from urllib.parse import unquote

from bgsched.errors import StoreURLError, did_you_mean
from bgsched.stores.base import Store
from bgsched.stores.memory import MemoryStore
from bgsched.stores.sqlite import SQLiteStore

__all__ = ["MemoryStore", "SQLiteStore", "Store", "not_a_store", "open_store"]

_SCHEMES = ("memory", "sqlite", "postgresql")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+):", re.IGNORECASE)  # one letter is a drive


def open_store(url: str, *, read_only: bool = False) -> Store:
    """Open the store that *url* names. *read_only*: it must be there, and nothing of it is changed.

    ``memory://`` is a new `MemoryStore`; ``sqlite:///app.db`` a file in the working folder, ``sqlite:////var/lib/app.db``
    one with an absolute path; ``postgresql://user@host/database`` a `PostgresStore`, in the schema ``bgsched`` unless
    ``?schema=...`` names another.

    Raises:
        TypeError: *url* is no text.
        StoreURLError: the URL names no store, or ``memory://`` one that is to be there.
        StoreError: the store cannot be opened.
        MissingExtraError: a package that the store needs is not installed.
    """
    if not isinstance(url, str):
        hint = f"; for a file write SQLiteStore({os.fspath(url)!r})" if isinstance(url, os.PathLike) else ""
        raise TypeError(f"a store URL must be text, like 'sqlite:///app.db', got {type(url).__name__}{hint}")
    url = url.strip()
    found = _SCHEME.match(url)
    if found is None:
        raise StoreURLError(f"store URL {_without_password(url)!r} has no scheme; {_what_was_meant(url)}")
    scheme = found[1].lower()
    if scheme == "memory":
        if read_only:
            raise StoreURLError(
                "a new memory:// is empty, and nobody else writes into it; take scheduler.monitor, or Monitor(store)"
            )
        return MemoryStore()
    if scheme == "sqlite":
        return SQLiteStore(_file_named_by(url), read_only=read_only)
    if scheme in ("postgresql", "postgres"):
        return _open_postgres(scheme + url[found.end(1) :], read_only=read_only)
    raise StoreURLError(
        f"unknown store {scheme!r} in {_without_password(url)!r}{did_you_mean(scheme, _SCHEMES)}; "
        "known are 'sqlite:///app.db', 'postgresql://user@host/database' and 'memory://'"
    )


def not_a_store(value: object) -> TypeError:
    """Return the error for what was given in place of a store."""
    hint = f"; for a file write SQLiteStore({os.fspath(value)!r})" if isinstance(value, os.PathLike) else ""
    return TypeError(
        f"store must be a Store or a URL such as 'sqlite:///app.db', got {_without_password(repr(value))}{hint}"
    )


def _file_named_by(url: str) -> Path:
    """Return the file that ``sqlite:///...`` names."""
    rest = url.partition(":")[2]
    if not rest.startswith("///") or not rest[3:]:
        raise StoreURLError(
            f"store URL {url!r} names no file; write 'sqlite:///app.db', or 'sqlite:////var/lib/app.db' "
            "for an absolute path"
        )
    if "?" in rest or "#" in rest:
        raise StoreURLError(
            f"store URL {url!r} has options, and there are none for a file; "
            "in the name of a file write ? as %3F and # as %23"
        )
    if rest == "///:memory:":
        raise StoreURLError(f"store URL {url!r} names no file; for a store that is forgotten write 'memory://'")
    return Path(unquote(rest[3:], errors="surrogateescape"))


def _open_postgres(url: str, *, read_only: bool) -> Store:
    """Open the store; all of *url* but its schema is libpq's, and stays as it was written."""
    from bgsched.stores.postgres import PostgresStore  # noqa: PLC0415  only who names it needs psycopg

    place, _, query = url.partition("?")
    options = query.split("&")
    schemas = [option for option in options if option.startswith("schema=")]
    rest = "&".join(option for option in options if option not in schemas)
    schema = unquote(schemas[-1].partition("=")[2]) if schemas else "bgsched"
    return PostgresStore(f"{place}?{rest}" if rest else place, schema=schema, read_only=read_only)


def _what_was_meant(url: str) -> str:
    """Return what to write instead of *url*, which may hold a password."""
    if "@" in url or re.search(r"\b(host|dbname|password)=", url):
        return "for PostgreSQL write 'postgresql://user@host/database', or PostgresStore(...) for what libpq reads"
    return f"for a file write 'sqlite:///{url or 'app.db'}'"


def _without_password(url: str) -> str:
    """Return the URL without what may be a password: from the user to the last ``@``, or in the query."""
    known = re.sub(r"^(\W*[\w+.-]*:?//)?([^:]*):.*@", r"\1\2:***@", url, flags=re.DOTALL)
    return re.sub(r"(password=)[^&]*", r"\1***", known)
