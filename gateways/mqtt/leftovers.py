"""Commands that an earlier controller left in the broker as retained messages.

The Go controller retains what it sends to bases, so that a base gets its last commands again with every connection.
They are removed with an empty retained message, once, only where one was seen, and slowly. A connected base gets the
empty message too: it ignores an empty install or uninstall, answers questions, and answers an empty baseline with a
failure, which is dropped.

Removed is only what lies ready for bases that show that they live: they have had it already, since a base subscribes
before it says anything. What lies there for others may be in use by another controller, and is left alone.
"""

import asyncio
from typing import NoReturn

import structlog
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.arklet import topics
from gateways.mqtt.extras import Extra
from gateways.mqtt.metrics import LEFTOVERS_CLEARED
from mqttclient.connection import MqttConnection, MqttMessage
from mqttclient.failures import Lost, NotSent
from service.limits import Recent

log = structlog.get_logger(__name__)

LOOK = 10.0
"""Seconds in which a broker sends what it retains."""
PAUSE = 0.05
"""Seconds between two removals."""
LATER = 1.0
"""Seconds until a removal is tried again that was not sent: messages for bases go first."""
MAX_BASES = 32_768
"""Bases whose leftovers are remembered, each at most once for each command."""
MAX_TOPICS = 131_072
MAX_ECHOES = 4_096


class Leftovers:
    """Finds and removes retained commands of one environment."""

    def __init__(self, env: str) -> None:
        self._env = env
        self._filters = topics.commands(env)
        """Baselines are listened to anyway (``Subscriptions``), and for good."""
        self._found: dict[str, set[str]] = {}
        self._looked = False
        self._live: asyncio.Queue[tuple[str, str]] = asyncio.Queue(MAX_TOPICS)
        """Bases that live, and the topics of what lies ready for them."""
        self.looking = Extra(
            "commands that another controller retained", "bases may carry out old commands again when they connect"
        )
        self.removing = Extra(
            "removing commands that another controller retained", "bases carry out old commands again when they connect"
        )
        self._echoes: Recent[str, None] = Recent(MAX_ECHOES)

    def saw(self, message: MqttMessage, base: str) -> None:
        """Take something that is addressed to a base: a leftover, or the news that one is gone."""
        if message.retained and message.payload and (base in self._found or len(self._found) < MAX_BASES):
            self._found.setdefault(base, set()).add(message.topic)
        elif not message.payload and base in self._found:
            self._found[base].discard(message.topic)
            if not self._found[base]:
                del self._found[base]

    def lives(self, base: str) -> None:
        """Take note that a base lives."""
        for topic in sorted(self._found.pop(base, ())):
            self._to_remove(base, topic)

    def is_echo(self, base: str, result: pb.BatchInstallResult) -> bool:
        """Return whether a base's report on its baseline is about the one that was removed."""
        if base not in self._echoes or result.items or result.reply.code == pb.REPLY_CODE_SUCCESS:
            return False
        del self._echoes[base]
        return True

    async def begin(self, connection: MqttConnection) -> None:
        """Look what the broker retains, unless that was seen before. Raises Lost."""
        if not self._looked:
            self.looking.settle(await self.looking.subscribe(connection, dict.fromkeys(self._filters, 0)))

    async def clear(self, connection: MqttConnection) -> NoReturn:
        """End the look after a while, then remove what was seen as bases show that they live. Raises Lost."""
        if not self._looked and not self.looking.held:
            await asyncio.sleep(LOOK)
            self._looked = not self.looking.why_not
            await connection.unsubscribe(self._filters)
            if commands := sum(len(found) for found in self._found.values()):
                log.info("retained commands of another controller", bases=len(self._found), commands=commands)
        while True:
            base, topic = await self._live.get()
            try:
                await self.removing.allowed()
                with self.removing.asked_of(connection), connection.asking(f"remove what is retained under {topic}"):
                    await self._remove(connection, base, topic)
            except NotSent:
                self._to_remove(base, topic)
                await asyncio.sleep(LATER)
                continue
            except (Lost, asyncio.CancelledError):
                # Over the next connection, after the others.
                self._to_remove(base, topic)
                raise
            self.removing.settle("")
            await asyncio.sleep(PAUSE)

    def _to_remove(self, base: str, topic: str) -> None:
        if not self._live.full():
            self._live.put_nowait((base, topic))

    async def _remove(self, connection: MqttConnection, base: str, topic: str) -> None:
        if topic == topics.baseline(self._env, base):
            self._echoes[base] = None
        await connection.publish(topic, b"", retain=True)
        LEFTOVERS_CLEARED.inc()
        log.info("retained command removed", topic=topic)
