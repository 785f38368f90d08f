"""A MemoryStore whose transactions fail half way holds and answers what one does whose transactions never fail."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from _two_stores import SECOND, TwoStores, everything
from hypothesis import settings
from hypothesis.stateful import rule, run_state_machine_as_test

from bgsched import MemoryStore, Store
from bgsched.request import Retention
from bgsched.stores._memory_tables import Tables

_MOST_STEPS = 100


class _Torn(Exception):  # noqa: N818  no error of the store's
    """What breaks a transaction in these tests."""


class _Steps:
    """The steps of a transaction, of which only the first few succeed: the next one does its work, and raises."""

    def __init__(self, tables: Tables, left: int) -> None:
        self._tables = tables
        self._left = left

    def __getattr__(self, name: str) -> Callable[..., Any]:
        step: Callable[..., Any] = getattr(self._tables, name)

        def taken(*values: Any) -> Any:
            answer = step(*values)
            self._left -= 1
            if self._left < 0:
                raise _Torn
            return answer

        return taken


class TearingStore(MemoryStore):
    """Breaks a transaction after *steps* steps, unless that is ``None``."""

    steps: int | None = None

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        before = self._tables._last_id
        try:
            with super().transaction() as tables:
                yield tables if self.steps is None else _Steps(tables, self.steps)
        except _Torn:
            self._tables._last_id = before  # ids may have gaps: not those compared
            raise


class Torn(TwoStores):
    """Tries everything with one of the stores again and again, each time a step further, until it succeeds."""

    tears = True

    def open_other(self) -> Store:
        return TearingStore()

    def both(self, call: Callable[[Store], Any]) -> Any:
        def torn(store: Store) -> Any:
            return self._tear(store, call) if isinstance(store, TearingStore) and self.tears else call(store)

        return super().both(torn)

    def _tear(self, store: TearingStore, call: Callable[[Store], Any]) -> Any:
        held = everything(store)
        for steps in range(_MOST_STEPS):
            store.steps = steps
            try:
                return call(store)
            except _Torn:
                store.steps = None
                assert everything(store) == held
            finally:
                store.steps = None
        raise AssertionError("it never came to its end")

    @rule()
    def purge(self) -> None:
        """Purge in several transactions, of which each is whole."""
        self.tears = False
        super().purge()
        self.both(lambda store: store.purge(Retention(complete=8 * SECOND), self.now, 5))
        self.tears = True


def test_a_transaction_that_fails_half_way_leaves_nothing_behind() -> None:
    run_state_machine_as_test(Torn, settings=settings(max_examples=30, stateful_step_count=30, deadline=None))
