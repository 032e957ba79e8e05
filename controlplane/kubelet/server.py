"""Listens as the kubelet of every VNode: GET /containerLogs/NAMESPACE/POD/CONTAINER over TLS.

Every connection serves one request and is bounded in what it can cost: time for the handshake, time for the head, bytes
of the head, connections. Nobody is answered who is not known; a refusal is counted by its reason and logged, each
reason at most once in ten seconds. All replicas answer alike: what they need is in the cluster. Sites of aiohttp bound
no connections, count no failed handshakes and keep the certificate that they began with.
"""

import asyncio
import socket
import ssl
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

import structlog
from aiohttp import ClientError, web
from prometheus_client import Counter, Gauge

from controlplane.kubelet.access import Reviewer
from controlplane.kubelet.logs import ModuleLogs
from controlplane.kubelet.requests import RequestRefused
from service.following import LOOK_EVERY
from service.limits import LogLimit
from service.listening import listen
from service.tls import Certificates, Files

log = structlog.get_logger(__name__)

HANDSHAKE_WITHIN = 10.0
HEAD_WITHIN = 10.0
MOST_CONNECTIONS = 512
ACCEPT_AGAIN = 1.0
"""Seconds until the next try when the process cannot take a connection, having no file descriptors left."""
LONGEST_LINE = 4096
MOST_HEADERS = 64
LOG_INTERVAL = 10.0
KEEP_ALIVE = ((socket.TCP_KEEPIDLE, 30), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 3))
"""A peer that vanishes is noticed after a minute, also while a quiet log is followed."""

NOT_OFFERED = frozenset(
    "attach checkpoint configz cri debug exec logs metrics pods portForward run runningpods spec stats".split()  # noqa: SIM905
)
"""What other kubelets have besides."""

CONNECTIONS = Gauge("koupleless_kubelet_connections", "Connections to the kubelet API that are open")
REFUSED = Counter("koupleless_kubelet_refused_total", "Requests to the kubelet API that were refused", ["reason"])


@dataclass(eq=False)
class KubeletServer:
    """The server; host and port are what it listens on, 0 for any port."""

    host: str
    port: int
    files: Files
    reviewer: Reviewer
    logs: ModuleLogs
    look_every: float = LOOK_EVERY
    most_connections: int = MOST_CONNECTIONS

    def __post_init__(self) -> None:
        self._web = web.Server(self._serve, handler_cancellation=True)
        self._sockets: Sequence[socket.socket] = ()
        self._certificates = Certificates(self.files, "kubelet", look_every=self.look_every)
        self._places = asyncio.Semaphore(self.most_connections)
        self._logged = LogLimit(LOG_INTERVAL)

    async def start(self) -> None:
        """Listen; connections wait until run takes them. Raises CannotListen, WrongCertificates."""
        await self._certificates.load()
        self._sockets = await listen(self.host, self.port, "KUBELET_PROXY_PORT")
        self.port = self._sockets[0].getsockname()[1]
        for listening in self._sockets:
            # Connections inherit that peers which are gone are found out.
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in KEEP_ALIVE:
                with suppress(OSError):
                    listening.setsockopt(socket.IPPROTO_TCP, option, value)

    async def stop(self) -> None:
        """Accept no more, end all streams."""
        for listening in self._sockets:
            listening.close()
        self._web.pre_shutdown()
        await self._web.shutdown(1.0)

    async def run(self) -> NoReturn:
        """Take connections, and follow the certificate files."""
        async with asyncio.TaskGroup() as group:
            for listening in self._sockets:
                group.create_task(self._accept(listening, group), name="kubelet-accept")
            group.create_task(self._certificates.follow(), name="kubelet-files")
        raise AssertionError("both run until cancelled")

    async def _accept(self, listening: socket.socket, group: asyncio.TaskGroup) -> NoReturn:
        while True:
            # Without a place here, connections wait outside the process.
            await self._places.acquire()
            try:
                accepted, peer = await asyncio.get_running_loop().sock_accept(listening)
            except OSError as error:
                self._places.release()
                log.warning("no connection to the kubelet API can be taken", cause=str(error))
                await asyncio.sleep(ACCEPT_AGAIN)
                continue
            CONNECTIONS.inc()
            group.create_task(self._shake_hands(accepted, str(peer[0])), name="kubelet-handshake")

    async def _shake_hands(self, accepted: socket.socket, peer: str) -> None:
        connected = False
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: KubeletConnection(self, self._web),
                accepted,
                ssl=self._certificates.context,
                ssl_handshake_timeout=HANDSHAKE_WITHIN,
            )
            connected = True
        except ssl.SSLCertVerificationError as error:
            text = f"the client certificate is not of {self.files.client_ca}: {error.verify_message}"
            self.refused(peer, RequestRefused(400, "foreign_certificate", text))
        except OSError as error:
            self.refused(peer, RequestRefused(400, "handshake", f"no TLS handshake: {error}"))
        finally:
            if not connected:
                self.closed()

    def closed(self) -> None:
        """A connection ended, or did not come to be."""
        CONNECTIONS.dec()
        self._places.release()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await self._answer(request)
        except RequestRefused as refusal:
            self.refused(request.remote or "", refusal)
            return _response(refusal.status, refusal.text, refusal.headers)
        except (ClientError, ConnectionError):
            # The reader is gone.
            return _response(499, "")

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        certificate = request.transport.get_extra_info("peercert") if request.transport is not None else None
        caller = await self.reviewer.caller(certificate, request.headers.get("Authorization", ""))
        match request.path.removeprefix("/").split("/"):
            case ["healthz"]:
                return _response(200, "ok")
            case [what, *_] if what in NOT_OFFERED:
                text = f"VNodes have no /{what}: a module is a part of its base's process"
                raise RequestRefused(501, "not_offered", text)
            case ["containerLogs", namespace, pod, container] if namespace and pod and container:
                if request.method != "GET":
                    raise RequestRefused(405, "method", "logs can only be read", {"Allow": "GET"})
                return await self.logs.send(request, caller, (namespace, pod, container))
            case _:
                raise RequestRefused(404, "path", "there is GET /containerLogs/NAMESPACE/POD/CONTAINER")

    def refused(self, peer: str, refusal: RequestRefused) -> None:
        """Count and log a refusal."""
        REFUSED.labels(refusal.reason).inc()
        if self._logged.admit(refusal.reason, time.monotonic()) is not None:
            log.warning(
                "kubelet request refused", peer=peer, status=refusal.status, reason=refusal.reason, text=refusal.text
            )


class KubeletConnection(web.RequestHandler):
    """One connection: aiohttp's, counted, and without traces in the log for what peers send."""

    __slots__ = ("_kubelet",)

    def __init__(self, kubelet: KubeletServer, server: web.Server) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=HEAD_WITHIN,
            access_log=None,  # type: ignore[arg-type]  # aiohttp's own way to say that there is none
            max_line_size=LONGEST_LINE,
            max_field_size=LONGEST_LINE * 2,
            max_headers=MOST_HEADERS,
            lingering_time=0,
            auto_decompress=False,
        )
        self._kubelet = kubelet

    def connection_lost(self, exc: BaseException | None) -> None:
        """Give the place back."""
        super().connection_lost(exc)
        self._kubelet.closed()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Refuse what is not HTTP; a defect of ours is logged with its trace by aiohttp."""
        if status >= 500:
            return super().handle_error(request, status, exc, message)
        refusal = RequestRefused(status, "not_http", "not an HTTP request that is understood here")
        self._kubelet.refused(request.remote or "", refusal)
        return _response(refusal.status, refusal.text)


def _response(status: int, text: str, headers: dict[str, str] | None = None) -> web.Response:
    response = web.Response(status=status, text=f"{text}\n", headers=headers)
    response.force_close()
    return response
