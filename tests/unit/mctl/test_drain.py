"""mctl drain --wait: when it ends, and how."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mctl.commands.drain import until_empty
from mctl.errors import Refused, TimedOut
from mctl.records import Replica

FULL = Replica("a", "", 5, False, "active")
DRAINING = replace(FULL, state="draining")
EMPTY = replace(DRAINING, vnodes=0)


class Script:
    """A replica that goes through states, one a look, and stays in the last; None is one that is not there."""

    def __init__(self, *states: Replica | None) -> None:
        self.states = list(states)
        self.told: list[int] = []
        self.now = 0.0

    def look(self, limit: float) -> list[Replica]:
        assert limit >= 1.0
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return [Replica("b", "", 7, True, "active"), *([state] if state else [])]

    def sleep(self, seconds: float) -> None:
        assert 0 < seconds <= 1.0
        self.now += seconds

    def run(self, timeout: float = 60.0) -> list[int]:
        until_empty(self.look, "a", timeout, told=self.told.append, clock=lambda: self.now, sleep=self.sleep)
        return self.told


def test_what_is_left_is_told_once_each() -> None:
    assert Script(DRAINING, DRAINING, replace(DRAINING, vnodes=2), EMPTY).run() == [5, 2]


@pytest.mark.parametrize("end", [EMPTY, replace(EMPTY, state="gone"), None])
def test_it_ends_when_nothing_is_left_or_the_replica_is_gone(end: Replica | None) -> None:
    assert Script(DRAINING, end).run() == [5]


def test_one_that_is_gone_still_owns_until_others_took_over() -> None:
    assert Script(DRAINING, replace(FULL, state="gone"), replace(FULL, state="gone", vnodes=1), EMPTY).run() == [5, 1]


def test_an_answer_from_before_the_drain_neither_ends_nor_fails() -> None:
    assert Script(replace(FULL, vnodes=0), FULL, DRAINING, EMPTY).run() == [0, 5]


def test_a_drain_that_somebody_ends_is_no_success() -> None:
    with pytest.raises(Refused, match="takes VNodes again"):
        Script(DRAINING, FULL).run()


def test_time_out_says_how_many_are_left() -> None:
    script = Script(DRAINING)
    with pytest.raises(TimedOut, match="timed out after 5s: replica a still owns 5 VNodes"):
        script.run(timeout=5.0)
    assert script.now == pytest.approx(5.0)
