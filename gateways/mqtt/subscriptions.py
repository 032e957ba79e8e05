"""What a gateway listens to, and how gateways share it.

Answers (``health``, ``simpleBiz``, ``biz``, ``bizOperation``) go to every gateway, since only the one that asked knows
what they answer. What bases say on their own (``heart``, ``queryBaseline``, ``batchInstallBizResponse``) goes to one of
the gateways where the broker has shared subscriptions, and to every gateway where it does not. Heartbeats are then
reported twice, which is harmless; for baseline questions see ``baselines``.

MQTT 3.1.1 has no shared subscriptions (``$share/GROUP/FILTER``), so a broker without them may refuse the filter, end
the connection, or take it for a plain topic; and one that has them may not let this user in. So they are put to the
test: a message to a topic of our own must come back.

What bases repeat (heartbeats, health, lists) has QoS 0, what they say once has QoS 1. A broker keeps a limited number
of messages with QoS 1 for each client (1,000 in Mosquitto) and then throws away what comes: a flood of heartbeats would
cost the results of orders.

No SUBSCRIBE has more than eight filters, as many as some brokers take, and none mixes what is needed with what is not.
"""

import asyncio
from collections.abc import Mapping
from types import MappingProxyType

from gateways.arklet.topics import Word, baseline, from_all
from gateways.mqtt.extras import HOLD, WITHIN, Extra
from gateways.mqtt.metrics import SHARED
from mqttclient.connection import MqttConnection, MqttMessage
from mqttclient.failures import ConnectFailed, Lost, NotSent, Unanswered

ANSWERS = {Word.HEALTH: 0, Word.SIMPLE_BIZ: 0, Word.BIZ: 0, Word.BIZ_OPERATION: 1}
NEWS = {Word.HEART: 0, Word.QUERY_BASELINE: 1, Word.BATCH_RESPONSE: 1}
"""With the QoS of the subscription."""
GROUP = "koupleless-module-controller"

_LEVEL = {ord(character): "_" for character in "/+#$\0"}


def shared(name: str, group: str = GROUP) -> str:
    """Return the filter for a gateway's share of what is published under another filter."""
    return f"$share/{group}/{name}"


class Subscriptions:
    """The subscriptions of one gateway, which begin again on each connection; client_id is its name."""

    def __init__(self, env: str, client_id: str) -> None:
        name = client_id.translate(_LEVEL)
        self._answers = {from_all(env, word): qos for word, qos in ANSWERS.items()}
        self._baselines = baseline(env, "+")
        self._news = {from_all(env, word): qos for word, qos in NEWS.items()}
        self._probe = f"koupleless_{env}/{name}/gateway/probe"
        self._probe_filter = shared(self._probe, f"{GROUP}-{name}")
        self._came_back = asyncio.Event()
        self.sharing = Extra(
            "shared subscriptions",
            "every gateway gets the messages of every base, which is harmless; one gateway alone does less work",
        )

    @property
    def shared(self) -> bool:
        """Whether the gateways share what bases say on their own."""
        return not self.sharing.why_not

    def is_probe(self, message: MqttMessage) -> bool:
        """Take a message if it is the one to ourselves."""
        if message.topic != self._probe:
            return False
        self._came_back.set()
        return True

    async def make(self, connection: MqttConnection) -> None:
        """Subscribe to everything. Raises Lost, and ConnectFailed where the broker refuses what is needed."""
        await _need(connection, self._answers, {self._baselines: 1})
        # Where there was no sharing the last time, bases are listened to before it is tried again.
        listening = not self.shared
        if listening:
            await _need(connection, self._news)
        why_not = await self.prove(connection) or await self._share(connection)
        if why_not and not listening:
            await _need(connection, self._news)
        elif listening and not why_not:
            await connection.unsubscribe([*self._news])
        self._settle(why_not)

    def everybody_receives(self) -> None:
        """Take note that the broker delivers to every member of a group."""
        why_not = "several gateways get each baseline question: the broker delivers to every member of a group"
        self.sharing.hold(why_not, HOLD)
        self._settle(why_not)

    def _settle(self, why_not: str) -> None:
        self.sharing.settle(why_not)
        SHARED.set(not why_not)

    async def prove(self, connection: MqttConnection) -> str:
        """Return why the broker has no shared subscriptions for us, empty if it has them. Raises Lost."""
        self._came_back.clear()
        why_not = await self.sharing.subscribe(connection, {self._probe_filter: 1})
        if why_not:
            return why_not
        with self.sharing.asked_of(connection), connection.asking(f"publish to {self._probe}"):
            try:
                async with asyncio.timeout(WITHIN):
                    await connection.publish(self._probe, b"{}")
                    await self._came_back.wait()
            except NotSent as error:
                raise Lost(str(error)) from None
            except TimeoutError:
                return (
                    f"a message to {self._probe} did not come back through {self._probe_filter} within {WITHIN:g} s: "
                    "the broker takes that filter for a plain topic, or this user may not write or read the topic"
                )
        return ""

    async def _share(self, connection: MqttConnection) -> str:
        """Have a share of the news; return why not, empty if so. Raises Lost."""
        filters = {shared(name): qos for name, qos in self._news.items()}
        why_not = await self.sharing.subscribe(connection, filters)
        if why_not:
            # Some of them may have been taken: what they bring would come twice.
            with self.sharing.asked_of(connection):
                await connection.unsubscribe([*filters])
        return why_not


async def _need(
    connection: MqttConnection, filters: Mapping[str, int], wanted: Mapping[str, int] = MappingProxyType({})
) -> None:
    """Subscribe to filters that are needed, and to some that are wanted and come under the same rights.

    Raises Lost, and ConnectFailed where the broker does not let us.
    """
    try:
        taken = await connection.subscribe({**filters, **wanted})
    except Unanswered as error:
        raise ConnectFailed("subscription", str(error)) from None
    refused = [name for name, yes in zip(filters, taken, strict=False) if not yes]
    if refused:
        text = f"the broker refuses subscriptions ({', '.join(refused)}): this user needs to read them"
        raise ConnectFailed("subscription", text)
