"""The writes of the API as operations on a transaction.

Each checks everything before it writes. Messages are those of a Kubernetes API
server where people and tools know them.
"""

from __future__ import annotations

import secrets
import time
import uuid
from typing import Any

import orjson

from controlplane.app.ports import AlreadyExists, Conflict, NotFound, Rejected
from controlplane.cluster.api import EVENTS, PODS, Json, PatchType, Resource
from controlplane.embedded.api.objects import (
    Birth,
    changed,
    deleting,
    grace_for,
    isolated,
    metadata_of,
    newborn,
    set_defaults,
    timestamp,
)
from controlplane.embedded.api.patch import merge, strategic, three_way
from controlplane.embedded.api.resources import SCALABLE, WITH_STATUS, qualified_plural, resource_of
from controlplane.embedded.api.schema import check_fields
from controlplane.embedded.api.transaction import Transaction
from controlplane.embedded.api.validation import validate, validate_change

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
MAX_EVENTS = 1000
EVENT_SECONDS = 3600
_NAME_ATTEMPTS = 8

_SUFFIX_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"


def read(transaction: Transaction, resource: Resource, name: str, namespace: str) -> Json:
    """Return an object; raises NotFound."""
    found = transaction.get(resource, namespace, name)
    if found is None:
        raise NotFound(f'{qualified_plural(resource)} "{name[:253]}" not found')
    return found


def create(transaction: Transaction, resource: Resource, obj: Json, namespace: str) -> Json:
    """Create an object; raises AlreadyExists, Rejected."""
    obj = isolated(obj)
    given = obj.get("metadata")
    generated = isinstance(given, dict) and not given.get("name")
    attempts = _NAME_ATTEMPTS if generated else 1
    while True:
        new = _prepared(resource, obj, namespace)
        metadata = metadata_of(new)
        if transaction.get(resource, metadata.get("namespace", ""), metadata["name"]) is None:
            return transaction.insert(resource, new)
        attempts -= 1
        if not attempts:
            raise AlreadyExists(f'{qualified_plural(resource)} "{metadata["name"]}" already exists')


def _prepared(resource: Resource, obj: Json, namespace: str) -> Json:
    suffix = "".join(secrets.choice(_SUFFIX_ALPHABET) for _ in range(5))
    new = newborn(resource, obj, namespace, Birth(str(uuid.uuid4()), suffix, time.time()))
    validate(resource, new)
    set_defaults(resource, new)
    return new


def patch(
    transaction: Transaction,
    resource: Resource,
    name: str,
    namespace: str,
    body: Json,
    patch_type: PatchType,
    subresource: str,
) -> Json:
    """Patch an object, its status or its scale; raises NotFound, Conflict, Rejected."""
    if subresource == "scale" and resource in SCALABLE:
        return _patch_scale(transaction, resource, name, namespace, body, patch_type)
    if subresource and (subresource != "status" or resource not in WITH_STATUS):
        raise NotFound(f"{qualified_plural(resource)} has no subresource {subresource[:100]!r}")
    body = isolated(body)
    before = read(transaction, resource, name, namespace)
    _check_preconditions(resource, before, body.get("metadata"))
    wanted = strategic(before, body) if patch_type is PatchType.STRATEGIC else merge(before, body)
    return _write(transaction, resource, before, wanted, status=subresource == "status")


def _patch_scale(
    transaction: Transaction, resource: Resource, name: str, namespace: str, body: Json, patch_type: PatchType
) -> Json:
    body = isolated(body)
    before = read(transaction, resource, name, namespace)
    _check_preconditions(resource, before, body.get("metadata"))
    asked = (strategic if patch_type is PatchType.STRATEGIC else merge)(_scale(before), body).get("spec")
    replicas = asked.get("replicas", 0) if isinstance(asked, dict) else 0
    wanted = {**before, "spec": {**before["spec"], "replicas": replicas}}
    return _scale(_write(transaction, resource, before, wanted, status=False))


def _scale(obj: Json) -> Json:
    kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
    metadata = metadata_of(obj)
    return {
        "apiVersion": "autoscaling/v1",
        "kind": "Scale",
        "metadata": {key: metadata[key] for key in kept},
        "spec": {"replicas": obj["spec"].get("replicas", 1)},
        "status": {"replicas": (obj.get("status") or {}).get("replicas", 0)},
    }


def _check_preconditions(resource: Resource, before: Json, given: Any) -> None:
    metadata = metadata_of(before)
    if given is not None and not isinstance(given, dict):
        raise Rejected("metadata: Invalid value: must be an object")
    for field, expected in (given or {}).items():
        if field in ("uid", "resourceVersion") and expected and expected != metadata[field]:
            raise Conflict(
                f'Operation cannot be fulfilled on {qualified_plural(resource)} "{metadata["name"]}": '
                f"Precondition failed: {field} in precondition: {expected}, {field} in object meta: {metadata[field]}"
            )
        if field in ("name", "namespace") and expected != metadata.get(field):
            raise Rejected(f"metadata.{field}: Invalid value: {str(expected)[:100]!r}: field is immutable")


def _write(transaction: Transaction, resource: Resource, before: Json, wanted: Json, *, status: bool) -> Json:
    after = changed(resource, before, wanted, status=status)
    validate(resource, after)
    if not status:
        validate_change(resource, before, after)
        set_defaults(resource, after)
    metadata = metadata_of(after)
    grace = metadata.get("deletionGracePeriodSeconds", 0)
    if "deletionTimestamp" in metadata and not grace and not metadata.get("finalizers"):
        transaction.remove(resource, after)
        return after
    return transaction.replace(resource, before, after)


def delete(
    transaction: Transaction,
    resource: Resource,
    name: str,
    namespace: str,
    uid: str,
    resource_version: str,
    grace_seconds: int | None,
) -> None:
    """Delete an object, or mark it for deletion; raises NotFound, Conflict."""
    before = read(transaction, resource, name, namespace)
    _check_preconditions(resource, before, {"uid": uid, "resourceVersion": resource_version})
    grace = grace_for(resource, before, grace_seconds)
    if grace == 0 and not metadata_of(before).get("finalizers"):
        transaction.remove(resource, before)
    else:
        transaction.replace(resource, before, deleting(before, grace, time.time()))


def bind(transaction: Transaction, namespace: str, name: str, uid: str, node_name: str) -> Json:
    """Bind a Pod to a Node, as the binding subresource does; raises NotFound, Conflict."""
    before = read(transaction, PODS, name, namespace)
    metadata = metadata_of(before)
    if metadata["uid"] != uid or "deletionTimestamp" in metadata or before["spec"].get("nodeName"):
        raise Conflict(f'Operation cannot be fulfilled on pods/binding "{name}": it is bound, deleted or another one')
    condition = {
        "type": "PodScheduled",
        "status": "True",
        "reason": None,
        "message": None,
        "lastTransitionTime": timestamp(time.time()),
    }
    bound = strategic(before, {"spec": {"nodeName": node_name}, "status": {"conditions": [condition]}})
    return transaction.replace(PODS, before, bound)


def apply(transaction: Transaction, manifest: Json, dry_run: bool) -> tuple[Json, str]:
    """Create the object of a manifest, or bring it to it as kubectl apply does.

    Returns the object and "created", "configured" or "unchanged". Raises Rejected.
    """
    modified = isolated(manifest)
    resource = resource_of(modified)
    check_fields(resource, modified)
    modified.pop("status", None)
    metadata = modified.setdefault("metadata", {})
    if not isinstance(metadata, dict):
        raise Rejected("metadata: Invalid value: must be an object")
    annotations = metadata.get("annotations")
    if isinstance(annotations, dict):
        annotations.pop(LAST_APPLIED, None)
    name = metadata.get("name")
    if not isinstance(name, str) or not name:
        raise Rejected("metadata.name: Required value: apply needs a name")
    candidate = _prepared(resource, modified, "")
    remembered = orjson.dumps(modified, option=orjson.OPT_SORT_KEYS).decode()
    before = transaction.get(resource, metadata_of(candidate).get("namespace", ""), name)
    if before is None:
        candidate["metadata"]["annotations"] = {**(annotations or {}), LAST_APPLIED: remembered}
        return (candidate if dry_run else transaction.insert(resource, candidate)), "created"
    _check_preconditions(resource, before, {**metadata, "namespace": metadata_of(candidate).get("namespace")})
    modified["metadata"] = {
        **{key: value for key, value in metadata.items() if key not in ("uid", "resourceVersion")},
        "annotations": {**(annotations or {}), LAST_APPLIED: remembered},
    }
    wanted = three_way(_original(before), modified, before)
    if dry_run:
        after = changed(resource, before, wanted, status=False)
        validate(resource, after)
        validate_change(resource, before, after)
        set_defaults(resource, after)
    else:
        after = _write(transaction, resource, before, wanted, status=False)
    return after, "unchanged" if after == before else "configured"


def _original(before: Json) -> Any:
    text = (metadata_of(before).get("annotations") or {}).get(LAST_APPLIED)
    try:
        return orjson.loads(text) if text else {}
    except orjson.JSONDecodeError:
        return {}


def prune_events(transaction: Transaction) -> int:
    """Remove Events beyond the newest thousand and those older than an hour; return how many."""
    stale = transaction.stalest(EVENTS, MAX_EVENTS, time.time() - EVENT_SECONDS)
    for ref in stale:
        event = transaction.get(EVENTS, ref.namespace, ref.name)
        if event is not None:
            transaction.remove(EVENTS, event)
    return len(stale)
