"""Names of the API server and its proxy to addresses, without waiting for DNS where that can be.

An address that was found serves until a newer one is: a lookup that takes seconds, or fails, delays no lease renewal.
Only the first lookup of a name is waited for. aiohttp's own cache makes requests wait when an entry is too old.
"""

import asyncio
import socket
import time

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

FRESH = 10.0
"""Seconds after which a name is looked up again, beside."""

_Key = tuple[str, int, socket.AddressFamily]


class StaleResolver(AbstractResolver):
    """Gives the addresses that were found last."""

    def __init__(self, lookups: AbstractResolver | None = None) -> None:
        self._lookups = lookups or aiohttp.ThreadedResolver()
        self._known: dict[_Key, tuple[float, list[ResolveResult]]] = {}
        self._under_way: dict[_Key, asyncio.Task[list[ResolveResult]]] = {}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of a name; raises OSError when it was never found."""
        key = (host, port, family)
        if key not in self._known:
            return await asyncio.shield(self._look_up(key))
        found_at, addresses = self._known[key]
        if time.monotonic() - found_at >= FRESH:
            self._look_up(key)
        return list(addresses)

    async def close(self) -> None:
        """End lookups that are under way."""
        for task in self._under_way.values():
            task.cancel()
        await self._lookups.close()

    def _look_up(self, key: _Key) -> asyncio.Task[list[ResolveResult]]:
        if key not in self._under_way:
            task = asyncio.create_task(self._lookups.resolve(*key), name=f"look up {key[0]}")
            self._under_way[key] = task
            task.add_done_callback(lambda done: self._looked_up(key, done))
        return self._under_way[key]

    def _looked_up(self, key: _Key, task: asyncio.Task[list[ResolveResult]]) -> None:
        del self._under_way[key]
        if not task.cancelled() and task.exception() is None:
            self._known[key] = time.monotonic(), task.result()
