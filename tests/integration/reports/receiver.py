"""A receiver like DingTalk's: it takes messages of robots, and hangs, fails or redirects on demand."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web

from tests.servers.process import free_port

SECRET = "s3cret"


@dataclass
class Robot:
    """One robot: the messages it took, the number of calls, its behaviour for so many calls (-1: all)."""

    behaviour: str = ""
    calls_left: int = -1
    calls: int = 0
    taken: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    def texts(self) -> list[str]:
        return [message["markdown"]["text"] for message in self.taken]


class Receiver:
    """A server with any number of robots; robot NAME is at url(NAME)."""

    def __init__(self) -> None:
        self.port = free_port()
        self.robots: dict[str, Robot] = defaultdict(Robot)
        self._ended = asyncio.Event()

    def url(self, robot: str) -> str:
        return f"http://127.0.0.1:{self.port}/{robot}/send?access_token={SECRET}"

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        app = web.Application()
        app.router.add_route("*", "/{robot}/send", self._take)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", self.port).start()
        try:
            yield self
        finally:
            self._ended.set()
            await runner.cleanup()

    async def _take(self, request: web.Request) -> web.Response:
        robot = self.robots[request.match_info["robot"]]
        robot.calls += 1
        behaviour = robot.behaviour if robot.calls_left else ""
        robot.calls_left -= 1 if robot.calls_left > 0 else 0
        body = json.loads(await request.read())
        if behaviour == "hang":
            await self._ended.wait()
        if behaviour == "500":
            return web.Response(status=500, text="sorry")
        if behaviour == "redirect":
            return web.Response(status=302, headers={"Location": self.url("elsewhere")})
        if behaviour == "errcode":
            return web.json_response({"errcode": 310000, "errmsg": "keywords not in content"})
        if behaviour == "endless":
            response = web.StreamResponse()
            await response.prepare(request)
            await response.write(b"x" * 300_000)
            return web.Response()
        robot.taken.append(body)
        robot.headers.append(dict(request.headers))
        return web.json_response({"errcode": 0, "errmsg": "ok"})
