"""The bases of this replica: begins and ends terms over them, each with an actor of its own."""

import asyncio
from dataclasses import replace
from typing import NoReturn

import structlog

from controlplane.app.base.actor import BaseActor
from controlplane.app.base.surroundings import Surroundings
from controlplane.app.changes import synced
from controlplane.app.metrics import ACTOR_RESTARTS, HANDOVERS, HANDOVERS_FAILED, TAKEOVERS
from controlplane.app.ownership.admission import Admission
from controlplane.app.ownership.assignment import Assignment, Gift
from controlplane.app.ownership.membership import Membership
from controlplane.app.ownership.sweep import sweep
from controlplane.app.ports import ClusterError
from controlplane.app.unserved import KEPT
from controlplane.domain.backoff import Backoff
from controlplane.domain.base.liveness import DEAD_AFTER
from controlplane.domain.base.state import Base
from controlplane.domain.base.vnode import Profile, profile_of
from controlplane.domain.identity import BaseId, VNodeName, base_of_node, node_name

log = structlog.get_logger(__name__)

FINISH_WITHIN = 0.5
"""Seconds that orders under way are given to end when this replica ends; the others find out by asking the base."""

FLUSH_WITHIN = 0.5
"""Seconds in which the last records of installed modules are written when this replica ends."""

RESTART = Backoff(first=1.0, longest=60.0)
HEALTHY_AFTER = 120.0
"""Seconds after which the failure of an actor counts as its first."""


class Fleet:
    """Runs the actors of this replica."""

    def __init__(self, around: Surroundings, members: Membership) -> None:
        self._around = around
        self._members = members
        self._roster = around.roster
        self._clock = around.clock
        self._policy = around.policy
        self._assignment = Assignment(
            cluster=around.cluster,
            clock=around.clock,
            roster=around.roster,
            leases=around.leases,
            members=members,
            gateways=around.gateways,
            policy=around.policy,
            admission=Admission(around.cluster, around.roster, around.recorder, around.policy),
        )
        self._actors: dict[BaseId, BaseActor] = {}
        self._tasks: dict[BaseId, asyncio.Task[None]] = {}
        self._mute: set[str] = set()
        """UIDs of Nodes that do not say where their base is: logged once for each."""
        self._ending = False
        self.recovered = False
        """The VNodes of an earlier run have been found."""
        around.cluster.pods.subscribe_node(self._node_touched, own=False)
        around.cluster.pods.subscribe_node(self._node_written, own=True)
        around.cluster.pods.subscribe_node(self._node_changed)
        around.cluster.nodes.subscribe(self._node_touched)
        around.cluster.nodes.subscribe(self._node_changed)
        around.kubelet.subscribe(lambda: self._roster.touch(self._clock.monotonic()))

    async def run(self) -> NoReturn:
        """Become one of the replicas, find what is ours, then manage it."""
        cluster = self._around.cluster
        await synced(cluster.pods, cluster.limited_pods, cluster.nodes, cluster.leases, cluster.deployments)
        await self._members.joined.wait()
        await self._around.kubelet.first_look()
        async with asyncio.TaskGroup() as group:
            self.recovered = True
            group.create_task(self._sweep(), name="sweep")
            group.create_task(self._end_lost(), name="lost-leases")
            while True:
                if not self._ending:
                    due, gifts = self._assignment.decide()
                    for base, why in due.items():
                        self._begin(base, why, group)
                    for gift in gifts:
                        self._give(gift, group)
                await self._assignment.changed()

    async def retire(self) -> None:
        """End all terms, so that others can take over: give no more orders, wait a moment for those under way."""
        self._ending = True
        for actor in self._actors.values():
            actor.rest()
        if any(base.modules.in_flight for base in self._roster.bases()):
            await asyncio.sleep(FINISH_WITHIN)
        tasks = tuple(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        await self._around.leases.flush(FLUSH_WITHIN)
        self._around.leases.abandon()

    async def _sweep(self) -> NoReturn:
        """Forget what is of no use any more: heartbeats, and leases without Node whose holder ended."""
        interval = 2 * DEAD_AFTER
        sweep_leases_at = self._clock.monotonic() + interval
        while True:
            await asyncio.sleep(KEPT / 2)
            now = self._clock.monotonic()
            self._mute &= {node.uid for node in self._around.cluster.nodes.all()}
            self._roster.sweep(now)
            if now >= sweep_leases_at:
                sweep_leases_at = now + interval
                await sweep(self._around.leases)

    async def _end_lost(self) -> NoReturn:
        lost = self._around.leases.lost
        while True:
            await lost.wait()
            for base in lost.take():
                if (task := self._tasks.get(base)) is not None:
                    task.cancel()

    def _begin(self, base: BaseId, why: str, group: asyncio.TaskGroup) -> None:
        around, env = self._around, self._policy.env
        unserved = self._roster.last(base)
        node = around.cluster.nodes.get(node_name(base, env))
        profile = profile_of(node, base, env, kubelet_ip=around.kubelet.ip) if node is not None else None
        if profile is None and unserved is not None:
            profile = Profile(base, env, unserved.source.tunnel).with_heartbeat(unserved.fact)
            log.info("base discovered", base=base, address=str(profile.address), tunnel=profile.tunnel.value)
        if profile is None:
            if node is not None and node.uid not in self._mute:
                self._mute.add(node.uid)
                log.warning("VNode not taken: its Node does not say where its base is", vnode=node.name)
            return
        if why != "new":
            log.info("base taken", base=base, why=why)
            TAKEOVERS.labels(why).inc()
        known = Base(base, node_name(base, env), profile, self._clock.wall(), admitted=node is not None)
        entry = self._roster.begin(known)
        self._actors[base] = BaseActor(entry, around)
        task = self._tasks[base] = group.create_task(self._run_actor(base), name=f"base-{base}")
        task.add_done_callback(lambda done: self._ended(base, done))

    def _give(self, gift: Gift, group: asyncio.TaskGroup) -> None:
        task = self._tasks.get(gift.base)
        if task is not None and gift.base not in self._roster.leaving:
            self._roster.leaving.add(gift.base)
            group.create_task(self._hand_over(gift, task), name=f"give-{gift.base}")

    async def _hand_over(self, gift: Gift, task: asyncio.Task[None]) -> None:
        """End our term before the other one's can begin."""
        task.cancel()
        await asyncio.wait([task])
        try:
            if await self._around.leases.give(gift.base, gift.receiver):
                HANDOVERS.labels(gift.why).inc()
            else:
                log.info("base not given: its lease is gone or somebody else's", base=gift.base, replica=gift.receiver)
        except ClusterError as error:
            # The lease is still in our name: it is taken again at once.
            HANDOVERS_FAILED.labels(gift.why).inc()
            log.warning("base not given", base=gift.base, replica=gift.receiver, cause=str(error))
        finally:
            self._roster.leaving.discard(gift.base)
            self._roster.untaken.note(gift.base)

    async def _run_actor(self, base: BaseId) -> None:
        """Run the actor of a base until it returns; one that fails is replaced after a delay, alone."""
        failures = 0
        while True:
            began = self._clock.monotonic()
            try:
                await self._actors[base].run()
            except Exception:
                failures = 1 if self._clock.monotonic() - began >= HEALTHY_AFTER else failures + 1
                self._replace_actor(base)
                ACTOR_RESTARTS.inc()
                delay = RESTART.delay(failures, self._around.random.random())
                log.exception("a base's actor failed and is restarted", base=base, restart_in=round(delay, 1))
                await asyncio.sleep(delay)
            else:
                return

    def _replace_actor(self, base: BaseId) -> None:
        """Begin again with the bare profile: what the actor knew may be what it failed on."""
        entry = self._roster.entry(base)
        if entry is not None:
            known = entry.base
            profile = replace(known.profile, metaspace=None, base_used=None, cpu="")
            again = Base(base, known.vnode, profile, known.discovered_wall, admitted=known.admitted)
            self._roster.publish(again)
            self._actors[base] = BaseActor(entry, self._around)

    def _ended(self, base: BaseId, task: asyncio.Task[None]) -> None:
        if self._tasks.get(base) is not task:
            return
        del self._tasks[base]
        actor = self._actors.pop(base)
        if not self._ending:
            actor.leave()
            self._roster.untaken.note(base)
        self._roster.end(base)

    def _node_touched(self, name: str) -> None:
        if (base := base_of_node(name, self._policy.env)) is not None:
            self._roster.touch(self._clock.monotonic(), (base,))

    def _node_written(self, name: str) -> None:
        if (base := base_of_node(name, self._policy.env)) is not None:
            self._roster.touch_later(base)

    def _node_changed(self, name: str) -> None:
        self._roster.changed.note(VNodeName(name))
