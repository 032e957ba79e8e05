"""The requests of the API as operations on a transaction, and what they do to an object.

Each checks everything before it writes. The server owns uid, timestamps, generation and resourceVersion; spec and
status are written separately; a Pod that is bound to a Node is deleted in two steps, because only the Node's agent
knows when it has ended. Messages are those of a Kubernetes API server where people and tools know them.
"""

import secrets
import time
import uuid
from collections.abc import Mapping

import orjson

from controlplane.app.ports import AlreadyExists, Conflict, NotFound, Rejected
from controlplane.cluster import fields
from controlplane.cluster.api import DAEMON_SETS, DEPLOYMENTS, EVENTS, NODES, PODS, Json, PatchType, Resource
from controlplane.domain.times import rfc3339
from controlplane.embedded.api.database import Transaction, encode
from controlplane.embedded.api.patch import merge, strategic
from controlplane.embedded.api.resources import (
    SERVER_METADATA,
    WITH_STATUS,
    WORKLOADS,
    ObjectKey,
    key_of,
    qualified,
    resource_of,
)
from controlplane.embedded.api.schema import check_fields, validate, validate_change

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
MAX_EVENTS = 1000
EVENT_SECONDS = 3600
_NAME_ATTEMPTS = 8
NAME_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
DEFAULT_GRACE_SECONDS = 30

_NOT_FROM_CREATORS = {*SERVER_METADATA, "managedFields"} - {"name", "namespace", "generateName"}
_WITH_GENERATION = WORKLOADS | {PODS}

_POD: Json = {
    "spec": {
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": DEFAULT_GRACE_SECONDS,
        "schedulerName": "default-scheduler",
    }
}
_DEPLOYMENT: Json = {
    "replicas": 1,
    "progressDeadlineSeconds": 600,
    "revisionHistoryLimit": 10,
    "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
    "template": _POD,
}
_DAEMON_SET: Json = {
    "revisionHistoryLimit": 10,
    "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
    "template": _POD,
}
_DEFAULTS: Mapping[Resource, Json] = {
    PODS: _POD,
    DEPLOYMENTS: {"spec": _DEPLOYMENT},
    DAEMON_SETS: {"spec": _DAEMON_SET},
}
"""What the API fills in; a rolling update only where that is the strategy."""


def read(transaction: Transaction, key: ObjectKey) -> Json:
    """Return an object; raises NotFound."""
    found = transaction.get(key)
    if found is None:
        raise NotFound(f'{qualified(key.resource, key.resource.plural)} "{key.name[:253]}" not found')
    return found


def create(transaction: Transaction, resource: Resource, obj: Json, namespace: str) -> Json:
    """Create an object; raises AlreadyExists, Rejected."""
    obj = _isolated(obj)
    attempt = 1
    while True:
        key, new = _prepared(resource, obj, namespace)
        if transaction.get(key) is None:
            return transaction.insert(key, new)
        if obj["metadata"].get("name") or attempt == _NAME_ATTEMPTS:
            raise AlreadyExists(f'{qualified(resource, resource.plural)} "{key.name}" already exists')
        attempt += 1


def patch(transaction: Transaction, key: ObjectKey, body: Json, patch_type: PatchType, subresource: str) -> Json:
    """Patch an object, its status or its scale; raises NotFound, Conflict, Rejected."""
    if subresource and key.resource not in {"status": WITH_STATUS, "scale": {DEPLOYMENTS}}.get(subresource, ()):
        plural = qualified(key.resource, key.resource.plural)
        raise NotFound(f"{plural} has no subresource {subresource[:100]!r}")
    body = _isolated(body)
    before = read(transaction, key)
    _check_preconditions(key, before, _given_metadata(body))
    apply_patch = strategic if patch_type is PatchType.STRATEGIC else merge
    if subresource != "scale":
        after = _checked(key, before, apply_patch(before, body), status=subresource == "status")
        return _store(transaction, key, before, after)
    replicas = fields.mapping(apply_patch(_scale(before), body), "spec").get("replicas", 0)
    wanted = {**before, "spec": {**before["spec"], "replicas": replicas}}
    return _scale(_store(transaction, key, before, _checked(key, before, wanted)))


def delete(transaction: Transaction, key: ObjectKey, preconditions: Json, grace_seconds: int | None = None) -> None:
    """Delete an object, or mark it for deletion; raises NotFound, Conflict."""
    before = read(transaction, key)
    _check_preconditions(key, before, preconditions)
    grace = _grace_for(key.resource, before, grace_seconds)
    if grace == 0 and not before["metadata"].get("finalizers"):
        transaction.remove(key, before)
    else:
        transaction.replace(key, before, _deleting(before, grace, time.time()))


def bind(transaction: Transaction, key: ObjectKey, uid: str, node_name: str) -> Json:
    """Bind a Pod to a Node, as the binding subresource does; raises NotFound, Conflict."""
    before = read(transaction, key)
    metadata = before["metadata"]
    if metadata["uid"] != uid or "deletionTimestamp" in metadata or before["spec"].get("nodeName"):
        raise Conflict(f'Operation cannot be fulfilled on pods/binding "{key.name}": it is bound, deleted or another')
    status = {"conditions": [pod_scheduled("True", None, None)]}
    return transaction.replace(key, before, strategic(before, {"spec": {"nodeName": node_name}, "status": status}))


def pod_scheduled(status: str, reason: str | None, message: str | None) -> Json:
    """Return the condition of a Pod by which its scheduler says whether it has a Node."""
    since = rfc3339(time.time())
    return {"type": "PodScheduled", "status": status, "reason": reason, "message": message, "lastTransitionTime": since}


def apply(transaction: Transaction, manifest: Json, dry_run: bool) -> tuple[Json, str]:
    """Create the object of a manifest, or bring it to it as kubectl apply does.

    Returns the object and "created", "configured" or "unchanged". Raises Rejected.
    """
    modified = _isolated(manifest)
    resource = resource_of(modified)
    check_fields(resource, modified)
    modified.pop("status", None)
    metadata = _given_metadata(modified)
    annotations = fields.mapping(metadata, "annotations")
    annotations.pop(LAST_APPLIED, None)
    metadata.pop("generateName", None)  # the object that has to be there is known by its name
    key, new = _prepared(resource, modified, "")
    annotations = {**annotations, LAST_APPLIED: orjson.dumps(modified, option=orjson.OPT_SORT_KEYS).decode()}
    before = transaction.get(key)
    if before is None:
        new["metadata"]["annotations"] = annotations
        return (new if dry_run else transaction.insert(key, new)), "created"
    _check_preconditions(key, before, {**metadata, "namespace": new["metadata"].get("namespace")})
    asked = {name: value for name, value in metadata.items() if name not in ("uid", "resourceVersion")}
    modified["metadata"] = {**asked, "annotations": annotations}
    former = fields.parsed(fields.text(fields.mapping(before, "metadata", "annotations"), LAST_APPLIED))
    after = _checked(key, before, merge(before, modified, former=former))
    if not dry_run:
        after = _store(transaction, key, before, after)
    return after, "unchanged" if after == before else "configured"


def prune_events(transaction: Transaction) -> None:
    """Remove old Events."""
    for key in transaction.stalest(EVENTS, MAX_EVENTS, time.time() - EVENT_SECONDS):
        delete(transaction, key, {})


def _isolated(obj: Json) -> Json:
    """Return a copy that shares nothing with the caller's; raises Rejected for what is not a JSON object."""
    if not isinstance(obj, dict):
        raise Rejected("the object must be a JSON object")
    copy: Json = orjson.loads(encode(obj))
    return copy


def _prepared(resource: Resource, obj: Json, namespace: str) -> tuple[ObjectKey, Json]:
    new = _newborn(resource, obj, namespace)
    validate(resource, new)
    _fill(new, _DEFAULTS.get(resource, {}))
    return key_of(resource, new), new


def _check_preconditions(key: ObjectKey, before: Json, given: Json) -> None:
    metadata, plural = before["metadata"], qualified(key.resource, key.resource.plural)
    for field, expected in given.items():
        if field in ("uid", "resourceVersion") and expected and expected != metadata[field]:
            raise Conflict(
                f'Operation cannot be fulfilled on {plural} "{key.name}": '
                f"Precondition failed: {field} in precondition: {expected}, {field} in object meta: {metadata[field]}"
            )
        if field in ("name", "namespace") and expected != metadata.get(field):
            raise Rejected(f"metadata.{field}: Invalid value: {str(expected)[:100]!r}: field is immutable")


def _checked(key: ObjectKey, before: Json, wanted: Json, *, status: bool = False) -> Json:
    if status:
        if not isinstance(wanted.get("status", {}), dict):
            raise Rejected("status: Invalid value: must be an object")
        return {**before, "status": wanted.get("status", {})}
    after = _changed(key.resource, before, wanted)
    validate(key.resource, after)
    validate_change(key.resource, before, after)
    _fill(after, _DEFAULTS.get(key.resource, {}))
    return after


def _store(transaction: Transaction, key: ObjectKey, before: Json, after: Json) -> Json:
    metadata = after["metadata"]
    grace = metadata.get("deletionGracePeriodSeconds", 0)
    if "deletionTimestamp" in metadata and not grace and not metadata.get("finalizers"):
        transaction.remove(key, after)
        return after
    return transaction.replace(key, before, after)


def _scale(obj: Json) -> Json:
    shown = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    return {
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": {name: obj["metadata"][name] for name in shown},
        "spec": {"replicas": obj["spec"].get("replicas", 1)},
        "status": {"replicas": fields.mapping(obj, "status").get("replicas", 0)},
    }


def _newborn(resource: Resource, obj: Json, namespace: str) -> Json:
    """Return a new object as it is to be stored, not yet validated; raises Rejected for contradictions."""
    given = _given_metadata(obj)
    for field, expected in (("apiVersion", resource.group_version), ("kind", resource.kind)):
        if obj.get(field, expected) != expected:
            raise Rejected(f"{field}: Invalid value: {str(obj[field])[:100]!r}: expected {expected!r}")
    if given.get("resourceVersion"):
        raise Rejected("resourceVersion should not be set on objects to be created")
    metadata = {key: value for key, value in given.items() if key not in _NOT_FROM_CREATORS}
    own = metadata.pop("namespace", None)
    if resource.namespaced:
        if own and namespace and own != namespace:
            raise Rejected("the namespace of the provided object does not match the namespace sent on the request")
        metadata["namespace"] = own or namespace or "default"
    prefix = metadata.get("generateName")
    if not metadata.get("name") and isinstance(prefix, str) and prefix:
        metadata["name"] = prefix[:58] + "".join(secrets.choice(NAME_ALPHABET) for _ in range(5))
    metadata |= {"uid": str(uuid.uuid4()), "creationTimestamp": rfc3339(time.time())}
    if resource in _WITH_GENERATION:
        metadata["generation"] = 1
    born = {**obj, "apiVersion": resource.group_version, "kind": resource.kind, "metadata": metadata}
    if resource in WITH_STATUS:
        born["status"] = {PODS: {"phase": "Pending"}, NODES: obj.get("status") or {}}.get(resource, {})
    return born


def _given_metadata(obj: Json) -> Json:
    """Return the metadata of what somebody sent; raises Rejected if it is not an object."""
    metadata: Json | None = obj.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        raise Rejected("metadata: Invalid value: must be an object")
    return metadata or {}


def _fill(obj: Json, defaults: Json) -> None:
    """Fill defaults into a validated object."""
    for key, value in defaults.items():
        if key == "rollingUpdate" and obj["type"] != "RollingUpdate":
            continue
        if obj.get(key) is None:
            obj[key] = {} if isinstance(value, dict) else value
        if isinstance(value, dict):
            _fill(obj[key], value)


def _changed(resource: Resource, before: Json, wanted: Json) -> Json:
    """Return before after a write of wanted to it, not yet validated; raises Rejected for contradictions."""
    result = dict(wanted)
    if resource in WITH_STATUS:
        result["status"] = before.get("status", {})
    given = _given_metadata(wanted)
    metadata = {key: value for key, value in given.items() if key not in SERVER_METADATA}
    metadata |= {key: before["metadata"][key] for key in SERVER_METADATA if key in before["metadata"]}
    if resource in _WITH_GENERATION and result.get("spec") != before.get("spec"):
        metadata["generation"] = int(metadata.get("generation", 0)) + 1
    for field in ("apiVersion", "kind"):
        if result.get(field) != before[field]:
            raise Rejected(f"{field}: Invalid value: {str(result.get(field))[:100]!r}: field is immutable")
    return {**result, "metadata": {key: value for key, value in metadata.items() if value not in ({}, [])}}


def _grace_for(resource: Resource, obj: Json, asked: int | None) -> int:
    """Return the seconds that a deletion leaves the object; 0 removes it at once."""
    if resource != PODS:
        return 0
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    if not spec.get("nodeName") or status.get("phase") in ("Failed", "Succeeded"):
        return 0
    if asked is not None:
        return max(0, asked)
    return int(spec.get("terminationGracePeriodSeconds", DEFAULT_GRACE_SECONDS))


def _deleting(obj: Json, grace: int, now: float) -> Json:
    """Return the object marked for deletion; a second deletion can only shorten the grace."""
    metadata: Json = dict(obj["metadata"])
    if "deletionTimestamp" in metadata and metadata.get("deletionGracePeriodSeconds", 0) <= grace:
        return obj
    metadata |= {"deletionTimestamp": rfc3339(now + grace), "deletionGracePeriodSeconds": grace}
    if metadata.get("generation"):
        metadata["generation"] += 1
    return {**obj, "metadata": metadata}
