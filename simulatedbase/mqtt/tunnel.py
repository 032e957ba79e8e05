"""One base on a broker: connected, subscribed, sending heartbeats, connected again; and what it does with a message.

As in a Java base the first connection must succeed, the baseline is asked for once, one heartbeat that falls in an
outage is the last one ever, and the broker is tried again after 1, 2, 4 s and so on without jitter. Messages run side
by side in a pool, in no order; nothing looks at their age, at duplicates or at the retain flag.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

import structlog

from gateways.arklet.fields import Json
from mqttclient.connection import MqttConnection, MqttMessage
from mqttclient.failures import ConnectFailed, MqttError
from service.process import StartError
from simulatedbase.arklet import Arklet
from simulatedbase.life import Life
from simulatedbase.mqtt import wire
from simulatedbase.profile import DEACTIVATED, hit

KEEP_ALIVE = 60
RECONNECT_FIRST = 1.0
GOODBYE_SECONDS = 5.0

CORE, MOST, WAITING = 5, 10, 100
"""Threads of a Java base that are there, threads that there may be, jobs that may wait."""

Job = Callable[[], Coroutine[Any, Any, None]]

log = structlog.get_logger(__name__)


class Pool:
    """Runs jobs as a ThreadPoolExecutor with the policy "caller runs" does; without any order between them.

    A job must not raise.
    """

    def __init__(self, life: Life) -> None:
        self._life = life
        self._threads = 0
        self._waiting: deque[Job] = deque()

    def submit(self, job: Job) -> asyncio.Task[None] | None:
        """Run a job at once or later; when all threads are busy and the queue is full, return it as run by the caller.

        Then the caller has to take nothing else before it is done.
        """
        if self._threads >= CORE and len(self._waiting) < WAITING:
            self._waiting.append(job)
        elif self._threads < MOST:
            self._threads += 1
            self._life.run(self._thread(job), "commands over MQTT").add_done_callback(self._ended)
        else:
            return self._life.run(job(), "command over MQTT")
        return None

    async def _thread(self, job: Job) -> None:
        await job()
        while self._waiting:
            await self._waiting.popleft()()

    def _ended(self, _thread: asyncio.Task[None]) -> None:
        self._threads -= 1


class MqttTunnel:
    """One base on a broker. Raises ValueError for a profile without a broker."""

    def __init__(self, life: Life, arklet: Arklet) -> None:
        profile = life.profile
        if profile.broker is None:
            raise ValueError("a base over MQTT needs a broker")
        self._life = life
        self._profile = profile
        self._arklet = arklet
        self._topics = wire.Topics(profile.env, profile.identity)
        self._broker = profile.broker
        self._connection = self._new_connection()
        self._pool = Pool(life)
        self._cut_until = 0.0
        self._log = log.bind(base=profile.identity)
        self.sends_heartbeats = False
        """Heartbeats go out, or would but for muting."""

    @property
    def connected(self) -> bool:
        """Whether the broker has a session of the base."""
        return self._connection.up

    async def start(self) -> None:
        """Connect, ask for the baseline, begin to send heartbeats; raises StartError."""
        try:
            await self._connect()
            await self._publish("queryBaseline", self._profile.metadata())
        except MqttError as error:
            where = f"broker {self._broker.broker}:{self._broker.port}"
            fix = "is it there, and are --broker, --mqtt-port and the credentials right?"
            raise StartError(f"{where}: {error}; {fix}") from error
        self.sends_heartbeats = True
        self._life.run(self._keep(), "connection to the broker")
        heartbeats = self._life.send_heartbeats(self._profile.mqtt_interval, self._send_heartbeat)
        self._life.run(heartbeats, "heartbeats over MQTT")

    async def deactivate(self) -> None:
        """Say DEACTIVATED, as no Java base does; a failure is logged."""
        try:
            async with asyncio.timeout(GOODBYE_SECONDS):
                await self._publish("heart", self._profile.heartbeat(0, DEACTIVATED))
        except (MqttError, TimeoutError) as error:
            self._log.warning("the controller does not know that the base leaves", error=str(error))

    def cut(self, seconds: float) -> None:
        """Lose the connection, and stay without one for so long."""
        self._cut_until = asyncio.get_running_loop().time() + seconds
        self._connection.close()

    def close(self) -> None:
        """Leave the broker; tasks have to be ended before."""
        self._connection.close()

    def received(self, message: MqttMessage) -> None:
        """Take a message."""
        message.receipt.settle()
        job = self._job(message.topic, message.payload)
        own_work = self._pool.submit(job) if job is not None else None
        if own_work is not None:
            # The one who takes messages works itself, and takes none meanwhile.
            connection = self._connection
            connection.pause()
            own_work.add_done_callback(lambda _: connection.resume())

    def _job(self, topic: str, payload: bytes) -> Job | None:
        """Return what is to be done for a message, None for nothing."""
        command = self._topics.command(topic)
        if command is None:
            self._log.info("no command over MQTT", topic=topic)
            self._life.received(topic.rpartition("/")[2], None)
            return None
        try:
            parameters = wire.parameters(command, payload)
        except ValueError as error:
            self._log.warning("message that makes no sense", command=command, error=str(error))
            return None
        self._life.received(command, parameters)
        if command in wire.CHANGES and parameters is None:
            self._log.info("empty message", command=command)
            return None
        return None if hit(self._life.faults.hang, command) else partial(self._answer, command, parameters)

    async def _answer(self, command: str, parameters: Json | None) -> None:
        result = await self._arklet.execute(command, parameters)
        if result is None:
            return
        try:
            # The broker's acknowledgement is not waited for: it does not come in while the connection is paused.
            self._publish(*wire.answer(command, parameters, result, self._arklet.modules()))
        except MqttError as error:
            self._log.warning("answer is lost", command=command, error=str(error))

    def _publish(self, kind: str, data: object) -> asyncio.Future[None]:
        return self._connection.publish(self._topics.own(kind), wire.envelope(data, self._life.now()))

    def _new_connection(self) -> MqttConnection:
        client_id = self._broker.client_id_of(self._profile.identity)
        return MqttConnection(self._broker, client_id, self.received, keepalive=KEEP_ALIVE)

    async def _connect(self) -> None:
        """Make a new connection; raises MqttError."""
        connection = self._connection = self._new_connection()
        try:
            async with self._profile.connecting:
                await connection.open()
            # Retained commands come with the subscription, and are answered.
            if not all(await connection.subscribe(dict.fromkeys(self._topics.subscriptions(), 1))):
                raise ConnectFailed("subscription", "the broker refuses the subscriptions of the base")
        except BaseException:
            connection.close()
            raise

    async def _keep(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.wait((self._connection.ended,))
            self._log.warning("connection to the broker is lost", reason=self._connection.ended.result())
            delay = RECONNECT_FIRST
            while not self.connected:
                await asyncio.sleep(max(delay, self._cut_until - loop.time()))
                try:
                    await self._connect()
                except MqttError as error:
                    self._log.debug("still no broker", error=str(error))
                delay = min(delay * 2, self._profile.reconnect_longest)
            self._log.info("connected again")

    async def _send_heartbeat(self) -> bool:
        try:
            await self._publish("heart", self._profile.heartbeat(0))
        except MqttError as error:
            self.sends_heartbeats = self._profile.heartbeats_survive
            if not self.sends_heartbeats:
                self._log.warning("heartbeats end for good", error=str(error))
        return self.sends_heartbeats
