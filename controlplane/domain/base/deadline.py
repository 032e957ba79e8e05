"""activeDeadlineSeconds: a Pod that is active for longer has failed for good, and its modules leave the base."""

from collections.abc import Iterable
from dataclasses import replace

from controlplane.domain.objects import Condition, ContainerStatus, Pod, PodStatus
from controlplane.domain.times import parse_time, rfc3339

REASON = "DeadlineExceeded"
MESSAGE = "Pod was active on the node longer than the specified deadline"
"""Both are a kubelet's words."""

_ENDED = 143
"""Exit code of a process that ended on SIGTERM."""


def has_failed(pod: Pod) -> bool:
    """Return whether the Pod's status says that it was active for too long."""
    return pod.status.phase == "Failed" and pod.status.reason == REASON


def remaining(pod: Pod, wall: float) -> float | None:
    """Return the seconds until a Pod has been active for too long, at least 0; None when it never will be."""
    if pod.active_deadline is None or pod.status.terminal:
        return None
    began = parse_time(pod.status.start_time)
    return None if began is None else max(began + pod.active_deadline - wall, 0.0)


def next_at(pods: Iterable[Pod], now: float, wall: float) -> float | None:
    """Return when the next of these Pods will have been active for too long, in the time of now."""
    times = [left for pod in pods if (left := remaining(pod, wall))]
    return now + min(times) if times else None


def failed(pod: Pod, wall: float) -> PodStatus:
    """Return the status of a Pod that was active for too long."""
    now = rfc3339(wall)
    ours = (Condition(kind, "False", "PodFailed", MESSAGE, now) for kind in ("Ready", "ContainersReady"))
    return replace(
        pod.status,
        phase="Failed",
        reason=REASON,
        message=MESSAGE,
        containers=tuple(_ended(status, now) for status in pod.status.containers),
        conditions=Condition.merged(ours, pod.status.conditions),
    )


def _ended(status: ContainerStatus, now: str) -> ContainerStatus:
    return replace(
        status,
        kind="terminated",
        ready=False,
        started=False,
        reason=REASON,
        message="",
        exit_code=_ENDED,
        started_at=status.started_at or now,
        finished_at=now,
    )
