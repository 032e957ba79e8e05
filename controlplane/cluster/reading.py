"""From objects as JSON to the views of ``controlplane.domain``.

Total functions: any JSON object gives a view, with what is missing or malformed left empty. Only what the control plane
needs is kept, and texts that repeat from object to object are stored once: these views are the memory of the process.
Typed models of the official client cost three times the CPU.
"""

from collections.abc import Mapping
from sys import intern

from controlplane.cluster import containers, fields, scheduling
from controlplane.cluster.api import DEPLOYMENTS, Json
from controlplane.domain import contract
from controlplane.domain.base.environment import Facts
from controlplane.domain.contract import ENV, MAX_MODULE_COUNT
from controlplane.domain.endpoint import Service, ServicePort
from controlplane.domain.objects import (
    Condition,
    Container,
    ContainerStatus,
    Lease,
    LimitedPod,
    ModuleDeployment,
    Node,
    NodeStatus,
    NotUnderstood,
    Pod,
    PodStatus,
    Taint,
)
from controlplane.domain.revisions import NEEDS_PERSON, PROGRESS_DEADLINE, Releasing, Revision
from controlplane.domain.sharing import shared
from controlplane.domain.workloads.rollout import Workload

FOREIGN_ANNOTATION_LIMIT = 1024
"""Characters; longer annotations that are not of Koupleless (kubectl's copy of the manifest, say) are not kept."""
_OWN_DOMAIN = "koupleless.io/"
_MOST_DIGITS = 18


def key(obj: Json) -> str:
    """Return namespace/name, or name for what has no namespace; empty if there is no name."""
    meta = fields.mapping(obj, "metadata")
    name, namespace = fields.text(meta, "name"), fields.text(meta, "namespace")
    return f"{namespace}/{name}" if name and namespace else name


def pod(obj: Json) -> Pod:
    """View a Pod."""
    meta, spec = fields.mapping(obj, "metadata"), fields.mapping(obj, "spec")
    modules = containers.modules(spec)
    others = containers.others(spec, modules)
    facts = fields.view(
        Facts,
        meta,
        annotations=_annotations(meta, containers.referenced_annotations(modules)),
        service_account=fields.word(spec, "serviceAccountName"),
        node=fields.word(spec, "nodeName") or None,
    )
    return fields.view(
        Pod,
        meta,
        node_name=fields.word(spec, "nodeName"),
        containers=containers.views(modules, spec, facts),
        status=pod_status(fields.mapping(obj, "status"), frozenset(other.name for other in others)),
        labels=facts.labels,
        annotations=facts.annotations,
        readiness_gates=tuple(fields.word(gate, "conditionType") for gate in fields.objects(spec, "readinessGates")),
        **_life(meta),
        service_account=facts.service_account,
        active_deadline=fields.integer(spec, "activeDeadlineSeconds"),
        others=others,
        ignored=intern(containers.ignored(spec, modules, others)),
    )


def limited_pod(obj: Json) -> LimitedPod:
    """View a Pod that limits the modules of the base in it."""
    meta, spec, status = (fields.mapping(obj, part) for part in ("metadata", "spec", "status"))
    addresses = (fields.word(status, "podIP"), *(fields.word(each, "ip") for each in fields.objects(status, "podIPs")))
    return fields.view(
        LimitedPod,
        meta,
        addresses=tuple(dict.fromkeys(address for address in addresses if address)),
        host_network=fields.flag(spec, "hostNetwork"),
        ended=fields.text(status, "phase") in ("Succeeded", "Failed"),
        limit=fields.words(meta, "labels").get(MAX_MODULE_COUNT, ""),
    )


def foreign_pod(obj: Json) -> Pod:
    """View what matters of a Pod that is no module: there is one of these for every Pod of the cluster that starts."""
    meta = fields.mapping(obj, "metadata")
    return fields.view(
        Pod,
        meta,
        node_name=fields.word(fields.mapping(obj, "spec"), "nodeName"),
        containers=(),
        status=PodStatus(phase=fields.word(fields.mapping(obj, "status"), "phase") or "Pending"),
        labels={},
        annotations={},
        **_life(meta),
    )


def _life(meta: Json) -> Json:
    """Return by whom a Pod was made, and whether it is to go."""
    owner = controller(meta)
    return {
        "owner_uid": fields.word(owner, "uid"),
        "owner_name": fields.word(owner, "name"),
        "owner_kind": fields.word(owner, "kind"),
        "deleting": bool(fields.text(meta, "deletionTimestamp")),
        "deletion_grace_seconds": fields.integer(meta, "deletionGracePeriodSeconds"),
    }


def _template_containers(obj: Json) -> tuple[Container, ...]:
    template = fields.mapping(obj, "spec", "template")
    meta, spec = fields.mapping(template, "metadata"), fields.mapping(template, "spec")
    facts = Facts(
        namespace=fields.word(fields.mapping(obj, "metadata"), "namespace"),
        labels=fields.words(meta, "labels"),
        annotations=dict(fields.pairs(meta, "annotations")),
        service_account=fields.word(spec, "serviceAccountName"),
    )
    return containers.views(containers.modules(spec), spec, facts)


def pod_status(status: Json, others: frozenset[str] = frozenset()) -> PodStatus:
    """View a Pod's status; others are the names of containers that are not modules."""
    statuses = [_container_status(each) for each in fields.objects(status, "containerStatuses")]
    beside = fields.objects(status, "initContainerStatuses") + fields.objects(status, "ephemeralContainerStatuses")
    return PodStatus(
        phase=fields.word(status, "phase") or "Pending",
        reason=fields.word(status, "reason"),
        message=fields.text(status, "message"),
        pod_ip=fields.word(status, "podIP"),
        host_ip=fields.word(status, "hostIP"),
        start_time=fields.text(status, "startTime"),
        conditions=fields.views(Condition, status, "conditions"),
        containers=tuple(each for each in statuses if each.name not in others),
        others=(*(each for each in statuses if each.name in others), *map(_container_status, beside)),
    )


def node(obj: Json) -> Node:
    """View a Node."""
    meta, spec, status = (fields.mapping(obj, part) for part in ("metadata", "spec", "status"))
    info = fields.mapping(status, "nodeInfo")
    return fields.view(
        Node,
        meta,
        annotations=_annotations(meta),
        taints=fields.views(Taint, spec, "taints"),
        unschedulable=fields.flag(spec, "unschedulable"),
        provider_id=fields.text(spec, "providerID"),
        status=fields.view(
            NodeStatus,
            info,
            conditions=fields.views(Condition, status, "conditions"),
            addresses=tuple(
                (fields.word(each, "type"), fields.word(each, "address"))
                for each in fields.objects(status, "addresses")
            ),
            capacity=fields.words(status, "capacity"),
            allocatable=fields.words(status, "allocatable"),
            runtime_version=fields.word(info, "containerRuntimeVersion"),
            machine_id=fields.word(info, "machineID"),
            kubelet_port=fields.integer(fields.mapping(status, "daemonEndpoints", "kubeletEndpoint"), "Port") or 0,
        ),
    )


def lease(obj: Json) -> Lease:
    """View a Lease."""
    meta, spec = fields.mapping(obj, "metadata"), fields.mapping(obj, "spec")
    return fields.view(
        Lease,
        meta,
        holder=fields.word(spec, "holderIdentity"),
        duration_seconds=fields.integer(spec, "leaseDurationSeconds") or 0,
        renew_time=fields.text(spec, "renewTime"),
        acquire_time=fields.text(spec, "acquireTime"),
        transitions=fields.integer(spec, "leaseTransitions") or 0,
        annotations=_annotations(meta),
    )


def module_deployment(obj: Json) -> ModuleDeployment:
    """View a Deployment of modules."""
    meta, spec = fields.mapping(obj, "metadata"), fields.mapping(obj, "spec")
    template = fields.mapping(spec, "template", "spec")
    rules, selector = scheduling.rules(template, "spec.template.spec"), scheduling.label_selector(spec)
    if isinstance(selector, NotUnderstood):
        rules, selector = selector, None
    return fields.view(
        ModuleDeployment,
        meta,
        replicas=fields.integer(spec, "replicas"),
        containers=_template_containers(obj),
        rules=rules,
        selector=selector,
        beyond_node=scheduling.beyond_node(template),
        releasing=_releasing(meta, spec, fields.mapping(obj, "status")),
    )


def _releasing(meta: Json, spec: Json, status: Json) -> Releasing | None:
    annotations = dict(fields.pairs(meta, "annotations"))
    if contract.ANNOTATION_BATCHES not in annotations:
        return None
    deadline = fields.integer(spec, "progressDeadlineSeconds")
    said = Condition.of(fields.views(Condition, status, "conditions"), contract.CONDITION_RELEASED)
    return Releasing(
        annotations={name: value for name, value in annotations.items() if _OWN_DOMAIN in name},
        observed=(fields.integer(status, "observedGeneration") or 0) >= (fields.integer(meta, "generation") or 0),
        revision=number(annotations.get(contract.ANNOTATION_REVISION, "")),
        paused=fields.flag(spec, "paused"),
        rolling=fields.text(fields.mapping(spec, "strategy"), "type") != "Recreate",
        progress_deadline=PROGRESS_DEADLINE if deadline is None else deadline,
        min_ready=fields.integer(spec, "minReadySeconds") or 0,
        status=said.status,
        reason=said.reason,
        message=said.message,
        since=said.last_transition_time,
    )


def number(text: str) -> int:
    """Return a number of a revision; 0 for what is none."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS else 0


def revision(obj: Json) -> Revision:
    """View a ReplicaSet as a revision of its Deployment."""
    meta, spec, status = (fields.mapping(obj, part) for part in ("metadata", "spec", "status"))
    return Revision(
        number=number(fields.text(fields.mapping(meta, "annotations"), contract.ANNOTATION_REVISION)),
        hash=fields.word(fields.mapping(meta, "labels"), contract.POD_TEMPLATE_HASH),
        replicas=fields.integer(spec, "replicas") or 0,
        ready=fields.integer(status, "readyReplicas") or 0,
    )


def workload(kind: str, obj: Json) -> Workload:
    """View how far the rollout of a Deployment or DaemonSet is."""
    meta, spec, status = (fields.mapping(obj, part) for part in ("metadata", "spec", "status"))
    deployment = kind == DEPLOYMENTS.kind
    counts = {name: fields.integer(status, name) or 0 for name in status}
    updated = counts.get("updatedReplicas" if deployment else "updatedNumberScheduled", 0)
    replicas = fields.integer(spec, "replicas")
    selector = scheduling.label_selector(spec)
    releasing = _releasing(meta, spec, status) if deployment else None
    return fields.view(
        Workload,
        meta,
        kind=kind,
        observed=counts.get("observedGeneration", 0) >= (fields.integer(meta, "generation") or 0),
        desired=(1 if replicas is None else replicas) if deployment else counts.get("desiredNumberScheduled", 0),
        updated=updated,
        available=counts.get("availableReplicas" if deployment else "numberAvailable", 0),
        # A Pod of a DaemonSet is replaced in its place: there are never more.
        total=counts.get("replicas", 0) if deployment else updated,
        selector=selector if isinstance(selector, tuple) else None,
        containers=_template_containers(obj),
        failure=_failure(spec, status, releasing),
        releasing=releasing,
    )


def _failure(spec: Json, status: Json, releasing: Releasing | None) -> str:
    if releasing is not None and releasing.status in ("False", "Unknown"):
        # The Deployment's own deadline goes on while a release waits for a person.
        return f"{releasing.reason}: {releasing.message}" if releasing.reason in NEEDS_PERSON else ""
    if fields.text(fields.mapping(spec, "updateStrategy"), "type") == "OnDelete":
        return "its updateStrategy is OnDelete: its Pods are only replaced when somebody deletes them"
    for condition in fields.objects(status, "conditions"):
        if fields.text(condition, "reason") == "ProgressDeadlineExceeded":
            return f"ProgressDeadlineExceeded: {fields.text(condition, 'message')}"
    return ""


def service(obj: Json) -> Service:
    """View a Service."""
    meta, spec = fields.mapping(obj, "metadata"), fields.mapping(obj, "spec")
    return fields.view(
        Service,
        meta,
        cluster_ip=fields.text(spec, "clusterIP"),
        env=fields.words(meta, "labels").get(ENV, ""),
        ports=tuple(_service_port(each) for each in fields.objects(spec, "ports")),
    )


def _service_port(obj: Json) -> ServicePort:
    target = obj.get("targetPort")
    return fields.view(
        ServicePort,
        obj,
        target=str(target) if isinstance(target, int | str) else "",
        protocol=fields.text(obj, "protocol") or "TCP",
    )


def _annotations(meta: Json, referenced: frozenset[str] = frozenset()) -> Mapping[str, str]:
    return fields.shared_pairs(
        (name, value)
        for name, value in fields.pairs(meta, "annotations")
        if len(value) <= FOREIGN_ANNOTATION_LIMIT or _OWN_DOMAIN in name or name in referenced
    )


def controller(meta: Json) -> Json:
    """Return the reference to the owner that controls an object, or an empty one."""
    return next((each for each in fields.objects(meta, "ownerReferences") if fields.flag(each, "controller")), {})


def _container_status(obj: Json) -> ContainerStatus:
    state = fields.mapping(obj, "state")
    kind = next((name for name in ("waiting", "running", "terminated") if isinstance(state.get(name), dict)), "")
    view = fields.view(ContainerStatus, obj | fields.mapping(state, kind), kind=kind)
    return shared(view, len(view.image) + len(view.reason) + len(view.message))
