"""A process: a named piece of work, and how its requests run.

A process is the callable that was decorated, plus a name and its policies. What is stored of it is the name alone; the
callable is found again by that name in a `ProcessRegistry`. Nothing that is stored can call what was not registered.

Params are the process's own arguments by name. They are checked against its signature when a request is filed, and again
when it runs, because the code may have changed in between; and they are JSON, because they are stored.
"""

import functools
import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, Generic, ParamSpec, Protocol, TypedDict, TypeVar, overload

from typing_extensions import Unpack

from bgsched.errors import ParamsError, ProcessNameError, SchedulerStateError, UnknownProcessError, did_you_mean
from bgsched.request import Policies, Request
from bgsched.timing import Timing

__all__ = ["Process", "ProcessOptions", "ProcessRegistry", "check_json"]

P = ParamSpec("P")
R = TypeVar("R")


class ProcessOptions(TypedDict, total=False):
    """The policies that the decorator takes by keyword; their meaning and defaults are those of `Policies`."""

    overlap: Any
    overlap_scope: Any
    misfire: Any
    misfire_grace: Any
    retry: Any
    timeout: Any
    on_abandon: Any
    priority: int


class Filer(Protocol):
    """Who files requests for the processes of a registry: a scheduler."""

    def schedule(
        self, process: "Process[Any, Any]", timing: Timing, params: Mapping[str, Any] | None = None
    ) -> Request:
        """File a request."""
        ...

    def registered(self, process: "Process[Any, Any]") -> None:
        """Hear of a process that was registered after the scheduler took the registry."""
        ...


class Process(Generic[P, R]):
    """A registered process. Calling it calls the function itself, here and now, without a run."""

    def __init__(
        self,
        function: Callable[P, R],
        *,
        name: str,
        timing: Timing | None,
        policies: Policies,
        registry: "ProcessRegistry",
    ) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.name = name
        self.timing = timing
        self.policies = policies
        self.is_async = inspect.iscoroutinefunction(function)
        self._registry = registry
        self._signature = _signature(name, function)
        self._check_scope()

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<process {self.name!r}>"

    def __reduce__(self) -> str:
        """Pickle by reference: whoever unpickles it imports the module that registered it."""
        return str(self.__qualname__)

    def schedule(self, timing: Timing, *args: P.args, **kwargs: P.kwargs) -> Request:
        """File a request with these arguments as params; as `Scheduler.schedule`.

        Raises:
            SchedulerStateError: the process belongs to no scheduler yet.
        """
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise ParamsError(self.name, self._explain(error, kwargs)) from None
        params = dict(bound.arguments)
        for parameter in self._signature.parameters.values():
            if parameter.kind is parameter.VAR_KEYWORD:
                params.update(params.pop(parameter.name, {}))
        return self._registry.filer(self.name).schedule(self, timing, params)

    def bind(self, params: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return *params* as they are stored: they fit the signature and are JSON.

        Raises:
            ParamsError: a param is unknown, missing, or not JSON; the message says which, where, and what to write.
        """
        given = dict(params or {})
        try:
            self._signature.bind(**given)
        except TypeError as error:
            raise ParamsError(self.name, self._explain(error, given)) from None
        for name, value in given.items():
            problem = check_json(value, name)
            if problem is not None:
                raise ParamsError(self.name, problem)
        return given

    def _explain(self, error: TypeError, given: Mapping[str, Any]) -> str:
        known = list(self._signature.parameters)
        takes_more = any(p.kind is p.VAR_KEYWORD for p in self._signature.parameters.values())
        for name in given:
            if name not in known and not takes_more:
                takes = f"it takes {', '.join(known)}" if known else "it takes none"
                return f"no param {name!r}{did_you_mean(name, known) or f'; {takes}'}"
        return f"{error}; it is {self.name}{self._signature}"

    def _check_scope(self) -> None:
        scope = self.policies.overlap_scope
        for name in () if isinstance(scope, str) else scope:
            if name not in self._signature.parameters:
                known = list(self._signature.parameters)
                raise ProcessNameError(
                    f"overlap_scope of process {self.name!r} names {name!r}, which is no param of it"
                    f"{did_you_mean(name, known)}"
                )


class ProcessRegistry:
    """Collects processes, in modules that know no scheduler: ``Scheduler(processes=registry)``."""

    def __init__(self) -> None:
        self._processes: dict[str, Process[Any, Any]] = {}
        self._filers: list[Filer] = []

    def __iter__(self) -> Iterator[Process[Any, Any]]:
        return iter(list(self._processes.values()))

    def __len__(self) -> int:
        return len(self._processes)

    def __contains__(self, name: object) -> bool:
        return name in self._processes

    @overload
    def process(self, name: Callable[P, R], /) -> Process[P, R]: ...

    @overload
    def process(
        self, name: str | None = None, /, *, timing: Timing | None = None, **options: Unpack[ProcessOptions]
    ) -> Callable[[Callable[P, R]], Process[P, R]]: ...

    def process(
        self, name: Any = None, /, *, timing: Timing | None = None, **options: Unpack[ProcessOptions]
    ) -> Any:
        """Register the decorated function, under its own name or *name*.

        *timing* is declared under the process's name as request id when a scheduler starts; *options* are the fields of
        `Policies`.

        Raises:
            ProcessNameError: another function has the name, or the function takes what cannot be stored by name.
            TypeError: an option is unknown.
        """
        if callable(name):
            return self._register(name, None, timing, Policies())
        policies = _policies(options)
        return lambda function: self._register(function, name, timing, policies)

    def find(self, name: str) -> Process[Any, Any] | None:
        """Return the process of that name, or ``None``."""
        return self._processes.get(name)

    def get(self, name: str) -> Process[Any, Any]:
        """Return the process of that name.

        Raises:
            UnknownProcessError: there is none; the message says which name is close.
        """
        try:
            return self._processes[name]
        except KeyError:
            raise UnknownProcessError(name, self._processes) from None

    def names(self) -> frozenset[str]:
        """Return the names of all processes."""
        return frozenset(self._processes)

    def attach(self, filer: Filer) -> None:
        """Let *filer* file the requests of these processes; the one that came last does."""
        self._filers.append(filer)

    def filer(self, name: str) -> Filer:
        """Return who files requests here."""
        if not self._filers:
            raise SchedulerStateError(
                f"process {name!r} belongs to no scheduler yet; make one with Scheduler(processes=registry)"
            )
        return self._filers[-1]

    def _register(
        self, function: Callable[..., Any], name: str | None, timing: Timing | None, policies: Policies
    ) -> Process[Any, Any]:
        if isinstance(function, Process):
            function = function.function
        name = name or getattr(function, "__name__", "")
        if not name or name == "<lambda>":
            raise ProcessNameError(f"a process needs a name; write @process('a-name') for {function!r}")
        known = self._processes.get(name)
        if known is not None and not _same_code(known.function, function):
            raise ProcessNameError(
                f"process {name!r} is registered already, by {_place(known.function)}; "
                f"give {_place(function)} another name: @process('another-name')"
            )
        process: Process[Any, Any] = Process(function, name=name, timing=timing, policies=policies, registry=self)
        self._processes[name] = process
        for filer in self._filers:
            filer.registered(process)
        return process


def check_json(value: Any, path: str) -> str | None:
    """Return what keeps *value* from being JSON, with its place below *path*; ``None`` when nothing does."""
    if value is None or isinstance(value, str | bool | int):
        return None
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{path} is {value}, which JSON does not have; write None or a string"
    if isinstance(value, list):
        problems = (check_json(item, f"{path}[{place}]") for place, item in enumerate(value))
        return next((problem for problem in problems if problem), None)
    if isinstance(value, dict):
        return _check_object(value, path)
    instead = "write a list" if isinstance(value, tuple | set | frozenset) else "write a string, number, list or dict"
    return f"{path} is of type {type(value).__name__}, which is not JSON; {instead}"


def _check_object(value: dict[Any, Any], path: str) -> str | None:
    for key, item in value.items():
        if not isinstance(key, str):
            return f"{path} has the key {key!r}, which is no string; JSON keys are strings: write {str(key)!r}"
        problem = check_json(item, f"{path}.{key}")
        if problem is not None:
            return problem
    return None


def _policies(options: ProcessOptions) -> Policies:
    known = ProcessOptions.__annotations__
    for name in options:
        if name not in known:
            raise TypeError(
                f"a process has no option {name!r}{did_you_mean(name, known) or '; it has ' + ', '.join(known)}"
            )
    return replace(Policies(), **options)


def _signature(name: str, function: Callable[..., Any]) -> inspect.Signature:
    if not callable(function):
        raise ProcessNameError(f"process {name!r} must be a function, got {function!r}")
    signature = inspect.signature(function)
    for parameter in signature.parameters.values():
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL):
            raise ProcessNameError(
                f"process {name!r} takes {parameter} by position, but params are stored by name; "
                "give it a name and a place before any '*', without '/'"
            )
    return signature


def _same_code(one: Callable[..., Any], other: Callable[..., Any]) -> bool:
    """Whether both come from one place in the source: a module that was loaded twice registers the same again."""
    return one is other or (_place(one) == _place(other) and "<locals>" not in _place(one))


def _place(function: Callable[..., Any]) -> str:
    return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', function)}"
