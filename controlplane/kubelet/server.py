"""Listens as the kubelet of every VNode: GET /containerLogs/NAMESPACE/POD/CONTAINER over TLS.

Every connection serves one request and is bounded in what it can cost: time for the
handshake, time for the head, bytes of the head, connections. Nobody is answered who
is not known; a refusal is counted by its reason and logged, each reason at most once
in ten seconds. All replicas answer alike: what they need is in the cluster.
"""

from __future__ import annotations

import asyncio
import socket
import time
from contextlib import suppress
from typing import NoReturn

import structlog
from aiohttp import ClientError, web

from controlplane.kubelet.access import Access
from controlplane.kubelet.certificates import Files, Unusable
from controlplane.kubelet.logs import ModuleLogs
from controlplane.kubelet.metrics import CONNECTIONS, REFUSED, RELOADS
from controlplane.kubelet.refusal import Refusal
from service.status import CannotListen, cannot_listen

log = structlog.get_logger(__name__)

HANDSHAKE_WITHIN = 10.0
HEAD_WITHIN = 10.0
LOOK_EVERY = 10.0
"""Seconds between two looks at the certificate files."""
MOST_CONNECTIONS = 512
LONGEST_LINE = 4096
MOST_HEADERS = 64
LOG_INTERVAL = 10.0
KEEP_ALIVE = ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))
"""A peer that is gone without a word is noticed after a minute, also while a quiet log is followed."""

NOT_OFFERED = frozenset(
    "attach checkpoint configz cri debug exec logs metrics pods portForward run runningpods spec stats".split()  # noqa: SIM905
)
"""What other kubelets have besides."""


class KubeletServer:
    """The server. host and port are what it listens on."""

    def __init__(
        self, *, host: str, port: int, files: Files, access: Access, logs: ModuleLogs, look_every: float = LOOK_EVERY
    ) -> None:
        self._host = host
        self._port = port
        self._files = files
        self._access = access
        self._logs = logs
        self._look_every = look_every
        self._web = web.Server(self._serve, handler_cancellation=True)
        self._socket: socket.socket | None = None
        self._server: asyncio.Server | None = None
        self._contents: tuple[bytes, bytes, bytes] | None = None
        self._connections = 0
        self._logged: dict[str, float] = {}

    @property
    def port(self) -> int:
        """The TCP port listened on."""
        return int(self._socket.getsockname()[1]) if self._socket is not None else self._port

    async def start(self) -> None:
        """Listen. Raises CannotListen, Unusable."""
        contents = await asyncio.to_thread(self._files.contents)
        try:
            self._socket = _listening_socket(self._host, self._port)
        except OSError as error:
            raise CannotListen(cannot_listen("KUBELET_PROXY_PORT", self._port, error)) from error
        await self._listen()
        self._contents = contents

    async def stop(self) -> None:
        """Accept no more, end all streams."""
        if self._server is not None:
            self._server.close()
        if self._socket is not None:
            self._socket.close()
        self._web.pre_shutdown()
        await self._web.shutdown(1.0)

    async def run(self) -> NoReturn:
        """Follow the certificate files."""
        told = ""
        while True:
            await asyncio.sleep(self._look_every)
            try:
                contents = await asyncio.to_thread(self._files.contents)
                if contents != self._contents:
                    await self._listen()
                    self._contents = contents
                    RELOADS.labels("taken").inc()
                    log.info("changed certificate files are used from now on")
                told = ""
            except Unusable as error:
                if str(error) != told:
                    told = str(error)
                    RELOADS.labels("unusable").inc()
                    log.warning("changed certificate files cannot be used; the old ones stay in use", cause=told)

    async def _listen(self) -> None:
        """Give the listening socket to a server with the certificates of now; raises Unusable."""
        if self._socket is None:
            raise RuntimeError("there is no socket before start")
        context = await asyncio.to_thread(self._files.context)
        before = self._server
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Connection(self, self._web),
            sock=self._socket.dup(),
            ssl=context,
            ssl_handshake_timeout=HANDSHAKE_WITHIN,
            backlog=128,
        )
        if before is not None:
            before.close()

    # Connections.

    def opened(self) -> bool:
        """Count a connection; False when there are too many."""
        self._connections += 1
        CONNECTIONS.set(self._connections)
        if self._connections > MOST_CONNECTIONS:
            self.refused("", Refusal(503, "connections", "too many connections"))
            return False
        return True

    def closed(self) -> None:
        """Count the end of a connection."""
        self._connections -= 1
        CONNECTIONS.set(self._connections)

    # Requests.

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await self._answer(request)
        except Refusal as refusal:
            self.refused(request.remote or "", refusal)
            return _response(refusal.status, refusal.text, refusal.headers)
        except (ClientError, ConnectionError):
            # The reader is gone; there is nobody to tell.
            return _response(499, "")

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        certificate = request.transport.get_extra_info("peercert") if request.transport is not None else None
        caller = await self._access.caller(certificate, request.headers.get("Authorization", ""))
        parts = request.path.split("/")[1:]
        what = parts[0]
        if what == "healthz" and len(parts) == 1:
            return _response(200, "ok")
        if what in NOT_OFFERED:
            raise Refusal(501, "not_offered", f"VNodes have no /{what}: a module is a part of its base's process")
        if what != "containerLogs" or len(parts) != 4 or not all(parts):
            raise Refusal(404, "path", "there is GET /containerLogs/NAMESPACE/POD/CONTAINER")
        if request.method != "GET":
            raise Refusal(405, "method", "logs can only be read", {"Allow": "GET"})
        return await self._logs.send(request, caller, (parts[1], parts[2], parts[3]))

    def refused(self, peer: str, refusal: Refusal) -> None:
        """Count and log a refusal."""
        REFUSED.labels(refusal.reason).inc()
        now = time.monotonic()
        if now - self._logged.get(refusal.reason, float("-inf")) >= LOG_INTERVAL:
            self._logged[refusal.reason] = now
            log.warning(
                "kubelet request refused", peer=peer, status=refusal.status, reason=refusal.reason, text=refusal.text
            )


class Connection(web.RequestHandler):
    """One connection: aiohttp's, counted, and without traces in the log for what peers send."""

    __slots__ = ("_handshake", "_kubelet", "_peer")

    def __init__(self, kubelet: KubeletServer, server: web.Server) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(
            server,
            loop=loop,
            keepalive_timeout=HEAD_WITHIN,
            access_log=None,  # type: ignore[arg-type]  # aiohttp's own way to say that there is none
            max_line_size=LONGEST_LINE,
            max_field_size=LONGEST_LINE * 2,
            max_headers=MOST_HEADERS,
            lingering_time=0,
            auto_decompress=False,
        )
        self._kubelet = kubelet
        self._peer = ""
        # Nobody is told of a handshake that fails, but then there is no connection some time later.
        self._handshake = loop.call_later(HANDSHAKE_WITHIN + 1.0, self._no_handshake)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Close at once when there are too many connections."""
        self._handshake.cancel()
        super().connection_made(transport)
        name = transport.get_extra_info("peername")
        self._peer = str(name[0]) if name else ""
        if not self._kubelet.opened():
            self.force_close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Count the end."""
        super().connection_lost(exc)
        self._kubelet.closed()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Refuse what is no HTTP; a defect of ours is logged with its trace by aiohttp."""
        if status >= 500:
            return super().handle_error(request, status, exc, message)
        refusal = Refusal(status, "not_http", "not an HTTP request that is understood here")
        self._kubelet.refused(self._peer, refusal)
        return _response(refusal.status, refusal.text)

    def _no_handshake(self) -> None:
        text = "no TLS handshake: it took too long, was no TLS, or the client's certificate is of another CA"
        self._kubelet.refused("", Refusal(400, "handshake", text))


def _response(status: int, text: str, headers: dict[str, str] | None = None) -> web.Response:
    response = web.Response(status=status, text=f"{text}\n", headers=headers)
    response.force_close()
    return response


def _listening_socket(host: str, port: int) -> socket.socket:
    listening = socket.create_server(
        (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=128
    )
    listening.setblocking(False)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEP_ALIVE:
        with suppress(OSError):
            # Connections inherit it.
            listening.setsockopt(socket.IPPROTO_TCP, option, value)
    return listening
