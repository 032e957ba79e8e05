"""A base as a broker sees it, for tests that publish each message of it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Self

import orjson

from mqttclient.connection import MqttConnection, MqttMessage
from tests.integration.simulatedbase.wire import broker

WITHIN = 10.0


def envelope(data: Any, *, age: float = 0.0) -> bytes:
    """Return what a base publishes; age is how many seconds ago it was stamped."""
    return orjson.dumps({"data": data, "publishTimestamp": int((time.time() - age) * 1000)})


def heart(identity: str) -> dict[str, Any]:
    metadata = {"identity": identity, "name": "shop", "version": "1.0.0", "clusterName": "default"}
    return {"baseMetadata": metadata, "localIP": "10.0.0.7", "localHostName": "h", "port": 0, "state": "activated"}


def operation(command: str, name: str, version: str, response: dict[str, Any]) -> dict[str, Any]:
    return {"bizName": name, "bizVersion": version, "command": command, "response": response}


SUCCESS: dict[str, Any] = {"code": "SUCCESS", "data": {"code": "SUCCESS", "message": "done"}}
CONFLICT: dict[str, Any] = {
    "code": "FAILED",
    "message": "FAILED:biz1:1 installBiz conflict, exist unfinished command(installBiz) for this biz",
}


class Base:
    """A connected base. answers maps commands to what is published when they come."""

    def __init__(self, port: int, identity: str, env: str = "dev", credentials: tuple[str, str] = ("", "")) -> None:
        self.identity = identity
        self.env = env
        self.commands: list[tuple[str, bytes, bool]] = []
        self.answers: dict[str, Callable[[bytes], tuple[str, Any] | None]] = {}
        username, password = credentials
        settings = broker(port, username=username, password=password)
        self.connection = MqttConnection(settings, f"base@@@{identity}", self._received)
        self._came = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        await self.connection.open()
        await self.connection.subscribe({self.topic("+"): 1, self.topic("base/baseline"): 1})
        try:
            yield self
        finally:
            await asyncio.gather(*self._tasks, return_exceptions=True)
            self.connection.close()

    def topic(self, word: str) -> str:
        return f"koupleless_{self.env}/{self.identity}/{word}"

    async def say(self, word: str, data: Any, *, age: float = 0.0) -> None:
        await self.raw(f"base/{word}", envelope(data, age=age))

    async def raw(self, word: str, payload: bytes, *, retain: bool = False) -> None:
        await self.connection.publish(self.topic(word), payload, retain=retain)

    async def send_heartbeat(self) -> None:
        await self.say("heart", heart(self.identity))

    async def command(self, word: str, count: int = 1) -> bytes:
        """Wait until a command came so many times; return the body of the last."""
        async with asyncio.timeout(WITHIN), self._came:
            while True:
                bodies = self.bodies(word)
                if len(bodies) >= count:
                    return bodies[count - 1]
                await self._came.wait()

    def bodies(self, word: str) -> list[bytes]:
        return [body for name, body, _ in self.commands if name == word]

    def _received(self, message: MqttMessage) -> None:
        message.receipt.settle()
        word = message.topic.split("/", 2)[2]
        if word.startswith("base/") and word != "base/baseline":
            return
        task = asyncio.create_task(self._take(word, message))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _take(self, word: str, message: MqttMessage) -> None:
        async with self._came:
            self.commands.append((word, message.payload, message.retained))
            self._came.notify_all()
        answer = self.answers[word](message.payload) if word in self.answers else None
        if answer is not None:
            await self.say(*answer)
