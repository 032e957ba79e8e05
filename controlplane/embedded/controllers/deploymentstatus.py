"""A Deployment's status and conditions from the counts of its Pods: pure."""

from __future__ import annotations

from datetime import datetime

from controlplane.cluster.api import Json
from controlplane.embedded.api.objects import timestamp
from controlplane.embedded.api.views import condition, mapping
from controlplane.embedded.controllers.rollout import bounds


def deployment_status(
    deployment: Json, *, replicas: int, updated: int, ready: int, available: int, now: float
) -> tuple[Json, float | None]:
    """Return the status and in how many seconds the progress deadline is to be looked at, if it runs.

    Counts that are zero are left out, as the API does it. now is in seconds since the epoch.
    """
    spec, before = deployment["spec"], mapping(deployment.get("status"))
    wanted = int(spec.get("replicas", 1))
    counts = {
        "replicas": replicas,
        "updatedReplicas": updated,
        "readyReplicas": ready,
        "availableReplicas": available,
        "unavailableReplicas": max(0, wanted - available),
    }
    status: Json = {name: count for name, count in counts.items() if count}
    status["observedGeneration"] = deployment["metadata"]["generation"]
    rolling = mapping(mapping(spec.get("strategy")).get("rollingUpdate"))
    _, unavailable = bounds(rolling, wanted) if rolling else (0, wanted)
    enough = available >= wanted - unavailable
    conditions = [
        _condition(
            before,
            "Available",
            "True" if enough else "False",
            "MinimumReplicasAvailable" if enough else "MinimumReplicasUnavailable",
            "Deployment has minimum availability." if enough else "Deployment does not have minimum availability.",
            now,
        )
    ]
    progressing, look_again = _progress(deployment, counts, wanted, now)
    status["conditions"] = [*conditions, progressing]
    return status, look_again


def _progress(deployment: Json, counts: dict[str, int], wanted: int, now: float) -> tuple[Json, float | None]:
    spec, before = deployment["spec"], mapping(deployment.get("status"))
    name = deployment["metadata"]["name"]
    former = condition(before, "Progressing")
    done = counts["updatedReplicas"] == wanted == counts["replicas"] == counts["availableReplicas"]
    if done:
        message = f'Deployment "{name}" has successfully progressed.'
        return _condition(before, "Progressing", "True", "NewReplicaSetAvailable", message, now), None
    moved = (
        not former
        or before.get("observedGeneration") != deployment["metadata"]["generation"]
        or any(counts[c] > before.get(c, 0) for c in ("updatedReplicas", "readyReplicas", "availableReplicas"))
        or counts["replicas"] - counts["updatedReplicas"] < before.get("replicas", 0) - before.get("updatedReplicas", 0)
    )
    deadline = float(spec.get("progressDeadlineSeconds") or 600)
    message = f'Deployment "{name}" is progressing.'
    if moved:
        fresh = _condition(before, "Progressing", "True", "ReplicaSetUpdated", message, now)
        return {**fresh, "lastUpdateTime": timestamp(now)}, deadline
    left = _seconds(former.get("lastUpdateTime"), now) + deadline - now
    if former.get("reason") == "NewReplicaSetAvailable" or left > 0:
        # A finished rollout that lost replicas stays finished: availability tells it.
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
        "lastUpdateTime": timestamp(now),
        "lastTransitionTime": since or timestamp(now),
    }


def _seconds(text: object, default: float) -> float:
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return default
