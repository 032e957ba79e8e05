"""The control plane's composition root: the only place that builds its objects."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom
from typing import NoReturn
from uuid import uuid4

import structlog

from controlplane.app.base.actor import Surroundings
from controlplane.app.base.kubelet import NO_KUBELET, KubeletAddress
from controlplane.app.base.prober import Prober
from controlplane.app.clock import SystemClock
from controlplane.app.events import Recorder
from controlplane.app.fleet.fleet import Fleet, assemble
from controlplane.app.fleet.foreignpods import ForeignPods
from controlplane.app.fleet.router import ReportRouter
from controlplane.app.gateways import GatewayDirectory
from controlplane.app.outages import Outages
from controlplane.app.ownership.leases import LeaseKeeper
from controlplane.app.ownership.membership import Membership, NameTaken
from controlplane.app.ports import ClusterError, Manifests
from controlplane.app.reporting.hooks import HookQueue, Reporter
from controlplane.app.reporting.tracking import Tracker
from controlplane.app.roster import Roster
from controlplane.app.tooling.installs import Installs
from controlplane.app.tooling.shards import Shards
from controlplane.app.tooling.vnodes import VNodes
from controlplane.app.workloads.baselines import Baselines
from controlplane.app.workloads.followers import FollowerScaling
from controlplane.app.workloads.ignored import IgnoredDeployments
from controlplane.cluster.adapter import ApiCluster, kubelet_services
from controlplane.cluster.api import ApiServer, PodLogs
from controlplane.domain.ownership.member import Member
from controlplane.probing.sender import ProbeClient
from controlplane.reports import hooks, trackerfile
from controlplane.reports.intake import ReportIntake
from controlplane.reports.posting import PACE_OF_LINKS, Link, Poster
from controlplane.rpc.server import CannotBind, Server
from controlplane.rpc.tooling.events import Events
from controlplane.rpc.tooling.following import ReplicaServicer
from controlplane.rpc.tooling.index import Index
from controlplane.rpc.tooling.reads import Reads
from controlplane.rpc.tooling.replicas import ReplicaLinks
from controlplane.rpc.tooling.rollouts import Rollouts
from controlplane.rpc.tooling.servicer import ToolingServicer
from controlplane.rpc.tooling.watches import Watches
from controlplane.rpc.tunnel.session import TunnelServicer
from controlplane.settings import ClusterKind, ControlPlaneSettings
from service import logs, process
from service.listening import host_port
from service.settings import load
from service.status import StatusServer

log = structlog.get_logger(__name__)

LEAVE_WITHIN = 5.0
"""Seconds in which bases are handed over when the process ends."""

STOP_GRACE = 2.0
"""Seconds that calls are given to end when the process ends."""


@dataclass(frozen=True, slots=True)
class Backend:
    """The cluster's API, what must run beside it, manifests where they can be applied, and its own trouble in words."""

    api: ApiServer
    logs: PodLogs | None = None
    run: Callable[[], Coroutine[None, None, NoReturn]] | None = None
    manifests: Manifests | None = None
    trouble: Callable[[], str | None] = lambda: None


@asynccontextmanager
async def kubernetes(settings: ControlPlaneSettings) -> AsyncIterator[Backend]:
    """Connect to a Kubernetes API server."""
    from controlplane.kube.access import CannotConnect
    from controlplane.kube.client import KubeApiServer

    try:
        api = await KubeApiServer.connect(settings.kubeconfig)
    except CannotConnect as error:
        fix = "name a kubeconfig with KUBECONFIG, run in a Pod with a service account, or set CLUSTER=embedded"
        if settings.kubeconfig:
            fix = "correct it, or name another with KUBECONFIG; docs/kubeconfig.md has what each field means"
        raise process.StartError(f"{error}; {fix}") from error
    try:
        yield Backend(api, api)
    finally:
        await api.close()


@asynccontextmanager
async def embedded(settings: ControlPlaneSettings) -> AsyncIterator[Backend]:
    """Open the embedded cluster."""
    from controlplane.embedded.api.database import CannotOpen
    from controlplane.embedded.api.store import EmbeddedApiServer
    from controlplane.embedded.cluster import EmbeddedCluster
    from controlplane.embedded.manifests import EmbeddedManifests

    path = Path(settings.embedded_db)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        store = await EmbeddedApiServer.open(str(path))
    except (OSError, CannotOpen) as error:
        raise process.StartError(f"EMBEDDED_DB={path}: {error}") from error
    log.info("the embedded cluster is neither highly available nor Kubernetes: for one machine", file=str(path))

    async def run() -> NoReturn:
        try:
            await EmbeddedCluster(store).run()
        except* ClusterError as errors:
            # Starting again does not help before somebody has repaired it.
            raise process.StartError(str(errors.exceptions[0]), exit_code=process.EXIT_REFUSED) from None
        raise AssertionError("run never returns")

    try:
        yield Backend(store, run=run, manifests=EmbeddedManifests(store), trouble=store.trouble)
    finally:
        await store.close()


def reporter(settings: ControlPlaneSettings, poster: Poster) -> Reporter:
    """Return what sends failures to the hooks."""
    found = hooks.parse(settings.report_hooks.get_secret_value(), poster)
    hooks.UNUSABLE.labels("hook").set(len(found.unusable))
    if found.usable:
        log.info("failures are sent to hooks", hooks=[hook.name for hook in found.usable])
    clock, random = SystemClock(), SystemRandom()
    queues = [HookQueue(hook, clock=clock, random=random) for hook in found.usable]
    return Reporter(queues, clock, replica=settings.client_id, env=settings.env)


def tracker(settings: ControlPlaneSettings, poster: Poster, *, has_hooks: bool) -> Tracker | None:
    """Return the tracker, None when nothing is tracked."""
    path = settings.tracker_file
    if path is None:
        return None
    try:
        config = trackerfile.load(path)
    except trackerfile.WrongTrackerFile:
        hooks.UNUSABLE.labels("tracker").set(1)
        return None
    hooks.UNUSABLE.labels("link").set(len(config.unusable))
    file = trackerfile.EventLog(config.log_dir)
    hooks.UNUSABLE.labels("tracker").set(bool(file.why_not_writable()))
    log.info("events are tracked", file=str(file.path), links=len(config.links))
    clock, random = SystemClock(), SystemRandom()
    sent_by = settings.client_id if has_hooks else ""
    links = [Link(link.url, link.name, poster, sent_by) for link in config.links]
    return Tracker(
        file,
        [HookQueue(link, clock=clock, random=random, pace=PACE_OF_LINKS) for link in links],
        clock,
        replica=settings.client_id,
        env=settings.env,
        everything=config.level is trackerfile.Level.DEBUG,
    )


@dataclass(frozen=True, slots=True)
class Kubelet:
    """The kubelet API: its address for Nodes, and what runs for it."""

    address: KubeletAddress
    parts: Mapping[str, Callable[[], Coroutine[None, None, NoReturn]]]


@asynccontextmanager
async def kubelet(settings: ControlPlaneSettings, backend: Backend, cluster: ApiCluster) -> AsyncIterator[Kubelet]:
    """Serve the kubelet API, if it is enabled."""
    if not settings.kubelet_proxy_enabled or backend.logs is None:
        yield Kubelet(NO_KUBELET, {})
        return
    from controlplane.kubelet.access import Reviewer
    from controlplane.kubelet.basepods import BasePods
    from controlplane.kubelet.certificates import WrongCertificates
    from controlplane.kubelet.logs import ModuleLogs
    from controlplane.kubelet.server import KubeletServer

    clock = SystemClock()
    reviewer = Reviewer(backend.api, clock)
    server = KubeletServer(
        host=settings.status_host,
        port=settings.kubelet_proxy_port,
        files=settings.kubelet_files,
        reviewer=reviewer,
        logs=ModuleLogs(
            pods=cluster.pods,
            nodes=cluster.nodes,
            reviewer=reviewer,
            base_pods=BasePods(backend.api, namespace=settings.namespace),
            source=backend.logs,
        ),
    )
    services = kubelet_services(backend.api, settings.namespace, clock)
    try:
        await server.start()
        log.info("kubelet API started", port=server.port, namespace=settings.namespace)
        yield Kubelet(
            KubeletAddress(services, settings.kubelet_proxy_port, settings.env),
            {"kubelet-services": services.run, "kubelet": server.run},
        )
    except WrongCertificates as error:
        raise process.StartError(str(error)) from error
    finally:
        await server.stop()


async def serve(settings: ControlPlaneSettings, stop: asyncio.Event) -> None:
    """Run the control plane until stop is set."""
    policy = settings.policy(process.software_version())
    clock, random = SystemClock(), SystemRandom()
    address = host_port(settings.grpc_host or "::", settings.grpc_port)
    async with AsyncExitStack() as stack:
        open_backend = kubernetes if settings.kind is ClusterKind.KUBERNETES else embedded
        backend = await stack.enter_async_context(open_backend(settings))
        cluster = ApiCluster(
            backend.api, env=settings.env, kind=settings.kind.value, clock=clock, namespace=settings.namespace
        )
        recorder = Recorder(cluster, clock, env=policy.env)
        roster = Roster(Outages(recorder), most_bases=policy.most_bases)
        gateways = GatewayDirectory(clock.monotonic, roster)
        poster = await stack.enter_async_context(Poster())
        reports = reporter(settings, poster)
        recorder.subscribe(reports.happened)
        tracking = tracker(settings, poster, has_hooks=reports.has_hooks)
        if tracking is not None:
            recorder.subscribe(tracking.happened)
        kubelets = await stack.enter_async_context(kubelet(settings, backend, cluster))
        instance = settings.replica_instance or uuid4().hex
        members = Membership(
            cluster,
            clock,
            Member(
                replica=policy.replica,
                instance=instance,
                address=settings.reached_at,
                namespace=settings.namespace,
                env=policy.env,
            ),
            recorder,
            random=random,
            sole=settings.kind is ClusterKind.EMBEDDED,
        )
        prober = Prober(await stack.enter_async_context(ProbeClient(settings.allowed_cidrs)), clock, random)
        leases = LeaseKeeper(cluster, clock, members, roster, recorder, env=policy.env, random=random)
        around = Surroundings(
            cluster=cluster,
            clock=clock,
            roster=roster,
            leases=leases,
            gateways=gateways,
            recorder=recorder,
            policy=policy,
            random=random,
            kubelet=kubelets.address,
            prober=prober,
        )
        fleet = assemble(around, members)
        baselines = Baselines(cluster, roster, policy)
        router = ReportRouter(roster, leases, members, baselines, recorder, clock)
        peers = FollowerScaling(
            cluster=cluster,
            clock=clock,
            recorder=recorder,
            policy=policy,
            random=random,
            roster=roster,
            mine=members.mine,
        )
        tunnel = TunnelServicer(router=router, gateways=gateways, members=members, policy=policy, clock=clock)
        vnodes = VNodes(cluster, roster, policy.env)
        shards = Shards(cluster, members, env=policy.env)
        index, events = Index(vnodes, cluster, shards), Events(recorder)
        links = ReplicaLinks(members, shards, index, events)
        tooling = ToolingServicer(
            vnodes=vnodes,
            installs=Installs(cluster, env=policy.env),
            rollouts=Rollouts(cluster, index, links),
            baselines=baselines,
            reads=Reads(index, links, events, gateways, roster),
            watches=Watches(index, links, events),
            policy=policy,
            shards=shards,
            manifests=backend.manifests,
        )

        def trouble() -> list[str]:
            cause = cluster.trouble() or backend.trouble()
            if cause is not None:
                return [f"cluster: {cause}"]
            if not fleet.recovered:
                return ["this replica has not joined the others yet"]
            return [] if members.may_act() else ["the member lease of this replica could not be renewed in time"]

        status = StatusServer(
            trouble,
            health_port=settings.health_port,
            metrics_port=settings.metrics_port,
            host=settings.status_host,
            socket=settings.status_socket,
        )
        stack.push_async_callback(status.stop)
        await status.start()
        intake = ReportIntake(
            settings.report_port,
            settings.status_host,
            token=settings.report_token.get_secret_value(),
            tell=reports.report,
            clock=clock,
        )
        stack.push_async_callback(intake.stop)
        await intake.start()
        server = Server(tunnel, tooling, ReplicaServicer(index, roster, recorder, gateways, instance=instance))
        try:
            await server.start(address)
        except CannotBind as error:
            raise process.StartError(
                f"GRPC_PORT={settings.grpc_port}: cannot listen on {address} ({error}); "
                "stop what uses it or choose another with GRPC_PORT"
            ) from error
        log.info("control plane started", cluster=settings.kind.value, grpc=address, env=policy.env)
        await _run(
            stop,
            _Ends(fleet, members, server),
            {
                "cluster": cluster.run(),
                "members": _belong(members),
                "leases": leases.run(),
                "recorder": recorder.run(),
                "fleet": fleet.run(),
                "replicas": links.run(),
                "index": index.run(),
                "prober": prober.run(),
                "foreign-pods": ForeignPods(cluster, roster, recorder, clock).run(),
                **{name: run() for name, run in kubelets.parts.items()},
                "ignored": IgnoredDeployments(cluster, recorder, policy, members.mine).run(),
                **({"peers": peers.run()} if policy.peers_follow else {}),
                "reports": reports.run(),
                **({"tracker": tracking.run()} if tracking is not None else {}),
                **({"backend": backend.run()} if backend.run is not None else {}),
            },
        )


async def _belong(members: Membership) -> NoReturn:
    try:
        await members.run()
    except NameTaken as error:
        raise process.StartError(str(error), exit_code=process.EXIT_REFUSED) from error


@dataclass(frozen=True, slots=True)
class _Ends:
    """What is ended in order: answers to tools, our acting, our word that we live, then the calls.

    Tools come first: what they are shown of bases must not change because we let go of these.
    """

    fleet: Fleet
    members: Membership
    server: Server

    async def run(self) -> None:
        await self.server.end()
        try:
            async with asyncio.timeout(LEAVE_WITHIN):
                await self.fleet.retire()
                await self.members.leave()
        except TimeoutError:
            log.warning("bases were not handed over in time: the others take them when the member lease expires")
        await self.server.stop("the control plane ends", STOP_GRACE)


async def _run(stop: asyncio.Event, ends: _Ends, parts: dict[str, Coroutine[None, None, NoReturn]]) -> None:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(part, name=name) for name, part in parts.items()]
        await stop.wait()
        await ends.run()
        for task in tasks:
            task.cancel()


def main() -> int:
    """Start the control plane."""
    process.arguments(
        "controlplane",
        "Koupleless Module Controller control plane: owns VNodes and module Pods, serves gateways and tools over gRPC.",
        ControlPlaneSettings,
    )
    settings = load(ControlPlaneSettings)
    logs.configure(settings.log_format, settings.log_level, program="controlplane", replica=settings.client_id)
    for complaint in settings.complaints():
        log.warning("a setting cannot be used as it is", complaint=complaint)
    return process.run(lambda stop: serve(settings, stop))


if __name__ == "__main__":
    sys.exit(main())
