"""Each message kept for a replica ends in exactly one way: taken, handed on, or dropped with a count."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.session.metrics import DROPPED
from gateways.session.outbox import Wake
from gateways.session.outboxes import FORGET_AFTER, TAKEN_OVER_WITHIN, Outboxes
from gateways.session.routing import Routing
from tests.unit.gateways import said
from tests.unit.gateways.session.test_outbox import seq

REPLICAS = ("r0", "r1")


def result(number: int, base: str = "b") -> pb.Report:
    return said.result(str(number), base)


def to(replica: str) -> tuple[pb.Welcome, Wake]:
    """Return what begins a stream."""
    return pb.Welcome(replica_id=replica), lambda can_wait: None


def dropped(kind: str, reason: str) -> float:
    return float(DROPPED.labels(kind=kind, reason=reason)._value.get())


class Scene:
    def __init__(self) -> None:
        self.settled: list[pb.Report] = []
        self.outboxes = Outboxes(Routing(), self.settled.append)


def test_a_long_outage_of_all_replicas_settles_messages_and_loses_none() -> None:
    scene = Scene()
    scene.outboxes.open(*to("r0"))
    scene.outboxes.keep("r0", result(1))
    scene.outboxes.lost("r0", 0.0)
    scene.outboxes.sweep(TAKEN_OVER_WITHIN + 1)
    assert scene.settled == [result(1)]
    scene.outboxes.sweep(10 * FORGET_AFTER)
    assert [_names(message) for message in scene.outboxes.open(*to("r0")).take(0.0)] == [["1"]]


def test_messages_for_a_replica_that_never_returns_are_dropped_with_a_count(caplog: pytest.LogCaptureFixture) -> None:
    scene, before = Scene(), dropped("OrderResult", "replica-gone")
    scene.outboxes.open(*to("r0"))
    scene.outboxes.keep("r0", result(1))
    scene.outboxes.lost("r0", 0.0)
    scene.outboxes.open(*to("r1"))
    scene.outboxes.sweep(FORGET_AFTER + 1)
    assert scene.settled[-1] == result(1)
    assert dropped("OrderResult", "replica-gone") == before + 1
    assert list(scene.outboxes._outboxes) == ["r1"]


@pytest.mark.parametrize("reason", ["unknown-replica", "full"])
def test_messages_that_cannot_be_kept_are_dropped_at_once(reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    scene, before = Scene(), dropped("OrderResult", reason)
    if reason == "full":
        scene.outboxes.open(*to("r0"))
        monkeypatch.setattr("gateways.session.outbox.MAX_KEPT", 0)
    scene.outboxes.keep("r0", result(1))
    assert scene.settled == [result(1)]
    assert dropped("OrderResult", reason) == before + 1


@given(st.lists(st.sampled_from("ab"), max_size=30))
def test_a_new_owner_gets_the_kept_messages_of_its_base_in_order(bases: list[str]) -> None:
    outboxes = Outboxes(Routing(), lambda _: None)
    for replica in REPLICAS:
        outboxes.open(*to(replica))
    for number, base in enumerate(bases):
        outboxes.keep("r0", result(number, base))
    outboxes.hand_on("a", "r1")
    kept = {replica: outboxes[replica].kept() for replica in REPLICAS}
    assert [item.base_id for item in kept["r1"]] == [base for base in bases if base == "a"]
    assert [item.base_id for item in kept["r0"]] == [base for base in bases if base != "a"]
    numbers = [int(item.order_result.order_id) for item in kept["r1"]]
    assert numbers == sorted(numbers)


class OutboxesMachine(RuleBasedStateMachine):
    """Each given item is kept in one place, or has ended once; its sender is notified of that end."""

    def __init__(self) -> None:
        super().__init__()
        self.settled: list[pb.Report] = []
        self.outboxes = Outboxes(Routing(), self.settled.append)
        self.serving: dict[str, list[pb.ConnectRequest]] = {}
        self.given: dict[str, pb.Report] = {}
        self.taken: Counter[str] = Counter()
        self.withdrawn: set[str] = set()
        self.now = 0.0

    @rule(replica=st.sampled_from(REPLICAS))
    def open(self, replica: str) -> None:
        if replica not in self.serving:
            self.outboxes.open(*to(replica))
            self.serving[replica] = []

    @precondition(lambda self: self.serving)
    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        replica = data.draw(st.sampled_from(sorted(self.serving)))
        del self.serving[replica]
        self.outboxes.lost(replica, self.now)

    @rule(replica=st.sampled_from(REPLICAS), base=st.sampled_from("ab"))
    def keep(self, replica: str, base: str) -> None:
        item = result(len(self.given), base)
        self.given[_name(item)] = item
        self.outboxes.keep(replica, item)

    @rule(replica=st.sampled_from(REPLICAS))
    def ask(self, replica: str) -> None:
        outbox = self.outboxes._outboxes.get(replica)
        query = said.query("a", str(len(self.given)))
        if outbox is not None and outbox.put(query, self.now):
            self.given[query.baseline_query.query_id] = query

    @precondition(lambda self: self.given)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.given)))
        query = self.given[name]
        if query.HasField("baseline_query"):
            self.outboxes.withdraw(query)
            self.withdrawn.add(name)

    @rule(base=st.sampled_from("ab"), owner=st.sampled_from(REPLICAS))
    def claim(self, base: str, owner: str) -> None:
        if owner in self.serving:
            self.outboxes.hand_on(base, owner)

    @rule(replica=st.sampled_from(REPLICAS))
    def send_and_acknowledge(self, replica: str) -> None:
        outbox = self.outboxes._outboxes.get(replica)
        if replica not in self.serving or outbox is None:
            return
        sent = outbox.take(self.now)
        if sent:
            self.outboxes.acknowledged(replica, seq(sent[-1]))
            self.taken.update(name for message in sent for name in _names(message))

    @rule(seconds=st.sampled_from([1.0, TAKEN_OVER_WITHIN, FORGET_AFTER]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.outboxes.sweep(self.now)

    @invariant()
    def each_is_in_one_place_or_has_ended(self) -> None:
        kept: Counter[str] = Counter()
        for outbox in self.outboxes._outboxes.values():
            kept.update(_name(item) for item in outbox.kept())
        settled = {_name(item) for item in self.settled}
        for name in self.given:
            places = kept[name] + self.taken[name]
            assert places <= 1
            assert places == 1 or name in settled or name in self.withdrawn
        assert all(name in settled for name in self.taken)


def _name(item: pb.Report) -> str:
    return item.order_result.order_id or item.baseline_query.query_id


def _names(message: pb.ConnectRequest) -> list[str]:
    """Return the ids of what is kept in a message."""
    return [_name(report) for report in message.reports.reports]


TestOutboxesMachine = OutboxesMachine.TestCase
