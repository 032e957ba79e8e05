"""The Kubernetes API over HTTP: objects as raw JSON, no typed models, which cost three times the CPU.

Implements ``controlplane.cluster.api.ApiServer``. Nothing is retried here but a request that 401 refused, once, with
other credentials.

Watches are short. A connection on which nothing arrives may be quiet or dead, HTTP/1.1 has no ping, and bookmarks come
once a minute only. But a server ends a watch when its ``timeoutSeconds`` are over, and says where it ended in a
bookmark before. So each watch is asked for some seconds: silence for longer means that its connection is dead. It costs
a small request for each watch and round (eight watches: about 35 a minute and replica), served from the API server's
memory, over connections that are there.
"""

import random
from collections.abc import AsyncIterator, Container, Mapping
from contextlib import asynccontextmanager
from typing import Self
from urllib.parse import quote, urlencode

import orjson

from controlplane.app.ports import Rejected, Transient, Unknown
from controlplane.cluster import fields
from controlplane.cluster.api import PODS, ByteStream, Json, ObjectList, PatchType, Resource, Upgrade, WatchEvent
from controlplane.kube import transport
from controlplane.kube.connections import Connections, Request
from controlplane.kube.credentials import Credentials
from controlplane.kube.errors import error_of_status
from controlplane.kube.gate import Gate

PAGE = 500
"""Objects in one page of a list."""
WATCH_SECONDS = (12, 15)
"""How long the server keeps one watch, drawn at random so that watches do not end together."""
WATCH_GRACE = 3.0
"""Seconds after which a watch that should have ended is dead: noticed after 18 s at most, replaced within 20."""
_VERSION = b'"resourceVersion":"'
LINE_LIMIT = 16 * 1024 * 1024
"""Bytes of one event; etcd takes objects of 1.5 MB."""


class KubeApiServer:
    """A real API server; also a ``PodLogs`` and ``PodStreams``. To be closed."""

    def __init__(self, credentials: Credentials, gate: Gate | None = None) -> None:
        self._connections = Connections(credentials)
        self._gate = gate or Gate()
        self._random = random.SystemRandom()

    @classmethod
    async def connect(cls, kubeconfig: str = "") -> Self:
        """Return the API server that kubeconfig files name, or that of the Pod we run in.

        Raises CannotConnect when the configuration cannot be used; the server need not be there yet.
        """
        credentials = Credentials(kubeconfig)
        try:
            await credentials.access()
        except BaseException:
            await credentials.close()
            raise
        return cls(credentials)

    async def close(self) -> None:
        """Close all connections."""
        await self._connections.close()

    async def version(self) -> tuple[str, str]:
        """Return the version of the server, such as v1.36.3, and its header Date; raises Rejected, Transient."""
        body, date = await transport.exchange(self._connections, Request("get", "version", "/version"))
        return fields.text(fields.parsed(body) or {}, "gitVersion"), date

    async def get(self, resource: Resource, name: str, namespace: str = "") -> Json:
        """Return one object; raises NotFound."""
        return await self._request(Request("get", resource.plural, _path(resource, namespace, name)))

    async def list(
        self,
        resource: Resource,
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        from_memory: bool = False,
    ) -> ObjectList:
        """Return all matching objects, of one moment, fetched in pages; without metadata.managedFields."""
        items: list[Json] = []
        version = "0" if from_memory else ""
        selectors = {"labelSelector": label_selector, "fieldSelector": field_selector}
        query = fields.filled({**selectors, "resourceVersion": version})
        query["limit"] = str(PAGE)
        while True:
            target = f"{_path(resource, namespace)}?{urlencode(query)}"
            page = await self._request(Request("list", resource.plural, target))
            for item in fields.objects(page, "items"):
                fields.mapping(item, "metadata").pop("managedFields", None)
                items.append(item)
            meta = fields.mapping(page, "metadata")
            more = fields.text(meta, "continue")
            if not more:
                return ObjectList(tuple(items), fields.text(meta, "resourceVersion"))
            query.pop("resourceVersion", None)
            query["continue"] = more

    async def watch(
        self,
        resource: Resource,
        *,
        resource_version: str,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        echoes: Container[str] = (),
    ) -> AsyncIterator[WatchEvent]:
        """Yield changes after resource_version, beginning with a bookmark of it; raises Expired, Transient."""
        seconds = self._random.randint(*WATCH_SECONDS)
        query = fields.filled({"labelSelector": label_selector, "fieldSelector": field_selector}) | {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(seconds),
        }
        request = Request("watch", resource.plural, f"{_path(resource, namespace)}?{urlencode(query)}")
        within, idle = transport.deadline(request), seconds + WATCH_GRACE
        async with transport.stream(self._connections, request, opens_within=within, idle=idle) as stream:
            yield _bookmark(resource_version)
            async for line in stream.lines(LINE_LIMIT):
                version = _modified_to(line)
                yield _bookmark(version) if version in echoes else _event(line)

    async def create(self, resource: Resource, obj: Json, namespace: str = "") -> Json:
        """Create an object; raises AlreadyExists, Rejected."""
        return await self._request(Request("create", resource.plural, _path(resource, namespace), orjson.dumps(obj)))

    async def patch(
        self,
        resource: Resource,
        name: str,
        patch: Json,
        *,
        namespace: str = "",
        subresource: str = "",
        patch_type: PatchType = PatchType.MERGE,
        urgent: bool = False,
    ) -> Json:
        """Patch an object or a part of it, resource version and UID in it being preconditions; raises Conflict."""
        label = f"{resource.plural}/{subresource}" if subresource else resource.plural
        path = _path(resource, namespace, name, subresource)
        return await self._request(Request("patch", label, path, orjson.dumps(patch), patch_type.value), urgent=urgent)

    async def delete(
        self,
        resource: Resource,
        name: str,
        *,
        namespace: str = "",
        uid: str = "",
        resource_version: str = "",
        grace_seconds: int | None = None,
    ) -> None:
        """Delete an object; raises NotFound, Conflict."""
        options: Json = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        if preconditions := fields.filled({"uid": uid, "resourceVersion": resource_version}):
            options["preconditions"] = preconditions
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        path = _path(resource, namespace, name)
        await self._request(Request("delete", resource.plural, path, orjson.dumps(options)))

    @asynccontextmanager
    async def pod_log(
        self, namespace: str, name: str, options: Mapping[str, str], *, idle: float | None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """Give the log of a container as it comes; raises NotFound, Rejected, Transient, and so does reading."""
        request = Request("get", "pods/log", f"{_path(PODS, namespace, name, 'log')}?{urlencode(options)}")
        async with transport.stream(self._connections, request, opens_within=idle, idle=idle) as stream:
            yield stream.pieces()

    @asynccontextmanager
    async def pod_stream(
        self, namespace: str, name: str, upgrade: Upgrade, *, opens_within: float
    ) -> AsyncIterator[tuple[Mapping[str, str], ByteStream]]:
        """Give the connection to a container after its upgrade; raises NotFound, Rejected, Transient."""
        path = f"{_path(PODS, namespace, name, upgrade.subresource)}?{urlencode(upgrade.options)}"
        request = Request(upgrade.verb, f"pods/{upgrade.subresource}", path, headers=upgrade.headers)
        async with transport.upgraded(self._connections, request, opens_within=opens_within) as opened:
            yield opened

    async def _request(self, request: Request, *, urgent: bool = False) -> Json:
        async with self._gate.passage(urgent=urgent):
            body, _date = await transport.exchange(self._connections, request)
        obj = fields.parsed(body)
        if obj is None:
            error = Unknown if request.writes else Transient
            raise error("the API server's reply is not a JSON object")
        return obj


def _path(resource: Resource, namespace: str, name: str | None = None, subresource: str = "") -> str:
    root = "/apis" if "/" in resource.group_version else "/api"
    parts = [root, resource.group_version]
    if namespace and resource.namespaced:
        parts += ["namespaces", _segment(namespace)]
    parts.append(resource.plural)
    if name is not None:
        parts.append(_segment(name))
    if subresource:
        parts.append(subresource)
    return "/".join(parts)


def _segment(name: str) -> str:
    # The server decodes the path before it takes it apart: a slash would name another object.
    if not name or name in (".", "..") or "/" in name or "%" in name:
        raise Rejected(f"{name[:100]!r} cannot be the name of an object")
    return quote(name, safe="")


def _modified_to(line: bytes) -> str:
    """Return the version of the object of a MODIFIED event, read without decoding it; empty for other events.

    The first resourceVersion of an object is its own: API servers write metadata first, and in it names, UID and
    version before what users choose.
    """
    if not line.startswith(b'{"type":"MODIFIED"'):
        return ""
    begin = line.find(_VERSION) + len(_VERSION)
    return line[begin : line.find(b'"', begin)].decode(errors="replace") if begin >= len(_VERSION) else ""


def _bookmark(version: str) -> WatchEvent:
    return WatchEvent("BOOKMARK", {"metadata": {"resourceVersion": version}})


def _event(line: bytes) -> WatchEvent:
    event = fields.parsed(line)
    if event is None:
        raise Transient("a line of the watch is not a JSON object")
    kind, obj = fields.text(event, "type"), fields.mapping(event, "object")
    if kind == "ERROR":
        raise error_of_status(fields.integer(obj, "code") or 500, obj, write=False)
    return WatchEvent(kind, obj)
