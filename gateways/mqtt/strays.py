"""Bases that send heartbeats where nobody listens: their environment is not the one of this gateway.

A base without an environment of its own uses "default", a controller without one uses "dev": they never meet, and
neither side says so. The gateway therefore listens for heartbeats under "default" until one comes, says so, and listens
again after a while; where that environment is served by somebody else it costs next to nothing.
"""

import asyncio
from typing import NoReturn

import structlog

from gateways.arklet.topics import Word, from_all, parse
from gateways.mqtt.extras import Extra
from gateways.mqtt.metrics import REFUSED
from gateways.mqtt.subscriptions import shared
from mqttclient.connection import MqttConnection, MqttMessage

log = structlog.get_logger(__name__)

DEFAULT_ENV = "default"
"""Environment of bases that have none configured."""
DEAF = 600.0
"""Seconds between two looks."""


class Strays:
    """Finds heartbeats of the environment that bases have without configuration."""

    def __init__(self, env: str) -> None:
        self._env = env
        self._seen = asyncio.Event()
        self._filter = ""
        self.extra = Extra(
            f"heartbeats of the environment {DEFAULT_ENV}", "bases that have no environment configured are not noticed"
        )

    def is_stray(self, message: MqttMessage) -> bool:
        """Take a message if it is from a base of that environment."""
        if self._env == DEFAULT_ENV or not message.topic.startswith(f"koupleless_{DEFAULT_ENV}/"):
            return False
        REFUSED.labels(reason="environment").inc()
        if not self._seen.is_set():
            try:
                base, word = parse(message.topic, DEFAULT_ENV)
            except ValueError:  # InvalidTopic or InvalidName
                return True
            if word is Word.HEART:
                self._seen.set()
                log.warning(
                    "a base of another environment is not served: give the base's metadata hook the runtime "
                    "environment of this controller, or set ENV to the base's",
                    base=base,
                    base_environment=DEFAULT_ENV,
                    environment=self._env,
                )
        return True

    async def begin(self, connection: MqttConnection, *, share: bool) -> None:
        """Listen, with a share where gateways have one. Raises Lost."""
        heart = from_all(DEFAULT_ENV, Word.HEART)
        self._filter = shared(heart) if share else heart
        if self._env != DEFAULT_ENV:
            self.extra.settle(await self.extra.subscribe(connection, {self._filter: 0}))

    async def listen(self, connection: MqttConnection) -> NoReturn:
        """Listen again a while after a base was noticed. Raises Lost."""
        while True:
            await self._seen.wait()
            await connection.unsubscribe([self._filter])
            await asyncio.sleep(DEAF)
            self._seen.clear()
            self.extra.settle(await self.extra.subscribe(connection, {self._filter: 0}))
