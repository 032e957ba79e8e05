"""Informers: a list, then a watch from its version, for ever.

A watch that ends is taken up where it was; Expired and only Expired makes a new
list. Failures are retried with jittered backoff. Nothing is dropped from the
cache because the cluster cannot be reached: what is known stays known, and
``trouble`` says since when it may be out of date.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Generic, NoReturn, TypeVar

import structlog

from controlplane.app.ports import Clock, ClusterError
from controlplane.cluster import fields, objects
from controlplane.cluster.api import ApiServer, Expired, Json, Resource, WatchEvent
from controlplane.cluster.cache import Cache, Versioned
from controlplane.cluster.selector import Selector
from controlplane.domain.backoff import Backoff
from controlplane.domain.objects import Pod

log = structlog.get_logger(__name__)

RETRY = Backoff(first=0.5, longest=10.0)
"""Four watches a replica are no load for a server that comes back, and work waits for them."""
SHORT_WATCH = 1.0
"""Seconds; a watch that ends sooner is taken up again only after a delay."""

V = TypeVar("V", bound=Versioned)
_chance = random.SystemRandom().random


class ObjectInformer(Generic[V]):
    """The informer of one kind of object; see ``controlplane.app.ports.Informer``."""

    def __init__(
        self,
        api: ApiServer,
        resource: Resource,
        view: Callable[[Json], V],
        *,
        selector: Selector,
        clock: Clock,
        namespace: str = "",
        chance: Callable[[], float] = _chance,
    ) -> None:
        self._api = api
        self._resource = resource
        self._view = view
        self._selector = selector
        self._namespace = namespace
        self._clock = clock
        self._chance = chance
        self._cache: Cache[V] = Cache(self._announce)
        self._handlers: list[Callable[[str], None]] = []
        self._awaited: dict[str, set[asyncio.Future[None]]] = defaultdict(set)
        self._synced = False
        self._stale = True
        self._attempts = 0
        self._problem = ""
        self._failing_since = 0.0

    @property
    def synced(self) -> bool:
        """The first full list has been taken."""
        return self._synced

    def get(self, key: str) -> V | None:
        """Return the object under namespace/name, or name for Nodes."""
        return self._cache.get(key)

    def all(self) -> Iterator[V]:
        """Iterate over a snapshot."""
        return self._cache.all()

    def keys(self) -> Iterator[str]:
        """Iterate over a snapshot of the keys."""
        return self._cache.keys()

    def __len__(self) -> int:
        return len(self._cache)

    def subscribe(self, handler: Callable[[str], None]) -> None:
        """Call handler with the key of each object that changed from now on."""
        self._handlers.append(handler)

    def trouble(self) -> str | None:
        """Say in words why this cannot be relied upon now, or None."""
        kind = self._resource.plural
        if self._problem:
            seconds = self._clock.monotonic() - self._failing_since
            doing = "kept current" if self._synced else "listed"
            return f"{kind} cannot be {doing} for {seconds:.0f} s: {self._problem}"
        return None if self._synced else f"{kind} are being listed"

    def wrote(self, obj: Json) -> V:
        """Take the result of our own write into the cache; return its view."""
        view = self._view(obj)
        if self._selector.matches(fields.words(fields.mapping(obj, "metadata"), "labels")):
            self._cache.wrote(objects.key(obj), view)
        return view

    def wrote_part(self, key: str, view: V) -> V:
        """Take the result of a write that told only a part of an object that we have; return it."""
        self._cache.wrote(key, view)
        return view

    async def settled(self, key: str, done: Callable[[V | None], bool], patience: float) -> bool:
        """Wait until done is true of the object under key, at most patience seconds; tell whether it is."""
        try:
            async with asyncio.timeout(patience):
                while not done(self._cache.get(key)):
                    await self._next_change(key)
        except TimeoutError:
            return False
        return True

    async def run(self) -> NoReturn:
        """Keep the cache current."""
        while True:
            began = self._clock.monotonic()
            try:
                if self._stale:
                    await self._list()
                await self._watch()
                lasting = self._clock.monotonic() - began >= SHORT_WATCH
                self._attempts = 0 if lasting else self._attempts + 1
            except Expired:
                self._stale = True
                self._attempts += 1
            except ClusterError as error:
                self._failed(error)
            if self._attempts:
                await asyncio.sleep(RETRY.delay(self._attempts, self._chance()))

    async def _list(self) -> None:
        listed = await self._api.list(self._resource, namespace=self._namespace, label_selector=str(self._selector))
        named = ((objects.key(obj), self._view(obj)) for obj in listed.items)
        self._cache.replace(((key, view) for key, view in named if key), listed.resource_version)
        self._stale = False
        self._synced = True
        self._recovered()

    async def _watch(self) -> None:
        events = self._api.watch(
            self._resource,
            resource_version=self._cache.seen,
            namespace=self._namespace,
            label_selector=str(self._selector),
        )
        async for event in events:
            self._attempts = 0
            self._recovered()
            self._take(event)

    def _take(self, event: WatchEvent) -> None:
        if event.type == "BOOKMARK":
            self._cache.told_version(fields.text(fields.mapping(event.object, "metadata"), "resourceVersion"))
            return
        key = objects.key(event.object)
        if not key:
            return
        if event.type == "DELETED":
            self._cache.told_gone(key, self._view(event.object))
        elif event.type in ("ADDED", "MODIFIED"):
            self._cache.told(key, self._view(event.object))

    def _announce(self, key: str, _old: V | None, _new: V | None) -> None:
        for waiter in self._awaited.pop(key, ()):
            if not waiter.done():
                waiter.set_result(None)
        for handler in self._handlers:
            handler(key)

    async def _next_change(self, key: str) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._awaited[key].add(waiter)
        try:
            await waiter
        finally:
            waiters = self._awaited.get(key)
            if waiters is not None:
                waiters.discard(waiter)
                if not waiters:
                    del self._awaited[key]

    def _failed(self, error: ClusterError) -> None:
        self._attempts += 1
        problem = str(error) or type(error).__name__
        if not self._problem:
            self._failing_since = self._clock.monotonic()
        if problem != self._problem:
            log.warning("informer is cut off", kind=self._resource.plural, error=problem)
        self._problem = problem

    def _recovered(self) -> None:
        if self._problem:
            self._problem = ""
            seconds = round(self._clock.monotonic() - self._failing_since, 1)
            log.info("informer is current again", kind=self._resource.plural, after_seconds=seconds)


class ModulePodInformer(ObjectInformer[Pod]):
    """The informer of module Pods, with an index by Node."""

    def __init__(
        self,
        api: ApiServer,
        resource: Resource,
        view: Callable[[Json], Pod],
        *,
        selector: Selector,
        clock: Clock,
        chance: Callable[[], float] = _chance,
    ) -> None:
        super().__init__(api, resource, view, selector=selector, clock=clock, chance=chance)
        self._by_node: dict[str, dict[str, Pod]] = defaultdict(dict)
        self._node_handlers: list[Callable[[str], None]] = []

    def on_node(self, node_name: str) -> tuple[Pod, ...]:
        """Return the Pods bound to a Node, oldest first."""
        pods = self._by_node.get(node_name)
        return tuple(sorted(pods.values(), key=_created)) if pods else ()

    def subscribe_node(self, handler: Callable[[str], None]) -> None:
        """Call handler with the Node name whenever a Pod that is or was bound to it changed."""
        self._node_handlers.append(handler)

    def _announce(self, key: str, old: Pod | None, new: Pod | None) -> None:
        nodes = {pod.node_name for pod in (old, new) if pod is not None and pod.node_name}
        # A Pod keeps its place: creation times are told to the second, and of those that were created in the same
        # one the Pod that was bound first is the older one.
        if old is not None and old.node_name and (new is None or _identity(new) != _identity(old)):
            on_old = self._by_node[old.node_name]
            on_old.pop(key, None)
            if not on_old:
                del self._by_node[old.node_name]
        if new is not None and new.node_name:
            self._by_node[new.node_name][key] = new
        super()._announce(key, old, new)
        for node in nodes:
            for handler in self._node_handlers:
                handler(node)


def _created(pod: Pod) -> str:
    return pod.creation_timestamp


def _identity(pod: Pod) -> tuple[str, str]:
    return pod.uid, pod.node_name
