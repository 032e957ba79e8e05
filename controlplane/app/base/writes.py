"""The writes of one base, beside its actor: whatever the API server takes, orders do not wait for it.

One pass of writes is under way at a time. What becomes due meanwhile is written by the next pass, in its newest form;
what turned out to be as it should be is not written at all. In a pass Pods that turn not Ready go first, and the Node
goes last.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import structlog

from controlplane.app.base.node import NodeReconciler, Work
from controlplane.app.base.pods import Pods, Removal
from controlplane.app.base.surroundings import Surroundings
from controlplane.app.ports import ClusterError, Rejected
from controlplane.domain.backoff import Backoff
from controlplane.domain.base.state import Base
from controlplane.domain.base.wishes import Wish
from controlplane.domain.identity import BaseId
from controlplane.domain.objects import Pod, PodStatus

log = structlog.get_logger(__name__)

AGAIN = Backoff(first=1.0, longest=10.0, jitter=0.5)
"""Between attempts to write that the cluster did not take."""
SEEN_WITHIN = 2.0
"""Seconds after which is looked at what was written and what came of it, where nothing is known to follow from it."""
LONGEST_RETRY_AFTER = 30.0
"""Seconds for which the cluster may ask to be left alone."""


@dataclass
class Patience:
    """When to write again to a cluster that did not take it."""

    base: BaseId
    around: Surroundings
    _failures: int = 0

    def failed(self, error: ClusterError) -> float:
        """Return when to try again, and log why that is needed."""
        self._failures += 1
        named = min(error.retry_after or 0.0, LONGEST_RETRY_AFTER)
        delay = max(AGAIN.delay(self._failures, self.around.random.random()), named)
        write = log.warning if isinstance(error, Rejected) else log.info
        write("cluster write failed", base=self.base, cause=str(error), retry_in=round(delay, 1))
        return self.around.clock.monotonic() + delay

    def succeeded(self) -> None:
        """Begin with short delays again."""
        self._failures = 0


@dataclass(frozen=True, slots=True)
class _Due:
    """What one pass writes."""

    statuses: Sequence[tuple[Pod, PodStatus]]
    removals: Sequence[Removal]
    node: Work | None

    def __bool__(self) -> bool:
        return bool(self.statuses or self.removals or self.node)

    def holds(self, other: Self) -> bool:
        """Return whether this pass writes all that another one would."""
        statuses = {pod.uid: status for pod, status in self.statuses}
        removals = {removal.pod.uid for removal in self.removals}
        return (
            other.node is None
            and all(statuses.get(pod.uid) == status for pod, status in other.statuses)
            and all(removal.pod.uid in removals for removal in other.removals)
        )


NOTHING = _Due((), (), None)


@dataclass
class Writes:
    """Writes Node and Pods of one base. ended is set after a pass that leaves something to do."""

    around: Surroundings
    node: NodeReconciler
    pods: Pods
    ended: asyncio.Event
    patience: Patience
    _pass: asyncio.Task[None] | None = None
    _not_before: float = float("-inf")
    """No write is tried before this time: the last one failed."""
    _writing: _Due = NOTHING
    """What the last pass writes, or wrote."""
    _more: bool = False
    """Something else is due while a pass is under way."""

    def look(self, base: Base, pods: Sequence[Pod], wishes: Sequence[Wish], *, fault: str) -> list[float | None]:
        """Begin to write what is due, unless a pass is under way; return when to look again without news.

        Raises what a defect made a pass raise.
        """
        now = self.around.clock.monotonic()
        statuses, statuses_at = self.pods.due_statuses(base, pods, wishes)
        removals, removals_at = self.pods.due_removals(base, pods, wishes)
        node, node_at = self.node.due(base, fault=fault)
        if self._pass is not None and self._pass.done():
            done, self._pass = self._pass, None
            done.result()
        due = _Due(statuses, removals, node)
        self._more = self._pass is not None and not self._writing.holds(due)
        if due and self._pass is None:
            if now < self._not_before:
                return [self._not_before]
            self._writing = due
            self._pass = asyncio.create_task(self._write(base, due), name=f"writes of {base.id}")
        return [statuses_at, removals_at, node_at, now + SEEN_WITHIN if self._pass is not None else None]

    async def stop(self) -> None:
        """End the pass that is under way, if there is one."""
        under_way, self._pass = self._pass, None
        if under_way is not None:
            under_way.cancel()
            await asyncio.wait([under_way])

    async def _write(self, base: Base, due: _Due) -> None:
        settled = False
        try:
            if self.around.leases.fence(base.id) != base.fence:
                return
            settled = await self.pods.write_statuses(due.statuses)
            settled = await self.pods.let_go(due.removals) and settled
            if due.node is not None:
                await due.node()
                settled = False
            self.patience.succeeded()
        except ClusterError as error:
            self._not_before = self.patience.failed(error)
        finally:
            if self._more or not settled:
                self.ended.set()
