"""Listens for bases: POST /heartbeat and POST /queryBaseline.

The limits for one peer are wide, since thousands of bases can stand behind one address (NAT, a proxy, a Service that
hides its clients): 6,000 bases may start at once behind one address, and send heartbeats every 12 s.

A refused request has changed nothing. Paths are never logged as they came: there may be a token in them.
"""

from collections.abc import Awaitable, Callable

from aiohttp import web

from gateways.arklet.fields import Malformed
from gateways.arklet.names import InvalidName
from gateways.http.credentials import Caller, Credentials, locate
from gateways.http.metrics import requests
from gateways.http.requests import RETRY_AFTER, Requests
from gateways.session.links import Unavailable
from service.addresses import AddressRefused
from service.refusals import RequestRefused
from service.tls import Certificates
from service.webserver import Bounds, WebServer, read_body

MAX_BODY = 64 << 10
BODY_TIMEOUT = 10.0
"""Seconds."""
BOUNDS = Bounds(connections=4_096, of_peer=2_048, line=2_048, rate=600.0, burst=6_000.0)


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
        self.server = WebServer(
            "bases", self._answer, BOUNDS, context=lambda: None if certificates is None else certificates.context
        )

    @property
    def listening(self) -> bool:
        """Whether bases can connect."""
        return self.server.accepting

    async def start(self) -> None:
        """Listen. Raises CannotListen, WrongCertificates."""
        if self._certificates is not None:
            await self._certificates.load()
        await self.server.bind(self._host, self._port, "HTTP_TUNNEL_LISTEN_PORT")
        self.server.start()

    async def stop(self) -> None:
        """Accept no more, let requests that were begun end within a second, close all connections."""
        await self.server.stop()

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        path, token = locate(request.rel_url.raw_path)
        if path not in self._paths:
            raise RequestRefused(404, "path", "there are POST /heartbeat and POST /queryBaseline")
        if request.method != "POST":
            raise RequestRefused(405, "method", f"{path} takes POST only", {"Allow": "POST"})
        caller = self._credentials.caller(request.remote or "", token, request.headers.get("Authorization", ""))
        answer, content_type = self._paths[path]
        body = await read_body(request, most=MAX_BODY, within=BODY_TIMEOUT)
        try:
            response = web.Response(body=await answer(body, caller), content_type=content_type)
        except Malformed as error:
            raise RequestRefused(400, "malformed", f"{path[1:]}: {error}") from None
        except InvalidName as error:
            raise RequestRefused(400, "invalid_identity", str(error)) from None
        except AddressRefused as error:
            raise RequestRefused(400, "address", f"localIP and port: {error}") from None
        except Unavailable as error:
            raise RequestRefused(503, "no_control_plane", str(error), RETRY_AFTER) from None
        requests(path).inc()
        return response
