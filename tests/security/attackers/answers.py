"""Bases whose answers are weapons."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.integration.http_gateway.hostile import OK, Behave, says
from tests.serving import serving

CHUNKS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 600_000 + b"0\r\n\r\n"
"""3.6 MB in chunks of one byte."""
VALUES = OK + b'{"code":"SUCCESS","data":[' + b"[]," * 1_380_000 + b"[]]}"
"""4 MB of empty lists."""


async def sends_much_and_stops(_: bytes, writer: asyncio.StreamWriter) -> None:
    """Send nearly as much as an answer may have, and never end."""
    writer.write(OK + b"x" * (4_000_000))
    await asyncio.sleep(3600)


async def drips(_: bytes, writer: asyncio.StreamWriter) -> None:
    """Send byte by byte."""
    writer.write(OK)
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.001)


@dataclass
class Hostile:
    """A server on which many bases are, and how often it was asked."""

    port: int
    asked: int = 0


@asynccontextmanager
async def hostile(behave: Behave) -> AsyncIterator[Hostile]:
    """Serve without an end of its own."""
    there = Hostile(0)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there.asked += 1
        command = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1]
        await behave(command, writer)
        await writer.drain()

    async with serving(answer) as there.port:
        yield there


ATTACKS: dict[str, Behave] = {
    "pieces": says(CHUNKS),
    "values": says(VALUES),
    "holding": sends_much_and_stops,
    "dripping": drips,
}
