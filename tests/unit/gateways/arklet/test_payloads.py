"""Codecs read the answers that bases of different runtimes give."""

from typing import Any

import orjson
import pytest
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.arklet import payloads
from gateways.arklet.fields import Json, Malformed
from gateways.arklet.payloads import Negative
from tests.unit.gateways import said
from tests.unit.gateways.arklet.reading import answer, health, help_commands, modules, of_bytes


def heartbeat_of(data: Json) -> pb.Report:
    """Read a heartbeat as over HTTP."""
    report, port = payloads.heartbeat(data), payloads.port(data)
    report.heartbeat.address.port = max(port, 0)
    return report


heartbeat = of_bytes(heartbeat_of)


baseline_query = of_bytes(payloads.baseline_query)


reply = of_bytes(payloads.reply)


batch_reply = of_bytes(payloads.batch_reply)


HEARTBEAT: dict[str, Any] = {
    "baseMetadata": {"clusterName": "blue", "identity": "10.0.0.7", "name": "shop-base", "version": "1.0.0"},
    "localHostName": "shop-base-6f7c",
    "localIP": "10.0.0.7",
    "port": 1238,
    "state": "activated",
}


def heartbeat_body(**changes: Any) -> bytes:
    return orjson.dumps(HEARTBEAT | changes)


def test_heartbeat_of_a_java_base_is_read() -> None:
    assert heartbeat(heartbeat_body()) == said.heartbeat(
        "10.0.0.7",
        "shop-base",
        "1.0.0",
        "blue",
        host_name="shop-base-6f7c",
        ip="10.0.0.7",
        port=1238,
        state="ACTIVATED",
    )


def test_heartbeat_needs_nothing_but_an_identity() -> None:
    assert heartbeat(b'{"baseMetadata":{"identity":"a","name":null}}') == said.heartbeat("a")


@pytest.mark.parametrize(
    ("value", "state"),
    [
        ("activated", pb.BASE_STATE_ACTIVATED),
        ("DEACTIVATED", pb.BASE_STATE_DEACTIVATED),
        ("Deactivated", pb.BASE_STATE_DEACTIVATED),
        ("resting", pb.BASE_STATE_UNKNOWN),
        ("", pb.BASE_STATE_UNSPECIFIED),
        (None, pb.BASE_STATE_UNSPECIFIED),
    ],
)
def test_heartbeat_state_is_read_in_any_case(value: str | None, state: pb.BaseState.ValueType) -> None:
    assert heartbeat(heartbeat_body(state=value)).heartbeat.state == state


@pytest.mark.parametrize(
    ("value", "port"),
    [
        (-1, -1), (0, 0), (1, 1), (65535, 65535), (1238.0, 1238), ("1238", 1238), ("0", 0), ("-1", -1),
        (None, 0), ("", 0),
    ],
)  # fmt: skip
def test_heartbeat_port_is_a_number_or_text_or_missing(value: object, port: int) -> None:
    assert payloads.port(HEARTBEAT | {"port": value}) == port


def test_over_mqtt_a_port_is_ignored() -> None:
    ports: list[Any] = [1238, -1, 70000, "x", {}, None]
    for port in ports:
        assert payloads.heartbeat(HEARTBEAT | {"port": port}).heartbeat.address.port == 0


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"", "not a JSON object"),
        (b"nonsense", "not a JSON object"),
        (b"[]", "not a JSON object but a list"),
        (b"<html></html>", "not a JSON object"),
        (b'{"baseMetadata":', "not a JSON object"),
        (b"[" * 100_000, "not a JSON object"),
        (b"{}", "baseMetadata: expected an object, got nothing"),
        (b'{"baseMetadata":null}', "baseMetadata: expected an object, got null"),
        (b'{"baseMetadata":{}}', "baseMetadata.identity: missing"),
        (b'{"baseMetadata":{"identity":""}}', "baseMetadata.identity: empty"),
        (b'{"baseMetadata":{"identity":["a"]}}', "baseMetadata.identity: expected text, got a list"),
        (b'{"baseMetadata":{"identity":"a","name":3}}', "baseMetadata.name: expected text, got a number"),
        (heartbeat_body(localIP={}), "localIP: expected text, got an object"),
        (heartbeat_body(state=True), "state: expected text, got a boolean"),
        (heartbeat_body(port="http"), "port: expected a whole number, got text"),
        (heartbeat_body(port=" 1238"), "port: expected a whole number, got text"),
        (heartbeat_body(port="1238.0"), "port: expected a whole number, got text"),
        (heartbeat_body(port="²"), "port: expected a whole number, got text"),
        (heartbeat_body(port="70000"), "port: 70000 is not within -1 to 65535"),
        (heartbeat_body(port="9" * 5000), "port: expected a whole number, got text"),
        (heartbeat_body(port=1e300), "is not within -1 to 65535"),
        (heartbeat_body(port=[]), "port: expected a whole number, got a list"),
        (heartbeat_body(port=1238.5), "port: expected a whole number, got a number"),
        (heartbeat_body(port=True), "port: expected a whole number, got a boolean"),
        (heartbeat_body(port=70000), "port: 70000 is not within -1 to 65535"),
        (heartbeat_body(port=-2), "port: -2 is not within -1 to 65535"),
        (heartbeat_body(baseMetadata={"identity": "a" * 1025}), "baseMetadata.identity: longer than 1024 characters"),
    ],
)
def test_wrong_heartbeat_is_refused_naming_the_member(body: bytes, named: str) -> None:
    with pytest.raises(Malformed) as refused:
        heartbeat(body)
    assert named in str(refused.value)


def test_identity_of_no_dns_form_is_passed_on_unaltered() -> None:
    identity = "Not/A" + "b" * 300
    assert heartbeat(heartbeat_body(baseMetadata={"identity": identity})).base_id == identity


def test_text_in_the_charset_of_the_jvm_is_replaced_not_refused() -> None:
    result = baseline_query('{"identity":"a","name":"Geschäft"}'.encode("latin-1"))
    assert result == said.query("a", name="Gesch�ft")


def test_long_and_hostile_text_is_cut_and_cleaned() -> None:
    result = baseline_query(orjson.dumps({"identity": "a", "name": "\x1b[31m" + "n" * 1000}))
    assert result.baseline_query.name.startswith(" [31mnn")
    assert len(result.baseline_query.name) == 256


INSTALLED = {
    "bizInfos": [
        {
            "attributes": {},
            "bizName": "biz1",
            "bizState": "activated",
            "bizStateRecords": [
                {"changeTime": 1700000000123, "message": "", "reason": "Created", "state": "resolved"},
                {"changeTime": 1700000004567, "message": "", "reason": "Started", "state": "activated"},
            ],
            "bizVersion": "0.0.1",
        }
    ],
    "code": "SUCCESS",
    "elapsedSpace": -12,
    "message": "Install Biz: biz1:0.0.1 success, cost: 4444 ms, started at: 10:11:12,345",
}


def test_reply_to_an_install_is_read() -> None:
    assert reply(answer(INSTALLED)) == said.reply(
        "SUCCESS",
        "SUCCESS",
        "Install Biz: biz1:0.0.1 success, cost: 4444 ms, started at: 10:11:12,345",
        [said.module("biz1", "0.0.1", "ACTIVATED", 1700000004567, "Started")],
    )


@pytest.mark.parametrize("infos", [None, [], {}, "x", [None], [{"bizName": 3}], [[]]])
def test_reply_without_readable_modules_has_none(infos: Any) -> None:
    assert reply(answer({"code": "SUCCESS", "bizInfos": infos})).modules == []


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("SUCCESS", pb.REPLY_CODE_SUCCESS),
        ("success", pb.REPLY_CODE_SUCCESS),
        (0, pb.REPLY_CODE_SUCCESS),
        (1, pb.REPLY_CODE_FAILED),
        ("2", pb.REPLY_CODE_CMD_NOT_FOUND),
        (3, pb.REPLY_CODE_CMD_PROCESS_INTERNAL_ERROR),
        (4, pb.REPLY_CODE_UNSPECIFIED),
        (-1, pb.REPLY_CODE_UNSPECIFIED),
        (True, pb.REPLY_CODE_UNSPECIFIED),
        ("TEAPOT", pb.REPLY_CODE_UNSPECIFIED),
        ("²", pb.REPLY_CODE_UNSPECIFIED),
        ([], pb.REPLY_CODE_UNSPECIFIED),
    ],
)
def test_outer_code_is_a_name_or_ordinal(value: Any, code: pb.ReplyCode.ValueType) -> None:
    assert reply(orjson.dumps({"code": value})).code == code


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("REPEAT_BIZ", pb.CLIENT_CODE_REPEAT_BIZ),
        (2, pb.CLIENT_CODE_REPEAT_BIZ),
        ("3", pb.CLIENT_CODE_NOT_FOUND_BIZ),
        ("illegal_state_biz", pb.CLIENT_CODE_ILLEGAL_STATE_BIZ),
        ("NEW_BIZ", pb.CLIENT_CODE_UNSPECIFIED),
        (None, pb.CLIENT_CODE_UNSPECIFIED),
    ],
)
def test_inner_code_is_another_enum(value: Any, code: pb.ClientCode.ValueType) -> None:
    assert reply(answer({"code": value}, code="FAILED")).client_code == code


def test_inner_message_goes_before_the_outer_one() -> None:
    result = reply(
        answer(
            {"code": "REPEAT_BIZ", "message": "Biz: biz1:0.0.1 has been installed or registered."},
            code="FAILED",
            message="install biz not success!",
        )
    )
    assert result.message == "Biz: biz1:0.0.1 has been installed or registered."


def test_inner_stack_trace_is_a_trace_and_the_outer_message_the_message() -> None:
    result = reply(
        answer(
            {"code": "FAILED", "message": "x.ArkletRuntimeException: unknown protocol: oss\n\tat a.B.c(B.java:1)"},
            code="FAILED",
            message="java.net.MalformedURLException: unknown protocol: oss",
        )
    )
    assert result.message == "java.net.MalformedURLException: unknown protocol: oss"
    assert result.stack_trace.startswith("x.ArkletRuntimeException")


def test_lock_conflict_has_no_data() -> None:
    message = "FAILED:biz1:0.0.1 installBiz conflict, exist unfinished command(installBiz) for this biz"
    result = reply(orjson.dumps({"code": "FAILED", "message": message}))
    assert result == said.reply("FAILED", message=message)


def test_huge_stack_trace_is_cut_to_its_cause() -> None:
    frames = "\tat org.springframework.Frame(Frame.java:1)\n" * 50_000
    trace = (
        f"a.Wrapper: no\n{frames}Caused by: b.Other: no\n{frames}Caused by: java.net.BindException: in use\n{frames}"
    )
    result = reply(
        orjson.dumps({"code": "CMD_PROCESS_INTERNAL_ERROR", "message": "x" * 5000, "errorStackTrace": trace})
    )
    assert len(result.message) == 1024
    assert len(result.stack_trace) == 4096
    assert result.stack_trace.startswith("a.Wrapper: no\n\t...\nCaused by: java.net.BindException: in use\n\tat ")


def test_only_the_first_object_of_a_body_counts() -> None:
    first = '{"code":"CMD_NOT_FOUND","message":"please follow the döc"}'.encode()
    for rest in (b'{"code":"SUCCESS"}', b"HTTP/1.1 200 OK\r\n\r\n{}", b"\x00", b"\xff"):
        assert reply(first + rest) == said.reply("CMD_NOT_FOUND", message="please follow the döc")


@pytest.mark.parametrize("body", [b"", b"{", b"null", b"{}", b'{"code":null}', b"<html>502</html>", b'{"code":"SUC'])
@pytest.mark.parametrize("read", [reply, batch_reply, modules, health, help_commands])
def test_anything_but_an_answer_is_malformed(body: bytes, read: Any) -> None:
    with pytest.raises(Malformed):
        read(body)


@pytest.mark.parametrize("read", [modules, health, help_commands])
def test_a_negative_answer_to_a_question_is_no_fact(read: Any) -> None:
    with pytest.raises(Negative) as refused:
        read(b'{"code":"CMD_PROCESS_INTERNAL_ERROR","message":"Internal Error: null","data":[]}')
    assert refused.value.reply.code == pb.REPLY_CODE_CMD_PROCESS_INTERNAL_ERROR
    assert str(refused.value) == "CMD_PROCESS_INTERNAL_ERROR: Internal Error: null"
    with pytest.raises(Negative):
        read(b'{"code":"TEAPOT"}')


def test_batch_reply_has_a_reply_for_each_url() -> None:
    result = batch_reply(
        answer(
            {
                "bizUrlToResponse": {
                    "http://r/biz1.jar": INSTALLED,
                    "http://r/biz2.jar": {"code": "REPEAT_BIZ", "message": "there"},
                    "http://r/biz3.jar": {"code": "FAILED", "message": "internal exception: x", "bizInfos": None},
                },
                "code": "FAILED",
                "message": "batch install failed",
            },
            code="FAILED",
            message="install biz not success!",
        )
    )
    assert (result.reply.code, result.reply.message) == (pb.REPLY_CODE_FAILED, "batch install failed")
    items = {item.url: item.reply for item in result.items}
    assert items["http://r/biz1.jar"].code == pb.REPLY_CODE_SUCCESS
    assert items["http://r/biz1.jar"].modules[0].name == "biz1"
    assert items["http://r/biz2.jar"] == said.reply("FAILED", "REPEAT_BIZ", "there")
    assert items["http://r/biz3.jar"] == said.reply("FAILED", "FAILED", "internal exception: x")


def test_batch_reply_may_have_no_items() -> None:
    result = batch_reply(answer({"code": "FAILED", "message": "x"}, code="FAILED"))
    assert not result.items


@pytest.mark.parametrize("answers", [{"": {}}, {"u" * 8193: {}}, {"http://r/a.jar": None}, {"http://r/a.jar": []}])
def test_batch_reply_with_unreadable_items_is_malformed(answers: Any) -> None:
    with pytest.raises(Malformed):
        batch_reply(answer({"code": "SUCCESS", "bizUrlToResponse": answers}))
