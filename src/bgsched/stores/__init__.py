"""The stores, and how a URL names one."""

import os
import re
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from bgsched.errors import StoreURLError, did_you_mean
from bgsched.stores.base import Store
from bgsched.stores.memory import MemoryStore
from bgsched.stores.sqlite import SQLiteStore

__all__ = ["MemoryStore", "SQLiteStore", "Store", "not_a_store", "open_store"]

_SCHEMES = ("memory", "sqlite", "postgresql")


def open_store(url: str, *, read_only: bool = False) -> Store:
    """Open the store that *url* names. *read_only*: it must be there, and nothing of it is changed.

    ``memory://`` is a new `MemoryStore`; ``sqlite:///app.db`` a file in the working folder, ``sqlite:////var/lib/app.db``
    one with an absolute path; ``postgresql://user@host/database`` a `PostgresStore`, in the schema ``bgsched`` unless
    ``?schema=...`` names another.

    Raises:
        StoreURLError: the URL names no store.
        StoreError: the store cannot be opened.
        MissingExtraError: a package that the store needs is not installed.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise StoreURLError(f"store URL {_without_password(url)!r} cannot be read: {error}") from None
    if parts.scheme == "memory":
        return MemoryStore()
    if parts.scheme == "sqlite":
        return SQLiteStore(_file_named_by(url), read_only=read_only)
    if parts.scheme in ("postgresql", "postgres"):
        return _open_postgres(url, read_only=read_only)
    if len(parts.scheme) < 2:  # noqa: PLR2004  one letter is a drive, not a scheme
        file = url or "app.db"
        raise StoreURLError(f"store URL {_without_password(url)!r} has no scheme; for a file write 'sqlite:///{file}'")
    raise StoreURLError(
        f"unknown store {parts.scheme!r} in {_without_password(url)!r}{did_you_mean(parts.scheme, _SCHEMES)}; "
        "known are 'sqlite:///app.db', 'postgresql://user@host/database' and 'memory://'"
    )


def not_a_store(value: object) -> TypeError:
    """Return the error for what was given in place of a store."""
    hint = f"; for a file write SQLiteStore({os.fspath(value)!r})" if isinstance(value, os.PathLike) else ""
    return TypeError(f"store must be a Store or a URL such as 'sqlite:///app.db', got {value!r}{hint}")


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
    return Path(unquote(rest[3:]))


def _open_postgres(url: str, *, read_only: bool) -> Store:
    from bgsched.stores.postgres import PostgresStore  # noqa: PLC0415  only who names it needs psycopg

    parts = urlsplit(url)
    query = parse_qsl(parts.query, keep_blank_values=True)
    schema = next((value for name, value in query if name == "schema"), "bgsched")
    for_libpq = urlencode([(name, value) for name, value in query if name != "schema"], safe="/:,")
    return PostgresStore(parts._replace(query=for_libpq).geturl(), schema=schema, read_only=read_only)


def _without_password(url: str) -> str:
    """Return the URL without what may be a password: between the user and the ``@``, or in the query."""
    return re.sub(r"(password=)[^&]*", r"\1***", re.sub(r":[^:@/][^@]*@", ":***@", url))
