"""Blocking work in a thread of its own, with a deadline, and without keeping the process from ending.

Not a ThreadPoolExecutor: the interpreter waits at its end for the threads of one, also for a thread that hangs.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")


class StillBusy(TimeoutError):
    """The work before, which was given up, has not returned."""


class Worker:
    """One piece of work at a time.

    Work that is given up at its deadline runs on in its thread, as nothing can end it. Until it returns there is no
    thread for more, so that there is one at most.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._last: Future[Any] | None = None

    async def call(self, work: Callable[[], T], *, within: float) -> T:
        """Return what work returns or raises; raises TimeoutError after within seconds, and StillBusy."""
        if self._last is not None and not self._last.done():
            raise StillBusy("the work before has not come to an end")
        result: Future[T] = Future()
        # A future that runs cannot be cancelled: it stays busy until the thread is done.
        result.set_running_or_notify_cancel()
        self._last = result

        def run() -> None:
            try:
                result.set_result(work())
            except BaseException as error:
                result.set_exception(error)

        threading.Thread(target=run, name=self._name, daemon=True).start()
        async with asyncio.timeout(within):
            return await asyncio.wrap_future(result)
