"""Values made and changed fast are those that `dataclasses` makes."""

import pickle
from dataclasses import FrozenInstanceError, fields, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from bgsched import Immediate
from bgsched._evolve import changer, evolve, maker
from bgsched.request import Request
from bgsched.run import Run

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RUN = Run(request_id="r", process="p", fire_time=NOW, recorded_at=NOW, params={"a": [1]})
REQUEST = Request(id="r", process="p", timing=Immediate(), created_at=NOW)


@pytest.mark.parametrize("value", [RUN, REQUEST], ids=["run", "request"])
def test_each_field_can_be_changed_alone(value: Any) -> None:
    for part in fields(value):
        marker = object()
        changed = evolve(value, **{part.name: marker})
        assert type(changed) is type(value)
        for other in fields(value):
            expected = marker if other.name == part.name else getattr(value, other.name)
            assert getattr(changed, other.name) is expected


def test_a_change_is_a_replacement() -> None:
    assert evolve(RUN, owner="a", attempt=1) == replace(RUN, owner="a", attempt=1)
    assert changer(Run, "attempt", "owner")(RUN, 1, "a") == replace(RUN, owner="a", attempt=1)
    assert evolve(RUN) == RUN
    assert evolve(RUN) is not RUN


def test_what_is_made_is_what_the_constructor_makes() -> None:
    names = ("fire_time", "process", "request_id", "recorded_at", "params")
    assert maker(Run, *names)(NOW, "p", "r", NOW, {"a": [1]}) == RUN


def test_what_was_changed_is_as_frozen_as_before() -> None:
    changed: Any = evolve(RUN, attempt=1)
    with pytest.raises(FrozenInstanceError):
        changed.attempt = 2
    assert pickle.loads(pickle.dumps(changed)) == changed


def test_a_field_that_is_not_there_is_refused() -> None:
    with pytest.raises(TypeError, match="no field colour"):
        evolve(RUN, colour="red")
