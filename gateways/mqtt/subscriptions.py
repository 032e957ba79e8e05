"""What a gateway listens to, and how gateways share it.

Answers go to every gateway, since only the one that asked knows what they answer:
``health``, ``simpleBiz``, ``biz``, ``bizOperation``. What bases say on their own
(``heart``, ``queryBaseline``, ``batchInstallBizResponse``) goes to one of the gateways
where the broker has shared subscriptions, and to every gateway where it does not.
Heartbeats then are told twice, which is harmless; for baseline questions see ``baselines``.

No SUBSCRIBE has more than eight filters, which is as many as some brokers take, and
none mixes what is needed with what is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from gateways.arklet.topics import Word, baseline, from_all
from gateways.mqtt.extras import HOLD
from gateways.mqtt.metrics import SHARED
from gateways.mqtt.sharing import Sharing, shared
from mqttclient.connection import MqttConnection
from mqttclient.failures import ConnectFailed, Unanswered

ANSWERS = (Word.HEALTH, Word.SIMPLE_BIZ, Word.BIZ, Word.BIZ_OPERATION)
NEWS = (Word.HEART, Word.QUERY_BASELINE, Word.BATCH_RESPONSE)


class Subscriptions:
    """The subscriptions of one gateway; made anew on each connection."""

    def __init__(self, env: str, sharing: Sharing) -> None:
        self._answers = [from_all(env, word) for word in ANSWERS]
        self._baselines = baseline(env, "+")
        self._news = [from_all(env, word) for word in NEWS]
        self._sharing = sharing

    @property
    def shared(self) -> bool:
        """Whether the gateways share what bases say on their own."""
        return not self._sharing.extra.why_not

    async def make(self, connection: MqttConnection) -> None:
        """Subscribe to everything. Raises Lost, and ConnectFailed where the broker refuses what is needed."""
        await _need(connection, self._answers, [self._baselines])
        # Where there was no sharing the last time, bases are heard before it is tried again.
        heard = not self.shared
        if heard:
            await _need(connection, self._news)
        why_not = await self._share(connection)
        if why_not and not heard:
            await _need(connection, self._news)
        elif heard and not why_not:
            with suppress(Unanswered):
                await connection.unsubscribe(self._news)
        self._settle(why_not)

    def everybody_hears(self) -> None:
        """Take note that the broker delivers to every member of a group."""
        why_not = "several gateways get each baseline question: the broker delivers to every member of a group"
        self._sharing.extra.hold(why_not, HOLD)
        self._settle(why_not)

    def _settle(self, why_not: str) -> None:
        self._sharing.extra.settle(why_not)
        SHARED.set(not why_not)

    async def _share(self, connection: MqttConnection) -> str:
        """Have a share of the news; return why not, empty if so. Raises Lost."""
        why_not = await self._sharing.prove(connection)
        if why_not:
            return why_not
        filters = [shared(name) for name in self._news]
        why_not = await self._sharing.extra.subscribe(connection, filters)
        if why_not:
            # Some of them may have been taken: what they bring would come twice.
            with self._sharing.extra.asked_of(connection), suppress(Unanswered):
                await connection.unsubscribe(filters)
        return why_not


async def _need(connection: MqttConnection, filters: Sequence[str], wanted: Sequence[str] = ()) -> None:
    """Subscribe to filters that are needed, and to some that are wanted and come under the same rights.

    Raises Lost, and ConnectFailed where the broker does not let us.
    """
    try:
        taken = await connection.subscribe([*filters, *wanted])
    except Unanswered as error:
        raise ConnectFailed("subscription", str(error)) from None
    refused = [name for name, yes in zip(filters, taken, strict=False) if not yes]
    if refused:
        text = f"the broker refuses subscriptions ({', '.join(refused)}): this user needs to read them"
        raise ConnectFailed("subscription", text)
