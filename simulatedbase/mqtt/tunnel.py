"""The life of a base on a broker: connected, subscribed, beating, and connected again.

As in a Java base the first connection must succeed, the baseline is asked for
once, and one heartbeat that falls in an outage is the last one ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from simulatedbase.arklet import Arklet
from simulatedbase.heartbeat import ACTIVATED, DEACTIVATED, beat, metadata
from simulatedbase.mqtt import wire
from simulatedbase.mqtt.broker import Broker
from simulatedbase.mqtt.commands import Commands, Record
from simulatedbase.mqtt.connection import BrokerUnavailable, Connection, PublishFailed
from simulatedbase.profile import Faults, Profile

RECONNECT_FIRST = 1.0
GOODBYE_SECONDS = 5.0

log = structlog.get_logger(__name__)


class MqttTunnel:
    """One base on a broker; now returns epoch milliseconds. Its tasks are in tasks while they run."""

    def __init__(
        self,
        profile: Profile,
        broker: Broker,
        faults: Faults,
        arklet: Arklet,
        tasks: set[asyncio.Task[None]],
        record: Record,
        *,
        now: Callable[[], int],
    ) -> None:
        self._profile = profile
        self._broker = broker
        self._faults = faults
        self._tasks = tasks
        self._now = now
        self._topics = wire.Topics(profile.env.lower(), profile.identity)
        self._commands = Commands(self._topics, arklet, faults, tasks, record, self._send)
        self._connection: Connection | None = None
        self._cut_until = 0.0
        self._log = log.bind(base=profile.identity)
        self.beating = False
        """Heartbeats go out, or would but for muting."""

    @property
    def connected(self) -> bool:
        """The broker has a session of the base."""
        return self._connection is not None and self._connection.connected

    async def start(self) -> None:
        """Connect, ask for the baseline, begin to beat; raises BrokerUnavailable."""
        connection = await self._connect()
        try:
            await self._publish("queryBaseline", metadata(self._profile))
        except PublishFailed as error:
            raise BrokerUnavailable(f"broker {self._broker.host}:{self._broker.port}: {error}") from error
        for work in (self._keep(connection), self._beat()):
            task = asyncio.get_running_loop().create_task(work, name=f"{self._profile.identity} over MQTT")
            self._tasks.add(task)
            task.add_done_callback(self._ended)

    async def deactivate(self) -> None:
        """Say DEACTIVATED, as no Java base does; a failure is logged."""
        try:
            async with asyncio.timeout(GOODBYE_SECONDS):
                await self._publish("heart", beat(self._profile, 0, DEACTIVATED))
        except (PublishFailed, TimeoutError) as error:
            self._log.warning("the controller was not told", error=str(error))

    def cut(self, seconds: float) -> None:
        """Lose the connection, and stay without one for so long."""
        self._cut_until = asyncio.get_running_loop().time() + seconds
        if self._connection is not None:
            self._connection.close()

    def close(self) -> None:
        """Leave the broker; tasks have to be ended before."""
        if self._connection is not None:
            self._connection.close()

    def _send(self, kind: str, told: object) -> None:
        # An answer is not waited for: acknowledgements do not come in while reading is paused.
        self._current().send(self._topics.own(kind), wire.envelope(told, self._now()))

    async def _publish(self, kind: str, told: object) -> None:
        await self._current().publish(self._topics.own(kind), wire.envelope(told, self._now()))

    def _current(self) -> Connection:
        if self._connection is None:
            raise PublishFailed("not connected")
        return self._connection

    async def _connect(self) -> Connection:
        connection = Connection(
            self._broker,
            self._broker.client_id(self._profile.identity),
            lambda topic, payload: self._received(connection, topic, payload),
        )
        await connection.open()
        # Retained commands come with the subscription, and are answered.
        self._connection = connection
        try:
            await connection.subscribe(self._topics.subscriptions())
        except (BrokerUnavailable, asyncio.CancelledError):
            connection.close()
            raise
        return connection

    async def _keep(self, connection: Connection) -> None:
        while True:
            reason = await connection.lost
            self._log.warning("connection to the broker is lost", reason=reason)
            connection = await self._again()
            self._log.info("connected again")

    async def _again(self) -> Connection:
        delay = max(RECONNECT_FIRST, self._cut_until - asyncio.get_running_loop().time())
        while True:
            await asyncio.sleep(delay)
            try:
                return await self._connect()
            except BrokerUnavailable as error:
                self._log.debug("still no broker", error=str(error))
            delay = min(delay * 2, self._profile.reconnect_longest)

    async def _beat(self) -> None:
        self.beating = True
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            if not self._faults.mute:
                try:
                    await self._publish("heart", beat(self._profile, 0, ACTIVATED))
                except PublishFailed as error:
                    if not self._profile.heartbeats_survive:
                        self.beating = False
                        self._log.warning("heartbeats end for ever", error=str(error))
                        return
            due = max(due + self._profile.mqtt_heartbeat_interval, loop.time())
            await asyncio.sleep(due - loop.time())

    def _received(self, connection: Connection, topic: str, payload: bytes) -> None:
        own_work = self._commands.receive(topic, payload)
        if own_work is not None:
            # The one who takes messages works itself, and takes none meanwhile.
            connection.pause()
            own_work.add_done_callback(lambda _: connection.resume())

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("the tunnel ended", exc_info=error)
