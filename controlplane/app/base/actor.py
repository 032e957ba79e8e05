"""The actor of one base: the only one that replaces its state, writes its Node and Pods and sends its orders.

Whatever arrives or changes only wakes the actor; it then looks at everything, decides, and acts, so that ten changes
cost one look. A cluster that does not answer makes it write again later, however much arrives meanwhile; nothing it
holds is lost by that.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace

import structlog

from controlplane.app.base.node import NodeReconciler
from controlplane.app.base.orderreports import OrderReports
from controlplane.app.base.orders import Orders
from controlplane.app.base.pods import Pods
from controlplane.app.base.polling import Polling
from controlplane.app.base.prober import BaseProbes
from controlplane.app.base.readiness import Readiness
from controlplane.app.base.surroundings import Surroundings
from controlplane.app.base.writes import Patience, Writes
from controlplane.app.changes import wait_at_most
from controlplane.app.metrics import ACTOR_LOOKS, REFUSED_REPORTS, STALE_FENCES
from controlplane.app.ports import ClusterError
from controlplane.app.roster import RosterEntry
from controlplane.domain import contract
from controlplane.domain.base import liveness, modules, vitals
from controlplane.domain.base.hearing import Heard
from controlplane.domain.base.releases import UNKNOWN, Release, record, recorded
from controlplane.domain.base.state import Base, Phase
from controlplane.domain.base.vitals import News
from controlplane.domain.base.vnode import place
from controlplane.domain.base.wishes import Wish, Wishes
from controlplane.domain.facts import TunnelKind
from controlplane.domain.identity import ModuleKey
from controlplane.domain.objects import Condition, Pod
from controlplane.domain.remarks import Remark

log = structlog.get_logger(__name__)

TICK = 0.001
"""Seconds that a look may be late: no timer is more exact."""
REST, LONGEST_REST = 100.0, 0.1
"""How much longer than a look the pause after it is, and its longest, in seconds: looks at many Pods take longer."""
SUSPENDED_LOOK = 1.0
"""Seconds between looks while the lease could not be renewed in time, before jitter."""


class BaseActor:
    """Manages one base from its discovery to its end."""

    def __init__(self, entry: RosterEntry, around: Surroundings) -> None:
        self._base = base = entry.base
        self._entry = entry
        self._around = around
        self._polling = Polling(around.gateways)
        self._node = NodeReconciler(base.id, base.vnode, around)
        self._readiness = Readiness(around, BaseProbes(around.prober, entry.wake))
        reports = OrderReports(around)
        self._orders = Orders(around, reports)
        self._pods = Pods(base.vnode, around, self._readiness, reports)
        self._wishes = Wishes()
        self._patience = Patience(base.id, around)
        self._writes = Writes(around, self._node, self._pods, entry.wake, self._patience)
        self._recorded: tuple[Mapping[ModuleKey, Release], AbstractSet[ModuleKey]] | None = None
        """What is ours, and of that what no Pod stands for, as the Lease was last given it."""
        self._over = False
        self._remove_at = float("-inf")
        """The base is not removed before this time: that failed."""
        self._resting = False
        self._fence_seen = 0

    def rest(self) -> None:
        """Give no more orders: this replica ends."""
        self._resting = True

    def leave(self) -> None:
        """Have gateways poll the base no more for us, nor report it to us: the term is over."""
        self._polling.end(self._base)

    async def run(self) -> None:
        """Manage the base until it is gone or another replica has it."""
        try:
            if not await self._begin():
                return
            loop = asyncio.get_running_loop()
            while True:
                async with self._around.looks:
                    await asyncio.sleep(0)
                began = loop.time()
                look_at, judge_at = await self._look()
                if self._over:
                    return
                # Of what comes in the meantime one look takes all.
                await asyncio.sleep(min((loop.time() - began) * REST, LONGEST_REST))
                await self._wait(look_at, judge_at)
        finally:
            await self._writes.stop()
            self._readiness.end()
            self._publish(self._orders.drop(self._base))

    async def _begin(self) -> bool:
        """Begin a term; return whether the base is ours."""
        around, base, fence = self._around, self._base, 0
        while True:
            known = self._known_before()
            records = {contract.ANNOTATION_OWNED_MODULES: record(known)} if known else {}
            try:
                fence = await around.leases.acquire(base.id, records=records)
            except ClusterError as error:
                until = self._patience.failed(error)
                base = replace(base, why=f"its lease could not be taken: {error}")
                self._publish(base)
            else:
                break
            # What arrives of the base is no reason to try again earlier.
            while around.clock.monotonic() + TICK < until and self._entry.news.touched_at is None:
                self._entry.wake.clear()
                await self._sleep_until(until)
            self._entry.news.touched_at = None
        if not fence:
            return False
        self._patience.succeeded()
        now, node = around.clock.monotonic(), self._node.node()
        ours = modules.remember(modules.begin_term(base.modules, fence), known, now)
        base = replace(base, fence=fence, phase=Phase.CLAIMED, why="", term_began=now, modules=ours)
        ready = Condition.of(node.status.conditions if node is not None else (), "Ready")
        if ready.status not in ("", "True"):
            base = vitals.not_ready_at_first(base, ready.message or "its Node was not Ready")
        self._publish(base)
        around.roster.doubt(base.vnode)
        return True

    def _known_before(self) -> Mapping[ModuleKey, Release]:
        """Return what is ours as a term begins: what Pods want, and what is recorded.

        Whoever was here before may have installed what Pods want without a chance to record it. The record is in the
        Lease, or in the Node by an earlier version of this program.
        """
        text, node = self._around.leases.recorded(self._base.id, contract.ANNOTATION_OWNED_MODULES), self._node.node()
        if text is None and node is not None:
            text = node.annotations.get(contract.ANNOTATION_OWNED_MODULES)
        wishes = self._wanted(self._pods.look(self._around.clock.monotonic()), self._base)
        return {**dict.fromkeys((wish.spec.key for wish in wishes), UNKNOWN), **recorded(text or "")}

    def _wanted(self, pods: tuple[Pod, ...], base: Base) -> Sequence[Wish]:
        return self._wishes.of(self._pods.due(pods), place(base.profile))

    async def _look(self) -> tuple[float | None, float | None]:
        """Take the news, decide and act once; return when to look, and when to judge the base, without news."""
        ACTOR_LOOKS.inc()
        around, news = self._around, self._entry.take()
        now = around.clock.monotonic()
        self._fence_seen = max(self._fence_seen, news.fence_seen)
        pods = self._pods.look(now, news.touched_at)
        tunnels = around.gateways.heard()
        base = self._take(self._base, news, pods, tunnels, now)
        suspended = around.leases.fence(base.id) != base.fence
        if suspended or self._fence_seen > base.fence:
            self._publish(replace(base, suspended_until=now) if suspended else base)
            if suspended or not await self._outbid():
                return now + SUSPENDED_LOOK * (0.5 + around.random.random()), None
            base, now, tunnels = self._base, around.clock.monotonic(), around.gateways.heard()
            pods = self._pods.look(now)
        wishes = self._wanted(pods, base)
        base, judge_at, times = self._decide(base, pods, wishes, tunnels, now)
        self._publish(base)
        times += await self._remove(pods, wishes) if base.phase is Phase.DEAD else self._write(pods, wishes)
        return min((at for at in times if at is not None), default=None), judge_at

    def _decide(
        self,
        base: Base,
        pods: Sequence[Pod],
        wishes: Sequence[Wish],
        tunnels: Mapping[TunnelKind, Heard],
        now: float,
    ) -> tuple[Base, float | None, list[float | None]]:
        """Judge the base, send what is due; return its next state, when to judge it again, and when to look again."""
        around, polling = self._around, self._polling
        base = vitals.use_tunnel(base, tunnels, now=now)
        base, judge_at = vitals.judged(
            base,
            tunnels,
            now=now,
            wall=around.clock.wall(),
            outage=around.roster.outages.now,
            has_node=self._node.node() is not None,
            node_removed=self._node.removed_by_others(),
        )
        if base.phase is Phase.DEAD:
            return base, judge_at, []
        base, another_at = polling.choose(base, now)
        base, answer_at = self._orders.give_up(base, wishes, pods, now)
        times = [another_at, answer_at]
        reached = base.phase is not Phase.UNREACHABLE and vitals.seen_since_tunnel_up(base, around.gateways.up_since)
        self._entry.awaited = not reached
        waits = True
        if reached and not self._resting:
            base, plan = self._orders.send(base, wishes, now)
            self._pods.measure_orders(pods, base.modules, now)
            times.append(plan.wake_at)
            waits = plan.waits
        times.append(polling.send(base, now, waits=waits))
        self._record(base, wishes)
        return base, judge_at, times

    def _publish(self, base: Base) -> None:
        """Replace the state, and record what is worth an Event about the change."""
        before, self._base = self._base, base
        REFUSED_REPORTS.labels("address-taken").inc(base.signs.refused - before.signs.refused)
        REFUSED_REPORTS.labels("goodbye").inc(base.signs.leaving.refused - before.signs.leaving.refused)
        if before.profile.tunnel is not base.profile.tunnel:
            log.info("base is managed through another tunnel", base=base.id, tunnel=base.profile.tunnel.value)
        for remark in vitals.remarks(before, base):
            self._around.recorder.node(self._node.node(), base.vnode, remark)
        self._around.roster.publish(base)

    def _take(
        self, base: Base, news: News, pods: Sequence[Pod], tunnels: Mapping[TunnelKind, Heard], now: float
    ) -> Base:
        wall = self._around.clock.wall()
        base = vitals.take(base, news, tunnels, now=now, wall=wall)
        # Results come before the list: a list that was asked for later must find them done.
        base, answered = self._orders.take_results(base, news.results, pods)
        if answered:
            base = vitals.alive(base, news, at=now, wall=wall, answered=True)
        if news.given:
            base = replace(base, modules=modules.given_at_start(base.modules, news.given, now))
        if news.baseline is not None:
            base = self._orders.take_baseline(base, news.baseline, now)
        if news.modules is not None:
            base = self._orders.take_list(base, news.modules, pods, now)
        return vitals.note_own_use(base, pods, now)

    def _record(self, base: Base, wishes: Sequence[Wish]) -> None:
        """Have the Lease say what is ours; its next renewal takes that along.

        What no Pod stands for is written at once: nothing else shows a later owner that it is ours.
        """
        wanted = {wish.spec.key for wish in wishes}
        owned = modules.record_of(base.modules, wanted)
        without_pod = owned.keys() - wanted
        if (owned, without_pod) != self._recorded:
            self._recorded = owned, without_pod
            leases, name = self._around.leases, contract.ANNOTATION_OWNED_MODULES
            written = recorded(leases.recorded(base.id, name) or "")
            leases.record(base.id, name, record(owned), soon=not without_pod <= written.keys())

    async def _outbid(self) -> bool:
        """Begin a term above the fence that a gateway has seen; return whether that is done.

        Whoever had that fence is no more the holder, or we lose the base on this write.
        """
        around, base = self._around, self._base
        STALE_FENCES.inc()
        log.warning("term begun again above a fence that a gateway has seen", base=base.id, seen=self._fence_seen)
        try:
            fence = await around.leases.acquire(base.id, above=self._fence_seen)
        except ClusterError as error:
            log.info("term not begun again", base=base.id, cause=str(error))
            return False
        if not fence:
            self._over = True
            return False
        self._publish(replace(base, fence=fence, modules=modules.begin_term(base.modules, fence)))
        return True

    def _write(self, pods: Sequence[Pod], wishes: Sequence[Wish]) -> Iterable[float | None]:
        around, base = self._around, self._base
        outage = around.roster.outages.now.commands_fail if base.signs.failing else ""
        fault = around.gateways.why_down(base.profile.tunnel) or outage
        return self._writes.look(base, pods, wishes, fault=fault)

    async def _remove(self, pods: Sequence[Pod], wishes: Sequence[Wish]) -> Iterable[float | None]:
        """Remove all that stands for the base, unless that failed a moment ago."""
        if (now := self._around.clock.monotonic()) < self._remove_at:
            return [self._remove_at]
        await self._writes.stop()
        try:
            await self._remove_all(pods, wishes)
        except ClusterError as error:
            self._remove_at = self._patience.failed(error)
            return [self._remove_at]
        self._over = True
        return [now]

    async def _remove_all(self, pods: Sequence[Pod], wishes: Sequence[Wish]) -> None:
        around, base = self._around, self._base
        # Pods outlive their Node by a minute: they leave their Services now, and go first when replicas are lowered.
        statuses, _ = self._pods.due_statuses(base, pods, wishes)
        await self._pods.write_statuses(statuses)
        await self._pods.let_all_go(pods)
        node = self._node.node()
        await self._node.remove()
        around.leases.record(base.id, contract.ANNOTATION_OWNED_MODULES, record(modules.record_of(base.modules)))
        await around.leases.end(base.id)
        if not base.admitted:
            log.debug("new base not admitted", base=base.id, cause=base.why)
            self._polling.end(base)
            return
        # A base that reported that it goes away is no trouble.
        remark = Remark(not base.signs.leaving.believed, "VNodeRemoved", f"Node removed: {base.why}")
        around.recorder.node(node, base.vnode, remark)
        self._polling.end(base)

    async def _wait(self, look_at: float | None, judge_at: float | None) -> None:
        """Return when there is news or a look is due; while the base only lives its silence needs none."""
        clock = self._around.clock
        while True:
            await self._sleep_until(min((at for at in (look_at, judge_at) if at is not None), default=None))
            now = clock.monotonic()
            if self._entry.wake.is_set() or (look_at is not None and look_at <= now + TICK):
                return
            judge_at = liveness.silent_at(self._entry.heard, self._around.gateways.heard(), now=now)
            if judge_at is None:
                return

    async def _sleep_until(self, at: float | None) -> None:
        delay = None if at is None else max(at - self._around.clock.monotonic(), TICK)
        await wait_at_most(delay, self._entry.wake)
