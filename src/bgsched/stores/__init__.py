"""The stores, and how a URL names one."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from bgsched.errors import StoreURLError, did_you_mean
from bgsched.stores.base import Store
from bgsched.stores.memory import MemoryStore
from bgsched.stores.sqlite import SQLiteStore

__all__ = ["MemoryStore", "SQLiteStore", "Store", "open_store"]

_SCHEMES = ("memory", "sqlite")


def open_store(url: str) -> Store:
    """Open the store that *url* names.

    ``memory://`` is a new `MemoryStore`; ``sqlite:///app.db`` a file in the working folder, ``sqlite:////var/lib/app.db``
    one with an absolute path.

    Raises:
        StoreURLError: the URL names no store.
        StoreError: the store cannot be opened.
    """
    parts = urlsplit(url)
    if parts.scheme == "memory":
        return MemoryStore()
    if parts.scheme == "sqlite":
        if parts.netloc or len(parts.path) < 2:  # noqa: PLR2004  a slash and a name
            raise StoreURLError(
                f"store URL {url!r} names no file; write 'sqlite:///app.db', or 'sqlite:////var/lib/app.db' for an absolute path"
            )
        return SQLiteStore(Path(unquote(parts.path[1:])))
    if not parts.scheme or len(parts.scheme) == 1:
        raise StoreURLError(f"store URL {url!r} has no scheme; for a file write 'sqlite:///{url}'")
    raise StoreURLError(
        f"unknown store {parts.scheme!r} in {_without_password(url)!r}{did_you_mean(parts.scheme, _SCHEMES)}; "
        "known are 'sqlite:///app.db' and 'memory://'"
    )


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    if parts.password is None:
        return url
    return url.replace(f":{parts.password}@", ":***@")
