"""Tells when the event loop of this process stands still, and where.

Nothing else would: a loop that is blocked writes no log. Who restarts the process (module-controller, or Kubernetes by
/livez) does so after 30 s at the earliest, when the cause is on standard error already.
"""

from __future__ import annotations

import asyncio
import faulthandler
from typing import NoReturn

import structlog

log = structlog.get_logger(__name__)

STACKS_AFTER = 20.0
"""Seconds of standing still after which the stacks of all threads are written."""
LOOK_EVERY = 5.0
LATE = 5.0
"""Seconds of standing still that are logged afterwards."""
STANDARD_ERROR = 2


async def watch() -> NoReturn:
    """Watch the running loop until cancelled."""
    clock = asyncio.get_running_loop().time
    try:
        while True:
            # A thread without Python code waits for this to be called again, and writes if it is not.
            faulthandler.dump_traceback_later(STACKS_AFTER, file=STANDARD_ERROR)
            due = clock() + LOOK_EVERY
            await asyncio.sleep(LOOK_EVERY)
            if (late := clock() - due) >= LATE:
                log.warning("the event loop stood still", seconds=round(late, 1))
    finally:
        faulthandler.cancel_dump_traceback_later()
