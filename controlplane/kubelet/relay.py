"""Passes the bytes of two connections to each other until one of them ends."""

import asyncio
from collections.abc import Callable

from prometheus_client import Counter

from controlplane.cluster.api import ByteStream

PASSED = Counter("koupleless_kubelet_stream_bytes_total", "Bytes that were passed on between callers and bases")


async def relay(one: ByteStream, other: ByteStream, *, idle: float) -> None:
    """Return when either has ended and what it sent is passed on.

    The end of one is the end of both, as at the API server: neither SPDY nor WebSockets end in one direction alone.
    Raises TimeoutError after idle seconds in which nothing passed, ConnectionError where one broke off.
    """
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(idle) as patience:

        def passed(size: int) -> None:
            PASSED.inc(size)
            patience.reschedule(loop.time() + idle)

        ways = [asyncio.create_task(_copy(*way, passed)) for way in ((one, other), (other, one))]
        try:
            ended, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
        for way in ended:
            way.result()


async def _copy(source: ByteStream, target: ByteStream, passed: Callable[[int], None]) -> None:
    """Write each piece before the next is read: a slow reader slows its own stream, and nothing piles up."""
    try:
        while piece := await source.read():
            await target.write(piece)
            passed(len(piece))
    finally:
        # What came just before the end.
        target.write_now(await source.rest())
