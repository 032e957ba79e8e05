"""The resources that the embedded cluster has, and what differs between them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from controlplane.app.ports import Rejected
from controlplane.cluster.api import (
    DAEMON_SETS,
    DEPLOYMENTS,
    EVENTS,
    LEASES,
    NODES,
    PODS,
    REPLICA_SETS,
    Json,
    Resource,
)

RESOURCES: tuple[Resource, ...] = (NODES, PODS, EVENTS, LEASES, DEPLOYMENTS, REPLICA_SETS, DAEMON_SETS)
BY_PLURAL: Mapping[str, Resource] = MappingProxyType({r.plural: r for r in RESOURCES})

WITH_STATUS = frozenset({NODES, PODS, DEPLOYMENTS, REPLICA_SETS, DAEMON_SETS})
"""Resources whose status is a subresource: written by it alone."""
WORKLOADS = frozenset({DEPLOYMENTS, REPLICA_SETS, DAEMON_SETS})
SCALABLE = frozenset({DEPLOYMENTS, REPLICA_SETS})
"""Resources with the subresource scale."""

_BY_KIND = {(r.group_version, r.kind): r for r in RESOURCES}
_METADATA_FIELDS = ("metadata.name", "metadata.namespace")
_FIELDS: Mapping[Resource, tuple[str, ...]] = MappingProxyType(
    {
        PODS: (*_METADATA_FIELDS, "spec.nodeName", "status.phase"),
        NODES: (*_METADATA_FIELDS, "spec.unschedulable"),
        EVENTS: (
            *_METADATA_FIELDS,
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "reason",
            "type",
        ),
    }
)


def resource_of(manifest: Json) -> Resource:
    """Return the resource that a manifest's apiVersion and kind name; raises Rejected."""
    version, kind = manifest.get("apiVersion"), manifest.get("kind")
    if not isinstance(version, str) or not version:
        raise Rejected("apiVersion: Required value", (("apiVersion", "Required value"),))
    if not isinstance(kind, str) or not kind:
        raise Rejected("kind: Required value", (("kind", "Required value"),))
    resource = _BY_KIND.get((version, kind))
    if resource is None:
        known = ", ".join(sorted(f"{r.group_version} {r.kind}" for r in RESOURCES))
        message = f'no matches for kind "{kind[:100]}" in version "{version[:100]}": the embedded cluster has {known}'
        raise Rejected(message, (("kind", message),))
    return resource


def qualified_kind(resource: Resource) -> str:
    """Return the kind with its group, as messages name it: Deployment.apps."""
    group, slash, _ = resource.group_version.partition("/")
    return f"{resource.kind}.{group}" if slash else resource.kind


def qualified_plural(resource: Resource) -> str:
    """Return the plural with its group, as messages name it: deployments.apps."""
    group, slash, _ = resource.group_version.partition("/")
    return f"{resource.plural}.{group}" if slash else resource.plural


def selectable_fields(resource: Resource) -> tuple[str, ...]:
    """Return the paths that a field selector may name."""
    return _FIELDS.get(resource, _METADATA_FIELDS)


def field_value(obj: Json, path: str) -> str:
    """Return the text of a field for comparison with a selector; absent is empty."""
    value: object = obj
    for step in path.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "false" if path == "spec.unschedulable" else ""
    return str(value)
