"""Blocking work in a thread of its own, with a deadline, and without keeping the process from ending."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class StillBusy(Exception):
    """The work before, which was given up, has not returned."""


class Worker:
    """One piece of work at a time.

    Work that is given up at its deadline runs on in its thread, as nothing can end
    it; until it returns there is no thread for more, so that there is one at most.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._busy = False

    async def call(self, work: Callable[[], T], *, within: float) -> T:
        """Return what work returns or raises; raises TimeoutError after within seconds, and StillBusy."""
        if self._busy:
            raise StillBusy(self._name)
        loop = asyncio.get_running_loop()
        done: asyncio.Future[T] = loop.create_future()

        def returned(settle: Callable[[], None]) -> None:
            self._busy = False
            if not done.done():
                settle()

        def run() -> None:
            settle: Callable[[], None]
            try:
                result = work()
            except Exception as failure:
                error = failure
                settle = lambda: done.set_exception(error)  # noqa: E731
            else:
                settle = lambda: done.set_result(result)  # noqa: E731
            if not loop.is_closed():
                loop.call_soon_threadsafe(returned, settle)

        self._busy = True
        threading.Thread(target=run, name=self._name, daemon=True).start()
        async with asyncio.timeout(within):
            return await done
