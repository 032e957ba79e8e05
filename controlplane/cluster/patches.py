"""Bodies of writes, from views. Pure.

Statuses are strategic merge patches: conditions merge by type, so that those of others stay, and containerStatuses are
replaced whole. Everything else is a JSON merge patch, which replaces lists: taints are therefore merged here and
written under the resource version that they were read with.
"""

from collections.abc import Iterable
from dataclasses import asdict

from controlplane.cluster import fields
from controlplane.cluster.api import LEASES, NODES, PODS, Json
from controlplane.domain.base.vnode import outdated
from controlplane.domain.contract import ANNOTATION_RELEASE, BIZ_VERSION_ENV, POD_TEMPLATE_HASH
from controlplane.domain.objects import (
    Condition,
    Container,
    ContainerKind,
    ContainerStatus,
    Lease,
    ModuleDeployment,
    Node,
    NodeStatus,
    Pod,
    PodStatus,
    Taint,
    Toleration,
)

_STATUS_LISTS = {
    ContainerKind.CONTAINER: "containerStatuses",
    ContainerKind.INIT: "initContainerStatuses",
    ContainerKind.SIDECAR: "initContainerStatuses",
    ContainerKind.EPHEMERAL: "ephemeralContainerStatuses",
}

_RESTRICTED_POD: Json = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
_RESTRICTED_CONTAINER: Json = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
"""What the standard asks for. It says nothing of a module, which runs as its base does."""


def new_node(spec: Node, now: str) -> Json:
    """Return a Node with its status."""
    metadata = {"name": spec.name, "labels": dict(spec.labels), "annotations": dict(spec.annotations)}
    details = {"taints": [_filled(taint) for taint in spec.taints], **node_spec(Node(spec.name), spec)}
    if spec.unschedulable:
        details["unschedulable"] = True
    return NODES.manifest(metadata, spec=details, status=_node_status(spec.status, now))


def node_metadata(current: Node, spec: Node) -> Json:
    """Return the part of metadata that differs from spec; empty when nothing does."""
    changed: dict[str, Json] = {
        "labels": dict(spec.labels.items() - current.labels.items()),
        "annotations": {
            **dict(spec.annotations.items() - current.annotations.items()),
            **dict.fromkeys(outdated(current, spec)),
        },
    }
    return fields.filled(changed)


def node_spec(current: Node, spec: Node) -> Json:
    """Return the part of a Node's spec that differs, taints left out; empty when nothing does."""
    return {"providerID": spec.provider_id} if spec.provider_id and not current.provider_id else {}


def merged_taints(obj: Json, wanted: Iterable[Taint]) -> list[Json]:
    """Return the taints of a Node as read, with ours put in; a taint is the same by key and effect."""
    ours = {(taint.key, taint.effect): _filled(taint) for taint in wanted}
    others = [
        taint
        for taint in fields.objects(fields.mapping(obj, "spec"), "taints")
        if (fields.text(taint, "key"), fields.text(taint, "effect")) not in ours
    ]
    return others + list(ours.values())


def node_status(current: Node | None, status: NodeStatus, now: str) -> Json:
    """Return the patch of a Node's status; what current has and status has not is removed, conditions excepted."""
    body = _node_status(status, now)
    if current is not None:
        for name, before, after in (
            ("capacity", current.status.capacity, status.capacity),
            ("allocatable", current.status.allocatable, status.allocatable),
        ):
            body[name].update({key: None for key in before if key not in after})
        kept = {kind for kind, _ in status.addresses}
        body["addresses"] += [
            {"$patch": "delete", "type": kind} for kind, _ in current.status.addresses if kind not in kept
        ]
        if current.status.kubelet_port and not status.kubelet_port:
            body["daemonEndpoints"] = _daemon_endpoints(0)
    return {"status": body}


def pod_status(pod: Pod, status: PodStatus) -> Json:
    """Return the patch of a Pod's status, for this Pod and no later one of its name.

    Conditions that the Pod has already are left out, so that a condition that somebody else changed meanwhile is not
    set back. Their order is that of status.
    """
    known = set(pod.status.conditions)
    return {
        "metadata": {"uid": pod.uid},
        "status": {
            "phase": status.phase,
            "reason": status.reason or None,
            "message": status.message or None,
            "podIP": status.pod_ip or None,
            "hostIP": status.host_ip or None,
            "startTime": status.start_time or None,
            "$setElementOrder/conditions": [{"type": each.type} for each in status.conditions],
            "conditions": [_condition(each) for each in status.conditions if each not in known],
            **_container_statuses(pod, status),
        },
    }


def rejection(pod: Pod, reason: str, message: str, now: str) -> Json:
    """Return the patch by which a kubelet rejects a Pod (rejectPod in pkg/kubelet/kubelet.go), for this version of it.

    A Pod that was a module until somebody took its label may be Ready.
    """
    unready = [Condition(kind, "False", "PodFailed", "", now) for kind in ("Ready", "ContainersReady")]
    return {
        "metadata": {"uid": pod.uid, "resourceVersion": pod.resource_version},
        "status": {
            "phase": "Failed",
            "reason": reason,
            "message": message,
            "conditions": [_condition(each) for each in unready],
        },
    }


def _container_statuses(pod: Pod, status: PodStatus) -> Json:
    """Return the statuses of all containers, each in the list of its kind; modules come first in theirs."""
    kinds = {other.name: _STATUS_LISTS[other.kind] for other in pod.others}
    lists: Json = {"containerStatuses": [_container_status(each) for each in status.containers]}
    for each in status.others:
        lists.setdefault(kinds.get(each.name, "containerStatuses"), []).append(_container_status(each))
    return lists


def release(deployment: ModuleDeployment, state: str, condition: Condition) -> Json:
    """Return the patch of a Deployment's status that says how far its release is.

    Annotations may be written with a status; so no right to change the Deployment itself is needed.
    """
    metadata = {"resourceVersion": deployment.resource_version, "annotations": {ANNOTATION_RELEASE: state}}
    return {"metadata": metadata, "status": {"conditions": [_condition(condition)]}}


def pod_condition(pod: Pod, condition: Condition) -> Json:
    """Return the patch that adds a condition to this Pod and no later one of its name."""
    return {"metadata": {"uid": pod.uid}, "status": {"conditions": [_condition(condition)]}}


def template_of(replica_set: Json) -> Json:
    """Return the template of a ReplicaSet's Deployment: without the label that the Deployment controller adds."""
    template = fields.mapping(replica_set, "spec", "template")
    metadata = fields.mapping(template, "metadata")
    labels = {name: value for name, value in fields.pairs(metadata, "labels") if name != POD_TEMPLATE_HASH}
    return {**template, "metadata": {**metadata, "labels": labels}}


def difference(before: Json, after: Json) -> Json:
    """Return the merge patch that makes one object of another."""
    patch: Json = dict.fromkeys(before.keys() - after.keys())
    for name, value in after.items():
        former = before.get(name)
        if isinstance(value, dict) and isinstance(former, dict):
            if inner := difference(former, value):
                patch[name] = inner
        elif value != former:
            patch[name] = value
    return patch


def new_lease(lease: Lease) -> Json:
    """Return a Lease."""
    return LEASES.manifest(_metadata(lease), spec=_lease_spec(lease))


def lease(lease: Lease) -> Json:
    """Return the patch that writes holder, times, transitions and annotations if the version still is the lease's."""
    metadata: Json = {"resourceVersion": lease.resource_version}
    if lease.annotations:
        metadata["annotations"] = dict(lease.annotations)
    return {"metadata": metadata, "spec": _lease_spec(lease)}


def new_pod(pod: Pod) -> Json:
    """Return a Pod that is bound to its Node, and that the Pod security standard "restricted" admits."""
    spec = {
        "nodeName": pod.node_name,
        "securityContext": _RESTRICTED_POD,
        "containers": [_container(each) for each in pod.containers],
        "tolerations": [_filled(each) for each in pod.tolerations],
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
    }
    return PODS.manifest(_metadata(pod), spec=spec)


def _metadata(view: Lease | Pod) -> Json:
    return {
        "name": view.name,
        "namespace": view.namespace,
        "labels": dict(view.labels),
        "annotations": dict(view.annotations),
    }


def _filled(rule: Taint | Toleration) -> Json:
    return fields.filled(asdict(rule))


def _daemon_endpoints(kubelet_port: int) -> Json:
    # Its name begins with a capital letter in Kubernetes.
    return {"kubeletEndpoint": {"Port": kubelet_port}}


def _node_status(status: NodeStatus, now: str) -> Json:
    endpoints = {"daemonEndpoints": _daemon_endpoints(status.kubelet_port)} if status.kubelet_port else {}
    return {
        **endpoints,
        "conditions": [{**_condition(each), "lastHeartbeatTime": now} for each in status.conditions],
        "addresses": [{"type": kind, "address": address} for kind, address in status.addresses],
        "capacity": dict(status.capacity),
        "allocatable": dict(status.allocatable),
        "nodeInfo": {
            "operatingSystem": status.operating_system,
            "architecture": status.architecture,
            "machineID": status.machine_id,
            "kubeletVersion": status.kubelet_version,
            "containerRuntimeVersion": status.runtime_version,
        },
    }


def _condition(condition: Condition) -> Json:
    return {
        "type": condition.type,
        "status": condition.status,
        "reason": condition.reason,
        "message": condition.message,
        "lastTransitionTime": condition.last_transition_time or None,
    }


def _container_status(status: ContainerStatus) -> Json:
    return {
        "name": status.name,
        "ready": status.ready,
        "started": status.started,
        "restartCount": status.restart_count,
        "image": status.image,
        "imageID": status.image,
        # As in the original: a base has no other name for it.
        "containerID": status.name,
        "state": {status.kind: _state(status)} if status.kind else {},
    }


def _state(status: ContainerStatus) -> Json:
    state: Json = {}
    if status.kind != "running":
        state = {"reason": status.reason, "message": status.message}
    if status.kind != "waiting":
        state["startedAt"] = status.started_at
    if status.kind == "terminated":
        state |= {"exitCode": status.exit_code, "finishedAt": status.finished_at}
    return {name: value for name, value in state.items() if value != ""}


def _lease_spec(lease: Lease) -> Json:
    return {
        # Empty rather than absent where nobody holds it: the original crashes on a Lease without the field.
        "holderIdentity": lease.holder,
        "leaseDurationSeconds": lease.duration_seconds or None,
        "acquireTime": lease.acquire_time or None,
        "renewTime": lease.renew_time or None,
        "leaseTransitions": lease.transitions,
    }


def _container(container: Container) -> Json:
    env: list[Json] = [
        {"name": name, "value": value}
        for name, value in container.env
        if name != BIZ_VERSION_ENV and isinstance(value, str)
    ]
    if container.version:
        env.insert(0, {"name": BIZ_VERSION_ENV, "value": container.version})
    return {
        "name": container.name,
        "image": container.image,
        "args": list(container.args),
        "env": env,
        "securityContext": _RESTRICTED_CONTAINER,
    }
