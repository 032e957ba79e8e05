"""Which Node a Pod goes to: pure, and incremental so that a thousand Pods of one template cost little.

Filters, in the order in which their refusals are counted: the Node is schedulable
and Ready, selector and required affinity, taints, room for one more Pod, required
affinity and anti-affinity between Pods (both ways). Among what is left, the Node
with the fewest Pods of the same owner, then the fewest Pods, then the first name.
Preferences, topology spread constraints and resource requests are not looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from controlplane.domain.objects import NotUnderstood
from controlplane.domain.workloads.placement import cordoned, matches, selects, untolerated
from controlplane.embedded.api.views import NodeView, PodTerm, PodView, Rules

UNSCHEDULABLE = "node(s) were unschedulable"
NOT_READY = "node(s) were not ready"
AFFINITY = "node(s) didn't match Pod's node affinity/selector"
FULL = "Too many pods"
NEAR = "node(s) didn't match pod affinity rules"
APART = "node(s) didn't match pod anti-affinity rules"
APART_OF_OTHERS = "node(s) didn't satisfy existing pods anti-affinity rules"

_CACHED_RULES = 256
_SPREAD_WEIGHT = 1_000_000_000


class _TermIndex:
    """Counts, by value of the topology label, the Pods that a term matches and those that have it as anti-affinity."""

    __slots__ = ("holders", "matching", "term")

    def __init__(self, term: PodTerm) -> None:
        self.term = term
        self.matching: Counter[str] = Counter()
        self.holders: Counter[str] = Counter()

    def concerns(self, pod: PodView) -> bool:
        return (
            self.term.selector is not None
            and pod.namespace in self.term.namespaces
            and matches(self.term.selector, pod.labels)
        )

    def count(self, pod: PodView, node: NodeView, by: int) -> None:
        value = node.labels.get(self.term.topology_key)
        if value is None:
            return
        if self.concerns(pod):
            _add(self.matching, value, by)
        if self.term in pod.rules.apart:
            _add(self.holders, value, by)


class _Neighbours:
    """What the Pods that are there mean for one Pod to be placed."""

    __slots__ = ("_apart", "_concerned", "_near", "_others")

    def __init__(
        self, pod: PodView, *, near: list[_TermIndex], apart: list[_TermIndex], others: list[_TermIndex]
    ) -> None:
        self._near = near
        self._apart = apart
        self._others = others
        self._concerned = {index.term for index in (*near, *apart) if index.concerns(pod)}

    def refuse(self, node: NodeView) -> str:
        """Return why the Pod cannot be beside those on or around the Node; empty if it can."""
        for index in self._near:
            value = node.labels.get(index.term.topology_key)
            # The first Pod of a group that wants to be near itself may go anywhere that has the label.
            first = not index.matching and index.term in self._concerned
            if value is None or not (index.matching.get(value) or first):
                return NEAR
        for index in self._apart:
            value = node.labels.get(index.term.topology_key)
            held = value is not None and index.term in self._concerned and index.holders.get(value)
            if value is not None and (held or index.matching.get(value)):
                return APART
        for index in self._others:
            value = node.labels.get(index.term.topology_key)
            if value is not None and index.holders.get(value):
                return APART_OF_OTHERS
        return ""


class Snapshot:
    """All Nodes and the Pods on them. A Pod is placed on a Node by add, whether the cluster knows of it yet or not."""

    def __init__(self) -> None:
        self._nodes: dict[str, NodeView] = {}
        self._pods: dict[str, dict[str, PodView]] = {}
        self._loads: Counter[str] = Counter()
        self._by_owner: dict[str, Counter[str]] = {}
        self._terms: dict[PodTerm, _TermIndex] = {}
        self._eligible: dict[Rules, tuple[tuple[NodeView, ...], Counter[str]]] = {}

    def set_node(self, node: NodeView) -> None:
        """Take a Node, or its new state."""
        before = self._nodes.get(node.name)
        if before == node:
            return
        self._nodes[node.name] = node
        self._eligible.clear()
        if before is None or before.labels != node.labels:
            self._count_node(before, -1)
            self._count_node(node, 1)

    def remove_node(self, name: str) -> None:
        """Forget a Node; the Pods on it count again when it comes back."""
        if before := self._nodes.pop(name, None):
            self._eligible.clear()
            self._count_node(before, -1)

    def _count_node(self, node: NodeView | None, by: int) -> None:
        if node is not None:
            for index in self._terms.values():
                for pod in self._pods.get(node.name, {}).values():
                    index.count(pod, node, by)

    def add(self, pod: PodView, node_name: str) -> None:
        """Count a Pod on a Node, once."""
        self.remove(pod.uid, node_name)
        for term in pod.rules.apart:
            self._index(term)  # before the Pod is there, or it would be counted twice
        self._pods.setdefault(node_name, {})[pod.uid] = pod
        self._loads[node_name] += 1
        self._by_owner.setdefault(pod.owner, Counter())[node_name] += 1
        if node := self._nodes.get(node_name):
            for index in self._terms.values():
                index.count(pod, node, 1)

    def remove(self, uid: str, node_name: str) -> None:
        """Count a Pod no longer."""
        here = self._pods.get(node_name, {})
        pod = here.get(uid)
        if pod is None:
            return
        if node := self._nodes.get(node_name):
            for index in self._terms.values():
                index.count(pod, node, -1)
        del here[uid]
        _add(self._loads, node_name, -1)
        if not here:
            del self._pods[node_name]
        owners = self._by_owner[pod.owner]
        _add(owners, node_name, -1)
        if not owners:
            del self._by_owner[pod.owner]

    def place(self, pod: PodView) -> tuple[str, str]:
        """Return the Node for a Pod and "", or "" and why there is none. Does not add it."""
        candidates, refused = self._candidates(pod.rules)
        spread: Mapping[str, int] = self._by_owner.get(pod.owner, {}) if pod.owner else {}
        neighbours = self._neighbours(pod)
        loads = self._loads

        def rank(node: NodeView) -> int:
            return spread.get(node.name, 0) * _SPREAD_WEIGHT + loads.get(node.name, 0)

        for node in sorted(candidates, key=rank):  # stable, and they are in the order of their names
            if loads.get(node.name, 0) < node.pods and not neighbours.refuse(node):
                return node.name, ""
        refused = refused.copy()
        for node in candidates:
            refused[FULL if loads.get(node.name, 0) >= node.pods else neighbours.refuse(node)] += 1
        return "", self._explain(refused)

    def _neighbours(self, pod: PodView) -> _Neighbours:
        return _Neighbours(
            pod,
            near=[self._index(term) for term in pod.rules.near],
            apart=[self._index(term) for term in pod.rules.apart],
            others=[
                index
                for term, index in self._terms.items()
                if index.holders and term not in pod.rules.apart and index.concerns(pod)
            ],
        )

    def _explain(self, refused: Counter[str]) -> str:
        if not self._nodes:
            return "no nodes available to schedule pods"
        parts = ", ".join(sorted(f"{count} {reason}" for reason, count in refused.items()))
        return f"0/{len(self._nodes)} nodes are available: {parts}."

    def _candidates(self, rules: Rules) -> tuple[tuple[NodeView, ...], Counter[str]]:
        found = self._eligible.get(rules)
        if found is None:
            refused: Counter[str] = Counter()
            nodes: list[NodeView] = []
            for _, node in sorted(self._nodes.items()):
                if reason := unfit(rules, node):
                    refused[reason] += 1
                else:
                    nodes.append(node)
            if len(self._eligible) >= _CACHED_RULES:
                self._eligible.clear()
            found = self._eligible[rules] = tuple(nodes), refused
        return found

    def _index(self, term: PodTerm) -> _TermIndex:
        index = self._terms.get(term)
        if index is None:
            index = self._terms[term] = _TermIndex(term)
            for name, pods in self._pods.items():
                if node := self._nodes.get(name):
                    for pod in pods.values():
                        index.count(pod, node, 1)
        return index

    def forget_terms(self) -> None:
        """Drop indexes of terms that no placed Pod has; to be called between rounds, they are made again on use."""
        used = {term for pods in self._pods.values() for pod in pods.values() for term in pod.rules.apart}
        self._terms = {term: index for term, index in self._terms.items() if term in used}


def unfit(rules: Rules, node: NodeView) -> str:
    """Return why a Node can never take a Pod with these rules, whatever else runs there; empty if it can."""
    if isinstance(rules.node, NotUnderstood):
        return f"node(s) for which Pod's {rules.node.what} is not understood"
    if cordoned(rules.node, node):
        return UNSCHEDULABLE
    if not node.ready:
        return NOT_READY
    if not selects(rules.node, node):
        return AFFINITY
    if taint := untolerated(rules.node, node.taints):
        value = f"{taint.key}: {taint.value}" if taint.value else f"{taint.key}: "
        return f"node(s) had untolerated taint {{{value}}}"
    return ""


def _add(counter: Counter[str], key: str, by: int) -> None:
    counter[key] += by
    if counter[key] <= 0:
        del counter[key]
