"""Bases that beat where nobody listens: their environment is not the one of this gateway.

A base that was not told its environment uses "default", a controller that was not
told uses "dev": they never meet, and neither side says so. The gateway therefore
listens for heartbeats under "default" until it hears one, says so, and listens again
after a while; where that environment is served by somebody else it costs next to nothing.
"""

from __future__ import annotations

import asyncio
from typing import NoReturn

import structlog

from gateways.arklet.topics import InvalidTopic, Word, parse
from gateways.mqtt.connection import Connection, Message
from gateways.mqtt.metrics import REFUSED
from gateways.mqtt.subscriptions import DEFAULT_ENV, stray_filter

log = structlog.get_logger(__name__)

DEAF = 600.0
"""Seconds between two looks."""


class Strays:
    """Finds heartbeats of the environment that bases have without being told one."""

    def __init__(self, env: str) -> None:
        self._env = env
        self._seen = asyncio.Event()

    def is_stray(self, message: Message) -> bool:
        """Take a message if it is from a base of that environment."""
        if self._env == DEFAULT_ENV or not message.topic.startswith(f"koupleless_{DEFAULT_ENV}/"):
            return False
        REFUSED.labels(reason="environment").inc()
        if not self._seen.is_set():
            try:
                base, word = parse(message.topic, DEFAULT_ENV)
            except (InvalidTopic, ValueError):
                return True
            if word is Word.HEART:
                self._seen.set()
                log.warning(
                    "a base beats in another environment and is not served: give the base's metadata hook the runtime "
                    "environment of this controller, or set ENV to the base's",
                    base=base,
                    base_environment=DEFAULT_ENV,
                    environment=self._env,
                )
        return True

    async def listen(self, connection: Connection) -> NoReturn:
        """Listen again a while after a base was heard; the first subscription is made. Raises Lost."""
        while True:
            await self._seen.wait()
            await connection.unsubscribe([stray_filter()])
            await asyncio.sleep(DEAF)
            self._seen.clear()
            await connection.subscribe([stray_filter()])
