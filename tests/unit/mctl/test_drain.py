"""mctl drain --wait: when it ends, and how."""

import pytest
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb

from mctl.commands.drain import owned_until_empty
from mctl.errors import CommandError, TimedOut
from mctl.pacing import Looks


def replica(state: str, vnodes: int) -> pb.Replica:
    return pb.Replica(id="a", vnodes=vnodes, state=state)


DRAINING = replica("draining", 5)
EMPTY = replica("draining", 0)


class Script:
    """A replica that has the next state at each look and keeps the last one; None is an absent replica."""

    def __init__(self, *states: pb.Replica | None) -> None:
        self.states = list(states)
        self.now = 0.0

    def sleep(self, seconds: float) -> None:
        assert 0 < seconds <= 1.0
        self.now += seconds

    def run(self, timeout: float = 60.0) -> list[int]:
        looks = Looks(timeout, clock=lambda: self.now, sleep=self.sleep)

        def ask() -> list[pb.Replica]:
            assert looks.left >= 1.0
            state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
            return [pb.Replica(id="b", vnodes=7, state="active"), *([state] if state else [])]

        return list(owned_until_empty(ask, "a", looks))


def test_each_count_is_shown_once() -> None:
    assert Script(DRAINING, DRAINING, replica("draining", 2), EMPTY).run() == [5, 2]


@pytest.mark.parametrize("end", [EMPTY, replica("gone", 0), None])
def test_it_ends_when_nothing_is_left_or_the_replica_is_gone(end: pb.Replica | None) -> None:
    assert Script(DRAINING, end).run() == [5]


def test_a_gone_replica_owns_vnodes_until_others_take_them() -> None:
    assert Script(DRAINING, replica("gone", 5), replica("gone", 1), EMPTY).run() == [5, 1]


def test_an_answer_from_before_the_drain_does_not_end_it() -> None:
    assert Script(replica("active", 0), replica("active", 5), DRAINING, EMPTY).run() == [0, 5]


def test_a_cancelled_drain_fails() -> None:
    with pytest.raises(CommandError, match="takes VNodes again"):
        Script(DRAINING, replica("active", 5)).run()


def test_a_timeout_says_how_many_are_left() -> None:
    script = Script(DRAINING)
    with pytest.raises(TimedOut, match="timed out after 5s: replica a still owns 5 VNodes"):
        script.run(timeout=5.0)
    assert script.now == pytest.approx(5.0)
