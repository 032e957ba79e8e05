"""Scheduling rules, and the Nodes on which a Pod with them may run: one table for every test of such rules.

The real scheduler is compared with it as well (``tests/contract/cluster/test_placement.py``).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]

VIRTUAL = {"key": "schedule.koupleless.io/virtual-node", "value": "True", "effect": "NoExecute"}
TOLERATED = {"key": VIRTUAL["key"], "operator": "Exists", "effect": "NoExecute"}
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


def _node(name: str, labels: Json, *taints: Json, unschedulable: bool = False) -> Json:
    spec: Json = {"taints": [VIRTUAL, *taints], **({"unschedulable": True} if unschedulable else {})}
    return {"metadata": {"name": name, "labels": labels}, "spec": spec}


NODES: dict[str, Json] = {
    node["metadata"]["name"]: node
    for node in (
        _node("five", {"zone": "a", "size": "5"}),
        _node("seven", {"zone": "b", "size": "007"}),
        _node("wordy", {"zone": "c", "size": "big", "empty": ""}),
        _node("vast", {"zone": "d", "size": "9223372036854775808"}),
        _node("greatest", {"zone": "d", "size": "9223372036854775807"}),
        _node("bare", {}),
        _node("cordoned", {"zone": "a"}, unschedulable=True),
        _node("kept", {"zone": "a"}, {"key": "gpu", "value": "yes", "effect": "NoSchedule"}),
        _node("soft", {"zone": "a"}, {"key": "gpu", "value": "yes", "effect": "PreferNoSchedule"}),
        _node("hard", {"zone": "a"}, {"key": "gpu", "value": "no", "effect": "NoExecute"}),
        _node("blank", {"zone": "b"}, {"key": "gpu", "effect": "NoSchedule"}),
    )
}

ALL = frozenset(NODES)
OPEN = ALL - {"cordoned", "kept", "hard", "blank"}
"""Nodes that nothing but a rule excludes."""


@dataclass(frozen=True)
class Case:
    """Part of a Pod's specification, and the names of the Nodes on which it may run."""

    name: str
    spec: Json
    nodes: frozenset[str]

    @property
    def pod_spec(self) -> Json:
        """The specification with the toleration that every module has."""
        return {**self.spec, "tolerations": [TOLERATED, *self.spec.get("tolerations", [])]}


def expression(key: str, operator: str, *values: str) -> Json:
    return {"key": key, "operator": operator, **({"values": list(values)} if values else {})}


def affinity(*terms: Json) -> Json:
    """Return required node affinity with these alternatives."""
    return {"affinity": {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": list(terms)}}}}


def labelled(*expressions: Json) -> Json:
    return {"matchExpressions": list(expressions)}


def named(operator: str, name: str) -> Json:
    return {"matchFields": [expression("metadata.name", operator, name)]}


def _chosen(name: str, nodes: Iterable[str], *terms: Json) -> Case:
    return Case(name, affinity(*terms), frozenset(nodes))


def _labels(name: str, nodes: Iterable[str], *expressions: Json) -> Case:
    return _chosen(name, nodes, labelled(*expressions))


def _tolerant(name: str, more: Iterable[str], *tolerations: Json) -> Case:
    return Case(name, {"tolerations": list(tolerations)}, OPEN | frozenset(more))


CASES = (
    Case("nothing", {}, OPEN),
    Case("selector", {"nodeSelector": {"zone": "b", "size": "007"}}, frozenset({"seven"})),
    Case("selector-empty-value", {"nodeSelector": {"empty": ""}}, frozenset({"wordy"})),
    Case("selector-absent-is-not-empty", {"nodeSelector": {"absent": ""}}, frozenset()),
    _labels("in", {"five", "seven", "soft"}, expression("zone", "In", "a", "b")),
    _labels("in-absent", (), expression("absent", "In", "a")),
    _labels("not-in", {"seven", "wordy", "vast", "greatest", "bare"}, expression("zone", "NotIn", "a")),
    _labels("exists", OPEN - {"bare"}, expression("zone", "Exists")),
    _labels("does-not-exist", {"bare"}, expression("zone", "DoesNotExist")),
    _labels("exists-empty", {"wordy"}, expression("empty", "Exists")),
    _labels("greater", {"seven", "greatest"}, expression("size", "Gt", "5")),
    _labels("greater-than-most", {"greatest"}, expression("size", "Gt", "9223372036854775806")),
    _labels("greater-than-int64", (), expression("size", "Gt", "9223372036854775808")),
    _labels("less", {"five"}, expression("size", "Lt", "6")),
    _labels("less-leading-zeros", {"five"}, expression("size", "Lt", "007")),
    _labels("less-than-a-word", (), expression("size", "Lt", "big")),
    _labels("all-of-a-term", {"five"}, expression("zone", "In", "a"), expression("size", "Exists")),
    _labels("between", {"seven"}, expression("size", "Gt", "5"), expression("size", "Lt", "8")),
    _chosen(
        "one-of-the-terms",
        {"seven", "wordy"},
        labelled(expression("zone", "In", "b")),
        labelled(expression("zone", "In", "c")),
    ),
    _chosen("an-empty-term", (), {}),
    _chosen("an-empty-term-beside-another", {"seven"}, {}, labelled(expression("zone", "In", "b"))),
    _chosen(
        "a-term-that-is-no-number-beside-another",
        {"seven"},
        labelled(expression("zone", "In", "a"), expression("size", "Lt", "big")),
        labelled(expression("zone", "In", "b")),
    ),
    _chosen("name", {"five"}, named("In", "five")),
    _chosen("not-the-name", OPEN - {"five"}, named("NotIn", "five")),
    _chosen("name-and-label", (), {**named("In", "five"), **labelled(expression("zone", "In", "b"))}),
    _chosen("name-or-label", {"five", "seven"}, named("In", "five"), labelled(expression("zone", "In", "b"))),
    _chosen("name-of-a-cordoned-node", (), named("In", "cordoned")),
    Case(
        "selector-and-affinity",
        {"nodeSelector": {"zone": "a"}, **affinity(labelled(expression("size", "Exists")))},
        frozenset({"five"}),
    ),
    Case(
        "preferences-choose-nothing",
        {
            "affinity": {
                "nodeAffinity": {PREFERRED: [{"weight": 1, "preference": labelled(expression("zone", "In", "b"))}]}
            }
        },
        OPEN,
    ),
    _tolerant("equal", {"kept"}, {"key": "gpu", "operator": "Equal", "value": "yes", "effect": "NoSchedule"}),
    _tolerant("equal-by-default", {"kept"}, {"key": "gpu", "value": "yes"}),
    _tolerant("equal-without-value", {"blank"}, {"key": "gpu", "operator": "Equal"}),
    _tolerant("exists-any-value", {"kept", "hard", "blank"}, {"key": "gpu", "operator": "Exists"}),
    _tolerant("exists-of-an-effect", {"hard"}, {"key": "gpu", "operator": "Exists", "effect": "NoExecute"}),
    _tolerant(
        "for-a-while", {"hard"}, {"key": "gpu", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 600}
    ),
    _tolerant("everything", {"kept", "hard", "blank", "cordoned"}, {"operator": "Exists"}),
    _tolerant("everything-of-an-effect", {"kept", "blank", "cordoned"}, {"operator": "Exists", "effect": "NoSchedule"}),
    _tolerant("the-cordon", {"cordoned"}, {"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}),
    _tolerant(
        "the-cordon-evicting",
        (),
        {"key": "node.kubernetes.io/unschedulable", "operator": "Exists", "effect": "NoExecute"},
    ),
)
