"""Baseline questions of starting bases: asked of the control plane, answered to the base, once each.

A base asks once in its life and does not ask again, so the gateway keeps the question
for a while where no replica can be asked. It goes without a baseline after that: its
modules then come by orders, like later ones.

Where the broker has no shared subscriptions every gateway hears every question. Each
waits for a random moment then, and gives up when it hears that another one answered.
Two that answer in the same moment do no harm: a base carries out one batch at a time
and finds the modules of the second one installed. A broker that has them, and delivers
to every member of a group all the same, is found out here.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Protocol

import structlog

from gateways.arklet import commands, topics
from gateways.arklet.facts import BaselineModule, Metadata
from gateways.mqtt.doubles import Doubles
from gateways.mqtt.metrics import PUBLISHED
from gateways.session.session import Unavailable
from mqttclient.failures import Lost, NotSent

log = structlog.get_logger(__name__)

MOST = 1_024
"""Questions that wait for an answer at the same time."""
KEEP = 60.0
"""Seconds that a question is kept."""
ANSWER_TIMEOUT = 5.0
"""Seconds that the control plane has for one attempt."""
AGAIN = 1.0
"""Seconds between two attempts, before jitter."""
SPREAD = 1.5
"""Seconds over which gateways that all hear a question spread their answers."""


class ControlPlane(Protocol):
    """Who knows the answers."""

    async def baseline(self, metadata: Metadata) -> tuple[BaselineModule, ...]:
        """Ask which modules a base should start with. Raises Unavailable."""


class Publisher(Protocol):
    """What sends to bases: ``Broker``."""

    def publish(self, topic: str, payload: bytes) -> asyncio.Future[None]:
        """Send; the future is done once the broker has it, or raises Lost. Raises NotSent."""


class Baselines:
    """Answers baseline questions.

    shared tells whether this gateway alone heard them; everybody_hears is called when
    that turns out to be wrong.
    """

    def __init__(
        self,
        env: str,
        control_plane: ControlPlane,
        broker: Publisher,
        *,
        shared: Callable[[], bool],
        everybody_hears: Callable[[], None] = lambda: None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._env = env
        self._control_plane = control_plane
        self._broker = broker
        self._shared = shared
        self._everybody_hears = everybody_hears
        self._chance = chance
        self._doubles = Doubles()
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    def ask(self, metadata: Metadata) -> bool:
        """Take a question; False when too many wait. One that waits already is not asked twice."""
        base = metadata.identity
        self._doubles.asked(base, asyncio.get_running_loop().time())
        if base in self._tasks:
            return True
        if len(self._tasks) >= MOST:
            return False
        task = asyncio.get_running_loop().create_task(self._answer(metadata), name=f"baseline {base}")
        self._tasks[base] = task
        task.add_done_callback(lambda _: self._tasks.pop(base, None))
        return True

    def overheard(self, base: str) -> None:
        """Another gateway, or this one, has answered."""
        if self._doubles.answered(base):
            self._everybody_hears()
        task = self._tasks.get(base)
        if task is not None and not self._shared():
            task.cancel()

    async def close(self) -> None:
        """Answer no more."""
        tasks = [*self._tasks.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _answer(self, metadata: Metadata) -> None:
        base = metadata.identity
        if not self._shared():
            await asyncio.sleep(SPREAD * self._chance())
        reason = ""
        try:
            async with asyncio.timeout(KEEP):
                while True:
                    reason = await self._attempt(metadata)
                    if not reason:
                        return
                    await asyncio.sleep(AGAIN * (0.5 + self._chance()))
        except TimeoutError:
            log.warning("a base starts without baseline", base=base, reason=reason)

    async def _attempt(self, metadata: Metadata) -> str:
        """Return why there is no answer yet, empty when it was sent."""
        base = metadata.identity
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                modules = await self._control_plane.baseline(metadata)
            PUBLISHED.labels(command="baseline").inc()
            await self._broker.publish(topics.baseline(self._env, base), commands.baseline(modules))
        except TimeoutError:
            return "the control plane does not answer"
        except (Unavailable, NotSent) as error:
            return str(error)
        except Lost as error:
            # It may have arrived: sent twice it would be carried out twice.
            log.warning("the baseline of a base may be lost", base=base, reason=str(error))
        return ""
