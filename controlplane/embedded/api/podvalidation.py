"""Validation of Pod specs, of their scheduling rules and of changes to them."""

from __future__ import annotations

from typing import Any

from controlplane.cluster import scheduling
from controlplane.cluster.api import Json
from controlplane.domain.objects import NotUnderstood
from controlplane.embedded.api.containervalidation import containers, texts
from controlplane.embedded.api.fielderrors import (
    FieldErrors,
    child,
    children,
    count,
    label_key,
    label_value,
    labels,
    subdomain,
    text,
)

_RESTART_POLICIES = ("Always", "OnFailure", "Never")
_TOLERATION_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_SELECTOR_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")
_NODE_OPERATORS = (*_SELECTOR_OPERATORS, "Gt", "Lt")
_MUTABLE = ("activeDeadlineSeconds", "terminationGracePeriodSeconds", "tolerations", "schedulingGates")


def pod_spec(spec: Json, path: str, errors: FieldErrors) -> None:
    """Note what is wrong in a Pod spec."""
    containers(spec, path, errors)
    if node_name := text(spec, "nodeName", path, errors):
        subdomain(node_name, f"{path}.nodeName", errors)
    count(spec, "terminationGracePeriodSeconds", path, errors)
    count(spec, "activeDeadlineSeconds", path, errors)
    if spec.get("activeDeadlineSeconds") == 0:
        errors.invalid(f"{path}.activeDeadlineSeconds", 0, "must be between 1 and 2147483647, inclusive")
    policy = text(spec, "restartPolicy", path, errors)
    if policy and policy not in _RESTART_POLICIES:
        errors.unsupported(f"{path}.restartPolicy", policy, _RESTART_POLICIES)
    labels(spec, "nodeSelector", path, errors)
    for here, toleration in children(spec, "tolerations", path, errors):
        _toleration(toleration, here, errors)
    for here, gate in children(spec, "readinessGates", path, errors):
        label_key(text(gate, "conditionType", here, errors), f"{here}.conditionType", errors)
    affinity = child(spec, "affinity", path, errors)
    _node_affinity(child(affinity, "nodeAffinity", f"{path}.affinity", errors), f"{path}.affinity.nodeAffinity", errors)
    for kind in ("podAffinity", "podAntiAffinity"):
        _pod_affinity(child(affinity, kind, f"{path}.affinity", errors), f"{path}.affinity.{kind}", errors)
    rules = scheduling.rules(spec)
    if isinstance(rules, NotUnderstood) and not errors:
        errors.invalid(path, rules.what, "is not understood by the scheduler")


def _toleration(toleration: Json, path: str, errors: FieldErrors) -> None:
    key, operator = text(toleration, "key", path, errors), text(toleration, "operator", path, errors)
    effect = text(toleration, "effect", path, errors)
    if key:
        label_key(key, f"{path}.key", errors)
    elif operator != "Exists":
        errors.invalid(f"{path}.operator", operator, "operator must be Exists when `key` is empty")
    if operator not in ("", "Equal", "Exists"):
        errors.unsupported(f"{path}.operator", operator, ("Equal", "Exists"))
    value = text(toleration, "value", path, errors)
    if operator == "Exists" and value:
        errors.invalid(f"{path}.operator", value, "value must be empty when `operator` is 'Exists'")
    label_value(value, f"{path}.value", errors)
    if effect and effect not in _TOLERATION_EFFECTS:
        errors.unsupported(f"{path}.effect", effect, _TOLERATION_EFFECTS)
    if toleration.get("tolerationSeconds") is not None and effect != "NoExecute":
        errors.invalid(f"{path}.effect", effect, "effect must be 'NoExecute' when `tolerationSeconds` is set")


def _expressions(obj: Json, field: str, path: str, operators: tuple[str, ...], errors: FieldErrors) -> None:
    for here, item in children(obj, field, path, errors):
        label_key(text(item, "key", here, errors), f"{here}.key", errors)
        operator = text(item, "operator", here, errors)
        if operator not in operators:
            errors.unsupported(f"{here}.operator", operator, operators)
        texts(item, "values", here, errors)
        values: Any = item.get("values") or []
        if operator in ("In", "NotIn") and not values:
            errors.required(f"{here}.values", "must be specified when `operator` is 'In' or 'NotIn'")
        if operator in ("Exists", "DoesNotExist") and values:
            errors.invalid(
                f"{here}.values", values, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            )
        if operator in ("Gt", "Lt") and len(values) != 1:
            errors.required(f"{here}.values", "must be specified single value when `operator` is 'Lt' or 'Gt'")


def label_selector(selector: Json, path: str, errors: FieldErrors) -> None:
    """Note what is wrong in a LabelSelector."""
    labels(selector, "matchLabels", path, errors)
    _expressions(selector, "matchExpressions", path, _SELECTOR_OPERATORS, errors)


def _node_affinity(affinity: Json, path: str, errors: FieldErrors) -> None:
    field = "requiredDuringSchedulingIgnoredDuringExecution"
    if affinity.get(field) is None:
        return
    required = child(affinity, field, path, errors)
    terms = children(required, "nodeSelectorTerms", f"{path}.{field}", errors)
    if not terms:
        errors.required(f"{path}.{field}.nodeSelectorTerms", "must have at least one node selector term")
    for here, term in terms:
        _expressions(term, "matchExpressions", here, _NODE_OPERATORS, errors)
        _expressions(term, "matchFields", here, ("In", "NotIn"), errors)


def _pod_affinity(affinity: Json, path: str, errors: FieldErrors) -> None:
    for here, term in children(affinity, "requiredDuringSchedulingIgnoredDuringExecution", path, errors):
        if not text(term, "topologyKey", here, errors):
            errors.required(f"{here}.topologyKey", "can not be empty")
        label_selector(child(term, "labelSelector", here, errors), f"{here}.labelSelector", errors)
        texts(term, "namespaces", here, errors)


def pod_change(before: Json, after: Json, errors: FieldErrors) -> None:
    """Note a change of a Pod's spec that the API does not allow: nearly all but images and more tolerations."""
    if _fixed(before) != _fixed(after):
        errors.invalid(
            "spec",
            {key: value for key, value in after.items() if value != before.get(key)},
            "Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
            "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to"
            " existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was"
            " previously negative)",
        )
    was, now = before.get("activeDeadlineSeconds"), after.get("activeDeadlineSeconds")
    if was is not None and now is None:
        errors.invalid("spec.activeDeadlineSeconds", None, "must not update from a positive integer to nil value")
    elif was is not None and isinstance(now, int) and now > was:
        errors.invalid("spec.activeDeadlineSeconds", now, "must be less than or equal to previous value")
    kept = after.get("tolerations") or []
    if any(toleration not in kept for toleration in before.get("tolerations") or []):
        errors.invalid("spec.tolerations", kept, "existing tolerations can not be modified except their seconds")


def _fixed(spec: Json) -> Json:
    fixed = {key: value for key, value in spec.items() if key not in _MUTABLE}
    for field in ("containers", "initContainers"):
        if isinstance(fixed.get(field), list):
            fixed[field] = [
                {key: value for key, value in container.items() if key != "image"}
                for container in fixed[field]
                if isinstance(container, dict)
            ]
    return fixed
