"""Would Kubernetes place a Pod on a Node? Selectors, affinity and taints, judged as the scheduler does.

Used for baselines: a starting base gets the modules that would be scheduled there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from controlplane.domain.contract import BIZ_VERSION_ENV, ENV
from controlplane.domain.objects import (
    Container,
    ModuleDeployment,
    Requirement,
    SchedulingRules,
    Taint,
    Toleration,
)
from controlplane.domain.planner import invalid

_REPELLING = ("NoSchedule", "NoExecute")


def fits(rules: SchedulingRules, *, name: str, labels: Mapping[str, str], taints: Iterable[Taint]) -> bool:
    """Tell whether the rules allow a Node."""
    if rules.node_name and rules.node_name != name:
        return False
    if any(labels.get(key) != value for key, value in rules.node_selector.items()):
        return False
    affinity = rules.required_affinity
    if affinity is not None and not any(term and matches(term, labels) for term in affinity):
        return False
    return all(
        taint.effect not in _REPELLING or any(tolerates(toleration, taint) for toleration in rules.tolerations)
        for taint in taints
    )


def matches(requirements: Iterable[Requirement], labels: Mapping[str, str]) -> bool:
    """Tell whether labels meet all requirements; an operator that does not exist is never met."""
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
    left, right = _integer(value), _integer(requirement.values[0])
    if left is None or right is None:
        return False
    return left > right if requirement.operator == "Gt" else left < right


def _integer(text: str) -> int | None:
    return int(text) if re.fullmatch(r"-?[0-9]{1,18}", text) else None


def tolerates(toleration: Toleration, taint: Taint) -> bool:
    """Tell whether a toleration covers a taint."""
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if not toleration.key:
        return toleration.operator == "Exists"
    if toleration.key != taint.key:
        return False
    return toleration.operator == "Exists" or toleration.value == taint.value


def baseline(
    deployments: Iterable[ModuleDeployment],
    *,
    env: str,
    name: str,
    labels: Mapping[str, str],
    taints: tuple[Taint, ...],
    peers_follow: bool = False,
) -> tuple[Container, ...]:
    """Return the modules that a starting base gets: of each name the one of the newest Deployment, oldest first.

    A Deployment scaled to 0 gives none, but for a peer one if peers_follow: it
    will have a replica for this base. A module with arguments or variables is left to
    its Pod, as a baseline has no place for them.
    """
    newest: dict[str, Container] = {}
    for deployment in sorted(deployments, key=lambda d: (d.creation_timestamp, d.namespace, d.name)):
        if deployment.labels.get(ENV) != env:
            continue
        if deployment.replicas == 0 and not (peers_follow and deployment.is_peer):
            continue
        if not fits(deployment.rules, name=name, labels=labels, taints=taints):
            continue
        for container in deployment.containers:
            if invalid(container):
                continue
            newest.pop(container.name, None)
            if not container.args and all(name == BIZ_VERSION_ENV for name, _ in container.env):
                newest[container.name] = container
    return tuple(newest.values())


class InvalidSelector(ValueError):
    """A label selector cannot be read; the message says where."""


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
            raise InvalidSelector(f"cannot read label selector {text!r} at position {position + 1}")
        found.append(_requirement(term))
        position = term.end()
    if text.rstrip().endswith(","):
        raise InvalidSelector(f"label selector {text!r} ends with a comma")
    return tuple(found)


def _requirement(term: re.Match[str]) -> Requirement:
    if term["absent"]:
        return Requirement(term["absent"], "DoesNotExist")
    if term["set_key"]:
        values = tuple(value.strip() for value in term["values"].split(","))
        return Requirement(term["set_key"], "In" if term["set_op"] == "in" else "NotIn", values)
    if term["key"]:
        return Requirement(term["key"], "NotIn" if term["op"] == "!=" else "In", (term["value"],))
    return Requirement(term["present"], "Exists")
