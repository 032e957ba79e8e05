"""The writes of one base, beside its actor: whatever the API server takes, orders do not wait for it.

One pass of writes is under way at a time. What becomes due meanwhile is written by the next pass, in its newest form;
what turned out to be as it should be is not written at all. In a pass Pods that turn not Ready go first, and the Node
goes last. The actor looks at what came of a pass only where something may follow from it.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import structlog

from controlplane.app.base.node import NodeReconciler, Work
from controlplane.app.base.pods import Pods, Removal
from controlplane.app.base.surroundings import Surroundings
from controlplane.app.ports import AlreadyExists, ClusterError, Conflict, Rejected
from controlplane.domain.backoff import Backoff
from controlplane.domain.base.state import Base
from controlplane.domain.base.wishes import Wish
from controlplane.domain.identity import BaseId
from controlplane.domain.objects import Pod, PodStatus

log = structlog.get_logger(__name__)

AGAIN = Backoff(first=1.0, longest=10.0, jitter=0.5)
"""Between attempts to write that the cluster did not take."""
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
        # That somebody else wrote first is no fault: replicas try for one base, and watches lag.
        refused = isinstance(error, Rejected) and not isinstance(error, AlreadyExists | Conflict)
        write = log.warning if refused else log.info
        write("cluster write failed", base=self.base, cause=str(error), retry_in=round(delay, 1))
        return self.around.clock.monotonic() + delay

    def succeeded(self) -> None:
        """Begin with short delays again."""
        self._failures = 0


@dataclass(frozen=True, slots=True)
class _Due:
    """What one pass writes, in the term with that fence."""

    fence: int = 0
    statuses: Sequence[tuple[Pod, PodStatus]] = ()
    removals: Sequence[Removal] = ()
    node: Work | None = None

    def __bool__(self) -> bool:
        return bool(self.statuses or self.removals or self.node)

    def rest(self, due: Self) -> tuple[Self, bool]:
        """Return what is due that this pass does not write, and whether it writes something that is no more right."""
        statuses = {pod.uid: (pod, status) for pod, status in self.statuses}
        removals = {removal.pod.uid for removal in self.removals}
        rest = replace(
            due,
            statuses=[(pod, status) for pod, status in due.statuses if pod.uid not in statuses],
            removals=[removal for removal in due.removals if removal.pod.uid not in removals],
            node=due.node if self.node is None else None,
        )
        return rest, any(statuses.get(pod.uid, (pod, status)) != (pod, status) for pod, status in due.statuses)


NOTHING = _Due()


@dataclass
class Writes:
    """Writes Node and Pods of one base. ended is set after a pass of which something may follow."""

    around: Surroundings
    node: NodeReconciler
    pods: Pods
    ended: asyncio.Event
    patience: Patience
    _pass: asyncio.Task[None] | None = None
    _not_before: float = float("-inf")
    """No write is tried before this time: the last one failed."""
    _writing: _Due = NOTHING
    """What the pass under way writes."""
    _next: _Due = NOTHING
    """What was due beside that when it was last looked."""
    _outdated: bool = False
    """What is being written was no more right then."""

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
        due = _Due(base.fence, statuses, removals, node)
        if self._pass is not None:
            self._next, self._outdated = self._writing.rest(due)
        elif due:
            if now < self._not_before:
                return [self._not_before]
            self._writing, self._next, self._outdated = due, NOTHING, False
            self._pass = asyncio.create_task(self._run(base.id), name=f"writes of {base.id}")
        return [statuses_at, removals_at, node_at]

    async def stop(self) -> None:
        """End the pass that is under way, if there is one."""
        under_way, self._pass = self._pass, None
        if under_way is not None:
            under_way.cancel()
            await asyncio.wait([under_way])

    async def _run(self, base: BaseId) -> None:
        """Write what is due, then what became due meanwhile, as long as nothing else may follow from it."""
        settled = False
        try:
            while self._writing and self.around.leases.fence(base) == self._writing.fence:
                settled = await self._write(self._writing)
                if not settled or self._outdated:
                    return
                self._writing, self._next, settled = self._next, NOTHING, not self._next
        except ClusterError as error:
            self._not_before = self.patience.failed(error)
        finally:
            self._writing = self._next = NOTHING
            if self._outdated or not settled:
                self.ended.set()

    async def _write(self, due: _Due) -> bool:
        """Write; return whether nothing follows from it. Raises ClusterError."""
        settled = await self.pods.write_statuses(due.statuses)
        settled = await self.pods.let_go(due.removals) and settled
        if due.node is not None:
            await due.node()
            settled = False
        self.patience.succeeded()
        return settled
