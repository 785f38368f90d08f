"""The policies of a process as the decorator takes them, by keyword."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, Literal, TypedDict

from bgsched._codec import show
from bgsched.errors import did_you_mean
from bgsched.process.value import Process
from bgsched.request import Misfire, OnAbandon, Overlap, Policies, Retry

__all__ = ["ProcessOptions", "policies_of"]


class ProcessOptions(TypedDict, total=False):
    """The policies that the decorator takes by keyword; their meaning and defaults are those of `Policies`."""

    overlap: Overlap | Literal["allow", "skip", "queue", "replace"]
    overlap_scope: Literal["request", "process"] | tuple[str, ...]
    misfire: Misfire | Literal["run_once", "skip", "run_all"]
    misfire_grace: timedelta
    retry: Retry
    timeout: timedelta | None
    on_abandon: OnAbandon | Literal["record", "rerun"]
    max_reruns: int
    priority: int
    limit: int | None
    sensitive: str | Iterable[str]
    prints: bool
    after: "str | Process[Any, Any] | Iterable[str | Process[Any, Any]]"


def policies_of(options: ProcessOptions) -> Policies:
    """Return the policies that these options ask for.

    Raises:
        TypeError: an option is unknown.
        ValueError: an option has no meaning.
    """
    known = ProcessOptions.__annotations__
    for name in options:
        if name not in known:
            raise TypeError(
                f"a process has no option {name!r}{did_you_mean(name, known) or '; it has ' + ', '.join(known)}"
            )
    values: dict[str, Any] = dict(options)
    for option in ("sensitive", "after"):
        if option in options:
            values[option] = _names(option, values[option])
    return replace(Policies(), **values)


def _names(option: str, given: Any) -> tuple[str, ...]:
    """Return the names that an option is given: one or several, or the processes that have them."""
    several = () if given is None else (given,) if isinstance(given, str | Process) else given
    names = [name.name if isinstance(name, Process) else name for name in several] if _is_listed(several) else [given]
    if not all(isinstance(name, str) for name in names):
        raise ValueError(f"{option} must be a name or a tuple of names, got {show(given)}")
    return tuple(names)


def _is_listed(given: object) -> bool:
    return isinstance(given, Iterable) and not isinstance(given, Mapping)
