"""A set of dirty keys, served one after the other.

A key waits at most once. Marked again soon after it was taken, it waits for the
rest of the cooling time, so that a crowd of events costs few passes while the
first event is served at once. The queue holds no more than one entry and two
timers for each object of the cluster, however many events there are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

COOLING = 0.05
"""Seconds between two passes over the same key."""


class WorkQueue(Generic[K]):
    """Dirty keys in the order in which they became dirty."""

    def __init__(self, cooling: float = COOLING) -> None:
        self._cooling_time = cooling
        self._dirty: dict[K, None] = {}
        self._cooling: dict[K, asyncio.TimerHandle] = {}
        self._dirty_while_cooling: set[K] = set()
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._some = asyncio.Event()

    def __len__(self) -> int:
        return len(self._dirty) + len(self._dirty_while_cooling)

    def add(self, key: K) -> None:
        """Mark a key dirty."""
        if key in self._cooling:
            self._dirty_while_cooling.add(key)
        else:
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
        self._cooling[key] = asyncio.get_running_loop().call_later(self._cooling_time, self._cooled, key)
        return key

    def _cooled(self, key: K) -> None:
        del self._cooling[key]
        if key in self._dirty_while_cooling:
            self._dirty_while_cooling.discard(key)
            self.add(key)

    def close(self) -> None:
        """Cancel all timers."""
        for timer in (*self._timers.values(), *self._cooling.values()):
            timer.cancel()
        self._timers.clear()
        self._cooling.clear()
