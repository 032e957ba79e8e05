"""The actor of one base: the only one that writes its Node and Pods and sends its orders.

Whatever is heard or changes only marks the actor dirty; it then looks at
everything, decides, and acts, so that ten changes cost one look. A cluster that
does not answer makes it write again later, however much is heard meanwhile; nothing
it holds is lost by that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

import structlog

from controlplane.app.base.inbox import Inbox, News
from controlplane.app.base.kubelet import KubeletAddress
from controlplane.app.base.node import NodeReconciler, standing
from controlplane.app.base.pods import PodReconciler
from controlplane.app.base.polling import Polling
from controlplane.app.base.prober import Prober
from controlplane.app.base.state import Base, Phase
from controlplane.app.base.vitals import Vitals
from controlplane.app.events import Recorder
from controlplane.app.gateways import GatewayDirectory
from controlplane.app.metrics import STALE_FENCES
from controlplane.app.ownership.leases import LeaseKeeper
from controlplane.app.policy import Policy
from controlplane.app.ports import Clock, Cluster, ClusterError, Rejected, Transient
from controlplane.domain import contract
from controlplane.domain.backoff import Backoff
from controlplane.domain.base import modules as book
from controlplane.domain.base.releases import Release, record, recorded
from controlplane.domain.base.vnode import ready_condition
from controlplane.domain.identity import ModuleKey
from controlplane.domain.objects import Node

log = structlog.get_logger(__name__)

TICK = 0.001
"""Seconds that a look may be late: no timer is more exact."""
SUSPENDED_LOOK = 1.0
"""Seconds between looks while the lease could not be renewed in time, before jitter."""
WRITE_AGAIN = Backoff(first=1.0, longest=10.0, jitter=0.5)
"""Between attempts to write that the cluster did not take."""
LONGEST_RETRY_AFTER = 30.0
"""Seconds for which the cluster may ask to be left alone."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all actors share. changed is called with an actor's base when it may stand otherwise.

    commands_fail says in words that commands to most bases fail, empty when they do not.
    """

    cluster: Cluster
    clock: Clock
    leases: LeaseKeeper
    gateways: GatewayDirectory
    recorder: Recorder
    policy: Policy
    random: Random
    kubelet: KubeletAddress
    prober: Prober
    removals_frozen: Callable[[], bool]
    commands_fail: Callable[[], str]
    changed: Callable[[Base], None]


class BaseActor:
    """Runs one base from its discovery to its end."""

    def __init__(self, base: Base, around: Surroundings) -> None:
        self.base = base
        self._around = around
        self._dirty = asyncio.Event()
        self.inbox = Inbox(self._dirty.set)
        self._polling = Polling(base, around.gateways, around.policy, around.clock)
        self._node = NodeReconciler(
            base,
            cluster=around.cluster,
            clock=around.clock,
            policy=around.policy,
            random=around.random,
            kubelet=around.kubelet,
        )
        self._pods = PodReconciler(
            base,
            cluster=around.cluster,
            clock=around.clock,
            gateways=around.gateways,
            recorder=around.recorder,
            policy=around.policy,
            random=around.random,
            prober=around.prober,
            changed=self._dirty.set,
        )
        self._vitals = Vitals(
            base,
            cluster=around.cluster,
            clock=around.clock,
            gateways=around.gateways,
            recorder=around.recorder,
            patience=around.policy.patience,
            removals_frozen=around.removals_frozen,
            commands_fail=around.commands_fail,
        )
        self._kicked = asyncio.Event()
        self._failures = 0
        self._write_at = float("-inf")
        """No write is tried before this time: the last one failed."""
        self._recorded: Mapping[ModuleKey, Release] | None = None
        self._over = False
        self._resting = False
        self._fence_seen = 0

    def kick(self) -> None:
        """Something that concerns the base changed: look again."""
        self._pods.note(self._around.clock.monotonic())
        self._kicked.set()
        self._dirty.set()

    @property
    def busy(self) -> bool:
        """Whether orders are under way."""
        return bool(self.base.modules.in_flight)

    def rest(self) -> None:
        """Give no more orders: this replica ends."""
        self._resting = True

    def leave(self) -> None:
        """The term is over: gateways need not poll the base for us, nor tell us of it."""
        self._polling.end()

    async def run(self) -> None:
        """Serve the base until it is gone or another replica has it."""
        try:
            if not await self._claim():
                return
            while True:
                self._dirty.clear()
                wake_at = await self._look()
                if self._over:
                    return
                await self._sleep_until(wake_at, self._dirty)
        finally:
            self._pods.drop()

    async def _claim(self) -> bool:
        """Begin a term; tell whether the base is ours."""
        around, base, fence = self._around, self.base, 0
        while True:
            try:
                fence = await around.leases.claim(base.id)
            except ClusterError as error:
                delay = self._retry_delay(error)
                base.why = f"its lease could not be taken: {error}"
            else:
                break
            # What is heard of the base is no reason to try again earlier.
            self._kicked.clear()
            await self._sleep_until(around.clock.monotonic() + delay, self._kicked)
        if not fence:
            return False
        self._failures = 0
        base.fence = fence
        base.phase, base.why = Phase.CLAIMED, ""
        base.term_began = around.clock.monotonic()
        base.modules = book.begin_term(base.modules, base.fence)
        node = self._node.node()
        base.modules = book.remember(base.modules, self._installed(node), base.term_began)
        ready = ready_condition(node) if node is not None else None
        if ready is not None and ready.status != "True":
            self._vitals.not_ready_at_first(ready.message)
        around.changed(base)
        return True

    def _installed(self, node: Node | None) -> Mapping[ModuleKey, Release]:
        """Return what is recorded as ours: in the Lease, or in the Node by an earlier version of this program."""
        text = self._around.leases.recorded(self.base.id)
        if text is None:
            text = node.annotations.get(contract.ANNOTATION_OWNED_MODULES, "") if node is not None else ""
        return recorded(text)

    async def _look(self) -> float | None:
        """Take the news, decide and act once; return when to look again without news."""
        around, base = self._around, self.base
        pods = self._pods.pods()
        now = around.clock.monotonic()
        self._pods.look(pods, now)
        self._take(self.inbox.take(), now)
        if around.leases.fence(base.id) != base.fence:
            return now + SUSPENDED_LOOK * (0.5 + around.random.random())
        if self._fence_seen > base.fence and not await self._outbid():
            return now + SUSPENDED_LOOK * (0.5 + around.random.random())
        self._vitals.choose_tunnel(now)
        times = [self._vitals.judge(now, node_removed=self._node.removed_by_others())]
        if base.phase is not Phase.DEAD:
            times.append(self._polling.run(now))
            times.append(self._pods.give_up(pods, now))
            reached = base.phase is not Phase.UNREACHABLE and self._vitals.heard_since_the_tunnel_is_up()
            if reached and not self._resting:
                times.append(self._pods.give_orders(pods, now))
            times.append(self._polling.run(now))
            self._record()
        times += await self._write_unless_too_early(now)
        if self._over:
            return None
        around.changed(base)
        return min((at for at in times if at is not None), default=None)

    async def _write_unless_too_early(self, now: float) -> list[float | None]:
        if now < self._write_at:
            return [self._write_at]
        try:
            if self.base.phase is Phase.DEAD:
                await self._remove()
                self._over = True
                return []
            times = await self._write()
        except ClusterError as error:
            self._write_at = now + self._retry_delay(error)
            return [self._write_at]
        self._failures = 0
        return times

    def _record(self) -> None:
        """Have the Lease say what is ours; its next renewal takes that along.

        What a starting base was given is written at once: no Pod stands for it yet.
        """
        owned = book.record_of(self.base.modules)
        if owned != self._recorded:
            given = any(key in self.base.modules.spared for key in owned.keys() - (self._recorded or {}).keys())
            self._recorded = owned
            self._around.leases.record(self.base.id, record(owned), soon=given)

    async def _outbid(self) -> bool:
        """Begin a term above the fence that a gateway has seen; tell whether that is done.

        Whoever had that fence is no more the holder, or we lose the base on this write.
        """
        around, base = self._around, self.base
        STALE_FENCES.inc()
        log.warning("term begun anew above a fence that a gateway has seen", base=base.id, seen=self._fence_seen)
        try:
            fence = await around.leases.claim(base.id, above=self._fence_seen)
        except ClusterError as error:
            log.info("term not begun anew", base=base.id, cause=str(error))
            return False
        if not fence:
            self._over = True
            return False
        base.fence = fence
        base.modules = book.begin_term(base.modules, base.fence)
        return True

    async def _write(self) -> list[float | None]:
        around, base = self._around, self.base
        unreachable = base.why if base.phase is Phase.UNREACHABLE else ""
        pods = self._pods.pods()
        self._pods.look(pods, around.clock.monotonic())
        times = [await self._pods.write_statuses(pods, unreachable=unreachable)]
        times.append(await self._pods.let_go(pods, around.clock.monotonic()))
        tunnel = around.gateways.why_down(base.profile.tunnel) or (around.commands_fail() if base.failing else "")
        created, look_at = await self._node.write(standing(base, tunnel=tunnel))
        times.append(look_at)
        if created:
            self._tell(warning=False, reason="VNodeCreated", message=f"Node created for base {base.id}")
        if base.phase is Phase.CLAIMED and self._node.node() is not None:
            base.phase, base.why = Phase.READY, ""
        return times

    def _take(self, news: News, now: float) -> None:
        base = self.base
        self._fence_seen = max(self._fence_seen, news.fence_seen)
        self._vitals.take(news, now)
        # Results come before the list: a list that was asked for later must find them done.
        if self._pods.take_results(news.results, self._pods.pods()):
            self._vitals.carried_out(news.gateway, now)
        if news.given:
            base.modules = book.told_to_start_with(base.modules, news.given, now)
        if news.baseline:
            base.modules = book.started(base.modules)
        if news.modules is not None:
            self._pods.hear(news.modules, self._pods.pods(), now)
        self._vitals.note_own_use(self._pods.pods(), now)

    async def _remove(self) -> None:
        around, base = self._around, self.base
        pods = self._pods.pods()
        self._pods.look(pods, around.clock.monotonic())
        # Pods outlive their Node by a minute: they leave their Services now, and go first when replicas are lowered.
        await self._pods.write_statuses(pods, unreachable=base.why)
        await self._pods.let_all_go(pods)
        node = self._node.node()
        await self._node.remove()
        owned = book.record_of(base.modules)
        await around.leases.end(base.id, modules=record(owned) if owned else "")
        # A base that said that it goes away is no trouble.
        warning, message = not self._vitals.deactivated, f"Node removed: {base.why}"
        around.recorder.node(node, base.vnode, warning=warning, reason="VNodeRemoved", message=message)
        self._polling.end()
        around.changed(base)

    def _tell(self, *, warning: bool, reason: str, message: str) -> None:
        self._around.recorder.node(self._node.node(), self.base.vnode, warning=warning, reason=reason, message=message)

    def _retry_delay(self, error: ClusterError) -> float:
        self._failures += 1
        delay = WRITE_AGAIN.delay(self._failures, self._around.random.random())
        if isinstance(error, Transient) and error.retry_after is not None:
            delay = max(delay, min(error.retry_after, LONGEST_RETRY_AFTER))
        write = log.warning if isinstance(error, Rejected) else log.info
        write("cluster write failed", base=self.base.id, cause=str(error), retry_in=round(delay, 1))
        return delay

    async def _sleep_until(self, at: float | None, or_until: asyncio.Event) -> None:
        delay = None if at is None else max(at - self._around.clock.monotonic(), TICK)
        try:
            async with asyncio.timeout(delay):
                await or_until.wait()
        except TimeoutError:
            pass
