"""Pods as replicas of a workload: made from its template, available or not, ranked for removal."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial

from controlplane.app.ports import Conflict, NotFound
from controlplane.cluster.api import PODS, Json, Resource
from controlplane.embedded.api.store import EmbeddedApiServer
from controlplane.embedded.api.views import PodView, mapping

PARALLEL_WRITES = 64
_PHASE_RANK = {"Pending": 0, "Unknown": 1, "Running": 2}


def owner_reference(resource: Resource, owner: Json) -> Json:
    """Return the reference by which a workload controls what it made."""
    return {
        "apiVersion": resource.group_version,
        "kind": resource.kind,
        "name": owner["metadata"]["name"],
        "uid": owner["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def new_pod(resource: Resource, owner: Json, labels: Json) -> Json:
    """Return a Pod of a workload's template, with more labels."""
    template = owner["spec"]["template"]
    metadata = mapping(template.get("metadata"))
    return {
        "metadata": {
            "generateName": f"{owner['metadata']['name']}-",
            "labels": {**mapping(metadata.get("labels")), **labels},
            "annotations": mapping(metadata.get("annotations")),
            "ownerReferences": [owner_reference(resource, owner)],
        },
        "spec": dict(template["spec"]),
    }


def availability(pod: PodView, min_ready_seconds: int, now: float) -> float | None:
    """Return in how many seconds the Pod is available if it stays ready (0 is now), or None while it is not ready."""
    if not pod.ready or not pod.active:
        return None
    if min_ready_seconds <= 0:
        return 0.0
    try:
        since = datetime.fromisoformat(pod.ready_since).timestamp()
    except ValueError:
        return 0.0
    return max(0.0, since + min_ready_seconds - now)


def removal_order(pods: Iterable[PodView], crowd: dict[str, int]) -> list[PodView]:
    """Sort Pods, those to be removed first in front, as Kubernetes ranks them.

    crowd is how many Pods of the same Deployment each Node has: where an old and a
    new one share a Node, the old one goes before others.
    """

    def rank(pod: PodView) -> tuple[int, int, int, int, int]:
        return (
            1 if pod.node else 0,
            _PHASE_RANK.get(pod.phase, 1),
            1 if pod.ready else 0,
            pod.deletion_cost,
            -crowd.get(pod.node, 0) if pod.node else 0,
        )

    # Stable sorts, the least important first: of equals the one that has been ready for a shorter
    # time goes, then the one that restarted more, then the younger.
    order = sorted(pods, key=lambda pod: (pod.created, pod.name), reverse=True)
    order.sort(key=lambda pod: -pod.restarts)
    order.sort(key=lambda pod: pod.ready_since, reverse=True)
    order.sort(key=rank)
    return order


async def create_pods(store: EmbeddedApiServer, pods: Iterable[Json], namespace: str) -> None:
    """Create Pods, many at a time; raises ClusterError when one cannot be made."""
    await _in_parallel([partial(store.create, PODS, pod, namespace) for pod in pods])


async def delete_pods(store: EmbeddedApiServer, pods: Iterable[PodView], grace_seconds: int | None = None) -> None:
    """Delete Pods if they still are those; raises ClusterError except where they are gone already."""

    async def delete(pod: PodView) -> None:
        with suppress(NotFound, Conflict):
            await store.delete(PODS, pod.name, namespace=pod.namespace, uid=pod.uid, grace_seconds=grace_seconds)

    await _in_parallel([partial(delete, pod) for pod in pods])


async def _in_parallel(calls: Sequence[Callable[[], Awaitable[object]]]) -> None:
    for start in range(0, len(calls), PARALLEL_WRITES):
        chunk = (call() for call in calls[start : start + PARALLEL_WRITES])
        for outcome in await asyncio.gather(*chunk, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome
