"""Listens for bases: POST /heartbeat and POST /queryBaseline.

Every connection serves one request, as bases use them, and is bounded in all it can cost: time for the head, time for
the body, bytes of both, connections in all and for each peer, requests for each peer. The limits for one peer are wide,
since thousands of bases can stand behind one address (NAT, a proxy, a Service that hides its clients): 6,000 bases may
start at once behind one address, and send heartbeats every 12 s.

A refused request is counted by reason, logged at most once in 10 s for each peer, and changes nothing. Sites of aiohttp
bound neither connections nor their time, and log a trace for each request that is none.
"""

import asyncio
import hmac
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

import structlog
from aiohttp import ClientError, web
from aiohttp.http_exceptions import HttpProcessingError
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.arklet import commands, payloads
from gateways.arklet.fields import Malformed, first_object
from gateways.arklet.names import InvalidName, parse_identity
from gateways.http.arklet_client import with_port
from gateways.http.metrics import CONNECTIONS, REFUSED, REQUESTS
from gateways.polling.prober import LIVE, Prober
from gateways.session.links import Unavailable
from service.addresses import AddressPolicy, AddressRefused
from service.limits import LogLimit, RateLimit
from service.listening import BACKLOG, host_port, listen

log = structlog.get_logger(__name__)

MAX_BODY = 64 << 10
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
LINGER = 0.5
"""Seconds in which a peer can still read a refusal while it sends a body that nobody wants."""

BASELINE_TIMEOUT = 5.0
"""Seconds that a base waits at most for the answer to its baseline question."""
RETRY_AFTER = {"Retry-After": "5"}

_BROKEN = (ClientError, HttpProcessingError, web.RequestPayloadError, ConnectionError)


class RequestRefused(Exception):
    """A request is refused: HTTP status, reason for counting, text for people."""

    def __init__(self, status: int, reason: str, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status, self.reason, self.headers = status, reason, headers


@dataclass(slots=True)
class Requests:
    """Carries out heartbeats and baseline questions. A refused one has changed nothing.

    Both raise Malformed, InvalidName, AddressRefused, Unavailable or RequestRefused.
    """

    report: Callable[[pb.Report], bool]
    baseline: Callable[[pb.Report], Awaitable[list[pb.ModuleRef]]]
    prober: Prober
    policy: AddressPolicy
    env: str

    async def heartbeat(self, body: bytes, peer: str) -> bytes:
        """Take a heartbeat."""
        data = first_object(body)
        report, port = payloads.heartbeat(data), payloads.port(data)
        report.heartbeat.peer = peer
        base, address = parse_identity(report.base_id, self.env), report.heartbeat.address
        if port < 0:
            text = f"port: {port} says that the base found no free port and listens nowhere"
            raise RequestRefused(400, "address", text)
        address.port = port
        address.ip = self.policy.check(address.ip, with_port(address).port)
        elsewhere = self.prober.alive_elsewhere(base, address)
        if elsewhere is not None:
            old, new = (host_port(place.ip, place.port) for place in (elsewhere, address))
            text = f"base {base} is alive at {old}; {new} is taken once that one is silent for {LIVE:g} s"
            raise RequestRefused(409, "identity_in_use", text)
        if not self.report(report):
            raise Unavailable("no control plane replica is connected")
        if report.heartbeat.state == pb.BASE_STATE_DEACTIVATED:
            self.prober.leaving(base)
        else:
            self.prober.heartbeat(base, address)
        return b"SUCCESS"

    async def query_baseline(self, body: bytes, peer: str) -> bytes:
        """Answer a baseline question."""
        query = payloads.baseline_query(first_object(body))
        parse_identity(query.base_id, self.env)
        query.baseline_query.peer = peer
        try:
            async with asyncio.timeout(BASELINE_TIMEOUT):
                return commands.baseline(await self.baseline(query))
        except TimeoutError:
            text = f"the control plane did not answer within {BASELINE_TIMEOUT:g} s"
            raise RequestRefused(503, "baseline_timeout", text, RETRY_AFTER) from None


class Listener:
    """The HTTP server for bases. An empty token accepts every base."""

    def __init__(self, requests: Requests, *, host: str, port: int, token: str = "") -> None:
        self._paths: dict[str, tuple[Callable[[bytes, str], Awaitable[bytes]], str]] = {
            "/heartbeat": (requests.heartbeat, "text/plain"),
            "/queryBaseline": (requests.query_baseline, "application/json"),
        }
        self._host = host
        self._port = port
        self._token = token.encode()
        self._rate = RateLimit(RATE, BURST)
        self._log_limit = LogLimit(LOG_INTERVAL)
        self._log_rate = RateLimit(LOG_RATE, LOG_BURST, max_peers=1)
        self._peers: Counter[str] = Counter()
        self._open = 0
        CONNECTIONS.set_function(lambda: self._open)
        self._web = web.Server(self._serve)
        self._servers: list[asyncio.Server] = []

    @property
    def listening(self) -> bool:
        """Whether bases can connect."""
        return bool(self._servers) and all(server.is_serving() for server in self._servers)

    async def start(self) -> None:
        """Listen. Raises CannotListen."""
        loop = asyncio.get_running_loop()
        for opened in await listen(self._host, self._port, "HTTP_TUNNEL_LISTEN_PORT"):
            server = await loop.create_server(lambda: BaseConnection(self, self._web), sock=opened, backlog=BACKLOG)
            self._servers.append(server)

    async def stop(self) -> None:
        """Accept no more, let requests that were begun end within a second, close all connections."""
        for server in self._servers:
            server.close()
        self._web.pre_shutdown()
        await self._web.shutdown(1.0)

    # Connections.

    def opened(self, peer: str) -> bool:
        """Count a connection; False when there are too many."""
        self._open += 1
        self._peers[peer] += 1
        if self._open <= MAX_CONNECTIONS and self._peers[peer] <= MAX_CONNECTIONS_OF_PEER:
            return True
        self.refused("", peer, RequestRefused(503, "connections", "too many connections"))
        return False

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
            path = request.path if request.path in self._paths else "other"
            self.refused(path, request.remote or "", refusal)
            return await self._refuse(request, refusal)
        REQUESTS.labels(path=request.path).inc()
        response.force_close()
        return response

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        if request.path not in self._paths:
            raise RequestRefused(404, "path", "there are POST /heartbeat and POST /queryBaseline")
        if request.method != "POST":
            raise RequestRefused(405, "method", f"{request.path} takes POST only", {"Allow": "POST"})
        wait = self._rate.admit(request.remote or "", time.monotonic())
        if wait:
            headers = {"Retry-After": str(int(wait) + 1)}
            raise RequestRefused(429, "rate", f"more than {RATE:g} requests a second from one address", headers)
        given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        if self._token and not hmac.compare_digest(given, b"Bearer " + self._token):
            raise RequestRefused(401, "token", "bearer token missing or wrong", {"WWW-Authenticate": "Bearer"})
        answer, content_type = self._paths[request.path]
        body = await self._body(request)
        try:
            return web.Response(body=await answer(body, request.remote or ""), content_type=content_type)
        except Malformed as error:
            raise RequestRefused(400, "malformed", f"{request.path[1:]}: {error}") from None
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

    def __init__(self, listener: Listener, server: web.Server) -> None:
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
        self._peer = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Close at once when there are too many connections."""
        super().connection_made(transport)
        name = transport.get_extra_info("peername")
        self._peer = str(name[0]) if name else ""
        if not self._listener.opened(self._peer):
            self.force_close()

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
