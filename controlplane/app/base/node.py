"""The Node of one base: create it, keep it as it should be, remove it."""

from contextlib import suppress
from dataclasses import dataclass, field

from controlplane.app.base.surroundings import Surroundings
from controlplane.app.metrics import WRITES
from controlplane.app.ports import AlreadyExists, NotFound
from controlplane.domain.base import vnode
from controlplane.domain.base.state import Base
from controlplane.domain.identity import VNodeName
from controlplane.domain.objects import Node, NodeStatus
from controlplane.domain.remarks import Remark
from controlplane.domain.times import rfc3339

FIRST_HEALTH_WAIT = 2.0
"""Seconds that a new Node waits for the first health answer, which saves a write."""

STATUS_REFRESH = 300.0
"""Seconds between two writes of a status that does not change, before jitter."""

REPAIR_APART = 10.0
"""Seconds between two writes of one status that somebody else keeps changing."""

METADATA_APART = 1.0
"""Seconds between two writes of one Node's metadata: what changes meanwhile is written at once."""


@dataclass(slots=True)
class NodeReconciler:
    """Works on the Node of one base."""

    vnode: VNodeName
    around: Surroundings
    _refresh: float = field(init=False)
    _status_written: float = field(init=False)
    _metadata_written: float = float("-inf")
    _had_node: bool = False
    _written: NodeStatus | None = None
    _right: tuple[object, ...] | None = None
    """The Node and what it is made from when it last was as it should be: spares most looks the comparison."""

    def __post_init__(self) -> None:
        self._refresh = STATUS_REFRESH * (0.9 + 0.2 * self.around.random.random())
        self._status_written = self.around.clock.monotonic()

    def node(self) -> Node | None:
        """Return the Node as the cluster has it."""
        return self.around.cluster.nodes.get(self.vnode)

    def removed_by_others(self) -> bool:
        """Return whether the Node was there under us and is there no more."""
        return self._had_node and self.node() is None

    async def write(self, base: Base, *, fault: str) -> float | None:
        """Bring the Node to what it should be, and return when to look again. Raises ClusterError.

        fault says in words why its tunnel cannot be used, empty when it can.
        """
        now = self.around.clock.monotonic()
        current = self.node()
        if current is None and not base.signs.healthy:
            if not base.modules.listed:
                # A base becomes a Node once commands reach it.
                return None
            wait_until = base.signs.last_answered + FIRST_HEALTH_WAIT
            if now < wait_until:
                return wait_until
        refresh_at = self._status_written + self._refresh
        endpoint = self.around.kubelet.endpoint(current)
        seen = (current, base.profile, base.unreachable, fault, endpoint)
        if current is not None and seen == self._right and now < refresh_at:
            return refresh_at
        spec = vnode.node_spec(
            base.profile,
            unreachable=base.unreachable,
            fault=fault,
            now=rfc3339(self.around.clock.wall()),
            controller_version=self.around.policy.version,
            kubelet=endpoint,
            offered=self.around.policy.vnode_resources,
        )
        if current is None:
            return await self._create(base, spec)
        self._had_node = True
        if vnode.metadata_differs(current, spec):
            if now < self._metadata_written + METADATA_APART:
                return self._metadata_written + METADATA_APART
            self._metadata_written = now
            WRITES.labels("node-metadata").inc()
            current = await self.around.cluster.patch_node(current, spec)
        status = vnode.status_to_write(current.status, spec.status)
        if status is None and now - self._status_written >= self._refresh:
            status = spec.status
        if status is not None and status == self._written and now < self._status_written + REPAIR_APART:
            return self._status_written + REPAIR_APART
        if status is not None:
            WRITES.labels("node-status").inc()
            await self.around.cluster.patch_node_status(spec.name, status)
            self._status_written, self._written = now, status
        elif current is seen[0]:
            self._right = seen
        return self._status_written + self._refresh

    async def _create(self, base: Base, spec: Node) -> float:
        WRITES.labels("node-create").inc()
        try:
            await self.around.cluster.create_node(spec)
        except AlreadyExists:
            # Ours from an earlier term, or a Node that lacks our labels: the informer has it soon.
            return self.around.clock.monotonic() + 1.0
        self._had_node = True
        self._status_written = self.around.clock.monotonic()
        self.around.recorder.node(
            self.node(), base.vnode, Remark(False, "VNodeCreated", f"Node created for base {base.id}")
        )
        return self._status_written + self._refresh

    async def remove(self) -> None:
        """Delete the Node. Raises ClusterError."""
        current = self.node()
        if current is None:
            return
        WRITES.labels("node-delete").inc()
        with suppress(NotFound):
            await self.around.cluster.delete_node(current.name, current.uid)
