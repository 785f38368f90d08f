"""A process: a named piece of work, and how its requests run.

A process is the callable that was decorated, plus a name and its policies. What is stored of it is the name alone; the
callable is found again by that name in a `ProcessRegistry`. Nothing that is stored can call what was not registered.

Params are the process's own arguments by name. They are checked against its signature and its type hints when a
request is filed, and again when it runs, because the code may have changed in between. They are stored as JSON.
"""

import functools
import inspect
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from enum import StrEnum
from typing import Any, Generic, Literal, ParamSpec, Protocol, TypedDict, TypeVar, overload

from typing_extensions import Unpack

from bgsched._codec import Codec, MisfitError, Plain, show
from bgsched._executors.choice import ExecutorOption, chosen
from bgsched._names import is_storable, name_problem
from bgsched._params import codec_for, hints_of
from bgsched._secrets import spellings
from bgsched.errors import ParamsError, ProcessNameError, SchedulerStateError, UnknownProcessError, did_you_mean
from bgsched.request import Misfire, OnAbandon, Overlap, Policies, Request, Retry
from bgsched.timing import Timing, checked_timing

__all__ = ["Pool", "Process", "ProcessOptions", "ProcessRegistry", "is_async", "policies_of"]

P = ParamSpec("P")
R = TypeVar("R")
PR = TypeVar("PR", bound="Process[Any, Any]")
_PLAIN = Plain()


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

    @property
    def running(self) -> bool:
        """Whether it runs what it files."""
        ...


class Pool(StrEnum):
    """What executes the runs of a process; each has a bound of its own."""

    __hash__ = str.__hash__  # as of RunStatus

    THREADS = "threads"
    ASYNC = "async"
    GROUPS = "groups"


class Process(Generic[P, R]):
    """A registered process. Calling it calls the function itself, here and now, without a run."""

    def __init__(
        self,
        function: Callable[P, R],
        *,
        name: str,
        timing: Timing | None = None,
        policies: Policies | None = None,
        registry: "ProcessRegistry | None" = None,
        executor: ExecutorOption | None = None,
    ) -> None:
        _check_name(name)
        _take_after(self, function)
        self.function = function
        self.name = name
        self.timing: Timing | None = None if timing is None else checked_timing(timing)
        self.policies: Policies = policies or Policies()
        self.is_async: bool = is_async(function)
        self.registry = registry
        self.executor = executor
        self._signature = _signature(name, function)
        self._codecs = {param: codec_for(hint) for param, hint in hints_of(function, self._signature).items()}
        parameters = self._signature.parameters.values()
        self._any_name = next((p.name for p in parameters if p.kind is p.VAR_KEYWORD), None)
        self._named = frozenset(p.name for p in parameters if p.kind is not p.VAR_KEYWORD)
        self._needed = frozenset(p.name for p in parameters if p.name in self._named and p.default is p.empty)
        self._check_names("overlap_scope", self._scope)
        self._check_names("sensitive", [param for param in self.policies.sensitive if param != "return"])
        if self.policies.after:
            self._check_runs_without_params(f"runs after {' and '.join(map(repr, self.policies.after))}")
        if timing is not None:
            self._check_runs_without_params("runs by its own timing")

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<process {self.name!r}>"

    @property
    def pool(self) -> Pool:
        """What executes its runs, the event loop where it is async, else a worker."""
        return Pool.ASYNC if self.is_async else Pool.THREADS

    @property
    def runs(self) -> tuple[str, ...]:
        """The names of the processes that its run executes by runs of their own, those of a group."""
        return ()

    def replaces(self, other: "Process[Any, Any]") -> bool:
        """Whether this is *other* again: the same code, from a module that was loaded twice."""
        return _same_code(self.function, other.function)

    def __reduce__(self) -> str:
        """Pickle by reference: whoever unpickles it imports the module that registered it."""
        return str(self.function.__qualname__)

    def schedule(self, timing: Timing, /, *args: P.args, **kwargs: P.kwargs) -> Request:
        """File a request with these arguments as params; as `Scheduler.schedule`.

        Where several schedulers share its registry, the one files it that runs; where none does, the one that was made,
        or run, last, and one that was shut down only when there is no other.

        Raises:
            SchedulerStateError: the process belongs to no scheduler yet.
        """
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError as error:
            raise ParamsError(self.name, self._explain(error, kwargs)) from None
        params = dict(bound.arguments)
        if self._any_name is not None:
            params.update(params.pop(self._any_name, {}))
        if self.registry is None:
            raise SchedulerStateError(f"process {self.name!r} belongs to no scheduler yet; scheduler.add(...) it")
        return self.registry.filer(self.name).schedule(self, timing, params)

    def bind(self, params: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return *params* as they are stored: they fit the signature and the type hints, and are JSON.

        JSON that can be read as what a hint asks for is taken too: ``"2026-01-31"`` for a date. Params that the overlap
        scope names are stored even where they are left to their defaults, so that equal values have equal keys.

        Raises:
            ParamsError: a param is unknown, missing, or does not fit; the message says which, where, and what to write.
        """
        if params is None and not (self._needed or self._scope):
            return {}
        given = self._fitting({} if params is None else params)
        for name in self._scope:
            default = self._signature.parameters[name].default
            if name not in given and default is not inspect.Parameter.empty:
                given[name] = default
        stored = {name: self._turn(name, given, self._codec(name).store) for name in given}
        for name in self._scope:
            if name in stored:
                stored[name] = self._turn(name, stored, self._codec(name).settled)
        return stored

    def defaults(self) -> dict[str, Any]:
        """Return the params, as they are stored, of a request that nobody gives any; whoever follows takes none."""
        return self.bind({})

    def load(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values that stored params stand for, as the function takes them.

        Raises:
            ParamsError: what is stored does not fit the function as it is now.
        """
        if not stored and not self._needed:
            return {}
        given = self._fitting(stored)
        return {name: self._turn(name, given, self._codec(name).load) for name in given}

    def _fitting(self, params: Mapping[str, Any]) -> dict[str, Any]:
        if not isinstance(params, Mapping):
            got = f"a {type(params).__name__}" if self.policies.sensitive else show(params)
            raise ParamsError(self.name, f"params are a dict of names and values, got {got}")
        given = dict(params)
        for name in given:
            if not isinstance(name, str):
                raise ParamsError(self.name, f"the name of a param is a string, got {show(name)}")
            if name not in self._named and not is_storable(name):
                raise ParamsError(self.name, f"the name of a param is no text that every store can hold: {show(name)}")
        if self._needed <= given.keys() and (self._any_name is not None or given.keys() <= self._named):
            return given
        try:
            self._signature.bind(**given)  # fails, and says why
        except TypeError as error:
            raise ParamsError(self.name, self._explain(error, given)) from None
        return given

    def _codec(self, name: str) -> Codec:
        known = name if name in self._signature.parameters else self._any_name
        return self._codecs.get(known or "", _PLAIN)

    def _turn(self, name: str, given: Mapping[str, Any], turn: Callable[[Any, str], Any]) -> Any:
        try:
            return turn(given[name], name)
        except RecursionError:
            problem = f"{name} contains itself, or is nested too deep"
        except MisfitError as misfit:
            problem = str(misfit)
            if (hidden := self._hidden(name, given, problem)) is not None:
                problem = f"{name}, which {hidden}, does not fit: it must be {self._codec(name).what}"
        raise ParamsError(self.name, problem)

    def _hidden(self, name: str, given: Mapping[str, Any], problem: str) -> str | None:
        """Return why what does not fit must not be shown; it may be cut within a secret, so the whole is looked at."""
        sensitive = self.policies.sensitive
        if name in sensitive:
            return "is sensitive"
        secrets = spellings(given[secret] for secret in sensitive if secret in given)
        text = f"{problem} {show(given[name], sys.maxsize)}" if secrets else ""
        return "holds the value of a sensitive one" if any(secret in text for secret in secrets) else None

    def _explain(self, error: TypeError, given: Mapping[str, Any]) -> str:
        known = list(self._signature.parameters)
        for name in given:
            if name not in known and self._any_name is None:
                takes = f"it takes {', '.join(known)}" if known else "it takes none"
                return f"no param {name!r}{did_you_mean(name, known) or f'; {takes}'}"
        return f"{error}; it is {self.name}{self._signature}"

    @property
    def _scope(self) -> tuple[str, ...]:
        scope = self.policies.overlap_scope
        return () if isinstance(scope, str) else scope

    def _check_names(self, option: str, names: Iterable[str]) -> None:
        known = [name for name in self._signature.parameters if name != self._any_name]
        for name in names:
            if name not in known and (self._any_name is None or option == "overlap_scope"):
                raise ProcessNameError(
                    f"{option} of process {self.name!r} names {name!r}, which is no param of it"
                    f"{did_you_mean(name, known)}"
                )

    def _check_runs_without_params(self, why: str) -> None:
        try:
            self.defaults()
        except ParamsError as error:
            raise ProcessNameError(
                f"process {self.name!r} {why}, without params, but {error.problem}; give it a default"
            ) from None


class ProcessRegistry:
    """Collects processes, in modules that know no scheduler: ``Scheduler(processes=registry)``."""

    def __init__(self) -> None:
        self._processes: dict[str, Process[Any, Any]] = {}
        self._followers: dict[str, list[Process[Any, Any]]] = {}
        self._filers: list[weakref.ref[Filer]] = []  # who is to be asked first comes first
        self._first: Filer | None = None  # the one that is kept, though nobody else may have it
        self.version = 0  # grows with every process that is registered

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
        self,
        name: str | None = None,
        /,
        *,
        timing: Timing | None = None,
        executor: ExecutorOption | None = None,
        **options: Unpack[ProcessOptions],
    ) -> Callable[[Callable[P, R]], Process[P, R]]: ...

    def process(
        self,
        name: Any = None,
        /,
        *,
        timing: Timing | None = None,
        executor: ExecutorOption | None = None,
        **options: Unpack[ProcessOptions],
    ) -> Any:
        """Register the decorated function, under its own name or *name*.

        *timing* is declared under the process's name as request id when a scheduler starts; *executor* executes its
        runs, instead of the scheduler's; *options* are the fields of `Policies`.

        Raises:
            ProcessNameError: another function has the name, the function takes what cannot be stored by name, or the
                process would run after itself.
            TypeError: an option is unknown.
            ValueError: an option has no meaning.
        """
        if callable(name):
            return self._register(name, None, timing, Policies())
        if name is not None:
            _check_name(name)
        policies = policies_of(options)
        if executor is not None:
            chosen(executor)
        return lambda function: self._register(function, name, timing, policies, executor)

    def add(self, process: PR) -> PR:
        """Register a process that was made without a registry, such as a `ProcessGroup`; return it.

        Raises:
            ProcessNameError: it is no process, another one has the name, or it would run after itself.
        """
        if not isinstance(process, Process):
            raise ProcessNameError(f"add() takes a process, got {show(process)}; decorate a function with @process")
        known = self._processes.get(process.name)
        if known is not None and not process.replaces(known):
            raise ProcessNameError(f"process {process.name!r} is registered already; give {process!r} another name")
        self._keep(process)
        return process

    def followers(self, name: str) -> list[Process[Any, Any]]:
        """Return the processes that run after each success of the process of that name."""
        return self._followers.get(name, [])

    def find(self, name: str) -> Process[Any, Any] | None:
        """Return the process of that name, or ``None``."""
        return self._processes.get(name)

    def get(self, given: object) -> Process[Any, Any]:
        """Return the process of that name, or the one that is given, as it is registered here.

        Raises:
            UnknownProcessError: there is none, and the message says which name is close; or another has its name.
        """
        name = given.name if isinstance(given, Process) else given
        process = self._processes.get(name) if isinstance(name, str) else None
        if process is None:
            raise UnknownProcessError(str(getattr(name, "__name__", name)), self._processes)
        if given is not process and isinstance(given, Process) and not process.replaces(given):
            raise UnknownProcessError(process.name, self._processes)
        return process

    def names(self) -> frozenset[str]:
        """Return the names of all processes."""
        return frozenset(self._processes)

    def attach(self, filer: Filer) -> None:
        """Let *filer* file the requests of these processes, rather than those that came before it."""
        self._order([filer, *self._others(filer)])

    def retire(self, filer: Filer) -> None:
        """Let *filer*, which was shut down, file requests only when there is nobody else."""
        self._order([*self._others(filer), filer])

    def filer(self, name: str) -> Filer:
        """Return who files requests here: who runs, before who came last."""
        filers = self._attached()
        if not filers:
            raise SchedulerStateError(
                f"process {name!r} belongs to no scheduler yet; make one with Scheduler(processes=registry)"
            )
        return next((filer for filer in filers if filer.running), filers[0])

    def _attached(self) -> list[Filer]:
        return [filer for known in self._filers if (filer := known()) is not None]

    def _others(self, filer: Filer) -> list[Filer]:
        return [other for other in self._attached() if other is not filer]

    def _order(self, filers: list[Filer]) -> None:
        """Keep them in this order, and only the first of them alive: a host may make one after another."""
        self._filers = [weakref.ref(filer) for filer in filers]
        self._first = filers[0]

    def _register(
        self,
        function: Callable[..., Any],
        name: str | None,
        timing: Timing | None,
        policies: Policies,
        executor: ExecutorOption | None = None,
    ) -> Process[Any, Any]:
        if isinstance(function, Process):
            function = function.function
        name = getattr(function, "__name__", "") if name is None else name
        if not name or name == "<lambda>":
            raise ProcessNameError(f"a process needs a name; write @process('a-name') for {function!r}")
        known = self._processes.get(name)
        if known is not None and not _same_code(known.function, function):
            raise ProcessNameError(
                f"process {name!r} is registered already, by {_place(known.function)}; "
                f"give {_place(function)} another name: @process('another-name')"
            )
        return self._keep(Process(function, name=name, timing=timing, policies=policies, executor=executor))

    def _keep(self, process: "Process[Any, Any]") -> "Process[Any, Any]":
        self._check_that_it_ends(process)
        process.registry = self
        self._processes[process.name] = process
        self.version += 1
        self._followers = {}
        for follower in self._processes.values():
            for leader in follower.policies.after:
                self._followers.setdefault(leader, []).append(follower)
        for filer in self._attached():
            filer.registered(process)
        return process

    def _check_that_it_ends(self, process: Process[Any, Any]) -> None:
        """Refuse a process whose success would let itself run again, by those that follow and the members of groups.

        A group that contains itself and follows nobody never runs: that is told when it is scheduled.
        """
        known = {**self._processes, process.name: process}
        start: tuple[str, ...] = (process.name,)
        ways = [(start, False)]  # what runs because of what, and whether one of it follows another
        seen: set[tuple[str, bool]] = set()
        while ways:
            way, follows = ways.pop()
            steps = [(other.name, True) for other in known.values() if way[-1] in other.policies.after]
            if way[-1] in known:
                steps += [(member, follows) for member in known[way[-1]].runs]
            for step in steps:
                if step == (process.name, True):
                    circle = " > ".join((*way, process.name))
                    raise ProcessNameError(f"process {process.name!r} would run after itself, for ever: {circle}")
                if step not in seen:
                    seen.add(step)
                    ways.append(((*way, step[0]), step[1]))


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


def _check_name(name: object) -> None:
    """Refuse what cannot name a process, or what was decorated where a function or a name belongs."""
    if not isinstance(name, str):
        hint = "options go by keyword, such as timing=Schedule(...)"
        if hasattr(name, "__get__"):  # classmethod(...) and its kin stand for a function, and are none
            hint = "register what belongs to a class bound: process('a-name')(Shop.restock)"
        raise ProcessNameError(f"process() takes a name or a function, got {show(name)}; {hint}")
    if (problem := name_problem(name)) is not None:
        raise ProcessNameError(f"a process's name {problem}")


def _take_after(process: Process[Any, Any], function: Callable[..., Any]) -> None:
    """Give *process* what *function* shows of itself, and its attributes where they hide none of its own."""
    if not isinstance(function, type):
        own = getattr(function, "__dict__", {})
        vars(process).update((name, value) for name, value in own.items() if not hasattr(Process, name))
    functools.update_wrapper(process, function, updated=())


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling it returns what is to be awaited."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004  an object that can be called may be async too


def _signature(name: str, function: Callable[..., Any]) -> inspect.Signature:
    if not callable(function):
        raise ProcessNameError(f"process {name!r} must be a function, got {function!r}")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ProcessNameError(f"process {name!r} has a yield: calling it runs nothing of it; write a plain function")
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        raise ProcessNameError(
            f"process {name!r}: nobody can tell the params of {function!r}; register a function that calls it"
        ) from None
    first = next(iter(signature.parameters), None)
    if first in ("self", "cls") and _is_of_a_class(function):
        raise ProcessNameError(
            f"process {name!r} takes {first!r}, which no params can hold; "
            f"register the method bound to its object: process({name!r})(shop.restock)"
        )
    for parameter in signature.parameters.values():
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.VAR_POSITIONAL):
            hint = "give it a name and a place before any '*', without '/'"
            if parameter.kind is parameter.VAR_POSITIONAL:
                hint += "; a decorator that hides the params of a function wants functools.wraps"
            raise ProcessNameError(
                f"process {name!r} takes {parameter} by position, but params are stored by name; {hint}"
            )
    return signature


def _is_of_a_class(function: Callable[..., Any]) -> bool:
    holder = getattr(function, "__qualname__", "").rpartition(".")[0]
    return bool(holder) and not holder.endswith("<locals>")


def _same_code(one: Callable[..., Any], other: Callable[..., Any]) -> bool:
    """Whether both come from one place in the source: a module that was loaded twice registers the same again."""
    return one is other or (_place(one) == _place(other) and "<locals>" not in _place(one))


def _place(function: Callable[..., Any]) -> str:
    return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', function)}"
