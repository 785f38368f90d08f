"""One after another, even where a thread comes in its own way."""

import os
import signal
import threading
import warnings
from collections.abc import Callable

import pytest

from bgsched._turns import Shared, Turns


class Slow:
    """Has the turn, on a thread of its own, until it is let go."""

    def __init__(self, turns: Turns) -> None:
        self._in, self._go = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=turns.do, args=(self._work,), daemon=True)
        self._thread.start()
        assert self._in.wait(20)

    def _work(self) -> None:
        self._in.set()
        assert self._go.wait(20)

    def let_go(self) -> None:
        self._go.set()
        self._thread.join(20)


def test_a_step_within_a_step_comes_after_it() -> None:
    turns = Turns()
    done: list[str] = []

    def outer() -> None:
        turns.do(done.append, "inner")
        done.append("outer")

    turns.do(outer)
    assert done == ["outer", "inner"]


def test_a_question_comes_after_all_steps_and_has_no_answer_within_one() -> None:
    turns = Turns()
    done: list[str | None] = []
    turns.do(lambda: done.append(turns.ask(lambda: "now")))
    assert done == [None]
    assert turns.ask(done.copy) == [None]


def test_a_step_that_raises_leaves_the_turn_to_the_next() -> None:
    turns = Turns()
    done: list[str] = []
    with pytest.raises(ZeroDivisionError):
        turns.do(lambda: 1 / 0)
    turns.do(done.append, "next")
    assert done == ["next"]


def test_who_waits_too_long_leaves_the_step_to_whoever_has_the_turn() -> None:
    turns = Turns(patience=0)
    done: list[str] = []
    slow = Slow(turns)
    turns.do(done.append, "left")
    assert turns.ask(done.copy) is None
    slow.let_go()
    assert done == ["left"]


def test_steps_of_many_threads_are_all_taken_one_at_a_time() -> None:
    turns, counts = Turns(), [0]

    def add() -> None:
        counts[0] += 1

    def add_many() -> None:
        for _ in range(2_000):
            turns.do(add)

    threads = [threading.Thread(target=add_many) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [16_000]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_does_not_wait_for_a_thread_that_it_does_not_have() -> None:
    turns = Turns(patience=-1)
    done: list[str] = []
    slow = Slow(turns)
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        child = os.fork()
    if child == 0:
        signal.alarm(20)
        turns.do(done.append, "here")
        os._exit(0 if done == ["here"] else 1)
    assert os.waitpid(child, 0)[1] == 0
    slow.let_go()


def shared(done: list[str], *, within: Callable[[Shared], None] = lambda _: None) -> Shared:
    def restore() -> None:
        within(it)
        done.append("restore")

    it = Shared(lambda: done.append("place"), restore)
    return it


def test_what_is_shared_is_put_back_after_the_last() -> None:
    done: list[str] = []
    it = shared(done)
    it.hold()
    it.hold()
    it.let_go()
    assert done == ["place", "place"]
    it.let_go()
    assert done == ["place", "place", "restore"]


def test_who_comes_while_it_is_put_back_finds_it_in_place_afterwards() -> None:
    done: list[str] = []
    it = shared(done, within=Shared.hold)
    it.hold()
    it.let_go()
    assert done == ["place", "restore", "place"]
