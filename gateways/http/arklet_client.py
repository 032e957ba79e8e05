"""Calls arklet's HTTP server in a base: one command, one connection.

Arklet answers without Content-Length and ends the body by closing the connection, so every answer is read to its end.
The sending side is never closed early, which arklet would take for a client that left. Answers with Content-Length or
chunks, as proxies make them, are understood too. No redirect is followed, no name resolved, and an answer is bounded in
size. A client of HTTP cannot say whether bytes of a request were sent, on which the outcome of an order depends.
"""

import asyncio
import io
import re
from http.client import HTTPException, HTTPResponse, IncompleteRead
from typing import Self

from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.http.metrics import CALL_SECONDS, CALLS
from service.listening import host_port

DEFAULT_PORT = 1238
"""Where arklet listens if it can: what an address over HTTP means that names no port."""
MAX_RESPONSE = 4 << 20
"""Bytes of an answer, head included; a full module list of a large base takes some hundred KB."""
MAX_HEAD = 16 << 10
MAX_REQUEST = 1 << 20
"""Bytes of a body that arklet takes; it drops the connection of a longer one."""
_CHUNK = 64 << 10
_LENGTH = re.compile(rb"(?i)\r\ncontent-length:[ \t]*([0-9]{1,11})[ \t]*\r\n")


class NotSent(Exception):
    """The command never left: it had no effect. The message says why."""

    end = "not_sent"


class Lost(Exception):
    """The command was sent and no answer can be had: it may have taken effect. The message says why."""

    end = "lost"


def with_port(address: pb.Address) -> pb.Address:
    """Give an address its port: heartbeats may leave it out, and so may Nodes of the original. Returns it."""
    address.port = address.port or DEFAULT_PORT
    return address


class ArkletClient:
    """Sends commands to bases. connect_timeout is in seconds."""

    def __init__(self, *, connect_timeout: float) -> None:
        self._connect_timeout = connect_timeout

    async def call(self, address: pb.Address, command: str, body: bytes, timeout: float) -> bytes:
        """Return the body of the answer to a command; timeout covers connecting and answering.

        Raises NotSent or Lost. When cancelled, the command may or may not have been sent.
        """
        end = "failed"
        try:
            with CALL_SECONDS.labels(verb=command).time():
                answer = await self._call(address, command, body, timeout)
            end = "answered"
        except (NotSent, Lost) as error:
            end = error.end
            raise
        else:
            return answer
        finally:
            CALLS.labels(verb=command, end=end).inc()

    async def _call(self, address: pb.Address, command: str, body: bytes, timeout: float) -> bytes:
        if len(body) > MAX_REQUEST:
            raise NotSent(f"the command has {len(body)} bytes, a base takes {MAX_REQUEST}")
        deadline = asyncio.get_running_loop().time() + timeout
        reader, writer = await self._connect(address, min(timeout, self._connect_timeout))
        try:
            async with asyncio.timeout_at(deadline):
                writer.write(_request(address, command, body))
                await writer.drain()
                return parse(await self._read(reader))
        except TimeoutError:
            raise Lost(f"no answer within {timeout:g} s") from None
        except OSError as error:
            raise Lost(f"the connection broke: {error.strerror or error}") from None
        finally:
            writer.transport.abort()

    async def _connect(self, address: pb.Address, timeout: float) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            async with asyncio.timeout(timeout):
                return await asyncio.open_connection(address.ip, address.port, limit=_CHUNK)
        except TimeoutError:
            raise NotSent(f"no connection within {timeout:g} s") from None
        except OSError as error:
            raise NotSent(f"no connection: {error.strerror or error}") from None

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        """Read until the base closes, or until the answer is complete by its own Content-Length."""
        received = bytearray()
        while not _complete(received) and (chunk := await reader.read(_CHUNK)):
            received += chunk
            if len(received) > MAX_RESPONSE:
                raise Lost(f"the answer is larger than {MAX_RESPONSE} bytes")
        return bytes(received)


def _request(address: pb.Address, command: str, body: bytes) -> bytes:
    head = (
        f"POST /{command} HTTP/1.1\r\n"
        f"Host: {host_port(address.ip, address.port)}\r\n"
        "Content-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n"
        "Connection: close\r\n"
        "\r\n"
    )
    return head.encode("ascii") + body


def _complete(received: bytearray) -> bool:
    """Return whether an answer has as many bytes as its Content-Length says; without one only its end shows that."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        if len(received) > MAX_HEAD:
            raise Lost("the head of the answer is too long")
        return False
    length = _LENGTH.search(received, 0, end + 2)
    return length is not None and len(received) >= end + 4 + int(length[1])


class _Received(io.BytesIO):
    """What was received, where http.client expects a socket."""

    def makefile(self, _mode: str) -> Self:
        """Return what http.client reads from."""
        return self


def parse(answer: bytes) -> bytes:
    """Return the body of a complete answer. Raises Lost unless it is a whole one with status 200."""
    if not answer:
        raise Lost("the base closed the connection without an answer")
    if b"\r\n\r\n" not in answer:
        raise Lost("the answer was cut within its head")
    response = HTTPResponse(_Received(answer))  # type: ignore[arg-type]
    try:
        response.begin()
        body = response.read()
    except IncompleteRead as error:
        whole = f" of {len(error.partial) + error.expected}" if error.expected else ""
        raise Lost(f"the answer was cut after {len(error.partial)}{whole} bytes") from None
    except (HTTPException, OverflowError):
        raise Lost("the answer is not HTTP") from None
    if response.getheader("Transfer-Encoding", "chunked").lower() not in ("chunked", "identity"):
        raise Lost("the answer has an encoding that is not understood")
    if response.status != 200:
        shown = body[:200].decode("utf-8", "replace")
        raise Lost(f"HTTP status {response.status}: {shown}" if shown else f"HTTP status {response.status}")
    if not body:
        raise Lost("the answer is empty")
    return body
