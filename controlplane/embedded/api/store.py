"""``ApiServer`` on SQLite: what a real API server does for the resources that we use, in one process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from typing import NoReturn, TypeVar

import orjson

from controlplane.app.ports import Transient, Unknown
from controlplane.cluster.api import Expired, Json, ObjectList, PatchType, Resource, WatchEvent
from controlplane.domain.workloads.placement import matches
from controlplane.embedded.api import mutations
from controlplane.embedded.api.database import Database, Operation
from controlplane.embedded.api.journal import Change, Image, Journal
from controlplane.embedded.api.resources import RESOURCES, field_value, resource_of, selectable_fields
from controlplane.embedded.api.selectors import FieldTerm, Requirements, fields_match, parse_fields, parse_labels
from controlplane.embedded.api.transaction import Ref, Transaction

T = TypeVar("T")

DEADLINE = 10.0
LIST_DEADLINE = 60.0
BOOKMARK_INTERVAL = 60.0
"""Seconds; the last: after how much silence a watch is told the version that it has reached."""
_WATCH_CHUNK = 100


class EmbeddedApiServer:
    """The objects of the embedded cluster. Belongs to the event loop in which it was opened.

    Implements ``controlplane.cluster.api.ApiServer``. A failing disk is Transient
    (SQLite undid the write), a full one StorageFull, a broken file StorageDamaged,
    a deadline that passed Unknown.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._newest = database.opened_at
        self._journals = {resource: Journal(self._newest) for resource in RESOURCES}
        self._subscribers: list[Callable[[Change], None]] = []
        self._closed = False
        database.on_changes = self._publish

    @classmethod
    async def open(cls, path: str) -> EmbeddedApiServer:
        """Open or create the store in a file, or in memory for ":memory:"; raises database.CannotOpen."""
        return cls(await Database.open(path))

    async def close(self) -> None:
        """Finish writes that wait, end all watches, close the file."""
        self._closed = True
        for journal in self._journals.values():
            journal.wake()
        await self._database.close()

    def trouble(self) -> str | None:
        """Say in words why nothing can be written now, None where it can."""
        return self._database.trouble()

    async def until_damaged(self) -> NoReturn:
        """Wait until the file turns out to be broken; raises StorageDamaged then."""
        await self._database.until_damaged()

    def subscribe(self, handler: Callable[[Change], None]) -> Callable[[], None]:
        """Call handler with each committed change, before its writer continues; return how to stop that.

        Handlers run in the event loop, in the order of versions, and must not block or raise.
        """
        self._subscribers.append(handler)

        def unsubscribe() -> None:
            with suppress(ValueError):
                self._subscribers.remove(handler)

        return unsubscribe

    def _publish(self, changes: list[Change]) -> None:
        for change in changes:
            self._newest = change.version
            self._journals[change.resource].append(change)
            for handler in self._subscribers:
                handler(change)

    async def get(self, resource: Resource, name: str, namespace: str = "") -> Json:
        """Return one object; raises NotFound."""
        return await self._read(lambda transaction: mutations.read(transaction, resource, name, namespace))

    async def list(
        self, resource: Resource, *, namespace: str = "", label_selector: str = "", field_selector: str = ""
    ) -> ObjectList:
        """Return all matching objects; an empty namespace means all namespaces."""
        chosen = _Chosen(resource, namespace, label_selector, field_selector)

        def operation(transaction: Transaction) -> ObjectList:
            items = tuple(obj for obj in transaction.all(resource, namespace) if chosen.has_object(obj))
            return ObjectList(items, str(transaction.version))

        return await self._read(operation, LIST_DEADLINE)

    async def watch(
        self,
        resource: Resource,
        *,
        resource_version: str,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
    ) -> AsyncIterator[WatchEvent]:
        """Yield changes after resource_version, with bookmarks when nothing happens; ends when the store is closed.

        An empty version, or "0", first tells all objects as ADDED. Raises Expired.
        """
        chosen = _Chosen(resource, namespace, label_selector, field_selector)
        if resource_version in ("", "0"):
            listed = await self.list(
                resource, namespace=namespace, label_selector=label_selector, field_selector=field_selector
            )
            for obj in listed.items:
                yield WatchEvent("ADDED", obj)
            resource_version = listed.resource_version
        if not (resource_version.isascii() and resource_version.isdecimal()):
            raise Expired(f"invalid resource version: {resource_version[:50]!r}")
        journal = self._journals[resource]
        position = journal.position(int(resource_version), self._newest)
        while not self._closed:
            grown, reached = journal.grown, self._newest
            changes = journal.read(position, _WATCH_CHUNK)
            position += len(changes)
            for change in changes:
                if event := chosen.event(change):
                    yield event
            if changes:
                await asyncio.sleep(0)  # a long backlog must not keep others from the loop
                continue
            try:
                async with asyncio.timeout(BOOKMARK_INTERVAL):
                    await grown.wait()
            except TimeoutError:
                yield _bookmark(resource, reached)

    async def create(self, resource: Resource, obj: Json, namespace: str = "") -> Json:
        """Create an object; raises AlreadyExists, Rejected."""
        return await self._write(lambda transaction: mutations.create(transaction, resource, obj, namespace))

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
        """Patch an object, its status or scale; metadata.resourceVersion and metadata.uid in it are preconditions."""
        operation = partial(
            mutations.patch,
            resource=resource,
            name=name,
            namespace=namespace,
            body=patch,
            patch_type=patch_type,
            subresource=subresource,
        )
        return await self._write(operation, urgent=urgent)

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
        operation = partial(
            mutations.delete,
            resource=resource,
            name=name,
            namespace=namespace,
            uid=uid,
            resource_version=resource_version,
            grace_seconds=grace_seconds,
        )
        await self._write(operation)

    async def apply(self, manifest: Json, dry_run: bool = False) -> tuple[Json, str]:
        """Create or bring an object to a manifest by kubectl's three-way merge.

        Returns the object and "created", "configured" or "unchanged"; a dry run
        checks and tells the same without writing. Raises Rejected.
        """
        return await self._write(lambda transaction: mutations.apply(transaction, manifest, dry_run))

    async def delete_manifest(self, manifest: Json, grace_seconds: int | None = None) -> Resource:
        """Delete the object that a manifest names; raises NotFound, Rejected."""
        resource = resource_of(manifest)
        metadata = manifest.get("metadata")
        named = metadata if isinstance(metadata, dict) else {}
        namespace = str(named.get("namespace") or "default") if resource.namespaced else ""
        await self.delete(resource, str(named.get("name", "")), namespace=namespace, grace_seconds=grace_seconds)
        return resource

    async def bind(self, namespace: str, name: str, uid: str, node_name: str) -> Json:
        """Bind a Pod to a Node; raises NotFound, Conflict."""
        return await self._write(lambda transaction: mutations.bind(transaction, namespace, name, uid, node_name))

    async def ownerless(self, limit: int) -> tuple[Ref, ...]:
        """Return some of the objects whose owners are all gone."""
        return await self._read(lambda transaction: tuple(transaction.ownerless(limit)))

    async def prune_events(self) -> int:
        """Remove old Events; return how many."""
        return await self._write(mutations.prune_events)

    async def _read(self, operation: Operation[T], deadline: float = DEADLINE) -> T:
        try:
            async with asyncio.timeout(deadline):
                return await self._database.run(operation, writes=False)
        except TimeoutError as error:
            raise Transient(f"the embedded cluster did not answer within {deadline:.0f} s") from error

    async def _write(self, operation: Operation[T], *, urgent: bool = False) -> T:
        try:
            async with asyncio.timeout(DEADLINE):
                return await self._database.run(operation, writes=True, urgent=urgent)
        except TimeoutError as error:
            raise Unknown(f"the embedded cluster did not confirm a write within {DEADLINE:.0f} s") from error


class _Chosen:
    """What a list or watch asks for."""

    def __init__(self, resource: Resource, namespace: str, label_selector: str, field_selector: str) -> None:
        self._namespace = namespace if resource.namespaced else ""
        self._labels: Requirements = parse_labels(label_selector)
        self._fields: tuple[FieldTerm, ...] = parse_fields(field_selector, selectable_fields(resource))

    def has_object(self, obj: Json) -> bool:
        labels = obj["metadata"].get("labels") or {}
        fields = {term.path: field_value(obj, term.path) for term in self._fields}
        return matches(self._labels, labels) and fields_match(self._fields, fields)

    def _has(self, image: Image | None) -> bool:
        return image is not None and matches(self._labels, image.labels) and fields_match(self._fields, image.fields)

    def event(self, change: Change) -> WatchEvent | None:
        if self._namespace and change.namespace != self._namespace:
            return None
        before, after = self._has(change.before), self._has(change.after)
        if not (before or after):
            return None
        kind = "MODIFIED" if before and after else "ADDED" if after else "DELETED"
        return WatchEvent(kind, orjson.loads(change.raw))


def _bookmark(resource: Resource, version: int) -> WatchEvent:
    return WatchEvent(
        "BOOKMARK",
        {
            "apiVersion": resource.group_version,
            "kind": resource.kind,
            "metadata": {"resourceVersion": str(version)},
        },
    )
