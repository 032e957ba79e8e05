"""Listens as the kubelet of every VNode: GET /containerLogs/NAMESPACE/POD/CONTAINER over TLS.

Nobody is answered who is not known. All replicas answer alike: what they need is in the cluster. What connections may
cost, and how refusals are counted and logged, is that of every port of ours (service.webserver).
"""

from dataclasses import dataclass
from typing import NoReturn

from aiohttp import ClientError, web

from controlplane.kubelet.access import KubeletAccess
from controlplane.kubelet.logs import ModuleLogs
from service.following import LOOK_EVERY
from service.refusals import RequestRefused
from service.tls import Certificates, Files
from service.webserver import Bounds, WebServer

BOUNDS = Bounds(connections=512, of_peer=256, whole=None, rate=500.0, burst=2000.0)
"""Callers are few and known: the API servers. Logs bound themselves."""

NOT_OFFERED = frozenset(
    "attach checkpoint configz cri debug exec logs metrics pods portForward run runningpods spec stats".split()  # noqa: SIM905
)
"""What other kubelets have besides."""


@dataclass(eq=False)
class KubeletServer:
    """The server; host and port are what it listens on, 0 for any port."""

    host: str
    port: int
    files: Files
    access: KubeletAccess
    logs: ModuleLogs
    look_every: float = LOOK_EVERY
    bounds: Bounds = BOUNDS

    def __post_init__(self) -> None:
        self._certificates = Certificates(self.files, "kubelet", look_every=self.look_every)
        self._web = WebServer("kubelet", self._serve, self.bounds, context=lambda: self._certificates.context)

    async def start(self) -> None:
        """Listen; connections wait until run takes them. Raises CannotListen, WrongCertificates."""
        await self._certificates.load()
        self.port = await self._web.bind(self.host, self.port, "KUBELET_PROXY_PORT")

    async def stop(self) -> None:
        """Accept no more, end all streams."""
        await self._web.stop()

    async def run(self) -> NoReturn:
        """Take connections, and follow the certificate files."""
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
        match request.path.removeprefix("/").split("/"):
            case ["healthz"]:
                return web.Response(text="ok\n")
            case [what, *_] if what in NOT_OFFERED:
                text = f"VNodes have no /{what}: a module is a part of its base's process"
                raise RequestRefused(501, "not_offered", text)
            case ["containerLogs", namespace, pod, container] if namespace and pod and container:
                if request.method != "GET":
                    raise RequestRefused(405, "method", "logs can only be read", {"Allow": "GET"})
                return await self.logs.send(request, caller, (namespace, pod, container))
            case _:
                raise RequestRefused(404, "path", "there is GET /containerLogs/NAMESPACE/POD/CONTAINER")
