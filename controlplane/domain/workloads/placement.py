"""May Kubernetes place a Pod on a Node? Node selector, node affinity, taints and cordons, judged as its scheduler does.

Only facts of the Node itself are judged. Other Pods, requests of resources, volumes and preferences are not: they
decide which of the Nodes that are admitted here a Pod gets, or that it has to wait.

Rules come from ``controlplane.cluster.scheduling``, which gives NotUnderstood for what this module does not know.
"""

import re
from collections.abc import Iterable, Mapping

from controlplane.domain.objects import Node, Requirement, SchedulingRules, Taint, Toleration

UNSCHEDULABLE = Taint("node.kubernetes.io/unschedulable", "", "NoSchedule")
"""What a cordon means: who tolerates this taint is scheduled on cordoned Nodes, too."""
EXPELLING = frozenset({"NoExecute"})
"""Effects of taints that move Pods away from a Node."""
REPELLING = frozenset({"NoSchedule", "NoExecute"})
"""Effects of taints that keep the scheduler from a Node."""
NAME_FIELD = "metadata.name"
"""The only field of a Node that matchFields may name."""

_INTEGER = re.compile(r"[+-]?[0-9]{1,63}")


def admits(rules: SchedulingRules, node: Node) -> bool:
    """Return whether a new Pod with these rules may come to a Node."""
    if rules.node_name:
        # Bound from the start: the scheduler, with cordons and NoSchedule, is passed by.
        return rules.node_name == node.name and keeps(rules, node)
    return not cordoned(rules, node) and keeps(rules, node, REPELLING)


def keeps(rules: SchedulingRules, node: Node, effects: Iterable[str] = EXPELLING) -> bool:
    """Return whether the rules select a Node and tolerate its taints of these effects."""
    return selects(rules, node) and untolerated(rules, node.taints, effects) is None


def cordoned(rules: SchedulingRules, node: Node) -> bool:
    """Return whether a Node is cordoned for Pods with these rules."""
    return node.unschedulable and untolerated(rules, (UNSCHEDULABLE,)) is not None


def selects(rules: SchedulingRules, node: Node) -> bool:
    """Return whether node selector and required node affinity choose a Node."""
    if not matches(rules.node_selector, node.labels):
        return False
    if rules.required_affinity is None:
        return True
    fields = {NAME_FIELD: node.name}
    return any(
        matches(term.labels, node.labels) and matches(term.fields, fields)
        for term in rules.required_affinity
        if term.labels or term.fields
    )


def untolerated(rules: SchedulingRules, taints: Iterable[Taint], effects: Iterable[str] = REPELLING) -> Taint | None:
    """Return the first taint of these effects that the rules do not tolerate."""
    for taint in taints:
        if taint.effect in effects and not any(tolerates(toleration, taint) for toleration in rules.tolerations):
            return taint
    return None


def tolerates(toleration: Toleration, taint: Taint) -> bool:
    """Return whether a toleration covers a taint."""
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.operator == "Exists":
        return not toleration.key or toleration.key == taint.key
    return toleration.operator == "Equal" and (toleration.key, toleration.value) == (taint.key, taint.value)


def matches(requirements: Iterable[Requirement], labels: Mapping[str, str]) -> bool:
    """Return whether labels meet all requirements; an operator that does not exist is never met."""
    return all(_meets(requirement, labels) for requirement in requirements)


def _meets(requirement: Requirement, labels: Mapping[str, str]) -> bool:
    value = labels.get(requirement.key)
    match requirement.operator:
        case "In":
            return value is not None and value in requirement.values
        case "NotIn":
            return value not in requirement.values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt":
            return _compares(requirement, value)
        case _:
            return False


def _compares(requirement: Requirement, value: str | None) -> bool:
    if value is None or len(requirement.values) != 1:
        return False
    left, right = int64(value), int64(requirement.values[0])
    if left is None or right is None:
        return False
    return left > right if requirement.operator == "Gt" else left < right


def int64(text: str) -> int | None:
    """Read a whole number as Kubernetes reads those of Gt and Lt; None for anything else, and beyond 64 bits."""
    if not _INTEGER.fullmatch(text):
        return None
    number = int(text)
    return number if -(2**63) <= number < 2**63 else None


class InvalidSelector(ValueError):
    """A label selector cannot be read; the message says where."""


_SHOWN = 200
"""Characters of a selector that a message shows."""
_TERM = re.compile(
    r"""\s*(?:
      (?P<not>!)\s*(?P<absent>[\w./-]+)
    | (?P<set_key>[\w./-]+)\s+(?P<set_op>in|notin)\s*\((?P<values>[^()]*)\)
    | (?P<key>[\w./-]+)\s*(?P<op>==|=|!=)\s*(?P<value>[\w.-]*)
    | (?P<present>[\w./-]+)
    )\s*(?:,|$)""",
    re.VERBOSE | re.ASCII,
)


def parse_selector(text: str) -> tuple[Requirement, ...]:
    """Read a Kubernetes label selector; raises InvalidSelector."""
    found, position = [], 0
    while position < len(text):
        term = _TERM.match(text, position)
        if term is None or term.end() == position:
            raise InvalidSelector(f"cannot read label selector {_shown(text)} at position {position + 1}")
        found.append(_requirement(term))
        position = term.end()
    if text.rstrip().endswith(","):
        raise InvalidSelector(f"label selector {_shown(text)} ends with a comma")
    return tuple(found)


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...")


def _requirement(term: re.Match[str]) -> Requirement:
    if term["absent"]:
        return Requirement(term["absent"], "DoesNotExist")
    if term["set_key"]:
        values = tuple(value.strip() for value in term["values"].split(","))
        return Requirement(term["set_key"], "In" if term["set_op"] == "in" else "NotIn", values)
    if term["key"]:
        return Requirement(term["key"], "NotIn" if term["op"] == "!=" else "In", (term["value"],))
    return Requirement(term["present"], "Exists")
