"""Additions: what operators and their tools put on the Node of a base, which goes with the Node and comes back with it.

These are all labels, annotations and taints that are not ours, and whether the Node is cordoned. What controllers of
Kubernetes and autoscalers set by themselves describes the Node as it was, and is left to them. The Lease of the base
keeps the additions as JSON; what is read back is checked, since a Node that the API server refuses is of no use.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address

from controlplane.domain import contract
from controlplane.domain.base.vnode import LABEL_VALUE, OWN_LABELS, taints
from controlplane.domain.identity import QUALIFIED_NAME, BaseId
from controlplane.domain.objects import Node, Taint

LIMIT = 16 * 1024
"""Bytes of the record; a Node's annotations may have 256 KiB."""
NOTHING = "{}"
"""The record of no additions."""

_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_OWN_TAINTS = frozenset((taint.key, taint.effect) for taint in taints(""))
_OWN_ANNOTATIONS = frozenset(
    (
        contract.ANNOTATION_BASE_ADDRESS,
        contract.ANNOTATION_TUNNEL,
        contract.ANNOTATION_METRICS_PATH,
        contract.ANNOTATION_OWNED_MODULES,
    )
)
_LABELS_OF_OTHERS = ("beta.kubernetes.io/",)
_ANNOTATIONS_OF_OTHERS = ("node.alpha.kubernetes.io/", "volumes.kubernetes.io/", "csi.volume.kubernetes.io/")
_TAINTS_OF_OTHERS = (
    "node.kubernetes.io/",
    "node.cloudprovider.kubernetes.io/",
    "ToBeDeletedByClusterAutoscaler",
    "DeletionCandidateOfClusterAutoscaler",
    "karpenter.sh/",
)


@dataclass(frozen=True, slots=True)
class Additions:
    """What others put on a Node; host is the name of the base's host at that time."""

    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    unschedulable: bool = False
    host: str = ""

    def __bool__(self) -> bool:
        return bool(self.labels or self.annotations or self.taints or self.unschedulable)

    def belong_to(self, base: BaseId, host: str) -> bool:
        """Return whether they are for a base: an address may meanwhile be another one's, on another host."""
        return self.host == host or not _is_address(base)


_PARTS: Mapping[str, Callable[[Additions, Additions], Additions]] = {
    "taints": lambda kept, all_: replace(kept, taints=all_.taints),
    "labels": lambda kept, all_: replace(kept, labels=all_.labels),
    "annotations": lambda kept, all_: replace(kept, annotations=all_.annotations),
}
"""In the order of their weight: what keeps Pods away comes first."""


def of(node: Node) -> Additions:
    """Return the additions of a Node."""
    return Additions(
        labels=_foreign(node.labels, OWN_LABELS, _LABELS_OF_OTHERS),
        annotations=_foreign(node.annotations, _OWN_ANNOTATIONS, _ANNOTATIONS_OF_OTHERS),
        taints=tuple(
            taint
            for taint in node.taints
            if (taint.key, taint.effect) not in _OWN_TAINTS and not taint.key.startswith(_TAINTS_OF_OTHERS)
        ),
        unschedulable=node.unschedulable,
        host=node.labels.get(contract.BASE_HOST_NAME, ""),
    )


def onto(node: Node, additions: Additions) -> Node:
    """Return a Node with additions; what it has itself stays."""
    own = {(taint.key, taint.effect) for taint in node.taints}
    return replace(
        node,
        labels={**additions.labels, **node.labels},
        annotations={**additions.annotations, **node.annotations},
        taints=(*node.taints, *(taint for taint in additions.taints if (taint.key, taint.effect) not in own)),
        unschedulable=node.unschedulable or additions.unschedulable,
    )


def record(additions: Additions) -> tuple[str, tuple[str, ...]]:
    """Return the record, and which parts have no room in it: taints, labels, annotations."""
    kept, left_out = Additions(unschedulable=additions.unschedulable, host=additions.host), []
    for part, with_part in _PARTS.items():
        more = with_part(kept, additions)
        if len(_text(more)) <= LIMIT:
            kept = more
        else:
            left_out.append(part)
    return _text(kept), tuple(left_out)


def recorded(text: str) -> Additions:
    """Read what record wrote; what cannot be read, or cannot stand on a Node, is left out."""
    if len(text) > LIMIT:
        return Additions()
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return Additions()
    if not isinstance(found, dict):
        return Additions()
    listed = found.get("taints")
    kept = (_taint(each) for each in (listed if isinstance(listed, list) else ()))
    unique = {(taint.key, taint.effect): taint for taint in kept if taint is not None}
    host = found.get("host")
    return Additions(
        labels={name: value for name, value in _pairs(found, "labels") if LABEL_VALUE.fullmatch(value)},
        annotations=dict(_pairs(found, "annotations")),
        taints=tuple(unique.values()),
        unschedulable=found.get("unschedulable") is True,
        host=host if isinstance(host, str) else "",
    )


def _foreign(found: Mapping[str, str], own: frozenset[str], of_others: tuple[str, ...]) -> dict[str, str]:
    return {name: found[name] for name in sorted(found) if name not in own and not name.startswith(of_others)}


def _text(additions: Additions) -> str:
    if not additions:
        return NOTHING
    parts = {
        "annotations": additions.annotations,
        "host": additions.host,
        "labels": additions.labels,
        "taints": [[taint.key, taint.value, taint.effect] for taint in additions.taints],
        "unschedulable": additions.unschedulable,
    }
    return json.dumps({name: part for name, part in parts.items() if part}, separators=(",", ":"))


def _pairs(found: Mapping[str, object], name: str) -> list[tuple[str, str]]:
    pairs = found.get(name)
    return [
        (key, value)
        for key, value in (pairs.items() if isinstance(pairs, dict) else ())
        if isinstance(value, str) and QUALIFIED_NAME.fullmatch(key)
    ]


def _taint(found: object) -> Taint | None:
    match found:
        case [str(key), str(value), str(effect)] if (
            QUALIFIED_NAME.fullmatch(key) and LABEL_VALUE.fullmatch(value) and effect in _EFFECTS
        ):
            return Taint(key, value, effect)
    return None


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
