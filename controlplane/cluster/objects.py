"""From objects as JSON to the views of ``controlplane.domain.objects``.

Total functions: any JSON object gives a view, with what is missing or malformed
left empty. Only what the control plane needs is kept, and texts that repeat from
object to object are stored once: these views are the memory of the process.
"""

from __future__ import annotations

from controlplane.cluster import fields
from controlplane.cluster.api import Json
from controlplane.domain.contract import BIZ_VERSION_ENV
from controlplane.domain.objects import (
    Condition,
    Container,
    ContainerStatus,
    Lease,
    ModuleDeployment,
    Node,
    NodeStatus,
    Pod,
    PodStatus,
    Requirement,
    SchedulingRules,
    Taint,
    Toleration,
)

FOREIGN_ANNOTATION_LIMIT = 1024
"""Characters; longer annotations that are not of Koupleless (kubectl's copy of the manifest, say) are not kept."""
_OWN_DOMAIN = "koupleless.io/"


def key(obj: Json) -> str:
    """Return namespace/name, or name for what has no namespace; empty if there is no name."""
    meta = fields.mapping(obj, "metadata")
    name, namespace = fields.text(meta, "name"), fields.text(meta, "namespace")
    return f"{namespace}/{name}" if name and namespace else name


def pod(obj: Json) -> Pod:
    """View a Pod; init containers are ignored."""
    meta, spec = fields.mapping(obj, "metadata"), fields.mapping(obj, "spec")
    return Pod(
        namespace=fields.word(meta, "namespace"),
        name=fields.text(meta, "name"),
        uid=fields.text(meta, "uid"),
        resource_version=fields.text(meta, "resourceVersion"),
        node_name=fields.word(spec, "nodeName"),
        containers=containers(spec),
        status=pod_status(fields.mapping(obj, "status")),
        labels=fields.words(meta, "labels"),
        annotations=_annotations(meta),
        readiness_gates=tuple(fields.word(gate, "conditionType") for gate in fields.objects(spec, "readinessGates")),
        owner_uid=_owner(meta),
        creation_timestamp=fields.text(meta, "creationTimestamp"),
        deletion_timestamp=fields.text(meta, "deletionTimestamp"),
        deletion_grace_seconds=fields.integer(meta, "deletionGracePeriodSeconds"),
        generation=fields.integer(meta, "generation") or 0,
    )


def pod_status(status: Json) -> PodStatus:
    """View a Pod's status."""
    return PodStatus(
        phase=fields.word(status, "phase") or "Pending",
        reason=fields.word(status, "reason"),
        message=fields.text(status, "message"),
        pod_ip=fields.word(status, "podIP"),
        host_ip=fields.word(status, "hostIP"),
        start_time=fields.text(status, "startTime"),
        conditions=_conditions(status),
        containers=tuple(_container_status(each) for each in fields.objects(status, "containerStatuses")),
    )


def node(obj: Json) -> Node:
    """View a Node."""
    meta, spec, status = (fields.mapping(obj, part) for part in ("metadata", "spec", "status"))
    info = fields.mapping(status, "nodeInfo")
    return Node(
        name=fields.word(meta, "name"),
        uid=fields.text(meta, "uid"),
        resource_version=fields.text(meta, "resourceVersion"),
        labels=fields.words(meta, "labels"),
        annotations=_annotations(meta),
        taints=tuple(
            Taint(fields.word(each, "key"), fields.word(each, "value"), fields.word(each, "effect"))
            for each in fields.objects(spec, "taints")
        ),
        unschedulable=fields.flag(spec, "unschedulable"),
        status=NodeStatus(
            conditions=_conditions(status),
            addresses=tuple(
                (fields.word(each, "type"), fields.word(each, "address"))
                for each in fields.objects(status, "addresses")
            ),
            capacity=fields.words(status, "capacity"),
            allocatable=fields.words(status, "allocatable"),
            operating_system=fields.word(info, "operatingSystem"),
            architecture=fields.word(info, "architecture"),
            kubelet_version=fields.word(info, "kubeletVersion"),
            runtime_version=fields.word(info, "containerRuntimeVersion"),
            kubelet_port=fields.integer(fields.mapping(status, "daemonEndpoints", "kubeletEndpoint"), "Port") or 0,
        ),
        creation_timestamp=fields.text(meta, "creationTimestamp"),
    )


def lease(obj: Json) -> Lease:
    """View a Lease."""
    meta, spec = fields.mapping(obj, "metadata"), fields.mapping(obj, "spec")
    return Lease(
        namespace=fields.word(meta, "namespace"),
        name=fields.word(meta, "name"),
        resource_version=fields.text(meta, "resourceVersion"),
        holder=fields.word(spec, "holderIdentity"),
        duration_seconds=fields.integer(spec, "leaseDurationSeconds") or 0,
        renew_time=fields.text(spec, "renewTime"),
        acquire_time=fields.text(spec, "acquireTime"),
        transitions=fields.integer(spec, "leaseTransitions") or 0,
        labels=fields.words(meta, "labels"),
        annotations=_annotations(meta),
        uid=fields.text(meta, "uid"),
    )


def module_deployment(obj: Json) -> ModuleDeployment:
    """View a Deployment of modules."""
    meta, spec = fields.mapping(obj, "metadata"), fields.mapping(obj, "spec")
    template = fields.mapping(spec, "template", "spec")
    return ModuleDeployment(
        namespace=fields.word(meta, "namespace"),
        name=fields.text(meta, "name"),
        uid=fields.text(meta, "uid"),
        resource_version=fields.text(meta, "resourceVersion"),
        labels=fields.words(meta, "labels"),
        replicas=fields.integer(spec, "replicas"),
        containers=containers(template),
        rules=_rules(template),
        creation_timestamp=fields.text(meta, "creationTimestamp"),
        selector=selector(spec),
    )


def _annotations(meta: Json) -> dict[str, str]:
    return {
        name: value
        for name, value in fields.pairs(meta, "annotations")
        if len(value) <= FOREIGN_ANNOTATION_LIMIT or _OWN_DOMAIN in name
    }


def _owner(meta: Json) -> str:
    owners = fields.objects(meta, "ownerReferences")
    return next((fields.word(owner, "uid") for owner in owners if fields.flag(owner, "controller")), "")


def containers(spec: Json) -> tuple[Container, ...]:
    """View the containers of a Pod's or template's specification."""
    return tuple(_container(each) for each in fields.objects(spec, "containers"))


def _container(obj: Json) -> Container:
    env = tuple(
        (fields.word(entry, "name"), fields.word(entry, "value"))
        for entry in fields.objects(obj, "env")
        if "valueFrom" not in entry
    )
    return Container(
        name=fields.word(obj, "name"),
        image=fields.word(obj, "image"),
        version=next((value for name, value in env if name == BIZ_VERSION_ENV), ""),
        args=fields.texts(obj, "args"),
        env=env,
    )


def _container_status(obj: Json) -> ContainerStatus:
    state = fields.mapping(obj, "state")
    kind = next((name for name in ("waiting", "running", "terminated") if isinstance(state.get(name), dict)), "")
    detail = fields.mapping(state, kind)
    return ContainerStatus(
        name=fields.word(obj, "name"),
        kind=kind,
        ready=fields.flag(obj, "ready"),
        image=fields.word(obj, "image"),
        reason=fields.word(detail, "reason"),
        message=fields.text(detail, "message"),
        started_at=fields.text(detail, "startedAt"),
        finished_at=fields.text(detail, "finishedAt"),
        exit_code=fields.integer(detail, "exitCode") or 0,
        restart_count=fields.integer(obj, "restartCount") or 0,
    )


def _conditions(status: Json) -> tuple[Condition, ...]:
    return tuple(
        Condition(
            type=fields.word(each, "type"),
            status=fields.word(each, "status"),
            reason=fields.word(each, "reason"),
            message=fields.word(each, "message"),
            last_transition_time=fields.text(each, "lastTransitionTime"),
        )
        for each in fields.objects(status, "conditions")
    )


def _rules(spec: Json) -> SchedulingRules:
    return SchedulingRules(
        node_name=fields.text(spec, "nodeName"),
        node_selector=fields.words(spec, "nodeSelector"),
        required_affinity=_required_affinity(spec),
        tolerations=tuple(
            Toleration(
                key=fields.word(each, "key"),
                operator=fields.word(each, "operator") or "Equal",
                value=fields.word(each, "value"),
                effect=fields.word(each, "effect"),
            )
            for each in fields.objects(spec, "tolerations")
        ),
    )


def _required_affinity(spec: Json) -> tuple[tuple[Requirement, ...], ...] | None:
    affinity = fields.mapping(spec, "affinity", "nodeAffinity")
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if not isinstance(required, dict):
        return None
    terms = (_term(each) for each in fields.objects(required, "nodeSelectorTerms"))
    # In Kubernetes a term without requirements matches no Node.
    return tuple(term for term in terms if term)


def _term(obj: Json) -> tuple[Requirement, ...]:
    # matchFields knows only metadata.name, which no label has: such a term matches no VNode here.
    return _requirements(fields.objects(obj, "matchExpressions") + fields.objects(obj, "matchFields"))


def selector(spec: Json) -> tuple[Requirement, ...] | None:
    """View the label selector of a workload; None when it has none."""
    if not isinstance(spec.get("selector"), dict):
        return None
    obj = fields.mapping(spec, "selector")
    exact = tuple(Requirement(key, "In", (value,)) for key, value in fields.pairs(obj, "matchLabels"))
    return exact + _requirements(fields.objects(obj, "matchExpressions"))


def _requirements(entries: list[Json]) -> tuple[Requirement, ...]:
    return tuple(
        Requirement(fields.word(each, "key"), fields.word(each, "operator"), fields.texts(each, "values"))
        for each in entries
    )
