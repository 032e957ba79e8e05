"""How many bases are polled at the same time.

Bases that answer and bases that did not answer last time have lanes of their own,
so that any number of hanging bases, each of which holds a slot until its timeout,
takes no slot from those that answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gateways.http.metrics import POLLS_WAITING

FAILING_SHARE = 4
"""The lane of failing bases has this part of the slots in addition."""


class Slots:
    """Slots for polls: so many for bases that answer, and a quarter of that beside it for the others."""

    def __init__(self, answering: int) -> None:
        self._answering = asyncio.Semaphore(answering)
        self._failing = asyncio.Semaphore(max(answering // FAILING_SHARE, 1))

    @asynccontextmanager
    async def slot(self, *, failing: bool) -> AsyncIterator[None]:
        """Hold a slot; waits for a free one, which comes at the latest when a poll times out."""
        lane = self._failing if failing else self._answering
        with POLLS_WAITING.track_inprogress():
            await lane.acquire()
        try:
            yield
        finally:
            lane.release()
