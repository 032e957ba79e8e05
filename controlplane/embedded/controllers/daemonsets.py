"""The DaemonSet controller: one Pod on each Node that the template selects and tolerates.

Its Pods are bound from the start. Whether a Node is Ready or cordoned plays no
role, as in Kubernetes.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import structlog

from controlplane.cluster.api import DAEMON_SETS, Json
from controlplane.domain.objects import NotUnderstood, SchedulingRules
from controlplane.domain.workloads.placement import REPELLING, keeps
from controlplane.embedded.api.mirror import Key, Mirror
from controlplane.embedded.api.store import EmbeddedApiServer
from controlplane.embedded.api.views import PodView, mapping, rules
from controlplane.embedded.controllers.replicas import availability, create_pods, delete_pods, new_pod, removal_order
from controlplane.embedded.controllers.rollout import bounds, template_hash

log = structlog.get_logger(__name__)

HASH_LABEL = "controller-revision-hash"


@dataclass(slots=True)
class _Plan:
    """What one pass does, and what it saw."""

    create_on: list[str] = field(default_factory=list)
    delete: list[PodView] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)


async def reconcile(store: EmbeddedApiServer, mirror: Mirror, key: Key, again_in: list[float]) -> None:
    """Bring one DaemonSet a step on. Adds to again_in after how many seconds to look again; raises ClusterError."""
    found = mirror.workloads[DAEMON_SETS].get(key)
    if found is None or "deletionTimestamp" in found["metadata"]:
        return
    wanted = rules(found["spec"]["template"]["spec"], found["metadata"]["namespace"]).node
    if isinstance(wanted, NotUnderstood):
        log.warning("DaemonSet left as it is", daemonset="/".join(key), cause=f"{wanted.what} is not understood")
        return
    plan = _plan(mirror, found, wanted, again_in)
    revision = template_hash(found["spec"]["template"])
    await delete_pods(store, plan.delete)
    pods = []
    for node in plan.create_on:
        pod = new_pod(DAEMON_SETS, found, {HASH_LABEL: revision})
        pod["spec"]["nodeName"] = node
        pods.append(pod)
    await create_pods(store, pods, key[0])
    status = {**plan.counts, "observedGeneration": found["metadata"]["generation"]}
    if any(mapping(found.get("status")).get(name) != value for name, value in status.items()):
        patch = {"metadata": {"uid": found["metadata"]["uid"]}, "status": status}
        await store.patch(DAEMON_SETS, key[1], patch, namespace=key[0], subresource="status")


def _plan(mirror: Mirror, found: Json, wanted: SchedulingRules, again_in: list[float]) -> _Plan:
    spec, metadata = found["spec"], found["metadata"]
    revision, now = template_hash(spec["template"]), time.time()
    minimum = int(spec.get("minReadySeconds") or 0)
    by_node: dict[str, list[PodView]] = {}
    for pod in mirror.pods_of(metadata["uid"]):
        by_node.setdefault(pod.node, []).append(pod)
    eligible = _eligible(mirror, wanted)
    plan = _Plan()
    available: dict[str, bool] = {}
    for pod in (p for pods in by_node.values() for p in pods):
        wait = availability(pod, minimum, now)
        available[pod.uid] = wait == 0
        if wait:
            again_in.append(wait)
        if pod.finished and not pod.deleting:
            plan.delete.append(pod)
    _missing_and_misplaced(mirror, wanted, eligible, by_node, plan)
    current = {node: [p for p in pods if p.active] for node, pods in by_node.items() if node in eligible}
    updated = {n: [p for p in pods if p.labels.get(HASH_LABEL) == revision] for n, pods in current.items()}
    if mapping(spec.get("updateStrategy")).get("type") != "OnDelete":
        surge, unavailable = bounds(mapping(mapping(spec.get("updateStrategy")).get("rollingUpdate")), len(eligible))
        _roll(eligible, current, updated, available, surge, unavailable, plan)
    usable = [n for n in eligible if any(available[p.uid] for p in current.get(n, ()))]
    plan.counts = {
        "desiredNumberScheduled": len(eligible),
        "currentNumberScheduled": sum(bool(current.get(n)) for n in eligible),
        "numberMisscheduled": sum(any(p.active for p in by_node[n]) for n in by_node if n not in eligible),
        "numberReady": sum(any(p.ready for p in current.get(n, ())) for n in eligible),
        "updatedNumberScheduled": sum(bool(updated.get(n)) for n in eligible),
        "numberAvailable": len(usable),
        "numberUnavailable": len(eligible) - len(usable),
    }
    return plan


def _eligible(mirror: Mirror, wanted: SchedulingRules) -> list[str]:
    return [node.name for node in mirror.nodes.values() if keeps(wanted, node, REPELLING)]


def _missing_and_misplaced(
    mirror: Mirror, wanted: SchedulingRules, eligible: list[str], by_node: dict[str, list[PodView]], plan: _Plan
) -> None:
    # A Pod that is being deleted still holds its module there: its successor waits until it is gone.
    plan.create_on.extend(name for name in eligible if not by_node.get(name))
    chosen = set(eligible)
    for name, pods in by_node.items():
        node = mirror.nodes.get(name)
        if name in chosen or node is None:
            continue
        # A NoSchedule taint keeps new Pods away and leaves those that are there.
        if not keeps(wanted, node):
            plan.delete.extend(pod for pod in pods if pod.active)


def _roll(
    eligible: list[str],
    current: dict[str, list[PodView]],
    updated: dict[str, list[PodView]],
    available: dict[str, bool],
    surge: int,
    unavailable: int,
    plan: _Plan,
) -> None:
    """Replace Pods of old templates within the bounds; without surge the old Pod goes before the new one comes."""
    down = sum(not any(available[p.uid] for p in current.get(n, ())) for n in eligible)
    surging = sum(len(current.get(n, ())) > 1 for n in eligible)
    for node in eligible:
        old = [p for p in current.get(node, ()) if p not in updated.get(node, ())]
        # More than one of the same template on a Node is one too many, for example after a crash.
        extra = removal_order(updated.get(node, ()), {})[:-1]
        plan.delete.extend(extra)
        if not old:
            continue
        replaced = any(available[p.uid] for p in updated.get(node, ()))
        if replaced or not any(available[p.uid] for p in old):
            plan.delete.extend(old)
        elif surge:
            if not updated.get(node) and surging < surge:
                plan.create_on.append(node)
                surging += 1
        elif down < unavailable:
            plan.delete.extend(old)
            down += 1
