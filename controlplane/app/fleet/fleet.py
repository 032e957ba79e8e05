"""The bases of this replica: begins and ends terms over them, each with an actor of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace
from random import Random
from typing import NoReturn

import structlog

from controlplane.app.base.actor import BaseActor, Surroundings
from controlplane.app.base.kubelet import NO_KUBELET, KubeletAddress
from controlplane.app.base.prober import Prober
from controlplane.app.base.state import Base
from controlplane.app.events import Recorder
from controlplane.app.fleet.phases import Phases
from controlplane.app.fleet.router import HEARD_FOR, Heard, Hearing
from controlplane.app.fleet.supervision import supervise
from controlplane.app.gateways import GatewayDirectory
from controlplane.app.metrics import GATEWAYS, HANDOVERS, HANDOVERS_FAILED, TAKEOVERS
from controlplane.app.ownership.assignment import Ownership
from controlplane.app.ownership.leases import LeaseKeeper
from controlplane.app.ownership.membership import Membership
from controlplane.app.ownership.sweep import LeaseSweep
from controlplane.app.policy import Policy
from controlplane.app.ports import Clock, Cluster, ClusterError
from controlplane.domain.base.vnode import Profile, profile_of
from controlplane.domain.facts import TunnelKind
from controlplane.domain.identity import BaseId, VNodeName, base_of_node, node_name
from controlplane.domain.ownership.replicas import rank

log = structlog.get_logger(__name__)

SYNC_LOOK = 0.05
"""Seconds between looks at whether the informers have their first lists."""

FINISH_WITHIN = 0.5
"""Seconds that orders under way are given to end when this replica ends; the others find out by asking the base."""

FLUSH_WITHIN = 0.5
"""Seconds in which the last records of installed modules are written when this replica ends."""


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
        prober: Prober,
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
            prober=prober,
            removals_frozen=self.removals_frozen,
            commands_fail=lambda: self._phases.commands_fail,
            changed=self._base_changed,
        )
        self._actors: dict[BaseId, BaseActor] = {}
        self._tasks: dict[BaseId, asyncio.Task[None]] = {}
        self._phases = Phases(recorder, self._kick_all)
        self._leaving: set[BaseId] = set()
        self._mute: set[str] = set()
        """UIDs of Nodes that do not tell where their base is: said once of each."""
        self._group: asyncio.TaskGroup | None = None
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
            heard=lambda: self.hearing.unserved(),
            forget=lambda base: self.hearing.forget(base),
            spare=self._spare,
            give=self._give,
        )
        self.hearing = Hearing(
            cluster=cluster,
            clock=clock,
            recorder=recorder,
            policy=policy,
            actor=self._actors.get,
            served=lambda: len(self._actors),
            elsewhere=lambda base: self.recovered and self.ownership.elsewhere(base),
            answers=self._answers,
            note=self.ownership.note,
        )
        self._lease_sweep = LeaseSweep(
            cluster=cluster,
            clock=clock,
            leases=leases,
            members=members,
            env=policy.env,
            known=lambda base: base in self._actors or base in self.hearing.unserved(),
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
        return self._phases.frozen

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
        await self._leases.flush(FLUSH_WITHIN)
        self._leases.abandon()

    async def _sweep(self) -> NoReturn:
        """Forget what is of no use any more: heartbeats, and leases without Node whose holder ended."""
        sweep_leases_at = self._clock.monotonic() + 2 * self._policy.patience.dead
        while True:
            await asyncio.sleep(HEARD_FOR / 2)
            now = self._clock.monotonic()
            self._mute &= {node.uid for node in self._cluster.nodes.all()}
            self.hearing.sweep()
            if now >= sweep_leases_at:
                sweep_leases_at = now + 2 * self._policy.patience.dead
                await self._lease_sweep.run()

    def _answers(self, base: BaseId, tunnel: TunnelKind) -> bool:
        """Return whether this replica answers a base: its owner does, else the replica that is first for it."""
        if base in self._actors:
            return True
        takers = self._members.takers(tunnel.value)
        first = self._members.me in takers and rank(self._members.me, base, takers) == 0
        return first and not (self.recovered and self.ownership.elsewhere(base))

    # Taking and giving.

    def _begin(self, base: BaseId, why: str) -> None:
        heard = self.hearing.take(base)
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
            if await self._leases.give(base, to):
                HANDOVERS.labels(why).inc()
            else:
                log.info("base not given: its lease is gone or somebody else's", base=base, replica=to)
        except ClusterError as error:
            # The lease is still in our name: it is taken again at once.
            HANDOVERS_FAILED.labels(why).inc()
            log.warning("base not given", base=base, replica=to, cause=str(error))
        finally:
            self._leaving.discard(base)
            self.ownership.note(base)

    def _start(self, base: BaseId, profile: Profile) -> BaseActor:
        if self._group is None:
            raise RuntimeError("actors are started by a running fleet only")
        actor = self._new_actor(base, profile)
        self._actors[base] = actor
        actor.inbox.given(self.hearing.take_given(base))
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
        self._phases.ended(base)
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
            self._kick_all()

    def _lease_lost(self, base: BaseId) -> None:
        vnode = node_name(base, self._policy.env)
        owner = self._leases.owner(base) or "nobody"
        message = f"the lease of base {base} was taken: it is held by {owner} now"
        self._recorder.node(self._cluster.nodes.get(vnode), vnode, warning=True, reason="LeaseLost", message=message)
        task = self._tasks.get(base)
        if task is not None:
            task.cancel()

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
        if self._phases.changed(base):
            self._announce(base.vnode)

    def _announce(self, vnode: VNodeName) -> None:
        for handler in tuple(self._subscribers):
            handler(vnode)
