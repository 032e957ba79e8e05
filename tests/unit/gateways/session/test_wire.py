"""Answers of arklet are parsed, limits hold, and messages to and from replicas have their wire form."""

from contextlib import suppress

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.arklet import payloads
from gateways.arklet.fields import Malformed
from gateways.http.responses import Lost
from gateways.session.orders import of_order, refused
from gateways.session.outbox import Outbox
from gateways.session.validation import MAX_TIMEOUT, InvalidMessage, check, seconds
from service.limits import LogLimit, RateLimit
from tests.unit.gateways import said
from tests.unit.gateways.answers import parse


class TestParse:
    def test_a_body_may_end_with_the_connection(self) -> None:
        assert parse(b"HTTP/1.1 200 OK\r\n\r\n{}") == b"{}"

    def test_a_body_ends_at_its_length(self) -> None:
        assert parse(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}trailing") == b"{}"

    def test_chunks_are_joined(self) -> None:
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n"
        assert parse(head + b"1;x=y\r\n{\r\n1\r\n}\r\n0\r\n\r\n") == b"{}"

    @pytest.mark.parametrize(
        "answer",
        [
            b"",
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/2 200\r\n\r\n{}",
            b"HTTP/1.1 2x0 OK\r\n\r\n{}",
            b"HTTP/1.1 204 No Content\r\n\r\n",
            b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\n\r\n{}",
            b"HTTP/1.1 500 Internal Server Error\r\nContent_Length: 2\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n{}\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffff\r\n{}\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n{}",
        ],
    )
    def test_everything_else_is_lost(self, answer: bytes) -> None:
        with pytest.raises(Lost):
            parse(answer)

    @given(st.binary() | st.binary().map(lambda tail: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + tail))
    def test_bytes_are_an_answer_or_lost(self, answer: bytes) -> None:
        with suppress(Lost):
            assert parse(answer)


class TestLimits:
    def test_a_burst_is_followed_by_the_rate(self) -> None:
        limit = RateLimit(rate=2, burst=3)
        assert [limit.admit("a", 0) for _ in range(4)] == [0, 0, 0, 0.5]
        assert limit.admit("b", 0) == 0
        assert limit.admit("a", 0.5) == 0
        assert limit.admit("a", 0.5) == 0.5
        assert [limit.admit("a", 100) for _ in range(4)] == [0, 0, 0, 0.5]

    def test_peers_are_bounded(self) -> None:
        limit = RateLimit(rate=1, burst=1, max_peers=2)
        for peer in "abc":
            assert limit.admit(peer, 0) == 0
        assert limit.admit("c", 0) > 0
        assert limit.admit("a", 0) == 0, "forgotten"

    def test_log_lines_are_limited(self) -> None:
        limit = LogLimit(10, max_peers=2)
        assert [limit.admit("a", at) for at in (0, 1, 9.9, 10, 11)] == [0, None, None, 2, None]
        assert limit.admit("b", 11) == 0
        assert limit.admit("c", 11) == 0
        assert limit.admit("a", 11) == 0, "forgotten"


class TestToReplicas:
    """Messages to replicas are as the contract says."""

    def test_every_module_state_has_its_wire_form(self) -> None:
        states = [value.name.removeprefix("MODULE_STATE_") for value in pb.ModuleState.DESCRIPTOR.values]
        record = {"changeTime": 1_700_000_000_123}
        listed = [{"name": state, "version": "1", "state": state, "latestStateRecord": record} for state in states]
        outbox = Outbox()
        outbox.open(pb.Limits(), lambda can_wait: None)
        report = pb.Report(base_id="b", modules=payloads.simple_modules(listed))
        report.modules.epoch = 7
        outbox.put(report, 0.0)
        (message,) = outbox.take(0.0)
        (sent,) = pb.ConnectRequest.FromString(message.SerializeToString()).reports.reports
        assert [pb.ModuleState.Name(x.state).removeprefix("MODULE_STATE_") for x in sent.modules.modules] == states
        assert sent.modules.modules[0].changed_at.ToMilliseconds() == 1_700_000_000_123
        assert (sent.modules.complete, sent.modules.unchanged, sent.modules.epoch) == (True, False, 7)

    @pytest.mark.parametrize("reason", pb.RefusalReason.values())
    def test_refusals_have_their_wire_form(self, reason: pb.RefusalReason.ValueType) -> None:
        outbox = Outbox()
        outbox.open(pb.Limits(), lambda can_wait: None)
        outbox.keep(of_order(said.order("o"), refused(reason, "why")))
        (message,) = outbox.take(0.0)
        (report,) = message.reports.reports
        result = report.order_result
        assert (message.reports.seq, result.order_id, report.base_id) == (1, "o", "b")
        assert (result.refused.reason, result.refused.message) == (reason, "why")

    @given(st.integers(-(2**70), 2**70), st.integers(-(2**70), 2**70))
    def test_any_number_of_a_base_can_be_carried(self, size: int, time: int) -> None:
        jvm = {f"java {figure} metaspace": size for figure in ("used", "committed", "max")}
        payloads.health({"code": 0, "data": {"healthData": {"jvm": jvm}}}).SerializeToString()
        record = {"changeTime": time}
        entry = {"name": "a", "version": "1", "state": "broken", "latestStateRecord": record}
        payloads.simple_modules([entry]).SerializeToString()
        with suppress(Malformed):
            assert -1 <= payloads.port({"port": size}) <= 65535


class TestFromReplicas:
    """A message of a replica is valid, or InvalidMessage is raised."""

    def test_valid_messages_pass(self) -> None:
        for message in (
            pb.ConnectResponse(),
            pb.ConnectResponse(welcome=pb.Welcome(replica_id="r")),
            pb.ConnectResponse(reports_ack=pb.ReportsAck()),
            pb.ConnectResponse(order=said.order("o", pb.VERB_INSTALL, "biz1")),
            pb.ConnectResponse(watch=said.watch()),
            pb.ConnectResponse(claim=pb.Claim(base_id="b")),
            pb.ConnectResponse(members=pb.Members()),
            pb.ConnectResponse(drain=pb.Drain()),
        ):
            check(message)

    @pytest.mark.parametrize(
        ("message", "reason"),
        [
            (pb.ConnectResponse(order=said.order("")), "Order without order_id"),
            (pb.ConnectResponse(order=said.order("o", base="")), "Order without base_id"),
            (pb.ConnectResponse(order=said.order("o", pb.VERB_UNSPECIFIED)), "Order with unknown verb 0"),
            (pb.ConnectResponse(order=said.order("o", timeout=0)), "Order.timeout of 0 s is not in 0 to 86400"),
            (pb.ConnectResponse(order=said.order("o", timeout=MAX_TIMEOUT + 1)), "Order.timeout of 86401 s"),
            (pb.ConnectResponse(watch=pb.Watch()), "Watch without base_id"),
            (pb.ConnectResponse(watch=pb.Watch(base_id="b")), "Watch.modules_interval of 0 s"),
            (pb.ConnectResponse(unwatch=pb.Unwatch(fence=1)), "Unwatch without base_id"),
            (pb.ConnectResponse(claim=pb.Claim(fence=1)), "Claim without base_id"),
            (pb.ConnectResponse(release=pb.Release(fence=1)), "Release without base_id"),
            (pb.ConnectResponse(baseline_answer=pb.BaselineAnswer()), "BaselineAnswer without base_id"),
        ],
    )
    def test_invalid_messages_are_refused(self, message: pb.ConnectResponse, reason: str) -> None:
        with pytest.raises(InvalidMessage, match=reason):
            check(message)

    @pytest.mark.parametrize("interval", ["modules_interval", "health_interval", "silent_health_interval"])
    @pytest.mark.parametrize("wrong", [Duration(), Duration(seconds=-1), Duration(seconds=2**62), Duration(nanos=-1)])
    def test_each_interval_is_checked(self, interval: str, wrong: Duration) -> None:
        watch = said.watch()
        getattr(watch, interval).CopyFrom(wrong)
        with pytest.raises(InvalidMessage, match=interval):
            check(pb.ConnectResponse(watch=watch))

    def test_durations_are_read_as_seconds(self) -> None:
        assert seconds(Duration(seconds=1, nanos=500_000_000)) == 1.5

    @given(st.binary(max_size=64))
    def test_bytes_of_a_replica_are_a_message_or_malformed(self, data: bytes) -> None:
        message = pb.ConnectResponse()
        with suppress(DecodeError, InvalidMessage):
            message.ParseFromString(data)
            check(message)
