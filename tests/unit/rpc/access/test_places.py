"""What callers have under way is bounded, for each and for all; whoever ends gives its place back."""

from contextlib import ExitStack

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from controlplane.rpc.access.places import BOUNDS, Bound, Kind, Places
from controlplane.rpc.refusals import TooMuch

BOUND = Bound(each=3, all=5)


class Machine(RuleBasedStateMachine):
    """Callers that come and go, against a list of who is there."""

    @initialize()
    def begin(self) -> None:
        self.places = Places(dict.fromkeys(Kind, BOUND))
        self.there: list[tuple[str, int, ExitStack]] = []

    @rule(user=st.sampled_from("abc"), much=st.integers(1, 4))
    def come(self, user: str, much: int) -> None:
        each = sum(size for who, size, _ in self.there if who == user)
        everybody = sum(size for _, size, _ in self.there)
        fits = each + much <= BOUND.each and everybody + much <= BOUND.all
        stack = ExitStack()
        try:
            stack.enter_context(self.places.taken(user, Kind.CALL, much))
        except TooMuch:
            assert not fits
        else:
            assert fits
            self.there.append((user, much, stack))

    @rule(number=st.integers(0, 9))
    def go(self, number: int) -> None:
        if self.there:
            self.there.pop(number % len(self.there))[2].close()

    @invariant()
    def counted(self) -> None:
        if hasattr(self, "places"):
            assert self.places.under_way(Kind.CALL) == sum(size for _, size, _ in self.there)
            assert self.places.under_way(Kind.WATCH) == 0


TestMachine = Machine.TestCase


def test_nothing_is_kept_of_callers_that_are_gone() -> None:
    places = Places()
    for number in range(100):
        with places.taken(f"user-{number}", Kind.CALL), places.taken(f"user-{number}", Kind.BYTE, 1000):
            pass
    assert not places._each


def test_a_place_is_given_back_by_a_call_that_fails() -> None:
    places = Places()
    with pytest.raises(ValueError), places.taken("a", Kind.WATCH):
        raise ValueError
    assert places.under_way(Kind.WATCH) == 0


def test_one_caller_cannot_take_all_places() -> None:
    assert all(bound.each <= bound.all / 2 for bound in BOUNDS.values())
