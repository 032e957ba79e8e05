"""Topics and payloads of a simulated base over MQTT."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulatedbase.java import thrown
from simulatedbase.mqtt import wire
from simulatedbase.runtime import Biz, ModuleState

TOPICS = wire.Topics("dev", "10.0.0.7")
COMMANDS = ["health", "queryAllBiz", "installBiz", "uninstallBiz", "batchInstallBiz", "switchBiz"]


def biz(*changes: tuple[ModuleState, str]) -> Biz:
    made = Biz("biz1", "0.0.1")
    for number, (state, reason) in enumerate(changes):
        made.enter(state, 1000 + number, reason)
    return made


def test_topics_have_environment_and_identity() -> None:
    assert TOPICS.own("heart") == "koupleless_dev/10.0.0.7/base/heart"
    assert TOPICS.subscriptions() == ("koupleless_dev/10.0.0.7/+", "koupleless_dev/10.0.0.7/base/baseline")


@pytest.mark.parametrize(
    ("topic", "command"),
    [
        ("koupleless_dev/10.0.0.7/installBiz", "installBiz"),
        ("koupleless_dev/10.0.0.7/switchBiz", None),
        ("koupleless_dev/10.0.0.7/batchInstallBiz", None),
        ("koupleless_dev/10.0.0.7/baseline", None),
        ("koupleless_dev/10.0.0.7/base/baseline", "batchInstallBiz"),
    ],
)
def test_only_topics_of_commands_name_one(topic: str, command: str | None) -> None:
    assert TOPICS.command(topic) == command


def test_the_envelope_has_data_and_time() -> None:
    assert wire.envelope([], 1_700_000_000_123) == b'{"data":[],"publishTimestamp":1700000000123}'


@pytest.mark.parametrize(
    ("command", "payload", "parameters"),
    [
        ("health", b"", None),
        ("health", b" ", None),
        ("installBiz", b"null", None),
        ("installBiz", b'{"bizName":"a"}', {"bizName": "a"}),
        ("batchInstallBiz", b"", {"bizList": None}),
        ("batchInstallBiz", b"[]", {"bizList": []}),
        ("batchInstallBiz", b'[{"bizName":"a"}]', {"bizList": [{"bizName": "a"}]}),
    ],
)
def test_payloads_are_read_as_parameters(command: str, payload: bytes, parameters: Any) -> None:
    assert wire.parameters(command, payload) == parameters


@pytest.mark.parametrize(
    ("command", "payload"),
    [
        ("health", b"xx"),
        ("health", b"[]"),
        ("health", b"7"),
        ("installBiz", b"\xff"),
        ("batchInstallBiz", b"{}"),
        ("batchInstallBiz", b"[1]"),
        ("batchInstallBiz", b"[null]"),
    ],
)
def test_malformed_payloads_are_refused(command: str, payload: bytes) -> None:
    with pytest.raises(ValueError):
        wire.parameters(command, payload)


@given(st.sampled_from(COMMANDS), st.binary())
def test_any_bytes_are_parameters_or_malformed(command: str, payload: bytes) -> None:
    try:
        parameters = wire.parameters(command, payload)
    except ValueError:
        return
    assert parameters is None or isinstance(parameters, dict)


def test_modules_are_listed_with_nulls_and_both_casings() -> None:
    started = biz((ModuleState.RESOLVED, "Created"), (ModuleState.ACTIVATED, "Started"))
    assert orjson.dumps(wire.simple_biz([started]), option=orjson.OPT_SORT_KEYS) == (
        b'[{"latestStateRecord":{"changeTime":1001,"message":"","reason":"STARTED","state":"ACTIVATED"},'
        b'"name":"biz1","state":"activated","version":"0.0.1"}]'
    )


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Created", "CREATED"),
        ("Install Failed", "INSTALL_FAILED"),
        ("Uninstall Failed", "UN_INSTALL_FAILED"),
        ("Switched", "SWITCHED"),
    ],
)
def test_reasons_are_written_by_name(text: str, name: str) -> None:
    answer = wire.by_name({"bizStateRecords": [{"changeTime": 1, "message": "", "reason": text, "state": "broken"}]})
    assert answer["bizStateRecords"] == [{"changeTime": 1, "message": "", "reason": name, "state": "BROKEN"}]


def test_states_are_written_by_name_and_nothing_else_changes() -> None:
    health = {"bizListInfo": [{"bizName": "shop", "bizState": "activated"}], "jvm": {"java version": "1.8", "free": 1}}
    assert wire.by_name(health) == {
        "bizListInfo": [{"bizName": "shop", "bizState": "ACTIVATED"}],
        "jvm": {"java version": "1.8", "free": 1},
    }


def test_response_does_not_name_the_base() -> None:
    answer = wire.response({"code": "FAILED", "message": "no", "baseIdentity": "10.0.0.7"})
    assert answer == {"code": "FAILED", "message": "no"}


def test_exception_is_failed_with_its_trace_in_the_data() -> None:
    answer = wire.response(thrown("java.net.MalformedURLException", "unknown protocol: oss"))
    assert answer["code"] == answer["data"]["code"] == "FAILED"
    assert answer["message"] == "java.net.MalformedURLException: unknown protocol: oss"
    assert (
        "ArkletRuntimeException: java.net.MalformedURLException: unknown protocol: oss\n\tat "
        in answer["data"]["message"]
    )
    assert "errorStackTrace" not in answer


def test_an_operation_names_its_module() -> None:
    given = {"bizVersion": "1", "bizUrl": "u"}
    assert wire.answer("installBiz", given, {"code": "SUCCESS"}, []) == (
        "bizOperation",
        {"bizVersion": "1", "command": "installBiz", "response": {"code": "SUCCESS"}},
    )
