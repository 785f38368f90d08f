"""The stores, and how a URL names one."""

import re
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit

from bgsched.errors import StoreURLError, did_you_mean
from bgsched.stores.base import Store
from bgsched.stores.memory import MemoryStore
from bgsched.stores.sqlite import SQLiteStore

__all__ = ["MemoryStore", "SQLiteStore", "Store", "open_store"]

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
        if parts.netloc or len(parts.path) < 2:  # noqa: PLR2004  a slash and a name
            raise StoreURLError(
                f"store URL {url!r} names no file; write 'sqlite:///app.db', or 'sqlite:////var/lib/app.db' "
                "for an absolute path"
            )
        return SQLiteStore(Path(unquote(parts.path[1:])), read_only=read_only)
    if parts.scheme in ("postgresql", "postgres"):
        return _open_postgres(url, read_only=read_only)
    if not parts.scheme or len(parts.scheme) == 1:
        raise StoreURLError(f"store URL {_without_password(url)!r} has no scheme; for a file write 'sqlite:///{url}'")
    raise StoreURLError(
        f"unknown store {parts.scheme!r} in {_without_password(url)!r}{did_you_mean(parts.scheme, _SCHEMES)}; "
        "known are 'sqlite:///app.db', 'postgresql://user@host/database' and 'memory://'"
    )


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
