"""The report intake: POST /log, where other programs of a deployment tell what went wrong.

What comes is written to the log as it is, cut to a useful length; it has no other
effect.
"""

from __future__ import annotations

import orjson
import structlog
from aiohttp import web
from prometheus_client import Counter

from service.status import CannotListen, cannot_listen

log = structlog.get_logger(__name__)

LARGEST = 64 * 1024
SHOWN = 4096
TAKEN = Counter("koupleless_reported_logs_total", "Reports taken at /log", ["outcome"])


class ReportIntake:
    """Listens for reports."""

    def __init__(self, port: int, host: str) -> None:
        self._host = host
        self._port = port
        app = web.Application(client_max_size=LARGEST)
        app.router.add_post("/log", self._take)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)

    async def start(self) -> None:
        """Listen; raises CannotListen."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self._host, self._port).start()
        except OSError as error:
            raise CannotListen(cannot_listen("REPORT_PORT", self._port, error)) from error

    async def stop(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            TAKEN.labels("too-large").inc()
            raise
        try:
            report = orjson.loads(body)
        except orjson.JSONDecodeError:
            TAKEN.labels("not-json").inc()
            return web.Response(status=400, text="the body must be JSON\n")
        if not isinstance(report, dict):
            TAKEN.labels("not-an-object").inc()
            return web.Response(status=400, text="the body must be a JSON object\n")
        TAKEN.labels("taken").inc()
        log.warning("report", peer=request.remote, report=orjson.dumps(report).decode()[:SHOWN])
        return web.Response(text="SUCCESS")
