"""What the store has of Nodes, Pods and workloads, kept in memory for the scheduler and the controllers.

Changes arrive before their writer continues, so a controller that has written sees its own writes: no expectations, no
stale reads. Views are small, frozen, and interned where they repeat. Stored objects may carry anything in fields that
validation does not look at, so reading never raises: what has the wrong type counts as absent.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias, TypeVar

from controlplane.cluster import fields, reading, scheduling
from controlplane.cluster.api import NODES, PODS, Json
from controlplane.domain.objects import Node, NotUnderstood, Requirement, SchedulingRules
from controlplane.embedded.api.resources import WORKLOADS, ObjectKey, key_of, object_key

K = TypeVar("K", bound=Hashable)
T = TypeVar("T")

MIRRORED = (NODES, PODS, *WORKLOADS)
_WORKLOADS = {resource.kind: resource for resource in WORKLOADS}

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
DEFAULT_POD_CAPACITY = 110
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


@dataclass(frozen=True, slots=True)
class PodTerm:
    """Near (or not near) Pods of these namespaces that the selector matches; near is equal in topology_key."""

    namespaces: tuple[str, ...]
    selector: tuple[Requirement, ...] | NotUnderstood | None
    topology_key: str


@dataclass(frozen=True, slots=True)
class Rules:
    """What a Pod demands of its Node, and of the Pods around it; Pods of one template share one object."""

    node: SchedulingRules | NotUnderstood
    near: tuple[PodTerm, ...] = ()
    apart: tuple[PodTerm, ...] = ()
    ignored: tuple[str, ...] = ()
    """Fields that kube-scheduler would go by, and that are not looked at here."""


@dataclass(frozen=True, slots=True)
class PodView:
    """A Pod.

    owner is the workload that controls it. Times are RFC 3339 texts; blocked is why it has no Node yet; waits: somebody
    else is to place it, or to say when it may be placed.
    """

    key: ObjectKey
    uid: str
    node: str
    phase: str
    labels: Mapping[str, str]
    rules: Rules
    owner: ObjectKey | None
    owner_uid: str
    created: str
    deleting: bool
    ready: bool
    ready_since: str
    blocked: str
    deletion_cost: int
    restarts: int
    waits: bool

    @property
    def finished(self) -> bool:
        """It ran to its end and takes no place any more."""
        return self.phase in ("Failed", "Succeeded")

    @property
    def active(self) -> bool:
        """It counts as a replica."""
        return not self.deleting and not self.finished


_Groups: TypeAlias = dict[K, dict[ObjectKey, PodView]]


def condition(status: Json, type_: str) -> Json:
    """Return the condition of a type, or an empty one."""
    return next((each for each in fields.objects(status, "conditions") if each.get("type") == type_), {})


def is_ready(node: Node) -> bool:
    """Return whether a Node is Ready."""
    return any(each.type == "Ready" and each.status == "True" for each in node.status.conditions)


def capacity(node: Node) -> int:
    """Return how many Pods a Node can hold."""
    return _integer(node.status.allocatable.get("pods", node.status.capacity.get("pods")), DEFAULT_POD_CAPACITY)


def pod_view(obj: Json) -> PodView:
    """Read a Pod."""
    metadata, spec, status = obj["metadata"], fields.mapping(obj, "spec"), fields.mapping(obj, "status")
    ready, scheduled = condition(status, "Ready"), condition(status, "PodScheduled")
    restarts = [fields.integer(each, "restartCount") or 0 for each in fields.objects(status, "containerStatuses")]
    owner = reading.controller(metadata)
    workload = _WORKLOADS.get(fields.text(owner, "kind"))
    return fields.view(
        PodView,
        metadata,
        key=key_of(PODS, obj),
        node=fields.text(spec, "nodeName"),
        phase=fields.text(status, "phase") or "Pending",
        rules=rules(spec, metadata["namespace"], fields.words(metadata, "labels")),
        owner=object_key(workload, fields.text(owner, "name"), metadata["namespace"]) if workload else None,
        owner_uid=fields.text(owner, "uid"),
        created=metadata["creationTimestamp"],
        deleting="deletionTimestamp" in metadata,
        ready=ready.get("status") == "True",
        ready_since=fields.text(ready, "lastTransitionTime"),
        blocked=fields.text(scheduled, "message") if scheduled.get("status") == "False" else "",
        deletion_cost=_integer(fields.mapping(metadata, "annotations").get(DELETION_COST), 0),
        restarts=max(restarts, default=0),
        waits=bool(spec.get("schedulingGates"))
        or spec.get("schedulerName", "default-scheduler") != "default-scheduler",
    )


def _integer(value: Any, default: int) -> int:
    text = str(value)
    return int(text) if text.removeprefix("-").isdecimal() and len(text) < 10 else default


def rules(spec: Json, namespace: str, labels: Mapping[str, str]) -> Rules:
    """Read what a Pod with these labels demands of its place."""
    affinity = fields.mapping(spec, "affinity")
    return _interned(
        Rules(
            node=scheduling.rules(spec),
            near=_pod_terms(fields.mapping(affinity, "podAffinity"), namespace, labels),
            apart=_pod_terms(fields.mapping(affinity, "podAntiAffinity"), namespace, labels),
            ignored=tuple(_ignored(spec)),
        )
    )


def _ignored(spec: Json) -> Iterator[str]:
    if fields.objects(spec, "topologySpreadConstraints"):
        yield "topologySpreadConstraints"
    for kind in ("nodeAffinity", "podAffinity", "podAntiAffinity"):
        if fields.objects(fields.mapping(spec, "affinity", kind), _PREFERRED):
            yield f"affinity.{kind}.{_PREFERRED}"
    if any(fields.mapping(each, "resources", "requests") for each in fields.objects(spec, "containers")):
        yield "resources.requests"


@lru_cache(maxsize=4096)
def _interned(rules: Rules) -> Rules:
    return rules


def _pod_terms(affinity: Json, namespace: str, labels: Mapping[str, str]) -> tuple[PodTerm, ...]:
    return tuple(
        PodTerm(
            tuple(sorted(fields.texts(term, "namespaces"))) or (namespace,),
            scheduling.pod_selector(term, labels),
            fields.text(term, "topologyKey"),
        )
        for term in fields.objects(affinity, "requiredDuringSchedulingIgnoredDuringExecution")
    )


class Mirror:
    """Nodes and Pods as views, workloads as JSON (never to be changed), and who owns or hosts which Pod."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {}
        self.pods: dict[ObjectKey, PodView] = {}
        self.workloads: dict[ObjectKey, Json] = {}
        self._pods_by_owner: _Groups[ObjectKey | None] = {}
        self._pods_by_node: _Groups[str] = {}

    def pods_of(self, owner: ObjectKey) -> list[PodView]:
        """Return the Pods that a workload controls, and those that an earlier one of its name did."""
        return list(self._pods_by_owner.get(owner, {}).values())

    def owner_of(self, pod: PodView) -> Json | None:
        """Return the workload that controls a Pod, None if there is none or it is gone."""
        found = self.workloads.get(pod.owner) if pod.owner is not None else None
        return found if found is not None and found["metadata"]["uid"] == pod.owner_uid else None

    def pods_on(self, node: str) -> list[PodView]:
        """Return the Pods bound to a Node, whether it exists or not; with an empty name those that have none."""
        return list(self._pods_by_node.get(node, {}).values())

    def take(self, key: ObjectKey, obj: Json | None) -> PodView | None:
        """Take the new state of an object, None when it is gone; return how it looked before if it is a Pod."""
        if key.resource == NODES:
            _replace(self.nodes, key.name, reading.node(obj) if obj is not None else None)
        elif key.resource in WORKLOADS:
            _replace(self.workloads, key, obj)
        else:
            pod = pod_view(obj) if obj is not None else None
            before = _replace(self.pods, key, pod)
            _move(self._pods_by_owner, key, before, pod, lambda pod: pod.owner)
            _move(self._pods_by_node, key, before, pod, lambda pod: pod.node)
            return before
        return None


def _replace(group: dict[K, T], key: K, after: T | None) -> T | None:
    before = group.pop(key, None) if after is None else group.get(key)
    if after is not None:
        group[key] = after
    return before


def _move(
    groups: _Groups[K], key: ObjectKey, before: PodView | None, after: PodView | None, group_of: Callable[[PodView], K]
) -> None:
    if before is not None:
        group = groups[group_of(before)]
        del group[key]
        if not group:
            del groups[group_of(before)]
    if after is not None:
        groups.setdefault(group_of(after), {})[key] = after
