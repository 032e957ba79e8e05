"""How many replicas a module Deployment with the strategy "peer" has: as many as there are bases for it.

A VNode is *present* for a Deployment while a Pod of its template could be placed there, and *ready* while its base is
ready as well. A base that is only silent, or whose tunnel or owner is away, keeps its Node: Nodes are removed by
decisions that are guarded against missing data, and nothing else lowers a count.

    ready <= present <= peak, the most that were present during the last while
    replicas are raised to ready at once, and lowered to peak
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from controlplane.domain.objects import Condition, ModuleDeployment, Node, Pod
from controlplane.domain.workloads.deployments import Acceptance, Demand, acceptance
from controlplane.domain.workloads.placement import matches


@dataclass(frozen=True, slots=True)
class Count:
    """Numbers of VNodes."""

    ready: int
    present: int


class Census:
    """The VNodes of one demand, kept current Node by Node, so that a change costs no look at all others.

    closed holds the CLOSED ones and whether each is ready: they count only for a Deployment that has a Pod there.
    """

    def __init__(self, demand: Demand, nodes: Iterable[Node]) -> None:
        self.demand = demand
        self.closed: dict[str, bool] = {}
        self._open: dict[str, bool] = {}
        self._ready = 0
        for node in nodes:
            self.take(node.name, node)

    def take(self, name: str, node: Node | None) -> None:
        """Take a Node as it is now; None: it is gone."""
        self.closed.pop(name, None)
        self._ready -= self._open.pop(name, False)
        if node is None:
            return
        ready = Condition.of(node.status.conditions, "Ready").status == "True"
        match acceptance(self.demand, node):
            case Acceptance.OPEN:
                self._open[name] = ready
                self._ready += ready
            case Acceptance.CLOSED:
                self.closed[name] = ready
            case Acceptance.NONE:
                pass

    def count(self, kept: Iterable[str] = ()) -> Count:
        """Return the numbers; kept are the closed VNodes that have a Pod of the Deployment."""
        readiness = [self.closed[name] for name in kept]
        return Count(self._ready + sum(readiness), len(self._open) + len(readiness))


def has_pod(deployment: ModuleDeployment, pods: Iterable[Pod]) -> bool:
    """Return whether one of the Pods of a Node is the Deployment's and stays."""
    return deployment.selector is not None and any(
        pod.namespace == deployment.namespace and not pod.deleting and matches(deployment.selector, pod.labels)
        for pod in pods
    )


class Peak:
    """The greatest value of the last window seconds of something that changes in steps."""

    def __init__(self, window: float, value: int) -> None:
        self._window = window
        self._value = value
        self._ended: deque[tuple[float, int]] = deque()
        """When each greater value was last in force, falling in value."""

    def set(self, now: float, value: int) -> None:
        """Let the value be another one from now on."""
        if value < self._value:
            self._ended.append((now, self._value))
        while self._ended and self._ended[-1][1] <= value:
            self._ended.pop()
        self._value = value

    def at(self, now: float) -> int:
        """Return the greatest value; now never goes back."""
        while self._ended and self._ended[0][0] <= now - self._window:
            self._ended.popleft()
        return self._ended[0][1] if self._ended else self._value

    @property
    def next_at(self) -> float | None:
        """When the greatest value becomes a smaller one if nothing else happens."""
        return self._ended[0][0] + self._window if self._ended else None


def replicas_for(current: int | None, *, ready: int, peak: int, may_lower: bool) -> int:
    """Return the number of replicas; a Deployment that does not say it has one, as in Kubernetes."""
    have = 1 if current is None else current
    if have < ready:
        return ready
    return min(have, peak) if may_lower else have
