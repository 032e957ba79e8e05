"""Heartbeats of a simulated base: a POST on a new connection, at a fixed rate, the first at once.

As in a Java base a beat that fails is logged and not repeated before the next one.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import NoReturn
from urllib.parse import SplitResult, urlsplit

import orjson
import structlog

from gateways.arklet.fields import Json
from simulatedbase.profile import Faults, Profile

CONNECT_SECONDS = 30.0
READ_SECONDS = 10.0

ACTIVATED = "activated"
DEACTIVATED = "DEACTIVATED"
"""Never sent by a Java base, which leaves in silence; in upper case by the tools that do send it."""

log = structlog.get_logger(__name__)


class BadAnswer(Exception):
    """The controller answered a heartbeat with something other than status 200."""


def controller_url(text: str) -> SplitResult:
    """Return the controller's URL; raises ValueError that says what is wrong with it."""
    url = urlsplit(text)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError(f"{text!r} is not a URL like http://127.0.0.1:7777")
    if url.port == 0:
        raise ValueError(f"{text!r} has port 0")
    if not text.isascii() or any(character.isspace() for character in text):
        raise ValueError(f"{text!r} has characters that do not belong in a URL")
    return url


def beat(profile: Profile, port: int, state: str) -> Json:
    """Return what a heartbeat says; port is 0 over MQTT."""
    told = metadata(profile)
    if port and not profile.runtime.tells_version:
        del told["version"]
    return {
        "baseMetadata": told,
        "localHostName": profile.host_name or profile.identity,
        "localIP": profile.ip,
        "port": port,
        "state": state,
    }


def metadata(profile: Profile) -> Json:
    """Return who the base is."""
    return {
        "clusterName": profile.cluster_name,
        "identity": profile.identity,
        "name": profile.name,
        "version": profile.version,
    }


class Heartbeat:
    """Tells the controller of one base. Raises ValueError when its controller is no URL."""

    def __init__(self, profile: Profile, faults: Faults, port: int) -> None:
        self._profile = profile
        self._faults = faults
        self._port = port
        self._url = controller_url(profile.controller)
        self._failing = False
        self._log = log.bind(base=profile.identity)

    async def run(self) -> NoReturn:
        """Beat for ever at the profile's interval."""
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            if not self._faults.mute:
                await self.beat()
            # Beats that became due while one was under way are left out.
            missed = max(0.0, loop.time() - due) // self._profile.heartbeat_interval
            due += (missed + 1) * self._profile.heartbeat_interval
            await asyncio.sleep(due - loop.time())

    async def beat(self, state: str = ACTIVATED) -> bool:
        """Send one heartbeat; False when it was not answered with status 200, which is logged."""
        try:
            await self._post(orjson.dumps(beat(self._profile, self._port, state)))
        except (OSError, BadAnswer, EOFError, asyncio.LimitOverrunError) as error:
            if not self._failing:
                self._log.warning(
                    "heartbeats fail", controller=self._profile.controller, error=str(error) or type(error).__name__
                )
            self._failing = True
            return False
        if self._failing:
            self._log.info("heartbeats succeed again")
        self._failing = False
        return True

    async def _post(self, body: bytes) -> None:
        url = self._url
        tls = ssl.create_default_context() if url.scheme == "https" else None
        port = url.port or (443 if tls else 80)
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(url.hostname, port, ssl=tls)
        try:
            head = (
                f"POST {url.path.rstrip('/')}/heartbeat HTTP/1.1\r\n"
                f"Content-Type: application/json\r\n"
                f"User-Agent: Java/{self._profile.java_version}\r\n"
                f"Host: {url.netloc.rpartition('@')[2]}\r\n"
                f"Accept: text/html, image/gif, image/jpeg, */*; q=0.2\r\n"
                f"Connection: keep-alive\r\n"
                f"Content-Length: {len(body)}\r\n\r\n"
            )
            async with asyncio.timeout(READ_SECONDS):
                # In two writes, as Java does.
                writer.write(head.encode("ascii"))
                await writer.drain()
                writer.write(body)
                await writer.drain()
                status = await reader.readuntil(b"\r\n")
            if status.split(b" ")[1:2] != [b"200"]:
                raise BadAnswer(status.decode("latin-1").strip())
        finally:
            writer.transport.abort()
