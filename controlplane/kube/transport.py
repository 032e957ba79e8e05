"""HTTP to the API server: connections, credentials, deadlines, and what a failure means.

Whether the request had been sent when it failed decides between Transient
(nothing was done) and Unknown (a write may have been done).
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from types import SimpleNamespace

import aiohttp
from yarl import URL

from controlplane.app.ports import Transient, Unknown
from controlplane.kube import metrics
from controlplane.kube.credentials import CannotConnect, Credentials

CONNECT_DEADLINE = 5.0
READ_DEADLINE = 10.0
WRITE_DEADLINE = 10.0
LIST_DEADLINE = 60.0
"""Seconds for one page of a list."""
WATCH_IDLE = 90.0
"""Seconds without a byte on a watch after which its connection is taken for dead; bookmarks come every minute."""
KEEP_ALIVE = 60.0
"""Seconds that an idle connection is kept; API servers close theirs after 90."""

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

    def __init__(self, credentials: Credentials, *, watch_idle: float = WATCH_IDLE) -> None:
        self._credentials = credentials
        self._watch_idle = watch_idle
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def exchange(self, request: Request) -> Reply:
        """Return the reply, whatever its status; raises Transient, Unknown."""
        progress = SimpleNamespace(sent=False)
        began = time.monotonic()
        code = "error"
        try:
            async with asyncio.timeout(request.deadline):
                async with await self._send(request, progress) as response:
                    reply = await _reply(response)
            code = str(reply.status)
        except _FAILURES as error:
            words = f"{request}: {failure(error, request.deadline)}"
            if progress.sent and request.writes:
                raise Unknown(f"{words}, after the request was sent") from error
            raise Transient(words) from error
        finally:
            metrics.REQUESTS.labels(request.verb, request.label, code).inc()
            metrics.SECONDS.labels(request.verb, request.label).observe(time.monotonic() - began)
        return reply

    async def watch(self, request: Request) -> aiohttp.ClientResponse | Reply:
        """Return the open response of a watch if its status is 200, else the reply; raises Transient."""
        return await self.stream(request, opens_within=request.deadline, idle=self._watch_idle)

    async def stream(
        self, request: Request, *, opens_within: float | None, idle: float | None
    ) -> aiohttp.ClientResponse | Reply:
        """Return the open response if its status is 200, else the reply; raises Transient.

        opens_within is the seconds until its head must be there, idle those between two reads.
        """
        code = "error"
        try:
            async with asyncio.timeout(opens_within):
                response = await self._send(request, SimpleNamespace(), read_timeout=idle)
                code = str(response.status)
                if response.status == 200:
                    return response
                async with response:
                    return await _reply(response)
        except _FAILURES as error:
            raise Transient(f"{request}: {failure(error, opens_within or 0)}") from error
        finally:
            metrics.REQUESTS.labels(request.verb, request.label, code).inc()

    async def renew_credentials(self) -> None:
        """Load the credentials anew because the server did not accept them; raises Transient."""
        try:
            async with asyncio.timeout(READ_DEADLINE):
                await self._credentials.rejected()
        except (CannotConnect, TimeoutError) as error:
            raise Transient(f"credentials: {failure(error, READ_DEADLINE)}") from error

    async def _send(
        self, request: Request, progress: SimpleNamespace, *, read_timeout: float | None = None
    ) -> aiohttp.ClientResponse:
        try:
            access = await self._credentials.access()
        except CannotConnect as error:
            raise Transient(str(error)) from error
        headers = {"Accept": "application/json"}
        if request.body is not None:
            headers["Content-Type"] = request.content_type
        if access.authorization:
            headers["Authorization"] = access.authorization
        return await self._open_session().request(
            _METHODS.get(request.verb, "GET"),
            URL(access.host + request.target, encoded=True),
            data=request.body,
            headers=headers,
            ssl=access.tls if access.tls is not None else True,
            server_hostname=access.server_name,
            proxy=access.proxy,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_DEADLINE, sock_read=read_timeout),
            trace_request_ctx=progress,
        )

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            trace = aiohttp.TraceConfig()
            trace.on_request_headers_sent.append(_mark_sent)
            self._session = aiohttp.ClientSession(
                # The gate bounds the requests under way; each watch has one connection besides.
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE),
                cookie_jar=aiohttp.DummyCookieJar(),
                trace_configs=[trace],
                headers={"User-Agent": "koupleless-module-controller"},
            )
        return self._session


def failure(error: BaseException, deadline: float) -> str:
    """Say in words how a request failed."""
    if isinstance(error, TimeoutError) and not str(error):
        return f"no reply within {deadline:g} s"
    if isinstance(error, aiohttp.ClientConnectorError) and not isinstance(error, aiohttp.ClientSSLError):
        # Its own text shows the TLS context as an object.
        return f"cannot connect to {error.host}:{error.port}: {error.os_error.strerror or error.os_error}"
    return str(error) or type(error).__name__


def abort(response: aiohttp.ClientResponse) -> None:
    """Drop a response and its connection without the farewells of TLS, which a dead peer never answers."""
    connection = response.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()
    response.close()


async def _reply(response: aiohttp.ClientResponse) -> Reply:
    return Reply(response.status, response.headers.get("Retry-After", ""), await response.read())


async def _mark_sent(_session: aiohttp.ClientSession, context: SimpleNamespace, _params: object) -> None:
    # Told just before the first byte goes out: what is not marked has not been sent.
    context.trace_request_ctx.sent = True
