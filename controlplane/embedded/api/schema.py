"""The fields that manifests may have, so that a misspelt one is refused instead of ignored.

As ``kubectl apply`` does it by default (strict field validation), for the parts of
the objects that people write; below volumes, probes, security contexts and other
parts that this cluster does not act on, anything goes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from controlplane.app.ports import Rejected
from controlplane.cluster.api import DAEMON_SETS, DEPLOYMENTS, NODES, PODS, REPLICA_SETS, Json, Resource
from controlplane.domain.base import podfields


@dataclass(frozen=True, slots=True)
class _Shape:
    """An object's fields: those whose inside is known too, and the others."""

    inside: Mapping[str, _Shape] = field(default_factory=dict)
    others: frozenset[str] = frozenset()


def _shape(others: str = "", **inside: _Shape) -> _Shape:
    return _Shape(inside, frozenset(others.split()))


def _fields_of(table: Iterable[podfields.Field], **inside: _Shape) -> _Shape:
    return _Shape(inside, podfields.top_level(table) - inside.keys())


_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"

_METADATA = _shape(
    "name generateName namespace labels annotations finalizers uid resourceVersion generation creationTimestamp "
    "deletionTimestamp deletionGracePeriodSeconds managedFields selfLink",
    ownerReferences=_shape("apiVersion kind name uid controller blockOwnerDeletion"),
)
_EXPRESSION = _shape("key operator values")
_SELECTOR = _shape("matchLabels", matchExpressions=_EXPRESSION)
_NODE_TERM = _shape(matchExpressions=_EXPRESSION, matchFields=_EXPRESSION)
_POD_TERM = _shape(
    "topologyKey namespaces matchLabelKeys mismatchLabelKeys", labelSelector=_SELECTOR, namespaceSelector=_SELECTOR
)
_POD_AFFINITY = _shape(_PREFERRED, **{_REQUIRED: _POD_TERM})
_AFFINITY = _shape(
    nodeAffinity=_shape(_PREFERRED, **{_REQUIRED: _shape(nodeSelectorTerms=_NODE_TERM)}),
    podAffinity=_POD_AFFINITY,
    podAntiAffinity=_POD_AFFINITY,
)
_CONTAINER = _fields_of(
    podfields.CONTAINER,
    env=_shape("name value", valueFrom=_shape(" ".join(podfields.inside(podfields.CONTAINER, "env.valueFrom")))),
    ports=_shape("name hostPort containerPort protocol hostIP"),
)
_POD = _fields_of(
    podfields.POD,
    containers=_CONTAINER,
    initContainers=_CONTAINER,
    tolerations=_shape("key operator value effect tolerationSeconds"),
    readinessGates=_shape("conditionType"),
    affinity=_AFFINITY,
)
_TEMPLATE = _shape(metadata=_METADATA, spec=_POD)
_STRATEGY = _shape("type", rollingUpdate=_shape("maxSurge maxUnavailable"))

_SPECS: Mapping[Resource, _Shape] = {
    PODS: _POD,
    NODES: _shape(
        "podCIDR podCIDRs providerID unschedulable configSource externalID",
        taints=_shape("key value effect timeAdded"),
    ),
    DEPLOYMENTS: _shape(
        "replicas minReadySeconds revisionHistoryLimit paused progressDeadlineSeconds",
        selector=_SELECTOR,
        template=_TEMPLATE,
        strategy=_STRATEGY,
    ),
    REPLICA_SETS: _shape("replicas minReadySeconds", selector=_SELECTOR, template=_TEMPLATE),
    DAEMON_SETS: _shape(
        "minReadySeconds revisionHistoryLimit", selector=_SELECTOR, template=_TEMPLATE, updateStrategy=_STRATEGY
    ),
}


def check_fields(resource: Resource, manifest: Json) -> None:
    """Raise Rejected naming each field of a manifest that the resource does not have."""
    spec = _SPECS.get(resource)
    if spec is None:
        return
    shape = _shape("apiVersion kind status", metadata=_METADATA, spec=spec)
    unknown = list(_unknown(shape, manifest, ""))
    if unknown:
        told = ", ".join(f'unknown field "{path}"{hint}' for path, hint in unknown[:10])
        fields = tuple((path, f"unknown field{hint}") for path, hint in unknown[:10])
        raise Rejected(f"strict decoding error: {told}", fields)


def _unknown(shape: _Shape, obj: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(obj, list):
        for index, item in enumerate(obj):
            yield from _unknown(shape, item, f"{path}[{index}]")
    elif isinstance(obj, dict):
        for key, value in obj.items():
            here = f"{path}.{key}".lstrip(".")
            if key in shape.inside:
                yield from _unknown(shape.inside[key], value, here)
            elif key not in shape.others:
                similar = get_close_matches(key, [*shape.inside, *shape.others], n=1)
                meant = f' (did you mean "{similar[0]}"?)' if similar else ""
                yield here[:200], meant
