"""The limit that we set ourselves on requests to the API server: a rate, and a bound on those under way.

Urgent requests (lease renewals) wait for no others and have places of their own. They do not count in the rate: the
number of bases says how many there are, and those of a large fleet alone would be more than the rate. Limiters of
libraries (aiolimiter, that of aiohttp's connector) know no order among those that wait.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from prometheus_client import Histogram

from controlplane.app.ports import Transient

URGENT = 80
"""Urgent requests under way, besides the others."""

WAITED = Histogram(
    "koupleless_api_request_wait_seconds",
    "Time that a request to the Kubernetes API waited for our own limit, in seconds.",
    ("priority",),
    buckets=(0.001, 0.01, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0),
)
_WAITED = {urgent: WAITED.labels("urgent" if urgent else "normal") for urgent in (True, False)}


@dataclass
class Gate:
    """Lets requests pass. rate is in requests per second, burst and concurrent in requests.

    At most queue requests wait, each at most patience seconds; beyond that they are turned away as Transient.
    """

    rate: float = 400.0
    burst: int = 800
    concurrent: int = 32
    queue: int = 20_000
    patience: float = 30.0

    def __post_init__(self) -> None:
        self._places = asyncio.Semaphore(self.concurrent)
        self._urgent_places = asyncio.Semaphore(URGENT)
        self._waiting = 0
        self._next_at = float("-inf")

    @asynccontextmanager
    async def passage(self, *, urgent: bool = False) -> AsyncIterator[None]:
        """Hold one place among the requests under way; raises Transient."""
        if self._waiting >= self.queue and not urgent:
            raise Transient(f"more than {self.queue} requests wait for our own limit of {self.rate:g}/s")
        places = self._urgent_places if urgent else self._places
        delay = 0.0 if urgent else self._reserve()
        began = time.monotonic()
        if delay <= 0.0 and not places.locked():
            await places.acquire()
        else:
            await self._wait(delay, places)
        _WAITED[urgent].observe(time.monotonic() - began)
        try:
            yield
        finally:
            places.release()

    async def _wait(self, delay: float, places: asyncio.Semaphore) -> None:
        self._waiting += 1
        try:
            async with asyncio.timeout(self.patience):
                if delay > 0.0:
                    await asyncio.sleep(delay)
                await places.acquire()
        except TimeoutError as error:
            limit = f"our own limit of {self.concurrent} requests under way"
            raise Transient(f"waited {self.patience:g} s for {limit}: the API server is slow") from error
        finally:
            self._waiting -= 1

    def _reserve(self) -> float:
        """Take a share of the rate; return the seconds to wait for it, or raise Transient if that is too long."""
        now = asyncio.get_running_loop().time()
        # A pause saves up no more than the burst.
        due = max(self._next_at, now - self.burst / self.rate) + 1.0 / self.rate
        if due - now > self.patience:
            raise Transient(f"more than {self.patience:g} s to wait for our own limit of {self.rate:g}/s")
        self._next_at = due
        return max(due - now, 0.0)
