"""All bases of this replica: starts and ends their actors, and hands them what concerns them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from random import Random
from typing import NoReturn

import structlog

from controlplane.app.actor import BaseActor, Surroundings
from controlplane.app.base import Base, Phase
from controlplane.app.baselines import baseline_of, failures
from controlplane.app.events import Recorder
from controlplane.app.gateways import GatewayDirectory, Link
from controlplane.app.kubelet import NO_KUBELET, KubeletAddress
from controlplane.app.leases import LeaseKeeper
from controlplane.app.metrics import GATEWAYS, REFUSED_REPORTS, REMOVALS_FROZEN, REPORTS, VNODES
from controlplane.app.policy import Policy
from controlplane.app.ports import Clock, Cluster, ClusterError
from controlplane.app.supervision import supervise
from controlplane.domain.facts import (
    BaselineQuery,
    BaseState,
    BatchInstalled,
    Health,
    Heartbeat,
    ModuleList,
    OrderResult,
    PollFailed,
    TunnelKind,
)
from controlplane.domain.identity import (
    BaseId,
    InvalidName,
    ModuleKey,
    VNodeName,
    base_of_node,
    node_name,
    parse_base_id,
)
from controlplane.domain.liveness import mass_silence
from controlplane.domain.objects import Container
from controlplane.domain.replies import describe
from controlplane.domain.vnode import Profile, profile_of

log = structlog.get_logger(__name__)

TOLD_OF_A_BASELINE = 20
"""Failed modules of one baseline that are told one by one."""

SYNC_LOOK = 0.05
"""Seconds between looks at whether the informers have their first lists."""


class Fleet:
    """The bases that this replica knows."""

    def __init__(
        self,
        *,
        cluster: Cluster,
        clock: Clock,
        leases: LeaseKeeper,
        gateways: GatewayDirectory,
        recorder: Recorder,
        policy: Policy,
        random: Random,
        kubelet: KubeletAddress = NO_KUBELET,
    ) -> None:
        self._cluster = cluster
        self._clock = clock
        self._gateways = gateways
        self._policy = policy
        self._recorder = recorder
        self._around = Surroundings(
            cluster=cluster,
            clock=clock,
            leases=leases,
            gateways=gateways,
            recorder=recorder,
            policy=policy,
            random=random,
            kubelet=kubelet,
            removals_frozen=self.removals_frozen,
            changed=self._base_changed,
        )
        self._actors: dict[BaseId, BaseActor] = {}
        self._tasks: dict[BaseId, asyncio.Task[None]] = {}
        self._phases: Counter[Phase] = Counter()
        self._phase_of: dict[BaseId, Phase] = {}
        self._shown: dict[BaseId, object] = {}
        self._early: dict[BaseId, tuple[Heartbeat, str]] = {}
        self._given: dict[BaseId, tuple[ModuleKey, ...]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._frozen = False
        self._subscribers: set[Callable[[VNodeName], None]] = set()
        leases.on_lost = self._lease_lost
        leases.on_overdue = self._lease_overdue
        gateways.subscribe(self._gateways_changed)
        cluster.pods.subscribe_node(self._node_touched)
        cluster.nodes.subscribe(self._node_touched)
        kubelet.subscribe(self._kick_all)

    # What tools read.

    @property
    def recovered(self) -> bool:
        """The VNodes of an earlier run have been found."""
        return self._group is not None

    def bases(self) -> Iterable[Base]:
        """Return all bases that have an actor."""
        return tuple(actor.base for actor in self._actors.values())

    def get(self, base: BaseId) -> Base | None:
        """Return a base that has an actor."""
        actor = self._actors.get(base)
        return actor.base if actor is not None else None

    def subscribe(self, handler: Callable[[VNodeName], None]) -> Callable[[], None]:
        """Call handler with the name of each VNode that may have changed; returns what ends that."""
        self._subscribers.add(handler)
        return lambda: self._subscribers.discard(handler)

    def removals_frozen(self) -> bool:
        """Tell whether so many bases are silent at once that none may be removed for it."""
        return self._frozen

    # What gateways report.

    def heartbeat(self, link: Link, identity: str, heartbeat: Heartbeat) -> None:
        """A base beat."""
        REPORTS.labels("heartbeat").inc()
        try:
            base = parse_base_id(identity, self._policy.env)
        except InvalidName as error:
            REFUSED_REPORTS.labels("identity").inc()
            log.warning("heartbeat refused", gateway=link.info.gateway_id, cause=str(error))
            return
        gateway = link.info.gateway_id
        if self._group is None:
            if len(self._early) < self._policy.most_bases:
                self._early[base] = (heartbeat, gateway)
            return
        actor = self._actors.get(base)
        if heartbeat.state is BaseState.DEACTIVATED:
            if actor is not None:
                actor.inbox.deactivated(heartbeat)
            return
        if heartbeat.state is BaseState.UNKNOWN:
            REFUSED_REPORTS.labels("state").inc()
            return
        if actor is None:
            actor = self._discover(base, heartbeat, link.info.tunnel)
        if actor is not None:
            actor.inbox.heartbeat(heartbeat, gateway)

    def health(self, link: Link, identity: str, health: Health) -> None:
        """A base answered a health question."""
        REPORTS.labels("health").inc()
        if (actor := self._known(identity)) is not None:
            actor.inbox.health(health, link.info.gateway_id, self._clock.monotonic())

    def modules(self, link: Link, identity: str, modules: ModuleList) -> None:
        """A base told its modules."""
        REPORTS.labels("modules").inc()
        if (actor := self._known(identity)) is not None:
            actor.inbox.modules(modules, link.info.gateway_id, self._clock.monotonic())

    def poll_failed(self, link: Link, identity: str, failed: PollFailed) -> None:
        """A base could not be asked."""
        REPORTS.labels("poll-failed").inc()
        if (actor := self._known(identity)) is not None:
            actor.inbox.poll_failed()
        log.debug("poll failed", base=identity, gateway=link.info.gateway_id, cause=failed.reason)

    def result(self, link: Link, identity: str, result: OrderResult) -> None:
        """An order ended."""
        REPORTS.labels("order-result").inc()
        if (actor := self._known(identity)) is not None:
            actor.inbox.result(result, link.info.gateway_id, self._clock.monotonic())

    def batch_installed(self, link: Link, identity: str, batch: BatchInstalled) -> None:
        """A base told how its baseline went."""
        REPORTS.labels("batch-install-result").inc()
        actor = self._known(identity)
        if actor is None:
            return
        failed = failures(batch)
        for url, reply in failed[:TOLD_OF_A_BASELINE]:
            message = f"baseline of {identity}: {url} {describe(reply)}"
            self._recorder.module(actor.base.vnode, url, warning=True, reason="BaselineInstallFailed", message=message)
        log.info("baseline installed", base=identity, modules=len(batch.items), failed=len(failed))
        actor.inbox.baseline(link.info.gateway_id, self._clock.monotonic())

    def baseline_query(self, link: Link, identity: str, query: BaselineQuery) -> None:
        """A starting base asks for its modules: answered at once, from the Deployments as they are."""
        REPORTS.labels("baseline-query").inc()
        try:
            base = parse_base_id(identity, self._policy.env)
        except InvalidName:
            REFUSED_REPORTS.labels("identity").inc()
            return
        if not self._cluster.deployments.synced:
            return
        modules = self.baseline(base, query)
        log.info("baseline answered", base=base, modules=[f"{m.name}:{m.version}" for m in modules])
        given = tuple(ModuleKey(module.name, module.version) for module in modules)
        if (actor := self._actors.get(base)) is not None:
            actor.inbox.given(given)
        elif len(self._given) < self._policy.most_bases:
            self._given[base] = given
        link.baseline(base, query.query_id, modules)

    def baseline(self, base: BaseId, query: BaselineQuery) -> tuple[Container, ...]:
        """Return the modules that the scheduler would place on such a base."""
        return baseline_of(
            base,
            query,
            known=self.get(base),
            cluster=self._cluster,
            env=self._policy.env,
            peers_follow=self._policy.peers_follow,
        )

    # Life.

    async def run(self) -> NoReturn:
        """Find the VNodes of an earlier run, then serve all bases."""
        informers = (self._cluster.pods, self._cluster.nodes, self._cluster.leases, self._cluster.deployments)
        while not all(informer.synced for informer in informers):  # noqa: ASYNC110 - informers have no event for it
            await asyncio.sleep(SYNC_LOOK)
        await self._around.kubelet.first_look()
        async with asyncio.TaskGroup() as group:
            self._group = group
            self._recover()
            for base, (heartbeat, gateway) in self._early.items():
                connected = self._gateways.get(gateway)
                if connected is not None:
                    self.heartbeat(connected.link, base, heartbeat)
            self._early.clear()
            group.create_task(self._sweep(), name="lease-sweep")
            await asyncio.get_running_loop().create_future()
        raise AssertionError("the fleet serves for ever")

    def _recover(self) -> None:
        """Take up every VNode that the cluster has; its owner may turn out to be somebody else."""
        env, kubelet_ip = self._policy.env, self._around.kubelet.ip
        for node in self._cluster.nodes.all():
            base = base_of_node(node.name, env)
            profile = profile_of(node, base, env, kubelet_ip=kubelet_ip) if base is not None else None
            if base is None or profile is None:
                log.warning("Node not recovered: it does not tell the address of its base", vnode=node.name)
                continue
            self._start(base, profile)
        if self._actors:
            log.info("VNodes of an earlier run found", vnodes=len(self._actors))

    async def _sweep(self) -> None:
        """Remove leases that an earlier run left behind without a Node, once their bases had time to be heard."""
        await asyncio.sleep(2 * self._policy.patience.dead)
        for lease in tuple(self._cluster.leases.all()):
            base = base_of_node(lease.name, self._policy.env)
            if base is None or base in self._actors or lease.holder != self._policy.replica:
                continue
            if self._cluster.nodes.get(lease.name) is not None:
                continue
            log.info("lease of a base that is gone removed", base=base)
            try:
                await self._cluster.delete_lease(lease)
            except ClusterError as error:
                # It costs nothing but a line in a list; the next start tries again.
                log.warning("lease not removed", base=base, cause=str(error))

    def _discover(self, base: BaseId, heartbeat: Heartbeat, tunnel: TunnelKind) -> BaseActor | None:
        if len(self._actors) >= self._policy.most_bases:
            REFUSED_REPORTS.labels("too-many-bases").inc()
            return None
        profile = Profile(
            base=base,
            env=self._policy.env,
            name=heartbeat.name,
            version=heartbeat.version,
            cluster_name=heartbeat.cluster_name,
            host_name=heartbeat.host_name,
            address=heartbeat.address,
            tunnel=tunnel,
        )
        log.info("base discovered", base=base, address=str(heartbeat.address), tunnel=tunnel.value)
        return self._start(base, profile)

    def _start(self, base: BaseId, profile: Profile) -> BaseActor:
        if self._group is None:
            raise RuntimeError("actors are started by a running fleet only")
        actor = self._new_actor(base, profile)
        self._actors[base] = actor
        actor.inbox.given(self._given.pop(base, ()))
        task = self._group.create_task(
            supervise(
                lambda: self._run_actor(base),
                name=base,
                now=self._clock.monotonic,
                random=self._around.random,
            ),
            name=f"base-{base}",
        )
        self._tasks[base] = task
        task.add_done_callback(lambda done: self._ended(base, done))
        self._base_changed(actor.base)
        return actor

    def _new_actor(self, base: BaseId, profile: Profile) -> BaseActor:
        known = Base(
            id=base,
            vnode=node_name(base, self._policy.env),
            profile=profile,
            discovered_wall=self._clock.wall(),
        )
        return BaseActor(known, self._around)

    async def _run_actor(self, base: BaseId) -> None:
        actor = self._actors[base]
        try:
            await actor.run()
        except Exception:
            # What it knew may be what it failed on: begin anew with the bare profile.
            fresh = replace(actor.base.profile, metaspace=None, base_used=None)
            self._actors[base] = self._new_actor(base, fresh)
            raise

    def _ended(self, base: BaseId, task: asyncio.Task[None]) -> None:
        if self._tasks.get(base) is not task:
            return
        del self._tasks[base]
        actor = self._actors.pop(base)
        self._phases[self._phase_of.pop(base, actor.base.phase)] -= 1
        self._shown.pop(base, None)
        self._measure()
        self._told(actor.base.vnode)

    def _lease_overdue(self, cause: str | None) -> None:
        if cause is None:
            self._recorder.replica(warning=False, reason="LeasesRenewed", message="leases are renewed again")
        else:
            message = f"leases are not renewed in time, so that nothing is done for their bases: {cause}"
            self._recorder.replica(warning=True, reason="LeasesNotRenewed", message=message)

    def _lease_lost(self, base: BaseId) -> None:
        vnode = node_name(base, self._policy.env)
        owner = self._around.leases.owner(base) or "nobody"
        message = f"the lease of base {base} was taken: it is held by {owner} now"
        self._recorder.node(self._cluster.nodes.get(vnode), vnode, warning=True, reason="LeaseLost", message=message)
        task = self._tasks.get(base)
        if task is not None:
            task.cancel()

    def _known(self, identity: str) -> BaseActor | None:
        actor = self._actors.get(BaseId(identity))
        if actor is None:
            REFUSED_REPORTS.labels("unknown-base").inc()
        return actor

    def _gateways_changed(self, kind: TunnelKind) -> None:
        for one in TunnelKind:
            GATEWAYS.labels(one.value).set(sum(1 for c in self._gateways.all() if c.link.info.tunnel is one))
        for actor in self._actors.values():
            if actor.base.profile.tunnel is kind or kind in actor.base.heard_over:
                actor.kick()

    def _kick_all(self) -> None:
        for actor in self._actors.values():
            actor.kick()

    def _node_touched(self, name: str) -> None:
        base = base_of_node(name, self._policy.env)
        actor = self._actors.get(base) if base is not None else None
        if actor is not None:
            actor.kick()
        self._told(VNodeName(name))

    def _base_changed(self, base: Base) -> None:
        before = self._phase_of.get(base.id)
        if before is not base.phase:
            if before is not None:
                self._phases[before] -= 1
            self._phases[base.phase] += 1
            self._phase_of[base.id] = base.phase
            self._measure()
        # Immutable parts are compared by identity: cheap enough for every look of every actor.
        shown = (base.phase, base.why, base.gateway, base.fence, id(base.profile), id(base.modules.present))
        if self._shown.get(base.id) != (shown, len(base.modules.in_flight)):
            self._shown[base.id] = (shown, len(base.modules.in_flight))
            self._told(base.vnode)

    def _measure(self) -> None:
        for phase in Phase:
            VNODES.labels(phase.value).set(self._phases[phase])
        frozen = mass_silence(self._phases[Phase.UNREACHABLE], len(self._phase_of))
        if frozen != self._frozen:
            self._frozen = frozen
            REMOVALS_FROZEN.set(frozen)
            if frozen:
                message = f"most bases fell silent together, {self._phases[Phase.UNREACHABLE]}: none is removed for it"
                self._recorder.replica(warning=True, reason="RemovalsFrozen", message=message)
            else:
                self._recorder.replica(
                    warning=False, reason="RemovalsPossible", message="enough bases answer: removals are possible again"
                )
                self._kick_all()

    def _told(self, vnode: VNodeName) -> None:
        for handler in tuple(self._subscribers):
            handler(vnode)
