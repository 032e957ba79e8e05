"""Listens as the kubelet of every VNode, over TLS.

Nobody is answered who is not known. All replicas answer alike: what they need is in the cluster. What connections may
cost, and how refusals are counted and logged, is that of every port of ours (service.webserver).
"""

from dataclasses import dataclass
from typing import NoReturn

from aiohttp import ClientError, web

from controlplane.kubelet.access import KubeletAccess
from controlplane.kubelet.routes import NO_ROUTES, Routes
from controlplane.kubelet.shown import Shown
from service.following import LOOK_EVERY, Followed
from service.webserver import Bounds, WebServer

BOUNDS = Bounds(connections=512, of_peer=256, whole=None, line=32 << 10, rate=500.0, burst=2000.0)
"""Callers are few and known: the API servers. Logs and streams bound themselves. The line has the command of exec."""


@dataclass(eq=False)
class KubeletServer:
    """The server; host and port are what it listens on, 0 for any port."""

    host: str
    port: int
    shown: Shown
    access: KubeletAccess
    routes: Routes = NO_ROUTES
    look_every: float = LOOK_EVERY
    bounds: Bounds = BOUNDS

    def __post_init__(self) -> None:
        self._certificates = Followed(self.shown.load, "kubelet", look_every=self.look_every)
        self._web = WebServer("kubelet", self._serve, self.bounds, context=lambda: self._certificates.current.context)

    async def start(self) -> None:
        """Listen; connections wait until run takes them. Raises CannotListen, WrongCertificates."""
        if self.shown.ready is None:
            await self._certificates.load()
        self.port = await self._web.bind(self.host, self.port, "KUBELET_PROXY_PORT")

    async def stop(self) -> None:
        """Accept no more, end all streams."""
        await self._web.stop()

    async def run(self, routes: Routes) -> NoReturn:
        """Take connections as soon as there is a certificate, and follow it."""
        self.routes = routes
        if self.shown.ready is not None:
            await self.shown.ready()
            await self._certificates.load()
        self._web.start()
        await self._certificates.follow()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            return await self._answer(request)
        except (ClientError, ConnectionError):
            # The reader is gone.
            return web.Response(status=499)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        certificate = request.transport.get_extra_info("peercert") if request.transport is not None else None
        caller = await self.access.caller(certificate, request.headers.get("Authorization", ""), request.remote or "")
        answer, names = self.routes.find(request.method, request.path)
        return await answer(request, caller, names)
