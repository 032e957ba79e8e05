"""A small client of the API server for tests: JSON in, JSON out, one connection per call, blocking."""

import contextlib
import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from typing import Any, TypeAlias

Json: TypeAlias = dict[str, Any]

CALL_TIMEOUT = 15.0
STRATEGIC_PATCH = "application/strategic-merge-patch+json"


class ApiError(Exception):
    """The API server refused; status is the HTTP code, reason its machine-readable word."""

    def __init__(self, call: str, status: int, reply: Json) -> None:
        self.status = status
        self.reason = str(reply.get("reason", ""))
        super().__init__(f"{call}: {status} {reply.get('message') or self.reason}")


class Watch:
    """Changes of a collection: kind and object of each, until the server ends it or another thread closes it."""

    def __init__(self, connection: http.client.HTTPSConnection, reply: http.client.HTTPResponse) -> None:
        self._connection = connection
        self._socket = connection.sock
        self._socket.settimeout(None)
        self._reply = reply

    def __iter__(self) -> Iterator[tuple[str, Json]]:
        """Yield changes; raises OSError, HTTPException when the connection breaks."""
        with contextlib.closing(self._connection):
            while line := self._reply.readline():
                event = json.loads(line)
                yield event["type"], event["object"]

    def end(self) -> None:
        """End it, from any thread: what iterates over it sees the end."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)


class KubeApi:
    """The API server as one user."""

    def __init__(self, port: int, tls: ssl.SSLContext) -> None:
        self._port = port
        self._tls = tls

    def get(self, path: str) -> Json:
        """Return an object or a list; raises ApiError, OSError."""
        return self.call("GET", path)

    def items(self, path: str) -> list[Json]:
        """Return the objects of a list; raises ApiError, OSError."""
        found: list[Json] = self.get(path)["items"]
        return found

    def create(self, path: str, obj: Json) -> Json:
        """Create an object in the collection at path; raises ApiError, OSError."""
        return self.call("POST", path, obj)

    def patch(self, path: str, patch: Json, content_type: str = STRATEGIC_PATCH) -> Json:
        """Patch an object; raises ApiError, OSError."""
        return self.call("PATCH", path, patch, content_type)

    def delete(self, path: str, *, grace_seconds: int | None = None) -> None:
        """Delete an object or a collection; one that is not there is fine; raises ApiError, OSError."""
        options: Json = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        try:
            self.call("DELETE", path, options)
        except ApiError as error:
            if error.status != http.HTTPStatus.NOT_FOUND:
                raise

    def ready(self) -> bool:
        """Return whether /readyz says ok."""
        try:
            return self._exchange("GET", "/readyz", None, {})[0] == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False

    def call(self, method: str, path: str, body: Json | None = None, content_type: str = "application/json") -> Json:
        """Return the reply to one request; raises ApiError, OSError."""
        data = None if body is None else json.dumps(body).encode()
        status, reply = self._exchange(method, path, data, {"Content-Type": content_type} if data else {})
        try:
            parsed: Json = json.loads(reply)
        except ValueError:
            parsed = {"message": reply[:500].decode(errors="replace")}
        if status >= http.HTTPStatus.BAD_REQUEST:
            raise ApiError(f"{method} {path}", status, parsed)
        return parsed

    def watch(self, path: str, version: str) -> Watch:
        """Begin to watch a collection after a version of it; raises ApiError, OSError."""
        connection = self._connection()
        try:
            connection.request("GET", f"{path}?watch=true&allowWatchBookmarks=true&resourceVersion={version}")
            reply = connection.getresponse()
            if reply.status != http.HTTPStatus.OK:
                raise ApiError(f"watch {path}", reply.status, json.loads(reply.read()))
        except BaseException:
            connection.close()
            raise
        return Watch(connection, reply)

    def _connection(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection("127.0.0.1", self._port, timeout=CALL_TIMEOUT, context=self._tls)

    def _exchange(self, method: str, path: str, data: bytes | None, headers: dict[str, str]) -> tuple[int, bytes]:
        connection = self._connection()
        with contextlib.closing(connection):
            connection.request(method, path, data, headers)
            reply = connection.getresponse()
            return reply.status, reply.read()
