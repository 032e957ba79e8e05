"""A control plane process: the parts of the product, over the model's API server and network."""

import asyncio
from collections.abc import Coroutine
from random import Random
from typing import Any

from controlplane.app.base.kubelet import NO_KUBELET
from controlplane.app.base.modulelimits import ModuleLimits
from controlplane.app.base.prober import Prober
from controlplane.app.base.surroundings import Surroundings
from controlplane.app.events import Recorder
from controlplane.app.fleet.fleet import Fleet
from controlplane.app.fleet.router import ReportRouter
from controlplane.app.gateways import GatewayDirectory
from controlplane.app.outages import Outages
from controlplane.app.ownership.leases import LeaseKeeper
from controlplane.app.ownership.membership import Membership, NameTaken
from controlplane.app.policy import Policy
from controlplane.app.roster import Roster
from controlplane.app.workloads.baselines import Baselines
from controlplane.cluster.adapter import ApiCluster
from controlplane.domain.access import Caller
from controlplane.domain.identity import BaseId
from controlplane.domain.ownership.member import Member
from controlplane.rpc.access.guard import CALLER
from controlplane.rpc.tunnel.session import TunnelServicer
from tests.fakes.probes import NoProbes
from tests.unit.ownership.store import SimApi, Store
from tests.unit.ownership.tunnel import Network
from tests.unit.ownership.world import Process, ProcessClock, World


def endpoint(name: str) -> str:
    return f"{name}:1"


class Replica:
    """One run of one replica."""

    def __init__(
        self, world: World, store: Store, network: Network, name: str, *, offset: float = 0.0, rate: float = 1.0
    ) -> None:
        self.world, self.network, self.name = world, network, name
        self.process = Process(world, name, offset=offset, rate=rate)
        self.api = SimApi(store, self.process)
        self.clock = ProcessClock(self.process)
        self.refused = ""
        """Why it ended by itself: the message of NameTaken."""
        chance = Random(world.random.random())
        policy = Policy(replica=name, env="dev", version="test", clustered=True)
        cluster = self.cluster = ApiCluster(self.api, env="dev", kind="model", clock=self.clock)
        for informer in cluster._informers:
            informer.chance = chance.random
        recorder = Recorder(cluster, self.clock, env="dev", own="default/module-controller-r0")
        roster = self.roster = Roster(Outages(recorder))
        self.gateways = GatewayDirectory(self.clock.monotonic, roster)
        self.members = Membership(
            cluster,
            self.clock,
            Member(
                replica=name,
                instance=f"{name}-{len(world.processes)}",
                address=endpoint(name),
                namespace="default",
                env="dev",
            ),
            recorder,
            random=chance,
        )
        self.leases = LeaseKeeper(cluster, self.clock, self.members, roster, recorder, env="dev", random=chance)
        around = Surroundings(
            cluster=cluster,
            clock=self.clock,
            roster=roster,
            leases=self.leases,
            gateways=self.gateways,
            recorder=recorder,
            policy=policy,
            random=chance,
            kubelet=NO_KUBELET,
            prober=Prober(NoProbes(), self.clock, chance),
            limits=ModuleLimits(cluster.limited_pods),
        )
        self.fleet = Fleet(around, self.members)
        self.router = ReportRouter(roster, self.leases, self.members, Baselines(cluster, roster, policy), self.clock)
        self.servicer = TunnelServicer(
            router=self.router, gateways=self.gateways, members=self.members, policy=policy, clock=self.clock
        )
        parts = (
            cluster.run(),
            self.members.run(),
            self.leases.run(),
            self.fleet.run(),
            self.router.run(),
            recorder.run(),
        )
        self.process.deliver(lambda: self._start(parts))
        network.serve(endpoint(name), self.process, self._connect)

    def _start(self, parts: tuple[Coroutine[Any, Any, Any], ...]) -> None:
        for part in parts:
            self.process.create_task(part).add_done_callback(self._part_ended)

    async def _connect(self, context: Any) -> None:
        CALLER.set(Caller("gateways"))
        await self.servicer.Connect(None, context)  # type: ignore[arg-type]

    def _part_ended(self, task: asyncio.Task[Any]) -> None:
        if not self.process.alive or task.cancelled():
            return
        error = task.exception()
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if not isinstance(error, NameTaken):
            raise error or AssertionError("a part of the replica ended")
        self.refused = str(error)
        self.kill()

    def fence(self, base: str) -> int | None:
        """Return the product's own check: the fence with which this replica acts for a base now."""
        return self.leases.fence(BaseId(base)) if self.process.alive else None

    def kill(self) -> None:
        """End it as kill -9 does."""
        self.process.kill()
        self.network.ended(self.process)

    def terminate(self) -> None:
        """End it as SIGTERM does; this mirrors the shutdown in controlplane/replica.py."""

        async def shutdown() -> None:
            await self.fleet.retire()
            await self.members.leave()
            await self.servicer.drain("it ends")
            self.kill()

        def begin() -> None:
            self.process.create_task(shutdown())

        self.process.deliver(begin)
