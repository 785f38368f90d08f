"""A store as one OS process sees it, whose calls may go wrong.

`beset` makes a view of a store: another object of a class derived from the store's own, with the same state. What goes
wrong in it is decided by its `Faults`; the store itself stays as it is, for those who only look.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from bgsched.errors import StoreUnavailableError
from bgsched.stores.base import Store, StoreReader, Transaction

__all__ = ["FAULTS", "CrashError", "Faults", "beset"]

FAULTS = ("crash before", "crash after", "fail before", "fail after", "delay", "stall", "skew")
"""What may happen to a call: the OS process dies, or the call raises, before or after the commit; or it takes long, or
longer than a lease, so that others go on meanwhile; or the clock of its host is adjusted."""


class CrashError(BaseException):
    """The OS process that called the store is dead. Nothing in it may catch this."""


class Faults:
    """What befalls the calls of one OS process: nothing, until `arm` says what befalls the n-th from now.

    *delay*: called with the fault when a call takes long.
    """

    def __init__(self, delay: Callable[[str], None]) -> None:
        self._delay = delay
        self._armed: str | None = None
        self._calls_left = 0

    def arm(self, fault: str | None, calls: int = 0) -> None:
        """Let *fault* befall the call after *calls* others; ``None``: let nothing happen."""
        self._armed = fault
        self._calls_left = calls

    def call(self) -> str | None:
        """Return what befalls the call that is made now."""
        if self._armed is None:
            return None
        self._calls_left -= 1
        if self._calls_left >= 0:
            return None
        fault, self._armed = self._armed, None
        if fault in ("delay", "stall", "skew"):
            self._delay(fault)
            return None
        return fault

    @staticmethod
    def strike(fault: str | None, when: str) -> None:
        """Do what *fault* does before or after the commit."""
        if fault == f"crash {when}":
            raise CrashError
        if fault == f"fail {when}":
            raise StoreUnavailableError(f"simulated: the call failed {when} its commit")


class _Beset(Store):
    """Put before the class of a store: the same calls, with what befalls them."""

    faults: Faults

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        fault = self.faults.call()
        with super().transaction() as tx:  # type: ignore[safe-super]  # the store's own comes next
            yield tx
            self.faults.strike(fault, "before")
        self.faults.strike(fault, "after")

    def reader(self) -> StoreReader:
        return _BesetReader(super().reader(), self.faults)  # type: ignore[safe-super]  # likewise


class _BesetReader:
    """Questions that may not be answered; what they ask is passed on as it is."""

    def __init__(self, reader: StoreReader, faults: Faults) -> None:
        self._reader = reader
        self._faults = faults

    def __getattr__(self, name: str) -> Any:
        fault = self._faults.call()
        self._faults.strike(fault, "before")
        self._faults.strike(fault, "after")
        return getattr(self._reader, name)


def beset(store: Store, faults: Faults) -> Store:
    """Return a view of *store* whose calls suffer *faults*."""
    kind = type(f"Beset{type(store).__name__}", (_Beset, type(store)), {"faults": faults})
    view: Store = object.__new__(kind)
    view.__dict__ = store.__dict__
    return view
