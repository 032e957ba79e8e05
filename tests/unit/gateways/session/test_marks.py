"""A Mark is answered once everything was sent that was learned before it; what was dropped is a gap."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateways.session.outbox import STALE, Outbox
from tests.unit.gateways.session.test_outbox import heartbeat, open_, opened, result, seq


def test_a_mark_is_answered_when_no_news_waits() -> None:
    outbox = opened(max_unacked=1, max_batch=1)
    for base in "ab":
        outbox.put(heartbeat(base), 0)
    outbox.mark()
    answers = []
    for _ in range(3):
        sent = outbox.take(0)
        answers += [message.reports.marked for message in sent]
        outbox.ack(len(answers))
    assert answers == [False, True]
    outbox.mark()
    assert [(message.reports.marked, len(message.reports.reports)) for message in outbox.take(0)] == [(True, 0)]


def test_a_mark_of_a_stream_that_ended_is_not_answered() -> None:
    outbox = opened()
    outbox.mark()
    open_(outbox)
    assert outbox.take(0) == []


def test_news_that_was_dropped_is_a_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateways.session.outbox.MAX_NEWS", 1)
    outbox = opened()
    outbox.put(heartbeat("old"), 0)
    assert [message.reports.gap for message in outbox.take(STALE + 1)] == [True]
    outbox.put(heartbeat("a"), 0)
    outbox.put(heartbeat("too many"), 0)
    assert [message.reports.gap for message in outbox.take(0)] == [True]
    outbox.put(heartbeat("a"), 0)
    assert [message.reports.gap for message in outbox.take(0)] == [False]
    outbox.gap()
    assert [message.reports.gap for message in outbox.take(0)] == [True]


class MarkMachine(RuleBasedStateMachine):
    """Whatever else is sent, acknowledged or lost: after an answer nothing waits that was there before the Mark."""

    def __init__(self) -> None:
        super().__init__()
        self.outbox = Outbox()
        self.limit = 0
        self.now = 0.0
        self.under_way: list[int] = []
        self.waiting: set[str] = set()
        """Bases of which news waits."""
        self.before_mark: set[str] | None = None
        """Those of which it waited when the Mark came that is not answered."""

    @rule(max_unacked=st.integers(1, 3), max_batch=st.integers(1, 4))
    def open(self, max_unacked: int, max_batch: int) -> None:
        open_(self.outbox, max_unacked, max_batch)
        # Heartbeats that were not acknowledged may wait again, or not: which do is not this machine's matter.
        self.outbox.take(self.now + 2 * STALE)
        open_(self.outbox, max_unacked, max_batch)
        self.limit, self.under_way, self.waiting, self.before_mark = max_unacked, [], set(), None

    @precondition(lambda self: self.limit)
    @rule(base=st.sampled_from("abcdef"))
    def put(self, base: str) -> None:
        self.outbox.put(heartbeat(base), self.now)
        self.waiting.add(base)

    @rule(number=st.integers(0, 9))
    def keep(self, number: int) -> None:
        self.outbox.keep(result(number))

    @precondition(lambda self: self.limit and self.before_mark is None)
    @rule()
    def mark(self) -> None:
        self.outbox.mark()
        self.before_mark = set(self.waiting)

    @rule(seconds=st.sampled_from([1.0, STALE + 1]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.limit)
    @rule()
    def take(self) -> None:
        for message in self.outbox.take(self.now):
            self.under_way.append(seq(message))
            sent = {report.base_id for report in message.reports.reports if report.HasField("heartbeat")}
            if message.reports.gap:
                # Nothing says of which bases.
                sent = self.waiting - {report.base_id for report, _ in self.outbox._news.values()}
            self.waiting -= sent
            if self.before_mark is not None:
                self.before_mark -= sent
            if message.reports.marked:
                assert self.before_mark == set()
                self.before_mark = None
        if len(self.under_way) < self.limit:
            assert self.before_mark is None

    @precondition(lambda self: self.under_way)
    @rule(data=st.data())
    def ack(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(self.under_way))
        self.outbox.ack(number)
        self.under_way = [later for later in self.under_way if later > number]

    @invariant()
    def no_more_is_under_way_than_allowed(self) -> None:
        assert len(self.under_way) <= self.limit


TestMarkMachine = MarkMachine.TestCase
