"""The actor of one base: the only one that writes its Node and Pods and sends its orders.

Whatever is heard or changes only marks the actor dirty; it then looks at
everything, decides, and acts, so that ten changes cost one look. A cluster that
does not answer makes it try again later; nothing it holds is lost by that.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

import structlog

from controlplane.app.base import Base, Phase
from controlplane.app.events import Recorder
from controlplane.app.gateways import GatewayDirectory
from controlplane.app.inbox import Inbox, News
from controlplane.app.kubelet import KubeletAddress
from controlplane.app.leases import LeaseKeeper
from controlplane.app.metrics import REFUSED_REPORTS, STALE_FENCES
from controlplane.app.policy import Policy
from controlplane.app.polling import Polling
from controlplane.app.ports import Clock, Cluster, ClusterError, Rejected, Transient
from controlplane.app.reconcile_vnode import NodeReconciler, standing
from controlplane.app.reconcile_vpod import PodReconciler
from controlplane.domain import modules as book
from controlplane.domain.backoff import QUICK
from controlplane.domain.facts import BaseState, Health, Heartbeat
from controlplane.domain.liveness import Evidence, Verdict, choose_tunnel, judge, tunnel_up_since
from controlplane.domain.vnode import owned_of

log = structlog.get_logger(__name__)

SUSPENDED_LOOK = 1.0
"""Seconds between looks while the lease could not be renewed in time."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all actors share. changed is called with an actor's base when it may stand otherwise."""

    cluster: Cluster
    clock: Clock
    leases: LeaseKeeper
    gateways: GatewayDirectory
    recorder: Recorder
    policy: Policy
    random: Random
    kubelet: KubeletAddress
    removals_frozen: Callable[[], bool]
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
        )
        self._failures = 0
        self._deactivated = False
        self._unreachable_at = 0.0
        self._over = False
        self._resting = False
        self._fence_seen = 0
        self._poll_failed = False
        self._refused: set[str] = set()

    def kick(self) -> None:
        """Something that concerns the base changed: look again."""
        self._pods.note(self._around.clock.monotonic())
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
                await self._sleep_until(wake_at)
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
            self._dirty.clear()
            await self._sleep_until(around.clock.monotonic() + delay)
        if not fence:
            return False
        self._failures = 0
        base.fence = fence
        base.phase, base.why = Phase.CLAIMED, ""
        base.term_began = around.clock.monotonic()
        base.modules = book.begin_term(base.modules, base.fence)
        node = self._node.node()
        if node is not None:
            base.modules = book.remember(base.modules, owned_of(node), base.term_began)
            ready = next((c for c in node.status.conditions if c.type == "Ready"), None)
            if ready is not None and ready.status != "True":
                # It stays as it is until the base itself is heard.
                base.phase, base.why = Phase.UNREACHABLE, ready.message
                self._unreachable_at = base.term_began
        around.changed(base)
        return True

    async def _look(self) -> float | None:
        """Take the news, decide and act once; return when to look again without news."""
        around, base = self._around, self.base
        pods = self._pods.pods()
        now = around.clock.monotonic()
        self._pods.look(pods, now)
        self._take(self.inbox.take(), now)
        if around.leases.fence(base.id) != base.fence:
            return now + SUSPENDED_LOOK
        if self._fence_seen > base.fence and not await self._outbid():
            return now + SUSPENDED_LOOK
        self._choose_tunnel(now)
        alive_at = self._judge(now)
        try:
            if base.phase is Phase.DEAD:
                await self._remove()
                self._over = True
                return None
            times = [alive_at, self._polling.run(now)]
            times.append(self._pods.give_up(pods, now))
            if not self._resting and base.phase is not Phase.UNREACHABLE and self._heard_since_the_tunnel_is_up():
                times.append(self._pods.give_orders(pods, now))
            times.append(self._polling.run(now))
            times += await self._write()
            self._failures = 0
        except ClusterError as error:
            times = [now + self._retry_delay(error)]
        around.changed(base)
        return min((at for at in times if at is not None), default=None)

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
            self._retry_delay(error)
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
        tunnel = around.gateways.why_down(base.profile.tunnel)
        created, look_at = await self._node.write(standing(base, tunnel=tunnel))
        times.append(look_at)
        if created:
            self._tell(warning=False, reason="VNodeCreated", message=f"Node created for base {base.id}")
        if base.phase is Phase.CLAIMED and self._node.node() is not None:
            base.phase = Phase.READY
        return times

    def _take(self, news: News, now: float) -> None:
        base = self.base
        self._poll_failed |= news.poll_failed
        self._fence_seen = max(self._fence_seen, news.fence_seen)
        if news.heartbeat is not None:
            self._take_heartbeat(news.heartbeat, news.gateway, now)
        if news.deactivated is not None:
            self._deactivated |= self._is_the_base(news.deactivated, now)
        if news.heard_at is not None:
            self._alive(news.heard_at, news.gateway)
        if news.health is not None:
            self._take_health(news.health)
        # Results come before the list: a list that was asked for later must find them done.
        if self._pods.take_results(news.results, self._pods.pods()):
            self._alive(now, news.gateway)
        if news.given:
            base.modules = book.told_to_start_with(base.modules, news.given, now)
        if news.baseline:
            base.modules = book.started(base.modules)
        if news.modules is not None:
            self._pods.hear(news.modules, self._pods.pods(), now)
            first_look = base.modules.told and not base.modules.present and base.profile.base_used is None
            if first_look and base.profile.metaspace is not None:
                base.profile = replace(base.profile, base_used=base.profile.metaspace.used)

    def _take_heartbeat(self, heartbeat: Heartbeat, gateway: str, now: float) -> None:
        base = self.base
        if not self._is_the_base(heartbeat, now):
            return
        profile = replace(
            base.profile,
            name=heartbeat.name,
            version=heartbeat.version,
            cluster_name=heartbeat.cluster_name,
            host_name=heartbeat.host_name,
            address=heartbeat.address
            if heartbeat.address.port or not base.profile.address.ip
            else base.profile.address,
        )
        if profile != base.profile:
            if base.phase is Phase.READY:
                self._tell(warning=False, reason="BaseChanged", message=f"base {base.id} told new properties of itself")
            base.profile = profile
        self._deactivated = False
        self._alive(now, gateway)

    def _is_the_base(self, heartbeat: Heartbeat, now: float) -> bool:
        """Nobody may speak for a base from another address while the base is alive."""
        base = self.base
        known, told = base.profile.address, heartbeat.address
        if not told.port or not known.port or told == known:
            return True
        if now - max(base.last_heard, base.term_began) >= self._around.policy.patience.unreachable:
            return True
        # After a takeover only the Node's word stands for the old address; when nobody answers there, it is outdated.
        if not base.last_heard and self._poll_failed:
            return True
        REFUSED_REPORTS.labels("address-taken").inc()
        if str(told) not in self._refused and len(self._refused) < 16:
            self._refused.add(str(told))
            self._tell(
                warning=True,
                reason="IdentityClash",
                message=f"{told} claims identity {base.id}, which the live base at {known} has: refused",
            )
        return False

    def _take_health(self, health: Health) -> None:
        base = self.base
        base.healthy_answer = True
        if health.state is BaseState.DEACTIVATED:
            self._deactivated = True
        metaspace = health.metaspace or base.profile.metaspace
        if base.profile.metaspace is not None and metaspace is not None and metaspace.max == base.profile.metaspace.max:
            # Use moves all the time; only the limit is part of the Node.
            metaspace = base.profile.metaspace
        java_version = health.java_version or base.profile.java_version
        base.profile = replace(base.profile, metaspace=metaspace, java_version=java_version)

    def _alive(self, at: float, gateway: str) -> None:
        base = self.base
        base.last_heard = max(base.last_heard, at)
        connected = self._around.gateways.get(gateway)
        if connected is not None:
            base.heard_over[connected.link.info.tunnel] = at
        base.last_heard_wall = self._around.clock.wall()
        if not base.gateway:
            base.gateway = gateway

    def _heard_since_the_tunnel_is_up(self) -> bool:
        """An order that reaches the broker before the base is back there would be lost without a word."""
        tunnel = self.base.profile.tunnel
        up_since = self._around.gateways.up_since(tunnel)
        return up_since is not None and self.base.heard_over.get(tunnel, float("-inf")) >= up_since

    def _choose_tunnel(self, now: float) -> None:
        gateways, base = self._around.gateways, self.base
        chosen = choose_tunnel(
            base.heard_over,
            lambda kind: gateways.up_since(kind) is not None,
            current=base.profile.tunnel,
            now=now,
            patience=self._around.policy.patience,
        )
        if chosen is not base.profile.tunnel:
            log.info("base is worked through another tunnel", base=base.id, tunnel=chosen.value)
            base.profile = replace(base.profile, tunnel=chosen)

    def _judge(self, now: float) -> float | None:
        around, base = self._around, self.base
        patience, current = around.policy.patience, base.profile.tunnel
        up_since = tunnel_up_since(base.heard_over, around.gateways.up_since, current=current, patience=patience)
        evidence = Evidence(base.term_began, base.last_heard, up_since)
        judgement = judge(evidence, now=now, patience=patience, removals_frozen=around.removals_frozen())
        if self._deactivated:
            base.phase, base.why = Phase.DEAD, "the base said that it goes away"
            return None
        # A Node that was removed by hand while its base is silent is not brought back.
        if base.phase is Phase.UNREACHABLE and self._node.removed_by_others():
            base.phase, base.why = Phase.DEAD, "its Node was removed while it was silent"
            return None
        silent = now - judgement.silent_since
        heard_again = base.last_heard > self._unreachable_at
        match judgement.verdict:
            case Verdict.DEAD:
                base.phase, base.why = Phase.DEAD, f"no sign of life for {silent:.0f} s"
            case Verdict.UNREACHABLE if base.phase is not Phase.UNREACHABLE:
                base.phase, base.why = Phase.UNREACHABLE, f"no sign of life for {silent:.0f} s"
                self._unreachable_at = now
                self._tell(warning=True, reason="BaseUnreachable", message=f"base {base.id}: {base.why}")
            case Verdict.ALIVE if base.phase in (Phase.UNREACHABLE, Phase.DEAD) and heard_again:
                base.phase, base.why = Phase.READY, ""
                base.modules = book.recovered(base.modules)
                self._tell(warning=False, reason="BaseReachable", message=f"base {base.id} answers again")
            case _:
                pass
        return judgement.next_at

    async def _remove(self) -> None:
        around, base = self._around, self.base
        pods = self._pods.pods()
        self._pods.look(pods, around.clock.monotonic())
        # Pods outlive their Node by a minute: they leave their Services now, and go first when replicas are lowered.
        await self._pods.write_statuses(pods, unreachable=base.why)
        await self._pods.let_all_go(pods)
        node = self._node.node()
        await self._node.remove()
        await around.leases.end(base.id)
        # A base that said that it goes away is no trouble.
        warning, message = not self._deactivated, f"Node removed: {base.why}"
        around.recorder.node(node, base.vnode, warning=warning, reason="VNodeRemoved", message=message)
        self._polling.end()
        around.changed(base)

    def _tell(self, *, warning: bool, reason: str, message: str) -> None:
        self._around.recorder.node(self._node.node(), self.base.vnode, warning=warning, reason=reason, message=message)

    def _retry_delay(self, error: ClusterError) -> float:
        self._failures += 1
        delay = QUICK.delay(self._failures, self._around.random.random())
        if isinstance(error, Transient) and error.retry_after is not None:
            delay = max(delay, min(error.retry_after, QUICK.longest))
        write = log.warning if isinstance(error, Rejected) else log.info
        write("cluster write failed", base=self.base.id, cause=str(error), retry_in=round(delay, 1))
        return delay

    async def _sleep_until(self, at: float | None) -> None:
        delay = None if at is None else max(at - self._around.clock.monotonic(), 0.0)
        try:
            async with asyncio.timeout(delay):
                await self._dirty.wait()
        except TimeoutError:
            pass
