"""HTTP to the API server: connections, credentials, deadlines, and what a failure means.

Whether the request had been sent when it failed decides between Transient
(nothing was done) and Unknown (a write may have been done).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import aiohttp

from controlplane.app.ports import Transient, Unknown
from controlplane.kube import metrics
from controlplane.kube.access import CannotConnect, Credentials
from controlplane.kube.connections import CONNECT_DEADLINE, Connections, Sending
from service.masking import masked

READ_DEADLINE = 10.0
WRITE_DEADLINE = 10.0
LIST_DEADLINE = 60.0
"""Seconds for one page of a list."""
CREDENTIALS_WITHIN = 10.0
"""Seconds that a request waits for other credentials after a 401; they may take longer."""
UNANSWERED = 2.0
"""Seconds after which a request that was given up without an answer makes its connection suspect."""

_METHODS = {"create": "POST", "patch": "PATCH", "delete": "DELETE"}
_FAILURES = (aiohttp.ClientError, OSError, TimeoutError)


@dataclass(frozen=True, slots=True)
class Request:
    """A request. verb is that of Kubernetes; label is the resource, with its subresource, for metrics."""

    verb: str
    label: str
    target: str
    body: bytes | None = None
    content_type: str = "application/json"

    @property
    def writes(self) -> bool:
        """It changes something."""
        return self.verb in _METHODS

    @property
    def deadline(self) -> float:
        """Seconds until it must have been answered."""
        if self.writes:
            return WRITE_DEADLINE
        return LIST_DEADLINE if self.verb == "list" else READ_DEADLINE

    def __str__(self) -> str:
        return f"{self.verb} {self.label}"


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole reply; retry_after is the header of that name."""

    status: int
    retry_after: str
    body: bytes


class Transport:
    """Sends requests. To be closed."""

    def __init__(self, credentials: Credentials) -> None:
        self._connections = Connections(credentials)

    async def close(self) -> None:
        """Close all connections."""
        await self._connections.close()

    async def exchange(self, request: Request) -> Reply:
        """Return the reply, whatever its status; raises Transient, Unknown.

        A request that 401 refused was not carried out: it is sent once more, with other credentials.
        """
        sending = Sending()
        reply = await self._exchange(request, sending)
        if reply.status == 401 and await self._credentials_renewed(sending):
            return await self._exchange(request, Sending())
        return reply

    async def watch(self, request: Request, *, silence: float) -> Stream | Reply:
        """Return the open stream of a watch if its status is 200, else the reply; raises Transient.

        silence is the seconds without a byte after which its connection is dead.
        """
        return await self.stream(request, opens_within=request.deadline, idle=silence)

    async def stream(self, request: Request, *, opens_within: float | None, idle: float | None) -> Stream | Reply:
        """Return the open stream if its status is 200, else the reply; raises Transient.

        opens_within is the seconds until its head must be there, idle those between two reads.
        """
        sending = Sending()
        opened = await self._open(request, sending, opens_within, idle)
        if isinstance(opened, Reply) and opened.status == 401 and await self._credentials_renewed(sending):
            return await self._open(request, Sending(), opens_within, idle)
        return opened

    async def _exchange(self, request: Request, sending: Sending) -> Reply:
        began = time.monotonic()
        code = "error"
        try:
            async with asyncio.timeout(request.deadline):
                async with await self._send(request, sending) as response:
                    reply = await _reply(response)
            code = str(reply.status)
        except _FAILURES as error:
            words = f"{request}: {failure(error, request.deadline)}"
            if sending.sent and request.writes:
                raise Unknown(f"{words}, after the request was sent") from error
            raise Transient(words) from error
        finally:
            seconds = time.monotonic() - began
            if code == "error" and sending.sent and seconds >= UNANSWERED:
                # Given up by us or by who asked: its connection may be dead, and so may be others.
                self._connections.distrust(sending)
            metrics.REQUESTS.labels(request.verb, request.label, code).inc()
            metrics.SECONDS.labels(request.verb, request.label).observe(seconds)
        return reply

    async def _open(
        self, request: Request, sending: Sending, opens_within: float | None, idle: float | None
    ) -> Stream | Reply:
        code = "error"
        try:
            async with asyncio.timeout(opens_within):
                response = await self._send(request, sending, read_timeout=idle)
                code = str(response.status)
                if response.status == 200:
                    return Stream(response, request, idle, sending, self._connections)
                async with response:
                    return await _reply(response)
        except _FAILURES as error:
            if sending.sent and isinstance(error, TimeoutError):
                self._connections.distrust(sending)
            raise Transient(f"{request}: {failure(error, opens_within or 0)}") from error
        finally:
            metrics.REQUESTS.labels(request.verb, request.label, code).inc()

    async def _credentials_renewed(self, sending: Sending) -> bool:
        """Have the credentials that were sent replaced because the server did not accept them; raises Transient."""
        if sending.access is None:
            return False
        try:
            async with asyncio.timeout(CREDENTIALS_WITHIN):
                await self._connections.rejected(sending.access)
        except (CannotConnect, TimeoutError) as error:
            raise Transient(f"credentials: {failure(error, CREDENTIALS_WITHIN)}") from error
        return True

    async def _send(
        self, request: Request, sending: Sending, *, read_timeout: float | None = None
    ) -> aiohttp.ClientResponse:
        try:
            return await self._connections.send(
                _METHODS.get(request.verb, "GET"),
                request.target,
                body=request.body,
                content_type=request.content_type,
                read_timeout=read_timeout,
                sending=sending,
            )
        except CannotConnect as error:
            raise Transient(masked(str(error))) from error


class Stream:
    """The open body of a response."""

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        request: Request,
        idle: float | None,
        sending: Sending,
        connections: Connections,
    ) -> None:
        self._response = response
        self._request = request
        self._idle = idle
        self._sending = sending
        self._connections = connections
        connections.hold(sending)

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield bytes as they come, until the server ends them; raises Transient."""
        try:
            async for piece in self._response.content.iter_any():
                yield piece
        except TimeoutError as error:
            self._connections.distrust(self._sending)
            silent = f"nothing was heard for {self._idle:g} s" if self._idle else "it took too long"
            raise Transient(f"{self._request}: {silent}, its connection is given up") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Transient(f"{self._request} broke off: {failure(error, 0)}") from error

    def close(self) -> None:
        """Let go of it; if the server has not ended it, of its connection too.

        Without the farewells of TLS, which a dead peer never answers.
        """
        connection = self._response.connection
        if connection is not None and connection.transport is not None:
            connection.transport.abort()
        self._response.close()
        self._connections.let_go(self._sending)


def failure(error: BaseException, deadline: float) -> str:
    """Say in words how a request failed."""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        # Its own text has the whole URL.
        return f"no connection within {CONNECT_DEADLINE:g} s"
    if isinstance(error, TimeoutError) and not str(error):
        return f"no reply within {deadline:g} s"
    if isinstance(error, aiohttp.ClientConnectorError) and not isinstance(error, aiohttp.ClientSSLError):
        # Its own text shows the TLS context as an object.
        return f"cannot connect to {error.host}:{error.port}: {error.os_error.strerror or error.os_error}"
    return masked(str(error)) or type(error).__name__


async def _reply(response: aiohttp.ClientResponse) -> Reply:
    return Reply(response.status, response.headers.get("Retry-After", ""), await response.read())
