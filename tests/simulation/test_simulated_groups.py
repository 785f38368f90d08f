"""Groups in the simulation, with crashes at every call of the store: what is broken in them on purpose is seen.

The same histories hold processes whose overlap is judged by a param, for `test_simulated_overlaps`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from bgsched._current import StopCause
from bgsched._engine import Engine
from bgsched._evolve import evolve
from bgsched._group import GroupEnd, ProcessGroup
from bgsched._group_runs import GroupRuns
from bgsched.run import Run, RunStatus
from bgsched.stores import SQLiteStore, _claiming, base
from bgsched.stores._memory_tables import Tables
from bgsched.stores.base import RunFilter, Store
from bgsched.testing import simulate
from bgsched.testing.simulation import BrokenPromiseError


@pytest.mark.parametrize("tens", range(8))
def test_every_history_with_groups_keeps_every_promise(tens: int) -> None:
    for seed in range(10 * tens, 10 * tens + 10):
        simulate(seed, groups=True)


@pytest.mark.slow
@pytest.mark.parametrize("hundreds", range(30))
def test_three_thousand_histories_with_groups(hundreds: int) -> None:
    for seed in range(1000 + 100 * hundreds, 1100 + 100 * hundreds):
        simulate(seed, groups=True)


@pytest.mark.parametrize("seed", range(3))
def test_histories_with_groups_on_a_file(seed: int, tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "app.db")
    store._write_connection().execute("PRAGMA synchronous = OFF")  # no power is cut here
    simulate(seed, groups=True, make_store=lambda: store)
    store.close()


MUTATIONS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {}


def mutation(function: Callable[[pytest.MonkeyPatch], None]) -> Callable[[pytest.MonkeyPatch], None]:
    MUTATIONS[function.__name__] = function
    return function


@mutation
def begin_a_group_anew_after_a_restart(patch: pytest.MonkeyPatch) -> None:
    add = Store.add_member

    def forgetful(self: Store, owner: str, parent: Run, run: Run, place: int, *rest: Any, **named: Any) -> bool:
        return add(self, owner, parent, run, 99 if parent.attempt > 1 else place, *rest, **named)

    patch.setattr(Store, "add_member", forgetful)
    patch.setattr(GroupRuns, "_members", lambda self, parent, _: _since(self._store, parent))


def _since(store: Store, parent: Run) -> list[Run]:
    """Return the members that had their turn since the group's owner took it over."""
    found = store.reader().runs(RunFilter(request=parent.request_id, parent=parent.id))[::-1]
    return [run for run in found if parent.claimed_at is None or run.recorded_at >= parent.claimed_at]


@mutation
def let_a_group_go_on_after_an_error(patch: pytest.MonkeyPatch) -> None:
    step = ProcessGroup.next_step

    def next_step(self: ProcessGroup, runs: Sequence[Run], *, asked: bool) -> Any:
        end = step(self, runs, asked=asked)
        wrong = isinstance(end, GroupEnd) and end.status is RunStatus.ERROR and len(runs) < len(self.members)
        return len(runs) if wrong else end

    patch.setattr(ProcessGroup, "next_step", next_step)


@mutation
def begin_members_side_by_side(patch: pytest.MonkeyPatch) -> None:
    step = ProcessGroup.next_step

    def next_step(self: ProcessGroup, runs: Sequence[Run], *, asked: bool) -> Any:
        return step(self, [evolve(run, status=RunStatus.SUCCESS) for run in runs], asked=asked)

    patch.setattr(ProcessGroup, "next_step", next_step)


@mutation
def let_the_members_of_a_killed_group_go_on(patch: pytest.MonkeyPatch) -> None:
    for place in (base, _claiming):
        patch.setattr(place, "stop_members", lambda *_: None)


@mutation
def purge_the_members_of_a_group_that_goes_on(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Tables, "is_needed", lambda _, run: run.is_active)


@mutation
def leave_a_group_that_is_fenced(patch: pytest.MonkeyPatch) -> None:
    over = GroupRuns._is_over

    def stop_all(self: Engine, cause: StopCause) -> None:
        for live in self.live:
            live.ask_to_stop(cause)

    patch.setattr(Engine, "stop_all", stop_all)
    patch.setattr(GroupRuns, "_is_over", lambda self, live: live.reaped or over(self, live))


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_group_that_is_broken_on_purpose_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTATIONS[name](monkeypatch)

    def try_them() -> None:
        for seed in range(300):
            simulate(seed, groups=True)

    with pytest.raises(BrokenPromiseError, match=r"replay: simulate\(\d+, steps=\d+, groups=True\)") as caught:
        try_them()
    assert "run" in caught.value.problem
