"""Reports when the event loop of this process is blocked, and where.

Nothing else would: a blocked loop writes no log. Who restarts the process (module-controller, or Kubernetes by /livez)
does so after 30 s at the earliest, when the stacks of all threads are on standard error already.
"""

from __future__ import annotations

import asyncio
import faulthandler
from typing import NoReturn

import structlog

log = structlog.get_logger(__name__)

STACKS_AFTER = 20.0
"""Seconds for which the loop must be blocked before the stacks are written."""
LOOK_EVERY = 5.0
LATE = 5.0
"""Seconds for which the loop must have been blocked to be logged afterwards."""
STANDARD_ERROR = 2


async def watch() -> NoReturn:
    """Watch the running loop until cancelled."""
    clock = asyncio.get_running_loop().time
    try:
        while True:
            # A thread in C waits for the next call of this, and writes the stacks if none comes.
            faulthandler.dump_traceback_later(STACKS_AFTER, file=STANDARD_ERROR)
            due = clock() + LOOK_EVERY
            await asyncio.sleep(LOOK_EVERY)
            if (late := clock() - due) >= LATE:
                log.warning("the event loop was blocked", seconds=round(late, 1))
    finally:
        faulthandler.cancel_dump_traceback_later()
