"""Whether the broker spreads messages over gateways: shared subscriptions, ``$share/GROUP/FILTER``.

MQTT 3.1.1 knows nothing of them, so a broker without them may refuse the filter, end
the connection, or take it for a plain topic and deliver nothing; and one that has them
may not let this user in. So it is put to the test, with a group and a topic of our own:
a message that must come back. A broker that delivers to every member of a group passes
that test; see ``Baselines`` for how it is found out.
"""

from __future__ import annotations

import asyncio

from gateways.mqtt.extras import WITHIN, Extra
from mqttclient.connection import MqttConnection, MqttMessage
from mqttclient.failures import Lost, NotSent

GROUP = "koupleless-module-controller"

_LEVEL = {ord(character): "_" for character in "/+#$\0"}


def shared(name: str, group: str = GROUP) -> str:
    """Return the filter for a gateway's share of what is published under another filter."""
    return f"$share/{group}/{name}"


class Sharing:
    """What is known of the broker's shared subscriptions; client_id is that of this gateway."""

    def __init__(self, env: str, client_id: str) -> None:
        name = client_id.translate(_LEVEL)
        self._topic = f"koupleless_{env}/{name}/gateway/probe"
        self._filter = shared(self._topic, f"{GROUP}-{name}")
        self._came_back = asyncio.Event()
        self.extra = Extra(
            "shared subscriptions",
            "every gateway hears every base, which is harmless; one gateway alone does less work",
        )

    def is_probe(self, message: MqttMessage) -> bool:
        """Take a message if it is the one to ourselves."""
        if message.topic != self._topic:
            return False
        self._came_back.set()
        return True

    async def prove(self, connection: MqttConnection) -> str:
        """Return why the broker has no shared subscriptions for us, empty if it has them. Raises Lost."""
        self._came_back.clear()
        why_not = await self.extra.subscribe(connection, [self._filter])
        if why_not:
            return why_not
        with self.extra.asked_of(connection), connection.asking(f"publish to {self._topic}"):
            try:
                async with asyncio.timeout(WITHIN):
                    await connection.publish(self._topic, b"{}")
                    await self._came_back.wait()
            except NotSent as error:
                raise Lost(str(error)) from None
            except TimeoutError:
                return (
                    f"a message to {self._topic} did not come back through {self._filter} within {WITHIN:g} s: the "
                    "broker takes that filter for a plain topic, or this user may not write or read the topic"
                )
        return ""
