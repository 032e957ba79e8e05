"""Arklet servers that each misbehave in one way."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from tests.serving import serving

OK = b"HTTP/1.1 200 OK\r\n\r\n"

Behave = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def arklet(behave: Behave) -> AsyncIterator[int]:
    """Serve on a free port; behave gets the command and may write, hang or just return, which closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
        )
        await reader.readexactly(length)
        if behave is hang:
            await reader.read()
        await behave(head.split(b" ")[1].lstrip(b"/"), writer)
        await writer.drain()

    async with serving(serve) as port:
        yield port


def says(answer: bytes) -> Behave:
    """Return a behaviour that answers every command with these bytes."""

    async def behave(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)

    return behave


def json_answer(**members: object) -> bytes:
    """Return an answer as arklet writes it."""
    return OK + json.dumps(members).encode()


async def hang(_: bytes, _writer: asyncio.StreamWriter) -> None:
    """Never answer: the connection stays open until the client leaves."""


async def endless(_: bytes, writer: asyncio.StreamWriter) -> None:
    """Answer without end."""
    writer.write(OK)
    while True:
        writer.write(b"x" * 65536)
        await writer.drain()
