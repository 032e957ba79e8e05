"""How far a rollout is, and what keeps it: counted as kubectl counts, explained as we know it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from controlplane.domain.base.replies import CONTEXT_PATH_TAKEN
from controlplane.domain.base.vpod import WAITING_FOR_BATCH
from controlplane.domain.objects import Condition, Container, ContainerStatus, Pod, Requirement
from controlplane.domain.revisions import Releasing
from controlplane.domain.workloads.placement import matches

FINAL = frozenset({"InvalidModule", "UnsupportedField", "IdentityMismatch", "CommandNotSupported"})
"""Reasons with which nothing is tried again until the Pod, the jar or the base changes."""

FAILURES = FINAL | frozenset(
    {"InstallFailed", "ArtifactUnavailable", "MetaspaceFull", "SwitchFailed", "Broken", CONTEXT_PATH_TAKEN}
)
"""Reasons with which a module did not come up: a new version with one of these is not released further."""

_ON_ITS_WAY = frozenset({"", "Pending", "Installing", "Starting", WAITING_FOR_BATCH})


@dataclass(frozen=True, slots=True)
class Workload:
    """A Deployment or DaemonSet, with the counts of its status.

    observed: its controller has taken up the newest specification. total counts all its Pods, of any specification.
    selector chooses them; None chooses none. containers are those of the template. failure is why its controller makes
    no progress.
    """

    kind: str
    namespace: str
    name: str
    observed: bool
    desired: int
    updated: int
    available: int
    total: int
    selector: tuple[Requirement, ...] | None
    containers: tuple[Container, ...]
    failure: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    releasing: Releasing | None = None


@dataclass(frozen=True, slots=True)
class Part:
    """Something that a rollout waits for until it is ready; reason and message say why it is not.

    It is a module of a Pod, or one without a Pod, a Pod, or all that is on a VNode: what it is not about is empty.
    """

    vnode: str
    pod: str = ""
    module: str = ""
    ready: bool = False
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class ModuleOnBase:
    """What one base has of a module; unreachable says why it cannot be counted on (empty: it can)."""

    vnode: str
    parts: tuple[Part, ...]
    unreachable: str = ""


@dataclass(frozen=True, slots=True)
class Rollout:
    """How far it is. old counts Pods of former specifications; failure is why it does not get on by itself.

    troubles are what keeps it from its end.
    """

    observed: bool
    desired: int
    updated: int
    available: int
    old: int = 0
    failure: str = ""
    troubles: tuple[Part, ...] = ()

    @property
    def done(self) -> bool:
        """There is nothing more to wait for."""
        return self.observed and self.old == 0 and self.updated >= self.desired and self.available >= self.desired


def of_workload(workload: Workload, pods: Iterable[Pod]) -> Rollout:
    """Return how far a workload is; pods may be any, those of its newest specification are looked at."""
    new = [
        pod
        for pod in pods
        if pod.namespace == workload.namespace
        and not pod.deleting
        and workload.selector is not None
        and matches(workload.selector, pod.labels)
        and _wants(pod.containers) == _wants(workload.containers)
    ]
    troubles = tuple(trouble for pod in new for trouble in _of_pod(pod))
    return Rollout(
        observed=workload.observed,
        desired=workload.desired,
        updated=workload.updated,
        available=workload.available,
        old=max(workload.total - workload.updated, 0),
        failure=workload.failure or _final(troubles),
        troubles=troubles,
    )


def of_module(bases: Sequence[ModuleOnBase]) -> Rollout:
    """Return how far a module is on the bases that should have it."""
    troubles = tuple(trouble for base in bases for trouble in _on_base(base))
    return Rollout(
        observed=True,
        desired=len(bases),
        updated=sum(1 for base in bases if base.parts),
        available=sum(
            1 for base in bases if base.parts and not base.unreachable and all(part.ready for part in base.parts)
        ),
        failure=_final(troubles),
        troubles=troubles,
    )


def part(pod: Pod, container: Container) -> Part:
    """Return how a module of a Pod stands."""
    status = pod.status.of(container)
    return Part(pod.node_name, pod.key, str(container.key), status.ready, *why(pod, status))


def why(pod: Pod, status: ContainerStatus) -> tuple[str, str]:
    """Return why a module of a Pod is not ready: reason and message, of a running one those of the condition."""
    if status.kind != "running" or status.ready:
        return status.reason, status.message
    return "NotReady", Condition.of(pod.status.conditions, "ContainersReady").message


def _wants(containers: Iterable[Container]) -> list[tuple[str, str, str]]:
    return [(container.name, container.version, container.image) for container in containers]


def _of_pod(pod: Pod) -> Iterator[Part]:
    scheduled = Condition.of(pod.status.conditions, "PodScheduled")
    if not pod.node_name and scheduled.status == "False":
        yield Part("", pod.key, reason=scheduled.reason, message=scheduled.message)
    yield from _stuck(part(pod, container) for container in pod.containers)
    ready = Condition.of(pod.status.conditions, "Ready")
    if ready.status == "False" and ready.reason not in ("", "ContainersNotReady"):
        yield Part(pod.node_name, pod.key, reason=ready.reason, message=ready.message)


def _on_base(base: ModuleOnBase) -> Iterator[Part]:
    if base.unreachable:
        yield Part(base.vnode, reason="BaseUnreachable", message=base.unreachable)
    yield from _stuck(base.parts)


def _stuck(parts: Iterable[Part]) -> Iterator[Part]:
    return (part for part in parts if not part.ready and part.reason not in _ON_ITS_WAY)


def _final(troubles: Iterable[Part]) -> str:
    found = next((trouble for trouble in troubles if trouble.reason in FINAL), None)
    return f"{found.module} on {found.vnode}: {found.reason}: {found.message}" if found is not None else ""
