"""Restarts what fails because of one base's data, so that it fails alone."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

import structlog

from controlplane.app.metrics import ACTOR_RESTARTS
from controlplane.domain.backoff import Backoff

log = structlog.get_logger(__name__)

RESTART = Backoff(first=1.0, longest=60.0)
HEALTHY_AFTER = 120.0


async def supervise(run: Callable[[], Awaitable[None]], *, name: str, now: Callable[[], float], random: Random) -> None:
    """Run until it returns; a failure is logged with its trace, counted, and answered by a new run after a delay.

    run must begin with nothing. Cancellation passes through.
    """
    failures = 0
    while True:
        began = now()
        try:
            await run()
        except Exception:
            failures = 1 if now() - began >= HEALTHY_AFTER else failures + 1
            ACTOR_RESTARTS.inc()
            delay = RESTART.delay(failures, random.random())
            log.exception("a base's actor failed and is restarted", base=name, restart_in=round(delay, 1))
            await asyncio.sleep(delay)
        else:
            return
