"""How many bases are polled at the same time.

A hanging base holds a slot until its timeout, so it must not hold one that others
wait for. Polls of bases that answered last time share the prompt lane, where a poll
that takes longer than ``PROMPT`` seconds moves on to the slow lane if there is room
in it; polls of bases that failed last time have a lane of their own. Others thus wait
at most about ``PROMPT`` seconds, until as many bases hang at once as the slow lane
has slots, which is four times the prompt lane.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateways.http.metrics import POLLS_WAITING

PROMPT = 1.0
"""Seconds that a poll may hold a slot of the prompt lane while the slow lane has room."""
SLOW = 4
"""Slots of the slow lane for each slot of the prompt lane."""
FAILING = 4
"""Slots of the prompt lane for each slot of the failing lane."""


class Slots:
    """Bounds the polls under way to prompt x (1 + SLOW + 1 / FAILING)."""

    def __init__(self, prompt: int) -> None:
        self._prompt = asyncio.Semaphore(prompt)
        self._slow_free = prompt * SLOW
        self._failing = asyncio.Semaphore(max(prompt // FAILING, 1))

    @asynccontextmanager
    async def slot(self, *, failing: bool) -> AsyncIterator[None]:
        """Hold a slot for one poll; failing tells whether the base failed to answer last time."""
        lane = self._failing if failing else self._prompt
        with POLLS_WAITING.track_inprogress():
            await lane.acquire()
        slow = False

        def move() -> None:
            nonlocal slow
            if self._slow_free:
                self._slow_free -= 1
                slow = True
                lane.release()

        timer = None if failing else asyncio.get_running_loop().call_later(PROMPT, move)
        try:
            yield
        finally:
            if timer is not None:
                timer.cancel()
            if slow:
                self._slow_free += 1
            else:
                lane.release()
