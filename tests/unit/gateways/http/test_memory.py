"""Answers share one bound of bytes, and the largest gives way."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateways.http.memory import FIRST_SHARE, AnswerMemory, NoRoom, Share

TOTAL = 1 << 20


class Shares(RuleBasedStateMachine):
    """Answers begin, grow, are cut and end in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = AnswerMemory(TOTAL)
        self.open: dict[int, Share] = {}
        self.sizes: dict[int, int] = {}
        self.next = 0

    @rule()
    def begin(self) -> None:
        number = self.next = self.next + 1
        self.open[number] = self.memory.share(lambda: self.cut(number))
        self.sizes[number] = 0

    def cut(self, number: int) -> None:
        del self.open[number], self.sizes[number]

    @rule(data=st.data(), size=st.integers(1, TOTAL))
    def grow(self, data: st.DataObject, size: int) -> None:
        if not self.open:
            return
        number = data.draw(st.sampled_from(sorted(self.open)))
        before = dict(self.sizes)
        wanted = before[number] + size
        try:
            self.open[number].need(wanted)
            self.sizes[number] = wanted
        except NoRoom:
            assert wanted > FIRST_SHARE, "small answers always have room"
        for gone in before.keys() - self.sizes.keys():
            assert before[gone] > FIRST_SHARE, "who holds little is never cut"

    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        if self.open:
            number = data.draw(st.sampled_from(sorted(self.open)))
            self.open[number].close()
            self.cut(number)

    @invariant()
    def bounded(self) -> None:
        assert self.memory.used <= TOTAL
        assert self.memory.used == sum(share.more for share in self.open.values())
        for number, share in self.open.items():
            assert self.sizes[number] <= FIRST_SHARE + share.more


TestShares = Shares.TestCase


def test_bases_that_hold_much_do_not_keep_an_ordinary_answer_out() -> None:
    memory, cut = AnswerMemory(), list[int]()
    for number in range(120):
        share = memory.share(lambda number=number: cut.append(number))  # type: ignore[misc]
        for size in range(0, 4_000_000, 65_536):
            try:
                share.need(size)
            except NoRoom:
                break
    ordinary = memory.share(lambda: pytest.fail("cut"))
    for size in range(0, 250_000, 1448):
        ordinary.need(size)
    assert cut
