"""The Node of one base: create it, keep it as it should be, remove it."""

from collections.abc import Callable, Coroutine
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial

from controlplane.app.base.surroundings import Surroundings
from controlplane.app.metrics import WRITES
from controlplane.app.ports import AlreadyExists, NotFound, Rejected
from controlplane.app.repairs import repaired
from controlplane.domain import contract
from controlplane.domain.backoff import Backoff
from controlplane.domain.base import additions, vnode
from controlplane.domain.base.additions import Additions
from controlplane.domain.base.state import Base
from controlplane.domain.identity import BaseId, VNodeName
from controlplane.domain.objects import Node
from controlplane.domain.remarks import Remark
from controlplane.domain.repairs import Repairs
from controlplane.domain.times import rfc3339

FIRST_HEALTH_WAIT = 2.0
"""Seconds that a new Node waits for the first health answer, which saves a write."""

STATUS_REFRESH = 300.0
"""Seconds between two writes of a status that does not change, before jitter."""

CREATE_AGAIN = Backoff(first=1.0, longest=30.0)
"""Until a Node is created again that was there although we do not see it."""

METADATA_APART = 1.0
"""Seconds between two writes of one Node's metadata: what changes meanwhile is written at once."""

METADATA, STATUS = "node-metadata", "node-status"
"""What is written of a Node."""

Work = Callable[[], Coroutine[None, None, None]]
"""Writes that are due."""


@dataclass(slots=True)
class NodeReconciler:
    """Works on the Node of one base."""

    base: BaseId
    vnode: VNodeName
    around: Surroundings
    _refresh: float = field(init=False)
    _status_written: float = field(init=False)
    _metadata_written: float = float("-inf")
    _create_at: float = float("-inf")
    _unseen: int = 0
    """How often in a row the Node was there although we do not see it."""
    _had_node: bool = False
    _creation: Repairs = field(default_factory=Repairs)
    _metadata: Repairs = field(default_factory=Repairs)
    _status: Repairs = field(default_factory=Repairs)
    _right: tuple[object, ...] | None = None
    """The Node and what it follows from when it last was as it should be: spares most looks the comparison."""
    _looked_at: Node | None = None
    _additions: Additions | None = None
    """What others put on the Node, as it was seen last; None as long as only the Lease may know."""
    _left_out: tuple[str, ...] = ()
    _misread: str = ""

    def __post_init__(self) -> None:
        self._refresh = STATUS_REFRESH * (0.9 + 0.2 * self.around.random.random())
        self._status_written = self.around.clock.monotonic()

    def node(self) -> Node | None:
        """Return the Node as the cluster has it."""
        return self.around.cluster.nodes.get(self.vnode)

    def removed_by_others(self) -> bool:
        """Return whether the Node was there under us and is there no more."""
        return self._had_node and self.node() is None

    def due(self, base: Base, *, fault: str) -> tuple[Work | None, float | None]:
        """Return what brings the Node to what it should be, or, if there is nothing, when to look again without news.

        fault says in words why its tunnel cannot be used, empty when it can.
        """
        now = self.around.clock.monotonic()
        current = self.node()
        if current is not None:
            self._keep_additions(current)
        refresh_at = self._status_written + self._refresh
        endpoint = self.around.kubelet.endpoint(current)
        limit = self._limit(base, current)
        causes = (base.profile, base.unreachable, fault, endpoint, limit)
        if current is not None and (current, causes) == self._right and now < refresh_at:
            return None, refresh_at
        spec = vnode.node_spec(
            base.profile,
            unreachable=base.unreachable,
            fault=fault,
            now=rfc3339(self.around.clock.wall()),
            controller_version=self.around.policy.version,
            kubelet=endpoint,
            policy=self.around.policy.nodes,
            limit=limit,
        )
        if current is None:
            return self._due_creation(base, spec, now)
        self._had_node, self._unseen = True, 0
        status = vnode.with_times(current.status, spec.status)
        times: dict[str, float] = {}
        if vnode.metadata_differs(current, spec):
            times[METADATA] = max(self._metadata_written + METADATA_APART, self._metadata.held_until(causes))
        if now >= refresh_at or not vnode.shows(current.status, status):
            times[STATUS] = self._status.held_until(causes)
        if not times:
            self._right = current, causes
            return None, refresh_at
        due = frozenset(what for what, at in times.items() if at <= now)
        if not due:
            return None, min(times.values())
        return partial(self._write, current, replace(spec, status=status), causes, due), None

    async def _write(self, current: Node, spec: Node, causes: object, what: AbstractSet[str]) -> None:
        """Write what differs; causes is what it follows from."""
        clock, random = self.around.clock, self.around.random
        say = partial(self.around.recorder.node, current, self.vnode)
        if METADATA in what:
            self._metadata_written = clock.monotonic()
            WRITES.labels(METADATA).inc()
            await self.around.cluster.patch_node(current, spec)
            repaired(METADATA, self._metadata.written(causes, clock.monotonic(), random.random()), say)
        if STATUS in what:
            WRITES.labels(STATUS).inc()
            await self.around.cluster.patch_node_status(spec.name, spec.status)
            self._status_written = clock.monotonic()
            repaired(STATUS, self._status.written(causes, self._status_written, random.random()), say)

    def _limit(self, base: Base, current: Node | None) -> int:
        """Return how many modules the base's own Pod allows; a label that says no number has no effect."""
        pod = self.around.limits.of(base.profile)
        limit = vnode.module_limit(pod.limit) if pod is not None else vnode.MOST_PODS
        misread = f"{pod.key}: {contract.MAX_MODULE_COUNT}: {pod.limit!r}" if pod is not None and limit is None else ""
        if misread and misread != self._misread:
            message = f"the label of the base's Pod is no number from 1 to 65535 and has no effect: {misread}"
            self.around.recorder.node(current, self.vnode, Remark(True, "ModuleLimitNotUnderstood", message))
        self._misread = misread
        return vnode.MOST_PODS if limit is None else limit

    def _due_creation(self, base: Base, spec: Node, now: float) -> tuple[Work | None, float | None]:
        if not base.signs.healthy and not base.modules.listed:
            # A base becomes a Node once commands reach it.
            return None, None
        wait_until = max(self._create_at, self._creation.held_until(self.vnode))
        if not base.signs.healthy:
            wait_until = max(wait_until, base.signs.last_answered + FIRST_HEALTH_WAIT)
        if now < wait_until:
            return None, wait_until
        return partial(self._create, base, spec), None

    async def _create(self, base: Base, spec: Node) -> None:
        try:
            await self._create_with_additions(base, spec)
        except AlreadyExists:
            # Ours from an earlier term, which the informer has soon, or a Node that lacks our labels.
            self._unseen += 1
            delay = CREATE_AGAIN.delay(self._unseen, self.around.random.random())
            self._create_at = self.around.clock.monotonic() + delay
            return
        self._had_node, self._unseen = True, 0
        self._status_written = now = self.around.clock.monotonic()
        times = self._creation.written(self.vnode, now, self.around.random.random())
        repaired("node-create", times, partial(self.around.recorder.node, self.node(), self.vnode))
        self.around.recorder.node(
            self.node(), base.vnode, Remark(False, "VNodeCreated", f"Node created for base {base.id}"), written=False
        )

    async def _create_with_additions(self, base: Base, spec: Node) -> None:
        """Create the Node with what others had put on it, or without where the cluster refuses that."""
        known = self._known_additions()
        wanted = additions.onto(spec, known) if known.belong_to(base.id, base.profile.host_name) else spec
        WRITES.labels("node-create").inc()
        try:
            await self.around.cluster.create_node(wanted)
        except AlreadyExists:
            raise
        except Rejected as error:
            if wanted == spec:
                raise
            WRITES.labels("node-create").inc()
            await self.around.cluster.create_node(spec)
            message = f"labels, annotations, taints or the cordon that the Node had are not restored: {error}"
            self.around.recorder.node(self.node(), self.vnode, Remark(True, "NodeAdditionsRefused", message))

    def _known_additions(self) -> Additions:
        if self._additions is None:
            text = self.around.leases.recorded(self.base, contract.ANNOTATION_NODE_ADDITIONS)
            self._additions = additions.recorded(text or "")
        return self._additions

    def _keep_additions(self, current: Node) -> None:
        """Have the Lease keep what others put on the Node; nothing is written as long as that is nothing."""
        if current is self._looked_at:
            return
        self._looked_at = current
        known, found = self._known_additions(), additions.of(current)
        self._additions = found
        if found == known or not (found or known):
            return
        text, left_out = additions.record(found)
        self.around.leases.record(self.base, contract.ANNOTATION_NODE_ADDITIONS, text)
        if left_out and left_out != self._left_out:
            message = f"{' and '.join(left_out)} of others are too large to be kept for when the Node was removed"
            self.around.recorder.node(current, self.vnode, Remark(True, "NodeAdditionsNotKept", message))
        self._left_out = left_out

    async def remove(self) -> None:
        """Delete the Node. Raises ClusterError."""
        current = self.node()
        self._creation = Repairs()
        if current is None:
            return
        self._keep_additions(current)
        WRITES.labels("node-delete").inc()
        with suppress(NotFound):
            await self.around.cluster.delete_node(current.name, current.uid)
