"""Connections that are kept for short requests to the API server: HTTP/1.1, one request at a time on each.

Most of what a control plane sends are renewals of Leases and statuses, a hundred a second and more. A client library's
request costs three times what TLS and parsing (llhttp, in C) cost together. Lists, watches, upgrades and proxies go
through aiohttp.
"""

import asyncio
import socket
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

from httptools import HttpParserError, HttpResponseParser

from controlplane.kube.resolver import StaleResolver
from controlplane.kube.sockets import connect
from kubeaccess.access import Access
from kubeaccess.authorization import CannotConnect
from service.listening import host_port

CONNECT_DEADLINE = 5.0
KEEP_ALIVE = 20.0
"""Seconds that an idle connection is kept: more than there are between two renewals of one Lease."""
FREE_WITHIN = 0.05
"""Seconds for which a request waits for a connection that is in use before another one is made."""
UNWANTED = 2.0
"""Seconds in which the reply to a request that was given up must be there for its connection to be used again."""
MOST_BYTES = 64 << 20
"""Of one reply; an object has 1.5 MB at most."""
USER_AGENT = "koupleless-module-controller"


class BrokeOff(ConnectionError):
    """The connection ended before the whole reply was there; unread: before any of it."""

    def __init__(self, words: str, *, unread: bool) -> None:
        super().__init__(words)
        self.unread = unread


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole reply; names of headers are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


class KeptConnection(asyncio.Protocol):
    """One connection; ask it nothing while it has a request under way."""

    def __init__(self) -> None:
        self.idle_since = 0.0
        self.usable = True
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[Reply] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        # uvloop's are of no class of asyncio.
        self._transport = cast("asyncio.Transport", transport)

    async def ask(self, request: bytes) -> Reply:
        """Send a request and return its reply; raises BrokeOff. Cancelled, the reply is still to come: see rest."""
        if self._transport is None or self._transport.is_closing():
            raise BrokeOff("the connection is closed", unread=True)
        self._parser = HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._size, self._begun, self._lasts_until_end = 0, False, False
        loop = asyncio.get_running_loop()
        waiting: asyncio.Future[Reply] = loop.create_future()
        self._waiting = waiting
        self._transport.write(request)
        try:
            reply = await waiting
        except asyncio.CancelledError:
            if waiting.cancelled():
                self._waiting = loop.create_future()
            raise
        except BaseException:
            self._waiting = None
            self.abort()
            raise
        self._waiting = None
        return reply

    async def rest(self, within: float) -> None:
        """Return once the reply came that nobody waits for; raises BrokeOff, TimeoutError after so many seconds."""
        if self._waiting is not None:
            async with asyncio.timeout(within):
                await self._waiting
            self._waiting = None

    def abort(self) -> None:
        """End the connection at once: without the farewell of TLS, which a dead peer never answers."""
        self.usable = False
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Read what came."""
        if self._waiting is None or self._waiting.done():
            # Nobody asked: whatever it is, no reply can be told from it any more.
            self.abort()
            return
        self._begun = True
        try:
            self._parser.feed_data(data)
        except HttpParserError as error:
            self._failed(f"the reply is no HTTP/1 response: {error}")

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the connection is over."""
        self.usable = False
        # What TLS needed is large, and would stay until the next collection of garbage: the parser refers to us.
        self._transport = None
        if exc is None and self._waiting is not None and self._lasts_until_end:
            self.on_message_complete()
        self._failed(str(exc) if exc is not None else "the server closed the connection")

    # What the parser calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Note how the body ends."""
        self._lasts_until_end = self._headers.keys().isdisjoint(("content-length", "transfer-encoding"))

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._size += len(body)
        if self._size > MOST_BYTES:
            self._failed(f"the reply is longer than {MOST_BYTES} bytes")
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Hand over the reply."""
        status = self._parser.get_status_code()
        if 100 <= status < 200:
            self._failed(f"an interim reply came, which was not asked for: {status}")
        self.usable = self.usable and self._parser.should_keep_alive()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(Reply(status, self._headers, b"".join(self._body)))
        else:
            self.usable = False

    def _failed(self, words: str) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(BrokeOff(words, unread=not self._begun))


@dataclass(frozen=True, slots=True)
class Head:
    """What all requests of one access have in common: where to, and the lines after the first."""

    access: Access
    host: str
    port: int
    prefix: str
    lines: bytes

    @classmethod
    def of(cls, access: Access) -> "Head":
        """Prepare it; raises CannotConnect for headers that are none."""
        parts = urlsplit(access.host)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        headers = [
            ("Host", parts.netloc.rpartition("@")[2]),
            ("User-Agent", USER_AGENT),
            ("Accept", "application/json"),
            ("Accept-Encoding", "identity"),
        ]
        if access.authorization:
            headers.append(("Authorization", access.authorization))
        headers += access.impersonation
        for name, value in headers:
            if not (name.isascii() and value.isprintable()) or ":" in name:
                raise CannotConnect(f"the value of the header {name!r} is none")
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers).encode()
        return cls(access, parts.hostname or "", port, parts.path.rstrip("/"), lines)

    def request(self, method: str, target: str, body: bytes | None, content_type: str) -> bytes:
        """Return the bytes of a request."""
        first = f"{method} {self.prefix}{target} HTTP/1.1\r\n".encode()
        if body is None:
            return b"%b%b\r\n" % (first, self.lines)
        entity = f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        return b"%b%b%b%b" % (first, self.lines, entity, body)


@dataclass(frozen=True, slots=True, eq=False)
class Waiting:
    """A request that waits for a connection."""

    head: Head
    connection: asyncio.Future[KeptConnection]

    @property
    def over(self) -> bool:
        """It has one, or waits no more."""
        return self.connection.done()


@dataclass(eq=False)
class KeptConnections:
    """Connections of one age, to the server of the last access.

    Each costs a handshake and, with TLS, 256 KB of buffers: before a request has one made it waits for a moment for one
    that others use. What was made for a request that is given up is the next one's.
    """

    resolver: StaleResolver
    _idle: deque[KeptConnection] = field(default_factory=deque)
    _head: Head | None = None
    _waiting: deque[Waiting] = field(default_factory=deque)
    """Requests without a connection, oldest first."""
    _in_use: int = 0
    _making: dict[asyncio.Task[None], Head] = field(default_factory=dict)
    """Connections that are being made: not more than requests wait for one."""
    _resting: set[asyncio.Task[None]] = field(default_factory=set)
    """Those on which a reply is to come that nobody waits for."""
    _look_for_old: asyncio.TimerHandle | None = None
    _closed: bool = False

    def head(self, access: Access) -> Head:
        """Return what requests of an access have in common; raises CannotConnect."""
        if self._head is None or self._head.access is not access:
            head = Head.of(access)
            if self._head is not None and self._head.access != access:
                # Their certificates, or the server, are those of the access before.
                self._end_unused()
            self._head = head
        return self._head

    async def ask(self, access: Access, request: Callable[[Head], bytes], sending: Callable[[], None]) -> Reply:
        """Send a request and return its reply; sending is called right before the first byte goes out.

        Raises CannotConnect, OSError: BrokeOff, TimeoutError.
        """
        head = self.head(access)
        data = request(head)
        connection = self._take() or await self._next(head)
        if not connection.usable:
            raise BrokeOff("the server closed the connection", unread=True)
        sending()
        self._in_use += 1
        try:
            reply = await connection.ask(data)
        except asyncio.CancelledError:
            resting = asyncio.create_task(self._rest(connection, head), name="unwanted reply")
            self._resting.add(resting)
            resting.add_done_callback(self._resting.discard)
            raise
        finally:
            self._in_use -= 1
        self._free(connection, head)
        return reply

    def close(self) -> None:
        """End those that are not in use now, and those that are after their request."""
        self._closed = True
        self._end_unused()

    def _end_unused(self) -> None:
        """End the idle ones, and those that nobody waits for."""
        while self._idle:
            self._idle.pop().abort()
        for task in (*self._resting, *(() if self._waiting else self._making)):
            task.cancel()
        if self._look_for_old is not None:
            self._look_for_old.cancel()
            self._look_for_old = None

    def _free(self, connection: KeptConnection, head: Head) -> None:
        """Give a connection to the request that waits longest, or keep it."""
        waiting = self._longest_waiting(head)
        if not connection.usable:
            connection.abort()
        elif waiting is not None:
            waiting.connection.set_result(connection)
        elif self._head is head and not self._closed:
            connection.idle_since = time.monotonic()
            self._idle.append(connection)
            if self._look_for_old is None:
                self._look_for_old = asyncio.get_running_loop().call_later(KEEP_ALIVE, self._end_old)
        else:
            connection.abort()

    def _longest_waiting(self, head: Head) -> Waiting | None:
        return next((waiting for waiting in self._waiting if waiting.head is head and not waiting.over), None)

    def _end_old(self) -> None:
        """End the connections that were idle for long, and look again as long as there are others."""
        oldest = time.monotonic() - KEEP_ALIVE
        while self._idle and self._idle[0].idle_since <= oldest:
            self._idle.popleft().abort()
        self._look_for_old = None
        if self._idle:
            left = max(self._idle[0].idle_since - oldest, 0.0)
            self._look_for_old = asyncio.get_running_loop().call_later(left + FREE_WITHIN, self._end_old)

    async def _rest(self, connection: KeptConnection, head: Head) -> None:
        try:
            await connection.rest(UNWANTED)
        except (BrokeOff, TimeoutError):
            connection.abort()
        except asyncio.CancelledError:
            connection.abort()
            raise
        else:
            self._free(connection, head)

    def _take(self) -> KeptConnection | None:
        """Return the connection that was used last, if any is usable."""
        while self._idle:
            if (connection := self._idle.pop()).usable:
                return connection
        return None

    async def _next(self, head: Head) -> KeptConnection:
        """Return the connection that is free next, or a new one. Raises OSError, TimeoutError."""
        loop = asyncio.get_running_loop()
        waiting = Waiting(head, loop.create_future())
        patience = FREE_WITHIN if self._in_use or self._waiting or self._making else 0.0
        make = loop.call_later(patience, self._make, waiting)
        self._waiting.append(waiting)
        try:
            return await waiting.connection
        except asyncio.CancelledError:
            if not waiting.connection.cancelled() and waiting.connection.exception() is None:
                self._free(waiting.connection.result(), head)
            raise
        finally:
            self._waiting.remove(waiting)
            make.cancel()

    def _make(self, waiting: Waiting) -> None:
        """Begin to make a connection for a request that waits, unless enough are being made."""
        head = waiting.head
        wanted = sum(each.head is head for each in self._waiting)
        if not waiting.over and sum(each is head for each in self._making.values()) < wanted:
            making = asyncio.create_task(self._made(head), name="connection to the API server")
            self._making[making] = head
            making.add_done_callback(self._making.pop)

    async def _made(self, head: Head) -> None:
        try:
            connection = await self._connect(head)
            if not connection.usable:
                raise BrokeOff("the server closed the connection", unread=True)
        except (OSError, TimeoutError) as error:
            if (waiting := self._longest_waiting(head)) is not None:
                waiting.connection.set_exception(error)
        else:
            self._free(connection, head)

    async def _connect(self, head: Head) -> KeptConnection:
        try:
            async with asyncio.timeout(CONNECT_DEADLINE):
                return await self._first_that_answers(head)
        except TimeoutError:
            raise TimeoutError(f"no connection within {CONNECT_DEADLINE:g} s") from None

    async def _first_that_answers(self, head: Head) -> KeptConnection:
        loop, access = asyncio.get_running_loop(), head.access
        where = host_port(head.host, head.port)
        failure: OSError = OSError(f"cannot connect to {where}: it has no address")
        for found in await self.resolver.resolve(head.host, head.port, socket.AF_UNSPEC):
            connection = KeptConnection()
            try:
                sock = await connect(found["family"], (found["host"], found["port"]))
                await loop.create_connection(
                    lambda made=connection: made,
                    sock=sock,
                    ssl=access.tls,
                    server_hostname=(access.server_name or head.host) if access.tls is not None else None,
                )
            except OSError as error:
                failure = OSError(f"cannot connect to {where}: {error.strerror or error}")
                failure.__cause__ = error
            except asyncio.CancelledError:
                # TLS may be up already, and asyncio would have it say farewell.
                connection.abort()
                raise
            else:
                return connection
        raise failure
