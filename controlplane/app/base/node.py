"""The Node of one base: create it, keep it as it should be, remove it."""

from __future__ import annotations

from random import Random

from controlplane.app.base.kubelet import KubeletAddress
from controlplane.app.metrics import WRITES
from controlplane.app.policy import Policy
from controlplane.app.ports import AlreadyExists, Clock, Cluster, NotFound
from controlplane.domain.base import vnode
from controlplane.domain.base.state import Base, Phase
from controlplane.domain.identity import VNodeName
from controlplane.domain.objects import Node, NodeSpec, NodeStatus, rfc3339

REPAIR_APART = 10.0
"""Seconds between two writes of one status that somebody else keeps changing."""


METADATA_APART = 1.0
"""Seconds between two writes of one Node's metadata: what changes meanwhile is written at once."""


class NodeReconciler:
    """Works on the Node of one base."""

    def __init__(
        self, vnode: VNodeName, cluster: Cluster, clock: Clock, policy: Policy, random: Random, kubelet: KubeletAddress
    ) -> None:
        self._vnode = vnode
        self._cluster = cluster
        self._clock = clock
        self._policy = policy
        self._kubelet = kubelet
        self._refresh = policy.timing.node_status_refresh * (0.9 + 0.2 * random.random())
        self._status_written = clock.monotonic()
        self._metadata_written = float("-inf")
        self._had_node = False
        self._written: NodeStatus | None = None
        self._right: tuple[object, ...] | None = None
        """The Node and what it is made from when it last was as it should be: spares most looks the comparison."""

    def node(self) -> Node | None:
        """Return the Node as the cluster has it."""
        return self._cluster.nodes.get(self._vnode)

    def removed_by_others(self) -> bool:
        """Return whether the Node was there under us and is there no more."""
        return self._had_node and self.node() is None

    async def write(self, base: Base, *, fault: str) -> tuple[bool, float | None]:
        """Bring the Node to what it should be.

        fault says in words why its tunnel cannot be used, empty when it can. Returns whether it was created and when to
        look again. Raises ClusterError.
        """
        now, standing = self._clock.monotonic(), _standing(base, fault)
        current = self.node()
        if current is None and not base.signs.healthy:
            if not base.modules.listed:
                # A base becomes a Node once commands reach it.
                return False, None
            wait_until = base.signs.last_answered + self._policy.timing.first_health_wait
            if now < wait_until:
                return False, wait_until
        refresh_at = self._status_written + self._refresh
        endpoint = self._kubelet.endpoint(current)
        seen = (current, base.profile, standing, endpoint)
        if current is not None and seen == self._right and now < refresh_at:
            return False, refresh_at
        spec = vnode.node_spec(
            base.profile,
            standing,
            now=rfc3339(self._clock.wall()),
            controller_version=self._policy.version,
            kubelet=endpoint,
            offered=self._policy.vnode_resources,
        )
        if current is None:
            return await self._create(spec)
        self._had_node = True
        if vnode.metadata_differs(current, spec):
            if now < self._metadata_written + METADATA_APART:
                return False, self._metadata_written + METADATA_APART
            self._metadata_written = now
            WRITES.labels("node-metadata").inc()
            current = await self._cluster.patch_node(current, spec)
        status = vnode.status_to_write(current.status, spec.status)
        if status is None and now - self._status_written >= self._refresh:
            status = spec.status
        if status is not None and status == self._written and now < self._status_written + REPAIR_APART:
            return False, self._status_written + REPAIR_APART
        if status is not None:
            WRITES.labels("node-status").inc()
            await self._cluster.patch_node_status(spec.name, status)
            self._status_written, self._written = now, status
        elif current is seen[0]:
            self._right = seen
        return False, self._status_written + self._refresh

    async def _create(self, spec: NodeSpec) -> tuple[bool, float | None]:
        WRITES.labels("node-create").inc()
        try:
            await self._cluster.create_node(spec)
        except AlreadyExists:
            # Ours from an earlier term, or a Node that lacks our labels: the informer has it soon.
            return False, self._clock.monotonic() + 1.0
        self._had_node = True
        self._status_written = self._clock.monotonic()
        return True, self._status_written + self._refresh

    async def remove(self) -> None:
        """Delete the Node. Raises ClusterError."""
        current = self.node()
        if current is None:
            return
        WRITES.labels("node-delete").inc()
        try:
            await self._cluster.delete_node(current.name, current.uid)
        except NotFound:
            return


def _standing(base: Base, tunnel: str) -> vnode.Standing:
    """Return how a Node stands: Ready as long as nothing speaks against the base itself."""
    if base.phase in (Phase.UNREACHABLE, Phase.DEAD):
        return vnode.Standing(False, "BaseUnreachable", base.why, tunnel)
    return vnode.Standing(True, "BaseReady", "the base answers", tunnel)
