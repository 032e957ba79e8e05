"""A thread pool of Java without threads: who runs a job, and when."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

CORE, MOST, WAITING = 5, 10, 100
"""Threads that are there, threads that there may be, jobs that may wait."""

Job = Callable[[], Coroutine[Any, Any, None]]


class Pool:
    """Runs jobs as a ThreadPoolExecutor with the policy "caller runs" does; without any order between them.

    Its tasks are in tasks while they run. A job must not raise.
    """

    def __init__(self, tasks: set[asyncio.Task[None]]) -> None:
        self._tasks = tasks
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
            self._start(self._thread(job)).add_done_callback(self._ended)
        else:
            return self._start(job())
        return None

    def _start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _thread(self, job: Job) -> None:
        await job()
        while self._waiting:
            await self._waiting.popleft()()

    def _ended(self, _thread: asyncio.Task[None]) -> None:
        self._threads -= 1
