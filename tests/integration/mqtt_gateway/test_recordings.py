"""A gateway reads the recorded messages of real bases, and publishes the recorded bytes to them."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from koupleless.tunnel.v1 import tunnel_pb2 as pb
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from tests.fakes.controlplane import order, watch
from tests.integration.mqtt_gateway.bases import Base
from tests.integration.mqtt_gateway.conftest import Scene, Start
from tests.mqtt import stop
from tests.recordings import MQTT, Published
from tests.servers.mosquitto import Mosquitto

BASE = "base-m"
VERBS = {"installBiz": pb.VERB_INSTALL, "uninstallBiz": pb.VERB_UNINSTALL}


class Listener:
    """Receives everything under a filter with QoS 1, so that a message arrives with the QoS of its publisher."""

    def __init__(self, port: int, topic: str) -> None:
        self.messages: list[MQTTMessage] = []
        self.subscribed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.client = Client(CallbackAPIVersion.VERSION2, client_id="listener")
        self.client.on_message = lambda _client, _data, message: self.messages.append(message)
        self.client.on_connect = lambda client, *_: client.subscribe(topic, qos=1)
        self.client.on_subscribe = self._on_subscribe
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()

    def _on_subscribe(self, _client: Client, _data: Any, _mid: int, _codes: Any, _properties: Any) -> None:
        self._loop.call_soon_threadsafe(self.subscribed.set)

    async def message(self, topic: str) -> MQTTMessage:
        """Wait for the first message under a topic."""
        async with asyncio.timeout(10):
            while not any(self._under(topic)):  # noqa: ASYNC110 - the client has a thread of its own
                await asyncio.sleep(0.01)
        return next(self._under(topic))

    def _under(self, topic: str) -> Iterator[MQTTMessage]:
        return (message for message in list(self.messages) if message.topic == topic)


@asynccontextmanager
async def listening(broker: Mosquitto, topic: str = "#") -> AsyncIterator[Listener]:
    listener = Listener(broker.port, topic)
    try:
        async with asyncio.timeout(10):
            await listener.subscribed.wait()
        yield listener
    finally:
        stop(listener.client)


async def publish(base: Base, recorded: str) -> None:
    """Publish a recorded message, stamped with the current time."""
    message = MQTT[recorded]
    topic = message.topic.removeprefix(f"koupleless_dev/{BASE}/")
    await base.raw(topic, message.stamped(int(time.time() * 1000)))


def as_recorded(message: MQTTMessage, recorded: str, *, qos: int | None = None) -> None:
    """Polls have QoS 0, as those of the original; the recorded ones had 1, which makes no difference to bases."""
    expected: Published = MQTT[recorded]
    expected_qos = expected.qos if qos is None else qos
    assert (message.topic, message.payload, message.qos) == (expected.topic, expected.payload, expected_qos)


async def test_a_heartbeat_reaches_the_control_plane(scene: Scene) -> None:
    base = await scene.base(BASE)
    await publish(base, "mqtt-heart")
    heartbeat = (await scene.stream.report("heartbeat", BASE)).heartbeat
    assert (heartbeat.name, heartbeat.version, heartbeat.cluster_name, heartbeat.host_name) == (
        "shop-base",
        "1.0.0",
        "mq",
        "base-host",
    )
    assert (heartbeat.address.ip, heartbeat.address.port, heartbeat.state) == ("127.0.0.1", 0, pb.BASE_STATE_ACTIVATED)


async def test_a_baseline_is_published_and_its_outcome_is_reported(scene: Scene) -> None:
    def answer(report: pb.Report) -> pb.BaselineAnswer:
        query = report.baseline_query
        assert (query.name, query.version, query.cluster_name) == ("shop-base", "1.0.0", "mq")
        refs = [
            pb.ModuleRef(name=item["bizName"], version=item["bizVersion"], url=item["bizUrl"])
            for item in MQTT["mqtt-baseline"].json()
        ]
        return pb.BaselineAnswer(base_id=report.base_id, query_id=query.query_id, modules=refs)

    scene.control_plane.on_baseline = answer
    base = await scene.base(BASE)
    async with listening(scene.broker) as listener:
        await publish(base, "mqtt-queryBaseline")
        as_recorded(await listener.message(MQTT["mqtt-baseline"].topic), "mqtt-baseline")
    await publish(base, "mqtt-batchInstallBizResponse-success")
    batch = (await scene.stream.report("batch_install_result", BASE)).batch_install_result
    assert batch.reply.code == pb.REPLY_CODE_SUCCESS
    assert {item.url: [module.name for module in item.reply.modules] for item in batch.items} == {
        "http://127.0.0.1:28899/biz3-0.0.1.jar": ["biz3"],
        "http://127.0.0.1:28899/biz2-0.0.1.jar": ["biz2"],
    }


@pytest.mark.parametrize("recorded", [name for name in MQTT if name.startswith("mqtt-simpleBiz")])
async def test_a_list_is_asked_for_and_reaches_the_control_plane_whole(scene: Scene, recorded: str) -> None:
    base = await scene.base(BASE)
    async with listening(scene.broker) as listener:
        scene.stream.send(watch(BASE, "127.0.0.1", 0))
        as_recorded(await listener.message(MQTT["mqtt-command-queryAllBiz"].topic), "mqtt-command-queryAllBiz", qos=0)
        as_recorded(await listener.message(MQTT["mqtt-command-health"].topic), "mqtt-command-health", qos=0)
    await publish(base, recorded)
    modules = (await scene.stream.report("modules", BASE)).modules
    assert modules.complete
    assert [
        (module.name, module.version, pb.ModuleState.Name(module.state).removeprefix("MODULE_STATE_").lower())
        for module in modules.modules
    ] == [(entry["name"], entry["version"], entry["state"]) for entry in MQTT[recorded].json()["data"]]


@pytest.mark.parametrize("recorded", ["mqtt-health-no-module", "mqtt-health-modules"])
async def test_health_reaches_the_control_plane(scene: Scene, recorded: str) -> None:
    base = await scene.base(BASE)
    scene.stream.send(watch(BASE, "127.0.0.1", 0))
    await base.command("health")
    await publish(base, recorded)
    health = (await scene.stream.report("health", BASE)).health
    assert (health.state, health.java_version) == (pb.BASE_STATE_ACTIVATED, "17.0.15")
    assert health.metaspace.max_bytes == 419_430_400


COMMANDS = {
    "mqtt-bizOperation-install-success": "mqtt-command-installBiz-file",
    "mqtt-bizOperation-install-main-throws": "mqtt-command-installBiz-http",
    "mqtt-bizOperation-uninstall-success": "mqtt-command-uninstallBiz",
    "mqtt-bizOperation-install-url-404": None,
}


@pytest.mark.parametrize("recorded", COMMANDS)
async def test_a_command_is_published_and_its_outcome_is_reported(scene: Scene, recorded: str) -> None:
    data, asked = MQTT[recorded].json()["data"], COMMANDS[recorded]
    url = MQTT[asked].json().get("bizUrl", "") if asked else "http://127.0.0.1:28899/nope.jar"
    module = pb.OrderModule(name=data["bizName"], version=data["bizVersion"], url=url)
    base = await scene.base(BASE)
    async with listening(scene.broker) as listener:
        scene.stream.send(order("o1", BASE, 0, VERBS[data["command"]], module, timeout=30))
        command = await listener.message(f"koupleless_dev/{BASE}/{data['command']}")
        if asked:
            as_recorded(command, asked)
    await publish(base, recorded)
    reply = (await scene.stream.result("o1")).reply
    assert pb.ReplyCode.Name(reply.code) == f"REPLY_CODE_{data['response']['code']}"
    assert pb.ClientCode.Name(reply.client_code) == f"CLIENT_CODE_{data['response']['data']['code']}"
    async with listening(scene.broker) as late:
        await asyncio.sleep(0.1)
        assert not late.messages, "nothing is retained"


async def test_the_message_of_the_gateway_to_itself_is_as_recorded(mosquitto: Mosquitto, start: Start) -> None:
    async with listening(mosquitto) as listener:
        await start(client_id="gateway-1")
        as_recorded(await listener.message(MQTT["mqtt-gateway-probe"].topic), "mqtt-gateway-probe")


def test_every_message_is_played() -> None:
    played = {*COMMANDS, *filter(None, COMMANDS.values()), "mqtt-gateway-probe", "mqtt-heart", "mqtt-queryBaseline"}
    played |= {"mqtt-baseline", "mqtt-batchInstallBizResponse-success"}
    played |= {"mqtt-command-queryAllBiz", "mqtt-command-health"}
    played |= {name for name in MQTT if name.startswith(("mqtt-simpleBiz", "mqtt-health"))}
    assert played == MQTT.keys()
