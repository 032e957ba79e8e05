"""Time and processes of the model: one true time, one heap of events, one seeded source of chance.

Every process is a real asyncio loop on a clock of its own (offset, rate), which the world steps. A paused process runs
nothing; what reaches it waits. Whatever a process sends leaves it at the end of the callback that sent it, or when it
is resumed: a pause falls between any check and the write or message that follows it.
"""

import asyncio
import heapq
import itertools
from asyncio import events
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any


class Violation(AssertionError):
    """An invariant does not hold; the message says which, when and for whom."""


class World:
    """True time, the events to come, and the trace."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.now = 0.0
        self.events = 0
        self.trace: list[str] = []
        self.violation = ""
        self.defects: list[Any] = []
        """What the product logged as an error of its own."""
        self.processes: list[Process] = []
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Do something at a true time."""
        heapq.heappush(self._heap, (max(when, self.now), next(self._numbers), action))

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something later."""
        self.at(self.now + seconds, action)

    def run(self, seconds: float) -> None:
        """Run all events of so many seconds."""
        until = self.now + seconds
        while self._heap and self._heap[0][0] <= until:
            self.now, _, action = heapq.heappop(self._heap)
            self.events += 1
            action()
            if self.violation:
                raise Violation(self.violation)
            if self.defects:
                error = self.defects[0]
                raise Violation(f"the product failed: {error}")
        self.now = until

    def note(self, what: str) -> None:
        """Put a line into the trace."""
        self.trace.append(f"{self.now:9.3f} {what}")

    def chance(self, probability: float) -> bool:
        """Return whether something of this probability happens."""
        return self.random.random() < probability

    def close(self) -> None:
        """End all processes, so that nothing of them is left."""
        for process in self.processes:
            process.discard()


class Process(asyncio.BaseEventLoop):
    """A process: a loop that the world steps."""

    def __init__(self, world: World, name: str, *, offset: float = 0.0, rate: float = 1.0) -> None:
        super().__init__()
        self.world, self.name = world, name
        self.began = world.now
        self.alive, self.paused_until = True, 0.0
        self._offset, self._rate = offset, rate
        self._planned = float("inf")
        self._waiting: list[Callable[[], None]] = []
        self._failures: list[BaseException] = []
        self.after_step: Callable[[], None] = lambda: None
        self.set_exception_handler(self._failed)
        world.processes.append(self)

    @property
    def paused(self) -> bool:
        """Whether it is stopped, as by SIGSTOP."""
        return self.world.now < self.paused_until

    def time(self) -> float:
        """Its monotonic clock."""
        return self._offset + self.world.now * self._rate

    def pause(self, seconds: float) -> None:
        """Stop it at once, in the middle of whatever it does."""
        self.world.note(f"{self.name} is paused for {seconds:.2f} s")
        self.paused_until = max(self.paused_until, self.world.now + seconds)
        self.world.at(self.paused_until, self._resumed)

    def _resumed(self) -> None:
        if self.alive and not self.paused:
            # What came in the meantime is served before or after what became due, but in its own order.
            if self.world.chance(0.5):
                self._serve_waiting()
            else:
                self.world.after(0.002, self._resumed)
            self._step()

    def _serve_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for action in waiting:
            self.call_soon(action)

    def send(self, action: Callable[[], None]) -> None:
        """Let something leave this process: now, or when it is resumed, unless it is killed before."""
        if self.paused:
            self.world.at(self.paused_until, lambda: self.send(action))
        elif self.alive:
            action()

    def deliver(self, action: Callable[[], None]) -> None:
        """Let something reach this process."""
        if not self.alive:
            return
        if self.paused:
            self._waiting.append(action)
            return
        self._serve_waiting()
        self.call_soon(action)
        self._step()

    def kill(self) -> None:
        """End it as kill -9 does."""
        self.world.note(f"{self.name} is killed")
        self.alive = False

    def _step(self) -> None:
        """Run what is ready and due, until nothing is, or until it is stopped in the middle."""
        if not self.alive or self.paused:
            return
        before = events._get_running_loop()
        events._set_running_loop(self)
        try:
            while not self.paused and self.alive:
                self._take_due()
                if not self._ready:  # type: ignore[attr-defined]
                    break
                handle = self._ready.popleft()  # type: ignore[attr-defined]
                if not handle._cancelled:
                    handle._run()
                if self._failures:
                    raise self._failures.pop()
        finally:
            events._set_running_loop(before)
        self.after_step()
        self._plan()

    def _take_due(self) -> None:
        scheduled = self._scheduled  # type: ignore[attr-defined]
        while scheduled and (scheduled[0]._cancelled or scheduled[0]._when <= self.time()):
            handle = heapq.heappop(scheduled)
            handle._scheduled = False
            if not handle._cancelled:
                self._ready.append(handle)  # type: ignore[attr-defined]

    def _plan(self) -> None:
        scheduled = self._scheduled  # type: ignore[attr-defined]
        if self._ready:  # type: ignore[attr-defined]
            due = max(self.paused_until, self.world.now)
        elif scheduled:
            # A little later, so that it is due by the process's own clock too.
            due = (scheduled[0]._when - self._offset) / self._rate + 1e-6
        else:
            return
        if due < self._planned - 1e-6 or self._planned <= self.world.now:
            self._planned = due
            self.world.at(due, self._planned_step)

    def _planned_step(self) -> None:
        if self.world.now >= self._planned - 1e-6:
            self._planned = float("inf")
            self._step()

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled timers are dropped when their time comes."""

    def _failed(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if self.alive:
            self._failures.append(error if error is not None else RuntimeError(context["message"]))

    def discard(self) -> None:
        """Cancel what is left of it and close it."""
        self.alive, self.after_step = False, lambda: None
        self._failures.clear()
        before = events._get_running_loop()
        events._set_running_loop(self)
        try:
            for _ in range(50):
                tasks = asyncio.all_tasks(self)
                for task in tasks:
                    task.cancel()
                for _ in range(200):
                    if not self._ready:  # type: ignore[attr-defined]
                        break
                    handle = self._ready.popleft()  # type: ignore[attr-defined]
                    if not handle._cancelled:
                        handle._run()
                if not tasks:
                    break
            for task in asyncio.all_tasks(self):
                task._log_destroy_pending = False  # type: ignore[attr-defined]
        finally:
            events._set_running_loop(before)
        for task in list(asyncio.all_tasks(self)):
            with suppress(BaseException):
                task.exception()
        self.close()


class ProcessClock:
    """Implements ``ports.Clock`` for one process; the wall clock may be moved."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.ahead = 0.0

    def monotonic(self) -> float:
        return self._process.time()

    def wall(self) -> float:
        return 1_790_000_000.0 + self._process.world.now + self.ahead
