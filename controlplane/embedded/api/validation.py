"""Validation of objects as the Kubernetes API does it, for the fields that this cluster acts on.

Fields that it does not know pass through here, as stored objects may carry them;
``controlplane.embedded.api.schema`` refuses misspelt ones in manifests.
"""

from __future__ import annotations

import re

from controlplane.cluster.api import DAEMON_SETS, DEPLOYMENTS, NODES, PODS, REPLICA_SETS, Json, Resource
from controlplane.domain.workloads.placement import matches
from controlplane.embedded.api import podvalidation
from controlplane.embedded.api.fielderrors import (
    FieldErrors,
    child,
    children,
    count,
    dns_label,
    label_key,
    label_value,
    labels,
    subdomain,
    text,
)
from controlplane.embedded.api.resources import WORKLOADS, qualified_kind
from controlplane.embedded.api.selectors import label_selector

MAX_ANNOTATIONS = 256 * 1024
"""Characters of all annotations of one object, as in Kubernetes (which counts bytes)."""

_PERCENT_OR_INTEGER = re.compile(r"[0-9]{1,3}%")
_TAINT_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def validate(resource: Resource, obj: Json) -> None:
    """Raise Rejected naming every field that is wrong, with its path."""
    errors = FieldErrors()
    metadata = child(obj, "metadata", "", errors)
    _metadata(resource, metadata, errors)
    spec = child(obj, "spec", "", errors)
    child(obj, "status", "", errors)
    if resource == PODS:
        podvalidation.pod_spec(spec, "spec", errors)
    elif resource == NODES:
        _taints(spec, errors)
    elif resource in WORKLOADS:
        _workload(resource, spec, errors)
    name = metadata.get("name")
    errors.raise_if_any(qualified_kind(resource), name if isinstance(name, str) else "")


def validate_change(resource: Resource, before: Json, after: Json) -> None:
    """Raise Rejected for a change of what cannot change once it is there."""
    errors = FieldErrors()
    old, new = before.get("spec") or {}, after.get("spec") or {}
    if resource == PODS:
        podvalidation.pod_change(old, new, errors)
    elif resource in WORKLOADS and old.get("selector") != new.get("selector"):
        errors.invalid("spec.selector", new.get("selector"), "field is immutable")
    errors.raise_if_any(qualified_kind(resource), str(after["metadata"]["name"]))


def _metadata(resource: Resource, metadata: Json, errors: FieldErrors) -> None:
    name = text(metadata, "name", "metadata", errors)
    if name:
        subdomain(name, "metadata.name", errors)
    else:
        errors.required("metadata.name", "name or generateName is required")
    if resource.namespaced:
        dns_label(text(metadata, "namespace", "metadata", errors), "metadata.namespace", errors)
    labels(metadata, "labels", "metadata", errors)
    size = 0
    for key, value in child(metadata, "annotations", "metadata", errors).items():
        label_key(key.lower(), "metadata.annotations", errors)
        if isinstance(value, str):
            size += len(key) + len(value)
        else:
            errors.invalid(f"metadata.annotations[{key}]", value, "must be a string")
    if size > MAX_ANNOTATIONS:
        errors.invalid("metadata.annotations", f"{size} characters", f"must be no more than {MAX_ANNOTATIONS}")
    for path, owner in children(metadata, "ownerReferences", "metadata", errors):
        for field in ("apiVersion", "kind", "name", "uid"):
            if not text(owner, field, path, errors):
                errors.required(f"{path}.{field}")
    finalizers = metadata.get("finalizers")
    if finalizers is not None and not (isinstance(finalizers, list) and all(isinstance(f, str) for f in finalizers)):
        errors.invalid("metadata.finalizers", finalizers, "must be a list of strings")


def _taints(spec: Json, errors: FieldErrors) -> None:
    seen: set[tuple[str, str]] = set()
    for path, taint in children(spec, "taints", "spec", errors):
        key, effect = text(taint, "key", path, errors), text(taint, "effect", path, errors)
        label_key(key, f"{path}.key", errors)
        label_value(taint.get("value") or "", f"{path}.value", errors)
        if not effect:
            errors.required(f"{path}.effect")
        elif effect not in _TAINT_EFFECTS:
            errors.unsupported(f"{path}.effect", effect, _TAINT_EFFECTS)
        if (key, effect) in seen:
            errors.duplicate(path, taint)
        seen.add((key, effect))


def _workload(resource: Resource, spec: Json, errors: FieldErrors) -> None:
    count(spec, "replicas", "spec", errors)
    count(spec, "minReadySeconds", "spec", errors)
    count(spec, "revisionHistoryLimit", "spec", errors)
    count(spec, "progressDeadlineSeconds", "spec", errors)
    _selector(spec, errors)
    template = child(spec, "template", "spec", errors)
    if not template and resource != REPLICA_SETS:
        errors.required("spec.template")
    pod = child(template, "spec", "spec.template", errors)
    podvalidation.pod_spec(pod, "spec.template.spec", errors)
    if pod.get("restartPolicy", "Always") != "Always":
        errors.unsupported("spec.template.spec.restartPolicy", pod["restartPolicy"], ("Always",))
    if resource == DEPLOYMENTS:
        _strategy(child(spec, "strategy", "spec", errors), "spec.strategy", ("RollingUpdate", "Recreate"), errors)
    elif resource == DAEMON_SETS:
        strategy = child(spec, "updateStrategy", "spec", errors)
        _strategy(strategy, "spec.updateStrategy", ("RollingUpdate", "OnDelete"), errors)


def _selector(spec: Json, errors: FieldErrors) -> None:
    selector = child(spec, "selector", "spec", errors)
    podvalidation.label_selector(selector, "spec.selector", errors)
    requirements = label_selector(selector)
    if not requirements:
        errors.required("spec.selector")
        return
    metadata = child(child(spec, "template", "spec", errors), "metadata", "spec.template", errors)
    found = labels(metadata, "labels", "spec.template.metadata", errors)
    if not matches(requirements, found):
        errors.invalid("spec.template.metadata.labels", found, "`selector` does not match template `labels`")


def _strategy(strategy: Json, path: str, types: tuple[str, ...], errors: FieldErrors) -> None:
    kind = text(strategy, "type", path, errors)
    if kind and kind not in types:
        errors.unsupported(f"{path}.type", kind, types)
    rolling = child(strategy, "rollingUpdate", path, errors)
    if rolling and kind and kind != "RollingUpdate":
        errors.invalid(f"{path}.rollingUpdate", rolling, f"may not be specified when strategy `type` is '{kind}'")
    for field in ("maxSurge", "maxUnavailable"):
        value = rolling.get(field)
        if isinstance(value, str) and not _PERCENT_OR_INTEGER.fullmatch(value):
            errors.invalid(f"{path}.rollingUpdate.{field}", value, "a valid percent string must be like '25%'")
        elif not isinstance(value, str):
            count(rolling, field, f"{path}.rollingUpdate", errors)
    if all(str(rolling.get(field)) in ("0", "0%") for field in ("maxSurge", "maxUnavailable")):
        errors.invalid(f"{path}.rollingUpdate.maxUnavailable", 0, "may not be 0 when `maxSurge` is 0")
