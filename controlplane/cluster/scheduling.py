"""From the specification of a Pod to the rules by which it is placed, or to the part of it that is not understood.

Rules are read strictly: a field or operator that is not known here may change what the known ones mean, so that nothing
is concluded from any of them. What the API server refuses today, but older ones took, counts as not known. Formats:
Kubernetes API, core/v1 PodSpec.
"""

import re
from collections.abc import Iterator
from sys import intern
from typing import Any

from controlplane.cluster import fields
from controlplane.cluster.api import Json
from controlplane.domain.objects import NodeTerm, NotUnderstood, Requirement, SchedulingRules, Toleration
from controlplane.domain.workloads.placement import NAME_FIELD, int64

HOSTNAME = "kubernetes.io/hostname"
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"

_MOST = 100_000
_COUNTS = {"In": (1, _MOST), "NotIn": (1, _MOST), "Exists": (0, 0), "DoesNotExist": (0, 0), "Gt": (1, 1), "Lt": (1, 1)}
"""Operators on labels of Nodes, and how many values one has: the least and the most."""
_OF_SELECTORS = frozenset(_COUNTS) - {"Gt", "Lt"}
_OF_FIELDS = frozenset({"In", "NotIn"})
_OF_TOLERATIONS = frozenset({"Equal", "Exists"})
_EFFECTS = frozenset({"", "NoSchedule", "PreferNoSchedule", "NoExecute"})
_LABEL_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")


class _Unknown(Exception):
    """Something is not known here; the message says what and where."""


def rules(spec: Json, path: str = "") -> SchedulingRules | NotUnderstood:
    """Read what the specification of a Pod demands of a Node; path is where it stands, for what is not understood."""
    try:
        affinity = _object(spec, "affinity", path, {"nodeAffinity", "podAffinity", "podAntiAffinity"})
        return SchedulingRules(
            node_name=_text(spec, "nodeName", path),
            node_selector=_equalities(spec, "nodeSelector", path),
            required_affinity=_required(affinity, f"{path}affinity."),
            tolerations=tuple(_toleration(each, at) for each, at in _objects(spec, "tolerations", path)),
        )
    except _Unknown as unknown:
        return NotUnderstood(str(unknown))


def label_selector(spec: Json) -> tuple[Requirement, ...] | NotUnderstood | None:
    """Read the label selector of a workload; None when it has none."""
    if spec.get("selector") is None:
        return None
    try:
        selector = _object(spec, "selector", "spec.", {"matchLabels", "matchExpressions"})
        return (
            *_equalities(selector, "matchLabels", "spec.selector."),
            *_requirements(selector, "matchExpressions", "spec.selector.", _OF_SELECTORS),
        )
    except _Unknown as unknown:
        return NotUnderstood(str(unknown))


def beyond_node(spec: Json) -> str:
    """Name a rule by which more than the Node decides whether a Pod comes to one that has none of its kind.

    Rules that keep Pods apart by host name, or spread them evenly over hosts, are met there. Empty when there is no
    such rule.
    """
    if spec.get("schedulingGates"):
        return "schedulingGates"
    affinity = fields.mapping(spec, "affinity")
    if fields.mapping(affinity, "podAffinity").get(_REQUIRED):
        return "podAffinity"
    apart = fields.objects(fields.mapping(affinity, "podAntiAffinity"), _REQUIRED)
    if any(term.get("topologyKey") != HOSTNAME for term in apart):
        return "podAntiAffinity"
    spread = fields.objects(spec, "topologySpreadConstraints")
    strict = (term for term in spread if term.get("whenUnsatisfiable") != "ScheduleAnyway")
    return "topologySpreadConstraints" if any(term.get("topologyKey") != HOSTNAME for term in strict) else ""


def _required(affinity: Json, path: str) -> tuple[NodeTerm, ...] | None:
    node = _object(affinity, "nodeAffinity", path, {_REQUIRED, _PREFERRED})
    path += "nodeAffinity."
    if node.get(_REQUIRED) is None:
        return None
    required = _object(node, _REQUIRED, path, {"nodeSelectorTerms"})
    terms = (_term(each, at) for each, at in _objects(required, "nodeSelectorTerms", f"{path}{_REQUIRED}."))
    return tuple(term for term in terms if term is not None)


def _term(obj: Json, path: str) -> NodeTerm | None:
    """Read an alternative; None for one that is defined to match no Node: without requirements, or unparsable."""
    _only(obj, path, {"matchExpressions", "matchFields"})
    labels = _requirements(obj, "matchExpressions", f"{path}.", frozenset(_COUNTS))
    named = _requirements(obj, "matchFields", f"{path}.", _OF_FIELDS)
    for requirement in named:
        if requirement.key != NAME_FIELD or len(requirement.values) != 1:
            raise _Unknown(f"{path}.matchFields: {requirement.key!r} with {len(requirement.values)} values")
    return NodeTerm(labels, named) if (labels or named) and all(map(_parses, labels)) else None


def _parses(requirement: Requirement) -> bool:
    """Return whether the scheduler can parse the values; the API server accepts some that it cannot."""
    numeric = requirement.operator in ("Gt", "Lt")
    return all(
        _LABEL_VALUE.fullmatch(value) and (not numeric or int64(value) is not None) for value in requirement.values
    )


def _requirements(obj: Json, name: str, path: str, operators: frozenset[str]) -> tuple[Requirement, ...]:
    return tuple(_requirement(each, at, operators) for each, at in _objects(obj, name, path))


def _requirement(obj: Json, path: str, operators: frozenset[str]) -> Requirement:
    _only(obj, path, {"key", "operator", "values"})
    key, operator = _text(obj, "key", f"{path}."), _text(obj, "operator", f"{path}.")
    values = _list(obj, "values", f"{path}.")
    if operator not in operators:
        raise _Unknown(f"{path}.operator {operator!r}")
    least, most = _COUNTS[operator]
    if not key or not all(isinstance(value, str) for value in values) or not least <= len(values) <= most:
        raise _Unknown(f"{path}: {operator} with key {key!r} and {len(values)} values")
    return Requirement(key, operator, tuple(map(intern, values)))


def _toleration(obj: Json, path: str) -> Toleration:
    _only(obj, path, {"key", "operator", "value", "effect", "tolerationSeconds"})
    key, value, effect = (_text(obj, name, f"{path}.") for name in ("key", "value", "effect"))
    operator = _text(obj, "operator", f"{path}.") or "Equal"
    if operator not in _OF_TOLERATIONS or (not key and operator != "Exists"):
        raise _Unknown(f"{path}.operator {operator!r}" + ("" if key else " without a key"))
    if effect not in _EFFECTS:
        raise _Unknown(f"{path}.effect {effect!r}")
    return Toleration(key, operator, value, effect)


def _equalities(obj: Json, name: str, path: str) -> tuple[Requirement, ...]:
    wanted = _object(obj, name, path)
    for key, value in wanted.items():
        if not isinstance(value, str):
            raise _Unknown(f"{path}{name}[{key}] (not a text)")
    return tuple(Requirement(intern(key), "In", (intern(value),)) for key, value in sorted(wanted.items()))


def _only(obj: Json, path: str, known: set[str]) -> None:
    for name in sorted(obj):
        if name not in known and obj[name] is not None:
            raise _Unknown(f"{path}.{name}" if path else name)


def _text(obj: Json, name: str, path: str) -> str:
    value = obj.get(name)
    if value is not None and not isinstance(value, str):
        raise _Unknown(f"{path}{name} (not a text)")
    return intern(value or "")


def _list(obj: Json, name: str, path: str) -> list[Any]:
    value = obj.get(name)
    if value is not None and not isinstance(value, list):
        raise _Unknown(f"{path}{name} (not a list)")
    return value or []


def _object(obj: Json, name: str, path: str, known: set[str] | None = None) -> Json:
    """Return an inner object that has no other fields than the known ones; an empty one where there is none."""
    value = obj.get(name)
    if value is not None and not isinstance(value, dict):
        raise _Unknown(f"{path}{name} (not an object)")
    if value and known is not None:
        _only(value, f"{path}{name}", known)
    return value or {}


def _objects(obj: Json, name: str, path: str) -> Iterator[tuple[Json, str]]:
    for index, item in enumerate(_list(obj, name, path)):
        if not isinstance(item, dict):
            raise _Unknown(f"{path}{name}[{index}] (not an object)")
        yield item, f"{path}{name}[{index}]"
