"""Many bases that cost little: heartbeats, and one answer to each question. For measuring others; they install nothing.

Each has a loopback address of its own, from which its heartbeats come, and all share a port. Answers are those of a
simulated base, made once. POST /begin?ramp=S starts all over S seconds and returns the monotonic time at which each
began, as benchmarks.bases does.
"""

import asyncio
import socket
import sys
import time
from collections.abc import Mapping
from typing import cast
from urllib.parse import SplitResult, urlsplit

import orjson
from aiohttp import web

from benchmarks.bases import IDENTITY, begin, serve
from service import process
from simulatedbase.arklet import Arklet
from simulatedbase.http import wire
from simulatedbase.life import Life
from simulatedbase.profile import QUESTIONS, Faults, Profile

BACKLOG = 4096
HEAD_END = b"\r\n\r\n"


def address(number: int) -> str:
    """Return the loopback address of a base, counted from 1."""
    return f"127.{1 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"


def every_loopback_address() -> socket.socket:
    """Return a socket at a free port of all of 127.0.0.0/8, which are too many to be bound one by one."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo")
    made.bind(("", 0))
    return made


async def answers() -> dict[str, bytes]:
    """Return what a base without modules says to each question."""
    arklet = Arklet(Life(Profile(identity=IDENTITY), Faults()))
    return {question: wire.OK + orjson.dumps(await arklet.execute(question, {})) for question in QUESTIONS}


def complete(request: bytes) -> str | None:
    """Return the command of a POST, None where more is to come."""
    head, end, body = request.partition(HEAD_END)
    if not end:
        return None
    first, *lines = head.lower().split(b"\r\n")
    length = next((int(line.partition(b":")[2]) for line in lines if line.startswith(b"content-length:")), 0)
    return head[: len(first)].split(b" ")[1].decode()[1:] if len(body) >= length else None


class Question(asyncio.Protocol):
    """A connection on which one command comes."""

    def __init__(self, known: Mapping[str, bytes]) -> None:
        self._known = known
        self._request = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer once the command is there, and close."""
        self._request += data
        if (command := complete(self._request)) is not None:
            self._transport.write(self._known.get(command, wire.OK + b'{"code":"CMD_NOT_FOUND"}'))
            self._transport.close()


class Heartbeat(asyncio.Protocol):
    """A connection on which one heartbeat goes."""

    def __init__(self, request: bytes) -> None:
        self._request = request

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send it."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Close once it is answered."""
        self._transport.abort()


class LeanBases:
    """The bases, which listen at a port and have not begun."""

    def __init__(self, controller: SplitResult, count: int, port: int) -> None:
        self._controller = controller
        self._count, self._port = count, port
        self._tasks: set[asyncio.Task[None]] = set()

    async def begin(self, request: web.Request) -> web.Response:
        """Have all begin, evenly over a time."""
        apart, began, times = float(request.query.get("ramp", "0")) / self._count, time.monotonic(), {}
        for number in range(1, self._count + 1):
            await asyncio.sleep(max(0.0, began + (number - 1) * apart - time.monotonic()))
            identity = f"{IDENTITY}-{number}" if self._count > 1 else IDENTITY
            times[identity] = time.monotonic()
            task = asyncio.create_task(self._live(identity, address(number)))
            self._tasks.add(task)
        return web.Response(body=orjson.dumps(times), content_type="application/json")

    async def _live(self, identity: str, ip: str) -> None:
        profile = Profile(identity=identity, ip=ip)
        body = orjson.dumps(profile.heartbeat(self._port))
        request = wire.heartbeat_head(self._controller, profile.java_version, len(body)) + body
        while True:
            next_at = time.monotonic() + profile.http_interval
            try:
                await self._beat(ip, request)
            except OSError as error:
                print(f"a heartbeat of {identity} failed: {error}", file=sys.stderr)
            await asyncio.sleep(max(0.0, next_at - time.monotonic()))

    async def _beat(self, ip: str, request: bytes) -> None:
        loop = asyncio.get_running_loop()
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            sock.bind((ip, 0))
            await loop.sock_connect(sock, (self._controller.hostname, self._controller.port))
        except BaseException:
            sock.close()
            raise
        await loop.create_connection(lambda: Heartbeat(request), sock=sock)


def main() -> int:
    """Run until a signal; returns the exit code."""
    options = begin("lean_bases", __doc__)

    async def life(stop: asyncio.Event) -> None:
        known = await answers()
        server = await asyncio.get_running_loop().create_server(
            lambda: Question(known), sock=every_loopback_address(), backlog=BACKLOG
        )
        bases = LeanBases(urlsplit(options.controller), options.count, server.sockets[0].getsockname()[1])
        app = web.Application()
        app.router.add_get("/admin", lambda _: _ready())
        app.router.add_post("/begin", bases.begin)
        try:
            await serve(app, options.admin_port, stop)
        finally:
            server.close()

    return process.run(life)


async def _ready() -> web.Response:
    return web.Response(text="ready\n")


if __name__ == "__main__":
    sys.exit(main())
