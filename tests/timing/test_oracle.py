"""bgsched.timing against the brute-force oracle, around the transitions of every zone that the issue names."""

import os
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

import pytest
from _calendar_oracle import (
    ZONES,
    CronSpec,
    Dated,
    EveryDay,
    OnMonthDay,
    OnWeekdays,
    RuleSpec,
    Spec,
    Window,
    fire_times,
    transitions,
)
from _calendar_specs import KINDS, build, crons, specs
from hypothesis import HealthCheck, Phase, given, settings, strategies as st

from bgsched import timing as t
from bgsched.errors import TimingError

QUICK = settings(
    max_examples=int(os.environ.get("BGSCHED_EXAMPLES", "60")),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink],
)
SECOND = timedelta(seconds=1)
MICRO = timedelta(microseconds=1)

window_around = lru_cache(maxsize=40)(Window.around)


@st.composite
def places(draw: st.DrawFn) -> tuple[str, datetime]:
    zone = draw(st.sampled_from(ZONES))
    return zone, draw(st.sampled_from(transitions(zone)))


@st.composite
def starts(draw: st.DrawFn, window: Window, *, far: bool) -> datetime:
    """Draw a start before or within the window, or long before it; on a whole minute or with microseconds."""
    centre = window.after + (window.until - window.after) / 2
    start = draw(
        st.integers(-2880, 1500).map(lambda n: centre + timedelta(minutes=n))
        | st.integers(1, 900).map(lambda n: centre - timedelta(hours=11 * n if far else 1))
    )
    return start + draw(st.just(timedelta(0)) | st.integers(0, 999_999).map(lambda n: timedelta(microseconds=n)))


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


def compare(data: st.DataObject, strategy: Callable[[datetime], st.SearchStrategy[Spec]], window: Window) -> None:
    centre = window.after + (window.until - window.after) / 2
    local = centre.astimezone(ZoneInfo(window.zone)).replace(tzinfo=None)
    several = data.draw(st.lists(strategy(local), min_size=1, max_size=data.draw(st.sampled_from([1, 1, 3]))))
    # The oracle walks from the start: not far for rules of minutes.
    start = data.draw(starts(window, far=not any(isinstance(spec, RuleSpec) and spec.clock for spec in several)))
    drawn = tuple(spec for spec in several if fires(spec, start, window.zone))
    if not drawn:
        return
    expected = fire_times(drawn, window, start)
    schedule = t.Schedule(tuple(build(spec) for spec in drawn), start=start, timezone=window.zone)
    agree(schedule, expected, window, start)
    reach = min(timedelta(hours=30), window.until - centre)
    near = st.timedeltas(-reach, reach).map(lambda delta: centre + delta)
    asked = data.draw(st.lists(near | st.sampled_from([*expected, centre]), max_size=6))
    asked_from_anywhere(schedule, expected, window, [*asked, *(at - MICRO for at in asked if at > window.after)])


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data(), place=places())
@QUICK
def test_every_kind_around_a_transition(kind: str, place: tuple[str, datetime], data: st.DataObject) -> None:
    compare(data, KINDS[kind], window_around(*place))


@given(data=st.data(), place=places())
@QUICK
def test_seconds_around_a_transition(place: tuple[str, datetime], data: st.DataObject) -> None:
    window = window_around(*place, timedelta(hours=3), SECOND)
    compare(data, lambda local: crons(local, seconds=True), window)


@pytest.mark.slow
@pytest.mark.parametrize("zone", ZONES)
def test_every_transition(zone: str) -> None:
    """Every transition of the zone meets freshly generated frequencies of every kind."""
    for transition in transitions(zone):
        compare_often(Window.around(zone, transition))


def compare_often(window: Window) -> None:
    @given(data=st.data())
    @settings(QUICK, max_examples=30)
    def here(data: st.DataObject) -> None:
        compare(data, specs, window)

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
