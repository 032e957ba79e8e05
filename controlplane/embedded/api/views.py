"""Nodes and Pods as the scheduler and the controllers see them: small, frozen, interned where they repeat.

Stored objects may carry anything in fields that validation does not look at, so
reading never raises: what has the wrong type counts as absent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from controlplane.cluster import scheduling
from controlplane.cluster.api import Json
from controlplane.domain.objects import NotUnderstood, SchedulingRules, Taint
from controlplane.embedded.api.selectors import Requirements, label_selector

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
DEFAULT_POD_CAPACITY = 110
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


@dataclass(frozen=True, slots=True)
class PodTerm:
    """Near (or not near) Pods of these namespaces that the selector matches; near is equal in topology_key."""

    namespaces: tuple[str, ...]
    selector: Requirements | None
    topology_key: str


@dataclass(frozen=True, slots=True)
class Rules:
    """What a Pod demands of its Node, and of the Pods around it; Pods of one template share one object."""

    node: SchedulingRules | NotUnderstood
    near: tuple[PodTerm, ...] = ()
    apart: tuple[PodTerm, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeView:
    """A Node. pods is how many it can hold."""

    name: str
    labels: Mapping[str, str]
    taints: tuple[Taint, ...]
    unschedulable: bool
    ready: bool
    pods: int


@dataclass(frozen=True, slots=True)
class PodView:
    """A Pod.

    Times are RFC 3339 texts; owner is the uid of its controller; blocked is why it has
    no Node yet; waits: somebody else is to place it, or to say when it may be placed.
    """

    namespace: str
    name: str
    uid: str
    node: str
    phase: str
    labels: Mapping[str, str]
    rules: Rules
    owner: str
    created: str
    deleting: bool
    ready: bool
    ready_since: str
    blocked: str
    deletion_cost: int
    restarts: int
    waits: bool

    @property
    def key(self) -> tuple[str, str]:
        """Namespace and name."""
        return self.namespace, self.name

    @property
    def finished(self) -> bool:
        """It ran to its end and takes no place any more."""
        return self.phase in ("Failed", "Succeeded")

    @property
    def active(self) -> bool:
        """It counts as a replica."""
        return not self.deleting and not self.finished


def mapping(value: Any) -> Json:
    """Return an object, or an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def mappings(value: Any) -> list[Json]:
    """Return the objects of a list, or none for anything else."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def condition(status: Json, type_: str) -> Json:
    """Return the condition of a type, or an empty one."""
    return next((item for item in mappings(status.get("conditions")) if item.get("type") == type_), {})


def controller_of(metadata: Json) -> str:
    """Return the uid of the owner that controls an object, or nothing."""
    for owner in mappings(metadata.get("ownerReferences")):
        if owner.get("controller") is True:
            return str(owner.get("uid", ""))
    return ""


def node_view(obj: Json) -> NodeView:
    """Read a Node."""
    metadata, spec, status = obj["metadata"], mapping(obj.get("spec")), mapping(obj.get("status"))
    capacity = str(mapping(status.get("allocatable")).get("pods", mapping(status.get("capacity")).get("pods")))
    return NodeView(
        name=metadata["name"],
        labels=metadata.get("labels") or {},
        taints=tuple(
            Taint(str(t.get("key", "")), str(t.get("value") or ""), str(t.get("effect", "")))
            for t in mappings(spec.get("taints"))
        ),
        unschedulable=spec.get("unschedulable") is True,
        ready=condition(status, "Ready").get("status") == "True",
        pods=int(capacity) if capacity.isdecimal() and len(capacity) < 10 else DEFAULT_POD_CAPACITY,
    )


def pod_view(obj: Json) -> PodView:
    """Read a Pod."""
    metadata, spec, status = obj["metadata"], mapping(obj.get("spec")), mapping(obj.get("status"))
    ready, scheduled = condition(status, "Ready"), condition(status, "PodScheduled")
    cost = mapping(metadata.get("annotations")).get(DELETION_COST, "0")
    restarts = [c.get("restartCount") for c in mappings(status.get("containerStatuses"))]
    return PodView(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        node=str(spec.get("nodeName") or ""),
        phase=str(status.get("phase") or "Pending"),
        labels=metadata.get("labels") or {},
        rules=rules(spec, metadata["namespace"]),
        owner=controller_of(metadata),
        created=metadata["creationTimestamp"],
        deleting="deletionTimestamp" in metadata,
        ready=ready.get("status") == "True",
        ready_since=str(ready.get("lastTransitionTime") or ""),
        blocked=str(scheduled.get("message") or "") if scheduled.get("status") == "False" else "",
        deletion_cost=int(cost) if cost.removeprefix("-").isdecimal() and len(cost) < 10 else 0,
        restarts=max((r for r in restarts if isinstance(r, int)), default=0),
        waits=bool(spec.get("schedulingGates"))
        or spec.get("schedulerName", "default-scheduler") != "default-scheduler",
    )


def rules(spec: Json, namespace: str) -> Rules:
    """Read what a Pod spec demands of its place."""
    affinity = mapping(spec.get("affinity"))
    return _interned(
        Rules(
            node=scheduling.rules(spec),
            near=_pod_terms(affinity.get("podAffinity"), namespace),
            apart=_pod_terms(affinity.get("podAntiAffinity"), namespace),
        )
    )


@lru_cache(maxsize=4096)
def _interned(rules: Rules) -> Rules:
    return rules


def _pod_terms(affinity: Any, namespace: str) -> tuple[PodTerm, ...]:
    found: list[PodTerm] = []
    for term in mappings(mapping(affinity).get(_REQUIRED)):
        named = term.get("namespaces")
        namespaces = tuple(sorted(str(n) for n in named)) if isinstance(named, list) and named else (namespace,)
        found.append(PodTerm(namespaces, label_selector(term.get("labelSelector")), str(term.get("topologyKey", ""))))
    return tuple(found)
