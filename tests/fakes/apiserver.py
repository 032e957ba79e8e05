"""An API server in memory for unit tests: versions, watches with history, failures on demand.

Selectors choose what lists and watches return; an object that stops matching is sent as deleted, as a server does.
"""

import asyncio
import copy
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Container
from dataclasses import dataclass

from controlplane.app.ports import AlreadyExists, ClusterError, Conflict, NotFound
from controlplane.cluster.api import Expired, Json, ObjectList, PatchType, Resource, WatchEvent
from controlplane.embedded.api import patch as patches
from controlplane.embedded.api.resources import image, selection

_Key = tuple[Resource, str, str]


@dataclass(frozen=True, slots=True)
class Call:
    """One request that was made; subject is namespace/name or a resource version."""

    verb: str
    resource: Resource
    subject: str = ""
    body: Json | None = None
    subresource: str = ""
    patch_type: PatchType | None = None
    urgent: bool = False
    label_selector: str = ""
    field_selector: str = ""
    from_memory: bool = False


def echoed(event: WatchEvent, echoes: Container[str]) -> WatchEvent:
    """Return an event, or the bookmark that a real API server's client makes of it."""
    version = str(event.object["metadata"].get("resourceVersion", ""))
    if event.type == "MODIFIED" and version in echoes:
        return WatchEvent("BOOKMARK", {"metadata": {"resourceVersion": version}})
    return event


class FakeApiServer:
    """Implements ``controlplane.cluster.api.ApiServer``."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.version = 100
        self.delay: dict[str, float] = {}
        """Seconds by verb between the effect of a request and its reply."""
        self._objects: dict[_Key, Json] = {}
        self._before: dict[str, Json] = {}
        """What an object was before it became this version."""
        self._history: list[tuple[int, Resource, WatchEvent]] = []
        self._oldest = 0
        self._failures: dict[str, deque[ClusterError]] = defaultdict(deque)
        self._watches: dict[asyncio.Queue[WatchEvent | ClusterError | None], Resource] = {}

    def put(self, resource: Resource, obj: Json) -> Json:
        """Create or replace an object, as another client would."""
        obj = copy.deepcopy(obj)
        meta = obj.setdefault("metadata", {})
        self.version += 1
        meta["resourceVersion"] = str(self.version)
        key = (resource, meta.get("namespace", ""), meta["name"])
        meta.setdefault("uid", f"uid-{self.version}")
        kind = "MODIFIED" if key in self._objects else "ADDED"
        if key in self._objects:
            self._before[meta["resourceVersion"]] = self._objects[key]
        self._objects[key] = obj
        self._publish(resource, WatchEvent(kind, copy.deepcopy(obj)))
        return copy.deepcopy(obj)

    def object(self, resource: Resource, name: str, namespace: str = "") -> Json:
        """Return an object; no request of anybody's."""
        return copy.deepcopy(self._find(resource, namespace, name))

    def remove(self, resource: Resource, name: str, namespace: str = "") -> None:
        """Delete an object, as another client would."""
        obj = self._objects.pop((resource, namespace, name))
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        self._publish(resource, WatchEvent("DELETED", obj))

    def fail(self, verb: str, *errors: ClusterError) -> None:
        """Let the next requests of a verb fail before they have any effect."""
        self._failures[verb].extend(errors)

    def forgive(self) -> None:
        """Let no request fail any more."""
        self._failures.clear()

    def end_watches(self, error: ClusterError | None = None) -> None:
        """End all watches, with an error or as the server does in its time."""
        for queue in tuple(self._watches):
            queue.put_nowait(error)

    def send(self, resource: Resource, event: WatchEvent) -> None:
        """Send an event to the watches of a resource."""
        for queue, watched in self._watches.items():
            if watched == resource:
                queue.put_nowait(event)

    def bookmark(self) -> None:
        """Send a bookmark to all watches."""
        for queue in self._watches:
            queue.put_nowait(WatchEvent("BOOKMARK", {"metadata": {"resourceVersion": str(self.version)}}))

    def drop_history(self) -> None:
        """Drop the history, so that a watch from an older version is expired."""
        self._history.clear()
        self._oldest = self.version

    def made(self, verb: str) -> list[Call]:
        """Return the requests of a verb."""
        return [call for call in self.calls if call.verb == verb]

    async def get(self, resource: Resource, name: str, namespace: str = "") -> Json:
        self._called(Call("get", resource, f"{namespace}/{name}"))
        return copy.deepcopy(self._find(resource, namespace, name))

    async def list(
        self,
        resource: Resource,
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        from_memory: bool = False,
    ) -> ObjectList:
        self._called(
            Call(
                "list",
                resource,
                namespace,
                label_selector=label_selector,
                field_selector=field_selector,
                from_memory=from_memory,
            )
        )
        chosen = selection(resource, namespace, label_selector, field_selector)
        items = tuple(
            copy.deepcopy(obj) for key, obj in self._objects.items() if key[0] == resource and chosen(image(obj))
        )
        version = str(self.version)
        await self._reply("list")
        return ObjectList(items, version)

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
        self._called(
            Call("watch", resource, resource_version, label_selector=label_selector, field_selector=field_selector)
        )
        if int(resource_version) < self._oldest:
            raise Expired("too old resource version")
        chosen = selection(resource, namespace, label_selector, field_selector)
        queue: asyncio.Queue[WatchEvent | ClusterError | None] = asyncio.Queue(10_000)
        for version, kind, event in self._history:
            if kind == resource and version > int(resource_version):
                queue.put_nowait(event)
        self._watches[queue] = resource
        try:
            while (entry := await queue.get()) is not None:
                if isinstance(entry, ClusterError):
                    raise entry
                seen = self._seen(entry, lambda obj: chosen(image(obj)))
                if seen is not None:
                    yield echoed(seen, echoes)
        finally:
            del self._watches[queue]

    async def create(self, resource: Resource, obj: Json, namespace: str = "") -> Json:
        name = obj["metadata"]["name"]
        self._called(Call("create", resource, f"{namespace}/{name}", obj))
        if (resource, namespace, name) in self._objects:
            raise AlreadyExists(name)
        created = self.put(resource, obj)
        await self._reply("create")
        return created

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
        self._called(Call("patch", resource, f"{namespace}/{name}", patch, subresource, patch_type, urgent))
        obj = self._find(resource, namespace, name)
        meta = patch.get("metadata", {})
        _precondition(obj, meta.get("uid", ""), meta.get("resourceVersion", ""))
        merge = patches.strategic if patch_type is PatchType.STRATEGIC else patches.merge
        patched = self.put(resource, merge(obj, patch))
        await self._reply("patch")
        return patched

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
        body = {"uid": uid, "resourceVersion": resource_version, "gracePeriodSeconds": grace_seconds}
        self._called(Call("delete", resource, f"{namespace}/{name}", body))
        obj = self._find(resource, namespace, name)
        _precondition(obj, uid, resource_version)
        if obj["metadata"].get("finalizers"):
            leaving = {"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": grace_seconds or 0}
            self.put(resource, {**obj, "metadata": {**obj["metadata"], **leaving}})
        else:
            self.remove(resource, name, namespace)
        await self._reply("delete")

    def _seen(self, event: WatchEvent, chosen: Callable[[Json], bool]) -> WatchEvent | None:
        """Return how a watch with a selector sees what happened; None: not at all."""
        if event.type == "BOOKMARK":
            return event
        before = self._before.get(event.object.get("metadata", {}).get("resourceVersion", ""))
        had = before is not None and chosen(before)
        if chosen(event.object):
            return event if had or before is None else WatchEvent("ADDED", event.object)
        return WatchEvent("DELETED", event.object) if had else None

    def _called(self, call: Call) -> None:
        self.calls.append(call)
        if self._failures[call.verb]:
            raise self._failures[call.verb].popleft()

    async def _reply(self, verb: str) -> None:
        if verb in self.delay:
            await asyncio.sleep(self.delay[verb])

    def _find(self, resource: Resource, namespace: str, name: str) -> Json:
        try:
            return self._objects[resource, namespace, name]
        except KeyError:
            raise NotFound(name) from None

    def _publish(self, resource: Resource, event: WatchEvent) -> None:
        self._history.append((self.version, resource, event))
        self.send(resource, event)


def _precondition(obj: Json, uid: str, version: str) -> None:
    meta = obj["metadata"]
    if (uid and uid != meta["uid"]) or (version and version != meta["resourceVersion"]):
        raise Conflict("precondition failed")
