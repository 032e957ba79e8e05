"""One base over HTTP: its command server, one request a connection, closed by the server; and its heartbeats.

A command goes on when its client goes away. A body that is not a JSON object is never answered and its connection stays
open, as in the original, where parsing happens outside of what catches errors. A heartbeat is a POST on a new
connection; one that fails is logged, and not repeated before the next one.
"""

import asyncio
import contextlib
import socket
import ssl
from urllib.parse import SplitResult, urlsplit

import orjson
import structlog

from gateways.arklet.fields import Json
from service.process import StartError
from simulatedbase import fastjson
from simulatedbase.arklet import Arklet
from simulatedbase.http import wire
from simulatedbase.java import JavaError
from simulatedbase.life import Life
from simulatedbase.profile import ACTIVATED, DEACTIVATED, hit

FIRST_PORT, LAST_PORT = 1238, 1337
"""What a Java base tries where it is given no port."""

DRAIN_LIMIT = 16 * 1024 * 1024
"""Bytes of an over-long body that are read and thrown away, so that its sender sees the answer."""

CLOSE_SECONDS = 10.0
CONNECT_SECONDS = 30.0
READ_SECONDS = 10.0

log = structlog.get_logger(__name__)


class HttpTunnel:
    """Binds a port at once, as ``bind`` does."""

    def __init__(self, life: Life, arklet: Arklet, port: int | None) -> None:
        self._life = life
        self._profile = life.profile
        self._arklet = arklet
        self._controller = urlsplit(life.profile.endpoint) if life.profile.endpoint else None
        self._failing = False
        self._bound = bind(life.profile.listen, port)
        self.port: int = self._bound.getsockname()[1]
        self._server: asyncio.Server | None = None
        self._closed = False
        self._log = log.bind(base=life.profile.identity, controller=life.profile.controller)

    async def start(self) -> None:
        """Begin to send heartbeats, then listen."""
        if self._controller is not None:
            heartbeats = self._life.send_heartbeats(self._profile.http_interval, self._send_heartbeat)
            self._life.run(heartbeats, "heartbeats over HTTP")
        await asyncio.sleep(self._profile.server_delay)
        self._server = await asyncio.start_server(self._accept, sock=self._bound, limit=wire.HEAD_LIMIT)

    async def deactivate(self) -> None:
        """Say DEACTIVATED, as no Java base does."""
        await self._send_heartbeat(DEACTIVATED)

    def close(self) -> None:
        """Stop listening, for good; connections end with their tasks."""
        self._closed = True
        if self._server is not None:
            self._server.close()
        else:
            self._bound.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._closed:
            writer.transport.abort()
            return
        task = self._life.run(self._serve(reader, writer), "command over HTTP")
        # Not in the task itself, which may be cancelled before it began.
        task.add_done_callback(lambda _: writer.transport.abort())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):  # the client went away, or did not take its answer (a TimeoutError)
            answer = await self._answer(reader, writer)
            if answer is not None:
                writer.write(answer)
            writer.close()
            async with asyncio.timeout(CLOSE_SECONDS):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes | None:
        try:
            command, body = await wire.read_request(reader)
        except wire.NoRequest as nothing:
            if nothing.answer is not wire.TOO_LARGE:
                return nothing.answer
            # Closing with unread bytes would reset the connection and could destroy the answer.
            writer.write(wire.TOO_LARGE)
            async with asyncio.timeout(CLOSE_SECONDS):
                await _drain(reader, DRAIN_LIMIT)
            return None
        try:
            parameters = orjson.loads(body) if body else None
        except orjson.JSONDecodeError:
            parameters = body
        if parameters is None or isinstance(parameters, dict):
            self._life.received(command, parameters)
            if not hit(self._life.faults.hang, command):
                return await self._command(command, parameters)
        await _drain(reader)
        return None

    async def _command(self, command: str, parameters: Json | None) -> bytes | None:
        answer = await self._arklet.execute(command, parameters)
        if isinstance(answer, JavaError):
            answer = fastjson.internal_error(answer)
        return None if answer is None else wire.OK + orjson.dumps(answer)

    async def _send_heartbeat(self, state: str = ACTIVATED) -> bool:
        """Send a heartbeat; True, since they go on whatever becomes of one."""
        if self._controller is None:
            return True
        try:
            await self._post(self._controller, orjson.dumps(self._profile.heartbeat(self.port, state)))
        except (OSError, EOFError, asyncio.LimitOverrunError) as error:
            if not self._failing:
                self._log.warning("heartbeats fail", error=str(error) or type(error).__name__)
            self._failing = True
        else:
            if self._failing:
                self._log.info("heartbeats succeed again")
            self._failing = False
        return True

    async def _post(self, url: SplitResult, body: bytes) -> None:
        tls = ssl.create_default_context() if url.scheme == "https" else None
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(url.hostname, url.port or (443 if tls else 80), ssl=tls)
        try:
            async with asyncio.timeout(READ_SECONDS):
                # In two writes, as Java does.
                for part in (wire.heartbeat_head(url, self._profile.java_version, len(body)), body):
                    writer.write(part)
                    await writer.drain()
                status = await reader.readuntil(b"\r\n")
            if status.split(b" ")[1:2] != [b"200"]:
                raise ConnectionError(status.decode("latin-1").strip())
        finally:
            writer.transport.abort()


async def _drain(reader: asyncio.StreamReader, limit: float = float("inf")) -> None:
    """Throw away what the client sends until it closes its end, or limit is reached."""
    taken = 0
    with contextlib.suppress(ConnectionError):
        while taken < limit and (chunk := await reader.read(65536)):
            taken += len(chunk)


def bind(host: str, port: int | None) -> socket.socket:
    """Return a socket of a port, which does not listen yet: 0 means any, None the first free one of a Java base.

    Raises StartError.
    """
    ports = range(FIRST_PORT, LAST_PORT + 1) if port is None else (port,)
    problem = ""
    for candidate in ports:
        bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind((host, candidate))
        except OSError as error:
            bound.close()
            problem = error.strerror or str(error)
            continue
        return bound
    tried = f"{ports[0]} to {ports[-1]}" if len(ports) > 1 else str(ports[0])
    fix = "choose others with --port, or --port 0 for any free ones"
    raise StartError(f"cannot listen on {host}, port {tried}: {problem}; {fix}")
