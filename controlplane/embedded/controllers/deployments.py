"""The Deployment controller. Its Pods bear a hash of their template, by which those of the current one are known."""

import time
from collections import Counter
from typing import TypeAlias

from controlplane.cluster import fields
from controlplane.cluster.api import Json
from controlplane.domain.times import parse_time, rfc3339
from controlplane.embedded.api.resources import ObjectKey
from controlplane.embedded.api.store import EmbeddedApiServer
from controlplane.embedded.controllers import replicas
from controlplane.embedded.controllers.mirror import Mirror, PodView, condition

Step: TypeAlias = tuple[int, list[PodView]]
"""How many Pods of the current template are to be created now, and which Pods are to be deleted."""


async def reconcile(store: EmbeddedApiServer, mirror: Mirror, key: ObjectKey) -> float | None:
    """Bring one Deployment a step on; return after how many seconds to look again. Raises ClusterError."""
    if (found := await replicas.current(store, mirror, key)) is None:
        return None
    deployment, pods = found
    revision = replicas.template_hash(deployment["spec"]["template"])

    create, delete = _next(deployment, revision, pods)
    await replicas.delete_pods(store, delete[: replicas.BURST])
    pod = replicas.new_pod(key, deployment, f"{key.name}-{revision}", {replicas.TEMPLATE_HASH: revision})
    await replicas.create_pods(store, [pod] * min(create, replicas.BURST), key.namespace)

    counted = replicas.counts([pod for pod in mirror.pods_of(key) if mirror.owner_of(pod)], deployment)
    updated = sum(pod.labels.get(replicas.TEMPLATE_HASH) == revision for pod in counted.active)
    status, look_again = deployment_status(deployment, counted, updated, time.time())
    await replicas.write_status(store, key, deployment, status)
    waits = [wait for wait in (look_again, counted.next_in) if wait is not None]
    return 0.0 if max(create, len(delete)) > replicas.BURST else min(waits, default=None)


def _next(deployment: Json, revision: str, pods: list[PodView]) -> Step:
    spec, strategy = deployment["spec"], fields.mapping(deployment, "spec", "strategy")
    wanted = int(spec["replicas"])
    new = replicas.counts((pod for pod in pods if pod.labels.get(replicas.TEMPLATE_HASH) == revision), deployment)
    others = [pod for pod in pods if pod.labels.get(replicas.TEMPLATE_HASH) != revision]
    old = replicas.counts(others, deployment)
    has_run = new.active or fields.mapping(deployment, "status").get("updatedReplicas")
    if spec.get("paused") is True and (old.active or not has_run):
        return 0, []
    if strategy.get("type") != "Recreate":
        return next_step(wanted, *replicas.bounds(strategy, wanted), new, old)
    if old.active:
        return 0, list(old.active)
    # Pods that are being deleted still hold their modules: nothing new before they are gone.
    return (0, []) if any(not pod.finished for pod in others) else next_step(wanted, 0, wanted, new, old)


def next_step(wanted: int, surge: int, unavailable: int, new: replicas.Counts, old: replicas.Counts) -> Step:
    """Return the next step of a rolling update.

    Invariants, for every step:
        available after the step >= wanted - unavailable   (unless it was lower before)
        Pods after the step      <= wanted + surge         (unless it was higher before)
    """
    total, minimum = len(new.active) + len(old.active), wanted - unavailable
    crowd = Counter(pod.node for pod in (*new.active, *old.active))
    if len(new.active) > wanted:
        return 0, replicas.removal_order(new.active, crowd)[: len(new.active) - wanted]
    room = wanted + surge - total
    if len(new.active) < wanted and room > 0:
        return min(room, wanted - len(new.active)), []
    may_go = max(0, total - minimum - (len(new.active) - len(new.available)))
    order = replicas.removal_order(old.active, crowd)
    # Pods that are not available go first: removing them costs nothing.
    unhealthy = [pod for pod in order if not old.is_available(pod)][:may_go]
    spare = min(len(new.available) + len(old.available) - minimum, may_go - len(unhealthy))
    return 0, unhealthy + [pod for pod in order if old.is_available(pod)][: max(0, spare)]


def deployment_status(deployment: Json, pods: replicas.Counts, updated: int, now: float) -> tuple[Json, float | None]:
    """Return the status and in how many seconds the progress deadline is to be looked at, if it runs.

    Counts that are zero are left out, as the API does it. now is in seconds since the epoch.
    """
    spec, before = deployment["spec"], fields.mapping(deployment, "status")
    wanted, strategy = int(spec["replicas"]), fields.mapping(spec, "strategy")
    found = {
        "replicas": len(pods.active),
        "updatedReplicas": updated,
        "readyReplicas": sum(pod.ready for pod in pods.active),
        "availableReplicas": len(pods.available),
        "unavailableReplicas": max(0, wanted - len(pods.available)),
    }
    unavailable = replicas.bounds(strategy, wanted)[1] if strategy.get("type") == "RollingUpdate" else wanted
    if len(pods.available) >= wanted - unavailable:
        available = ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    else:
        available = ("False", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    progressing, look_again = _progress(deployment, found, now)
    status: Json = {name: count for name, count in found.items() if count}
    status["observedGeneration"] = deployment["metadata"]["generation"]
    status["conditions"] = [_condition(before, "Available", *available, now), progressing]
    return status, look_again


def _progress(deployment: Json, found: dict[str, int], now: float) -> tuple[Json, float | None]:
    spec, metadata, before = deployment["spec"], deployment["metadata"], fields.mapping(deployment, "status")
    name, former = metadata["name"], condition(before, "Progressing")
    if found["updatedReplicas"] == spec["replicas"] == found["replicas"] == found["availableReplicas"]:
        message = f'Deployment "{name}" has successfully progressed.'
        return _condition(before, "Progressing", "True", "NewReplicaSetAvailable", message, now), None
    moved = (
        not former
        or before.get("observedGeneration") != metadata["generation"]
        or any(found[c] > before.get(c, 0) for c in ("updatedReplicas", "readyReplicas", "availableReplicas"))
        or found["replicas"] - found["updatedReplicas"] < before.get("replicas", 0) - before.get("updatedReplicas", 0)
    )
    deadline = float(spec.get("progressDeadlineSeconds") or 600)
    if moved:
        message = f'Deployment "{name}" is progressing.'
        fresh = _condition(before, "Progressing", "True", "ReplicaSetUpdated", message, now)
        return {**fresh, "lastUpdateTime": rfc3339(now)}, deadline
    since = parse_time(fields.text(former, "lastUpdateTime"))
    left = deadline if since is None else since + deadline - now
    if former.get("reason") == "NewReplicaSetAvailable" or left > 0:
        # A finished rollout that lost replicas stays finished: the condition Available reports it.
        return former, max(left, 1.0) if left > 0 else None
    message = f'Deployment "{name}" has timed out progressing.'
    return _condition(before, "Progressing", "False", "ProgressDeadlineExceeded", message, now), None


def _condition(before: Json, type_: str, value: str, reason: str, message: str, now: float) -> Json:
    """Return the former condition if it says the same, else a new one whose transition time moves with its status."""
    former = condition(before, type_)
    if (former.get("status"), former.get("reason"), former.get("message")) == (value, reason, message):
        return former
    since = former.get("lastTransitionTime") if former.get("status") == value else None
    return {
        "type": type_,
        "status": value,
        "reason": reason,
        "message": message,
        "lastUpdateTime": rfc3339(now),
        "lastTransitionTime": since or rfc3339(now),
    }
