"""Topics and envelopes that are not understood are refused, never read in part."""

import contextlib
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.arklet import envelopes, payloads, topics
from gateways.arklet.envelopes import Envelope
from gateways.arklet.fields import Malformed
from gateways.arklet.names import InvalidName
from gateways.arklet.payloads import Negative
from gateways.arklet.topics import InvalidTopic, Word
from tests.unit.gateways import said

READERS: list[Callable[[Envelope], object]] = [
    envelopes.heartbeat,
    lambda opened: payloads.baseline_query(opened.content),
    lambda opened: payloads.health(opened.content),
    lambda opened: payloads.simple_modules(opened.data),
    lambda opened: payloads.modules(opened.content),
    envelopes.operation,
    envelopes.batch_reply,
]
KEYS = st.sampled_from(
    [
        *("baseMetadata", "identity", "name", "version", "state", "bizName", "bizVersion", "command", "response"),
        *("code", "data", "bizInfos", "bizUrlToResponse", "latestStateRecord", "changeTime", "healthData", "jvm"),
        *("port", "message"),
    ]
)
WORDS = st.sampled_from(["installBiz", "SUCCESS", "FAILED", "ACTIVATED", "activated", "a", "", "3"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text() | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=8), inner, max_size=6),
    max_leaves=20,
)


@given(st.binary())
def test_arbitrary_bytes_are_malformed_or_an_envelope(payload: bytes) -> None:
    with contextlib.suppress(Malformed):
        assert envelopes.envelope(payload).published_at > 0


@pytest.mark.parametrize("reader", READERS)
@given(data=JSON)
def test_arbitrary_data_is_understood_or_refused(reader: Callable[[Envelope], object], data: Any) -> None:
    payload = orjson.dumps({"data": data, "publishTimestamp": 1})
    with contextlib.suppress(Malformed, Negative):
        reader(envelopes.envelope(payload))


@pytest.mark.parametrize(
    ("text", "ip"), [("10.0.0.7", "10.0.0.7"), ("fd00::7", "fd00::7"), ("unknown", ""), ("", ""), (None, "")]
)
def test_an_invalid_address_is_left_out(text: str | None, ip: str) -> None:
    data = {"baseMetadata": {"identity": "a"}, "localIP": text, "port": "none"}
    assert envelopes.heartbeat(Envelope(data, 1)) == said.heartbeat("a", ip=ip)


@pytest.mark.parametrize("stamp", [None, "1700000000123", 1.5, True, 0, -1, 2**62])
def test_a_valid_stamp_is_required(stamp: object) -> None:
    with pytest.raises(Malformed, match="publishTimestamp"):
        envelopes.envelope(orjson.dumps({"data": {}, "publishTimestamp": stamp}))


def test_a_short_module_list_is_read() -> None:
    payload = (
        b'{"data":[{"latestStateRecord":{"changeTime":1700000004567,"message":"","reason":"STARTED","state":"ACTIVATED"},'
        b'"name":"biz1","state":"activated","version":"0.0.1"},'
        b'{"latestStateRecord":null,"name":"biz2","state":"resolved","version":"1"}],"publishTimestamp":1700000000123}'
    )
    assert payloads.simple_modules(envelopes.envelope(payload).data).modules == [
        said.module("biz1", "0.0.1", "ACTIVATED", 1700000004567, "STARTED"),
        said.module("biz2", "1", "RESOLVED"),
    ]


def test_a_list_is_never_read_in_part() -> None:
    with pytest.raises(Malformed, match=r"data\[1\]\.name"):
        payloads.simple_modules([{"name": "a", "version": "1"}, {"version": "1"}])


@given(st.text(max_size=80))
def test_a_topic_is_read_exactly_or_refused(topic: str) -> None:
    with contextlib.suppress(InvalidTopic, InvalidName):
        base, word = topics.parse(topic, "dev")
        assert topic == f"koupleless_dev/{base}/base/{word.value}"


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "koupleless_dev/a/base",
        "koupleless_dev/a/base/heart/x",
        "/koupleless_dev/a/base/heart",
        "koupleless_prod/a/base/heart",
        "koupleless_Dev/a/base/heart",
        "koupleless_dev/a/bases/heart",
        "koupleless_dev/a/base/Heart",
    ],
)
def test_other_topics_are_refused(topic: str) -> None:
    with pytest.raises(InvalidTopic):
        topics.parse(topic, "dev")


@pytest.mark.parametrize("identity", ["", "A", "a_b", "+", "#", ".", "a" * 250])
def test_invalid_identities_are_refused(identity: str) -> None:
    with pytest.raises(InvalidName):
        topics.parse(f"koupleless_dev/{identity}/base/heart", "dev")


def test_topics_to_bases_name_the_base() -> None:
    assert topics.command("dev", "10.0.0.7", pb.VERB_QUERY_MODULES) == "koupleless_dev/10.0.0.7/queryAllBiz"
    assert topics.baseline("dev", "10.0.0.7") == "koupleless_dev/10.0.0.7/base/baseline"
    assert topics.from_all("dev", Word.HEART) == "koupleless_dev/+/base/heart"
    for topic in topics.to_all("dev"):
        assert topics.addressee(topic.replace("+", "a"), "dev") == "a"
    assert topics.addressee("koupleless_dev/a/base/heart", "dev") is None
    assert topics.addressee("koupleless_dev/A/health", "dev") is None
