"""What runs beside the store: scheduler, workload controllers, evictions, removal of what nobody needs any more.

Everything is level-triggered: a change only marks keys dirty, a pass reads the mirror and goes one step, and a failed
pass is tried again with backoff.
"""

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import NoReturn, TypeAlias

import structlog

from controlplane.app.ports import ClusterError, Conflict, NotFound
from controlplane.cluster.api import DAEMON_SETS, DEPLOYMENTS, EVENTS, NODES, PODS, Json, Resource
from controlplane.domain.backoff import Backoff
from controlplane.embedded.api import writes
from controlplane.embedded.api.database import Change
from controlplane.embedded.api.resources import WORKLOADS, ObjectKey, key_of, object_key
from controlplane.embedded.api.store import EmbeddedApiServer
from controlplane.embedded.controllers import daemonsets, deployments
from controlplane.embedded.controllers.mirror import MIRRORED, Mirror, PodView
from controlplane.embedded.controllers.scheduler import ORPHAN_QUARANTINE, Evictions, misplaced, schedule
from service.limits import Recent

log = structlog.get_logger(__name__)

RETRY = Backoff(first=0.1, longest=30.0)
PRUNING_INTERVAL = 30.0
"""Seconds between prunings of Events."""
NODES_TOGETHER = 0.1
"""Seconds; Nodes that come in a crowd make the Pods without a place look again once, not once each."""

COOLING = 0.05
"""Seconds between two passes over the same key."""
COOLING_AT_ONCE = 4096

Pass: TypeAlias = Callable[[ObjectKey], Awaitable[float | None]]
"""Goes a step for a dirty key and returns after how many seconds to look again. Raises ClusterError."""

_SCHEDULING = ObjectKey(PODS, "", "")
"""Stands for all Pods that have no Node."""
_PRUNING = ObjectKey(EVENTS, "", "")
"""Stands for all Events."""


class WorkQueue:
    """A set of dirty keys, in the order in which they are due.

    A key waits at most once. Marked again soon after it was taken, it waits for the rest of the cooling time, so that a
    crowd of events costs few passes while the first event is served at once.
    """

    def __init__(self, cooling: float = COOLING) -> None:
        self._cooling = cooling
        self._due: asyncio.Queue[ObjectKey] = asyncio.Queue()
        self._timers: dict[ObjectKey, tuple[float, asyncio.Handle]] = {}
        """When each key is due, and what puts it there: a timer of uvloop that is due at once does not say when."""
        self._taken: Recent[ObjectKey, float] = Recent(COOLING_AT_ONCE)

    def add(self, key: ObjectKey, delay: float = 0.0) -> None:
        """Mark a key dirty, now or after some seconds; the earliest of several times counts."""
        loop = asyncio.get_running_loop()
        due = max(loop.time() + delay, self._taken.get(key, -math.inf) + self._cooling)
        waits_until, timer = self._timers.get(key, (math.inf, None))
        if due < waits_until:
            if timer is not None:
                timer.cancel()
            self._timers[key] = due, loop.call_at(due, self._due.put_nowait, key)

    async def get(self) -> ObjectKey:
        """Wait for a key that is due and take it."""
        key = await self._due.get()
        self._timers.pop(key, None)
        self._taken[key] = asyncio.get_running_loop().time()
        return key


class EmbeddedCluster:
    """Store and controllers together: run() makes Deployments into Pods and binds Pods to Nodes.

    orphan_quarantine is in seconds: how long Pods outlive their Node.
    """

    def __init__(self, store: EmbeddedApiServer, *, orphan_quarantine: float = ORPHAN_QUARANTINE) -> None:
        self._store = store
        self._mirror = mirror = Mirror()
        self._queue = WorkQueue()
        self._failures: dict[ObjectKey, int] = {}
        self._passes: Mapping[Resource, Pass] = {
            DEPLOYMENTS: partial(deployments.reconcile, store, mirror),
            DAEMON_SETS: partial(daemonsets.reconcile, store, mirror),
            NODES: Evictions(store, mirror, orphan_quarantine).reconcile,
            PODS: partial(schedule, store, mirror),
            EVENTS: self._prune_events,
        }

    async def run(self) -> NoReturn:
        """Run everything until cancelled; to be started once.

        Raises ClusterError if the store cannot be read, StorageDamaged in a group once it turns out to be broken.
        """
        try:
            await self._follow()
            self._queue.add(_PRUNING)
            async with asyncio.TaskGroup() as group:
                group.create_task(self._reconcile_all(), name="embedded-controllers")
                group.create_task(self._store.until_damaged(), name="embedded-damage")
        finally:
            self._store.subscribers.clear()
        raise AssertionError("the tasks above never return")

    async def _follow(self) -> None:
        """Take everything that is there and all changes from then on."""
        newer: set[ObjectKey] = set()
        self._store.subscribers += [self._changed, lambda change: newer.add(change.key)]
        for resource in MIRRORED:
            for obj in (await self._store.list(resource)).items:
                key = key_of(resource, obj)
                if key not in newer:
                    self._take(key, obj)
        self._store.subscribers[:] = [self._changed]

    def _changed(self, change: Change) -> None:
        if change.key.resource in MIRRORED:
            self._take(change.key, change.obj())

    def _take(self, key: ObjectKey, obj: Json | None) -> None:
        before = self._mirror.take(key, obj)
        if key.resource in WORKLOADS:
            self._queue.add(key)
        elif key.resource == NODES:
            self._queue.add(key)
            self._queue.add(_SCHEDULING, NODES_TOGETHER)
            for workload in self._mirror.workloads:
                if workload.resource == DAEMON_SETS:
                    self._queue.add(workload)
        elif before != (after := self._mirror.pods.get(key)):
            self._pod_changed(before, after)

    def _pod_changed(self, before: PodView | None, after: PodView | None) -> None:
        for pod in (before, after):
            if pod is not None and pod.owner is not None:
                self._queue.add(pod.owner)
        if after is not None and not after.node:
            self._queue.add(_SCHEDULING)
            return
        if after is not None and misplaced(after, self._mirror.nodes):
            self._queue.add(object_key(NODES, after.node))
        if after is None or after.finished or any(pod.rules.near for pod in self._mirror.pods_on("")):
            self._queue.add(_SCHEDULING, NODES_TOGETHER)

    async def _reconcile_all(self) -> NoReturn:
        while True:
            key = await self._queue.get()
            try:
                again_in = await self._passes[key.resource](key)
                self._failures.pop(key, None)
            except ClusterError as error:
                again_in = self._failed(key, error)
            if again_in is not None:
                self._queue.add(key, again_in)
            await asyncio.sleep(0)

    def _failed(self, key: ObjectKey, error: ClusterError) -> float:
        if not isinstance(error, NotFound | Conflict):  # those only say that it changed under the pass
            name = f"{key.namespace}/{key.name}"
            log.warning("a controller's pass failed", kind=key.resource.kind, object=name, error=str(error))
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        return RETRY.delay(failures, random.random())  # noqa: S311 - jitter

    async def _prune_events(self, _all: ObjectKey) -> float:
        await self._store.write(writes.prune_events)
        return PRUNING_INTERVAL
