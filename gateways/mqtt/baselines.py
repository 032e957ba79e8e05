"""Baseline questions of starting bases: asked of the control plane, answered to the base, once each.

A base asks once in its life, so the gateway keeps the question for a while where no replica can be asked. It goes
without a baseline after that: its modules then come by orders, like later ones.

Where the broker has no shared subscriptions every gateway receives every question. Each waits for a random moment then,
and gives up when it sees that another one answered. Two that answer in the same moment do no harm: a base carries out
one batch at a time and finds the modules of the second one installed.
"""

import asyncio
import random
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.arklet import commands, topics
from gateways.mqtt.broker import Publish
from gateways.mqtt.metrics import PUBLISHED
from gateways.session.links import Unavailable
from mqttclient.failures import Lost, NotSent

log = structlog.get_logger(__name__)

MOST = 1_024
"""Questions that wait for an answer at the same time, and those whose answers are counted."""
KEEP = 60.0
"""Seconds that a question is kept."""
ANSWER_TIMEOUT = 5.0
"""Seconds that the control plane has for one attempt."""
AGAIN = 1.0
"""Seconds between two attempts, before jitter."""
SPREAD = 1.5
"""Seconds over which gateways that all receive a question spread their answers."""
WINDOW = 5.0
"""Seconds after a question in which all answers to it are seen."""
ENOUGH = 3
"""Questions in a row that another gateway answered too."""


class Doubles:
    """Finds out whether other gateways answer the questions that this one answers: the broker does not spread them.

    What a gateway sends to a base comes back to it, once. If another answer to the same question comes too, another
    gateway had the question. One case proves nothing, since a base that starts twice asks twice; several in a row,
    without one in between that this gateway answered alone, do. Times are monotonic seconds.
    """

    def __init__(self) -> None:
        self._asked: OrderedDict[str, tuple[float, bool]] = OrderedDict()
        """By base: when it asked, and whether an answer was seen."""
        self._in_a_row = 0

    def asked(self, base: str, now: float) -> None:
        """A base asks this gateway."""
        while self._asked and (len(self._asked) >= MOST or now - next(iter(self._asked.values()))[0] > WINDOW):
            self._asked.popitem(last=False)
            self._in_a_row = 0
        self._asked.pop(base, None)
        self._asked[base] = now, False

    def answered(self, base: str) -> bool:
        """An answer to a base was seen; return whether questions are now known to reach several gateways."""
        if base not in self._asked:
            return False
        since, answered = self._asked[base]
        if not answered:
            self._asked[base] = since, True
            return False
        del self._asked[base]
        self._in_a_row += 1
        return self._in_a_row >= ENOUGH


@dataclass(slots=True)
class Baselines:
    """Answers baseline questions.

    shared: whether this gateway alone received them; everybody_receives is called when that turns out to be wrong.
    """

    env: str
    baseline: Callable[[pb.Report], Awaitable[list[pb.ModuleRef]]]
    publish: Publish
    shared: Callable[[], bool]
    everybody_receives: Callable[[], None]
    chance: Callable[[], float] = random.random
    _doubles: Doubles = field(default_factory=Doubles, init=False)
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict, init=False)

    def ask(self, query: pb.Report) -> bool:
        """Take a question; False when too many wait. One that waits already is not asked twice."""
        base = query.base_id
        self._doubles.asked(base, asyncio.get_running_loop().time())
        if base in self._tasks:
            return True
        if len(self._tasks) >= MOST:
            return False
        task = self._tasks[base] = asyncio.create_task(self._answer(query), name=f"baseline {base}")
        task.add_done_callback(lambda _: self._tasks.pop(base, None))
        return True

    def overheard(self, base: str) -> None:
        """Another gateway, or this one, has answered."""
        if self._doubles.answered(base):
            self.everybody_receives()
        task = self._tasks.get(base)
        if task is not None and not self.shared():
            task.cancel()

    async def close(self) -> None:
        """Answer no more."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _answer(self, query: pb.Report) -> None:
        if not self.shared():
            await asyncio.sleep(SPREAD * self.chance())
        reason = ""
        try:
            async with asyncio.timeout(KEEP):
                while True:
                    reason = await self._attempt(query)
                    if not reason:
                        return
                    await asyncio.sleep(AGAIN * (0.5 + self.chance()))
        except TimeoutError:
            log.warning("a base starts without baseline", base=query.base_id, reason=reason)

    async def _attempt(self, query: pb.Report) -> str:
        """Return why there is no answer yet, empty when it was sent."""
        base = query.base_id
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                modules = await self.baseline(query)
            PUBLISHED.labels(command="baseline").inc()
            await self.publish(topics.baseline(self.env, base), commands.baseline(modules))
        except TimeoutError:
            return "the control plane does not answer"
        except (Unavailable, NotSent) as error:
            return str(error)
        except Lost as error:
            # It may have arrived: sent twice it would be carried out twice.
            log.warning("the baseline of a base may be lost", base=base, reason=str(error))
        return ""
