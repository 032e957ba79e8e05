"""Proxies as tests need them: HTTP CONNECT, with or without TLS, and SOCKS5, on loopback."""

import asyncio
import base64
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Self

from tests.serving import Answer, serving

CHUNK = 1 << 16


@dataclass
class TestProxy:
    """Relays connections; only it resolves hosts under .invalid, all to 127.0.0.1.

    user: the client that it accepts, as user:password; empty for every client. forbids: it answers 403 to all.
    """

    __test__ = False

    user: str = ""
    forbids: bool = False
    port: int = 0
    asked: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def http(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[Self]:
        """Serve HTTP CONNECT."""
        async with self._serving(self._connect, tls):
            yield self

    @asynccontextmanager
    async def socks5(self) -> AsyncIterator[Self]:
        """Serve SOCKS5 (RFC 1928, and 1929 for users)."""
        async with self._serving(self._socks, None):
            yield self

    @asynccontextmanager
    async def _serving(self, serve: Answer, tls: ssl.SSLContext | None) -> AsyncIterator[None]:
        async with serving(serve, tls=tls) as self.port:
            yield

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        lines = head.split("\r\n")
        target = lines[0].split(" ")[1]
        self.asked.append(target)
        wanted = f"Proxy-Authorization: Basic {base64.b64encode(self.user.encode()).decode()}"
        if self.forbids or (self.user and wanted not in lines):
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
            return
        await self._relay(reader, writer, target, b"HTTP/1.1 200 OK\r\n\r\n")

    async def _socks(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        _, count = await reader.readexactly(2)
        await reader.readexactly(count)
        writer.write(b"\x05\x02" if self.user else b"\x05\x00")
        if self.user:
            _, length = await reader.readexactly(2)
            user = await reader.readexactly(length)
            password = await reader.readexactly((await reader.readexactly(1))[0])
            good = f"{user.decode()}:{password.decode()}" == self.user
            writer.write(b"\x01\x00" if good else b"\x01\x01")
            if not good:
                return
        kind = (await reader.readexactly(4))[3]
        length = 4 if kind == 1 else (await reader.readexactly(1))[0]
        host = await reader.readexactly(length)
        port = int.from_bytes(await reader.readexactly(2), "big")
        target = f"{'.'.join(map(str, host)) if kind == 1 else host.decode()}:{port}"
        self.asked.append(target)
        if self.forbids:
            writer.write(b"\x05\x02\x00\x01" + bytes(6))
            await writer.drain()
            return
        await self._relay(reader, writer, target, b"\x05\x00\x00\x01" + bytes(6))

    async def _relay(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: str, greeting: bytes
    ) -> None:
        host, _, port = target.rpartition(":")
        to = "127.0.0.1" if host.endswith(".invalid") else host
        upstream_reader, upstream = await asyncio.open_connection(to, int(port))
        writer.write(greeting)
        try:
            await asyncio.gather(_pump(reader, upstream), _pump(upstream_reader, writer))
        finally:
            upstream.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
    writer.close()
