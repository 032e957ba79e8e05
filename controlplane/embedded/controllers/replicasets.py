"""The ReplicaSet controller: as many active Pods as spec.replicas says, and a status that tells how they are."""

from __future__ import annotations

import time
from collections import Counter

from controlplane.cluster.api import REPLICA_SETS, Json
from controlplane.embedded.api.mirror import Key, Mirror
from controlplane.embedded.api.store import EmbeddedApiServer
from controlplane.embedded.api.views import PodView, controller_of, mapping
from controlplane.embedded.controllers.replicas import availability, create_pods, delete_pods, new_pod, removal_order

BURST = 500
"""Pods created or deleted in one pass; the next pass goes on."""


async def reconcile(store: EmbeddedApiServer, mirror: Mirror, key: Key, again_in: list[float]) -> None:
    """Bring one ReplicaSet a step on. Adds to again_in after how many seconds to look again; raises ClusterError."""
    found = mirror.workloads[REPLICA_SETS].get(key)
    if found is None or "deletionTimestamp" in found["metadata"]:
        return
    active = [pod for pod in mirror.pods_of(found["metadata"]["uid"]) if pod.active]
    missing = int(found["spec"].get("replicas", 1)) - len(active)
    if missing > 0:
        pod = new_pod(REPLICA_SETS, found, {})
        await create_pods(store, [pod] * min(missing, BURST), key[0])
    elif missing < 0:
        crowd = _crowd(mirror, found, active)
        await delete_pods(store, removal_order(active, crowd)[: min(-missing, BURST)])
    if abs(missing) > BURST:
        again_in.append(0.0)
    await _write_status(store, mirror, key, again_in)


def _crowd(mirror: Mirror, replica_set: Json, active: list[PodView]) -> dict[str, int]:
    owner = controller_of(replica_set["metadata"])
    siblings = mirror.replica_sets_of(owner) if owner else []
    uids = [s["metadata"]["uid"] for s in siblings]
    pods = [pod for uid in uids for pod in mirror.pods_of(uid)] if uids else active
    return Counter(pod.node for pod in pods if pod.node and pod.active)


async def _write_status(store: EmbeddedApiServer, mirror: Mirror, key: Key, again_in: list[float]) -> None:
    found = mirror.workloads[REPLICA_SETS].get(key)
    if found is None:
        return
    metadata, minimum = found["metadata"], int(found["spec"].get("minReadySeconds") or 0)
    active = [pod for pod in mirror.pods_of(metadata["uid"]) if pod.active]
    waits = [availability(pod, minimum, time.time()) for pod in active]
    again_in.extend(wait for wait in waits if wait)
    status = {
        "replicas": len(active),
        "fullyLabeledReplicas": len(active),
        "readyReplicas": sum(pod.ready for pod in active),
        "availableReplicas": sum(wait == 0 for wait in waits),
        "observedGeneration": metadata["generation"],
    }
    await write_status(store, found, status)


async def write_status(store: EmbeddedApiServer, found: Json, status: Json) -> None:
    """Write a ReplicaSet's status if it differs."""
    before = mapping(found.get("status"))
    if any(before.get(name, 0) != value for name, value in status.items()) or "replicas" not in before:
        metadata = found["metadata"]
        patch = {"metadata": {"uid": metadata["uid"]}, "status": status}
        await store.patch(REPLICA_SETS, metadata["name"], patch, namespace=metadata["namespace"], subresource="status")
