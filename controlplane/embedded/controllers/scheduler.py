"""Binds Pods that have no Node, says on others why they cannot be, removes those that cannot stay where they are.

Pods cannot stay where their Node is gone, or has a NoExecute taint that they do not tolerate. tolerationSeconds is not
counted down: a toleration holds as long as it is there.
"""

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from controlplane.app.ports import Conflict, NotFound, Rejected
from controlplane.cluster import events
from controlplane.cluster.api import DEPLOYMENTS, EVENTS, PODS, PatchType
from controlplane.domain.objects import ClusterEvent, Node, SchedulingRules
from controlplane.domain.times import rfc3339
from controlplane.domain.workloads.placement import EXPELLING, untolerated
from controlplane.embedded.api import writes
from controlplane.embedded.api.database import Transaction
from controlplane.embedded.api.resources import ObjectKey
from controlplane.embedded.api.store import EmbeddedApiServer
from controlplane.embedded.controllers.mirror import Mirror, PodView, Rules
from controlplane.embedded.controllers.nodechoice import NodeChoice
from controlplane.embedded.controllers.replicas import BURST, TEMPLATE_HASH, template_hash

ORPHAN_QUARANTINE = 10.0
"""Seconds that Pods outlive their Node, which may come back. Kubernetes takes 40 and more."""
_PLACED_BETWEEN_YIELDS = 8
_OF_TEMPLATE = ("generateName", "labels", "annotations", "ownerReferences")


async def schedule(store: EmbeddedApiServer, mirror: Mirror, _all: ObjectKey) -> float | None:
    """Find Nodes for all Pods that have none, one after the other, and write what was found at once.

    Returns after how many seconds to look again; raises ClusterError.
    """
    waiting = [pod for pod in mirror.pods_on("") if pod.active and not pod.waits]
    if not waiting:
        return None
    choice = NodeChoice(mirror.nodes.values(), mirror.pods.values())
    refused: dict[tuple[ObjectKey, Rules], str] = {}
    found: list[tuple[PodView, str, str]] = []
    for count, pod in enumerate(sorted(waiting, key=lambda pod: (pod.created, pod.key))):
        if len(found) >= BURST:
            break
        if count % _PLACED_BETWEEN_YIELDS == 0:
            await asyncio.sleep(0)
        kind = (pod.owner or pod.key, pod.rules)
        node, why_not = ("", refused[kind]) if kind in refused else choice.place(pod)
        if node:
            choice.add(pod, node)
        elif not pod.rules.near:
            refused[kind] = why_not  # Pods placed since then can only make it worse for its siblings
        if node or pod.blocked != why_not:
            found.append((pod, node, why_not))
    if found:
        await store.write(lambda transaction: _write(transaction, found))
    return 0.0 if len(found) >= BURST else None


def _write(transaction: Transaction, found: list[tuple[PodView, str, str]]) -> None:
    for pod, node, why_not in found:
        with suppress(Rejected):  # deleted, bound or another Pod meanwhile
            if node:
                writes.bind(transaction, pod.key, pod.uid, node)
                message = f"Successfully assigned {pod.key.namespace}/{pod.key.name} to {node}"
                if pod.rules.ignored:
                    message += f"; the embedded scheduler does not go by {', '.join(pod.rules.ignored)}"
                _record(transaction, pod, "Normal", "Scheduled", message)
            else:
                condition = writes.pod_scheduled("False", "Unschedulable", why_not)
                patch = {"metadata": {"uid": pod.uid}, "status": {"conditions": [condition]}}
                writes.patch(transaction, pod.key, patch, PatchType.STRATEGIC, "status")
                _record(transaction, pod, "Warning", "FailedScheduling", why_not)


def _record(transaction: Transaction, pod: PodView, type_: str, reason: str, message: str) -> None:
    event = ClusterEvent("Pod", pod.key.namespace, pod.key.name, pod.uid, type_, reason, message)
    obj = events.manifest(event, rfc3339(time.time()), "default-scheduler")
    writes.create(transaction, EVENTS, obj, pod.key.namespace)


def misplaced(pod: PodView, nodes: Mapping[str, Node]) -> bool:
    """Return whether a Pod that is bound cannot stay where it is."""
    node = nodes.get(pod.node)
    if node is None:
        return True
    rules = pod.rules.node
    return pod.active and isinstance(rules, SchedulingRules) and untolerated(rules, node.taints, EXPELLING) is not None


@dataclass(eq=False)
class Evictions:
    """Removes misplaced Pods, Node by Node. Holds a time for each Node that is gone while it has Pods."""

    store: EmbeddedApiServer
    mirror: Mirror
    quarantine: float
    _gone_since: dict[str, float] = field(default_factory=dict, init=False)

    async def reconcile(self, key: ObjectKey) -> float | None:
        """Remove the misplaced Pods of a Node; return after how many seconds to look again. Raises ClusterError."""
        pods = [pod for pod in self.mirror.pods_on(key.name) if misplaced(pod, self.mirror.nodes)]
        is_gone = key.name not in self.mirror.nodes
        if is_gone and pods:
            now = asyncio.get_running_loop().time()
            left = self._gone_since.setdefault(key.name, now) + self.quarantine - now
            if left > 0:
                return left
        if pods:
            moving = {pod.uid for pod in pods if pod.active and self._has_former_template(pod)}
            await self.store.write(lambda transaction: _evict(transaction, pods, moving, 0 if is_gone else None))
        self._gone_since.pop(key.name, None)
        return None

    def _has_former_template(self, pod: PodView) -> bool:
        owner = self.mirror.owner_of(pod)
        if owner is None or owner["kind"] != DEPLOYMENTS.kind:
            return False
        return pod.labels.get(TEMPLATE_HASH) != template_hash(owner["spec"]["template"])


def _evict(transaction: Transaction, pods: list[PodView], moving: set[str], grace_seconds: int | None) -> None:
    """Delete Pods; for those that are moving others of the same template are created, whose place is to be found.

    So what still runs the former template goes on while a rollout does not get on.
    """
    for pod in pods:
        with suppress(NotFound, Conflict):
            obj = writes.read(transaction, pod.key)
            writes.delete(transaction, pod.key, {"uid": pod.uid}, grace_seconds)
            if pod.uid in moving:
                metadata = {name: value for name, value in obj["metadata"].items() if name in _OF_TEMPLATE}
                spec = {name: value for name, value in obj["spec"].items() if name != "nodeName"}
                writes.create(transaction, PODS, {"metadata": metadata, "spec": spec}, pod.key.namespace)
