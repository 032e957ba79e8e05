"""The DaemonSet controller: one Pod on each Node that the template selects and tolerates.

Its Pods are bound from the start. Whether a Node is Ready or cordoned plays no role, as in Kubernetes.
"""

from collections.abc import Mapping

import structlog

from controlplane.cluster import fields, scheduling
from controlplane.domain.objects import NotUnderstood
from controlplane.domain.workloads.placement import REPELLING, keeps
from controlplane.embedded.api.resources import ObjectKey
from controlplane.embedded.api.store import EmbeddedApiServer
from controlplane.embedded.controllers import replicas
from controlplane.embedded.controllers.mirror import Mirror, PodView

log = structlog.get_logger(__name__)

HASH_LABEL = "controller-revision-hash"

Pods = Mapping[str, list[PodView]]
"""Pods by Node."""


async def reconcile(store: EmbeddedApiServer, mirror: Mirror, key: ObjectKey) -> float | None:
    """Bring one DaemonSet a step on; return after how many seconds to look again. Raises ClusterError."""
    if (taken := await replicas.current(store, mirror, key)) is None:
        return None
    found, pods = taken
    wanted = scheduling.rules(found["spec"]["template"]["spec"])
    if isinstance(wanted, NotUnderstood):
        cause = f"{wanted.what} is not understood"
        log.warning("DaemonSet left as it is", daemonset=f"{key.namespace}/{key.name}", cause=cause)
        return None
    revision = replicas.template_hash(found["spec"]["template"])
    counted, strategy = replicas.counts(pods, found), fields.mapping(found, "spec", "updateStrategy")
    eligible = [node.name for node in mirror.nodes.values() if keeps(wanted, node, REPELLING)]
    here: dict[str, list[PodView]] = {name: [] for name in eligible}
    elsewhere: dict[str, list[PodView]] = {}
    for pod in counted.active:
        (here if pod.node in here else elsewhere).setdefault(pod.node, []).append(pod)
    updated = {name: [p for p in each if p.labels.get(HASH_LABEL) == revision] for name, each in here.items()}

    # A Pod that is being deleted still holds its module there: its successor waits until it is gone.
    create = sorted(here.keys() - {pod.node for pod in pods})
    delete = [pod for pod in pods if pod.finished and not pod.deleting]
    for name, misplaced in elsewhere.items():
        # A NoSchedule taint keeps new Pods away and leaves those that are there.
        if name in mirror.nodes and not keeps(wanted, mirror.nodes[name]):
            delete += misplaced
    if strategy.get("type") != "OnDelete":
        surge_on, replaced = _roll(here, updated, counted, *replicas.bounds(strategy, len(eligible)))
        create += surge_on
        delete += replaced
    await replicas.delete_pods(store, delete)
    new = [replicas.new_pod(key, found, key.name, {HASH_LABEL: revision}, name) for name in create]
    await replicas.create_pods(store, new, key.namespace)

    available = sum(any(map(counted.is_available, each)) for each in here.values())
    status = {
        "desiredNumberScheduled": len(eligible),
        "currentNumberScheduled": sum(map(bool, here.values())),
        "numberMisscheduled": len(elsewhere),
        "numberReady": sum(any(pod.ready for pod in each) for each in here.values()),
        "updatedNumberScheduled": sum(map(bool, updated.values())),
        "numberAvailable": available,
        "numberUnavailable": len(eligible) - available,
        "observedGeneration": found["metadata"]["generation"],
    }
    await replicas.write_status(store, key, found, status)
    return counted.next_in


def _roll(
    here: Pods, updated: Pods, counted: replicas.Counts, surge: int, unavailable: int
) -> tuple[list[str], list[PodView]]:
    """Replace Pods of old templates within the bounds; without surge the old Pod goes before the new one comes.

    Returns the Nodes that get a Pod beside their old one, and the Pods to be deleted.
    """
    create: list[str] = []
    delete: list[PodView] = []
    down = sum(not any(map(counted.is_available, each)) for each in here.values())
    surging = sum(len(each) > 1 for each in here.values())
    for name, pods in here.items():
        new = updated[name]
        old = [pod for pod in pods if pod not in new]
        # More than one of the same template on a Node is one too many, for example after a crash.
        delete += replicas.removal_order(new, {})[:-1]
        if any(map(counted.is_available, new)) or not any(map(counted.is_available, old)):
            delete += old
        elif surge:
            if not new and surging < surge:
                create.append(name)
                surging += 1
        elif down < unavailable:
            delete += old
            down += 1
    return create, delete
