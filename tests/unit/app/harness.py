"""A control plane without sockets: real fleet, actors and cluster layer, API server and gateway in memory.

Time is the loop's, so with looptime an hour costs a moment.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Self
from uuid import uuid4

from controlplane.app.base.kubelet import NO_KUBELET, KubeletAddress
from controlplane.app.base.modulelimits import ModuleLimits
from controlplane.app.base.prober import Prober
from controlplane.app.base.surroundings import Surroundings
from controlplane.app.events import Recorder
from controlplane.app.fleet.fleet import Fleet
from controlplane.app.fleet.foreignpods import ForeignPods
from controlplane.app.fleet.router import ReportRouter
from controlplane.app.gateways import GatewayDirectory
from controlplane.app.metrics import ACTOR_LOOKS
from controlplane.app.outages import Outages
from controlplane.app.ownership.leases import LeaseKeeper
from controlplane.app.ownership.membership import Membership
from controlplane.app.policy import Policy
from controlplane.app.ports import ClusterError, Transient
from controlplane.app.roster import Roster
from controlplane.app.workloads.baselines import Baselines
from controlplane.app.workloads.followers import FollowerScaling
from controlplane.app.workloads.ignored import IgnoredDeployments
from controlplane.app.workloads.releases import BatchedReleases
from controlplane.cluster.adapter import ApiCluster, kubelet_services
from controlplane.cluster.api import DEPLOYMENTS, LEASES, NODES, PODS, Json, Resource
from controlplane.domain.facts import (
    Address,
    BaseState,
    ClientCode,
    Health,
    Heartbeat,
    Module,
    ModuleList,
    ModuleState,
    Order,
    OrderResult,
    Outcome,
    PollFailed,
    PollFailure,
    Reply,
    ReplyCode,
    Verb,
    Watch,
    Way,
)
from controlplane.domain.identity import BaseId, ModuleKey
from controlplane.domain.ownership.member import Member
from tests.fakes.apiserver import Call, FakeApiServer
from tests.fakes.gateway import FakeLink
from tests.fakes.probes import FakeProbes

ADDRESS = Address("10.0.0.7", 1238)
HOME = Way(peer=ADDRESS.ip)
"""How bases come."""
LOOKS_IN_ALL, LOOKS_A_SECOND = 50, 4
"""A base is looked at so often at most: one that is looked at all the time makes the control plane late."""


class LoopClock:
    """Implements ``ports.Clock`` on the loop's time."""

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def wall(self) -> float:
        return 1_790_000_000.0 + self.monotonic()


class Api(FakeApiServer):
    """An API server that can be unavailable."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.fail_scale: ClusterError | None = None
        """The error of the next scaling of a Deployment."""
        self.fail_release: ClusterError | None = None
        """The error of the next write of how far a release is."""

    def _called(self, call: Call) -> None:
        if self.away:
            raise Transient("the API server is away")
        if call.subresource == "scale" and self.fail_scale is not None:
            error, self.fail_scale = self.fail_scale, None
            raise error
        if call.resource == DEPLOYMENTS and call.subresource == "status" and self.fail_release is not None:
            error, self.fail_release = self.fail_release, None
            raise error
        super()._called(call)

    def names(self, resource: Resource) -> list[str]:
        return [name for kind, _, name in self._objects if kind == resource]

    def named(self, resource: Resource, name: str, namespace: str = "") -> Json | None:
        return self._objects.get((resource, namespace, name))


class Bases:
    """Bases behind a fake gateway: they send heartbeats, answer polls and carry out orders."""

    def __init__(self, stage: "Stage") -> None:
        self._stage = stage
        self.modules: dict[BaseId, dict[ModuleKey, ModuleState]] = {}
        self.alive: set[BaseId] = set()
        self.stopped: set[BaseId] = set()
        """Nobody listens where they were."""
        self.installs: list[tuple[BaseId, ModuleKey]] = []
        self.uninstalls: list[tuple[BaseId, ModuleKey]] = []
        self.answer: dict[Verb, Outcome | None] = {}
        self.watches: dict[BaseId, Watch] = {}

    def add(self, base: str, address: Address = ADDRESS) -> BaseId:
        identity = BaseId(base)
        self.modules.setdefault(identity, {})
        self.alive.add(identity)
        self.stopped.discard(identity)
        self.heartbeat(base, address)
        return identity

    def heartbeat(
        self, base: str, address: Address = ADDRESS, state: BaseState = BaseState.ACTIVATED, *, peer: str = ADDRESS.ip
    ) -> None:
        sent = Heartbeat("shop", "1.0.0", "default", "shop-0", address, state, Way(peer=peer))
        self._stage.router.report(self._stage.link, BaseId(base), sent)

    def silence(self, *bases: BaseId) -> None:
        self.alive -= set(bases)

    def leave(self, base: BaseId) -> None:
        """Have a base say that it goes away, and stop."""
        self.heartbeat(base, state=BaseState.DEACTIVATED)
        self.silence(base)
        self.stopped.add(base)

    def on_watch(self, watch: Watch) -> None:
        self.watches[watch.base] = watch
        asyncio.get_running_loop().call_later(0.01, self.poll, watch.base)

    def poll(self, base: BaseId) -> None:
        if base in self.stopped:
            failed = PollFailed("connection refused", failure=PollFailure.NOT_CONNECTED)
            self._stage.router.report(self._stage.link, base, failed)
        if base not in self.alive or base not in self.watches or not self._stage.gateway_up:
            return
        modules = tuple(Module(key, state) for key, state in self.modules[base].items())
        listed = ModuleList(modules, complete=True, unchanged=False, epoch=self.watches[base].epoch)
        self._stage.router.report(self._stage.link, base, listed)
        self._stage.router.report(self._stage.link, base, Health(BaseState.ACTIVATED, None, "17"))

    def on_order(self, order: Order) -> None:
        asyncio.get_running_loop().call_later(0.05, self._carry_out, order)

    def _carry_out(self, order: Order) -> None:
        outcome = self._do(order)
        if outcome is not None and self._stage.gateway_up:
            self._stage.router.report(self._stage.link, order.base, OrderResult(order.order_id, outcome))

    def _do(self, order: Order) -> Outcome | None:
        base, (key,) = order.base, [spec.key for spec in order.modules]
        if order.verb is Verb.INSTALL:
            self.installs.append((base, key))
        elif order.verb is Verb.UNINSTALL:
            self.uninstalls.append((base, key))
        if order.verb in self.answer:
            return self.answer[order.verb]
        done: tuple[Module, ...] = ()
        if order.verb is Verb.INSTALL:
            self.modules[base][key] = ModuleState.ACTIVATED
            done = (Module(key, ModuleState.ACTIVATED),)
        elif order.verb is Verb.UNINSTALL:
            self.modules[base].pop(key, None)
        return Reply(ReplyCode.SUCCESS, ClientCode.SUCCESS, modules=done)

    async def run(self) -> None:
        """Send heartbeats and answer polls."""
        while True:
            for base in sorted(self.alive):
                if self._stage.gateway_up:
                    self.heartbeat(base)
                    self.poll(base)
            await asyncio.sleep(12.0)


class Stage:
    """One control plane; its API server stays when it ends."""

    def __init__(self, api: Api, policy: Policy | None = None, *, kubelet_port: int = 0, sole: bool = True) -> None:
        self.api = api
        self.policy = policy or Policy(replica="replica-0", env="dev", version="test")
        clock, random = LoopClock(), Random(7)
        self.cluster = ApiCluster(api, env="dev", kind="test", clock=clock)
        self.recorder = Recorder(self.cluster, clock, env="dev", own="default/module-controller-r0")
        self.roster = Roster(Outages(self.recorder))
        self.gateways = GatewayDirectory(clock.monotonic, self.roster)
        self.members = Membership(
            self.cluster,
            clock,
            Member(
                replica=self.policy.replica,
                instance=uuid4().hex,
                address="",
                namespace="default",
                env="dev",
            ),
            self.recorder,
            random=random,
            sole=sole,
        )
        shared = self.cluster, clock, self.members, self.roster, self.recorder
        self.leases = LeaseKeeper(*shared, env="dev", random=random, times=self.policy.leases)
        self.probes = FakeProbes()
        self.prober = Prober(self.probes, clock, random)
        self.services = kubelet_services(api, "default", clock) if kubelet_port else None
        around = Surroundings(
            cluster=self.cluster,
            clock=clock,
            roster=self.roster,
            leases=self.leases,
            gateways=self.gateways,
            recorder=self.recorder,
            policy=self.policy,
            random=random,
            kubelet=KubeletAddress(self.services, kubelet_port, "dev") if self.services is not None else NO_KUBELET,
            prober=self.prober,
            limits=ModuleLimits(self.cluster.limited_pods),
        )
        self.fleet = Fleet(around, self.members)
        self.foreign_pods = ForeignPods(
            self.cluster, self.roster, self.leases, self.recorder, self.policy, clock, random
        )
        self.baselines = Baselines(self.cluster, self.roster, self.policy)
        self.router = ReportRouter(self.roster, self.leases, self.members, self.baselines, clock)
        self.peers = self.new_peers()
        self.releases = BatchedReleases(
            cluster=self.cluster,
            clock=clock,
            recorder=self.recorder,
            policy=self.policy,
            random=random,
            mine=lambda _key: True,
        )
        self.link = FakeLink()
        self.gateway_up = True
        self.bases = Bases(self)

    def new_peers(self, mine: Callable[[str], bool] = lambda _key: True) -> FollowerScaling:
        return FollowerScaling(
            cluster=self.cluster,
            clock=LoopClock(),
            recorder=self.recorder,
            policy=self.policy,
            random=Random(7),
            roster=self.roster,
            mine=mine,
        )

    def connect(self) -> None:
        """A gateway's session begins."""
        self.link = FakeLink(on_order=self.bases.on_order, on_watch=self.bases.on_watch)
        self.gateway_up = True
        self.gateways.connected(self.link)

    def disconnect(self) -> None:
        """The session is lost."""
        self.gateway_up = False
        self.gateways.lost(self.link)

    def node(self, base: str = "b1") -> Json | None:
        return self.api.named(NODES, f"vnode.{base}.dev")

    def lease(self, base: str = "b1") -> Json | None:
        return self.api.named(LEASES, f"vnode.{base}.dev", "kube-node-lease")

    def pod(self, name: str) -> Json | None:
        return self.api.named(PODS, name, "default")

    def ready(self, kind: str, name: str) -> str:
        """Return the status of the Ready condition of a Node (by base) or Pod, empty without one."""
        obj = self.node(name) if kind == "node" else self.pod(name)
        conditions = (obj or {}).get("status", {}).get("conditions", [])
        return next((c["status"] for c in conditions if c["type"] == "Ready"), "")

    def put_pod(
        self,
        name: str,
        *,
        base: str = "b1",
        module: str = "biz1",
        version: str = "1",
        metadata: Json | None = None,
        spec: Json | None = None,
        container: Json | None = None,
    ) -> None:
        self.api.put(
            PODS,
            {
                "metadata": {
                    "namespace": "default",
                    "name": name,
                    "uid": f"uid-{name}",
                    "creationTimestamp": f"2026-01-01T00:00:{len(name):02d}Z",
                    "labels": {"virtual-kubelet.koupleless.io/component": "module"},
                    **(metadata or {}),
                },
                "spec": {
                    "nodeName": f"vnode.{base}.dev",
                    "containers": [
                        {
                            "name": module,
                            "image": f"https://repo.example/{module}-{version}.jar",
                            "env": [{"name": "BIZ_VERSION", "value": version}],
                            **(container or {}),
                        }
                    ],
                    **(spec or {}),
                },
                "status": {"phase": "Pending"},
            },
        )

    def put_node(self, base: str) -> None:
        """Make a Node of an earlier run, which does not say where its base is."""
        labels = {"component": "vnode", "env": "dev"}
        labels = {f"virtual-kubelet.koupleless.io/{name}": value for name, value in labels.items()}
        self.api.put(NODES, {"metadata": {"name": f"vnode.{base}.dev", "uid": f"uid-{base}", "labels": labels}})

    def delete_pod(self, name: str) -> None:
        """Ask for a Pod's deletion, as kubectl does."""
        pod = self.pod(name)
        assert pod is not None
        pod["metadata"] |= {"deletionTimestamp": "2026-01-01T01:00:00Z", "deletionGracePeriodSeconds": 30}
        self.api.put(PODS, pod)

    def remove_pod(self, name: str) -> None:
        """Remove a Pod at once, as a forced deletion does."""
        self.api.remove(PODS, name, "default")

    def reasons(self) -> list[str]:
        return [happening.remark.reason for happening in self.recorder.recent()]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Self]:
        """Run it with a gateway and bases."""
        parts = {
            "cluster": self.cluster.run(),
            "members": self.members.run(),
            "leases": self.leases.run(),
            "recorder": self.recorder.run(),
            "fleet": self.fleet.run(),
            "router": self.router.run(),
            "foreign-pods": self.foreign_pods.run(),
            "bases": self.bases.run(),
            **({"services": self.services.run()} if self.services is not None else {}),
            "ignored": IgnoredDeployments(self.cluster, self.recorder, self.policy, self.members.mine).run(),
            "releases": self.releases.run(),
            **({"peers": self.peers.run()} if self.policy.peers_follow else {}),
        }
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(part, name=name) for name, part in parts.items()]
            self.connect()
            before, began = ACTOR_LOOKS._value.get(), asyncio.get_running_loop().time()
            await asyncio.sleep(0.5)
            try:
                yield self
                looks, seconds = ACTOR_LOOKS._value.get() - before, asyncio.get_running_loop().time() - began
                bases = len(self.bases.modules | self.bases.watches) + 1
                assert looks <= bases * (LOOKS_IN_ALL + LOOKS_A_SECOND * seconds), f"{looks} looks in {seconds} s"
            finally:
                for task in tasks:
                    task.cancel()
