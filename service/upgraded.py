"""A connection that speaks HTTP no more: bytes in both directions, which mean nothing here.

aiohttp gives what comes on a connection after an upgrade to a parser, which is its own for WebSockets. The one here
keeps the bytes as they are, and has the peer wait while they are not taken.
"""

import asyncio
from typing import Any

from aiohttp import ClientResponse, web
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http import StreamWriter

BUFFERED = 64 << 10
"""Bytes that wait in each direction; reading pauses above twice as many."""


class UpgradedConnection:
    """The bytes of a connection after its upgrade."""

    def __init__(self, protocol: BaseProtocol) -> None:
        if protocol.transport is None:
            raise ConnectionResetError("the connection ended with its upgrade")
        self._protocol = protocol
        # aiohttp's own reader pauses its parser of HTTP, too, which by now has nothing to pause.
        self._incoming = asyncio.StreamReader(BUFFERED)
        self._incoming.set_transport(protocol.transport)
        _keep_what_came(protocol.transport)
        self._outgoing = StreamWriter(protocol, asyncio.get_running_loop())

    @classmethod
    def of_request(cls, request: web.BaseRequest) -> "UpgradedConnection":
        """Return the connection of a request; to be made before 101 is sent, after which the peer may write.

        Raises ConnectionResetError where it is gone.
        """
        protocol: Any = request.protocol
        made = cls(protocol)
        protocol.set_parser(_Raw(made._incoming))
        return made

    @classmethod
    def of_response(cls, response: ClientResponse) -> "UpgradedConnection":
        """Return the connection of a response with status 101; raises ConnectionResetError where it is gone."""
        protocol: Any = response.connection.protocol if response.connection is not None else None
        if protocol is None:
            raise ConnectionResetError("the connection ended with its upgrade")
        made = cls(protocol)
        protocol.set_parser(_Raw(made._incoming), made._incoming)
        return made

    async def read(self) -> bytes:
        """Return the bytes that came, nothing at the end."""
        return await self._incoming.read(BUFFERED)

    async def rest(self) -> bytes:
        """Return what came and was not read, without waiting for more; what comes later is passed over."""
        self._incoming.feed_eof()
        return await self._incoming.read()

    async def write(self, data: bytes) -> None:
        """Write bytes; returns when not too many wait. Raises ConnectionError."""
        await self._outgoing.write(data)

    def write_now(self, data: bytes) -> None:
        """Write bytes without waiting, unless the connection has ended."""
        transport = self._protocol.transport
        if data and transport is not None and not transport.is_closing():
            transport.write(data)


def _keep_what_came(transport: asyncio.Transport) -> None:
    """Have the TLS of uvloop read nothing from the socket while it holds bytes for who paused reading.

    It throws them away when it reads the end of the connection: https://github.com/MagicStack/uvloop/pull/661.
    """
    limit = getattr(transport, "set_read_buffer_limits", None)
    if limit is not None:
        limit(high=1, low=0)


class _Raw:
    """What aiohttp takes for a parser."""

    def __init__(self, incoming: asyncio.StreamReader) -> None:
        self._incoming = incoming

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        """Take bytes; the connection goes on, and nothing is left of them."""
        if not self._incoming.at_eof():
            self._incoming.feed_data(data)
        return False, b""

    def feed_eof(self) -> None:
        """Take the end."""
        self._incoming.feed_eof()
