"""Answers of arklet on the byte level, limits, and messages to and from protobuf."""

from __future__ import annotations

from contextlib import suppress

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.arklet import facts
from gateways.http.arklet_client import Lost, parse
from gateways.limits import RateLimit
from gateways.session import codec
from gateways.session import messages as m
from service.limits import LogLimit


class TestParse:
    def test_a_body_ended_by_closing(self) -> None:
        assert parse(b"HTTP/1.1 200 OK\r\n\r\n{}") == b"{}"

    def test_a_body_with_its_length(self) -> None:
        assert parse(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}trailing") == b"{}"

    def test_chunks(self) -> None:
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
    def test_a_burst_then_the_rate(self) -> None:
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

    def test_log_lines(self) -> None:
        limit = LogLimit(10, max_peers=2)
        assert [limit.admit("a", at) for at in (0, 1, 9.9, 10, 11)] == [0, None, None, 2, None]
        assert limit.admit("b", 11) == 0
        assert limit.admit("c", 11) == 0
        assert limit.admit("a", 11) == 0, "forgotten"


class TestCodec:
    def test_every_enum_value_has_its_wire_form(self) -> None:
        modules = tuple(facts.Module(s.name, "1", s, changed_at=1_700_000_000_123) for s in facts.ModuleState)
        encoded = codec.reports(1, [m.Report("b", m.ModuleList(modules, 7), 12.5)]).reports
        (report,) = encoded.reports
        assert report.observed_at.ToMilliseconds() == 12_500
        assert [pb.ModuleState.Name(x.state) for x in report.modules.modules] == [
            f"MODULE_STATE_{s.name}" for s in facts.ModuleState
        ]
        assert report.modules.modules[0].changed_at.ToMilliseconds() == 1_700_000_000_123
        assert (report.modules.complete, report.modules.unchanged, report.modules.epoch) == (True, False, 7)

    @pytest.mark.parametrize("refusal", m.Refusal)
    def test_refusals(self, refusal: m.Refusal) -> None:
        result = codec.order_result(3, m.OrderResult("o", "b", m.Refused(refusal, "why"))).order_result
        assert (result.seq, result.order_id, result.base_id, result.refused.message) == (3, "o", "b", "why")
        assert pb.RefusalReason.Name(result.refused.reason) == f"REFUSAL_REASON_{refusal.name}"

    def test_a_batch(self) -> None:
        reply = facts.Reply(facts.ReplyCode.FAILED, facts.ClientCode.REPEAT_BIZ, "m", "t")
        outcome = facts.BatchReply(facts.Reply(facts.ReplyCode.FAILED), (("u", reply),))
        batch = codec.order_result(1, m.OrderResult("o", "b", outcome)).order_result.batch
        assert batch.reply.code == pb.REPLY_CODE_FAILED
        assert batch.items[0].url == "u"
        assert batch.items[0].reply.client_code == pb.CLIENT_CODE_REPEAT_BIZ

    @given(st.integers(-(2**70), 2**70), st.integers(-(2**70), 2**70))
    def test_any_number_of_a_base_can_be_carried(self, size: int, time: int) -> None:
        health = facts.Health(metaspace=facts.Metaspace(size, size, size))
        module = facts.Module("a", "1", facts.ModuleState.BROKEN, changed_at=time)
        codec.reports(1, [m.Report("b", health, 0), m.Report("b", m.ModuleList((module,)), 0)]).SerializeToString()

    def test_an_order(self) -> None:
        module = pb.OrderModule(name="a", version="1", url="u", args=["x"], envs={"k": "v"}, strategy=2)  # type: ignore[arg-type]
        order = pb.Order(
            order_id="o",
            fence=3,
            base_id="b",
            address=pb.Address(ip="10.0.0.1", port=1),
            verb=pb.VERB_INSTALL,
            modules=[module],
            timeout=Duration(seconds=1, nanos=500_000_000),
        )
        assert codec.downward(pb.ConnectResponse(order=order)) == m.Order(
            order_id="o",
            fence=3,
            base="b",
            address=m.Address("10.0.0.1", 1),
            verb=facts.Verb.INSTALL,
            modules=(
                facts.ModuleOrder("a", "1", "u", ("x",), (("k", "v"),), facts.InstallStrategy.UNINSTALL_THEN_INSTALL),
            ),
            timeout=1.5,
        )

    @given(st.binary(max_size=64))
    def test_bytes_of_a_replica_are_a_message_or_malformed(self, data: bytes) -> None:
        message = pb.ConnectResponse()
        with suppress(DecodeError, codec.Malformed):
            message.ParseFromString(data)
            codec.downward(message)
