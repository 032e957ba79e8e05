"""Baselines: the modules that a starting base is given, as the scheduler would place them there.

Thousands of bases start together and ask the same, so that an offer is made from the Deployments once and an answer
once for all bases that its rules treat alike.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from controlplane.domain.base.wishes import invalid
from controlplane.domain.contract import BASE_CLUSTER_NAME, BIZ_VERSION_ENV
from controlplane.domain.objects import Container, ModuleDeployment, Node
from controlplane.domain.workloads.deployments import Acceptance, Demand, acceptance, baseline_demand

MOST_KEPT = 1024
"""Answers, and judgements of a group of rules, that are kept at most; then they are computed again."""


@dataclass(frozen=True, eq=False)
class Baseline:
    """An answer: of each name the module of the newest Deployment, oldest first. Equal ones are one object.

    A module with arguments or variables is left to its Pod, as a baseline has no place for them.
    """

    modules: tuple[Container, ...]


NOTHING = Baseline(())

_NODE_NAME = ""
"""Stands for the Node's name among labels; no label is called so."""


class Offer:
    """What the Deployments of an environment offer to starting bases; peers_follow as in ``baseline_demand``."""

    def __init__(self, deployments: Iterable[ModuleDeployment], *, env: str, peers_follow: bool) -> None:
        self._parts: list[tuple[int, tuple[Container, ...]]] = []
        """Modules of each Deployment, oldest first, and the number of what it demands."""
        numbers: dict[Demand, int] = {}
        for deployment in sorted(deployments, key=lambda d: (d.creation_timestamp, d.namespace, d.name)):
            demand = baseline_demand(deployment, env, peers_follow=peers_follow)
            modules = tuple(container for container in deployment.containers if not invalid(container))
            if demand is not None and modules:
                self._parts.append((numbers.setdefault(demand, len(numbers)), modules))
        groups: dict[tuple[str, ...], _Group] = {}
        for demand, number in numbers.items():
            names = _labels_that_decide(demand)
            groups.setdefault(names, _Group(names)).demands.append((number, demand))
        self._groups = tuple(groups.values())
        self._answers: dict[tuple[frozenset[int], ...], Baseline] = {}

    def to(self, node: Node) -> Baseline:
        """Return what a base gets whose Node is, or will be, like this."""
        met = tuple(group.met(node) for group in self._groups)
        answer = self._answers.get(met)
        if answer is None:
            if len(self._answers) >= MOST_KEPT:
                self._answers.clear()
            answer = self._answers[met] = self._answer(frozenset().union(*met))
        return answer

    def _answer(self, met: frozenset[int]) -> Baseline:
        newest: dict[str, Container] = {}
        for number, modules in self._parts:
            if number in met:
                for module in modules:
                    newest.pop(module.name, None)
                    if not module.args and all(name == BIZ_VERSION_ENV for name, _ in module.env):
                        newest[module.name] = module
        return Baseline(tuple(newest.values())) if newest else NOTHING


@dataclass(slots=True)
class _Group:
    """Demands that are decided by the same labels, and which of them are met where these have certain values."""

    names: tuple[str, ...]
    demands: list[tuple[int, Demand]] = field(default_factory=list)
    _known: dict[object, frozenset[int]] = field(default_factory=dict)

    def met(self, node: Node) -> frozenset[int]:
        """Return the numbers of the demands that admit new Pods to the Node."""
        values = tuple(node.name if name == _NODE_NAME else node.labels.get(name) for name in self.names)
        decides = (values, node.taints, node.unschedulable)
        met = self._known.get(decides)
        if met is None:
            if len(self._known) >= MOST_KEPT:
                self._known.clear()
            met = frozenset(number for number, demand in self.demands if acceptance(demand, node) is Acceptance.OPEN)
            self._known[decides] = met
        return met


def _labels_that_decide(demand: Demand) -> tuple[str, ...]:
    """Return the labels that a demand looks at, sorted; an empty one stands for the Node's name."""
    rules = demand.rules
    terms = rules.required_affinity or ()
    requirements = (*rules.node_selector, *(requirement for term in terms for requirement in term.labels))
    names = {requirement.key for requirement in requirements}
    if demand.cluster_name:
        names.add(BASE_CLUSTER_NAME)
    if rules.node_name or any(term.fields for term in terms):
        names.add(_NODE_NAME)
    return tuple(sorted(names))
