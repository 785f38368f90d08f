"""A process: the callable that was decorated, plus a name and its policies.

Params are the process's own arguments by name. They are checked against its signature and its type hints when a
request is filed, and again when it runs, because the code may have changed in between. They are stored as JSON.
"""

import functools
import inspect
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from enum import StrEnum
from typing import Any, Generic, ParamSpec, Protocol, TypeVar

from bgsched._codec import Codec, MisfitError, Plain, show
from bgsched._executors.choice import ExecutorOption
from bgsched._names import is_storable
from bgsched._params import codec_for, hints_of
from bgsched._secrets import spellings
from bgsched.errors import ParamsError, ProcessNameError, SchedulerStateError, did_you_mean
from bgsched.process.code import check_name, is_async, same_code, signature_of
from bgsched.request import Policies, Request
from bgsched.run import MASK
from bgsched.timing import Timing, checked_timing

__all__ = ["Filer", "Pool", "Process", "Registry"]

P = ParamSpec("P")
R = TypeVar("R")
_PLAIN = Plain()


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


class Registry(Protocol):
    """Where a process is registered: `ProcessRegistry`."""

    def get(self, given: "str | Process[Any, Any]") -> "Process[Any, Any]":
        """Return the process of that name, or the one that is given, as it is registered here."""
        ...

    def filer(self, name: str) -> Filer:
        """Return who files requests for the process of that name."""
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
        registry: Registry | None = None,
        executor: ExecutorOption | None = None,
    ) -> None:
        check_name(name)
        _take_after(self, function)
        self.function = function
        self.name = name
        self.timing: Timing | None = None if timing is None else checked_timing(timing)
        self.policies: Policies = policies or Policies()
        self.is_async: bool = is_async(function)
        self.registry = registry
        self.executor = executor
        self._signature = signature_of(name, function)
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
        return same_code(self.function, other.function)

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

    def bind(
        self, params: Mapping[str, Any] | None, *, before: Mapping[str, Any] | None = None, hidden: Collection[str] = ()
    ) -> dict[str, Any]:
        """Return *params* as they are stored: they fit the signature and the type hints, and are JSON.

        JSON that can be read as what a hint asks for is taken too: ``"2026-01-31"`` for a date. Params that the overlap
        scope names are stored even where they are left to their defaults, so that equal values have equal keys.
        *before*: what was stored; what is given back as it stands there stays, where a hint might read it otherwise.
        *hidden*: params that are as sensitive as those that the code calls so.

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
        stored = {}
        for name in given:
            is_back = before is not None and name in before and _is_same(given[name], before[name])
            turn = self._codec(name).kept if is_back else self._codec(name).store
            stored[name] = self._turn(name, given, turn, hidden)
        for name in self._scope:
            if name in stored:
                stored[name] = self._turn(name, stored, self._codec(name).settled)
        return stored

    def defaults(self) -> dict[str, Any]:
        """Return the params, as they are stored, of a request that nobody gives any; whoever follows takes none."""
        return self.bind({})

    def secrets(self, params: Mapping[str, Any], sensitive: Collection[str]) -> list[Any]:
        """Return the values of those of *params* that are *sensitive*, and the defaults of those that are not given."""
        known = self._signature.parameters
        defaults = {name: known[name].default for name in sensitive if name in known}
        given = {name: params[name] for name in sensitive if name in params}
        return [value for value in {**defaults, **given}.values() if value is not inspect.Parameter.empty]

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

    def _turn(
        self, name: str, given: Mapping[str, Any], turn: Callable[[Any, str], Any], hidden: Collection[str] = ()
    ) -> Any:
        try:
            return turn(given[name], name)
        except RecursionError:
            problem = f"{name} contains itself, or is nested too deep"
        except MisfitError as misfit:
            problem = str(misfit)
            if (why := self._why_hidden(name, given, problem, {*self.policies.sensitive, *hidden})) is not None:
                problem = f"{name}, which {why}, does not fit: it must be {self._codec(name).what}"
        raise ParamsError(self.name, problem)

    def _why_hidden(self, name: str, given: Mapping[str, Any], problem: str, hidden: Collection[str]) -> str | None:
        """Return why what does not fit must not be shown; it may be cut within a secret, so the whole is looked at."""
        if name in hidden:
            return "is sensitive"
        secrets = spellings(self.secrets(given, hidden))
        text = f"{problem} {show(given[name], sys.maxsize)}" if secrets else ""
        return "holds the value of a sensitive one" if any(secret in text for secret in secrets) else None

    def _explain(self, error: TypeError, given: Mapping[str, Any]) -> str:
        known = list(self._signature.parameters)
        for name in given:
            if name not in known and self._any_name is None:
                takes = f"it takes {', '.join(known)}" if known else "it takes none"
                return f"no param {name!r}{did_you_mean(name, known) or f'; {takes}'}"
        shown = [
            parameter.replace(default=MASK)
            if parameter.name in self.policies.sensitive and parameter.default is not parameter.empty
            else parameter
            for parameter in self._signature.parameters.values()
        ]
        return f"{error}; it is {self.name}{self._signature.replace(parameters=shown)}"

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


def _take_after(process: Process[Any, Any], function: Callable[..., Any]) -> None:
    """Give *process* what *function* shows of itself, and its attributes where they hide none of its own."""
    if not isinstance(function, type):
        own = getattr(function, "__dict__", {})
        vars(process).update((name, value) for name, value in own.items() if not hasattr(Process, name))
    functools.update_wrapper(process, function, updated=())


def _is_same(given: Any, stored: Any) -> bool:
    """Whether it is that very JSON; what is only written so, such as a member of an Enum, is a value of its own."""
    if type(given) is not type(stored):
        return False
    if isinstance(stored, dict):
        return given.keys() == stored.keys() and all(_is_same(given[name], part) for name, part in stored.items())
    if isinstance(stored, list):
        return len(given) == len(stored) and all(map(_is_same, given, stored))
    return bool(given == stored)
