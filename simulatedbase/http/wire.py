"""HTTP/1.1 as the base's Netty pipeline reads and writes it: no more than that server does.

Answers have no Content-Length, no Transfer-Encoding and no Connection header: the body ends where the server closes the
connection.
"""

import asyncio
from urllib.parse import SplitResult, unquote

BODY_LIMIT = 1024 * 1024
HEAD_LIMIT = 8192

OK = b"HTTP/1.1 200 OK\r\n\r\n"
"""What stands before the answer to a command."""
_ONLY_POST = b"POST http request only supported by arklet"
ONLY_POST = b"HTTP/1.1 500 Internal Server Error\r\nContent_Length: %d\r\n\r\n%b" % (len(_ONLY_POST), _ONLY_POST)
"""The answer to anything but a POST; the header is misspelt as in the original."""
TOO_LARGE = b"HTTP/1.1 413 Request Entity Too Large\r\ncontent-length: 0\r\n\r\n"
"""Netty's answer to a body that is too large."""


class NoRequest(Exception):
    """What came makes no sense, or no more comes; answer is None when the client went away."""

    def __init__(self, answer: bytes | None) -> None:
        super().__init__(answer)
        self.answer = answer


async def read_request(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    """Read a POST; return its command, the path without the leading slash, and its body. Raises NoRequest."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        method, target, protocol = lines[0].split(" ")
        if not protocol.startswith("HTTP/1."):
            raise NoRequest(ONLY_POST)
        body = await _body(reader, _headers(lines[1:-2]))
    except (asyncio.LimitOverrunError, ValueError):
        raise NoRequest(ONLY_POST) from None
    except (asyncio.IncompleteReadError, ConnectionError):
        raise NoRequest(None) from None
    if method != "POST":
        raise NoRequest(ONLY_POST)
    return unquote(target.partition("?")[0])[1:], body


def heartbeat_head(url: SplitResult, java_version: str, length: int) -> bytes:
    """Return what stands before a heartbeat to a controller."""
    head = (
        f"POST {url.path.rstrip('/')}/heartbeat HTTP/1.1\r\n"
        f"Content-Type: application/json\r\n"
        f"User-Agent: Java/{java_version}\r\n"
        f"Host: {url.netloc.rpartition('@')[2]}\r\n"
        f"Accept: text/html, image/gif, image/jpeg, */*; q=0.2\r\n"
        f"Connection: keep-alive\r\n"
        f"Content-Length: {length}\r\n\r\n"
    )
    return head.encode("ascii")


def _headers(lines: list[str]) -> dict[str, str]:
    headers = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise NoRequest(ONLY_POST)
        headers[name.strip().lower()] = value.strip()
    return headers


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return await _chunks(reader)
    length = headers.get("content-length", "0")
    if not length.isascii() or not length.isdigit():
        raise NoRequest(ONLY_POST)
    if len(length) > len(str(BODY_LIMIT)) or int(length) > BODY_LIMIT:
        raise NoRequest(TOO_LARGE)
    return await reader.readexactly(int(length))


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
        if size < 0 or len(body) + size > BODY_LIMIT:
            raise NoRequest(TOO_LARGE)
        body += await reader.readexactly(size)
        if await reader.readexactly(2) != b"\r\n":
            raise NoRequest(ONLY_POST)
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass
    return bytes(body)
