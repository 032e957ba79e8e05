"""Servers of bytes, as tests need them on loopback."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

FAREWELL = 5.0
"""Seconds in which a peer takes what was written last."""


@asynccontextmanager
async def serving(answer: Answer, *, port: int = 0, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """Serve on a port of 127.0.0.1, a free one unless it is given; the port.

    A connection ends with its answer; who goes in the middle of one is no error, and any other is raised here. In the
    end nothing is open.
    """
    tasks: set[asyncio.Task[None]] = set()
    with contextlib.ExitStack() as sockets:
        listening = sockets.enter_context(socket.create_server(("127.0.0.1", port)))
        listening.setblocking(False)

        async def accept() -> None:
            while True:
                accepted, _ = await asyncio.get_running_loop().sock_accept(listening)
                sockets.enter_context(accepted)
                tasks.add(asyncio.create_task(_serve(accepted, answer, tls)))

        accepting = asyncio.create_task(accept())
        try:
            yield listening.getsockname()[1]
        finally:
            for task in (accepting, *tasks):
                task.cancel()
            ended = await asyncio.gather(accepting, *tasks, return_exceptions=True)
    for end in ended:
        if isinstance(end, Exception):
            raise end


async def _serve(accepted: socket.socket, answer: Answer, tls: ssl.SSLContext | None) -> None:
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    with contextlib.suppress(OSError, asyncio.IncompleteReadError):
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, accepted, ssl=tls)
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        try:
            await answer(reader, writer)
            writer.close()
            async with asyncio.timeout(FAREWELL):
                await writer.wait_closed()
        finally:
            transport.abort()
