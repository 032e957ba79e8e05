"""From Deployments and DaemonSets as JSON to how far their rollouts are."""

from __future__ import annotations

from controlplane.cluster import fields, objects, scheduling
from controlplane.cluster.api import DAEMON_SETS, DEPLOYMENTS, Json, Resource
from controlplane.domain.workloads.rollout import Workload

RESOURCES: dict[str, Resource] = {resource.kind: resource for resource in (DEPLOYMENTS, DAEMON_SETS)}
"""What has a rollout, by kind."""


def workload(kind: str, obj: Json) -> Workload:
    """View a Deployment or DaemonSet; a total function, as those in ``objects``."""
    meta, spec, status = (fields.mapping(obj, part) for part in ("metadata", "spec", "status"))
    generation = fields.integer(meta, "generation") or 0
    deployment = kind == DEPLOYMENTS.kind
    updated = _count(status, "updatedReplicas" if deployment else "updatedNumberScheduled")
    replicas = fields.integer(spec, "replicas")
    selector = scheduling.label_selector(spec)
    return Workload(
        kind=kind,
        namespace=fields.text(meta, "namespace"),
        name=fields.text(meta, "name"),
        observed=_count(status, "observedGeneration") >= generation,
        desired=(1 if replicas is None else replicas) if deployment else _count(status, "desiredNumberScheduled"),
        updated=updated,
        available=_count(status, "availableReplicas" if deployment else "numberAvailable"),
        # A Pod of a DaemonSet is replaced in its place: there are never more.
        total=_count(status, "replicas") if deployment else updated,
        selector=selector if isinstance(selector, tuple) else None,
        containers=objects.template_containers(obj),
        failure=_failure(obj),
    )


def _count(status: Json, name: str) -> int:
    return fields.integer(status, name) or 0


def _failure(obj: Json) -> str:
    if fields.text(fields.mapping(obj, "spec", "updateStrategy"), "type") == "OnDelete":
        return "its updateStrategy is OnDelete: its Pods are only replaced when somebody deletes them"
    for condition in fields.objects(fields.mapping(obj, "status"), "conditions"):
        if fields.text(condition, "reason") == "ProgressDeadlineExceeded":
            return f"ProgressDeadlineExceeded: {fields.text(condition, 'message')}"
    return ""
