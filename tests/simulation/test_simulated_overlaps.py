"""Overlap raced by several schedulers in the simulation: each rule that is broken on purpose is seen to be broken.

That the rules hold as they are is shown by the histories with groups: all four, in all three scopes.
"""

from collections.abc import Callable
from typing import Any

import pytest

from bgsched import _claims
from bgsched._evolve import evolve
from bgsched.request import Overlap, Plan, planning, value
from bgsched.run import RunStatus
from bgsched.stores._memory_tables import Tables
from bgsched.testing import simulate
from bgsched.testing.simulation import BrokenPromiseError
from bgsched.testing.simulation.host import BY_COMPANY, PROCESSES

MUTATIONS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {}


def mutation(function: Callable[[pytest.MonkeyPatch], None]) -> Callable[[pytest.MonkeyPatch], None]:
    MUTATIONS[function.__name__] = function
    return function


@mutation
def forget_the_params_in_a_key(patch: pytest.MonkeyPatch) -> None:
    key = value._key

    def by_process(policies: Any, own: str, of: Any) -> str | None:
        found = key(policies, own, of)
        return found.rpartition(":")[0] if found is not None and found.startswith("params:") else found

    patch.setattr(value, "_key", by_process)


@mutation
def tell_equal_params_apart(patch: pytest.MonkeyPatch) -> None:
    key = value._key

    def by_request(policies: Any, own: str, of: Any) -> str | None:
        found = key(policies, own, of)
        return f"{found} of {own}" if found is not None and found.startswith("params:") else found

    patch.setattr(value, "_key", by_request)


@mutation
def let_any_number_wait_in_line(patch: pytest.MonkeyPatch) -> None:
    overlaps = planning._Overlaps
    patch.setattr(overlaps, "_one_waits", lambda self, fires: self._in_a_row(fires.oldest(fires.number)))


@mutation
def skip_what_has_to_run_all(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(planning._Overlaps, "_has_to_run_all", lambda *_: False)


@mutation
def replace_without_asking_the_old_one_to_stop(patch: pytest.MonkeyPatch) -> None:
    planned = planning.plan

    def plan(*args: Any) -> Plan:
        made = planned(*args)
        return Plan(made.request, made.runs, made.displaced)

    patch.setattr(_claims, "plan", plan)


@mutation
def skip_for_a_run_that_has_ended(patch: pytest.MonkeyPatch) -> None:
    def active_runs(self: Tables, keys: Any) -> Any:
        return [run for run in self.all_runs.values() if run.overlap_key in keys and run.started_at is not None]

    patch.setattr(Tables, "active_runs", active_runs)


@mutation
def let_two_that_are_claimed_together_run(patch: pytest.MonkeyPatch) -> None:
    planned = planning.plan

    def plan(*args: Any) -> Plan:
        made = planned(*args)
        keyless = [run if run.status is RunStatus.SKIPPED else evolve(run, overlap_key=None) for run in made.runs]
        return Plan(made.request, tuple(keyless), made.displaced, made.kills)

    patch.setattr(_claims, "plan", plan)


def test_each_rule_is_raced_in_each_scope() -> None:
    raced = {(policies.overlap, type(policies.overlap_scope)) for policies in (PROCESSES | BY_COMPANY).values()}
    by_process = {policies.overlap for policies in PROCESSES.values() if policies.overlap_scope == "process"}
    forbidding = {Overlap.SKIP, Overlap.QUEUE, Overlap.REPLACE}
    assert raced >= {(overlap, scope) for overlap in forbidding for scope in (str, tuple)} | {(Overlap.ALLOW, str)}
    assert by_process >= forbidding


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_rule_that_is_broken_on_purpose_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTATIONS[name](monkeypatch)

    def try_them() -> None:
        for seed in range(300):
            simulate(seed, groups=True)

    with pytest.raises(BrokenPromiseError, match=r"replay: simulate\(\d+, steps=\d+, groups=True\)") as caught:
        try_them()
    assert "run" in caught.value.problem
