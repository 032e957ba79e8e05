"""What runs beside the store: scheduler, workload controllers, garbage collection, housekeeping.

Everything is level-triggered: a change only marks keys dirty, a pass reads the
mirror and goes one step, and a failed pass is tried again with backoff.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from enum import Enum
from typing import NoReturn, TypeAlias

import structlog

from controlplane.app.ports import ClusterError, Conflict, NotFound
from controlplane.cluster.api import DAEMON_SETS, DEPLOYMENTS, REPLICA_SETS, Resource
from controlplane.domain.backoff import Backoff
from controlplane.embedded.api.mirror import Key, Mirror
from controlplane.embedded.api.store import EmbeddedApiServer
from controlplane.embedded.api.views import NodeView, PodView, controller_of
from controlplane.embedded.controllers import daemonsets, deployments, replicasets
from controlplane.embedded.controllers.eviction import ORPHAN_QUARANTINE, Evictions, misplaced
from controlplane.embedded.controllers.scheduler import Scheduler
from controlplane.embedded.controllers.workqueue import WorkQueue

log = structlog.get_logger(__name__)

RETRY = Backoff(first=0.1, longest=30.0)
HOUSEKEEPING_INTERVAL = 30.0
"""Seconds between prunings of Events and sweeps for objects without owner."""
_GARBAGE_BATCH = 200


class Work(Enum):
    """What a dirty key stands for."""

    DEPLOYMENT = "Deployment"
    REPLICA_SET = "ReplicaSet"
    DAEMON_SET = "DaemonSet"
    EVICTION = "Pod"
    GARBAGE = "Garbage"


DirtyKey: TypeAlias = tuple[Work, Key]
_Pass: TypeAlias = Callable[[Key, list[float]], Awaitable[None]]

_WORK = {DEPLOYMENTS: Work.DEPLOYMENT, REPLICA_SETS: Work.REPLICA_SET, DAEMON_SETS: Work.DAEMON_SET}
_GARBAGE: DirtyKey = (Work.GARBAGE, ("", ""))


class EmbeddedCluster:
    """Store and controllers together: run() makes Deployments into Pods and binds Pods to Nodes.

    orphan_quarantine is in seconds: how long Pods outlive their Node.
    """

    def __init__(self, store: EmbeddedApiServer, *, orphan_quarantine: float = ORPHAN_QUARANTINE) -> None:
        self._store = store
        self._mirror = Mirror(store)
        self._queue: WorkQueue[DirtyKey] = WorkQueue()
        self._scheduler = Scheduler(store, self._mirror)
        self._evictions = Evictions(store, self._mirror, orphan_quarantine)
        self._failures: dict[DirtyKey, int] = {}
        self._mirror.on_node = self._node_changed
        self._mirror.on_pod = self._pod_changed
        self._mirror.on_workload = self._workload_changed
        self._mirror.on_owner_deleted = lambda: self._queue.add(_GARBAGE)

    @property
    def store(self) -> EmbeddedApiServer:
        """The API server that the controllers work on."""
        return self._store

    async def run(self) -> NoReturn:
        """Run everything until cancelled; to be started once.

        Raises ClusterError if the store cannot be read, StorageDamaged in a group once it turns out to be broken.
        """
        stop = await self._mirror.start()
        self._queue.add(_GARBAGE)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._scheduler.run(), name="embedded-scheduler")
                group.create_task(self._reconcile_all(), name="embedded-controllers")
                group.create_task(self._housekeeping(), name="embedded-housekeeping")
                group.create_task(self._store.until_damaged(), name="embedded-damage")
        finally:
            stop()
            self._queue.close()
        raise AssertionError("the tasks above never return")

    def _node_changed(self, before: NodeView | None, after: NodeView | None) -> None:
        self._scheduler.node_changed(before, after)
        if before is not None and after is not None and (before.labels, before.taints) == (after.labels, after.taints):
            return
        for key in self._mirror.workloads[DAEMON_SETS]:
            self._queue.add((Work.DAEMON_SET, key))
        node = after or before
        for pod in self._mirror.pods_on(node.name) if node else ():
            self._queue.add((Work.EVICTION, pod.key))

    def _pod_changed(self, before: PodView | None, after: PodView | None) -> None:
        self._scheduler.pod_changed(before, after)
        if before == after:
            return
        for pod in (before, after):
            owner = self._mirror.workload(pod.owner) if pod and pod.owner else None
            if owner is not None:
                self._workload_changed(*owner)
        if after is not None and misplaced(after, self._mirror.nodes):
            self._queue.add((Work.EVICTION, after.key))

    def _workload_changed(self, resource: Resource, key: Key) -> None:
        self._queue.add((_WORK[resource], key))
        if resource == REPLICA_SETS:
            found = self._mirror.workloads[resource].get(key)
            owner = self._mirror.workload(controller_of(found["metadata"])) if found else None
            if owner is not None:
                self._queue.add((_WORK[owner[0]], owner[1]))

    async def _reconcile_all(self) -> NoReturn:
        while True:
            work, key = await self._queue.get()
            await self._reconcile(work, key)
            await asyncio.sleep(0)

    async def _reconcile(self, work: Work, key: Key) -> None:
        dirty = (work, key)
        again_in: list[float] = []
        try:
            await self._pass(work)(key, again_in)
        except ClusterError as error:
            failures = self._failures[dirty] = self._failures.get(dirty, 0) + 1
            again_in.append(RETRY.delay(failures, random.random()))  # noqa: S311 - jitter
            if not isinstance(error, NotFound | Conflict):  # those only say that it changed under the pass
                log.warning("a controller's pass failed", kind=work.value, object="/".join(key), error=str(error))
        else:
            self._failures.pop(dirty, None)
        if again_in:
            self._queue.add_after(dirty, min(again_in))

    def _pass(self, work: Work) -> _Pass:
        match work:
            case Work.DEPLOYMENT:
                return lambda key, again_in: deployments.reconcile(self._store, self._mirror, key, again_in)
            case Work.REPLICA_SET:
                return lambda key, again_in: replicasets.reconcile(self._store, self._mirror, key, again_in)
            case Work.DAEMON_SET:
                return lambda key, again_in: daemonsets.reconcile(self._store, self._mirror, key, again_in)
            case Work.EVICTION:
                loop = asyncio.get_running_loop()
                return lambda key, again_in: self._evictions.reconcile(key, again_in, loop.time())
            case Work.GARBAGE:
                return self._collect_garbage

    async def _collect_garbage(self, _key: Key, again_in: list[float]) -> None:
        found = await self._store.ownerless(_GARBAGE_BATCH)
        for ref in found:
            try:
                await self._store.delete(ref.resource, ref.name, namespace=ref.namespace, uid=ref.uid)
            except (NotFound, Conflict):
                continue
        if len(found) == _GARBAGE_BATCH:
            again_in.append(0.0)

    async def _housekeeping(self) -> NoReturn:
        while True:
            try:
                pruned = await self._store.prune_events()
            except ClusterError as error:
                log.warning("cannot prune Events", error=str(error))
            else:
                if pruned:
                    log.debug("Events pruned", count=pruned)
            self._queue.add(_GARBAGE)  # what named an owner that was gone already
            await asyncio.sleep(HOUSEKEEPING_INTERVAL)
