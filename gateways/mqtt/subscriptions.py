"""What a gateway listens to, and how gateways share it.

Answers go to every gateway, since only the one that asked knows what they answer:
``health``, ``simpleBiz``, ``biz``, ``bizOperation``. What bases say on their own
(``heart``, ``queryBaseline``, ``batchInstallBizResponse``) goes to one of the gateways:
a shared subscription, ``$share/GROUP/FILTER``.

Not every broker has those, and one that does not may accept the filter and deliver
nothing. So each connection puts it to the test, with a group and a topic of its own:
a message that should come back. Where it does not, the gateway listens to everything
itself, like every other one. Heartbeats then are told twice, which is harmless;
for baseline questions see ``baselines``.
"""

from __future__ import annotations

import asyncio

import structlog

from gateways.arklet.topics import Word, baseline, from_all
from gateways.mqtt.connection import ConnectFailed, Connection, Lost, Message, NotSent
from gateways.mqtt.metrics import SHARED

log = structlog.get_logger(__name__)

GROUP = "koupleless-module-controller"
ANSWERS = (Word.HEALTH, Word.SIMPLE_BIZ, Word.BIZ, Word.BIZ_OPERATION)
NEWS = (Word.HEART, Word.QUERY_BASELINE, Word.BATCH_RESPONSE)
PROOF_WITHIN = 3.0
"""Seconds in which the test message of a shared subscription comes back."""
DEFAULT_ENV = "default"
"""Environment of bases that were not told theirs."""


class Subscriptions:
    """The subscriptions of one gateway; made anew on each connection."""

    def __init__(self, env: str, client_id: str) -> None:
        self._env = env
        self._probe = f"koupleless_{env}/{client_id.translate(_LEVEL)}/gateway/probe"
        self._came_back = asyncio.Event()
        self.shared = True

    def is_probe(self, message: Message) -> bool:
        """Take a message if it is the test of shared subscriptions."""
        if message.topic != self._probe:
            return False
        self._came_back.set()
        return True

    async def make(self, connection: Connection) -> None:
        """Subscribe to everything. Raises Lost, and ConnectFailed where the broker refuses what is needed."""
        self._came_back.clear()
        news = [from_all(self._env, word) for word in NEWS]
        shared = [f"$share/{GROUP}/{name}" for name in news]
        if self._env != DEFAULT_ENV:
            shared.append(stray_filter())
        probe = f"$share/{GROUP}-{self._probe.split('/')[1]}/{self._probe}"
        needed = [from_all(self._env, word) for word in ANSWERS]
        taken = await connection.subscribe([*needed, *shared, probe])
        _check(needed, taken[: len(needed)])
        self.shared = all(taken[len(needed) : len(needed) + len(news)]) and taken[-1] and await self._proof(connection)
        if not self.shared:
            plain = [*news, baseline(self._env, "+")]
            _check(plain, await connection.subscribe(plain))
            log.warning("the broker has no shared subscriptions: each gateway hears every base")
        SHARED.set(self.shared)

    async def _proof(self, connection: Connection) -> bool:
        try:
            async with asyncio.timeout(PROOF_WITHIN):
                await connection.publish(self._probe, b"{}")
                await self._came_back.wait()
        except NotSent as error:
            raise Lost(str(error)) from None
        except TimeoutError:
            return False
        return True


def stray_filter() -> str:
    """Return the filter for heartbeats of bases that were not told their environment."""
    return f"$share/{GROUP}/{from_all(DEFAULT_ENV, Word.HEART)}"


def _check(filters: list[str], taken: list[bool]) -> None:
    refused = [name for name, ok in zip(filters, taken, strict=True) if not ok]
    if refused:
        text = f"the broker refuses subscriptions ({', '.join(refused)}): this user needs to read them"
        raise ConnectFailed("subscription", text)


_LEVEL = {ord(character): "_" for character in "/+#$\0"}
