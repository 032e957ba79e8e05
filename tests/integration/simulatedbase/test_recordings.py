"""Messages of a simulated base equal the recorded ones in members, order, case, types and framing."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from simulatedbase.base import SimulatedBase
from simulatedbase.profile import Faults, Profile, RuntimeVersion, Tunnel
from tests.integration.simulatedbase.situations import Situation, simple, situation, url_of
from tests.integration.simulatedbase.wire import SECONDS, broker, command, until
from tests.mqtt import stop
from tests.recordings import FROM_BASE, HTTP, MQTT, TO_BASE, Exchange, Published
from tests.recordings.shapes import shape
from tests.servers.mosquitto import Mosquitto
from tests.servers.process import Port
from tests.serving import serving

STARTS = 1.0
"""Seconds that modules take to start where a starting one must be visible."""


@asynccontextmanager
async def running(scene: Situation, **settings: Any) -> AsyncIterator[SimulatedBase]:
    """Start a base and bring it into a situation, over HTTP."""
    values: dict[str, Any] = {"identity": "base-1", "host_name": "base-host", "java_version": "17.0.15", **settings}
    profile = Profile(
        name=scene.name,
        runtime=scene.runtime,
        jars=scene.jars,
        install_time=STARTS if scene.starting else 0.0,
        **values,
    )
    base = SimulatedBase(profile, Faults(fail_install=set(scene.failing)))
    await base.start()
    try:
        for module in scene.installed:
            await command(base.port, "installBiz", _install(module))
        for module in scene.switched:
            await command(base.port, "switchBiz", _install(module))
        starting = [asyncio.create_task(command(base.port, "installBiz", _install(item))) for item in scene.starting]
        await until(lambda: sum(biz.state.value == "resolved" for biz in base.modules()) == len(starting))
        yield base
        await asyncio.gather(*starting)
    finally:
        await base.stop()


def _install(module: str) -> bytes:
    name, version, *_ = module.split(":")
    return json.dumps({"bizName": name, "bizVersion": version, "bizUrl": url_of(module)}).encode()


@contextmanager
def writes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bytes]]:
    """Collect what is written to sockets through streams."""
    written: list[bytes] = []
    write = asyncio.StreamWriter.write

    def record(writer: asyncio.StreamWriter, data: bytes) -> None:
        written.append(bytes(data))
        write(writer, data)

    with monkeypatch.context() as patch:
        patch.setattr(asyncio.StreamWriter, "write", record)
        yield written


ANSWERED = [exchange for exchange in TO_BASE if exchange.reply_head is not None]


@pytest.mark.parametrize("exchange", ANSWERED, ids=lambda exchange: exchange.id)
async def test_replies_over_http(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    json_reply = (exchange.reply_body or b"").startswith(b"{")
    recorded = exchange.json() if json_reply else None
    async with running(situation(exchange.runtime, exchange.verb, exchange.asked(), recorded)) as base:
        reader, writer = await asyncio.open_connection("127.0.0.1", base.port)
        with writes(monkeypatch) as written:
            async with asyncio.timeout(SECONDS):
                for part in exchange.sent():
                    writer.write(part)
                # Only the base's close ends the reply.
                reply = await reader.read()
        writer.close()
    head, separator, body = reply.partition(b"\r\n\r\n")
    assert head + separator == exchange.reply_head
    # What was still starting may have been answered meanwhile, over another connection.
    replies = [part for part in written if part not in exchange.sent() and part in reply]
    assert len(replies) == len(exchange.reply_writes)
    if json_reply:
        assert shape(json.loads(body)) == shape(recorded)
    else:
        assert body == exchange.reply_body


async def test_malformed_json_gets_no_answer_and_the_connection_stays() -> None:
    exchange = HTTP["queryAllBiz-malformed"]
    async with running(Situation()) as base:
        reader, writer = await asyncio.open_connection("127.0.0.1", base.port)
        writer.write(exchange.request)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await reader.read()
        writer.close()


async def test_the_base_refuses_connections_before_it_listens() -> None:
    """connection-refused: the first heartbeat comes before the base listens."""
    async with asyncio.timeout(SECONDS), _endpoint() as (port, requests):
        starting = SimulatedBase(Profile(controller=f"http://127.0.0.1:{port}", server_delay=0.5))
        start = asyncio.create_task(starting.start())
        heartbeat = json.loads((await requests.get())[-1])
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", heartbeat["port"])
        await start
        assert await command(heartbeat["port"], "help")
        await starting.stop()


async def test_a_heartbeat_that_was_refused_is_not_repeated_before_the_next_one() -> None:
    """heartbeat-refused: nothing listens."""
    gone = Port()
    base = SimulatedBase(Profile(controller=f"http://127.0.0.1:{gone.number}", heartbeat_interval=0.5))
    await base.start()
    await asyncio.sleep(0.2)
    gone.close()
    async with asyncio.timeout(SECONDS), _endpoint(gone.number) as (_, requests):
        await asyncio.sleep(0.1)
        assert requests.empty()
        await requests.get()
    await base.stop()


@asynccontextmanager
async def _endpoint(port: int = 0) -> AsyncIterator[tuple[int, asyncio.Queue[list[bytes]]]]:
    """Take heartbeats as a gateway does: head and body of each, with the connection closed by the receiver."""
    requests: asyncio.Queue[list[bytes]] = asyncio.Queue(100)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"\r\nContent-Length: (\d+)\r\n", head)
        assert length is not None
        requests.put_nowait([head, await reader.readexactly(int(length[1]))])
        writer.write(HTTP["heartbeat-1.4.2"].reply)

    async with serving(serve, port=port) as taken:
        yield taken, requests


@pytest.mark.parametrize("recorded", ["heartbeat-1.4.2", "heartbeat-1.3.3"])
async def test_heartbeats_over_http(recorded: str, monkeypatch: pytest.MonkeyPatch) -> None:
    exchange = HTTP[recorded]
    scene = Situation(RuntimeVersion(exchange.runtime))
    with writes(monkeypatch) as written:
        async with _endpoint() as (port, requests), running(scene, controller=f"http://127.0.0.1:{port}"):
            head, body = await asyncio.wait_for(requests.get(), SECONDS)
    assert [part for part in written if part in (head, body, head + body)] == [head, body]
    assert exchange.request_writes == ("head", "body")
    assert _without_values(head) == _without_values(exchange.request_head or b"")
    assert shape(json.loads(body)) == shape(exchange.asked())


def _without_values(head: bytes) -> bytes:
    """Return a head without the endpoint and the length of the body, which are not the same."""
    return re.sub(rb"(Host|Content-Length): .*", rb"\1: differs", head)


# Over MQTT.


class Listener:
    """A client that keeps what a base publishes, and can publish too."""

    def __init__(self, port: int) -> None:
        self.messages: list[MQTTMessage] = []
        self.client = Client(CallbackAPIVersion.VERSION2, client_id="listener")
        self.client.on_message = lambda _client, _data, message: self.messages.append(message)
        self.subscribed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self.client.on_connect = lambda client, *_: client.subscribe("koupleless_dev/+/base/+", qos=1)
        self.client.on_subscribe = self._on_subscribe
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()

    async def message(self, word: str) -> MQTTMessage:
        """Wait for a message of a base under a topic that ends so."""
        await until(lambda: any(self._matching(word)))
        return next(self._matching(word))

    def _on_subscribe(self, _client: Client, _data: Any, _mid: int, _codes: Any, _properties: Any) -> None:
        self._loop.call_soon_threadsafe(self.subscribed.set)

    def _matching(self, word: str) -> Iterator[MQTTMessage]:
        return (message for message in list(self.messages) if message.topic.endswith(f"/base/{word}"))

    def close(self) -> None:
        stop(self.client)


@asynccontextmanager
async def listening(port: int) -> AsyncIterator[Listener]:
    listener = Listener(port)
    try:
        async with asyncio.timeout(SECONDS):
            await listener.subscribed.wait()
        yield listener
    finally:
        listener.close()


def _question(message: Published) -> tuple[str, bytes, Situation]:
    """Return what makes a base publish a message: topic and payload of a command, and its situation."""
    word, data = message.topic.rpartition("/")[2], message.json()["data"]
    match word:
        case "simpleBiz":
            return "queryAllBiz", b"{}", simple(data)
        case "health":
            return "health", b"{}", situation("1.4.2", "health", {}, data)
        case "bizOperation":
            asked = {"bizName": data["bizName"], "bizVersion": data["bizVersion"]}
            if data["command"] == "installBiz":
                asked["bizUrl"] = "http://127.0.0.1:28899/nope.jar"
            scene = situation("1.4.2", data["command"], asked, data["response"])
            return data["command"], json.dumps(asked).encode(), scene
        case "batchInstallBizResponse":
            scene = situation("1.4.2", "batchInstallBiz", {"bizList": MQTT["mqtt-baseline"].json()}, data["response"])
            return "base/baseline", MQTT["mqtt-baseline"].payload, scene
    return "", b"", Situation()


@pytest.mark.parametrize("message", FROM_BASE, ids=lambda message: message.id)
async def test_what_is_published_over_mqtt(mosquitto: Mosquitto, message: Published) -> None:
    topic, payload, scene = _question(message)
    settings: dict[str, Any] = {"identity": "base-m", "tunnel": Tunnel.BOTH, "env": "dev", "port": 0}
    settings["broker"] = broker(mosquitto.port)
    async with listening(mosquitto.port) as listener, running(scene, **settings):
        if topic:
            listener.client.publish(f"koupleless_dev/base-m/{topic}", payload, qos=1)
        published = await listener.message(message.topic.rpartition("/")[2])
        assert (published.topic, published.qos) == (message.topic, message.qos)
        assert shape(json.loads(published.payload)) == shape(message.json())
    async with listening(mosquitto.port) as late:
        await asyncio.sleep(0.1)
        assert not late.messages, "nothing is retained"
