"""Informers: a list, then a watch from its version, until cancelled.

A watch that ends is taken up where it was; Expired and only Expired makes a new list. Failures are retried with
jittered backoff. Nothing is dropped from the cache because the cluster cannot be reached: what is known stays known,
and ``trouble`` says since when it may be out of date. The informer of the official client takes a thread for each
watch, keeps whole objects, and does not know of our own writes.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Generic, NoReturn, Protocol, TypeVar

import structlog

from controlplane.app.ports import Clock, ClusterError
from controlplane.cluster import fields, reading
from controlplane.cluster.api import ApiServer, Expired, Json, Resource, WatchEvent
from controlplane.domain.backoff import Backoff
from controlplane.domain.objects import ModuleDeployment, Pod
from controlplane.domain.workloads.placement import matches, parse_selector
from service.limits import Recent

log = structlog.get_logger(__name__)

RETRY = Backoff(first=0.5, longest=10.0)
"""Eight watches a replica are no load for a server that comes back, and work waits for them."""
SHORT_WATCH = 1.0
"""Seconds; a watch that ends sooner is taken up again only after a delay."""

DELETION_SEEN_WITHIN = 1.0
"""Seconds that a deletion waits until the watch shows it."""

ECHOES = 4096
"""Own writes whose echo is not decoded; that of an older one only costs more."""
_LONGEST_VERSION = 20
_chance = random.SystemRandom().random


class Versioned(Protocol):
    """A view of one version of one object."""

    @property
    def uid(self) -> str:
        """Which object it is, of all that ever had its name."""

    @property
    def resource_version(self) -> str:
        """Version."""


V = TypeVar("V", bound=Versioned)


def newer(version: str, than: str) -> bool | None:
    """Return whether a resource version is newer than another; None if that cannot be known."""
    if version == than:
        return False
    if _decimal(version) and _decimal(than):
        return int(version) > int(than)
    return None


def _decimal(version: str) -> bool:
    return 0 < len(version) <= _LONGEST_VERSION and version.isascii() and version.isdigit()


class Cache(Generic[V]):
    """Objects by key, and how far the watch has come.

    Lists, watches and our own writes arrive in any order, so that each may only move an object forward:

        the cache never replaces an object by an older version of it, and never takes
        back an object whose deletion it has seen

    Resource versions are compared as numbers where both are decimal, which is what Kubernetes defines for them;
    otherwise a watch counts, and a write's result waits for the watch.
    """

    def __init__(self) -> None:
        self._objects: dict[str, V] = {}
        self.seen = ""
        """The version up to which the cluster has shown us everything; empty where a list is needed."""
        self.echoes: Recent[str, None] = Recent(ECHOES)
        """Versions that our own writes made of objects, which the watch has yet to show: they are known."""

    def announce(self, key: str, old: V | None, new: V | None, *, own: bool = False) -> None:
        """Take note of a change, after it; own: whoever acts on the object wrote it."""

    def get(self, key: str) -> V | None:
        """Return the object under namespace/name, or name for what has no namespace."""
        return self._objects.get(key)

    def all(self) -> Iterator[V]:
        """Iterate over a snapshot."""
        return iter(tuple(self._objects.values()))

    def replace(self, listed: Iterable[tuple[str, V]], version: str) -> None:
        """Take a complete list as of version; what our own writes made since then stays."""
        self.seen = version
        new = dict(listed)
        for key in [key for key in self._objects if key not in new]:
            self._drop(key, version)
        for key, view in new.items():
            self._forward(key, view)

    def changed(self, key: str, view: V) -> None:
        """Take an object as a watch shows it."""
        self._forward(key, view)
        self.shown(view.resource_version)

    def gone(self, key: str, version: str) -> None:
        """Take from a watch that an object was deleted, or does not match any more, as of a version."""
        self._drop(key, version)
        self.shown(version)

    def shown(self, version: str) -> None:
        """Take that a watch came up to a version; nothing if it is empty."""
        if version:
            self.seen = version
            self.echoes.pop(version, None)

    def written(self, key: str, view: V, *, own: bool = False) -> V:
        """Take the result of our own write, unless the watch is further already; return it. own: as for announce."""
        known = self._objects.get(key)
        # An absent object that the watch is past has been deleted since we wrote it.
        reference = known.resource_version if known is not None else self.seen
        if not reference or newer(view.resource_version, reference):
            self._put(key, view, own=own)
            self.echoes[view.resource_version] = None
        return view

    def _forward(self, key: str, view: V) -> None:
        known = self._objects.get(key)
        if known is None or (
            view.resource_version != known.resource_version
            and newer(view.resource_version, known.resource_version) is not False
        ):
            self._put(key, view)

    def _put(self, key: str, view: V, *, own: bool = False) -> None:
        old = self._objects.get(key)
        self._objects[key] = view
        self.announce(key, old, view, own=own)

    def _drop(self, key: str, version: str) -> None:
        """Drop an object as of a version, unless ours is newer."""
        known = self._objects.get(key)
        if known is not None and newer(known.resource_version, version) is not True:
            self.announce(key, self._objects.pop(key), None)


@dataclass(eq=False)
class ObjectInformer(Cache[V]):
    """The informer of one kind of object; see ``controlplane.app.ports.Informer``.

    selector chooses by labels, field_selector by fields; what has one is not written to through wrote.
    """

    api: ApiServer
    resource: Resource
    view: Callable[[Json], V]
    selector: str
    clock: Clock
    namespace: str = ""
    field_selector: str = ""
    chance: Callable[[], float] = _chance
    synced: bool = field(default=False, init=False)
    """The first full list has been taken."""

    def __post_init__(self) -> None:
        super().__init__()
        self._requirements = parse_selector(self.selector)
        self._handlers: list[Callable[[str], None]] = []
        self._awaited: dict[str, asyncio.Event] = {}
        self._attempts = 0
        self._problem = ""
        self._failing_since = 0.0

    def subscribe(self, handler: Callable[[str], None]) -> None:
        """Call handler with the key of each object that changed from now on."""
        self._handlers.append(handler)

    def trouble(self) -> str | None:
        """Say in words why this cannot be relied upon now, or None."""
        kind = self.resource.plural
        if self._problem:
            seconds = self.clock.monotonic() - self._failing_since
            doing = "kept current" if self.synced else "listed"
            return f"{kind} cannot be {doing} for {seconds:.0f} s: {self._problem}"
        return None if self.synced else f"{kind} are being listed"

    def wrote(self, obj: Json, *, own: bool = False) -> V:
        """Take the result of our own write into the cache; return its view. own: as for announce."""
        view = self.view(obj)
        if matches(self._requirements, fields.words(fields.mapping(obj, "metadata"), "labels")):
            self.written(reading.key(obj), view, own=own)
        return view

    async def deleted(self, key: str, uid: str) -> None:
        """Wait until the watch shows that an object is gone, but not for long: a finalizer may hold it."""
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(DELETION_SEEN_WITHIN):
                    while (known := self.get(key)) is not None and known.uid == uid:
                        await self._awaited.setdefault(key, asyncio.Event()).wait()
        finally:
            self._wake(key)

    async def run(self) -> NoReturn:
        """Keep the cache current."""
        while True:
            began = self.clock.monotonic()
            try:
                if not self.seen:
                    await self._list()
                await self._watch()
                lasting = self.clock.monotonic() - began >= SHORT_WATCH
                self._attempts = 0 if lasting else self._attempts + 1
            except Expired:
                self.seen = ""
                self._attempts += 1
            except ClusterError as error:
                self._failed(error)
            if self._attempts:
                await asyncio.sleep(RETRY.delay(self._attempts, self.chance()))

    async def _list(self) -> None:
        listed = await self.api.list(
            self.resource,
            namespace=self.namespace,
            label_selector=self.selector,
            field_selector=self.field_selector,
        )
        named = ((reading.key(obj), self.view(obj)) for obj in listed.items)
        self.replace(((key, view) for key, view in named if key), listed.resource_version)
        self.synced = True
        self._recovered()

    async def _watch(self) -> None:
        events = self.api.watch(
            self.resource,
            resource_version=self.seen,
            namespace=self.namespace,
            label_selector=self.selector,
            field_selector=self.field_selector,
            echoes=self.echoes,
        )
        async for event in events:
            self._attempts = 0
            self._recovered()
            self._take(event)

    def _take(self, event: WatchEvent) -> None:
        version = fields.text(fields.mapping(event.object, "metadata"), "resourceVersion")
        if event.type == "BOOKMARK":
            self.shown(version)
            return
        key = reading.key(event.object)
        if key and event.type == "DELETED":
            self.gone(key, version)
        elif key and event.type in ("ADDED", "MODIFIED"):
            self.changed(key, self.view(event.object))

    def announce(self, key: str, old: V | None, new: V | None, *, own: bool = False) -> None:
        """Notify those who wait for a change, or follow all."""
        self._wake(key)
        for handler in self._handlers:
            handler(key)

    def _wake(self, key: str) -> None:
        if (awaited := self._awaited.pop(key, None)) is not None:
            awaited.set()

    def _failed(self, error: ClusterError) -> None:
        self._attempts += 1
        problem = str(error) or type(error).__name__
        if not self._problem:
            self._failing_since = self.clock.monotonic()
        if problem != self._problem:
            log.warning("informer is cut off", kind=self.resource.plural, error=problem)
        self._problem = problem

    def _recovered(self) -> None:
        if self._problem:
            self._problem = ""
            seconds = round(self.clock.monotonic() - self._failing_since, 1)
            log.info("informer is current again", kind=self.resource.plural, after_seconds=seconds)


@dataclass(eq=False)
class BoundPodInformer(ObjectInformer[Pod]):
    """An informer of Pods, with an index by Node."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._by_node: dict[str, dict[str, Pod]] = defaultdict(dict)
        self._in_order: dict[str, tuple[Pod, ...]] = {}
        """What on_node returned for Nodes whose Pods have not changed since."""
        self._node_handlers: list[tuple[Callable[[str], None], bool | None]] = []
        self._removed: Recent[str, None] = Recent(ECHOES)
        """UIDs of the Pods whose removal at once was asked for."""

    def on_node(self, node_name: str) -> tuple[Pod, ...]:
        """Return the Pods bound to a Node, oldest first."""
        pods = self._by_node.get(node_name)
        if not pods:
            return ()
        found = self._in_order.get(node_name)
        if found is None:
            found = tuple(sorted(pods.values(), key=lambda pod: pod.creation_timestamp))
            self._in_order[node_name] = found
        return found

    def removing(self, uid: str) -> None:
        """Take note that we have a Pod removed at once: what becomes of it is of our making."""
        self._removed[uid] = None

    def subscribe_node(self, handler: Callable[[str], None], *, own: bool | None = None) -> None:
        """Call handler with the Node name whenever a Pod that is or was bound to it changed; see ``ports``."""
        self._node_handlers.append((handler, own))

    def announce(self, key: str, old: Pod | None, new: Pod | None, *, own: bool = False) -> None:
        """Keep the index, too."""
        # A Pod keeps its place: creation times are given to the second, and of those that were created in the same one
        # the Pod that was bound first is the older one.
        if old is not None and old.node_name and (new is None or (new.uid, new.node_name) != (old.uid, old.node_name)):
            on_old = self._by_node[old.node_name]
            on_old.pop(key, None)
            if not on_old:
                del self._by_node[old.node_name]
        if new is not None and new.node_name:
            self._by_node[new.node_name][key] = new
        nodes = {pod.node_name for pod in (old, new) if pod is not None and pod.node_name}
        for node in nodes:
            self._in_order.pop(node, None)
        super().announce(key, old, new, own=own)
        meant = (old is not None and old.uid in self._removed) or (own and _only_status_differs(old, new))
        for node in nodes:
            for handler, which in self._node_handlers:
                if which is None or which is meant:
                    handler(node)


def _only_status_differs(old: Pod | None, new: Pod | None) -> bool:
    if old is None or new is None:
        return False
    return replace(old, status=new.status, resource_version=new.resource_version) == new


class DeploymentInformer:
    """Deployments of modules, which no one label selector chooses: informers that run by themselves, and read as one.

    Selectors should have no object in common. An object that passes from one to the other is deleted from one watch and
    added to the other, in any order; its newest known version counts.
    """

    def __init__(self, *parts: ObjectInformer[ModuleDeployment]) -> None:
        self.parts = parts

    @property
    def synced(self) -> bool:
        """The first full lists of all parts have been taken."""
        return all(part.synced for part in self.parts)

    def get(self, key: str) -> ModuleDeployment | None:
        """Return the object under namespace/name."""
        found: ModuleDeployment | None = None
        for part in self.parts:
            other = part.get(key)
            if found is None or (other is not None and newer(other.resource_version, found.resource_version)):
                found = other
        return found

    def all(self) -> Iterator[ModuleDeployment]:
        """Iterate over a snapshot."""
        keys = dict.fromkeys(each.key for part in self.parts for each in part.all())
        return iter([found for key in keys if (found := self.get(key)) is not None])

    def subscribe(self, handler: Callable[[str], None]) -> None:
        """Call handler with the key of each object that changed from now on."""
        for part in self.parts:
            part.subscribe(handler)

    def written(self, key: str, view: ModuleDeployment) -> ModuleDeployment:
        """Take the result of our own write of an object that we have; return it."""
        for part in self.parts:
            if part.get(key) is not None:
                part.written(key, view)
        return view
