"""The listener for probes and Prometheus: /livez, /readyz, /healthz and /metrics.

/livez answers as long as the event loop turns; a program that consists of several
says there what does not work any more, with 503. /readyz is 503 while something
outside keeps the program from doing its work, and says what, line by line; it
never ends the process. A program that is ready may add notes, a line each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest

from service.listening import CannotListen, cannot_listen, serve
from service.masking import masked


class StatusServer:
    """Serves probes and metrics on two ports (which may be the same) of host, or both on one Unix socket.

    trouble returns, in words, what keeps the program from being ready, and dead what does not work and has to be
    restarted; nothing means ready, and alive. notes returns, in words, what is worth knowing while it is ready.
    """

    def __init__(
        self,
        trouble: Callable[[], Sequence[str]],
        *,
        health_port: int,
        metrics_port: int,
        host: str = "",
        socket: str = "",
        registry: CollectorRegistry = REGISTRY,
        dead: Callable[[], Sequence[str]] = tuple,
        notes: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._trouble = trouble
        self._dead = dead
        self._notes = notes
        self._host = host
        self._health_port = health_port
        self._metrics_port = metrics_port
        self._socket = socket
        self._registry = registry
        self._runners: list[web.AppRunner] = []

    async def start(self) -> None:
        """Listen; raises CannotListen."""
        if self._socket:
            await self._listen(health=True, metrics=True, port=0, variable="STATUS_SOCKET")
        elif self._health_port == self._metrics_port:
            await self._listen(health=True, metrics=True, port=self._health_port, variable="HEALTH_PORT")
        else:
            await self._listen(health=True, metrics=False, port=self._health_port, variable="HEALTH_PORT")
            await self._listen(health=False, metrics=True, port=self._metrics_port, variable="METRICS_PORT")

    async def stop(self) -> None:
        """Stop listening."""
        while self._runners:
            await self._runners.pop().cleanup()
        if self._socket:
            _remove(self._socket)

    async def _listen(self, *, health: bool, metrics: bool, port: int, variable: str) -> None:
        app = web.Application()
        if health:
            app.router.add_get("/livez", self._livez)
            app.router.add_get("/healthz", self._livez)
            app.router.add_get("/readyz", self._readyz)
        if metrics:
            app.router.add_get("/metrics", self._metrics)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        self._runners.append(runner)
        if not self._socket:
            await serve(runner, self._host, port, variable)
            return
        _remove(self._socket)
        try:
            await web.UnixSite(runner, self._socket).start()
        except OSError as error:
            raise CannotListen(cannot_listen(variable, self._socket, error)) from error

    async def _livez(self, _request: web.Request) -> web.Response:
        return _answer(self._dead())

    async def _readyz(self, _request: web.Request) -> web.Response:
        return _answer(self._trouble(), self._notes())

    async def _metrics(self, _request: web.Request) -> web.Response:
        body = generate_latest(self._registry)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})


def _answer(problems: Sequence[str], notes: Sequence[str] = ()) -> web.Response:
    status, lines = (503, problems) if problems else (200, ["ok", *notes])
    return web.Response(status=status, text="".join(f"{masked(line)}\n" for line in lines))


def _remove(socket: str) -> None:
    Path(socket).unlink(missing_ok=True)
