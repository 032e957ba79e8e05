"""The HTTP server of a simulated base: one request a connection, closed by the server.

A command goes on when its client goes away. A body that is no JSON object is
never answered and its connection stays open, as in the original, where parsing
happens outside of what catches errors.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable

import orjson

from gateways.arklet.fields import Json
from simulatedbase import http, rendering
from simulatedbase.profile import Faults

DRAIN_LIMIT = 16 * 1024 * 1024
"""Bytes of an over-long body that are read and thrown away, so that its sender sees the answer."""

CLOSE_SECONDS = 10.0

Execute = Callable[[str, Json | None], Awaitable[Json]]
Record = Callable[[str, Json | None], None]


class Server:
    """Serves commands on a bound socket; record is told of each command before it is carried out."""

    def __init__(self, faults: Faults, tasks: set[asyncio.Task[None]], execute: Execute, record: Record) -> None:
        self._faults = faults
        self._tasks = tasks
        self._execute = execute
        self._record = record
        self._server: asyncio.Server | None = None
        self._closed = False

    async def start(self, bound: socket.socket) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._accept, sock=bound, limit=http.HEAD_LIMIT)

    def close(self) -> None:
        """Stop listening, for good; connections end with their tasks."""
        self._closed = True
        if self._server is not None:
            self._server.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._closed:
            writer.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        # Not in the task itself, which may be cancelled before it began.
        task.add_done_callback(lambda _: writer.transport.abort())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            answer = await self._answer(reader, writer)
            if answer is not None:
                writer.write(answer)
            writer.close()
            async with asyncio.timeout(CLOSE_SECONDS):
                await writer.wait_closed()
        except OSError:
            pass  # The client went away, or did not take its answer (TimeoutError is an OSError).

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes | None:
        try:
            request = await http.read_request(reader)
        except http.Gone:
            return None
        except http.Unparsable:
            return http.only_post()
        except http.TooLarge:
            # Closing with unread bytes would reset the connection and could destroy the answer.
            writer.write(http.too_large())
            async with asyncio.timeout(CLOSE_SECONDS):
                await _drain(reader, DRAIN_LIMIT)
            return None
        if request.method != "POST":
            return http.only_post()
        try:
            parameters = orjson.loads(request.body) if request.body else None
        except orjson.JSONDecodeError:
            parameters = request.body
        if parameters is not None and not isinstance(parameters, dict):
            await _drain(reader)
            return None
        return await self._command(reader, request.command, parameters)

    async def _command(self, reader: asyncio.StreamReader, command: str, parameters: Json | None) -> bytes | None:
        self._record(command, parameters)
        if self._faults.hangs(command):
            await _drain(reader)
            return None
        if delay := self._faults.delay(command):
            await asyncio.sleep(delay)
        envelope = await self._execute(command, parameters)
        return None if self._faults.drops_reply(command) else http.ok(rendering.encode(envelope))


async def _drain(reader: asyncio.StreamReader, limit: int | None = None) -> None:
    """Throw away what the client sends until it closes its end, or limit is reached."""
    taken = 0
    with contextlib.suppress(ConnectionError):
        while chunk := await reader.read(65536):
            taken += len(chunk)
            if limit is not None and taken >= limit:
                return
