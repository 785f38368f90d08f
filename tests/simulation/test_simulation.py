"""The simulation finds nothing in the protocol as it is, and finds what is wrong in each of the broken ones.

The list of `MUTATIONS` is the proof that the simulation can see: each takes one guard out of the protocol.
"""

import subprocess
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from bgsched import _claims, _outcome
from bgsched._current import LiveRun
from bgsched._engine import Engine
from bgsched._evolve import evolve
from bgsched._reports import Reports
from bgsched.request import Plan, Request, RequestStatus, planning
from bgsched.run import LogLine, Run, RunStatus
from bgsched.stores import MemoryStore, SQLiteStore, base
from bgsched.stores._memory_tables import Tables
from bgsched.stores.base import Report, SchedulerRecord, Store
from bgsched.testing import simulate
from bgsched.testing.simulation import BrokenPromiseError


def test_what_is_no_world() -> None:
    with pytest.raises(TypeError, match="seed must be a whole number, got 'x'"):
        simulate("x")  # type: ignore[arg-type]  # what is tested
    with pytest.raises(
        TypeError, match=r"make_store must be what makes a store, such as MemoryStore, got MemoryStore\(\)"
    ):
        simulate(1, make_store=MemoryStore())  # type: ignore[arg-type]  # what is tested
    for odd in ({"schedulers": 0}, {"steps": -1}):
        with pytest.raises(ValueError, match="must be a whole number from 1"):
            simulate(1, **odd)  # type: ignore[arg-type]  # mypy takes them for any keyword


@pytest.mark.parametrize("tens", range(25))
def test_every_history_keeps_every_promise(tens: int) -> None:
    for seed in range(10 * tens, 10 * tens + 10):
        simulate(seed)


@pytest.mark.parametrize("seed", range(12))
def test_every_history_on_a_file_keeps_every_promise(seed: int, tmp_path: Path) -> None:
    on_a_file(tmp_path, seed)


@pytest.mark.slow
@pytest.mark.parametrize("hundreds", range(100))
def test_ten_thousand_histories(hundreds: int) -> None:
    for seed in range(1000 + 100 * hundreds, 1100 + 100 * hundreds):
        simulate(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 500))
def test_many_histories_on_a_file(seed: int, tmp_path: Path) -> None:
    on_a_file(tmp_path, seed)


def on_a_file(folder: Path, seed: int) -> None:
    opened: list[SQLiteStore] = []

    def make_store() -> Store:
        opened.append(SQLiteStore(folder / f"{seed}.db"))
        opened[0]._write_connection().execute("PRAGMA synchronous = OFF")  # no power is cut here
        return opened[0]

    try:
        simulate(seed, make_store=make_store)
    finally:
        opened[0].close()


def test_a_seed_is_a_history_whatever_the_hashes_are() -> None:
    script = "from bgsched.testing import simulate; print(*simulate(7), sep='\\n')"
    told = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={"PYTHONHASHSEED": hashes, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            check=True,
        ).stdout
        for hashes in ("1", "2")
    }
    assert len(told) == 1
    assert b"signs on" in told.pop()


# -- broken on purpose ---------------------------------------------------------------------------------------------

MUTATIONS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {}


def mutation(function: Callable[[pytest.MonkeyPatch], None]) -> Callable[[pytest.MonkeyPatch], None]:
    MUTATIONS[function.__name__] = function
    return function


@mutation
def drop_the_unique_key(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Tables, "_is_taken", lambda _, run: False)


@mutation
def drop_the_fence(patch: pytest.MonkeyPatch) -> None:
    def update_runs(self: Tables, runs: Sequence[Run], owner: str | None) -> set[int]:
        for run in runs:
            if run.id in self.all_runs:
                self._write_run(run.id, run)
        return {run.id for run in runs}

    patch.setattr(Tables, "update_runs", update_runs)


@mutation
def fence_without_the_attempt(patch: pytest.MonkeyPatch) -> None:
    update = Tables.update_runs

    def update_runs(self: Tables, runs: Sequence[Run], owner: str | None) -> set[int]:
        claims = [run for run in runs if owner is None and run.owner is not None]
        stored = {run.id: self.all_runs.get(run.id) for run in runs if run not in claims}
        blind = [evolve(run, attempt=known.attempt) for run in runs if (known := stored.get(run.id)) is not None]
        return update(self, [*claims, *blind], owner)

    patch.setattr(Tables, "update_runs", update_runs)
    fence_without_the_owner(patch)


def fence_without_the_owner(patch: pytest.MonkeyPatch) -> None:
    update = Tables.update_runs

    def update_runs(self: Tables, runs: Sequence[Run], owner: str | None) -> set[int]:
        accepted: set[int] = set()
        for run in runs:
            known = self.all_runs.get(run.id)
            accepted |= update(self, [run], known.owner if known is not None and owner is not None else owner)
        return accepted

    patch.setattr(Tables, "update_runs", update_runs)


@mutation
def drop_the_heartbeat(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Engine, "_beat", lambda self: self._lease.renew(self._clock.monotonic()))


@mutation
def drop_the_reaping(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Store, "is_gone", lambda *_: False)


@mutation
def reap_whoever_is_there(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Store, "is_gone", lambda *_: True)


@mutation
def forget_the_dead_without_ending_their_runs(patch: pytest.MonkeyPatch) -> None:
    def release(tx: base.Transaction, owner: str, *_: object, **__: object) -> list[Run]:
        tx.delete_scheduler(owner)
        return []

    patch.setattr(base, "release", release)


@mutation
def advance_in_a_second_transaction(patch: pytest.MonkeyPatch) -> None:
    claim = Store.claim

    def claim_in_two(self: Store, *args: Any, **named: Any) -> list[Run]:
        advanced: list[Request] = []
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(Tables, "advance_requests", lambda _, requests: advanced.extend(requests))
            claimed = claim(self, *args, **named)
        with self.transaction() as tx:
            tx.advance_requests(advanced)
        return claimed

    patch.setattr(Store, "claim", claim_in_two)


@mutation
def claim_without_looking_for_overlaps(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Tables, "active_runs", lambda *_: [])


@mutation
def take_what_waits_without_looking_for_overlaps(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Tables, "_held_keys", lambda _: set())


@mutation
def claim_without_being_signed_on(patch: pytest.MonkeyPatch) -> None:
    claim = Store.claim

    def claim_anyway(self: Store, *args: Any, **named: Any) -> list[Run]:
        with pytest.MonkeyPatch.context() as inner:
            inner.setattr(Tables, "is_signed_on", lambda *_: True)
            return claim(self, *args, **named)

    patch.setattr(Store, "claim", claim_anyway)


@mutation
def forget_a_claim_whose_answer_did_not_come(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Store, "held", lambda *_: [])


@mutation
def forget_a_report_that_failed(patch: pytest.MonkeyPatch) -> None:
    send = Reports._send

    def send_once(self: Reports, owner: str, unsent: Any) -> None:
        self._unsent.pop(owner)
        send(self, owner, unsent)
        self._unsent[owner] = unsent

    patch.setattr(Reports, "_send", send_once)


@mutation
def keep_the_revision(patch: pytest.MonkeyPatch) -> None:
    def rescheduled(self: Request, timing: Any, now: datetime, **changes: Any) -> Request:
        return evolve(self, **changes).timed(timing, now)

    patch.setattr(Request, "rescheduled", rescheduled)


@mutation
def put_asked_for_runs_among_the_fire_times(patch: pytest.MonkeyPatch) -> None:
    insert = Tables.insert_runs

    def insert_runs(self: Tables, runs: Sequence[Run]) -> list[Run]:
        known = {run.request_id: self.requests[run.request_id].revision for run in runs}
        return insert(self, [evolve(run, revision=run.revision or known[run.request_id]) for run in runs])

    patch.setattr(Tables, "insert_runs", insert_runs)


@mutation
def rerun_without_end(patch: pytest.MonkeyPatch) -> None:
    abandoned = Run.abandoned

    def again(self: Run, now: datetime, why: str, **_: object) -> Run:
        return abandoned(self, now, why, crashed=False)

    patch.setattr(Run, "abandoned", again)
    patch.setattr(Run, "put_back", lambda self, now, why: self.again(RunStatus.ABANDONED, now, now, reason=why))


@mutation
def rerun_what_was_only_to_be_recorded(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        Run,
        "abandoned",
        lambda self, now, why, **_: self.again(RunStatus.ABANDONED, now, now, reason=why),
    )


@mutation
def take_the_end_of_a_scheduler_for_a_kill(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(_outcome, "_LEFT", {})


@mutation
def count_misfires_wrongly(patch: pytest.MonkeyPatch) -> None:
    right = planning._Overlaps._misfire_record

    def off_by_one(self: Any, fires: Any, instead: Any) -> Run:
        return right(self, fires._replace(number=fires.number + 1), instead)

    patch.setattr(planning._Overlaps, "_misfire_record", off_by_one)


@mutation
def drop_what_misfired(patch: pytest.MonkeyPatch) -> None:
    planned = planning.plan

    def plan(*args: Any) -> Plan:
        made = planned(*args)
        kept = tuple(run for run in made.runs if run.status is not RunStatus.MISFIRED)
        return Plan(made.request, kept, made.displaced, made.kills)

    patch.setattr(_claims, "plan", plan)


@mutation
def complete_requests_whose_runs_go_on(patch: pytest.MonkeyPatch) -> None:
    def told(_: Tables, request: Request) -> Request:
        is_over = request.status is RequestStatus.SCHEDULED and request.next_fire_time is None
        return request.completed() if is_over else request

    patch.setattr(Tables, "told", told)


@mutation
def never_complete_a_request(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Tables, "told", lambda _, request: request)


@mutation
def number_the_lines_of_each_attempt_from_one(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Store, "last_seq", lambda *_: 0)


@mutation
def note_late_results_among_the_lines_of_a_run_that_goes_on(patch: pytest.MonkeyPatch) -> None:
    def note(tx: base.Transaction, _: str, now: datetime, refused: Collection[Run]) -> list[Run]:
        for run in refused:
            tx.append_log([LogLine(run.id, tx.last_seq(run.id) + 1, now, "WARNING", "x", "late", run.attempt)])
        return list(refused)

    patch.setattr(base, "note_refused", note)


@mutation
def lose_the_lines_of_a_report(patch: pytest.MonkeyPatch) -> None:
    record = Store.record

    def without_lines(self: Store, owner: str, now: datetime, report: Report, **named: Any) -> list[Run]:
        return record(self, owner, now, Report(report.runs, report.log[1:]), **named)

    patch.setattr(Store, "record", without_lines)


@mutation
def start_what_waited_for_a_worker_of_a_dead_owner(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LiveRun, "put_back", lambda *_: False)
    patch.setattr(Engine, "_hindrance", lambda _: None)


@mutation
def keep_what_was_stopped_before_it_began(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(LiveRun, "put_back", lambda *_: False)


@mutation
def take_a_new_attempt_for_the_one_before(patch: pytest.MonkeyPatch) -> None:
    adopt = Engine._adopt
    patch.setattr(Engine, "_adopt", lambda self, runs: adopt(self, [run for run in runs if run.id not in self._live]))


@mutation
def believe_leases_after_a_jump(patch: pytest.MonkeyPatch) -> None:
    reap = Store.reap
    patch.setattr(Store, "reap", lambda self, now, leases=True: reap(self, now))


@mutation
def renew_too_late(patch: pytest.MonkeyPatch) -> None:
    put = Tables.put_scheduler

    def short(self: Tables, record: SchedulerRecord) -> None:
        put(self, replace(record, lease_until=record.heartbeat_at + timedelta(seconds=1)))

    patch.setattr(Tables, "put_scheduler", short)


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_protocol_that_is_broken_on_purpose_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTATIONS[name](monkeypatch)

    def try_them() -> None:
        for seed in range(300):
            simulate(seed)

    with pytest.raises(BrokenPromiseError, match=r"replay: simulate\(\d+, steps=\d+\)") as caught:
        try_them()
    assert caught.value.steps
