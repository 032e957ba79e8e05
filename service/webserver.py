"""A small HTTP/1.1 server whose every connection is bounded: what all ports but gRPC are served with.

A connection serves one request. Bounded are the time for the TLS handshake, for the head and for the whole, the size of
the head and the number of its headers, connections in all and of each peer (service.connections), requests of each
peer. It leaves file descriptors to what the program exists for. A refusal is counted by its reason and logged at most
once a minute for each peer; nothing that a peer sends leaves a trace in the log. Sites of aiohttp bound no connections,
and one more than there are descriptors ends the listening socket of uvloop.
"""

import asyncio
import os
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import ClassVar, cast

from aiohttp import ClientError, web
from aiohttp.http_exceptions import HttpProcessingError

from service import descriptors
from service.connections import Connections, peer_of
from service.limits import RateLimit
from service.listening import BACKLOG, CannotListen, cause_of, listen
from service.refusals import CONNECTIONS, Refusals, RequestRefused
from service.watchdog import end_if_exhausted

Answer = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
"""Answers a request; raises RequestRefused."""

ACCEPT_AGAIN = 0.5
"""Seconds until the next try when the kernel gives no connection."""
LINGER = 0.5
"""Seconds in which a body that nobody wants is read away, so that closing does not destroy the answer on its way."""
KEEP_ALIVE = ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))
"""A peer that vanishes is noticed after a minute, also while nothing is sent."""

BROKEN = (ClientError, HttpProcessingError, web.RequestPayloadError, ConnectionError)
"""What reading a request raises when the peer sends something else, or nothing more."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a listener's connections may cost. Times are seconds, sizes bytes."""

    connections: int = 512
    of_peer: int = 64
    head: float = 10.0
    """For the handshake, and then for the head."""
    whole: float | None = 20.0
    """From the head to the end of the connection; None: what answers bounds it."""
    line: int = 4096
    field: int = 8190
    headers: int = 64
    rate: float = 50.0
    """Requests a second of one peer."""
    burst: float = 500.0


@dataclass(frozen=True, slots=True)
class Route:
    """What answers one path, and by which methods."""

    answer: Answer
    methods: tuple[str, ...] = ("GET", "HEAD")


def routed(routes: Mapping[str, Route]) -> Answer:
    """Return an Answer that refuses all but these paths and their methods."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        route = routes.get(request.path)
        if route is None:
            raise RequestRefused(404, "path", f"there is only {', '.join(routes)}")
        if request.method not in route.methods:
            allowed = ", ".join(route.methods)
            raise RequestRefused(405, "method", f"{request.path} takes {allowed} only", {"Allow": allowed})
        return await route.answer(request)

    return answer


async def read_body(request: web.BaseRequest, *, most: int, within: float) -> bytes:
    """Return the body of a request; raises RequestRefused."""
    too_large = RequestRefused(413, "too_large", f"the body is larger than {most} bytes")
    if (request.content_length or 0) > most:
        raise too_large
    body = bytearray()
    try:
        async with asyncio.timeout(within):
            if request.headers.get("Expect", "").lower() == "100-continue":
                await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                request.writer.output_size = 0
            while chunk := await request.content.readany():
                body += chunk
                if len(body) > most:
                    raise too_large
    except TimeoutError:
        raise RequestRefused(408, "too_slow", f"the body did not come within {within:g} s") from None
    except BROKEN:
        raise RequestRefused(400, "cut", "the body was cut or is broken") from None
    return bytes(body)


class WebServer:
    """Serves answer on sockets; name stands in metrics and logs.

    context returns the TLS context for a new connection, None without TLS. Sockets are bound by one of the bind
    methods and served from start to stop.
    """

    _serving: ClassVar[set["WebServer"]] = set()

    def __init__(
        self,
        name: str,
        answer: Answer,
        bounds: Bounds = Bounds(),
        *,
        context: Callable[[], ssl.SSLContext | None] = lambda: None,
    ) -> None:
        self.name = name
        self.bounds = bounds
        self.connections: Connections[Connection] = Connections(bounds.connections, bounds.of_peer)
        self._answer = answer
        self._context = context
        self._web = web.Server(self._serve, handler_cancellation=True)
        self._sockets: list[socket.socket] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._accepting: list[asyncio.Task[None]] = []
        self._rate = RateLimit(bounds.rate, bounds.burst)
        refusals = Refusals(name)
        self.refused, self._defect = refusals.refused, refusals.defect
        CONNECTIONS.labels(name).set_function(lambda: len(self.connections))

    async def bind(self, host: str, port: int, variable: str) -> int:
        """Bind host and port; return the port, for which 0 means any. Raises CannotListen."""
        self._sockets += await listen(host, port, variable)
        for listening in self._sockets:
            # Connections inherit it.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in KEEP_ALIVE:
                with suppress(OSError):
                    listening.setsockopt(socket.IPPROTO_TCP, option, value)
        return int(self._sockets[-1].getsockname()[1])

    def bind_unix(self, path: str, variable: str) -> None:
        """Bind a Unix socket, in place of one that a killed process left. Raises CannotListen."""
        opened = socket.socket(socket.AF_UNIX)
        try:
            with suppress(FileNotFoundError):
                os.unlink(path)
            opened.bind(path)
            opened.listen(BACKLOG)
            opened.setblocking(False)
        except OSError as error:
            opened.close()
            raise CannotListen(variable, path, error) from error
        self._sockets.append(opened)

    def start(self) -> None:
        """Take connections."""
        self._serving.add(self)
        self._accepting = [self._spawn(self._accept(one), f"{self.name}-accept") for one in self._sockets]

    @property
    def accepting(self) -> bool:
        """Whether connections are taken."""
        return bool(self._accepting) and not any(task.done() for task in self._accepting)

    async def stop(self) -> None:
        """Take no more connections, give requests under way a second to end."""
        self._serving.discard(self)
        for task in self._tasks:
            task.cancel()
        for listening in self._sockets:
            listening.close()
        self._sockets.clear()
        self._web.pre_shutdown()
        await self._web.shutdown(1.0)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, address = await loop.sock_accept(listening)
            except ConnectionAbortedError:
                continue
            except OSError as error:
                self._make_room(self.connections.oldest_idle())
                self.refused("", RequestRefused(503, "accept", f"no connection can be taken: {cause_of(error)}"))
                await asyncio.sleep(ACCEPT_AGAIN)
                continue
            self._take(accepted, peer_of(address))
            # Those that made room are closed when the loop turns.
            await asyncio.sleep(0)

    def _take(self, accepted: socket.socket, peer: str) -> None:
        connection = Connection(self, self._web, accepted, peer)
        if sum(len(each.connections) for each in self._serving) >= descriptors.of_listeners():
            # They are of the process, so its listener with the most connections makes room.
            fullest = max(self._serving, key=lambda each: len(each.connections))
            victim = fullest.connections.oldest_idle()
            if victim is None:
                accepted.close()
                self.refused(peer, RequestRefused(503, "descriptors", "too few file descriptors are left (ulimit -n)"))
                return
            fullest._make_room(victim)
        victim = self.connections.open(connection, peer)
        self._make_room(victim)
        if victim is connection:
            accepted.close()
            return
        task = self._spawn(self._connect(connection, accepted), f"{self.name}-connect")
        task.add_done_callback(connection.settled)

    def _make_room(self, victim: "Connection | None") -> None:
        if victim is not None:
            self.refused(victim.peer, RequestRefused(503, "connections", "too many connections; an idle one is closed"))
            self.connections.close(victim)
            victim.cut()

    async def _connect(self, connection: "Connection", accepted: socket.socket) -> None:
        context = self._context()
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection,
                accepted,
                ssl=context,
                ssl_handshake_timeout=None if context is None else self.bounds.head,
            )
        except ssl.SSLCertVerificationError as error:
            text = f"the client certificate is not of a CA that counts here: {error.verify_message}"
            self.refused(connection.peer, RequestRefused(400, "foreign_certificate", text))
        except OSError as error:
            self.refused(connection.peer, RequestRefused(400, "handshake", f"no TLS handshake: {error}"))

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = cast("Connection", request.protocol)
        connection.asked()
        peer = connection.peer
        try:
            if peer and (wait := self._rate.admit(peer, time.monotonic())):
                headers = {"Retry-After": str(int(wait) + 1)}
                raise RequestRefused(429, "rate", "too many requests from one address", headers)
            response = await self._answer(request)
        except RequestRefused as refusal:
            self.refused(peer, refusal)
            response = response_of(refusal)
        except BROKEN:
            response = self.not_http(peer, 400)
        except Exception as error:
            end_if_exhausted(error)
            response = self.defect(peer, error)
        response.force_close()
        return response

    def not_http(self, peer: str, status: int) -> web.Response:
        """Refuse what is no request."""
        refusal = RequestRefused(status, "not_http", "it is no HTTP/1 request")
        self.refused(peer, refusal)
        return response_of(refusal)

    def defect(self, peer: str, error: BaseException | None) -> web.Response:
        """Answer for a defect of ours."""
        self._defect(peer, error)
        return response_of(RequestRefused(500, "defect", "a defect of this program: see its log"))

    def _spawn(self, work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


class Connection(web.RequestHandler):
    """One connection: aiohttp's, with deadlines, and without traces in the log for what peers send."""

    __slots__ = ("_accepted", "_server", "_timer", "_wire", "peer")

    def __init__(self, server: WebServer, manager: web.Server, accepted: socket.socket, peer: str) -> None:
        bounds = server.bounds
        super().__init__(
            manager,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=0,
            access_log=None,  # type: ignore[arg-type]  # aiohttp's own way to say that there is none
            max_line_size=bounds.line,
            max_field_size=bounds.field,
            max_headers=bounds.headers,
            lingering_time=LINGER,
            auto_decompress=False,
        )
        self.peer = peer
        self._server = server
        self._accepted = accepted
        self._wire: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The handshake, if any, is done: the head has to come."""
        super().connection_made(transport)
        self._wire = cast("asyncio.Transport", transport)
        self._within(self._server.bounds.head, "the head of the request")

    def settled(self, _task: object) -> None:
        """The handshake ended: where it failed, or never began, nothing else closes the socket."""
        if self._wire is None:
            self._server.connections.close(self)
            self._accepted.close()

    def asked(self) -> None:
        """The head is here: the rest has to come to an end."""
        self._server.connections.busy(self)
        self._within(self._server.bounds.whole, "the rest of the request, or the reading of its answer,")

    def cut(self) -> None:
        """End it at once."""
        if self._wire is not None:
            self._wire.abort()
        else:
            with suppress(OSError):
                self._accepted.shutdown(socket.SHUT_RDWR)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Give the place back."""
        self._within(None, "")
        self._server.connections.close(self)
        super().connection_lost(exc)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Refuse what is not HTTP."""
        return self._server.not_http(self.peer, status) if status < 500 else self._server.defect(self.peer, exc)

    def _within(self, seconds: float | None, what: str) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds is not None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._too_slow, what)

    def _too_slow(self, what: str) -> None:
        self._server.refused(self.peer, RequestRefused(408, "timeout", f"{what} did not come in time"))
        self.cut()


def response_of(refusal: RequestRefused) -> web.Response:
    """Return the answer to a request that is refused."""
    response = web.Response(status=refusal.status, text=f"{refusal.text}\n", headers=refusal.headers)
    response.force_close()
    return response
