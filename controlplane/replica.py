"""One replica of the control plane: the only place that builds its objects, and their life from start to end."""

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from random import SystemRandom
from typing import NoReturn
from uuid import uuid4

import structlog

from controlplane.app.base.modulelimits import ModuleLimits
from controlplane.app.base.prober import Prober
from controlplane.app.base.surroundings import Surroundings
from controlplane.app.clock import SystemClock
from controlplane.app.events import Recorder
from controlplane.app.fleet.fleet import Fleet
from controlplane.app.fleet.foreignpods import ForeignPods
from controlplane.app.fleet.router import ReportRouter
from controlplane.app.gateways import GatewayDirectory
from controlplane.app.outages import Outages
from controlplane.app.ownership.leases import LeaseKeeper
from controlplane.app.ownership.membership import Membership, NameTaken
from controlplane.app.ports import ProbeSender
from controlplane.app.roster import Roster
from controlplane.app.tooling.installs import Installs
from controlplane.app.tooling.vnodes import VNodes
from controlplane.app.workloads.baselines import Baselines
from controlplane.app.workloads.followers import FollowerScaling
from controlplane.app.workloads.ignored import IgnoredDeployments
from controlplane.app.workloads.releases import BatchedReleases
from controlplane.cluster.adapter import ApiCluster
from controlplane.domain.ownership.member import Member
from controlplane.kubeletapi import Kubelet
from controlplane.optional import Backend
from controlplane.rpc.access.connections import ServerConnections
from controlplane.rpc.access.guard import Guard
from controlplane.rpc.server import Server
from controlplane.rpc.tooling.audit import Audit
from controlplane.rpc.tooling.events import Events
from controlplane.rpc.tooling.following import ReplicaServicer
from controlplane.rpc.tooling.index import Index
from controlplane.rpc.tooling.replicas import ReplicaLinks
from controlplane.rpc.tooling.servicer import ToolingServicer
from controlplane.rpc.tooling.usages import SharedUsages
from controlplane.rpc.tunnel.session import TunnelServicer
from controlplane.settings import ClusterKind, ControlPlaneSettings
from controlplane.trust import Trust
from service import process

log = structlog.get_logger(__name__)

LEAVE_WITHIN = 5.0
"""Seconds in which bases are handed over when the process ends."""

STOP_GRACE = 2.0
"""Seconds that calls are given to end when the process ends."""

Part = Coroutine[None, None, NoReturn]


@dataclass(frozen=True, slots=True)
class ReplicaProcess:
    """What is asked of a replica from outside; parts run side by side from its start to its end."""

    backend: Backend
    cluster: ApiCluster
    fleet: Fleet
    members: Membership
    server: Server
    trust: Trust
    parts: Mapping[str, Part]

    def trouble(self) -> list[str]:
        """Say in words why it is not ready; nothing if it is."""
        if troubles := self.trust.trouble():
            return troubles
        cause = self.cluster.trouble() or self.backend.trouble()
        if cause is not None:
            return [f"cluster: {cause}"]
        if not self.fleet.recovered:
            return ["this replica has not joined the others yet"]
        return [] if self.members.may_act() else ["the member lease of this replica could not be renewed in time"]

    async def run(self, stop: asyncio.Event, more: Mapping[str, Part]) -> None:
        """Run all parts, and more, until stop is set; then end in order."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(part, name=name) for name, part in {**self.parts, **more}.items()]
            await stop.wait()
            await self._end()
            for task in tasks:
                task.cancel()

    async def _end(self) -> None:
        """End the answers to tools, our acting, our member lease, then the calls.

        Tools come first: what they see of bases must not change because we let go of these.
        """
        await self.server.end()
        try:
            async with asyncio.timeout(LEAVE_WITHIN):
                await self.fleet.retire()
                await self.members.leave()
        except TimeoutError:
            log.warning("bases were not handed over in time: the others take them when the member lease expires")
        await self.server.stop("the control plane ends", STOP_GRACE)


def build(
    settings: ControlPlaneSettings,
    backend: Backend,
    cluster: ApiCluster,
    recorder: Recorder,
    kubelet: Kubelet,
    probes: ProbeSender,
    trust: Trust,
) -> ReplicaProcess:
    """Build a replica on a cluster; as long as there are parts, since nothing else builds any."""
    policy, clock, random = settings.policy(process.software_version()), SystemClock(), SystemRandom()
    instance = settings.replica_instance or uuid4().hex
    roster = Roster(Outages(recorder))
    member = Member(
        replica=policy.replica,
        instance=instance,
        address=settings.reached_at,
        namespace=settings.namespace,
        env=policy.env,
    )
    sole = settings.kind is ClusterKind.EMBEDDED
    members = Membership(cluster, clock, member, recorder, random=random, sole=sole)
    around = Surroundings(
        cluster=cluster,
        clock=clock,
        roster=roster,
        leases=LeaseKeeper(
            cluster, clock, members, roster, recorder, env=policy.env, random=random, times=policy.leases
        ),
        gateways=GatewayDirectory(clock.monotonic, roster),
        recorder=recorder,
        policy=policy,
        random=random,
        kubelet=kubelet.address,
        prober=Prober(probes, clock, random),
        limits=ModuleLimits(cluster.limited_pods),
    )
    fleet, baselines = Fleet(around, members), Baselines(cluster, roster, policy)
    router = ReportRouter(roster, around.leases, members, baselines, clock)
    tunnel = TunnelServicer(router=router, gateways=around.gateways, members=members, policy=policy, clock=clock)
    vnodes = VNodes(cluster, roster, policy.env)
    index = Index(vnodes)
    events = Events(recorder, index.changed)
    links = ReplicaLinks(members, vnodes, index, events, settings.to_replicas(trust.ca))
    tooling = ToolingServicer(
        index=index,
        links=links,
        vnodes=vnodes,
        events=events,
        gateways=around.gateways,
        members=members,
        installs=Installs(cluster, env=policy.env),
        baselines=baselines,
        manifests=backend.manifests,
        authenticator=trust.authenticator,
        audit=Audit(recorder),
    )
    replicas = ReplicaServicer(index, roster, recorder, around.gateways, instance=instance)
    connections = ServerConnections(settings.grpc_ports)
    usages = SharedUsages(vnodes, index, links)
    parts = {
        "cluster": cluster.run(),
        "members": _belong(members),
        "leases": around.leases.run(),
        "recorder": recorder.run(),
        "fleet": fleet.run(),
        "baselines": router.run(),
        "replicas": links.run(),
        "index": index.run(),
        "connections": connections.run(),
        **_workloads(around, members),
        **{name: run() for name, run in (*kubelet.parts(usages).items(), *trust.parts.items())},
        **({"backend": backend.run()} if backend.run is not None else {}),
    }
    guard = Guard(trust.authenticator, trust.circle, known=connections.known)
    server = Server(tunnel, tooling, replicas, guard, connections.of_port)
    return ReplicaProcess(backend, cluster, fleet, members, server, trust, parts)


def _workloads(around: Surroundings, members: Membership) -> dict[str, Part]:
    """Return what one replica does for all in the cluster, besides its own bases."""
    cluster, recorder, policy = around.cluster, around.recorder, around.policy
    parts: dict[str, Part] = {
        "foreign-pods": ForeignPods(
            cluster, around.roster, around.leases, recorder, policy, around.clock, around.random
        ).run(),
        "ignored": IgnoredDeployments(cluster, recorder, policy, members.mine).run(),
    }
    releases = BatchedReleases(
        cluster=cluster,
        clock=around.clock,
        recorder=recorder,
        policy=policy,
        random=around.random,
        mine=members.mine,
    )
    parts["releases"] = releases.run()
    if policy.peers_follow:
        followers = FollowerScaling(
            cluster=cluster,
            clock=around.clock,
            recorder=recorder,
            policy=policy,
            random=around.random,
            roster=around.roster,
            mine=members.mine,
        )
        parts["followers"] = followers.run()
    return parts


async def _belong(members: Membership) -> NoReturn:
    try:
        await members.run()
    except* NameTaken as errors:
        # Once it has joined, its tasks raise this, and it comes in a group.
        raise process.StartError(str(errors.exceptions[0]), exit_code=process.EXIT_REFUSED) from None
    raise AssertionError("run never returns")
