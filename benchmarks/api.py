"""What a measurement asks over HTTP: the API server as its administrator, and our programs' small interfaces."""

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NoReturn, Self, TypeAlias

import aiohttp
import orjson

from benchmarks.progress import say

Json: TypeAlias = dict[str, Any]

CONNECTIONS = 64
"""Requests under way, as many as the control plane allows itself besides renewals of Leases."""
CALL_TIMEOUT = 60.0
SAY_EVERY = 5.0
"""Seconds between two lines about something that takes its time."""
LOOK = 0.02


class Failed(Exception):
    """The measurement cannot be made; the message says why."""


class Api:
    """JSON over kept connections. Its calls raise Failed."""

    def __init__(self, session: aiohttp.ClientSession, root: str) -> None:
        self._session = session
        self._root = root

    async def get(self, path: str) -> Any:
        """Return what is there."""
        return orjson.loads(await self.call("GET", path))

    async def text(self, path: str) -> str:
        """Return what is there as text."""
        return (await self.call("GET", path)).decode()

    async def post(self, path: str, body: object = None) -> Any:
        """Create something, or have a program do something."""
        return orjson.loads(await self.call("POST", path, body))

    async def patch(self, path: str, body: object) -> None:
        """Patch an object strategically."""
        await self.call("PATCH", path, body, "application/strategic-merge-patch+json")

    async def call(self, method: str, path: str, body: object = None, content_type: str = "application/json") -> bytes:
        """Return the reply to one request."""
        headers = {"Content-Type": content_type}
        data = None if body is None else orjson.dumps(body)
        try:
            async with self._session.request(method, self._root + path, data=data, headers=headers) as reply:
                said = await reply.read()
                if reply.status >= 400:
                    raise Failed(f"{method} {path}: {reply.status} {said[:300].decode(errors='replace')}")
                return said
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Failed(f"{method} {path}: {str(error) or type(error).__name__}") from error

    async def watch(self, path: str, version: str) -> AsyncIterator[tuple[str, Json]]:
        """Yield the changes of a collection after a version, as kind and object, until the server ends the watch."""
        target = f"{self._root}{path}?watch=true&resourceVersion={version}"
        # An event is a line of any length.
        async with self._session.get(target, timeout=aiohttp.ClientTimeout(total=None)) as reply:
            rest = b""
            async for data in reply.content.iter_any():
                *lines, rest = (rest + data).split(b"\n")
                for line in lines:
                    event = orjson.loads(line)
                    yield event["type"], event["object"]


@asynccontextmanager
async def connected(root: str, tls: ssl.SSLContext | None = None) -> AsyncIterator[Api]:
    """Open and close an Api."""
    # Watches need connections besides. With a limit those who call again overtake one that waits, until it times out.
    connector = aiohttp.TCPConnector(limit=0, ssl=tls or True)
    timeout = aiohttp.ClientTimeout(total=CALL_TIMEOUT)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        yield Api(session, root)


def tls(kubeconfig: Path) -> ssl.SSLContext:
    """Return what a client needs to be the user of a test cluster's kubeconfig, which is JSON."""
    config = json.loads(kubeconfig.read_text())
    context = ssl.create_default_context(cafile=config["clusters"][0]["cluster"]["certificate-authority"])
    user = config["users"][0]["user"]
    context.load_cert_chain(user["client-certificate"], user["client-key"])
    return context


class Sightings:
    """Notes when each object of a collection is first seen to bear a mark.

    A mark is a test of the kind of a change (ADDED, MODIFIED, DELETED) and the object. Times are monotonic seconds at
    which the watch metrics the change.
    """

    def __init__(self, api: Api, path: str, marks: Mapping[str, Callable[[str, Json], bool]]) -> None:
        self._api = api
        self._path = path
        self._marks = marks
        self._known: set[str] = set()
        self.times: dict[str, dict[str, float]] = {mark: {} for mark in marks}

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(await self._list()))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.wait((self._task,))

    async def wait(self, mark: str, count: int, *, within: float, what: str) -> None:
        """Return when so many objects bear the mark; raises Failed when seconds have passed, or the watch ended."""
        began = said = time.monotonic()
        while (seen := len(self.times[mark])) < count:
            now = time.monotonic()
            if self._task.done():
                raise Failed(f"the watch of {self._path} ended: {self._task.exception()}")
            if now - began > within:
                raise Failed(f"{seen} of {count} {what} after {within:g} s")
            if now - said > SAY_EVERY:
                say(f"{seen} of {count} {what}")
                said = now
            await asyncio.sleep(LOOK)

    async def _run(self, version: str) -> NoReturn:
        while True:
            async for kind, obj in self._api.watch(self._path, version):
                if kind == "ERROR":
                    break
                self._see(kind, obj)
            # The server drops watches that fall behind; times of what was missed are those of this list.
            say(f"the server ended the watch of {self._path}: listing again")
            version = await self._list()

    async def _list(self) -> str:
        listed = await self._api.get(self._path)
        for obj in listed["items"]:
            self._see("ADDED", obj)
        for name in self._known - {obj["metadata"]["name"] for obj in listed["items"]}:
            self._see("DELETED", {"metadata": {"name": name}})
        return str(listed["metadata"]["resourceVersion"])

    def _see(self, kind: str, obj: Json) -> None:
        now, name = time.monotonic(), obj["metadata"]["name"]
        (self._known.discard if kind == "DELETED" else self._known.add)(name)
        for mark, bears in self._marks.items():
            if name not in self.times[mark] and bears(kind, obj):
                self.times[mark][name] = now


def ready(_kind: str, obj: Json) -> bool:
    """Return whether a Node or Pod is Ready."""
    conditions = obj.get("status", {}).get("conditions", ())
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def gone(kind: str, _obj: Json) -> bool:
    """Return whether an object was removed."""
    return kind == "DELETED"
