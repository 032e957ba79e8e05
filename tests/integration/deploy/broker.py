"""A Mosquitto broker with the shipped configuration and users, and clients of it."""

import shutil
import subprocess
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from paho.mqtt import publish
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion

from tests.mqtt import stop
from tests.programs import eventually
from tests.servers.bundles import find_mosquitto
from tests.servers.fetch import MOSQUITTO_MISSING
from tests.servers.fixtures import not_run
from tests.servers.mosquitto import Mosquitto


class Listener:
    """A client that keeps the messages it receives."""

    def __init__(self, client: Client, topic: str) -> None:
        self._topic = topic
        self.payloads: list[bytes] = []
        self.subscribed = False
        client.on_message = self._take
        client.on_connect = self._connected
        client.on_subscribe = self._subscribed

    def _connected(self, client: Client, *_: Any) -> None:
        client.subscribe(self._topic, qos=1)

    def _take(self, _client: Client, _data: Any, message: MQTTMessage) -> None:
        self.payloads.append(bytes(message.payload))

    def _subscribed(self, *_: Any) -> None:
        self.subscribed = True


class Shipped:
    """A broker on 127.0.0.1 as in the ConfigMap; a context manager. users are name and password.

    The test is skipped without Mosquitto.
    """

    def __init__(self, settings: Mapping[str, str], users: Mapping[str, str], folder: Path) -> None:
        if find_mosquitto() is None:
            not_run("mosquitto", MOSQUITTO_MISSING)
        passwords, acl = folder / "passwords", folder / "acl"
        passwords.touch(mode=0o600)
        acl.write_text(settings["acl"])
        acl.chmod(0o600)
        for name, password in users.items():
            subprocess.run([_passwd(), "-b", str(passwords), name, password], check=True, capture_output=True)
        lines = [line for line in settings["mosquitto.conf"].splitlines() if not line.startswith(("listener", "log_d"))]
        configuration = "\n".join(lines).replace("/mosquitto/users/passwords", str(passwords))
        self._broker = Mosquitto(configuration.replace("/mosquitto/config/acl", str(acl)).splitlines())
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(self._broker)
        return self

    def __exit__(self, *_: TracebackType | type[BaseException] | BaseException | None) -> None:
        self._stack.close()

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._broker.port

    def listener(self, user: str, password: str, topic: str) -> Listener:
        """Return a client that is subscribed."""
        client = Client(CallbackAPIVersion.VERSION2)
        client.username_pw_set(user, password)
        listener = Listener(client, topic)
        client.connect("127.0.0.1", self.port)
        client.loop_start()
        self._stack.callback(stop, client)
        eventually(lambda: listener.subscribed, within=5, what="subscribed")
        return listener

    def say(self, user: str, password: str, topic: str, payload: bytes) -> None:
        """Publish a message."""
        auth: Any = {"username": user, "password": password}
        publish.single(topic, payload, qos=1, hostname="127.0.0.1", port=self.port, auth=auth)


def _passwd() -> str:
    beside = find_mosquitto()
    assert beside is not None
    found = shutil.which("mosquitto_passwd") or beside.with_name("mosquitto_passwd")
    return str(found)
