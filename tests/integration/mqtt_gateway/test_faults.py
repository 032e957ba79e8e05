"""A gateway survives faults of brokers, control planes and messages."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from koupleless.tunnel.v1 import tunnel_pb2 as pb
from prometheus_client import REGISTRY

from mqttclient.connection import MqttConnection, MqttMessage
from tests.fakes.controlplane import FakeControlPlane, order, watch
from tests.integration.mqtt_gateway.bases import SUCCESS, Base, envelope, heart, operation
from tests.integration.mqtt_gateway.conftest import Scene, Start, broker_up, gateway_running
from tests.integration.simulatedbase.wire import broker
from tests.security.attackers.invented import over_mqtt
from tests.servers.mosquitto import Mosquitto

BIZ = pb.OrderModule(name="biz1", version="1", url="http://repo/biz1.jar")


def counted(reason: str) -> float:
    return REGISTRY.get_sample_value("koupleless_mqtt_refused_total", {"reason": reason}) or 0.0


async def eventually(look: Callable[[], object], what: str, within: float = 5.0) -> None:
    async with asyncio.timeout(within):
        while not look():  # noqa: ASYNC110 - what is looked at has no event
            await asyncio.sleep(0.02)
    assert look(), what


HOSTILE: list[tuple[str, Callable[[], bytes], str]] = [
    ("base/heart", lambda: b"", "malformed"),
    ("base/heart", lambda: b"not json", "malformed"),
    ("base/heart", lambda: b"[]", "malformed"),
    ("base/heart", lambda: b"\xff\xfe\x00", "malformed"),
    ("base/heart", lambda: orjson.dumps({"data": heart("base-1")}), "malformed"),
    ("base/heart", lambda: orjson.dumps({"data": heart("base-1"), "publishTimestamp": "1"}), "malformed"),
    ("base/heart", lambda: envelope([]), "malformed"),
    ("base/heart", lambda: envelope({"baseMetadata": 7}), "malformed"),
    ("base/heart", lambda: envelope(heart("somebody-else")), "identity"),
    ("base/heart", lambda: envelope(heart("base-1"), age=60), "stale"),
    ("base/heart", lambda: b'{"a":"' + b"x" * 10_000_000 + b'"}', "too_large"),
    ("base/simpleBiz", lambda: envelope([{"name": "a"}]), "malformed"),
    ("base/simpleBiz", lambda: envelope([], age=11), "stale"),
    ("base/health", lambda: envelope({}), "malformed"),
    ("base/biz", lambda: envelope(None), "malformed"),
    ("base/bizOperation", lambda: envelope({"command": "help", "response": {}}), "malformed"),
    ("base/bizOperation", lambda: envelope({"command": "installBiz"}), "malformed"),
    ("base/batchInstallBizResponse", lambda: envelope({}), "malformed"),
    ("base/queryBaseline", lambda: envelope({"identity": 1}), "malformed"),
]


@pytest.mark.parametrize(("word", "payload", "reason"), HOSTILE, ids=range(len(HOSTILE)))
async def test_what_is_not_understood_changes_nothing(
    scene: Scene, word: str, payload: Callable[[], bytes], reason: str
) -> None:
    base = await scene.base()
    scene.stream.send(watch("base-1", "10.0.0.7", 0))
    await base.command("health")
    before = counted(reason)
    await base.raw(word, payload())
    await eventually(lambda: counted(reason) > before, "counted")
    kinds = {report.WhichOneof("fact") for report in scene.stream.reports}
    assert kinds <= {"tunnel_state", "poll_failed"}
    await base.send_heartbeat()
    await scene.stream.report("heartbeat", "base-1")


async def test_a_stamp_from_the_future_is_taken(scene: Scene) -> None:
    base = await scene.base()
    await base.raw("base/heart", envelope(heart("base-1"), age=-3600))
    await scene.stream.report("heartbeat", "base-1")


@pytest.mark.parametrize("identity", ["Upper-Case", "under_score", "a" * 300])
async def test_an_identity_that_cannot_be_a_node_is_refused(scene: Scene, identity: str) -> None:
    base = await scene.base(identity)
    before = counted("identity")
    await base.send_heartbeat()
    await eventually(lambda: counted("identity") > before, "counted")


async def test_a_batch_without_details_is_taken(scene: Scene) -> None:
    base = await scene.base()
    failed = {"code": "FAILED", "data": {"code": "FAILED", "message": "x"}}
    await base.say("batchInstallBizResponse", {"command": "batchInstallBiz", "response": failed})
    result = (await scene.stream.report("batch_install_result")).batch_install_result
    assert result.reply.code == pb.REPLY_CODE_FAILED
    assert not result.items


async def test_retained_messages_of_bases_are_refused(mosquitto: Mosquitto, start: Start) -> None:
    async with Base(mosquitto.port, "base-1").running() as base:
        listed: list[Any] = []
        await base.raw("base/simpleBiz", envelope(listed), retain=True)
        before = counted("retained")
        await start()
        await eventually(lambda: counted("retained") > before, "counted")


async def test_a_base_in_another_environment_is_named(scene: Scene) -> None:
    stray = await scene.base("lost-base", env="default")
    before = counted("environment")
    await stray.send_heartbeat()
    await eventually(lambda: counted("environment") > before, "counted")


async def test_a_broker_that_goes_and_comes_back(scene: Scene) -> None:
    base = await scene.base()
    await base.send_heartbeat()
    await scene.stream.report("heartbeat")
    scene.stream.send(order("o1", "base-1", 0, pb.VERB_INSTALL, BIZ, timeout=30))
    await base.command("installBiz")
    scene.broker.stop()
    await broker_up(scene.stream, up=False)
    assert (await scene.stream.result("o1")).WhichOneof("outcome") == "unknown"
    code, text = await scene.gateway.status("readyz")
    assert code == 503
    assert "no broker at" in text
    scene.stream.send(order("o2", "base-1", 0, pb.VERB_INSTALL, BIZ))
    refused = (await scene.stream.result("o2")).refused
    assert refused.reason == pb.REFUSAL_REASON_UNREACHABLE
    scene.broker.start()
    before = len(scene.stream.reports)
    await broker_up(scene.stream)
    assert (await scene.gateway.status("readyz"))[0] == 200
    again = await scene.base()
    await again.send_heartbeat()
    await scene.stream.report("heartbeat", after=before)
    scene.stream.send(order("o3", "base-1", 0, pb.VERB_INSTALL, BIZ))
    await again.command("installBiz")
    assert again.commands[0][0] == "installBiz", "nothing of before the outage is sent again"
    assert len(again.bodies("installBiz")) == 1


async def test_a_result_stays_with_the_broker_until_the_control_plane_has_it(scene: Scene) -> None:
    gauge = "koupleless_mqtt_unacknowledged"
    base = await scene.base()
    scene.control_plane.auto_ack = False
    scene.stream.send(order("o1", "base-1", 0, pb.VERB_INSTALL, BIZ))
    await base.command("installBiz")
    await base.say("bizOperation", operation("installBiz", "biz1", "1", SUCCESS))
    await scene.stream.result("o1")
    await asyncio.sleep(0.2)
    assert REGISTRY.get_sample_value(gauge) == 1
    scene.stream.ack()
    await eventually(lambda: REGISTRY.get_sample_value(gauge) == 0, "acknowledged")


async def test_without_control_plane_the_broker_keeps_what_must_arrive(scene: Scene) -> None:
    base = await scene.base()
    await scene.control_plane.stop()
    for number in range(40):
        data = {"bizUrlToResponse": {f"http://repo/biz{number}.jar": {"code": "SUCCESS"}}}
        response = {"command": "batchInstallBiz", "response": {"code": "SUCCESS", "data": data}}
        await base.say("batchInstallBizResponse", response)
    gauge = "koupleless_mqtt_unacknowledged"
    await eventually(lambda: REGISTRY.get_sample_value(gauge) == 20, "as much as the broker has under way")
    await asyncio.sleep(0.3)
    assert REGISTRY.get_sample_value(gauge) == 20
    await scene.control_plane.start()
    stream = await scene.control_plane.stream(1)
    await eventually(lambda: len(list(stream.matching("batch_install_result", "base-1"))) == 40, "all of them")
    await eventually(lambda: REGISTRY.get_sample_value(gauge) == 0, "acknowledged")


async def test_leftovers_of_another_controller_are_removed_once(mosquitto: Mosquitto, start: Start) -> None:
    topics = [f"koupleless_dev/base-1/{word}" for word in ("installBiz", "uninstallBiz", "base/baseline")]
    other = "koupleless_dev/base-2/installBiz"
    empties: list[str] = []
    retained: list[str] = []

    def see(message: MqttMessage) -> None:
        message.receipt.settle()
        (retained if message.retained else empties).append(message.topic)

    watcher = MqttConnection(broker(mosquitto.port), "watcher", see)
    await watcher.open()
    try:
        for topic in [*topics, other]:
            await watcher.publish(topic, b'{"bizName":"x"}', retain=True)
        scene = await start()
        async with Base(mosquitto.port, "base-1").running() as base:
            await watcher.subscribe({"koupleless_dev/base-1/#": 1})
            await eventually(lambda: len(retained) == 3, "they are there")
            await asyncio.sleep(1)
            for _ in range(2):
                await base.send_heartbeat()
            await scene.stream.report("heartbeat")
            await eventually(lambda: set(topics) <= set(empties), "removed", within=20)
            await base.send_heartbeat()
            await asyncio.sleep(0.5)
            assert sorted(t for t in empties if t in topics) == sorted(topics), "each once"
        retained.clear()
        await watcher.subscribe({"koupleless_dev/+/#": 1})
        await eventually(lambda: retained == [other], "that of a base without messages is left alone")
    finally:
        watcher.close()


async def test_two_gateways_with_one_client_id_reconnect_at_a_limited_rate(mosquitto: Mosquitto) -> None:
    async with FakeControlPlane().running() as control_plane:
        connects = "koupleless_mqtt_connects_total"
        began, at = REGISTRY.get_sample_value(connects) or 0, time.monotonic()
        async with (
            gateway_running(mosquitto.port, control_plane.address, client_id="twin"),
            gateway_running(mosquitto.port, control_plane.address, client_id="twin") as second,
        ):
            clash = {"cause": "clash"}
            await eventually(
                lambda: REGISTRY.get_sample_value("koupleless_mqtt_connection_failures_total", clash),
                "suspected",
                within=30,
            )
            assert (await second.status("livez"))[0] == 200
        made = (REGISTRY.get_sample_value(connects) or 0) - began
        assert made <= 6 + 2 * (time.monotonic() - at) / 1.0


async def test_a_flood_of_heartbeats_costs_no_result(scene: Scene) -> None:
    """The broker holds 1,000 messages with QoS 1 for a client, and throws away the rest."""
    base = await scene.base()
    scene.stream.send(order("o1", "base-1", 0, pb.VERB_INSTALL, BIZ, timeout=60.0))
    await base.command("installBiz")
    # On the event loop of the gateway, which therefore reads nothing meanwhile.
    over_mqtt(scene.broker.port, 3_000)
    await base.say("bizOperation", operation("installBiz", "biz1", "1", SUCCESS))
    result = await scene.stream.result("o1")
    assert result.reply.code == pb.REPLY_CODE_SUCCESS
