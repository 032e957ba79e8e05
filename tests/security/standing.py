"""A program whose event loop stands still: ``python -m ... HOW``."""

import asyncio
import sys
import threading
import time

from service import process, watchdog


def waits_for_a_lock() -> None:
    """Wait as threading.Thread.start does for a thread that had no memory to begin."""
    threading.Event().wait()


def sleeps() -> None:
    time.sleep(3600)


def computes() -> None:
    while True:
        pass


HOW = {work.__name__: work for work in (waits_for_a_lock, sleeps, computes)}


async def serve(stop: asyncio.Event, how: str) -> None:
    await asyncio.sleep(0.1)
    print("stands still", flush=True)
    HOW[how]()
    await stop.wait()


if __name__ == "__main__":
    watchdog.LOOK_EVERY = 0.1
    sys.exit(process.run(lambda stop: serve(stop, sys.argv[1])))
