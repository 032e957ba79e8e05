"""The listener for probes and Prometheus: /livez, /readyz, /healthz and /metrics.

/livez answers as long as the event loop turns; a program that consists of several says there what does not work any
more, with 503. /readyz is 503 while something outside keeps the program from doing its work, and says what, line by
line; it never ends the process. A program that is ready may add notes, a line each.
"""

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import KW_ONLY, dataclass, field

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from service.masking import masked
from service.webserver import Route, WebServer, routed


@dataclass(slots=True)
class StatusServer:
    """Serves probes and metrics on two ports (which may be the same) of host, or both on one Unix socket.

    trouble returns, in words, what keeps the program from being ready, and dead what does not work and has to be
    restarted; nothing means ready, and alive. notes returns, in words, what is worth knowing while it is ready.
    """

    trouble: Callable[[], Sequence[str]]
    _: KW_ONLY
    health_port: int
    metrics_port: int
    host: str = ""
    socket: str = ""
    metrics: Callable[[], Awaitable[bytes]] | None = None
    """Metrics in the text format of Prometheus, instead of those of this process."""
    dead: Callable[[], Sequence[str]] = tuple
    notes: Callable[[], Sequence[str]] = tuple
    _servers: list[WebServer] = field(default_factory=list, init=False)

    async def start(self) -> None:
        """Listen; raises CannotListen."""
        probes = {"/livez": Route(self._livez), "/healthz": Route(self._livez), "/readyz": Route(self._readyz)}
        metrics = {"/metrics": Route(self._metrics)}
        if self.socket or self.health_port == self.metrics_port:
            await self._listen("status", {**probes, **metrics}, self.health_port, "HEALTH_PORT")
        else:
            await self._listen("health", probes, self.health_port, "HEALTH_PORT")
            await self._listen("metrics", metrics, self.metrics_port, "METRICS_PORT")

    async def stop(self) -> None:
        """Stop listening."""
        while self._servers:
            await self._servers.pop().stop()
        if self.socket:
            with suppress(FileNotFoundError):
                os.unlink(self.socket)

    async def _listen(self, name: str, routes: Mapping[str, Route], port: int, variable: str) -> None:
        server = WebServer(name, routed(routes))
        self._servers.append(server)
        if self.socket:
            server.bind_unix(self.socket, "STATUS_SOCKET")
        else:
            await server.bind(self.host, port, variable)
        server.start()

    async def _livez(self, _request: web.BaseRequest) -> web.Response:
        return _answer(self.dead())

    async def _readyz(self, _request: web.BaseRequest) -> web.Response:
        return _answer(self.trouble(), self.notes())

    async def _metrics(self, _request: web.BaseRequest) -> web.Response:
        body = generate_latest() if self.metrics is None else await self.metrics()
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})


def _answer(problems: Sequence[str], notes: Sequence[str] = ()) -> web.Response:
    status, lines = (503, problems) if problems else (200, ["ok", *notes])
    return web.Response(status=status, text="".join(f"{masked(line)}\n" for line in lines))
