"""A stand-in for the API server, as a process: python -m benchmarks.standin --port N. See standin_objects.

HTTP/1.1 on loopback without TLS; whoever calls may do everything.
"""

import argparse
import asyncio
import sys
from collections import defaultdict
from typing import cast
from urllib.parse import parse_qsl, unquote, urlsplit

import orjson
from httptools import HttpParserError, HttpRequestParser

from benchmarks.standin_objects import Objects, Refused, Target, bookmark, event, target
from controlplane.app.ports import Rejected
from controlplane.cluster.api import PatchType, Resource
from controlplane.embedded.api.database import Change
from controlplane.embedded.api.resources import Selection, selection
from service import logs, process

VERSION = b'{"major":"1","minor":"36","gitVersion":"v1.36.0-standin"}'
WATCH_SECONDS = 60.0
"""Unless the client says how long."""
_REASONS = {200: b"OK", 201: b"Created"}
_STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"


class StandIn:
    """The objects, and who watches them."""

    def __init__(self) -> None:
        self.objects = Objects(self._follow)
        self.watches: defaultdict[Resource, set[Watch]] = defaultdict(set)

    def _follow(self, change: Change) -> None:
        for watch in self.watches[change.key.resource]:
            watch.offer(change)


class Watch:
    """A stream of changes over a connection, for some seconds."""

    def __init__(
        self, stand_in: StandIn, transport: asyncio.Transport, resource: Resource, is_asked: Selection
    ) -> None:
        self._watches = stand_in.watches[resource]
        self._objects = stand_in.objects
        self._transport = transport
        self._is_asked = is_asked
        self._waiting: list[bytes] = []

    def begin(self, changes: list[Change], seconds: float, *, bookmarks: bool) -> None:
        """Send what has changed, and then what changes; bookmarks: and at the end how far it came."""
        self._bookmarks = bookmarks
        self._transport.write(_STREAM)
        for change in changes:
            self.offer(change)
        self._watches.add(self)
        self._ending = asyncio.get_running_loop().call_later(seconds, self._end)

    def offer(self, change: Change) -> None:
        """Send a change if it is asked for, together with others of this moment."""
        if line := event(self._is_asked, change):
            if not self._waiting:
                asyncio.get_running_loop().call_soon(self._flush)
            self._waiting.append(line)

    def stop(self) -> None:
        """Send nothing more."""
        self._watches.discard(self)
        self._ending.cancel()

    def _flush(self) -> None:
        data = b"".join(self._waiting)
        self._waiting.clear()
        if data and not self._transport.is_closing():
            self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    def _end(self) -> None:
        self.stop()
        if self._bookmarks:
            self._waiting.append(bookmark(self._objects.version))
        self._flush()
        self._transport.write(b"0\r\n\r\n")


class Connection(asyncio.Protocol):
    """One connection of a client."""

    def __init__(self, stand_in: StandIn) -> None:
        self._stand_in = stand_in
        self._watch: Watch | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        # uvloop's are of no class of asyncio.
        self._transport = cast("asyncio.Transport", transport)
        self._parser = HttpRequestParser(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """End its watch."""
        if self._watch is not None:
            self._watch.stop()

    def data_received(self, data: bytes) -> None:
        """Read requests."""
        try:
            self._parser.feed_data(data)
        except HttpParserError:
            self._transport.close()

    # What the parser calls.

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._url, self._body, self._strategic = b"", b"", False

    def on_url(self, url: bytes) -> None:
        """Take a part of the URL."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note how a patch is merged."""
        if name.lower() == b"content-type":
            self._strategic = value == PatchType.STRATEGIC.value.encode()

    def on_body(self, body: bytes) -> None:
        """Take a part of the body."""
        self._body += body

    def on_message_complete(self) -> None:
        """Answer."""
        try:
            self._answer(self._parser.get_method().decode())
        except Refused as refused:
            self._send(refused.code, refused.status)
        except (Rejected, orjson.JSONDecodeError) as error:
            self._send(400, Refused(400, "BadRequest", str(error)).status)

    def _answer(self, method: str) -> None:
        url = urlsplit(self._url.decode())
        if url.path == "/version":
            self._send(200, VERSION)
            return
        of, query = target(unquote(url.path)), dict(parse_qsl(url.query))
        objects, key = self._stand_in.objects, of.key
        if method == "GET":
            self._read(of, query)
        elif method == "POST":
            self._send(201, objects.create(key, orjson.loads(self._body)))
        elif method == "PATCH":
            self._send(200, objects.patch(key, orjson.loads(self._body), by_keys=self._strategic))
        elif method == "DELETE":
            self._send(200, objects.delete(key, orjson.loads(self._body or b"{}")))
        else:
            raise Refused(405, "MethodNotAllowed", f"the stand-in knows no {method}")

    def _read(self, of: Target, query: dict[str, str]) -> None:
        objects, key = self._stand_in.objects, of.key
        labels, values = query.get("labelSelector", ""), query.get("fieldSelector", "")
        if key.name:
            self._send(200, objects.get(key))
        elif query.get("watch") == "true":
            changes = objects.after(key.resource, query.get("resourceVersion", "0"))
            is_asked = selection(key.resource, key.namespace, labels, values)
            self._watch = Watch(self._stand_in, self._transport, key.resource, is_asked)
            seconds, bookmarks = query.get("timeoutSeconds", WATCH_SECONDS), query.get("allowWatchBookmarks") == "true"
            self._watch.begin(changes, float(seconds), bookmarks=bookmarks)
        else:
            self._send(200, objects.collection(key, labels, values))

    def _send(self, code: int, body: bytes) -> None:
        head = b"HTTP/1.1 %d %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        self._transport.write(head % (code, _REASONS.get(code, b"Refused"), len(body)) + body)


def main() -> int:
    """Serve until a signal; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.standin", description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="loopback port that is listened on")
    options = parser.parse_args()
    logs.configure(logs.LogFormat.CONSOLE, logs.LogLevel.WARNING, program="stand-in")
    process.raise_file_limit()

    async def life(stop: asyncio.Event) -> None:
        stand_in = StandIn()
        server = await asyncio.get_running_loop().create_server(lambda: Connection(stand_in), "127.0.0.1", options.port)
        await stop.wait()
        server.close()

    return process.run(life)


if __name__ == "__main__":
    sys.exit(main())
