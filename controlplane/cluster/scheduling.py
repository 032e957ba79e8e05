"""The rules by which a Pod is placed: which ones are known, as the Kubernetes API has them, and what they mean.

They are read strictly: a field or operator that is not known here may change what the known ones mean, so that nothing
is concluded from any of them. What the API server refuses today, but older ones took, counts as not known. The embedded
API server refuses by the same tables. Formats: Kubernetes API, core/v1 PodSpec.
"""

from collections.abc import Iterator, Mapping
from sys import intern

from controlplane.cluster import fields
from controlplane.cluster.api import Json
from controlplane.cluster.fieldrules import (
    TEXT,
    TEXTS,
    Check,
    Wrong,
    invalid,
    label_key,
    label_value,
    list_of,
    needed,
    object_of,
    pairs,
    text,
)
from controlplane.domain import contract
from controlplane.domain.objects import NodeTerm, NotUnderstood, Requirement, SchedulingRules, Toleration
from controlplane.domain.workloads.placement import NAME_FIELD, int64

TAINT_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_OF_SELECTORS = ("In", "NotIn", "Exists", "DoesNotExist")
_OF_OWN_LABELS = (("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn"))


def _expression(expression: Json, path: str) -> Iterator[Wrong]:
    operator, values = expression["operator"], expression.get("values") or []
    if operator in ("In", "NotIn") and not values:
        yield needed(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'")
    if operator in ("Exists", "DoesNotExist") and values:
        yield invalid(f"{path}.values", values, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
    if operator in ("Gt", "Lt") and len(values) != 1:
        yield needed(f"{path}.values", "must be specified single value when `operator` is 'Lt' or 'Gt'")


def _of_fields(expression: Json, path: str) -> Iterator[Wrong]:
    if expression["key"] != NAME_FIELD:
        yield invalid(f"{path}.key", expression["key"], "not a valid field selector key")
    if len(values := expression.get("values") or []) != 1:
        yield invalid(f"{path}.values", values, "must be only one value for a node field selector")


def _expressions(*operators: str, also: Check = _expression) -> Check:
    known = {"key": text(label_key), "operator": text(supported=operators), "values": TEXTS}
    return list_of(object_of(known, required="key operator", also=also))


def _toleration_fits(toleration: Json, path: str) -> Iterator[Wrong]:
    key, operator, value, effect = (toleration.get(name) or "" for name in ("key", "operator", "value", "effect"))
    if not key and operator != "Exists":
        yield invalid(f"{path}.operator", operator, "operator must be Exists when `key` is empty")
    if operator == "Exists" and value:
        yield invalid(f"{path}.operator", value, "value must be empty when `operator` is 'Exists'")
    if toleration.get("tolerationSeconds") is not None and effect != "NoExecute":
        yield invalid(f"{path}.effect", effect, "effect must be 'NoExecute' when `tolerationSeconds` is set")


def affinity(required: Check) -> Check:
    """Return the check of a kind of affinity; preferences may hold anything."""
    return object_of({_REQUIRED: required}, others=("preferredDuringSchedulingIgnoredDuringExecution",))


LABEL_SELECTOR = object_of({"matchLabels": pairs(), "matchExpressions": _expressions(*_OF_SELECTORS)})


def _own_labels(term: Json, path: str) -> Iterator[Wrong]:
    selector = term.get("labelSelector") or {}
    named = {*(selector.get("matchLabels") or ()), *(each["key"] for each in selector.get("matchExpressions") or ())}
    for field, _ in _OF_OWN_LABELS:
        keys = term.get(field) or []
        if keys and term.get("labelSelector") is None:
            yield Wrong(f"{path}.{field}", "Forbidden: must not be specified when labelSelector is not set")
        for index, key in enumerate(keys):
            if key in named:
                yield invalid(f"{path}.{field}[{index}]", key, "exists in the labelSelector or a list before")
        named |= set(keys)


_LABEL_KEYS = list_of(text(label_key))
POD_AFFINITY = affinity(
    list_of(
        object_of(
            {
                "topologyKey": TEXT,
                "labelSelector": LABEL_SELECTOR,
                "namespaceSelector": LABEL_SELECTOR,
                "namespaces": TEXTS,
                "matchLabelKeys": _LABEL_KEYS,
                "mismatchLabelKeys": _LABEL_KEYS,
            },
            required="topologyKey",
            also=_own_labels,
        )
    )
)
_NODE_TERM = object_of(
    {
        "matchExpressions": _expressions(*_OF_SELECTORS, "Gt", "Lt"),
        "matchFields": _expressions("In", "NotIn", also=_of_fields),
    }
)
NODE_AFFINITY = affinity(object_of({"nodeSelectorTerms": list_of(_NODE_TERM)}, required="nodeSelectorTerms"))
TOLERATIONS = list_of(
    object_of(
        {
            "key": text(label_key),
            "operator": text(supported=("Equal", "Exists")),
            "value": text(label_value),
            "effect": text(supported=TAINT_EFFECTS),
        },
        others=("tolerationSeconds",),
        also=_toleration_fits,
    )
)
_RULES = object_of(
    {
        "nodeName": TEXT,
        "nodeSelector": pairs(),
        "affinity": object_of({"nodeAffinity": NODE_AFFINITY}, others=("podAffinity", "podAntiAffinity")),
        "tolerations": TOLERATIONS,
    },
    strict=False,
)


def rules(spec: Json, path: str = "") -> SchedulingRules | NotUnderstood:
    """Read what the specification of a Pod demands of a Node; path is where it stands, for what is not understood."""
    if wrong := next(iter(_RULES(spec, path)), None):
        return NotUnderstood(f"{wrong.path} ({wrong.text})")
    required = fields.mapping(spec, "affinity", "nodeAffinity").get(_REQUIRED)
    return SchedulingRules(
        node_name=fields.word(spec, "nodeName"),
        node_selector=_equalities(spec, "nodeSelector"),
        required_affinity=None if required is None else _terms(required["nodeSelectorTerms"]),
        tolerations=tuple(
            fields.view(Toleration, {"operator": "Equal", **fields.filled(each)})
            for each in fields.objects(spec, "tolerations")
        ),
    )


def label_selector(spec: Json) -> tuple[Requirement, ...] | NotUnderstood | None:
    """Read the label selector of a workload; None when it has none."""
    selector = spec.get("selector")
    if selector is None:
        return None
    if wrong := next(iter(LABEL_SELECTOR(selector, "spec.selector")), None):
        return NotUnderstood(f"{wrong.path} ({wrong.text})")
    return _equalities(selector, "matchLabels") + _requirements(selector, "matchExpressions")


def pod_selector(term: Json, labels: Mapping[str, str]) -> tuple[Requirement, ...] | NotUnderstood | None:
    """Read which Pods a term of affinity between Pods means for a Pod with these labels; None when it means none.

    matchLabelKeys and mismatchLabelKeys ask for the value that the Pod itself has, and are nothing where it has none.
    """
    selector = label_selector({"selector": term.get("labelSelector")})
    if not isinstance(selector, tuple):
        return selector
    return selector + tuple(
        Requirement(key, operator, (labels[key],))
        for field, operator in _OF_OWN_LABELS
        for key in fields.texts(term, field)
        if key in labels
    )


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
    if any(term.get("topologyKey") != contract.HOSTNAME for term in apart):
        return "podAntiAffinity"
    spread = fields.objects(spec, "topologySpreadConstraints")
    strict = (term for term in spread if term.get("whenUnsatisfiable") != "ScheduleAnyway")
    return "topologySpreadConstraints" if any(term.get("topologyKey") != contract.HOSTNAME for term in strict) else ""


def _terms(terms: list[Json]) -> tuple[NodeTerm, ...]:
    """Read alternatives, but for those that are defined to match no Node: without requirements, or unparsable."""
    read = (NodeTerm(_requirements(each, "matchExpressions"), _requirements(each, "matchFields")) for each in terms)
    return tuple(term for term in read if (term.labels or term.fields) and all(map(_parses, term.labels)))


def _parses(requirement: Requirement) -> bool:
    """Return whether the scheduler can parse the values; the API server accepts some that it cannot."""
    numeric = requirement.operator in ("Gt", "Lt")
    return all(not label_value(value) and (not numeric or int64(value) is not None) for value in requirement.values)


def _requirements(obj: Json, name: str) -> tuple[Requirement, ...]:
    return tuple(
        fields.view(Requirement, each, values=tuple(map(intern, fields.texts(each, "values"))))
        for each in fields.objects(obj, name)
    )


def _equalities(obj: Json, name: str) -> tuple[Requirement, ...]:
    return tuple(Requirement(key, "In", (value,)) for key, value in sorted(fields.words(obj, name).items()))
