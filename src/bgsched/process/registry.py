"""Where processes are found by their names, and by whom their requests are filed."""

import weakref
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar, overload

from typing_extensions import Unpack

from bgsched._codec import show
from bgsched._executors.choice import ExecutorOption, chosen
from bgsched._turns import Turns
from bgsched.errors import ProcessNameError, SchedulerStateError, UnknownProcessError
from bgsched.process.code import check_name, place_of, same_code
from bgsched.process.options import ProcessOptions, policies_of
from bgsched.process.value import Filer, Process
from bgsched.request import Policies
from bgsched.timing import Timing

__all__ = ["PR", "ProcessRegistry"]

P = ParamSpec("P")
R = TypeVar("R")
PR = TypeVar("PR", bound=Process[Any, Any])


class ProcessRegistry:
    """Collects processes, in modules that know no scheduler: ``Scheduler(processes=registry)``."""

    def __init__(self) -> None:
        self._processes: dict[str, Process[Any, Any]] = {}
        self._followers: dict[str, list[Process[Any, Any]]] = {}
        self._filers: list[weakref.ref[Filer]] = []  # who is to be asked first comes first
        self._first: Filer | None = None  # the one that is kept, though nobody else may have it
        self._turns = Turns()
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
            check_name(name)
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
        self._turns.do(self._put_first, filer)

    def retire(self, filer: Filer) -> None:
        """Let *filer*, which was shut down, file requests only when there is nobody else."""
        self._turns.do(self._put_last, filer)

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

    def _put_first(self, filer: Filer) -> None:
        self._order([filer, *self._others(filer)])

    def _put_last(self, filer: Filer) -> None:
        self._order([*self._others(filer), filer])

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
        if known is not None and not same_code(known.function, function):
            raise ProcessNameError(
                f"process {name!r} is registered already, by {place_of(known.function)}; "
                f"give {place_of(function)} another name: @process('another-name')"
            )
        return self._keep(Process(function, name=name, timing=timing, policies=policies, executor=executor))

    def _keep(self, process: Process[Any, Any]) -> Process[Any, Any]:
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
