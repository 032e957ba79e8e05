"""The link to the broker, kept up: connect, subscribe, serve, and again after it was lost.

A failure is logged once, not with each attempt. Attempts come further and further apart, never more than 30 s. A
connection that ends right after it was made counts as a failure too. If the broker had just been asked for something,
that is taken to be why; if not, most often another client with the same id took the connection over.
"""

import asyncio
import random
from collections.abc import Callable
from functools import partial
from typing import NoReturn, Protocol

import structlog

from gateways.mqtt.metrics import CONNECTED, CONNECTION_FAILURES, CONNECTS, UNACKNOWLEDGED
from mqttclient.connection import MqttConnection, MqttMessage
from mqttclient.failures import ConnectFailed, Lost, NotSent
from mqttclient.settings import BrokerSettings

log = structlog.get_logger(__name__)

FIRST_DELAY = 0.5
LONGEST_DELAY = 20.0
"""Seconds between two attempts, before jitter of half of it either way."""
LASTING = 10.0
"""Seconds after which a connection counts as a good one."""
CLASH_AFTER = 3
"""Connections in a row that do not last, and end unasked, after which a clash of client ids is suspected."""


class Publish(Protocol):
    """Sends to a topic: ``Broker.publish``."""

    def __call__(self, topic: str, payload: bytes, *, qos: int = 1) -> asyncio.Future[None]:
        """Send; the future is done with PUBACK, with QoS 0 once it is written, or raises Lost. Raises NotSent."""


class Client(Protocol):
    """Who uses the broker. All but serve must not block."""

    def received(self, message: MqttMessage) -> None:
        """Take a message."""

    async def serve(self, connection: MqttConnection, ready: Callable[[], None]) -> NoReturn:
        """Subscribe, call ready, and serve until cancelled. Raises ConnectFailed or Lost."""

    def changed(self, up: bool, reason: str) -> None:
        """The broker can be used now, or cannot any more, and why."""


class Broker:
    """Keeps one connection to a broker."""

    def __init__(self, settings: BrokerSettings, client_id: str) -> None:
        self._settings = settings
        self._client_id = client_id
        self._connection: MqttConnection | None = None
        """There while the client serves."""
        self._trouble = "not connected yet"
        self._logged = ""
        self._where = f"{settings.broker}:{settings.port}"
        CONNECTED.set_function(lambda: self._connection is not None)
        UNACKNOWLEDGED.set_function(lambda: len(self._connection.unacknowledged) if self._connection else 0)

    @property
    def trouble(self) -> str:
        """What keeps the broker from being used, empty when nothing does."""
        up = self._connection is not None and self._connection.up
        return "" if up else f"no broker at {self._where}: {self._trouble}"

    def publish(self, topic: str, payload: bytes, *, qos: int = 1) -> asyncio.Future[None]:
        """Send as ``Publish`` says."""
        if self._connection is None:
            raise NotSent(self.trouble)
        return self._connection.publish(topic, payload, qos=qos)

    async def run(self, client: Client) -> NoReturn:
        """Keep the connection for the client until cancelled."""
        loop = asyncio.get_running_loop()
        failures = short = 0
        while True:
            began = loop.time()
            failure = await self._connect_once(client)
            lasted = loop.time() - began >= LASTING and failure.cause == "lost"
            failures = 0 if lasted else failures + 1
            short = short + 1 if failure.cause == "lost" and not lasted else 0
            if short >= CLASH_AFTER:
                failure = ConnectFailed(
                    "clash",
                    f"the broker ended {short} connections soon after it took them, when it had been asked for nothing "
                    f"({failure}): maybe another client uses the id {self._client_id}; give each gateway a "
                    "CLIENT_ID of its own",
                )
            self._failed(failure)
            delay = min(FIRST_DELAY * 2.0 ** min(failures, 16), LONGEST_DELAY)
            await asyncio.sleep(delay * (0.5 + random.random()))  # noqa: S311 - jitter

    async def _connect_once(self, client: Client) -> ConnectFailed:
        """Hold one connection from beginning to end; return how it ended."""
        connection = MqttConnection(self._settings, self._client_id, client.received)
        try:
            await connection.open()
            CONNECTS.inc()
            ready = partial(self._serves, client, connection)
            serving = asyncio.create_task(client.serve(connection, ready), name="serve broker")
            try:
                await asyncio.wait((serving, connection.ended), return_when=asyncio.FIRST_COMPLETED)
                ended = connection.ended.result() if connection.ended.done() else await serving
            finally:
                serving.cancel()
                await asyncio.gather(serving, return_exceptions=True)
        except ConnectFailed as error:
            return error
        except Lost as error:
            ended = str(error)
        finally:
            was_ready, self._connection = self._connection is not None, None
            connection.close()
            if was_ready:
                client.changed(False, "the connection to the broker ended")
        if connection.asked:
            text = f"the broker ended the connection when it was asked to {connection.asked} ({ended})"
            return ConnectFailed("subscription", text)
        return ConnectFailed("lost", f"the connection to the broker ended: {ended}")

    def _serves(self, client: Client, connection: MqttConnection) -> None:
        self._connection = connection
        self._logged = ""
        log.info("broker connected", broker=self._where, client_id=self._client_id)
        client.changed(True, "")

    def _failed(self, failure: ConnectFailed) -> None:
        CONNECTION_FAILURES.labels(cause=failure.cause).inc()
        self._trouble = str(failure)
        kind = str(failure) if failure.cause == "subscription" else failure.cause
        if kind != self._logged:
            self._logged = kind
            log.warning("no broker", broker=self._where, cause=failure.cause, reason=str(failure))
