"""bgsched.timing against the brute-force oracle, around the transitions of every zone that the issue names."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from _calendar_oracle import (
    ZONES,
    CronSpec,
    Dated,
    EveryDay,
    Excluded,
    OnMonthDay,
    OnWeekdays,
    RuleSpec,
    Spec,
    Window,
    fire_times,
    left,
    transitions,
)
from _calendar_specs import KINDS, KINDS_IN_SECONDS, Strategy, build, built_or_none, specs, specs_in_seconds
from hypothesis import HealthCheck, Phase, given, settings, strategies as st

from bgsched import timing as t
from bgsched.errors import TimingError

EXAMPLES = int(os.environ.get("BGSCHED_EXAMPLES", "60"))
QUICK = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink],
)
EVERY = max(EXAMPLES // 4, 1)  # for each transition of each zone, in minutes and again in seconds
SECOND = timedelta(seconds=1)
MICRO = timedelta(microseconds=1)

window_around = lru_cache(maxsize=40)(Window.around)


@st.composite
def places(draw: st.DrawFn) -> tuple[str, datetime]:
    zone = draw(st.sampled_from(ZONES))
    return zone, draw(st.sampled_from(transitions(zone)))


@st.composite
def starts(draw: st.DrawFn, window: Window, *, far: bool) -> datetime:
    """Draw a start before or within the window, or long before it; on a whole row or with microseconds."""
    centre, reach = middle(window), (window.until - window.after) / 2
    start = draw(
        st.integers(-reach // window.step, reach // window.step // 2).map(lambda n: centre + n * window.step)
        | st.integers(1, 900).map(lambda n: centre - n * (timedelta(hours=11) if far else 60 * window.step))
    )
    return start + draw(st.just(timedelta(0)) | st.integers(0, 999_999).map(lambda n: timedelta(microseconds=n)))


def middle(window: Window) -> datetime:
    return window.after + (window.until - window.after) / 2


@dataclass(frozen=True)
class Limits:
    """What a Schedule has beside its frequencies."""

    finish: datetime | None = None
    repetitions: int | None = None
    exclude: tuple[Excluded, ...] = ()

    def keep(self, found: list[datetime], window: Window, start: datetime) -> list[datetime]:
        kept = left(found, self.exclude, window, start)
        return [at for at in kept if self.finish is None or at <= self.finish][: self.repetitions]

    def built(self) -> dict[str, Any]:
        exclude = tuple(build(item) if isinstance(item, Spec) else item for item in self.exclude)
        return {"finish": self.finish, "repetitions": self.repetitions, "exclude": exclude}


@st.composite
def limits(draw: st.DrawFn, window: Window, start: datetime, several: st.SearchStrategy[Spec]) -> Limits:
    """Draw bounds and exclusions; the oracle can count repetitions only if they begin within the window."""
    instants = instants_between(window.after, window.until)
    pairs = st.tuples(instants, instants).filter(lambda pair: pair[0] < pair[1])
    exclude: st.SearchStrategy[Excluded] = several.filter(built_or_none) | pairs | instants.map(datetime.date)
    return Limits(
        draw(st.none() | instants.filter(lambda at: at >= start)) if start < window.until else None,
        draw(st.none() | st.integers(1, 60)) if start > window.after else None,
        tuple(draw(st.lists(exclude, max_size=3))),
    )


@lru_cache(maxsize=40)
def instants_between(after: datetime, until: datetime) -> st.SearchStrategy[datetime]:
    return st.timedeltas(timedelta(0), until - after).map(lambda delta: after + delta)


def agree(schedule: t.Schedule, expected: list[datetime], window: Window, start: datetime) -> None:
    """Check every question that can be asked about the window against what the oracle found in it."""
    assert list(schedule.fire_times(window.after, window.until)) == expected
    assert schedule.count_fire_times(window.after, window.until) == len(expected)
    assert schedule.last_fire_time(window.until, window.after) == (expected[-1] if expected else None)
    if window.after < start <= window.until:
        assert schedule.first_fire_time(start - timedelta(days=3)) == schedule.next_fire_time(start - MICRO)
        assert schedule.next_fire_time(start - timedelta(days=3)) == schedule.next_fire_time(start - MICRO)


def asked_from_anywhere(
    schedule: t.Schedule, expected: list[datetime], window: Window, instants: list[datetime]
) -> None:
    for instant in instants:
        later = next((at for at in expected if at > instant), None)
        found = schedule.next_fire_time(instant)
        assert (found if found is not None and found <= window.until else None) == later
        assert schedule.count_fire_times(instant, window.until) == sum(at > instant for at in expected)
        earlier = [at for at in expected if at <= instant]
        assert schedule.last_fire_time(instant, window.after) == (earlier[-1] if earlier else None)


def fires(spec: Spec, start: datetime, zone: str) -> bool:
    """Tell whether bgsched accepts the spec; the only reason not to is that it would never fire."""
    try:
        t.Schedule(build(spec), start=start, timezone=zone)
    except TimingError as error:
        if "never fire" not in str(error):
            raise
        return False
    return True


def compare(data: st.DataObject, strategy: Strategy, window: Window, *, limited: bool) -> None:
    local = middle(window).astimezone(ZoneInfo(window.zone)).replace(tzinfo=None)
    several = data.draw(st.lists(strategy(local), min_size=1, max_size=data.draw(st.sampled_from([1, 1, 3]))))
    # The oracle walks from the start: not far for rules of minutes.
    start = data.draw(starts(window, far=not limited and not any(walked(spec) for spec in several)))
    bounds = data.draw(limits(window, start, strategy(local))) if limited else Limits()
    drawn = tuple(spec for spec in several if fires(spec, start, window.zone))
    refused = tuple(spec for spec in several if spec not in drawn)
    assert fire_times(refused, window, start) == []
    if not drawn:
        return
    expected = bounds.keep(fire_times(drawn, window, start), window, start)
    given_ = {"start": start, "timezone": window.zone, **bounds.built()}
    try:
        schedule = t.Schedule(tuple(build(spec) for spec in drawn), **given_)
    except TimingError as error:
        assert "never fire" in str(error)  # noqa: PT017 - one of two outcomes
        assert expected == []
        return
    agree(schedule, expected, window, start)
    asked = data.draw(st.lists(instants_between(window.after, window.until), max_size=4))
    asked += data.draw(st.lists(st.sampled_from([*expected, middle(window)]), max_size=3))
    asked_from_anywhere(schedule, expected, window, [*asked, *(at - MICRO for at in asked if at > window.after)])


def walked(spec: Spec) -> bool:
    return isinstance(spec, RuleSpec) and spec.clock


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data(), place=places())
@QUICK
def test_every_kind_around_a_transition(kind: str, place: tuple[str, datetime], data: st.DataObject) -> None:
    compare(data, KINDS[kind], window_around(*place), limited=False)


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data(), place=places())
@QUICK
def test_every_kind_within_limits(kind: str, place: tuple[str, datetime], data: st.DataObject) -> None:
    """Finish, repetitions and exclusions of the same kind, dates and pairs."""
    compare(data, KINDS[kind], window_around(*place), limited=True)


@pytest.mark.parametrize("kind", KINDS_IN_SECONDS)
@given(data=st.data(), place=places())
@QUICK
def test_seconds_around_a_transition(kind: str, place: tuple[str, datetime], data: st.DataObject) -> None:
    window = window_around(*place, timedelta(hours=3), SECOND)
    compare(data, KINDS_IN_SECONDS[kind], window, limited=data.draw(st.booleans()))


@pytest.mark.slow
@pytest.mark.parametrize("zone", ZONES)
def test_every_transition(zone: str) -> None:
    """Every transition of the zone meets freshly generated frequencies of every kind."""
    for transition in transitions(zone):
        compare_often(Window.around(zone, transition), specs)


@pytest.mark.slow
@pytest.mark.parametrize("zone", ZONES)
def test_every_transition_in_seconds(zone: str) -> None:
    for transition in transitions(zone):
        compare_often(Window.around(zone, transition, timedelta(hours=3), SECOND), specs_in_seconds)


def compare_often(window: Window, strategy: Strategy) -> None:
    @given(data=st.data())
    @settings(QUICK, max_examples=EVERY)
    def here(data: st.DataObject) -> None:
        compare(data, strategy, window, limited=data.draw(st.booleans()))

    here()


@pytest.mark.parametrize("zone", ZONES)
def test_every_transition_with_some_usual_frequencies(zone: str) -> None:
    """Cheap enough for every run: 30 frequencies at a few transitions of each zone, without Hypothesis."""
    found = transitions(zone)
    for transition in (found[0], found[len(found) // 3], found[len(found) // 2], found[-1]):
        window = Window.around(zone, transition, timedelta(days=1))
        local = transition.astimezone(ZoneInfo(zone)).replace(tzinfo=None)
        start = datetime(1969, 12, 1, 0, 0, tzinfo=UTC)
        for spec in usual(local):
            schedule = t.Schedule(build(spec), start=start, timezone=zone)
            agree(schedule, fire_times((spec,), window, start), window, start)


def usual(local: datetime) -> list[Spec]:
    found: list[Spec] = []
    for shift in (-61, -60, -31, -30, -1, 0, 1, 29, 30, 59, 60):
        at = (local + timedelta(minutes=shift)).time()
        found += [Dated(EveryDay(1), at), Dated(OnWeekdays(frozenset(range(5))), at), Dated(OnMonthDay(local.day), at)]
        found.append(every_day(f"*/15 {at.hour} * * *", range(0, 60, 15), {at.hour}, clock=True))
    found.append(every_day("* * * * *", range(60), range(24), clock=True))
    found.append(every_day("0-59 0-23 * * *", range(60), range(24), clock=False))
    return found


def every_day(text: str, minutes: Iterable[int], hours: Iterable[int], *, clock: bool) -> CronSpec:
    return CronSpec(
        text,
        quartz=False,
        clock=clock,
        both_days=True,
        minutes=frozenset(minutes),
        hours=frozenset(hours),
        days=frozenset(range(1, 32)),
        months=frozenset(range(1, 13)),
        weekdays=frozenset(range(7)),
    )
