"""What the parts of a base share, over restarts: its clock, its tasks, and what happened to it."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from gateways.arklet.fields import Json
from simulatedbase.profile import QUESTIONS, Faults, Profile
from simulatedbase.runtime import Biz

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Received:
    """A command as it came in. at is the process's monotonic time in seconds."""

    verb: str
    body: Json | None
    at: float


@dataclass(frozen=True, slots=True)
class Moment:
    """What was inside from a moment on, until the next one. at is the process's monotonic time in seconds.

    modules is state by name:version. number counts from 1: what is missing was forgotten. running says whether the base
    lived; note is a word on what happened.
    """

    number: int
    at: float
    running: bool
    modules: dict[str, str]
    note: str


class Life:
    """The life of a base, from its first start on; clock returns epoch nanoseconds.

    commands holds the last ones received, history the last changes of what is inside, and counts the number of each
    command ever received.
    """

    def __init__(self, profile: Profile, faults: Faults, clock: Callable[[], int] = time.time_ns) -> None:
        self.profile = profile
        self.faults = faults
        self.commands: deque[Received] = deque(maxlen=256)
        self.counts: Counter[str] = Counter()
        self.history: deque[Moment] = deque(maxlen=1024)
        self.tasks: set[asyncio.Task[None]] = set()
        self._clock = clock
        self._began = clock()

    def begin(self) -> None:
        """Begin again, as a new JVM does."""
        self._began = self._clock()

    def now(self) -> int:
        """Return epoch milliseconds by the base's clock."""
        return self._clock() // 1_000_000 + round(self.profile.clock_skew * 1000)

    def uptime(self) -> float:
        """Return seconds since the start."""
        return (self._clock() - self._began) / 1e9

    def received(self, command: str, parameters: Json | None) -> None:
        """Take note of a command."""
        self.commands.append(Received(command, parameters, time.monotonic()))
        self.counts[command] += 1
        if command not in QUESTIONS:
            log.debug("command received", base=self.profile.identity, command=command)

    def changed(self, modules: Sequence[Biz], note: str = "", *, running: bool = True) -> None:
        """Take note of what is inside after a step, or of a word on what happened."""
        number = self.history[-1].number + 1 if self.history else 1
        states = {biz.identity: biz.state.value for biz in modules}
        self.history.append(Moment(number, time.monotonic(), running, states, note))

    def run(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        """Run work as a task until it ends or the life does; that it failed is logged."""
        task = asyncio.get_running_loop().create_task(work, name=f"{self.profile.identity} {name}")
        self.tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def send_heartbeats(self, interval: float, send: Callable[[], Awaitable[bool]]) -> None:
        """Send heartbeats, the first at once, until send returns False; what is missed meanwhile is left out."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while self.faults.mute or await send():
            missed = max(0.0, loop.time() - due) // interval
            due += (missed + 1) * interval
            await asyncio.sleep(due - loop.time())

    async def end(self) -> None:
        """End all tasks, and wait until they have ended."""
        ending = [*self.tasks]
        for task in ending:
            task.cancel()
        if ending:
            await asyncio.wait(ending)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("a task of a base failed", task=task.get_name(), exc_info=error)
