"""What a scheduler is given, checked before anything is done with it."""

import math

from bgsched.stores import MemoryStore, Store, not_a_store, open_store

__all__ = ["check_clock", "check_kind", "check_wait", "opened"]


def check_kind(name: str, kind: type, given: object) -> None:
    """Raise TypeError for what is neither ``None`` nor of its kind."""
    if given is not None and not isinstance(given, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, got {given!r}")


def check_clock(given: object) -> None:
    """Raise TypeError for what tells no time; a clock of the host's may be a proxy or a mock."""
    if given is None:
        return
    lacks = [name for name in ("now", "monotonic", "wait") if not callable(getattr(given, name, None))]
    if lacks or isinstance(given, type):
        hint = f", which has no {' and no '.join(lacks)}" if lacks else ", which is a class"
        raise TypeError(f"clock must be a Clock, got {given!r}{hint}")


def check_wait(wait: object, timeout: object) -> None:
    """Raise TypeError or ValueError for an invalid *wait* or *timeout* of a shutdown."""
    if not isinstance(wait, bool):
        hint = f"; write shutdown(timeout={wait!r})" if isinstance(wait, int | float) else ""
        raise TypeError(f"wait must be True or False, got {wait!r}{hint}")
    if not isinstance(timeout, int | float | None):
        raise TypeError(f"timeout must be a number of seconds or None, got {timeout!r}")
    if isinstance(timeout, float) and math.isnan(timeout):
        raise ValueError(f"timeout must be a number of seconds or None, got {timeout!r}")


def opened(store: Store | str | None) -> Store:
    """Return the store that is given, the one of a URL, or a new one in memory.

    Raises:
        StoreError: it cannot be opened.
        TypeError: it is none of these.
    """
    if store is None:
        return MemoryStore()
    if isinstance(store, str):
        return open_store(store)
    if not isinstance(store, Store):
        raise not_a_store(store)
    return store
