"""An errand: what a worker in another OS process is given of a run, and which processes can be given away at all.

The function travels by its name, so it must be found there again: at the top of a module that the worker can import.
That is checked when a request is filed, not when it is due.
"""

import logging
import pickle
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bgsched._current import LiveRun
from bgsched._events import Around, Hooks
from bgsched._outcome import text_of
from bgsched.errors import ExecutorError
from bgsched.process import Process
from bgsched.request import Policies
from bgsched.run import Run

__all__ = ["Errand", "check_travels", "packed"]


@dataclass(frozen=True, slots=True)
class _Named:
    """A function by the place where it is defined."""

    module: str
    qualname: str

    def __reduce__(self) -> Any:
        """Unpickle as what stands there."""
        return _found, (self.module, self.qualname)


def _found(module: str, qualname: str) -> Any:
    __import__(module)
    found: Any = sys.modules[module]
    for name in qualname.split("."):
        found = getattr(found, name)
    return found


@dataclass(frozen=True, slots=True)
class Errand:
    """A run to execute elsewhere. *function*: the function, or the process that it was decorated into."""

    run: Run
    name: str
    function: Any
    policies: Policies
    around: Sequence[Around]
    levels: Mapping[str, int]

    @classmethod
    def unpacked(cls, packed: bytes) -> "Errand":
        """Return the errand that `packed` made; its modules are imported for it."""
        errand: Errand = pickle.loads(packed)  # noqa: S301  it comes from the scheduler, over its own connection
        return errand

    def process(self) -> Process[Any, Any]:
        """Return the process of the run."""
        function = self.function.function if isinstance(self.function, Process) else self.function
        return Process(function, name=self.name, policies=replace(self.policies, after=()))

    def hooks(self) -> Hooks:
        """Return the hooks around the run."""
        return Hooks(self.around)


def packed(live: LiveRun, hooks: Hooks) -> bytes:
    """Return the errand of a run as bytes.

    Raises:
        ExecutorError: a part of it cannot travel.
    """
    process = live.process
    function = _by_name(process)
    errand = Errand(live.run, process.name, function, process.policies, hooks.surroundings, _levels())
    return _pickled("a part of it", errand, process)


def _levels() -> dict[str, int]:
    """Return what is logged here: the level of each logger that was given one."""
    known = {"root": logging.root, **logging.root.manager.loggerDict}
    return {name: logger.level for name, logger in known.items() if isinstance(logger, logging.Logger) and logger.level}


def check_travels(process: Process[Any, Any], hooks: Hooks, where: object) -> None:
    """Refuse a process that cannot be executed in another OS process.

    Raises:
        ExecutorError: its function, its policies or a hook around its runs cannot be found there; the message says
            what to write instead.
    """
    try:
        _pickled("its function", _by_name(process), process)
        _pickled("its options", process.policies, process)
        for hook in hooks.surroundings:
            _pickled(f"the hook {hook!r} around it", hook, process)
    except ExecutorError as error:
        raise ExecutorError(process.name, f"cannot run in {where!r}: {error.problem}") from None


def _by_name(process: Process[Any, Any]) -> Any:
    """Return the process's function as something that can be pickled: by its name, if it has one.

    Raises:
        ExecutorError: it has a name, and something else, or nothing, stands there.
    """
    function = process.function
    module, qualname = getattr(function, "__module__", None), getattr(function, "__qualname__", None)
    if module is None or qualname is None:
        return function  # a partial, or an object that can be called: pickled as it is
    if "<" in qualname:
        kind = "a lambda" if "<lambda>" in qualname else "defined inside another function"
        raise ExecutorError(process.name, f"{module}.{qualname} is {kind}; {_INSTEAD}")
    try:
        found = _found(module, qualname)
    except (ImportError, AttributeError, KeyError):
        raise ExecutorError(process.name, f"nothing is found at {module}.{qualname}; {_INSTEAD}") from None
    if found is function or (isinstance(found, Process) and found.function is function):
        return _Named(module, qualname)
    if getattr(function, "__self__", None) is not None:
        return function  # a method: pickled with its object
    raise ExecutorError(process.name, f"something else is found at {module}.{qualname}; {_INSTEAD}")


def _pickled(what: str, part: Any, process: Process[Any, Any]) -> bytes:
    try:
        return pickle.dumps(part)
    except Exception as error:
        raise ExecutorError(process.name, f"{what} cannot be pickled ({text_of(error)}); {_INSTEAD}") from error


_INSTEAD = (
    "define its function, and the hooks around it, at the top of a module, or write executor='threads' for this process"
)
