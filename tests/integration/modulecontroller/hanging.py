"""A program that answers probes and hangs on request: ``python -m ... FOLDER HOW``.

Every process leaves a file named after it in FOLDER. The first one blocks its event loop ("blocks"), or never answers
("silent") and ignores SIGTERM; the others work. With "slow" all of them take a second until they answer.
"""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

from service import process, watchdog
from service.status import StatusServer

BLOCKS_AFTER = 0.5
SLOW = 1.5


async def serve(stop: asyncio.Event, *, how: str, first: bool) -> None:
    status = StatusServer(tuple, health_port=0, metrics_port=0, socket=os.environ["STATUS_SOCKET"])
    if how == "slow":
        await asyncio.sleep(SLOW)
    if how == "silent" and first:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        await asyncio.sleep(3600)
    await status.start()
    if how == "blocks" and first:
        await asyncio.sleep(BLOCKS_AFTER)
        stand_still()
    await stop.wait()
    await status.stop()


def stand_still() -> None:
    time.sleep(3600)


def main() -> int:
    folder, how = Path(sys.argv[1]), sys.argv[2]
    first = not list(folder.iterdir())
    (folder / str(os.getpid())).touch()
    watchdog.LOOK_EVERY = 0.02
    return process.run(lambda stop: serve(stop, how=how, first=first))


if __name__ == "__main__":
    sys.exit(main())
