"""``ApiServer`` on SQLite: what a real API server does for the resources that we use, in one process."""

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Container
from concurrent.futures import Executor
from sqlite3 import Connection

import orjson

from controlplane.cluster.api import Expired, Json, ObjectList, PatchType, Resource, WatchEvent
from controlplane.embedded.api import writes
from controlplane.embedded.api.database import Change, Database, Transaction
from controlplane.embedded.api.resources import RESOURCES, Selection, image, object_key, selection

LIST_DEADLINE = 60.0
BOOKMARK_INTERVAL = 60.0
"""Seconds; the last: after how much silence a watch gets the version that it has reached."""
_WATCH_CHUNK = 100
MAX_CHANGES = 16_384
MAX_BYTES = 16 * 1024 * 1024
"""Changes of one resource that are kept for watches, and their bytes."""


class Journal:
    """The changes of one resource after the version floor, in the order of their versions, from which watches are fed.

    Bounded: a watch that is slower than that, or that resumes from before, gets Expired and lists again. So no watch
    has a queue of its own.
    """

    def __init__(self, floor: int, *, max_changes: int = MAX_CHANGES, max_bytes: int = MAX_BYTES) -> None:
        self._floor = floor
        self._changes: list[Change] = []
        self._bytes = 0
        self._max_changes = max_changes
        self._max_bytes = max_bytes
        self.grown = asyncio.Event()
        """Set at the next change. Take it before reading, so that no change is missed."""

    def append(self, change: Change) -> None:
        """Take a change and wake the watches."""
        self._changes.append(change)
        self._bytes += len(change.raw)
        if len(self._changes) > self._max_changes or self._bytes > self._max_bytes:
            dropped = self._changes[: max(1, len(self._changes) // 4)]
            del self._changes[: len(dropped)]
            self._floor = dropped[-1].version
            self._bytes -= sum(len(each.raw) for each in dropped)
        self.wake()

    def wake(self) -> None:
        """Let all watches look again."""
        self.grown.set()
        self.grown = asyncio.Event()

    def after(self, version: int, limit: int) -> list[Change]:
        """Return the first changes after a version; raises Expired if some of them were dropped."""
        if version < self._floor:
            raise Expired(f"too old resource version: {version} ({self._floor})")
        start = bisect_right(self._changes, version, key=lambda change: change.version)
        return self._changes[start : start + limit]


class EmbeddedApiServer(Database):
    """The objects of the embedded cluster. Belongs to the event loop in which it was opened.

    Implements ``controlplane.cluster.api.ApiServer``. A failing disk is Transient (SQLite undid the write), a full one
    StorageFull, a broken file StorageDamaged, a deadline that passed Unknown.
    """

    def __init__(self, path: str, connection: Connection, version: int, thread: Executor | None) -> None:
        super().__init__(path, connection, version, thread)
        self._newest = version
        self._journals = {resource: Journal(version) for resource in RESOURCES}
        self.subscribers: list[Callable[[Change], None]] = []
        """Called with each committed change before its writer continues, in the order of versions. Must not raise."""

    async def close(self) -> None:
        """Finish writes that wait, end all watches, close the file."""
        await super().close()
        for journal in self._journals.values():
            journal.wake()

    def publish(self, changes: list[Change]) -> None:
        """Tell watches and subscribers."""
        for change in changes:
            self._newest = change.version
            self._journals[change.key.resource].append(change)
            for handler in self.subscribers:
                handler(change)

    async def get(self, resource: Resource, name: str, namespace: str = "") -> Json:
        """Return one object; raises NotFound."""
        return await self.read(lambda transaction: writes.read(transaction, object_key(resource, name, namespace)))

    async def list(
        self,
        resource: Resource,
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        from_memory: bool = False,
    ) -> ObjectList:
        """Return all matching objects, always as they are now; an empty namespace means all namespaces."""
        is_asked = selection(resource, namespace, label_selector, field_selector)

        def operation(transaction: Transaction) -> ObjectList:
            items = tuple(obj for obj in transaction.all(resource) if is_asked(image(obj)))
            return ObjectList(items, str(transaction.version))

        return await self.read(operation, LIST_DEADLINE)

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
        """Yield changes after resource_version, with bookmarks when nothing happens; raises Expired.

        Ends when the store is closed.
        """
        is_asked = selection(resource, namespace, label_selector, field_selector)
        if not (resource_version.isascii() and resource_version.isdecimal()) or int(resource_version) > self._newest:
            raise Expired(f"invalid resource version: {resource_version[:50]!r}")
        journal, seen = self._journals[resource], int(resource_version)
        while not self.closing:
            grown, reached = journal.grown, self._newest
            changes = journal.after(seen, _WATCH_CHUNK)
            for change in changes:
                seen = change.version
                if event := _event(is_asked, change):
                    yield event
            if changes:
                await asyncio.sleep(0)  # a long backlog must not keep others from the loop
                continue
            try:
                async with asyncio.timeout(BOOKMARK_INTERVAL):
                    await grown.wait()
            except TimeoutError:
                yield WatchEvent("BOOKMARK", {"metadata": {"resourceVersion": str(reached)}})

    async def create(self, resource: Resource, obj: Json, namespace: str = "") -> Json:
        """Create an object; raises AlreadyExists, Rejected."""
        return await self.write(lambda transaction: writes.create(transaction, resource, obj, namespace))

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
        """Patch an object, its status or scale; metadata.resourceVersion and metadata.uid in it are preconditions.

        Requests are served in their order, the urgent ones too: all that may wait are done within seconds.
        """
        key = object_key(resource, name, namespace)
        return await self.write(lambda transaction: writes.patch(transaction, key, patch, patch_type, subresource))

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
        """Delete an object; a Pod bound to a Node stays, marked, until it is deleted with grace 0."""
        key, preconditions = object_key(resource, name, namespace), {"uid": uid, "resourceVersion": resource_version}
        await self.write(lambda transaction: writes.delete(transaction, key, preconditions, grace_seconds))

    async def apply(self, manifest: Json, dry_run: bool = False) -> tuple[Json, str]:
        """Create or bring an object to a manifest by kubectl's three-way merge.

        Returns the object and "created", "configured" or "unchanged"; a dry run checks and returns the same without
        writing. Raises Rejected.
        """
        return await self.write(lambda transaction: writes.apply(transaction, manifest, dry_run))


def _event(is_asked: Selection, change: Change) -> WatchEvent | None:
    before = change.before is not None and is_asked(change.before)
    after = change.after is not None and is_asked(change.after)
    if not (before or after):
        return None
    kind = "MODIFIED" if before and after else "ADDED" if after else "DELETED"
    return WatchEvent(kind, orjson.loads(change.raw))
