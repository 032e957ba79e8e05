"""Commands over MQTT: what the base does with a message, and what it publishes.

Messages run side by side in a pool, in no order. Nothing looks at their age,
at duplicates or at the retain flag.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

import structlog

from gateways.arklet.fields import Json
from simulatedbase.arklet import Arklet
from simulatedbase.java import JavaError
from simulatedbase.mqtt import wire
from simulatedbase.mqtt.connection import PublishFailed
from simulatedbase.mqtt.pool import Pool
from simulatedbase.profile import Faults

log = structlog.get_logger(__name__)

Send = Callable[[str, object], None]
Record = Callable[[str, Json | None], None]


class Commands:
    """Takes the messages for one base; send is given the kind of an own topic and its data."""

    def __init__(
        self,
        topics: wire.Topics,
        arklet: Arklet,
        faults: Faults,
        tasks: set[asyncio.Task[None]],
        record: Record,
        send: Send,
    ) -> None:
        self._topics = topics
        self._arklet = arklet
        self._faults = faults
        self._record = record
        self._send = send
        self._pool = Pool(tasks)
        self._log = log.bind(base=topics.identity)

    def receive(self, topic: str, payload: bytes) -> asyncio.Task[None] | None:
        """Take a message; a task that comes back runs in the caller's place, who waits for it."""
        command = self._topics.command(topic)
        if command is None:
            self._log.info("no command over MQTT", topic=topic)
            self._record(topic.rpartition("/")[2], None)
            return None
        try:
            parameters = wire.parameters(command, payload)
        except wire.Malformed as error:
            self._log.warning("message that makes no sense", command=command, error=str(error))
            return None
        self._record(command, parameters)
        if command in wire.CHANGES and parameters is None:
            self._log.info("empty message", command=command)
            return None
        if self._faults.hangs(command):
            return None
        return self._pool.submit(partial(self._run, command, parameters))

    async def _run(self, command: str, parameters: Json | None) -> None:
        if delay := self._faults.delay(command):
            await asyncio.sleep(delay)
        answer = await self._answer(command, parameters)
        if answer is None or self._faults.drops_reply(command):
            return
        kind, told = answer
        try:
            self._send(kind, told)
        except PublishFailed as error:
            self._log.warning("answer is lost", command=command, error=str(error))

    async def _answer(self, command: str, parameters: Json | None) -> tuple[str, object] | None:
        """Return own topic and data of the answer; exceptions of questions have none."""
        try:
            told = wire.response(await self._arklet.perform(command, parameters))
        except JavaError as error:
            if command in wire.QUESTIONS:
                return None
            told = wire.thrown(error)
        if command == "health":
            return "health", told
        if command == "queryAllBiz":
            return "simpleBiz", wire.simple_biz(self._arklet.modules())
        if command == wire.BATCH:
            return "batchInstallBizResponse", wire.batch(told)
        return "bizOperation", wire.operation(command, parameters or {}, told)
