"""Clients of the broker that belong to the measurement itself."""

import asyncio
import math
from collections import deque
from typing import Self

import orjson

from benchmarks.mqtt_stage import ENV, MqttStage, clock
from benchmarks.stage import identities
from mqttclient.connection import MqttConnection, MqttMessage
from mqttclient.settings import BrokerSettings
from simulatedbase.profile import Profile

WINDOW = 500
"""Heartbeats of a burst that Mosquitto has not acknowledged yet."""
DROPPED = "$SYS/broker/publish/messages/dropped"


def settings(stage: MqttStage) -> BrokerSettings:
    """Return how to reach the broker."""
    return BrokerSettings.model_validate({"broker": stage.broker.host, "port": stage.broker.port})


class Dropped:
    """Hears from the broker how many messages it dropped, of any client; an asynchronous context manager."""

    def __init__(self, stage: MqttStage) -> None:
        self._settings = settings(stage)
        self._counts: list[int] = []

    async def __aenter__(self) -> Self:
        self._connection = MqttConnection(self._settings, "benchmark", self._take)
        await self._connection.open()
        await self._connection.subscribe({DROPPED: 1})
        return self

    async def __aexit__(self, *_: object) -> None:
        self._connection.close()

    @property
    def since(self) -> float:
        """How many more than at first; nan when the broker metrics nothing."""
        return float(self._counts[-1] - self._counts[0]) if self._counts else math.nan

    def _take(self, message: MqttMessage) -> None:
        message.receipt.settle()
        self._counts.append(int(message.payload))


async def publish(stage: MqttStage, count: int) -> None:
    """Publish heartbeats in the names of all bases in turn; raises MqttError when the connection ends."""
    connection = MqttConnection(settings(stage), "burst", lambda _: None)
    await connection.open()
    try:
        sent: deque[asyncio.Future[None]] = deque()
        beats = [
            (f"koupleless_{ENV}/{identity}/base/heart", Profile(identity=identity).heartbeat(0))
            for identity in identities(stage.bases)
        ]
        for number in range(count):
            topic, data = beats[number % len(beats)]
            payload = orjson.dumps({"data": data, "publishTimestamp": int(clock() * 1000)})
            sent.append(connection.publish(topic, payload))
            if len(sent) == WINDOW:
                while len(sent) > WINDOW // 2:
                    await sent.popleft()
        for each in sent:
            await each
    finally:
        connection.close()
