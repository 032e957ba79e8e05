"""A client of a broker that receives everything from bases, and sends commands."""

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import orjson
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from tests.mqtt import stop

_NUMBERS = itertools.count()


@dataclass(frozen=True)
class FromBase:
    """A message; base and kind are parts of its topic, data is the content of its envelope."""

    base: str
    kind: str
    data: Any
    published_at: int
    retained: bool


class Controller:
    """Takes what bases of an environment publish, in order."""

    def __init__(self, port: int, env: str) -> None:
        self.messages: list[FromBase] = []
        self._env = env
        self._subscribed = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, client_id=f"controller-{next(_NUMBERS)}")
        self._client.on_message = self._on_message
        self._client.on_connect = lambda client, *_: client.subscribe(f"koupleless_{env}/+/base/+", qos=1)
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.reconnect_delay_set(1, 1)
        self._client.connect("127.0.0.1", port)

    def kinds(self, base: str) -> list[str]:
        """Return what one base published, heartbeats left out."""
        return [message.kind for message in self.messages if message.base == base and message.kind != "heart"]

    def of(self, kind: str) -> list[FromBase]:
        """Return the messages of one kind."""
        return [message for message in self.messages if message.kind == kind]

    def send(self, base: str, topic: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish a command and wait until the broker has it."""
        self._client.publish(f"koupleless_{self._env}/{base}/{topic}", payload, 1, retain).wait_for_publish(10.0)

    def _on_message(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        _, base, _, kind = message.topic.split("/")
        if kind == "baseline":
            return
        envelope = orjson.loads(message.payload)
        assert set(envelope) == {"data", "publishTimestamp"}
        assert message.qos == 1
        self.messages.append(FromBase(base, kind, envelope["data"], envelope["publishTimestamp"], message.retain))


@contextmanager
def controller(port: int, env: str = "dev") -> Iterator[Controller]:
    """Connect to the broker on a loopback port."""
    made = Controller(port, env)
    made._client.loop_start()
    try:
        assert made._subscribed.wait(10.0)
        yield made
    finally:
        stop(made._client)
