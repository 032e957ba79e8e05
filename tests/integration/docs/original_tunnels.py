"""The tunnels of the stand-in for the original: heartbeats and commands over HTTP, or over MQTT."""

import contextlib
import json
import queue
import threading
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Protocol

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from tests.mqtt import stop
from tests.servers.kubeapi import Json

ANSWERED_WITHIN = 2.0
ANSWERS = {"health": "health", "queryAllBiz": "simpleBiz", "installBiz": "bizOperation", "uninstallBiz": "bizOperation"}
"""Last part of the topic on which a command is answered."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A heartbeat; address is where the base takes commands, which MQTT does not need."""

    identity: str
    active: bool
    address: str
    metadata: Mapping[str, str]


class Tunnel(Protocol):
    """One tunnel to bases. Heartbeats from before it was opened are lost."""

    heartbeats: queue.SimpleQueue[Heartbeat]

    def open(self) -> None:
        """Begin to receive heartbeats."""

    def close(self) -> None:
        """Stop receiving heartbeats."""

    def ask(self, identity: str, address: str, command: str, body: Json) -> Json:
        """Return a base's answer; raises OSError when there is none."""


class HttpTunnel:
    """Listens on a port of 127.0.0.1 while it is open; refuses connections while it is closed."""

    def __init__(self) -> None:
        self.heartbeats: queue.SimpleQueue[Heartbeat] = queue.SimpleQueue()
        handler = type("Heartbeats", (_Heartbeats,), {"tunnel": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="original's port", daemon=True)
        self._thread.start()
        self.port = int(self._server.server_address[1])
        self.opened = threading.Event()

    def open(self) -> None:
        """Accept heartbeats."""
        self.opened.set()

    def close(self) -> None:
        """Refuse heartbeats."""
        self.opened.clear()

    def end(self) -> None:
        """Give the port back."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def ask(self, identity: str, address: str, command: str, body: Json) -> Json:
        """Return a base's answer; raises OSError when there is none."""
        del identity
        request = urllib.request.Request(f"http://{address}/{command}", json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=ANSWERED_WITHIN) as reply:
            answer: Json = json.loads(reply.read())
        return answer


class _Heartbeats(BaseHTTPRequestHandler):
    tunnel: ClassVar[HttpTunnel]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        taken = self.tunnel.opened.is_set()
        if taken and self.path == "/heartbeat":
            self.tunnel.heartbeats.put(heartbeat(body))
        self.send_response(200 if taken else 503)
        self.end_headers()
        self.wfile.write(b"SUCCESS" if taken else b"")

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Say nothing."""


class MqttTunnel:
    """A client of a broker on 127.0.0.1; commands are retained, as the original publishes them."""

    def __init__(self, port: int, user: str, password: str) -> None:
        self.heartbeats: queue.SimpleQueue[Heartbeat] = queue.SimpleQueue()
        self._broker = (port, user, password)
        self._client: Client | None = None
        self._answers: dict[tuple[str, str], queue.SimpleQueue[Json]] = {}

    def open(self) -> None:
        """Connect and subscribe; raises OSError."""
        port, user, password = self._broker
        self._client = Client(CallbackAPIVersion.VERSION2)
        self._client.username_pw_set(user, password)
        self._client.on_connect = lambda client, *_: client.subscribe("koupleless_dev/+/base/+", qos=1)
        self._client.on_message = self._take
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def close(self) -> None:
        """Disconnect."""
        if self._client is not None:
            stop(self._client)
            self._client = None

    def ask(self, identity: str, address: str, command: str, body: Json) -> Json:
        """Return a base's answer; raises OSError when there is none."""
        del address
        answers = self._answers[identity, ANSWERS[command]] = queue.SimpleQueue()
        if self._client is None:
            raise ConnectionError("not connected")
        self._client.publish(f"koupleless_dev/{identity}/{command}", json.dumps(body), qos=0, retain=True)
        try:
            return answers.get(timeout=ANSWERED_WITHIN)
        except queue.Empty:
            raise TimeoutError(f"{identity} does not answer {command}") from None

    def _take(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        _, identity, _, kind = message.topic.split("/")
        with contextlib.suppress(ValueError):
            data = json.loads(message.payload)["data"]
            if kind == "heart":
                self.heartbeats.put(heartbeat(data))
            elif kind == "simpleBiz":
                found = [{"bizName": m["name"], "bizVersion": m["version"], "bizState": m["state"]} for m in data]
                self._answer(identity, kind, {"code": "SUCCESS", "data": found})
            elif kind == "bizOperation":
                self._answer(identity, kind, data["response"])
            elif kind == "health":
                self._answer(identity, kind, data)

    def _answer(self, identity: str, kind: str, answer: Json) -> None:
        if waiting := self._answers.get((identity, kind)):
            waiting.put(answer)


def heartbeat(body: Json) -> Heartbeat:
    """Return the heartbeat in a body."""
    metadata = body["baseMetadata"]
    active = body["state"].upper() == "ACTIVATED"
    return Heartbeat(metadata["identity"], active, f"{body['localIP']}:{body['port']}", metadata)
