"""Targets: bytes of connections, and what servers do with the requests in them. No socket is opened."""

import asyncio
from collections.abc import Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

from hypothesis import strategies as st
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from controlplane.app.ports import Undelivered
from controlplane.domain.reports import Report
from controlplane.kube.kept import BrokeOff, KeptConnection
from controlplane.reports.posting import DingTalk
from gateways.http import listener
from gateways.http.credentials import Credentials
from gateways.http.requests import Requests
from gateways.mqtt.baselines import Baselines
from gateways.mqtt.inbound import Inbound
from gateways.mqtt.leftovers import Leftovers
from gateways.mqtt.strays import Strays
from gateways.mqtt.subscriptions import Subscriptions
from gateways.mqtt.tunnel import MqttTunnel
from gateways.polling.prober import Prober
from mqttclient.connection import MqttConnection, MqttMessage
from mqttclient.settings import BrokerSettings
from service.addresses import DEFAULT_NETWORKS, AddressPolicy
from service.listening import parse_host
from service.tokens import Key
from service.webserver import Connection
from simulatedbase import java
from simulatedbase.http import wire as http_wire
from simulatedbase.mqtt import wire as mqtt_wire
from tests.fuzz import inputs
from tests.fuzz.target import Target, each
from tests.fuzz.wires import PEER, Wire, in_loop, talk
from tests.recordings import MQTT, TO_BASE, TO_GATEWAY

ENV = "dev"
KEY = Key(b"k" * 32)


async def _listener(data: bytes) -> object:
    def report(_: pb.Report) -> bool:
        return True

    async def baseline(_: pb.Report) -> list[pb.ModuleRef]:
        return [pb.ModuleRef(name="a", version="1", url="u")]

    async def ask(*_: object) -> None:
        """Nothing is asked."""

    prober = Prober(cast("Any", ask), report)
    answers = Requests(report, baseline, prober, AddressPolicy(DEFAULT_NETWORKS), ENV)
    server = listener.Listener(answers, Credentials("t", lambda: (KEY,)), None, host="", port=0)
    try:
        connection = Connection(server.server, server.server._web, cast("Any", None), PEER)
        server.server.connections.open(connection, PEER)
        return await talk(connection, data)
    finally:
        await prober.close()


async def _api_server(data: bytes) -> object:
    """Take what an API server answers, in two pieces, before it closes the connection."""
    connection, wire = KeptConnection(), Wire()
    connection.connection_made(wire)
    asked = asyncio.create_task(connection.ask(b"GET / HTTP/1.1\r\n\r\n"))
    await asyncio.sleep(0)
    for piece in (data[: len(data) // 2], data[len(data) // 2 :]):
        if piece:
            connection.data_received(piece)
    connection.connection_lost(None)
    return await asked


async def _robot(data: bytes) -> object:
    async def post(*_: object) -> bytes:
        return data

    report = Report("k", "s", "e", "r", "m", "c", {})
    await DingTalk("u", "n", cast("Any", SimpleNamespace(post=post))).send(report)
    return None


async def _published(data: bytes) -> object:
    """Take a message from a broker: its topic is the first line."""
    loop, reports = asyncio.get_running_loop(), list[pb.Report]()

    def report(message: pb.Report) -> bool:
        reports.append(message)
        return True

    def publish(topic: str, payload: bytes, *, qos: int = 1) -> asyncio.Future[None]:
        done: asyncio.Future[None] = loop.create_future()
        done.set_result(None)
        return done

    async def baseline(_: pb.Report) -> list[pb.ModuleRef]:
        return []

    tunnel = MqttTunnel(ENV, publish, report, health_timeout=1, query_timeout=1)
    baselines = Baselines(ENV, baseline, publish, shared=lambda: True, everybody_receives=lambda: None)
    inbound = Inbound(ENV, report, tunnel, baselines, Leftovers(ENV), Subscriptions(ENV, "g"), Strays(ENV))
    topic, _, payload = data.partition(b"\n")
    inbound.take(MqttMessage(topic.decode(errors="replace"), payload, retained=False))
    await asyncio.sleep(0)
    await baselines.close()
    await tunnel.prober.close()
    return reports


class Socket:
    """What paho reads from."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def recv(self, size: int) -> bytes:
        if not self._data:
            raise BlockingIOError
        piece, self._data = self._data[:size], self._data[size:]
        return piece

    def send(self, data: bytes) -> int:
        return len(data)

    def close(self) -> None:
        """Nothing is open."""

    def fileno(self) -> int:
        return -1


async def _packets(data: bytes) -> object:
    """Give a connection to a broker the bytes that the broker sends, CONNACK first."""
    taken: list[MqttMessage] = []
    connection = MqttConnection(BrokerSettings.model_validate({"broker": "b"}), "c", taken.append)
    connection._client._sock = cast("Any", Socket(b"\x20\x02\x00\x00" + data))
    for _ in range(8):
        connection._read()
    connection.close()
    return taken


async def _request_to_base(data: bytes) -> object:
    reader = asyncio.StreamReader(limit=http_wire.HEAD_LIMIT)
    reader.feed_data(data)
    reader.feed_eof()
    return await http_wire.read_request(reader)


def _command_to_base(data: bytes) -> object:
    def answer(command: str, payload: bytes) -> object:
        return mqtt_wire.answer(command, mqtt_wire.parameters(command, payload), java.thrown("a.B", "c"), [])

    commands = (*mqtt_wire.CHANGES, mqtt_wire.BATCH, "health", "queryAllBiz")
    readers = {command: partial(answer, command) for command in commands}
    return each(data, readers, (ValueError,))


def _jar(data: bytes) -> object:
    url = data.decode(errors="replace")
    return each(
        url, {"jar": lambda of: java.fetch(of, {}), "named": lambda of: java.named_by_file(of, {})}, (java.JavaError,)
    )


def _host(data: bytes) -> object:
    return parse_host(data.decode(errors="replace"))


def requests(*paths: str) -> list[bytes]:
    body = b'{"baseMetadata":{"identity":"a"},"localIP":"10.0.0.7","port":1238,"message":"m"}'
    head = b"POST %b HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer t\r\nContent-Length: %d\r\n\r\n%b"
    return [head % (path.encode(), len(body), body) for path in paths]


PIECES: Sequence[bytes] = (
    *(b"\r\n", b"\n", b"\r", b"\x00", b" ", b":", b"/", b"?", b"%", b"%00", b"%zz", b"\xff", b"\t"),
    *(
        b"GET / HTTP/1.1\r\n\r\n",
        b"HTTP/2",
        b"HTTP/1.0",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\n\r\n",
    ),
    *(b"Content-Length: 5\r\n", b"Content-Length: -1\r\n", b"Content-Length: 99999999999999999999\r\n"),
    *(b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n", b"0\r\n\r\n", b"ffffffffffffffff\r\n", b"-1\r\n"),
    *(
        b"Expect: 100-continue\r\n",
        b"Expect: x\r\n",
        b"Upgrade: websocket\r\nConnection: upgrade\r\n",
        b"Connection: close\r\n",
    ),
    *(
        b"Content-Encoding: gzip\r\n",
        b"Content-Encoding: br\r\n",
        b"Authorization: \xff\xfe\r\n",
        b"Authorization: Bearer \xe9\r\n",
    ),
    *(
        b"Content-Type: multipart/form-data\r\n",
        b"Content-Type: text/plain; charset=x\r\n",
        b"Host: [::1\r\n",
        b"Cookie: a\r\n",
    ),
    *(
        b"/t/",
        b"/t/%ff.x.a/heartbeat",
        b"/t/a.%C3%A9.a/heartbeat",
        b"http://[::1",
        b"//a",
        b"*",
        b"X: " + b"y" * 9000 + b"\r\n",
        b"A: b\r\n" * 100,
    ),
)
_MESSAGES = [message.topic.encode() + b"\n" + message.payload for message in MQTT.values()]
_PACKETS = [
    b"\x30\x05\x00\x01a\x01\x02",
    b"\x32\x07\x00\x01a\x00\x05hi",
    b"\x34\x07\x00\x01a\x00\x05hi",
    b"\x40\x02\x00\x01",
    b"\x90\x03\x00\x01\x00",
    b"\xb0\x02\x00\x01",
    b"\xd0\x00",
    b"\x62\x02\x00\x05",
    b"\xe0\x00",
    b"\x20\x02\x00\x05",
]
_URLS = [b"http://a/b-1.0.jar#biz:1:/p", b"file:///a/biz1-0.0.1.jar", b"https://x.invalid/a", b"http://a/#not-found"]

TARGETS = (
    Target(
        "base-connection",
        ("gateways.http.listener", "gateways.http.credentials", "gateways.http.requests"),
        inputs.texts(
            [exchange.request for exchange in TO_GATEWAY if exchange.request]
            + requests("/heartbeat", "/queryBaseline", "/t/t/heartbeat", f"/t/{KEY.token('a')}/heartbeat"),
            PIECES,
        ),
        in_loop(_listener),
    ),
    Target(
        "api-server-reply",
        ("controlplane.kube.kept",),
        inputs.texts(
            [
                b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nDate: d\r\n\r\n{}",
                b"HTTP/1.1 409 Conflict\r\nTransfer-Encoding: chunked\r\nRetry-After: 1\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
                b"HTTP/1.0 200 OK\r\n\r\n{}",
            ],
            [b"\r\n", b": ", b"0", b"HTTP/1.1 100 Continue\r\n\r\n", b"Content-Length: 9\r\n", b"\xff"],
        ),
        in_loop(_api_server),
        (BrokeOff,),
    ),
    Target(
        "robot-answer",
        ("controlplane.reports.posting",),
        inputs.documents([{"errcode": 1, "errmsg": "m"}]),
        in_loop(_robot),
        (Undelivered,),
    ),
    Target(
        "mqtt-message",
        ("gateways.mqtt.inbound", "gateways.mqtt.tunnel"),
        inputs.texts(_MESSAGES, [b"\n", b"/", b"{", b"null", b"dev"]),
        in_loop(_published),
    ),
    Target(
        "mqtt-packet",
        ("mqttclient.connection",),
        st.lists(st.sampled_from(_PACKETS), max_size=6).flatmap(
            lambda packets: inputs.texts([b"".join(packets)], _PACKETS)
        ),
        in_loop(_packets),
        least=200_000,
    ),
    Target(
        "simulated-request",
        ("simulatedbase.http.wire",),
        inputs.texts([exchange.request for exchange in TO_BASE if exchange.request], PIECES),
        in_loop(_request_to_base),
        (http_wire.NoRequest,),
    ),
    Target(
        "simulated-command",
        ("simulatedbase.mqtt.wire",),
        inputs.documents([{"bizName": "a", "bizVersion": "1"}, [{"bizName": "a"}], {}]),
        _command_to_base,
    ),
    Target("simulated-jar", ("simulatedbase.java",), inputs.texts(_URLS, [b"[", b"#", b"%", b":", b"//", b"@"]), _jar),
    Target(
        "host",
        ("service.listening",),
        inputs.texts([b"[::1]", b"a.b", b"127.0.0.1"], [b"[", b"]", b":", b"%", b"\xe2\x82\xac"]),
        _host,
        (ValueError,),
    ),
)
