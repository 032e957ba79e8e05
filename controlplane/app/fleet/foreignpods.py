"""Rejects Pods on our VNodes that are not modules, and completes their deletion, as a kubelet does.

A watch of all Pods of the cluster would be too dear. But a Pod that no kubelet ever touched is Pending, and in a
healthy cluster few Pods are: the watch has those that are Pending and bound, so that it costs what Pods cost that
start, not those there are. What it cannot show is a Pod that ran as a module and lost its label; whoever has a doubt
about a VNode (``Roster.doubt``) has its Pods listed, one short list from the API server's memory.
"""

import asyncio
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass, field
from itertools import islice
from random import Random
from typing import NamedTuple, NoReturn

import structlog

from controlplane.app.changes import Subscription
from controlplane.app.events import Recorder
from controlplane.app.metrics import FOREIGN_PODS, WRITES
from controlplane.app.ownership.leases import LeaseKeeper
from controlplane.app.policy import Policy
from controlplane.app.ports import Clock, Cluster, ClusterError, Conflict, NotFound, Rejected
from controlplane.app.roster import Roster
from controlplane.domain.backoff import Backoff
from controlplane.domain.base.foreign import REASON, Rejections, finished, paced_by, unremoved, why
from controlplane.domain.identity import VNodeName, base_of_node
from controlplane.domain.objects import Pod
from controlplane.domain.remarks import Remark
from service.limits import Recent

log = structlog.get_logger(__name__)

TOGETHER = 0.5
"""Seconds in which changes gather before they are looked at."""
LISTS_TOGETHER = 5
"""VNodes whose Pods are listed in that time, at most."""
PODS_TOGETHER = 64
"""Pods of one VNode that are dealt with in one look: a crowd on one keeps no other waiting."""
AT_ONCE = 16
"""Requests under way at a time."""
SUSPENDED_LOOK = 5.0
"""Seconds between looks while we may not act for a base of ours."""
RETRY = Backoff(first=1.0, longest=60.0)
"""Between attempts where the cluster did not do what it was asked for."""
REMEMBERED = 65_536
"""Controllers whose rejections, and versions of Pods that are remembered; what is forgotten is done once more."""


class _Later(NamedTuple):
    """When to look at a VNode again without a change, and whether its Pods are to be listed then."""

    at: float
    listing: bool


class _Failures(NamedTuple):
    """How often something failed, and when to try again."""

    times: int
    next_at: float


@dataclass(slots=True)
class ForeignPods:
    """Finds them and deals with them; what it holds is lost with it at no harm."""

    cluster: Cluster
    roster: Roster
    leases: LeaseKeeper
    recorder: Recorder
    policy: Policy
    clock: Clock
    random: Random
    _changed: Subscription[VNodeName] = field(init=False)
    _later: dict[VNodeName, _Later] = field(default_factory=dict)
    _failures: Recent[str, _Failures] = field(default_factory=lambda: Recent(REMEMBERED))
    """By the UID of a Pod, or by the name of a VNode whose Pods could not be listed."""
    _said: Recent[str, None] = field(default_factory=lambda: Recent(REMEMBERED))
    """UIDs of the Pods for which there has been an Event."""
    _staying: set[VNodeName] = field(default_factory=set)
    """VNodes with Pods that are not dealt with yet."""
    _rejected: Recent[str, Rejections] = field(default_factory=lambda: Recent(REMEMBERED))
    _settled: Recent[tuple[str, str], None] = field(default_factory=lambda: Recent(REMEMBERED))
    """UID and version of Pods that were dealt with: a cache may still show them."""
    _room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    def __post_init__(self) -> None:
        self._changed = self.roster.changed.subscribe()
        self.cluster.foreign.subscribe_node(self._noted)

    async def run(self) -> NoReturn:
        """Look at the VNodes on which something changed, until cancelled."""
        while True:
            await asyncio.sleep(TOGETHER)
            await asyncio.gather(*self._works(self.clock.monotonic()))
            if self.roster.unsure:
                continue
            at = min((later.at for later in self._later.values()), default=None)
            await self._changed.wait(None if at is None else max(at - self.clock.monotonic(), 0.0))

    def _noted(self, node: str) -> None:
        if base_of_node(node, self.policy.env) is not None:
            self._changed.note(VNodeName(node))

    def _works(self, now: float) -> Iterable[Coroutine[None, None, None]]:
        """Yield what there is to do now."""
        due = {vnode: later for vnode, later in self._later.items() if later.at <= now}
        for vnode, later in due.items():
            del self._later[vnode]
            if later.listing:
                self.roster.unsure.add(vnode)
        listing = set(islice(self.roster.unsure, LISTS_TOGETHER))
        self.roster.unsure -= listing
        for vnode in self._changed.take() | due.keys() | listing:
            base = base_of_node(vnode, self.policy.env)
            if base is None or self.roster.get(base) is None or self.cluster.nodes.get(vnode) is None:
                self._forget(vnode)
            elif vnode in listing or self.cluster.foreign.on_node(vnode) or vnode in self._staying:
                if self.leases.fence(base) is None:
                    self._look_again(vnode, now + SUSPENDED_LOOK, listing=vnode in listing)
                else:
                    yield self._look(vnode, listing=vnode in listing)

    def _forget(self, vnode: VNodeName) -> None:
        """It is not ours; whoever begins a term over the base has its Pods listed."""
        self.roster.unsure.discard(vnode)
        self._staying.discard(vnode)

    async def _look(self, vnode: VNodeName, *, listing: bool) -> None:
        """Deal with the Pods of a VNode, and note when to look again."""
        pods = {pod.uid: pod for pod in self.cluster.foreign.on_node(vnode)}
        if listing:
            try:
                async with self._room:
                    pods |= {pod.uid: pod for pod in await self.cluster.foreign_pods(vnode)}
                self._failures.pop(vnode, None)
            except ClusterError as error:
                self._failed(vnode, vnode, error)
        left = [pod for pod in pods.values() if not finished(pod) and self._due_at(pod) is not None]
        self._say(vnode, left)
        now = self.clock.monotonic()
        due = [pod for pod in left if (self._due_at(pod) or 0.0) <= now]
        await asyncio.gather(*(self._settle(vnode, pod) for pod in due[:PODS_TOGETHER]))
        times = [at for pod in left if (at := self._due_at(pod)) is not None]
        if times:
            self._look_again(vnode, max(min(times), now), listing=listing)

    def _look_again(self, vnode: VNodeName, at: float, *, listing: bool) -> None:
        known = self._later.get(vnode, _Later(at, listing))
        self._later[vnode] = _Later(min(known.at, at), known.listing or listing)

    def _due_at(self, pod: Pod) -> float | None:
        """Return when a Pod is to be dealt with, None if this version of it was."""
        if (pod.uid, pod.resource_version) in self._settled:
            return None
        rejected = None if pod.deleting else self._rejected.get(paced_by(pod))
        failures = self._failures.get(pod.uid)
        return max(rejected.next_at if rejected else 0.0, failures.next_at if failures else 0.0)

    def _say(self, vnode: VNodeName, pods: Iterable[Pod]) -> None:
        """Write one Event for each Pod that stays."""
        self._staying.discard(vnode)
        for pod in pods:
            if pod.deleting:
                continue
            self._staying.add(vnode)
            if pod.uid not in self._said:
                self._said[pod.uid] = None
                FOREIGN_PODS.labels("found").inc()
                self.recorder.pod(pod, Remark(True, REASON, why(vnode)))

    async def _settle(self, vnode: VNodeName, pod: Pod) -> None:
        """Reject and remove a Pod, unless one of the same controller was just rejected."""
        now, by = self.clock.monotonic(), "" if pod.deleting else paced_by(pod)
        if (self._due_at(pod) or 0.0) > now:
            return
        before = self._rejected.get(by)
        if by:
            self._rejected[by] = Rejections.after(before, now, self.random.random())
        try:
            async with self._room:
                await self._end(vnode, pod)
        except NotFound:
            pass
        except ClusterError as error:
            if by:
                self._rejected[by] = before or Rejections()
            self._failed(vnode, pod.uid, error)
            return
        self._failures.pop(pod.uid, None)
        self._settled[pod.uid, pod.resource_version] = None

    async def _end(self, vnode: VNodeName, pod: Pod) -> None:
        if not pod.status.terminal:
            WRITES.labels("pod-reject").inc()
            await self.cluster.reject_pod(pod, REASON, why(vnode))
            FOREIGN_PODS.labels("rejected").inc()
        if unremoved(pod):
            WRITES.labels("pod-delete").inc()
            await self.cluster.delete_pod(pod, grace_seconds=0)
            FOREIGN_PODS.labels("removed").inc()

    def _failed(self, vnode: VNodeName, what: str, error: ClusterError) -> None:
        """Try again later, with a list: a Pod that is Failed already and not removed is in no informer any more."""
        FOREIGN_PODS.labels("failed").inc()
        times = self._failures.get(what, _Failures(0, 0.0)).times + 1
        delay = RETRY.delay(times, self.random.random())
        self._failures[what] = _Failures(times, self.clock.monotonic() + delay)
        self._look_again(vnode, self._failures[what].next_at, listing=True)
        write = log.warning if isinstance(error, Rejected) and not isinstance(error, Conflict) else log.info
        write(
            "a Pod that is no module could not be dealt with", vnode=vnode, cause=str(error), retry_in=round(delay, 1)
        )
