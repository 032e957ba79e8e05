"""A set of dirty keys, served one after the other.

A key waits at most once; marked again while it is worked on, it is worked on
again. So the queue holds no more than one entry and one timer for each object of
the cluster, however many events there are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)


class WorkQueue(Generic[K]):
    """Dirty keys in the order in which they became dirty."""

    def __init__(self) -> None:
        self._dirty: dict[K, None] = {}
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._some = asyncio.Event()

    def __len__(self) -> int:
        return len(self._dirty)

    def add(self, key: K) -> None:
        """Mark a key dirty."""
        self._dirty[key] = None
        self._some.set()

    def add_after(self, key: K, delay: float) -> None:
        """Mark a key dirty after some seconds, unless an earlier timer runs for it."""
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if timer is not None:
            if timer.when() <= loop.time() + delay:
                return
            timer.cancel()
        self._timers[key] = loop.call_later(delay, self._due, key)

    def _due(self, key: K) -> None:
        del self._timers[key]
        self.add(key)

    async def get(self) -> K:
        """Wait for a dirty key and take it."""
        while not self._dirty:
            self._some.clear()
            await self._some.wait()
        key = next(iter(self._dirty))
        del self._dirty[key]
        return key

    def close(self) -> None:
        """Cancel all timers."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
