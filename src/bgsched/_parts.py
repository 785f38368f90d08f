"""What a scheduler is made of, from its first day to its last."""

from dataclasses import dataclass

from bgsched._events import Hooks
from bgsched.clock import Clock
from bgsched.process import ProcessRegistry
from bgsched.request import Retention
from bgsched.stores.base import Store

__all__ = ["Parts"]


@dataclass(frozen=True, slots=True)
class Parts:
    """What stays the same through every life of a scheduler."""

    store: Store
    processes: ProcessRegistry
    clock: Clock
    hooks: Hooks
    retention: Retention
