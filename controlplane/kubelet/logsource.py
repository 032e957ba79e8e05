"""Logs of bases that run in no Pod, from a server that the operator names: plain text over HTTP, passed on as it comes.

No redirects are followed. The server is not the base's: its answer is a text for the reader and nothing else.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
from yarl import URL

from controlplane.app.ports import NotFound, Rejected, Transient
from controlplane.kubelet.logtemplate import LogTemplate, WrongOption
from service.secrets import register

CONNECTED_WITHIN = 5.0
IDLE = 60.0
"""Seconds without a byte after which a log that is not followed is given up."""
LONGEST_TAIL = 1 << 20
"""Bytes of the last lines, where the server is not asked for them alone."""
LONGEST_TOKEN = 16 << 10


class LogSource:
    """The server, to be made where an event loop runs, and to be closed.

    The token file, if any, is read for each request. Proxies of the environment are used.
    """

    def __init__(self, template: LogTemplate, token_path: str = "") -> None:
        self._template = template
        self._token_path = token_path
        self._session = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), trust_env=True)

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    @asynccontextmanager
    async def log(self, of: Mapping[str, str], options: Mapping[str, str]) -> AsyncIterator[AsyncIterator[bytes]]:
        """Give a log as it comes, in pieces of at most some 100 KB.

        Raises NotFound where the server has none, Rejected, Transient, and so does reading.
        """
        if "previous" in options:
            raise Rejected("LOG_SOURCE has no log of a process before this one")
        try:
            url = self._template.url(of, options, datetime.now(UTC))
        except WrongOption as error:
            raise Rejected(str(error)) from None
        follow = "follow" in options and "follow" in self._template.names
        within = aiohttp.ClientTimeout(total=None, connect=CONNECTED_WITHIN, sock_read=None if follow else IDLE)
        headers = {"Accept": "text/plain"}
        if self._token_path:
            headers["Authorization"] = f"Bearer {await asyncio.to_thread(_token, self._token_path)}"
        try:
            async with asyncio.timeout(IDLE):
                response = await self._session.get(
                    URL(url, encoded=True), headers=headers, allow_redirects=False, timeout=within
                )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise _unreachable(error) from error
        try:
            _check(response.status)
            yield _read(response.content, options, last="tail" not in self._template.names)
        finally:
            response.close()


def _check(status: int) -> None:
    if status == 404:
        raise NotFound("LOG_SOURCE has no log of it (HTTP 404)")
    if 300 <= status < 400:
        raise Rejected(f"LOG_SOURCE redirects (HTTP {status}): name the URL that it redirects to")
    if status != 200:
        raise (Transient if status >= 500 or status == 429 else Rejected)(f"LOG_SOURCE answered HTTP {status}")


def _unreachable(error: Exception) -> Transient:
    # The texts of these errors may have the URL in them.
    cause = getattr(error, "strerror", None) or type(error).__name__
    return Transient(f"LOG_SOURCE cannot be read ({cause})")


async def _read(content: aiohttp.StreamReader, options: Mapping[str, str], *, last: bool) -> AsyncIterator[bytes]:
    """Yield what comes, no more than is wanted; last: find the last lines here, where the server was not asked."""
    pieces: AsyncIterator[bytes] = content.iter_any()
    left = int(options.get("limitBytes") or 1 << 62)
    if last and (tail := options.get("tailLines")):
        pieces = _last_lines(content, int(tail))
    try:
        async for piece in pieces:
            yield piece[:left]
            left -= len(piece)
            if left <= 0:
                return
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise _unreachable(error) from error


async def _last_lines(content: aiohttp.StreamReader, most: int) -> AsyncIterator[bytes]:
    kept = bytearray()
    async for piece in content.iter_any():
        kept += piece
        del kept[:-LONGEST_TAIL]
    lines = kept.splitlines(keepends=True)
    yield b"".join(lines[len(lines) - min(most, len(lines)) :])


def _token(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            token = file.read(LONGEST_TOKEN).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        cause = getattr(error, "strerror", None) or "it is no text"
        raise Transient(f"LOG_SOURCE_TOKEN_PATH={path} cannot be read ({cause})") from None
    register("LOG_SOURCE_TOKEN_PATH", token)
    return token
