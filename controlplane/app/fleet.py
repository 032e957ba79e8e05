"""The bases of this replica: starts and ends their actors, and hands them what concerns them."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
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
from controlplane.app.membership import Membership
from controlplane.app.metrics import (
    GATEWAYS,
    HANDOVERS,
    REFUSED_REPORTS,
    REMOVALS_FROZEN,
    REPORTS,
    TAKEOVERS,
    VNODES,
)
from controlplane.app.ownership import Ownership
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

HEARD_FOR = 30.0
"""Seconds for which a heartbeat of a base that nobody serves is kept."""

HIGHEST_FENCE = 2**31 - 2**20
"""leaseTransitions has 31 bits; a gateway that tells of more than this is not believed."""

FINISH_WITHIN = 0.5
"""Seconds that orders under way are given to end when this replica ends; the others find out by asking the base."""


@dataclass(frozen=True, slots=True)
class Heard:
    """The last heartbeat of a base that this replica does not serve; at is monotonic."""

    heartbeat: Heartbeat
    tunnel: TunnelKind
    gateway: str
    at: float


class Fleet:
    """The bases that this replica knows."""

    def __init__(
        self,
        *,
        cluster: Cluster,
        clock: Clock,
        leases: LeaseKeeper,
        members: Membership,
        gateways: GatewayDirectory,
        recorder: Recorder,
        policy: Policy,
        random: Random,
        kubelet: KubeletAddress = NO_KUBELET,
    ) -> None:
        self._members = members
        self._leases = leases
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
        self._given: dict[BaseId, tuple[tuple[ModuleKey, ...], float]] = {}
        self._heard: dict[BaseId, Heard] = {}
        self._leaving: set[BaseId] = set()
        self._mute: set[str] = set()
        """UIDs of Nodes that do not tell where their base is: said once of each."""
        self._group: asyncio.TaskGroup | None = None
        self._frozen = False
        self._ending = False
        self.ownership = Ownership(
            cluster=cluster,
            clock=clock,
            leases=leases,
            members=members,
            gateways=gateways,
            policy=policy,
            begin=self._begin,
            serving=lambda base: base in self._actors or base in self._leaving,
            heard=lambda: self._heard,
            forget=lambda base: self._heard.pop(base, None),
            spare=self._spare,
            give=self._give,
        )
        self._subscribers: set[Callable[[VNodeName], None]] = set()
        leases.on_lost = self._lease_lost
        leases.on_overdue = self._lease_overdue
        members.on_cut_off = self._cut_off
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
        actor = self._actors.get(base)
        if heartbeat.state is BaseState.DEACTIVATED:
            self._heard.pop(base, None)
            if actor is not None:
                actor.inbox.deactivated(heartbeat)
        elif heartbeat.state is BaseState.UNKNOWN:
            REFUSED_REPORTS.labels("state").inc()
        elif actor is not None:
            actor.inbox.heartbeat(heartbeat, link.info.gateway_id)
        else:
            self._hear(base, Heard(heartbeat, link.info.tunnel, link.info.gateway_id, self._clock.monotonic()))

    def _hear(self, base: BaseId, heard: Heard) -> None:
        """Keep what a base that is not ours said, in case it becomes ours."""
        if self.recovered and self.ownership.elsewhere(base):
            self._heard.pop(base, None)
        elif base not in self._heard and len(self._actors) + len(self._heard) >= self._policy.most_bases:
            REFUSED_REPORTS.labels("too-many-bases").inc()
        else:
            self._heard[base] = heard
            self.ownership.note(base)

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

    def fence_seen(self, link: Link, identity: str, fence: int) -> None:
        """A gateway refused what we sent for a base: it has seen a higher fence."""
        REPORTS.labels("fence-seen").inc()
        if fence > HIGHEST_FENCE:
            REFUSED_REPORTS.labels("fence").inc()
        elif (actor := self._known(identity)) is not None:
            actor.inbox.fence_seen(fence)

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
            self._given[base] = given, self._clock.monotonic()
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
        """Become one of the replicas, find what is ours, then serve it."""
        cluster = self._cluster
        informers = (cluster.pods, cluster.nodes, cluster.leases, cluster.deployments)
        while not all(informer.synced for informer in informers):  # noqa: ASYNC110 - informers have no event for it
            await asyncio.sleep(SYNC_LOOK)
        await self._members.joined()
        await self._around.kubelet.first_look()
        async with asyncio.TaskGroup() as group:
            self._group = group
            group.create_task(self._sweep(), name="sweep")
            await self.ownership.run()
        raise AssertionError("the fleet serves for ever")

    async def retire(self) -> None:
        """End all terms, so that others can take over: give no more orders, wait a moment for those under way."""
        self._ending = True
        self.ownership.stop()
        for actor in self._actors.values():
            actor.rest()
        if any(actor.busy for actor in self._actors.values()):
            await asyncio.sleep(FINISH_WITHIN)
        tasks = tuple(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._leases.abandon()

    async def _sweep(self) -> NoReturn:
        """Forget what is of no use any more: heartbeats, and leases without Node whose holder ended."""
        sweep_leases_at = self._clock.monotonic() + 2 * self._policy.patience.dead
        while True:
            await asyncio.sleep(HEARD_FOR / 2)
            now = self._clock.monotonic()
            self._mute &= {node.uid for node in self._cluster.nodes.all()}
            self._given = {base: given for base, given in self._given.items() if now - given[1] < HEARD_FOR}
            self._heard = {base: heard for base, heard in self._heard.items() if now - heard.at < HEARD_FOR}
            if now >= sweep_leases_at:
                sweep_leases_at = now + 2 * self._policy.patience.dead
                await self._sweep_leases()

    async def _sweep_leases(self) -> None:
        for lease in tuple(self._cluster.leases.all()):
            base = base_of_node(lease.name, self._policy.env)
            if base is None or base in self._actors or base in self._heard or self._leases.wait(lease):
                continue
            if self._cluster.nodes.get(lease.name) is not None or not self._members.mine(lease.name):
                continue
            log.info("lease of a base that is gone removed", base=base)
            try:
                await self._cluster.delete_lease(lease)
            except ClusterError as error:
                # It costs nothing but a line in a list; the next sweep tries again.
                log.warning("lease not removed", base=base, cause=str(error))

    # Taking and giving.

    def _begin(self, base: BaseId, why: str) -> None:
        heard = self._heard.pop(base, None)
        node = self._cluster.nodes.get(node_name(base, self._policy.env))
        kubelet_ip = self._around.kubelet.ip
        profile = profile_of(node, base, self._policy.env, kubelet_ip=kubelet_ip) if node is not None else None
        if profile is None and heard is not None:
            profile = self._told(base, heard)
            log.info("base discovered", base=base, address=str(profile.address), tunnel=profile.tunnel.value)
        if profile is None:
            if node is not None and node.uid not in self._mute:
                self._mute.add(node.uid)
                log.warning("VNode not taken: its Node does not tell the address of its base", vnode=node.name)
            return
        if why != "new":
            log.info("base taken", base=base, why=why)
            TAKEOVERS.labels(why).inc()
        actor = self._start(base, profile)
        if heard is not None:
            actor.inbox.heartbeat(heard.heartbeat, heard.gateway)

    def _told(self, base: BaseId, heard: Heard) -> Profile:
        heartbeat = heard.heartbeat
        return Profile(
            base=base,
            env=self._policy.env,
            name=heartbeat.name,
            version=heartbeat.version,
            cluster_name=heartbeat.cluster_name,
            host_name=heartbeat.host_name,
            address=heartbeat.address,
            tunnel=heard.tunnel,
        )

    def _spare(self, tunnel: str, busy: bool) -> list[BaseId]:
        """Return the bases of a tunnel that can be given away, idle ones first."""
        ours = [
            actor
            for base, actor in self._actors.items()
            if self._leases.fence(base) is not None and actor.base.profile.tunnel.value == tunnel
        ]
        return [actor.base.id for actor in sorted(ours, key=lambda actor: actor.busy) if busy or not actor.busy]

    def _give(self, base: BaseId, to: str, why: str) -> None:
        task = self._tasks.get(base)
        if task is not None and self._group is not None and base not in self._leaving:
            self._leaving.add(base)
            self._group.create_task(self._hand_over(base, to, why, task), name=f"give-{base}")

    async def _hand_over(self, base: BaseId, to: str, why: str, task: asyncio.Task[None]) -> None:
        """End our term before the other one's can begin."""
        task.cancel()
        await asyncio.wait([task])
        try:
            await self._leases.give(base, to)
            HANDOVERS.labels(why).inc()
        except ClusterError as error:
            # The lease is still in our name: its turn comes again.
            log.info("base not given", base=base, replica=to, cause=str(error))
        finally:
            self._leaving.discard(base)
            self.ownership.note(base)

    def _start(self, base: BaseId, profile: Profile) -> BaseActor:
        if self._group is None:
            raise RuntimeError("actors are started by a running fleet only")
        actor = self._new_actor(base, profile)
        self._actors[base] = actor
        given, _ = self._given.pop(base, ((), 0.0))
        actor.inbox.given(given)
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
        if not self._ending:
            actor.leave()
            self.ownership.note(base)
        self._phases[self._phase_of.pop(base, actor.base.phase)] -= 1
        self._shown.pop(base, None)
        self._measure()
        self._announce(actor.base.vnode)

    def _lease_overdue(self, cause: str | None) -> None:
        if cause is None:
            self._recorder.replica(warning=False, reason="LeasesRenewed", message="leases are renewed again")
        else:
            message = f"leases are not renewed in time, so that nothing is done for their bases: {cause}"
            self._recorder.replica(warning=True, reason="LeasesNotRenewed", message=message)

    def _cut_off(self, cut_off: bool) -> None:
        if cut_off:
            message = "the member lease could not be renewed in time: nothing is done for bases until it is renewed"
            self._recorder.replica(warning=True, reason="ReplicaCutOff", message=message)
        else:
            self._recorder.replica(warning=False, reason="ReplicaActs", message="the member lease is renewed again")
            self._leases.confirm()
            for actor in self._actors.values():
                actor.kick()

    def _lease_lost(self, base: BaseId) -> None:
        vnode = node_name(base, self._policy.env)
        owner = self._leases.owner(base) or "nobody"
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
        self._announce(VNodeName(name))

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
            self._announce(base.vnode)

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

    def _announce(self, vnode: VNodeName) -> None:
        for handler in tuple(self._subscribers):
            handler(vnode)
