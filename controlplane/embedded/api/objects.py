"""What happens to an object when it is created, changed or deleted: pure, on JSON.

The server owns uid, timestamps, generation and resourceVersion; spec and status
are written through different doors; a Pod that is bound to a Node is deleted in
two steps, because only the Node's agent knows when it has ended.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from controlplane.app.ports import Rejected
from controlplane.cluster.api import DAEMON_SETS, DEPLOYMENTS, NODES, PODS, REPLICA_SETS, Json, Resource
from controlplane.embedded.api.resources import WITH_STATUS, WORKLOADS

MAX_OBJECT_BYTES = 1_500_000
"""Largest object, as etcd's default limit."""
DEFAULT_GRACE_SECONDS = 30

_SERVER_OWNED = (
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
_WITH_GENERATION = WORKLOADS | {PODS}


@dataclass(frozen=True, slots=True)
class Birth:
    """What the server gives a new object. now is in seconds since the epoch."""

    uid: str
    suffix: str
    now: float


def timestamp(seconds: float) -> str:
    """Return seconds since the epoch as RFC 3339 text, to the second, as the API has it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def encode(obj: Json) -> bytes:
    """Serialise an object; raises Rejected for what is no JSON or too large."""
    try:
        raw = orjson.dumps(obj)
    except (TypeError, RecursionError) as error:
        raise Rejected(f"the object is no valid JSON: {error}") from error
    if len(raw) > MAX_OBJECT_BYTES:
        raise Rejected(f"Request entity too large: limit is {MAX_OBJECT_BYTES} bytes, the object has {len(raw)}")
    return raw


def isolated(obj: Json) -> Json:
    """Return a copy that shares nothing with the caller's; raises Rejected for what is no JSON object."""
    if not isinstance(obj, dict):
        raise Rejected("the object must be a JSON object")
    copy: Json = orjson.loads(encode(obj))
    return copy


def metadata_of(obj: Json) -> Json:
    """Return the metadata of an object that is in the store."""
    metadata: Json = obj["metadata"]
    return metadata


def newborn(resource: Resource, obj: Json, namespace: str, birth: Birth) -> Json:
    """Return a new object as it is to be stored, not yet validated; raises Rejected for contradictions."""
    given = obj.get("metadata")
    if given is not None and not isinstance(given, dict):
        raise Rejected("metadata: Invalid value: must be an object")
    metadata: Json = dict(given or {})
    for field, expected in (("apiVersion", resource.group_version), ("kind", resource.kind)):
        if obj.get(field, expected) != expected:
            raise Rejected(f"{field}: Invalid value: {str(obj[field])[:100]!r}: expected {expected!r}")
    if metadata.get("resourceVersion"):
        raise Rejected("resourceVersion should not be set on objects to be created")
    if resource.namespaced:
        own = metadata.get("namespace")
        if own and namespace and own != namespace:
            raise Rejected("the namespace of the provided object does not match the namespace sent on the request")
        metadata["namespace"] = own or namespace or "default"
    else:
        metadata.pop("namespace", None)
    prefix = metadata.get("generateName")
    if not metadata.get("name") and isinstance(prefix, str) and prefix:
        metadata["name"] = f"{prefix[:58]}{birth.suffix}"
    for field in ("deletionTimestamp", "deletionGracePeriodSeconds", "generation", "resourceVersion", "managedFields"):
        metadata.pop(field, None)
    metadata |= {"uid": birth.uid, "creationTimestamp": timestamp(birth.now)}
    if resource in _WITH_GENERATION:
        metadata["generation"] = 1
    born = {key: value for key, value in obj.items() if key not in ("metadata", "apiVersion", "kind")}
    if resource == PODS:
        born["status"] = {"phase": "Pending"}
    elif resource in WORKLOADS:
        born["status"] = {}
    return {"apiVersion": resource.group_version, "kind": resource.kind, "metadata": metadata, **born}


def set_defaults(resource: Resource, obj: Json) -> None:
    """Fill in what the API fills in, for a validated object."""
    if resource == NODES or (resource not in WORKLOADS and resource != PODS):
        return
    spec: Json = obj["spec"]
    if resource == PODS:
        _pod_defaults(spec)
        return
    if isinstance(spec.get("template"), dict) and isinstance(spec["template"].get("spec"), dict):
        _pod_defaults(spec["template"]["spec"])
    if resource in (DEPLOYMENTS, REPLICA_SETS):
        _default(spec, "replicas", 1)
    if resource == DEPLOYMENTS:
        _default(spec, "progressDeadlineSeconds", 600)
        _rolling(spec, "strategy", {"maxSurge": "25%", "maxUnavailable": "25%"})
    if resource == DAEMON_SETS:
        _rolling(spec, "updateStrategy", {"maxSurge": 0, "maxUnavailable": 1})
    if resource in (DEPLOYMENTS, DAEMON_SETS):
        _default(spec, "revisionHistoryLimit", 10)


def _default(spec: Json, key: str, value: Any) -> None:
    if spec.get(key) is None:
        spec[key] = value


def _rolling(spec: Json, key: str, defaults: Json) -> None:
    _default(spec, key, {})
    strategy: Json = spec[key]
    _default(strategy, "type", "RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        _default(strategy, "rollingUpdate", {})
        for name, value in defaults.items():
            _default(strategy["rollingUpdate"], name, value)


def _pod_defaults(spec: Json) -> None:
    _default(spec, "restartPolicy", "Always")
    _default(spec, "terminationGracePeriodSeconds", DEFAULT_GRACE_SECONDS)
    _default(spec, "schedulerName", "default-scheduler")


def changed(resource: Resource, before: Json, wanted: Json, *, status: bool) -> Json:
    """Return before after a write of wanted through the door of the object, or of its status."""
    if status:
        result = {key: value for key, value in before.items() if key != "status"}
        if "status" in wanted:
            result["status"] = wanted["status"]
        return result
    given = wanted.get("metadata")
    if not isinstance(given, dict):
        raise Rejected("metadata: Invalid value: must be an object")
    result = dict(wanted)
    if resource in WITH_STATUS:
        result.pop("status", None)
        if "status" in before:
            result["status"] = before["status"]
    metadata = {key: value for key, value in given.items() if key not in _SERVER_OWNED}
    metadata |= {key: before["metadata"][key] for key in _SERVER_OWNED if key in before["metadata"]}
    if resource in _WITH_GENERATION and result.get("spec") != before.get("spec"):
        metadata["generation"] = int(metadata.get("generation", 0)) + 1
    for field in ("apiVersion", "kind"):
        if result.get(field) != before[field]:
            raise Rejected(f"{field}: Invalid value: {str(result.get(field))[:100]!r}: field is immutable")
    result["metadata"] = {key: value for key, value in metadata.items() if value not in ({}, [])}
    return result


def grace_for(resource: Resource, obj: Json, asked: int | None) -> int:
    """Return the seconds that a deletion leaves the object; 0 removes it at once."""
    if resource != PODS:
        return 0
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    if not spec.get("nodeName") or status.get("phase") in ("Failed", "Succeeded"):
        return 0
    if asked is not None:
        return max(0, asked)
    grace = spec.get("terminationGracePeriodSeconds")
    return grace if isinstance(grace, int) else DEFAULT_GRACE_SECONDS


def deleting(obj: Json, grace: int, now: float) -> Json:
    """Return the object marked for deletion; a second deletion can only shorten the grace."""
    metadata: Json = dict(obj["metadata"])
    if "deletionTimestamp" in metadata and metadata.get("deletionGracePeriodSeconds", 0) <= grace:
        return obj
    metadata |= {"deletionTimestamp": timestamp(now + grace), "deletionGracePeriodSeconds": grace}
    if metadata.get("generation"):
        metadata["generation"] += 1
    return {**obj, "metadata": metadata}
