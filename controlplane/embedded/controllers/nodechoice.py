"""Which Node a Pod goes to: pure.

Filters, in the order in which their refusals are counted: the Node is schedulable and Ready, selector and required
affinity, taints, room for one more Pod, required affinity and anti-affinity between Pods (both ways). Among what is
left, the Node with the fewest Pods of the same owner, then the fewest Pods, then the first name. Preferences, topology
spread constraints and resource requests are not looked at.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

from controlplane.domain.objects import Node, NotUnderstood
from controlplane.domain.workloads.placement import cordoned, matches, selects, untolerated
from controlplane.embedded.api.resources import ObjectKey
from controlplane.embedded.controllers.mirror import PodTerm, PodView, Rules, capacity, is_ready

_APART = "node(s) didn't match pod anti-affinity rules"
_APART_OF_OTHERS = "node(s) didn't satisfy existing pods anti-affinity rules"


class NodeChoice:
    """Nodes and the Pods on them at one time, to which those are added that are placed."""

    def __init__(self, nodes: Iterable[Node], pods: Iterable[PodView]) -> None:
        self._nodes = sorted(nodes, key=lambda node: node.name)
        self._pods: defaultdict[str, list[PodView]] = defaultdict(list)
        self._owners: defaultdict[ObjectKey | None, Counter[str]] = defaultdict(Counter)
        self._apart_keys: set[str] = set()
        self._fit: dict[Rules, tuple[list[Node], Counter[str]]] = {}
        self._zones: dict[str, defaultdict[str, list[str]]] = {}
        for pod in pods:
            if pod.node and not pod.finished:
                self.add(pod, pod.node)

    def add(self, pod: PodView, node: str) -> None:
        """Count a Pod on a Node."""
        self._pods[node].append(pod)
        self._owners[pod.owner][node] += pod.owner is not None
        self._apart_keys |= {term.topology_key for term in pod.rules.apart}

    def place(self, pod: PodView) -> tuple[str, str]:
        """Return the Node for a Pod and "", or "" and why there is none. Does not add it."""
        candidates, unfit = self._candidates(pod.rules)
        refused, siblings = unfit.copy(), self._owners[pod.owner]

        def rank(node: Node) -> tuple[int, int]:
            return siblings[node.name], len(self._pods[node.name])

        for node in sorted(candidates, key=rank):  # stable, and they are in the order of their names
            reason = self._refuse(pod, node)
            if not reason:
                return node.name, ""
            refused[reason] += 1
        if not self._nodes:
            return "", "no nodes available to schedule pods"
        parts = ", ".join(sorted(f"{count} {reason}" for reason, count in refused.items()))
        return "", f"0/{len(self._nodes)} nodes are available: {parts}."

    def _candidates(self, rules: Rules) -> tuple[list[Node], Counter[str]]:
        if rules not in self._fit:
            reasons = [(node, unfit(rules, node)) for node in self._nodes]
            self._fit[rules] = (
                [node for node, reason in reasons if not reason],
                Counter(reason for _, reason in reasons if reason),
            )
        return self._fit[rules]

    def _refuse(self, pod: PodView, node: Node) -> str:
        """Return why the Node has no place for a Pod beside those on and around it; empty if it has."""
        if len(self._pods[node.name]) >= capacity(node):
            return "Too many pods"
        for term in pod.rules.near:
            beside = node.labels.get(term.topology_key) is not None and (
                any(_concerns(term, other) for other in self._around(node, term.topology_key))
                or (_concerns(term, pod) and self._is_first(term))
            )
            if not beside:
                return "node(s) didn't match pod affinity rules"
        for term in pod.rules.apart:
            if any(_concerns(term, other) for other in self._around(node, term.topology_key)):
                return _APART
        for key in self._apart_keys:
            for other in self._around(node, key):
                for term in other.rules.apart:
                    if term.topology_key == key and _concerns(term, pod):
                        return _APART if term in pod.rules.apart else _APART_OF_OTHERS
        return ""

    def _around(self, node: Node, key: str) -> Iterator[PodView]:
        """Iterate over the Pods on all Nodes that have the same value of a topology label."""
        value = node.labels.get(key)
        if value is not None:
            for name in self._zones_of(key)[value]:
                yield from self._pods[name]

    def _zones_of(self, key: str) -> defaultdict[str, list[str]]:
        if key not in self._zones:
            self._zones[key] = defaultdict(list)
            for node in self._nodes:
                if key in node.labels:
                    self._zones[key][node.labels[key]].append(node.name)
        return self._zones[key]

    def _is_first(self, term: PodTerm) -> bool:
        """Return whether no Pod is there to be near to: the first of a group that wants to be near itself may start."""
        names = [name for zone in self._zones_of(term.topology_key).values() for name in zone]
        return not any(_concerns(term, other) for name in names for other in self._pods[name])


def _concerns(term: PodTerm, pod: PodView) -> bool:
    if not isinstance(term.selector, tuple) or pod.key.namespace not in term.namespaces:
        return False
    return matches(term.selector, pod.labels)


def unfit(rules: Rules, node: Node) -> str:
    """Return why a Node can never take a Pod with these rules, whatever else runs there; empty if it can."""
    if isinstance(rules.node, NotUnderstood):
        return f"node(s) for which Pod's {rules.node.what} is not understood"
    if cordoned(rules.node, node):
        return "node(s) were unschedulable"
    if not is_ready(node):
        return "node(s) were not ready"
    if not selects(rules.node, node):
        return "node(s) didn't match Pod's node affinity/selector"
    if taint := untolerated(rules.node, node.taints):
        value = f"{taint.key}: {taint.value}" if taint.value else f"{taint.key}: "
        return f"node(s) had untolerated taint {{{value}}}"
    return ""
