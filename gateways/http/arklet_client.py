"""Calls arklet's HTTP server in a base: one command, one connection.

Arklet answers without Content-Length and ends the body by closing the connection, so every answer is read to its end.
The sending side is never closed early, which arklet would take for a client that left. Answers with Content-Length or
chunks, as proxies make them, are understood too. No redirect is followed, no name resolved, and an answer is bounded in
size. A client of HTTP cannot say whether bytes of a request were sent, on which the outcome of an order depends.
"""

import asyncio
import io
import re

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
_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,8}")


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

    async def call(self, address: pb.Address, command: str, body: bytes, *, timeout: float) -> bytes:
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
    length = _length(_headers(bytes(received[:end]))[1])
    return length is not None and len(received) >= end + 4 + length


def parse(answer: bytes) -> bytes:
    """Return the body of a complete answer. Raises Lost unless it is a whole one with status 200."""
    if not answer:
        raise Lost("the base closed the connection without an answer")
    head, end, body = answer.partition(b"\r\n\r\n")
    if not end:
        raise Lost("the answer was cut within its head")
    status, headers = _headers(head)
    if headers.get("transfer-encoding", "identity").lower() != "identity":
        body = _unchunk(body)
    elif (length := _length(headers)) is not None:
        if len(body) < length:
            raise Lost(f"the answer was cut after {len(body)} of {length} bytes")
        body = body[:length]
    if status != "200":
        shown = body[:200].decode("utf-8", "replace")
        raise Lost(f"HTTP status {status}: {shown}" if shown else f"HTTP status {status}")
    if not body:
        raise Lost("the answer is empty")
    return body


def _headers(head: bytes) -> tuple[str, dict[str, str]]:
    lines = head.decode("latin-1").split("\r\n")
    version, _, rest = lines[0].partition(" ")
    status = rest[:3]
    if not version.startswith("HTTP/1.") or not (status.isascii() and status.isdigit() and len(status) == 3):
        raise Lost("the answer is not HTTP")
    fields = (line.partition(":") for line in lines[1:])
    return status, {name.strip().lower(): value.strip() for name, _, value in fields}


def _length(headers: dict[str, str]) -> int | None:
    length = headers.get("content-length", "")
    return int(length) if length.isascii() and length.isdigit() and len(length) < 12 else None


def _unchunk(body: bytes) -> bytes:
    rest, whole = io.BytesIO(body), bytearray()
    while (line := rest.readline()).endswith(b"\r\n"):
        size_text = line.partition(b";")[0].strip()
        if not _CHUNK_SIZE.fullmatch(size_text):
            raise Lost("the answer has a broken chunk")
        size = int(size_text, 16)
        if size == 0:
            return bytes(whole)
        chunk = rest.read(size + 2)
        if len(chunk) < size + 2:
            break
        whole += chunk[:size]
    raise Lost("the answer was cut within its chunks")
