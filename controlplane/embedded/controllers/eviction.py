"""Pods that cannot stay where they are: their Node is gone, or has a NoExecute taint that they do not tolerate.

tolerationSeconds is not counted down: a toleration holds as long as it is there.
"""

from __future__ import annotations

from collections.abc import Mapping

from controlplane.domain.objects import SchedulingRules
from controlplane.domain.workloads.placement import EXPELLING, untolerated
from controlplane.embedded.api.mirror import Key, Mirror
from controlplane.embedded.api.store import EmbeddedApiServer
from controlplane.embedded.api.views import NodeView, PodView
from controlplane.embedded.controllers.replicas import delete_pods

ORPHAN_QUARANTINE = 10.0
"""Seconds that Pods outlive their Node, which may come back. Kubernetes takes 40 and more."""


def misplaced(pod: PodView, nodes: Mapping[str, NodeView]) -> bool:
    """Say whether a Pod is to be looked at."""
    if not pod.node:
        return False
    node = nodes.get(pod.node)
    if node is None:
        return True
    rules = pod.rules.node
    return pod.active and isinstance(rules, SchedulingRules) and untolerated(rules, node.taints, EXPELLING) is not None


class Evictions:
    """Removes misplaced Pods. Holds one time for each Pod whose Node is gone."""

    def __init__(self, store: EmbeddedApiServer, mirror: Mirror, quarantine: float = ORPHAN_QUARANTINE) -> None:
        self._store = store
        self._mirror = mirror
        self._quarantine = quarantine
        self._orphaned_since: dict[str, float] = {}

    async def reconcile(self, key: Key, again_in: list[float], now: float) -> None:
        """Remove one Pod if it is misplaced. now is monotonic seconds; raises ClusterError."""
        pod = self._mirror.pods.get(key)
        if pod is None or not pod.node or pod.node in self._mirror.nodes:
            self._orphaned_since.pop("/".join(key), None)
            if pod is not None and misplaced(pod, self._mirror.nodes):
                await delete_pods(self._store, [pod])
            return
        since = self._orphaned_since.setdefault("/".join(key), now)
        if now - since < self._quarantine:
            again_in.append(since + self._quarantine - now)
            return
        await delete_pods(self._store, [pod], grace_seconds=0)
        self._orphaned_since.pop("/".join(key), None)
