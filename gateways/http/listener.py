"""Listens for bases: POST /heartbeat and POST /queryBaseline.

Every connection serves one request, as bases use them, and is bounded in all it can cost: time for the head, time for
the body, bytes of both, connections in all and for each peer, requests for each peer. The limits for one peer are wide,
since thousands of bases can stand behind one address (NAT, a proxy, a Service that hides its clients): 6,000 bases may
start at once behind one address, and send heartbeats every 12 s.

A refused request is counted by reason, logged at most once in 10 s for each peer, and changes nothing. Paths are never
logged as they came: there may be a token in them. Sites of aiohttp bound neither connections nor their time, count no
failed handshakes, and log a trace for each request that is none.
"""

import asyncio
import socket
import ssl
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import NoReturn

import structlog
from aiohttp import ClientError, web
from aiohttp.http_exceptions import HttpProcessingError

from gateways.arklet.fields import Malformed
from gateways.arklet.names import InvalidName
from gateways.http.credentials import Caller, Credentials, RequestRefused, locate
from gateways.http.metrics import CONNECTIONS, REFUSED, REQUESTS
from gateways.http.requests import RETRY_AFTER, Requests
from gateways.session.links import Unavailable
from service.addresses import AddressRefused
from service.limits import LogLimit, RateLimit
from service.listening import listen
from service.tls import Certificates

log = structlog.get_logger(__name__)

MAX_BODY = 64 << 10
HANDSHAKE_TIMEOUT = 10.0
HEAD_TIMEOUT = 10.0
BODY_TIMEOUT = 10.0
"""Seconds."""
MAX_CONNECTIONS = 4_096
MAX_CONNECTIONS_OF_PEER = 2_048
RATE = 600.0
"""Requests a second of one peer."""
BURST = 6_000.0
LOG_INTERVAL = 10.0
"""Seconds between two log lines about one peer."""
LOG_RATE = 20.0
LOG_BURST = 100.0
"""Log lines a second about refusals of all peers together."""
ACCEPT_AGAIN = 1.0
"""Seconds until the next try when the process cannot take a connection, having no file descriptors left."""
LINGER = 0.5
"""Seconds in which a peer can still read a refusal while it sends a body that nobody wants."""

_BROKEN = (ClientError, HttpProcessingError, web.RequestPayloadError, ConnectionError)


class Listener:
    """The HTTP server for bases; with certificates it speaks TLS only."""

    def __init__(
        self, requests: Requests, credentials: Credentials, certificates: Certificates | None, *, host: str, port: int
    ) -> None:
        self._paths: dict[str, tuple[Callable[[bytes, Caller], Awaitable[bytes]], str]] = {
            "/heartbeat": (requests.heartbeat, "text/plain"),
            "/queryBaseline": (requests.query_baseline, "application/json"),
        }
        self._credentials = credentials
        self._certificates = certificates
        self._host = host
        self._port = port
        self._rate = RateLimit(RATE, BURST)
        self._log_limit = LogLimit(LOG_INTERVAL)
        self._log_rate = RateLimit(LOG_RATE, LOG_BURST, max_peers=1)
        self._peers: Counter[str] = Counter()
        self._open = 0
        CONNECTIONS.set_function(lambda: self._open)
        self._web = web.Server(self._serve)
        self._sockets: Sequence[socket.socket] = ()
        self._accepting: list[asyncio.Task[NoReturn]] = []
        self._connecting: set[asyncio.Task[None]] = set()

    @property
    def listening(self) -> bool:
        """Whether bases can connect."""
        return bool(self._accepting) and not any(task.done() for task in self._accepting)

    async def start(self) -> None:
        """Listen. Raises CannotListen, WrongCertificates."""
        if self._certificates is not None:
            await self._certificates.load()
        self._sockets = await listen(self._host, self._port, "HTTP_TUNNEL_LISTEN_PORT")
        self._accepting = [asyncio.create_task(self._accept(one), name="bases-accept") for one in self._sockets]

    async def stop(self) -> None:
        """Accept no more, let requests that were begun end within a second, close all connections."""
        tasks = [*self._accepting, *self._connecting]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for listening in self._sockets:
            listening.close()
        self._web.pre_shutdown()
        await self._web.shutdown(1.0)

    # Connections.

    async def _accept(self, listening: socket.socket) -> NoReturn:
        while True:
            try:
                accepted, (address, *_) = await asyncio.get_running_loop().sock_accept(listening)
            except OSError as error:
                log.warning("no connection of a base can be taken", cause=str(error))
                await asyncio.sleep(ACCEPT_AGAIN)
                continue
            peer = str(address)
            self._open += 1
            self._peers[peer] += 1
            if self._open > MAX_CONNECTIONS or self._peers[peer] > MAX_CONNECTIONS_OF_PEER:
                accepted.close()
                self.closed(peer)
                self.refused("", peer, RequestRefused(503, "connections", "too many connections"))
                continue
            connecting = asyncio.create_task(self._connect(accepted, peer), name="bases-connect")
            self._connecting.add(connecting)
            connecting.add_done_callback(self._connecting.discard)

    async def _connect(self, accepted: socket.socket, peer: str) -> None:
        """Make a connection of a socket, after a handshake if TLS is spoken."""
        context = None if self._certificates is None else self._certificates.context
        connected = False
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: BaseConnection(self, self._web, peer),
                accepted,
                ssl=context,
                ssl_handshake_timeout=None if context is None else HANDSHAKE_TIMEOUT,
            )
            connected = True
        except (OSError, ssl.CertificateError) as error:
            cause = error.reason if isinstance(error, ssl.SSLError) else None
            text = f"no TLS handshake: {cause or error}"
            self.refused("", peer, RequestRefused(400, "handshake", text))
        finally:
            if not connected:
                self.closed(peer)

    def closed(self, peer: str) -> None:
        """Count the end of a connection."""
        self._open -= 1
        self._peers[peer] -= 1
        if not self._peers[peer]:
            del self._peers[peer]

    # Requests.

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            response = await self._answer(request)
        except RequestRefused as refusal:
            path = locate(request.rel_url.raw_path).path
            self.refused(path if path in self._paths else "other", request.remote or "", refusal)
            return await self._refuse(request, refusal)
        REQUESTS.labels(path=locate(request.rel_url.raw_path).path).inc()
        response.force_close()
        return response

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        path, token = locate(request.rel_url.raw_path)
        if path not in self._paths:
            raise RequestRefused(404, "path", "there are POST /heartbeat and POST /queryBaseline")
        if request.method != "POST":
            raise RequestRefused(405, "method", f"{path} takes POST only", {"Allow": "POST"})
        wait = self._rate.admit(request.remote or "", time.monotonic())
        if wait:
            headers = {"Retry-After": str(int(wait) + 1)}
            raise RequestRefused(429, "rate", f"more than {RATE:g} requests a second from one address", headers)
        caller = self._credentials.caller(request.remote or "", token, request.headers.get("Authorization", ""))
        answer, content_type = self._paths[path]
        body = await self._body(request)
        try:
            return web.Response(body=await answer(body, caller), content_type=content_type)
        except Malformed as error:
            raise RequestRefused(400, "malformed", f"{path[1:]}: {error}") from None
        except InvalidName as error:
            raise RequestRefused(400, "invalid_identity", str(error)) from None
        except AddressRefused as error:
            raise RequestRefused(400, "address", f"localIP and port: {error}") from None
        except Unavailable as error:
            raise RequestRefused(503, "no_control_plane", str(error), RETRY_AFTER) from None

    async def _body(self, request: web.BaseRequest) -> bytes:
        too_large = RequestRefused(413, "too_large", f"a body may have {MAX_BODY} bytes")
        if (request.content_length or 0) > MAX_BODY:
            raise too_large
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        body = bytearray()
        try:
            async with asyncio.timeout(BODY_TIMEOUT):
                while chunk := await request.content.readany():
                    body += chunk
                    if len(body) > MAX_BODY:
                        raise too_large
        except TimeoutError:
            raise RequestRefused(408, "slow", f"the body did not come within {BODY_TIMEOUT:g} s") from None
        except _BROKEN:
            raise RequestRefused(400, "cut", "the body was cut or is broken") from None
        return bytes(body)

    def refused(self, path: str, peer: str, refusal: RequestRefused) -> None:
        """Count and log a refusal."""
        REFUSED.labels(path=path, reason=refusal.reason).inc()
        now = time.monotonic()
        held_back = self._log_limit.admit(peer, now)
        if held_back is not None and not self._log_rate.admit("", now):
            log.warning(
                "request refused",
                peer=peer,
                path=path,
                status=refusal.status,
                reason=refusal.reason,
                text=str(refusal),
                held_back=held_back,
            )

    async def _refuse(self, request: web.BaseRequest, refusal: RequestRefused) -> web.StreamResponse:
        response = _response(refusal)
        if request.content.at_eof() or refusal.reason in ("cut", "slow"):
            return response
        with suppress(*_BROKEN):
            await response.prepare(request)
            await response.write_eof()
        await _linger(request)
        return response


class BaseConnection(web.RequestHandler):
    """One connection from a base: aiohttp's, counted, and without traces in the log for what peers send."""

    __slots__ = ("_listener", "_peer")

    def __init__(self, listener: Listener, server: web.Server, peer: str) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=HEAD_TIMEOUT,
            access_log=None,  # type: ignore[arg-type]  # aiohttp's own way to say that there is none
            max_line_size=2048,
            max_field_size=8190,
            max_headers=64,
            lingering_time=0,
            auto_decompress=False,
        )
        self._listener = listener
        self._peer = peer

    def connection_lost(self, exc: BaseException | None) -> None:
        """Count the end."""
        super().connection_lost(exc)
        self._listener.closed(self._peer)

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Refuse what is not HTTP; a defect of ours is logged with its trace by aiohttp."""
        if status >= 500:
            return super().handle_error(request, status, exc, message)
        refusal = RequestRefused(status, "not_http", "not an HTTP request that is understood here")
        self._listener.refused("", self._peer, refusal)
        return _response(refusal)


def _response(refusal: RequestRefused) -> web.Response:
    response = web.Response(status=refusal.status, text=f"{refusal}\n", headers=refusal.headers)
    response.force_close()
    return response


async def _linger(request: web.BaseRequest) -> None:
    """Leave the connection open for a moment, so that closing it does not destroy the answer on its way.

    A small body that is still to come is read away; of a large one nothing more is.
    """
    with suppress(TimeoutError, *_BROKEN):
        async with asyncio.timeout(LINGER):
            read = 0
            while read <= MAX_BODY and (chunk := await request.content.readany()):
                read += len(chunk)
            if read > MAX_BODY:
                await asyncio.sleep(LINGER)
