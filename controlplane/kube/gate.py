"""The limit that we set ourselves on requests to the API server.

A token bucket for the rate, and a bound on requests under way. Urgent requests (lease renewals) go first and have
places of their own, so that a burst of other writes delays no renewal by more than one request's time. Limiters of
libraries (aiolimiter, that of aiohttp's connector) know no order among those that wait.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client import Histogram

from controlplane.app.ports import Transient

RESERVED = 16
"""Requests under way that only urgent ones may add."""
TICK = 0.001
"""Seconds; the shortest sleep, well above the resolution of timers."""

WAITED = Histogram(
    "koupleless_api_request_wait_seconds",
    "Time that a request to the Kubernetes API waited for our own limit, in seconds.",
    ("priority",),
    buckets=(0.001, 0.01, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0),
)


class Gate:
    """Lets requests pass. rate is in requests per second, burst and concurrent in requests.

    At most queue requests wait, each at most patience seconds; beyond that they are turned away as Transient.
    """

    def __init__(
        self,
        *,
        rate: float = 400.0,
        burst: int = 800,
        concurrent: int = 64,
        queue: int = 20_000,
        patience: float = 30.0,
    ) -> None:
        if rate <= 0 or burst < 1 or concurrent < 1:
            raise ValueError("rate, burst and concurrent must be positive")
        self._rate = rate
        self._burst = self._tokens = float(burst)
        self._concurrent = concurrent
        self._queue = queue
        self._patience = patience
        self._filled_at = 0.0
        self._under_way = 0
        self._urgent: deque[asyncio.Future[None]] = deque()
        self._others: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def passage(self, *, urgent: bool = False) -> AsyncIterator[None]:
        """Hold one place among the requests under way; raises Transient."""
        began = time.monotonic()
        await self._enter(self._urgent if urgent else self._others)
        WAITED.labels("urgent" if urgent else "normal").observe(time.monotonic() - began)
        try:
            yield
        finally:
            self._leave()

    async def _enter(self, waiting: deque[asyncio.Future[None]]) -> None:
        if len(waiting) >= self._queue:
            raise Transient(f"more than {self._queue} requests wait for our own limit of {self._rate:g}/s")
        ticket: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting.append(ticket)
        self._admit()
        try:
            async with asyncio.timeout(self._patience):
                await ticket
        except (TimeoutError, asyncio.CancelledError) as reason:
            if ticket.done() and not ticket.cancelled():
                # Admitted in the same instant: the place must be given back.
                self._leave()
            elif ticket in waiting:
                waiting.remove(ticket)
            if isinstance(reason, TimeoutError):
                raise Transient(f"waited {self._patience:g} s for our own limit of {self._rate:g}/s") from reason
            raise

    def _leave(self) -> None:
        self._under_way -= 1
        self._admit()

    def _admit(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
        while (waiting := self._next()) is not None:
            if self._tokens < 1.0:
                if self._timer is None:
                    self._timer = loop.call_later(max((1.0 - self._tokens) / self._rate, TICK), self._refill)
                return
            ticket = waiting.popleft()
            if not ticket.done():
                self._tokens -= 1.0
                self._under_way += 1
                ticket.set_result(None)

    def _next(self) -> deque[asyncio.Future[None]] | None:
        if self._urgent and self._under_way < self._concurrent + RESERVED:
            return self._urgent
        if self._others and self._under_way < self._concurrent:
            return self._others
        return None

    def _refill(self) -> None:
        self._timer = None
        self._admit()
