"""The resources that the embedded cluster has, what differs between them, and how lists and watches select objects."""

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

from controlplane.app.ports import Rejected
from controlplane.cluster import fields
from controlplane.cluster.api import DAEMON_SETS, DEPLOYMENTS, EVENTS, LEASES, NODES, PODS, Json, Resource
from controlplane.domain.objects import Requirement
from controlplane.domain.workloads.placement import InvalidSelector, matches, parse_selector

RESOURCES: tuple[Resource, ...] = (NODES, PODS, EVENTS, LEASES, DEPLOYMENTS, DAEMON_SETS)
_BY_KIND = {(resource.group_version, resource.kind): resource for resource in RESOURCES}

WORKLOADS = frozenset({DEPLOYMENTS, DAEMON_SETS})
WITH_STATUS = WORKLOADS | {NODES, PODS}
"""Resources whose status is a subresource: written by it alone."""

SERVER_METADATA = (
    "name",
    "namespace",
    "generateName",
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "resourceVersion",
)
"""Metadata that only the server changes."""
SELECTABLE_FIELDS = {
    path: path.split(".") for path in ("metadata.name", "metadata.namespace", "spec.nodeName", "status.phase")
}
"""Paths that a field selector may name, and their parts."""


class ObjectKey(NamedTuple):
    """Where an object is; without a namespace where its resource has none."""

    resource: Resource
    namespace: str
    name: str


def object_key(resource: Resource, name: str, namespace: str = "") -> ObjectKey:
    """Return the key of an object; a namespace is left out where the resource has none."""
    return ObjectKey(resource, namespace if resource.namespaced else "", name)


def key_of(resource: Resource, obj: Json) -> ObjectKey:
    """Return the key of an object that is or will be stored."""
    return object_key(resource, obj["metadata"]["name"], obj["metadata"].get("namespace", ""))


def resource_of(manifest: Json) -> Resource:
    """Return the resource that a manifest's apiVersion and kind name; raises Rejected."""
    version, kind = str(manifest.get("apiVersion") or ""), str(manifest.get("kind") or "")
    for field, value in (("apiVersion", version), ("kind", kind)):
        if not value:
            raise Rejected(f"{field}: Required value", ((field, "Required value"),))
    resource = _BY_KIND.get((version, kind))
    if resource is None:
        known = ", ".join(sorted(f"{r.group_version} {r.kind}" for r in RESOURCES))
        message = f'no matches for kind "{kind[:100]}" in version "{version[:100]}": the embedded cluster has {known}'
        raise Rejected(message, (("kind", message),))
    return resource


def qualified(resource: Resource, word: str) -> str:
    """Return a resource's kind or plural with its group, as messages name it: Deployment.apps."""
    group, slash, _ = resource.group_version.partition("/")
    return f"{word}.{group}" if slash else word


class Image(NamedTuple):
    """What selectors look at in one state of an object."""

    labels: Mapping[str, str]
    fields: Mapping[str, str]


def image(obj: Json) -> Image:
    """Return what selectors look at."""
    values = {path: fields.text(fields.mapping(obj, part), name) for path, (part, name) in SELECTABLE_FIELDS.items()}
    return Image(dict(fields.mapping(obj, "metadata", "labels")), values)


Selection: TypeAlias = Callable[[Image], bool]
"""Returns whether a list or watch asks for an object that looks like this."""


def selection(resource: Resource, namespace: str, label_selector: str, field_selector: str) -> Selection:
    """Return what a list or watch asks for, in all namespaces if none is named; raises Rejected."""
    labels, values = _requirements(label_selector), _requirements(field_selector)
    for term in values:
        if term.key not in SELECTABLE_FIELDS or term.operator not in ("In", "NotIn"):
            known = ", ".join(SELECTABLE_FIELDS)
            raise Rejected(f"field label not supported: {term.key[:100]}; supported: {known}")
    if namespace and resource.namespaced:
        values += (Requirement("metadata.namespace", "In", (namespace,)),)
    return lambda image: matches(labels, image.labels) and matches(values, image.fields)


def _requirements(text: str) -> tuple[Requirement, ...]:
    try:
        return parse_selector(text.strip())
    except InvalidSelector as error:
        raise Rejected(f"unable to parse requirement: {error}") from error
