"""An outbox sends the latest news and all results to one replica, in order and within its limits."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from koupleless.tunnel.v1 import tunnel_pb2 as pb
from prometheus_client import REGISTRY

from gateways.session.outbox import DEFAULT_BATCH, DEFAULT_UNACKED, STALE, Outbox
from tests.unit.gateways import said
from tests.unit.gateways.said import module, modules

BIZ = module("biz1")


def open_(outbox: Outbox, max_unacked: int = 8, max_batch: int = 128) -> None:
    outbox.open(pb.Limits(max_unacked=max_unacked, max_batch=max_batch), lambda can_wait: None)


def opened(max_unacked: int = 8, max_batch: int = 128) -> Outbox:
    outbox = Outbox()
    open_(outbox, max_unacked, max_batch)
    return outbox


def heartbeat(base: str, port: int = 1) -> pb.Report:
    return said.heartbeat(base, port=port)


def failed(verb: pb.Verb.ValueType) -> pb.Report:
    return pb.Report(base_id="a", poll_failed=pb.PollFailed(verb=verb, reason="why", epoch=1))


def query(number: int) -> pb.Report:
    return said.query("b", str(number))


def result(number: int) -> pb.Report:
    return said.result(str(number))


def reports(messages: list[pb.ConnectRequest]) -> list[pb.Report]:
    return [report for message in messages for report in message.reports.reports]


def results(messages: list[pb.ConnectRequest]) -> list[str]:
    return [report.order_result.order_id for report in reports(messages) if report.HasField("order_result")]


def seq(message: pb.ConnectRequest) -> int:
    return message.reports.seq


def batches(messages: list[pb.ConnectRequest]) -> list[int]:
    return [len(message.reports.reports) for message in messages]


def dropped(reason: str) -> float:
    labels = {"kind": "news", "reason": reason}
    return REGISTRY.get_sample_value("koupleless_gateway_dropped_total", labels) or 0.0


def test_newer_news_replaces_older() -> None:
    outbox = opened()
    outbox.put(heartbeat("a", 1), 0)
    outbox.put(heartbeat("b", 1), 0)
    outbox.put(heartbeat("a", 2), 0)
    assert reports(outbox.take(0)) == [heartbeat("a", 2), heartbeat("b", 1)]


def test_kinds_do_not_overwrite_each_other() -> None:
    outbox = opened()
    given = [heartbeat("a"), pb.Report(base_id="a", health=pb.Health()), modules("a", BIZ)]
    given += [failed(verb) for verb in (pb.VERB_HEALTH, pb.VERB_QUERY_MODULES)]
    for report in given:
        outbox.put(report, 0)
    assert reports(outbox.take(0)) == given


def test_an_answer_takes_an_unsent_failure_back() -> None:
    outbox = opened()
    outbox.put(failed(pb.VERB_QUERY_MODULES), 0)
    outbox.put(failed(pb.VERB_HEALTH), 0)
    outbox.put(modules("a", BIZ), 0)
    assert [report.WhichOneof("fact") for report in reports(outbox.take(0))] == ["poll_failed", "modules"]


def test_stale_news_is_dropped_when_its_turn_comes() -> None:
    outbox = opened()
    outbox.put(heartbeat("old"), 0)
    outbox.put(heartbeat("new"), STALE)
    before = dropped("stale")
    assert reports(outbox.take(STALE + 1)) == [heartbeat("new")]
    assert dropped("stale") == before + 1


def test_news_is_refused_while_no_stream_is_open_and_when_full(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not Outbox().put(heartbeat("a"), 0)
    monkeypatch.setattr("gateways.session.outbox.MAX_NEWS", 2)
    outbox = opened()
    before = dropped("full")
    assert [outbox.put(heartbeat(base), 0) for base in "abac"] == [True, True, True, False]
    assert dropped("full") == before + 1


def test_an_equal_list_travels_as_unchanged() -> None:
    outbox = opened()
    sent = []
    for report in (modules("a", BIZ), modules("a", BIZ), modules("a"), modules("a"), modules("a", epoch=2)):
        outbox.put(report, 0)
        sent += reports(outbox.take(0))
    assert [report.modules.unchanged for report in sent] == [False, True, False, True, False]
    assert sent[1].modules == pb.Modules(complete=True, unchanged=True, epoch=1)


def test_a_list_outside_of_a_watch_is_always_full() -> None:
    outbox = opened()
    for _ in range(2):
        outbox.put(modules("a", BIZ, epoch=0), 0)
        assert reports(outbox.take(0)) == [modules("a", BIZ, epoch=0)]


def test_an_unsent_list_that_is_overwritten_is_not_known_to_the_replica() -> None:
    outbox = opened()
    outbox.put(modules("a", BIZ), 0)
    outbox.put(modules("a", BIZ), 0)
    (sent,) = reports(outbox.take(0))
    assert sent == modules("a", BIZ)


def test_the_first_list_after_a_watch_is_full() -> None:
    outbox = opened()
    outbox.put(modules("a", BIZ), 0)
    outbox.take(0)
    outbox.send_in_full("a")
    outbox.put(modules("a", BIZ), 0)
    assert reports(outbox.take(0)) == [modules("a", BIZ)]


def test_the_first_list_on_a_stream_is_full() -> None:
    outbox = opened()
    outbox.put(modules("a", BIZ), 0)
    outbox.take(0)
    outbox.close()
    open_(outbox)
    outbox.put(modules("a", BIZ), 0)
    assert reports(outbox.take(0)) == [modules("a", BIZ)]


def test_a_lost_stream_drops_its_news_but_not_heartbeats() -> None:
    outbox = opened()
    outbox.put(heartbeat("sent"), 0)
    outbox.take(0)
    outbox.put(heartbeat("unsent"), 0)
    outbox.put(modules("unsent", BIZ), 0)
    outbox.close()
    open_(outbox)
    assert reports(outbox.take(1)) == [heartbeat("sent"), heartbeat("unsent")]


def test_results_are_kept_until_acknowledged_and_go_again_in_order() -> None:
    outbox = opened(max_batch=1)
    for number in range(3):
        outbox.keep(result(number))
    first = outbox.take(0)
    assert [seq(message) for message in first] == [1, 2, 3]
    outbox.ack(1)
    outbox.keep(result(3))
    outbox.close()
    open_(outbox, max_batch=1)
    second = outbox.take(0)
    assert results(second) == ["1", "2", "3"]
    assert [seq(message) for message in second] == [1, 2, 3]
    outbox.ack(3)
    assert outbox.idle


def test_no_more_is_under_way_than_allowed() -> None:
    outbox = opened(max_unacked=2, max_batch=3)
    for number in range(10):
        outbox.put(heartbeat(f"b{number}"), 0)
    assert batches(outbox.take(0)) == [3, 3]
    assert outbox.take(0) == []
    outbox.ack(2)
    assert batches(outbox.take(0)) == [3, 1]


def test_large_lists_and_results_travel_alone() -> None:
    outbox = opened()
    large = [module("b" * 1000) for _ in range(900)]
    for base in "abc":
        outbox.put(modules(base, *large), 0)
    assert batches(outbox.take(0)) == [1, 1, 1]
    for number in range(2):
        outbox.keep(said.result("r" * 900_000 + str(number)))
    outbox.put(modules("a", *large), 0)
    assert batches(outbox.take(0)) == [1, 1, 1]


def test_results_travel_in_batches() -> None:
    outbox = opened(max_batch=4)
    outbox.put(heartbeat("a"), 0)
    for number in range(10):
        outbox.keep(result(number))
    sent = outbox.take(0)
    assert batches(sent) == [4, 4, 3]
    assert results(sent) == [str(number) for number in range(10)]


def test_a_flood_of_news_does_not_keep_results_waiting() -> None:
    outbox = opened(max_unacked=4, max_batch=2)
    for number in range(100):
        outbox.put(heartbeat(f"b{number}"), 0)
        outbox.keep(result(number))
    sent = outbox.take(0)
    assert results(sent) == ["0", "1", "2", "3"]
    assert len(reports(sent)) == 8


def test_when_full_nothing_more_is_promised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateways.session.outbox.MAX_KEPT", 2)
    outbox = opened()
    assert outbox.put(query(0), 0)
    assert outbox.keep(result(1))
    assert not outbox.has_room
    assert not outbox.put(query(2), 0)
    assert outbox.keep(result(3))
    assert outbox.keep(result(4))
    assert not outbox.keep(result(5))


def test_a_question_that_is_withdrawn_is_not_sent_again() -> None:
    outbox = opened(max_batch=1)
    for number in range(3):
        outbox.put(query(number), 0)
    outbox.take(0)
    outbox.close()
    outbox.withdraw(query(1))
    open_(outbox, max_unacked=1, max_batch=1)
    assert _names(outbox.take(0)) == ["0"]
    outbox.withdraw(query(0))
    outbox.close()
    open_(outbox)
    assert _names(outbox.take(0)) == ["2"]


def test_only_unsent_messages_are_handed_over() -> None:
    outbox = opened(max_unacked=1, max_batch=1)
    for number in range(3):
        outbox.keep(result(number))
    outbox.put(query(3), 0)
    outbox.take(0)
    assert outbox.hand_over("b") == [result(1), result(2)]
    assert outbox.kept() == [result(0), query(3)]
    assert outbox.close() == ["b"]


def test_bases_take_turns_and_what_is_kept_of_one_keeps_its_order() -> None:
    outbox = opened(max_unacked=1, max_batch=2)
    for number in range(4):
        outbox.keep(said.result(f"a{number}", "a"))
    outbox.keep(said.result("b0", "b"))
    sent = []
    while messages := outbox.take(0):
        sent += results(messages)
        outbox.ack(seq(messages[-1]))
    assert sent == ["a0", "b0", "a1", "a2", "a3"]
    assert outbox.idle


def test_the_sender_is_woken_by_everything_that_can_be_sent() -> None:
    outbox, woken = Outbox(), list[bool]()
    outbox.keep(result(0))
    outbox.open(pb.Limits(), lambda can_wait: woken.append(can_wait))
    outbox.put(heartbeat("a"), 0)
    outbox.put(query(1), 0)
    outbox.keep(result(2))
    assert woken == [False] * 3
    outbox.close()
    outbox.keep(result(3))
    assert len(woken) == 3


def test_the_sender_is_woken_by_an_acknowledgement_only_if_it_had_to_wait_for_it() -> None:
    outbox, woken = Outbox(), list[bool]()
    outbox.open(pb.Limits(max_unacked=2, max_batch=1), lambda can_wait: woken.append(can_wait))
    for number in range(5):
        outbox.put(heartbeat(str(number)), 0)
    assert len(outbox.take(0)) == 2
    for seq, wakes in ((1, [False]), (2, [])):
        woken.clear()
        outbox.ack(seq)
        assert woken == wakes


def test_a_missing_limit_is_the_default() -> None:
    outbox = opened(max_unacked=0, max_batch=0)
    for number in range(2 * DEFAULT_UNACKED * DEFAULT_BATCH):
        outbox.put(heartbeat(f"b{number}"), 0)
    assert batches(outbox.take(0)) == [DEFAULT_BATCH] * DEFAULT_UNACKED


class OutboxMachine(RuleBasedStateMachine):
    """What was queued as a result is acknowledged, waiting or under way; nothing is lost, nothing is numbered wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.outbox = Outbox()
        self.is_open = False
        self.sent: list[pb.ConnectRequest] = []
        self.pending: list[str] = []
        self.count = 0

    @rule(max_unacked=st.integers(1, 4), max_batch=st.integers(1, 4))
    def open(self, max_unacked: int, max_batch: int) -> None:
        open_(self.outbox, max_unacked, max_batch)
        self.is_open, self.sent, self.limit = True, [], max_unacked

    @rule()
    def close(self) -> None:
        self.outbox.close()
        self.is_open, self.sent = False, []

    @rule(kind=st.sampled_from(["result", "query"]))
    def put_kept(self, kind: str) -> None:
        self.count += 1
        name = str(self.count)
        if self.outbox.keep(result(self.count)) if kind == "result" else self.outbox.put(query(self.count), 0):
            self.pending.append(name)

    @rule(base=st.sampled_from("abc"))
    def put_news(self, base: str) -> None:
        assert self.outbox.put(heartbeat(base), 0) is self.is_open

    @rule()
    def take(self) -> None:
        self.sent += self.outbox.take(0)

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def ack(self, data: st.DataObject) -> None:
        index = data.draw(st.integers(0, len(self.sent) - 1))
        self.outbox.ack(seq(self.sent[index]))
        done = _names(self.sent[: index + 1])
        self.pending = [name for name in self.pending if name not in done]
        self.sent = self.sent[index + 1 :]

    @invariant()
    def nothing_is_lost(self) -> None:
        assert self.outbox.idle is (not self.pending)

    @invariant()
    def numbers_rise_by_one(self) -> None:
        numbers = [seq(message) for message in self.sent]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) if numbers else True
        assert not self.is_open or len(self.sent) <= self.limit

    def teardown(self) -> None:
        open_(self.outbox, 100, 100)
        assert _names(self.outbox.take(0)) == self.pending


def _names(messages: list[pb.ConnectRequest]) -> list[str]:
    return [
        r.order_result.order_id or r.baseline_query.query_id for r in reports(messages) if not r.HasField("heartbeat")
    ]


TestOutboxMachine = OutboxMachine.TestCase


@given(st.lists(st.integers(0, 30), max_size=40))
def test_the_last_heartbeat_of_each_base_arrives(bases: list[int]) -> None:
    outbox = opened(max_unacked=1, max_batch=3)
    latest = {}
    for port, base in enumerate(bases, start=1):
        outbox.put(heartbeat(str(base), port), 0)
        latest[str(base)] = port
    arrived = {}
    while messages := outbox.take(0):
        for report in reports(messages):
            arrived[report.base_id] = report.heartbeat.address.port
        outbox.ack(seq(messages[-1]))
    assert arrived == latest
