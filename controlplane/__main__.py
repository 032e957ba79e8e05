"""Starts the control plane."""

import asyncio
import sys
from contextlib import AsyncExitStack

import structlog

from controlplane import kubeletapi, optional, replica, trust
from controlplane.app.clock import SystemClock
from controlplane.app.events import Recorder
from controlplane.app.reporting.hooks import Reporter
from controlplane.cluster.adapter import ApiCluster
from controlplane.domain.contract import MEMBER_LEASE_PREFIX
from controlplane.probing.sender import ProbeClient
from controlplane.reports.intake import ReportIntake
from controlplane.reports.posting import Poster
from controlplane.settings import ClusterKind, ControlPlaneSettings
from service import logs, process
from service.settings import load
from service.status import StatusServer

log = structlog.get_logger(__name__)


async def serve(settings: ControlPlaneSettings, stop: asyncio.Event) -> None:
    """Run the control plane until stop is set."""
    clock, kind = SystemClock(), settings.kind
    async with AsyncExitStack() as stack:
        open_backend = optional.kubernetes if kind is ClusterKind.KUBERNETES else optional.embedded
        backend = await stack.enter_async_context(open_backend(settings))
        cluster = ApiCluster(backend.api, env=settings.env, kind=kind.value, clock=clock, namespace=settings.namespace)
        own = f"{settings.namespace}/{MEMBER_LEASE_PREFIX}{settings.client_id}"
        recorder = Recorder(cluster, clock, env=settings.env, own=own)
        poster = await stack.enter_async_context(Poster())
        reports = optional.reporter(settings, poster)
        recorder.subscribe(reports.happened)
        tracker = optional.tracker(settings, poster, has_hooks=bool(reports.queues))
        if tracker is not None:
            recorder.subscribe(tracker.happened)
        kubelet = await stack.enter_async_context(kubeletapi.kubelet(settings, backend.api, backend.pods, cluster))
        probes = await stack.enter_async_context(ProbeClient(settings.allowed_cidrs))
        known = await trust.build(settings, backend.api)
        built = replica.build(settings, backend, cluster, recorder, kubelet, probes, known)
        status = StatusServer(
            built.trouble,
            notes=lambda: (*known.notes(), *kubelet.notes()),
            health_port=settings.health_port,
            metrics_port=settings.metrics_port,
            host=settings.status_host,
            socket=settings.status_socket,
        )
        stack.push_async_callback(status.stop)
        await status.start()
        await _take_reports(settings, reports, clock, stack)
        log.info("control plane started", cluster=kind.value, env=settings.env)
        more = {"reports": reports.run(), **({"tracker": tracker.run()} if tracker is not None else {})}
        await built.run(stop, more | {"grpc": known.serve(built.server, settings)})


async def _take_reports(
    settings: ControlPlaneSettings, reports: Reporter, clock: SystemClock, stack: AsyncExitStack
) -> None:
    """Open the report intake, where it may be open."""
    if settings.report_host is None:
        return
    token = settings.report_token.get_secret_value()
    intake = ReportIntake(settings.report_port, settings.report_host, token=token, take=reports.report, clock=clock)
    stack.push_async_callback(intake.stop)
    await intake.start()
    if settings.report_host != settings.status_host:
        log.info(
            "reports at /log are taken from this machine alone: REPORT_TOKEN is not set", port=settings.report_port
        )


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
