"""Pods as replicas of a workload: made from its template, counted, removed."""

import hashlib
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import orjson

from controlplane.app.ports import Conflict, NotFound
from controlplane.cluster import fields
from controlplane.cluster.api import PODS, Json
from controlplane.domain.times import parse_time
from controlplane.embedded.api import writes
from controlplane.embedded.api.database import Transaction
from controlplane.embedded.api.resources import ObjectKey
from controlplane.embedded.api.store import EmbeddedApiServer
from controlplane.embedded.api.writes import NAME_ALPHABET
from controlplane.embedded.controllers.mirror import Mirror, PodView

TEMPLATE_HASH = "pod-template-hash"
"""The label of a Deployment's Pods by which those of its current template are known."""
BURST = 500
"""Pods created, deleted or bound in one pass; the next pass goes on."""
_PHASE_RANK = {"Pending": 0, "Unknown": 1, "Running": 2}


@dataclass(frozen=True, slots=True)
class Counts:
    """The active Pods of a workload, the UIDs of those that are available, and in how many seconds the next one is."""

    active: tuple[PodView, ...]
    available: frozenset[str]
    next_in: float | None = None

    def is_available(self, pod: PodView) -> bool:
        """Return whether a Pod is available."""
        return pod.uid in self.available


def counts(pods: Iterable[PodView], workload: Json) -> Counts:
    """Count the Pods of a workload."""
    active, minimum = tuple(pod for pod in pods if pod.active), workload["spec"].get("minReadySeconds") or 0
    now = time.time()
    waits = {pod.uid: _available_in(pod, minimum, now) for pod in active if pod.ready}
    available = frozenset(uid for uid, wait in waits.items() if not wait)
    return Counts(active, available, min((wait for wait in waits.values() if wait), default=None))


def _available_in(pod: PodView, minimum: int, now: float) -> float:
    since = parse_time(pod.ready_since)
    return max(0.0, since + minimum - now) if minimum and since is not None else 0.0


def template_hash(template: Json) -> str:
    """Return the label value by which revisions of a Pod template differ."""
    digest = hashlib.sha256(orjson.dumps(template, option=orjson.OPT_SORT_KEYS)).digest()
    return "".join(NAME_ALPHABET[byte % len(NAME_ALPHABET)] for byte in digest[:10])


def bounds(strategy: Json, replicas: int) -> tuple[int, int]:
    """Return maxSurge and maxUnavailable in Pods: percentages are of replicas, surge rounds up, the other down."""
    rolling = fields.mapping(strategy, "rollingUpdate")
    surge = math.ceil(_share(rolling.get("maxSurge", 0), replicas))
    unavailable = math.floor(_share(rolling.get("maxUnavailable", 0), replicas))
    return (surge, unavailable) if surge or unavailable else (0, 1)


def _share(value: Any, of: int) -> float:
    return int(value[:-1]) * of / 100 if isinstance(value, str) else int(value)


def new_pod(key: ObjectKey, workload: Json, prefix: str, labels: Json, node: str | None = None) -> Json:
    """Return a Pod of a workload's template, with more labels, bound to a Node if one is given."""
    template = workload["spec"]["template"]
    metadata = fields.mapping(template, "metadata")
    owner = {
        "apiVersion": key.resource.group_version,
        "kind": key.resource.kind,
        "name": key.name,
        "uid": workload["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return {
        "metadata": {
            "generateName": f"{prefix}-",
            "labels": {**fields.mapping(metadata, "labels"), **labels},
            "annotations": fields.mapping(metadata, "annotations"),
            "ownerReferences": [owner],
        },
        "spec": template["spec"] if node is None else {**template["spec"], "nodeName": node},
    }


def removal_order(pods: Iterable[PodView], crowd: Mapping[str, int]) -> list[PodView]:
    """Sort Pods, those to be removed first in front, as Kubernetes ranks them.

    crowd is how many Pods of the same Deployment each Node has: where an old and a new one share a Node, the old one
    goes before others.
    """

    def rank(pod: PodView) -> tuple[bool, int, bool, int, int]:
        beside = crowd.get(pod.node, 0) if pod.node else 0
        return bool(pod.node), _PHASE_RANK.get(pod.phase, 1), pod.ready, pod.deletion_cost, -beside

    # Stable sorts, the least important first: of equals the one that has been ready for a shorter
    # time goes, then the one that restarted more, then the younger.
    order = sorted(pods, key=lambda pod: (pod.created, pod.key), reverse=True)
    order.sort(key=lambda pod: -pod.restarts)
    order.sort(key=lambda pod: pod.ready_since, reverse=True)
    order.sort(key=rank)
    return order


async def current(store: EmbeddedApiServer, mirror: Mirror, key: ObjectKey) -> tuple[Json, list[PodView]] | None:
    """Return a workload and its Pods, None if there is nothing more to do for it. Raises ClusterError.

    Removes the Pods that it had before it was deleted.
    """
    await delete_pods(store, [pod for pod in mirror.pods_of(key) if not mirror.owner_of(pod) and not pod.deleting])
    found = mirror.workloads.get(key)
    if found is None or "deletionTimestamp" in found["metadata"]:
        return None
    return found, [pod for pod in mirror.pods_of(key) if mirror.owner_of(pod)]


async def create_pods(store: EmbeddedApiServer, pods: Sequence[Json], namespace: str) -> None:
    """Create Pods; raises ClusterError when one cannot be made, and makes none then."""
    if pods:
        await store.write(lambda transaction: [writes.create(transaction, PODS, pod, namespace) for pod in pods])


async def delete_pods(store: EmbeddedApiServer, pods: Sequence[PodView]) -> None:
    """Delete Pods if they still are those; raises ClusterError except where they are gone already."""

    def operation(transaction: Transaction) -> None:
        for pod in pods:
            with suppress(NotFound, Conflict):
                writes.delete(transaction, pod.key, {"uid": pod.uid})

    if pods:
        await store.write(operation)


async def write_status(store: EmbeddedApiServer, key: ObjectKey, workload: Json, status: Json) -> None:
    """Write the status of a workload if it differs; what it no longer says is removed."""
    before = fields.mapping(workload, "status")
    if status != before:
        patch = {"metadata": {"uid": workload["metadata"]["uid"]}, "status": dict.fromkeys(before) | status}
        await store.patch(key.resource, key.name, patch, namespace=key.namespace, subresource="status")
