"""Views of what the store has, kept in memory for the scheduler and the controllers.

Changes arrive before their writer continues, so a controller that has written
sees its own writes: no expectations, no stale reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import orjson

from controlplane.cluster.api import DAEMON_SETS, DEPLOYMENTS, NODES, PODS, REPLICA_SETS, Json, Resource
from controlplane.embedded.api.journal import Change
from controlplane.embedded.api.store import EmbeddedApiServer
from controlplane.embedded.api.views import NodeView, PodView, controller_of, node_view, pod_view

Key: TypeAlias = tuple[str, str]
Watcher: TypeAlias = Callable[[Resource, Key], None]

_MIRRORED = (NODES, PODS, DEPLOYMENTS, REPLICA_SETS, DAEMON_SETS)


class Mirror:
    """Nodes and Pods as views, workloads as JSON (never to be changed), and who owns or hosts which Pod."""

    def __init__(self, store: EmbeddedApiServer) -> None:
        self._store = store
        self.nodes: dict[str, NodeView] = {}
        self.pods: dict[Key, PodView] = {}
        self.workloads: dict[Resource, dict[Key, Json]] = {DEPLOYMENTS: {}, REPLICA_SETS: {}, DAEMON_SETS: {}}
        self._pods_by_owner: dict[str, set[Key]] = {}
        self._pods_by_node: dict[str, set[Key]] = {}
        self._sets_by_owner: dict[str, set[Key]] = {}
        self._workload_by_uid: dict[str, tuple[Resource, Key]] = {}
        self.on_node: Callable[[NodeView | None, NodeView | None], None] = lambda _before, _after: None
        self.on_pod: Callable[[PodView | None, PodView | None], None] = lambda _before, _after: None
        self.on_workload: Watcher = lambda _resource, _key: None
        self.on_owner_deleted: Callable[[], None] = lambda: None

    async def start(self) -> Callable[[], None]:
        """Load everything, follow all changes from then on, and return how to stop that."""
        early: list[Change] = []
        stop_early = self._store.subscribe(early.append)
        reached: dict[Resource, int] = {}
        for resource in _MIRRORED:
            listed = await self._store.list(resource)
            reached[resource] = int(listed.resource_version)
            for obj in listed.items:
                self._set(resource, obj)
        stop_early()
        for change in early:
            if change.version > reached.get(change.resource, change.version):
                self._take(change)
        return self._store.subscribe(self._take)

    def pods_of(self, owner: str) -> Iterator[PodView]:
        """Iterate over the Pods that an owner, named by uid, controls."""
        return (self.pods[key] for key in self._pods_by_owner.get(owner, ()))

    def pods_on(self, node: str) -> Iterator[PodView]:
        """Iterate over the Pods bound to a Node, whether it exists or not."""
        return (self.pods[key] for key in self._pods_by_node.get(node, ()))

    def replica_sets_of(self, owner: str) -> list[Json]:
        """Return the ReplicaSets that an owner, named by uid, controls."""
        sets = self.workloads[REPLICA_SETS]
        return [sets[key] for key in self._sets_by_owner.get(owner, ())]

    def workload(self, uid: str) -> tuple[Resource, Key] | None:
        """Return which workload has a uid."""
        return self._workload_by_uid.get(uid)

    def _take(self, change: Change) -> None:
        if change.resource not in _MIRRORED:
            return
        if change.type == "DELETED":
            self._drop(change.resource, (change.namespace, change.name))
            if change.resource != PODS:
                self.on_owner_deleted()
        else:
            self._set(change.resource, orjson.loads(change.raw))

    def _set(self, resource: Resource, obj: Json) -> None:
        metadata = obj["metadata"]
        if resource == NODES:
            node = node_view(obj)
            former = self.nodes.get(node.name)
            self.nodes[node.name] = node
            self.on_node(former, node)
        elif resource == PODS:
            pod = pod_view(obj)
            before = self.pods.get(pod.key)
            if before is not None:
                self._unlink_pod(before)
            self.pods[pod.key] = pod
            _link(self._pods_by_owner, pod.owner, pod.key)
            _link(self._pods_by_node, pod.node, pod.key)
            self.on_pod(before, pod)
        else:
            key = (metadata["namespace"], metadata["name"])
            self._unlink_workload(resource, key)
            self.workloads[resource][key] = obj
            self._workload_by_uid[metadata["uid"]] = (resource, key)
            if resource == REPLICA_SETS:
                _link(self._sets_by_owner, controller_of(metadata), key)
            self.on_workload(resource, key)

    def _drop(self, resource: Resource, key: Key) -> None:
        if resource == NODES:
            self.on_node(self.nodes.pop(key[1], None), None)
        elif resource == PODS:
            pod = self.pods.get(key)
            if pod is not None:
                self._unlink_pod(pod)
                del self.pods[key]
                self.on_pod(pod, None)
        else:
            self._unlink_workload(resource, key)
            self.workloads[resource].pop(key, None)
            self.on_workload(resource, key)

    def _unlink_pod(self, pod: PodView) -> None:
        _unlink(self._pods_by_owner, pod.owner, pod.key)
        _unlink(self._pods_by_node, pod.node, pod.key)

    def _unlink_workload(self, resource: Resource, key: Key) -> None:
        before = self.workloads[resource].get(key)
        if before is not None:
            self._workload_by_uid.pop(before["metadata"]["uid"], None)
            if resource == REPLICA_SETS:
                _unlink(self._sets_by_owner, controller_of(before["metadata"]), key)


def _link(index: dict[str, set[Key]], under: str, key: Key) -> None:
    if under:
        index.setdefault(under, set()).add(key)


def _unlink(index: dict[str, set[Key]], under: str, key: Key) -> None:
    keys = index.get(under)
    if keys is not None:
        keys.discard(key)
        if not keys:
            del index[under]
