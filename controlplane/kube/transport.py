"""HTTP to the API server: deadlines, and what a failure means.

Whether the request had been sent when it failed decides between Transient (nothing was done) and Unknown (a write may
have been done).
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import aiohttp
from aiohttp.http_exceptions import LineTooLong
from prometheus_client import Counter, Histogram

from controlplane.app.ports import ClusterError, Transient, Unknown
from controlplane.kube.connections import Connections, Request, Sending
from controlplane.kube.errors import error_of_reply
from controlplane.kube.kept import CONNECT_DEADLINE
from kubeaccess.authorization import CannotConnect
from service.masking import masked
from service.upgraded import UpgradedConnection

READ_DEADLINE = 10.0
WRITE_DEADLINE = 10.0
LIST_DEADLINE = 60.0
"""Seconds for one page of a list."""
UNANSWERED = 2.0
"""Seconds after which a request that was given up without an answer makes its connection suspect."""

_FAILURES = (CannotConnect, aiohttp.ClientError, OSError, TimeoutError)

REQUESTS = Counter(
    "koupleless_api_requests_total",
    "Requests to the Kubernetes API; code is the HTTP status, or error when there was no reply.",
    ("verb", "resource", "code"),
)
SECONDS = Histogram(
    "koupleless_api_request_seconds",
    "Time from sending a request to the Kubernetes API to its whole reply, in seconds; watches excluded.",
    ("verb", "resource"),
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)


def deadline(request: Request) -> float:
    """Return the seconds until a request must have been answered."""
    if request.writes:
        return WRITE_DEADLINE
    return LIST_DEADLINE if request.verb == "list" else READ_DEADLINE


async def exchange(connections: Connections, request: Request) -> tuple[bytes, str]:
    """Return the body of a response of status 2xx, and its header Date; raises ClusterError."""
    sending = Sending()
    began, code = time.monotonic(), "error"
    try:
        async with asyncio.timeout(deadline(request)):
            reply = await connections.ask(request, sending)
        code = str(reply.status)
    except _FAILURES as error:
        words = f"{request}: {failure(error, deadline(request))}"
        if sending.sent and request.writes:
            raise Unknown(f"{words}, after the request was sent") from error
        raise Transient(words) from error
    finally:
        sending.let_go()
        seconds = time.monotonic() - began
        if code == "error" and sending.sent and seconds >= UNANSWERED:
            # Given up by us or by who asked: its connection may be dead, and so may be others.
            sending.distrust()
        REQUESTS.labels(request.verb, request.label, code).inc()
        SECONDS.labels(request.verb, request.label).observe(seconds)
    if reply.status >= 300:
        again = reply.headers.get("retry-after", "")
        raise error_of_reply(reply.status, reply.body, retry_after=again, write=request.writes)
    return reply.body, reply.headers.get("date", "")


@asynccontextmanager
async def stream(
    connections: Connections, request: Request, *, opens_within: float | None, idle: float | None
) -> AsyncIterator["Stream"]:
    """Give an open stream; raises ClusterError.

    opens_within is the seconds until its head must be there, idle those between two reads.
    """
    sending = Sending()
    try:
        response = await _open(connections, request, sending, 200, opens_within=opens_within, idle=idle)
        yield Stream(request, sending, response.content, idle)
    finally:
        sending.let_go()


@asynccontextmanager
async def upgraded(
    connections: Connections, request: Request, *, opens_within: float
) -> AsyncIterator[tuple[Mapping[str, str], UpgradedConnection]]:
    """Give the head of the response to a request for an upgrade, and the connection after it; raises ClusterError.

    Once the block ends what was written is still sent, unless it ends with an error.
    """
    sending, in_order = Sending(), False
    try:
        response = await _open(connections, request, sending, 101, opens_within=opens_within, idle=None)
        try:
            connection = UpgradedConnection.of_response(response)
        except ConnectionError as error:
            raise Transient(f"{request}: {error}") from error
        try:
            yield response.headers, connection
            in_order = True
        except asyncio.CancelledError:
            # The other end of the stream has gone.
            in_order = True
            raise
    finally:
        sending.let_go(gently=in_order)


async def _open(
    connections: Connections,
    request: Request,
    sending: Sending,
    expected: int,
    *,
    opens_within: float | None,
    idle: float | None,
) -> aiohttp.ClientResponse:
    """Return a response of the expected status, its body to be read; raises ClusterError."""
    code = "error"
    try:
        async with asyncio.timeout(opens_within):
            response = await connections.send(request, sending, read_timeout=idle)
            code = str(response.status)
            if response.status != expected:
                raise _error(response, await response.read(), write=False)
            return response
    except _FAILURES as error:
        if sending.sent and isinstance(error, TimeoutError):
            sending.distrust()
        raise Transient(f"{request}: {failure(error, opens_within or 0)}") from error
    finally:
        REQUESTS.labels(request.verb, request.label, code).inc()


@dataclass(frozen=True, slots=True)
class Stream:
    """The open body of a response. Reading raises Transient."""

    request: Request
    sending: Sending
    content: aiohttp.StreamReader
    idle: float | None

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield bytes as they come, until the server ends them."""
        with self._reading():
            while piece := await self.content.readany():
                yield piece

    async def lines(self, limit: int) -> AsyncIterator[bytes]:
        """Yield lines that are not empty, of at most limit bytes, until the server ends them."""
        with self._reading():
            while line := await self.content.readline(max_line_length=limit):
                if line.strip():
                    yield line

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            self.sending.distrust()
            silent = f"nothing was received for {self.idle or 0:g} s"
            raise Transient(f"{self.request}: {silent}, its connection is given up") from error
        except LineTooLong as error:
            raise Transient(f"{self.request} broke off: a line is too long") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Transient(f"{self.request} broke off: {failure(error, 0)}") from error


def failure(error: BaseException, within: float) -> str:
    """Say in words how a request failed."""
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        # Its own text has the whole URL.
        return f"no connection within {CONNECT_DEADLINE:g} s"
    if isinstance(error, TimeoutError) and not str(error):
        return f"no reply within {within:g} s"
    if isinstance(error, aiohttp.ClientConnectorError) and not isinstance(error, aiohttp.ClientSSLError):
        # Its own text shows the TLS context as an object.
        return f"cannot connect to {error.host}:{error.port}: {error.os_error.strerror or error.os_error}"
    return masked(str(error)) or type(error).__name__


def _error(response: aiohttp.ClientResponse, body: bytes, *, write: bool) -> ClusterError:
    return error_of_reply(response.status, body, retry_after=response.headers.get("Retry-After", ""), write=write)
