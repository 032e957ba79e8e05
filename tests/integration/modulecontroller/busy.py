"""A program that always works, in small pieces: ``python -m ...``. Its watchdog looks fifty times a second."""

import asyncio
import sys

from service import process, watchdog

LOOK_EVERY = 0.02


def work(depth: int) -> int:
    return sum(work(depth - 1) for _ in range(2)) if depth else 1


async def serve(stop: asyncio.Event) -> None:
    print("works", flush=True)
    while not stop.is_set():
        work(8)
        await asyncio.sleep(0)


if __name__ == "__main__":
    watchdog.LOOK_EVERY = LOOK_EVERY
    sys.exit(process.run(serve))
