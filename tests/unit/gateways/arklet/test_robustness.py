"""No bytes make a reader raise anything but Malformed or Negative, or return text beyond its limits."""

import contextlib
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateways.arklet import payloads
from gateways.arklet.fields import Json, Malformed, first_object
from gateways.arklet.payloads import Negative
from gateways.arklet.text import MESSAGE_LIMIT, NAME_LIMIT, TRACE_LIMIT, clip, clip_message, clip_trace
from service.masking import masked

READERS: list[Callable[[Json], object]] = [
    payloads.heartbeat,
    payloads.port,
    payloads.baseline_query,
    payloads.reply,
    payloads.batch_reply,
    payloads.modules,
    payloads.health,
    payloads.help_commands,
]

KEYS = st.sampled_from(
    """
    code message data errorStackTrace bizInfos bizName bizVersion bizState bizStateRecords changeTime reason state
    healthData jvm masterBizInfo bizUrlToResponse id mainClass baseMetadata identity name version clusterName
    localIP localHostName port
    """.split()  # noqa: SIM905
) | st.sampled_from(["java used metaspace", "java committed metaspace", "java max metaspace", "java version"])
WORDS = st.sampled_from(["SUCCESS", "FAILED", "activated", "BROKEN", "REPEAT_BIZ", "2", "\n\tat x\nCaused by: y"])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | WORDS
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=5), inner, max_size=6),
    max_leaves=40,
)
ANSWERS = st.fixed_dictionaries({"code": WORDS | SCALARS}, optional={"data": VALUES, "message": VALUES})
HEARTBEATS = st.fixed_dictionaries(
    {"baseMetadata": st.dictionaries(KEYS, VALUES, max_size=5)}, optional={"port": SCALARS, "state": SCALARS}
)


@pytest.mark.parametrize("read", READERS)
@given(body=st.binary(max_size=200))
def test_arbitrary_bytes_are_read_or_refused(read: Callable[[Json], object], body: bytes) -> None:
    with contextlib.suppress(Malformed, Negative):
        read(first_object(body))


@pytest.mark.parametrize("read", READERS)
@given(value=VALUES | ANSWERS | HEARTBEATS, rest=st.binary(max_size=5))
def test_arbitrary_objects_are_read_or_refused(read: Callable[[Json], object], value: Any, rest: bytes) -> None:
    with contextlib.suppress(Malformed, Negative):
        read(first_object(orjson.dumps(value) + rest))


@given(value=ANSWERS, cut=st.integers(1, 50))
def test_a_cut_answer_is_malformed(value: Any, cut: int) -> None:
    body = orjson.dumps(value)
    with pytest.raises(Malformed):
        payloads.reply(first_object(body[: max(0, len(body) - cut)]))


@given(message=st.text(max_size=3000), trace=st.text(max_size=6000), reason=st.text(max_size=300))
def test_replies_stay_within_limits(message: str, trace: str, reason: str) -> None:
    record = {"changeTime": 1, "message": trace, "reason": reason}
    info = {"bizName": "a", "bizVersion": "1", "bizState": "broken", "bizStateRecords": [record]}
    reply = payloads.reply(
        {"code": 1, "message": message, "errorStackTrace": trace, "data": {"message": trace, "bizInfos": [info]}}
    )
    assert len(reply.message) <= MESSAGE_LIMIT
    assert len(reply.stack_trace) <= TRACE_LIMIT
    assert len(reply.modules[0].message) <= MESSAGE_LIMIT
    assert len(reply.modules[0].reason) <= NAME_LIMIT


LINES = st.lists(st.sampled_from(["a.B: c", "\tat x.Y.z(Y.java:1)", "Caused by: d.E: f", "g" * 300]), max_size=60)


@given(lines=LINES, limit=st.integers(64, 2000))
def test_traces_are_cut_to_the_last_cause(lines: list[str], limit: int) -> None:
    trace = "\n".join(lines)
    cut = clip_trace(trace, limit)
    assert len(cut) <= limit
    if len(trace) <= limit:
        assert cut == trace
    elif "\nCaused by: " in trace:
        assert "\nCaused by: d.E: f" in cut
    assert clip_trace(cut, limit) == cut


@given(text=st.text(max_size=3000))
def test_messages_lose_control_characters_only(text: str) -> None:
    cut = clip_message(text)
    assert not any(ord(character) < 32 and character not in "\t\n" for character in cut)
    if text.isprintable() and len(text) <= MESSAGE_LIMIT:
        assert cut == masked(text)
    assert len(clip(text, 10)) <= 10


@pytest.mark.parametrize("before", range(MESSAGE_LIMIT - 60, MESSAGE_LIMIT, 7))
def test_a_secret_that_is_cut_in_two_is_masked(before: int) -> None:
    text = f"{'x' * before} http://user:pass-word@repo.example/biz1.jar?Signature=5ecret {'y' * MESSAGE_LIMIT}"
    for cut in (clip_message(text), clip_trace(text, MESSAGE_LIMIT)):
        assert len(cut) <= MESSAGE_LIMIT
        assert not any(secret in cut for secret in ("user:", "pass", "5ec"))
