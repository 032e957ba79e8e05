"""Runs the control plane and the gateways that are asked for, as one."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from uuid import uuid4

import structlog

from modulecontroller.children import Child, ChildFailed, Program
from modulecontroller.liveness import Patience
from modulecontroller.settings import SupervisorSettings
from modulecontroller.status import ChildrenStatus
from service.listening import host_port, local_host
from service.process import StartError
from service.status import StatusServer

log = structlog.get_logger(__name__)

READY_LOOK = 0.1
TELL_EVERY = 15.0
"""Seconds between two log lines that tell what a start still waits for."""
AFTER_ORDERS = 4.0
"""Seconds that a gateway needs to end besides those for orders under way."""

Stage = Sequence[Child]
"""Children that are ended together."""


def programs(settings: SupervisorSettings, extra: Mapping[str, str]) -> list[Program]:
    """Return the control plane and the gateways; extra is set in the environment of all."""
    control_plane = Program(
        name="controlplane",
        module="controlplane",
        environ={
            **extra,
            "GRPC_HOST": settings.grpc_host,
            "CLIENT_ID": settings.client_id,
            "REPLICA_INSTANCE": uuid4().hex,
        },
    )
    wanted = {"http": settings.enable_http_tunnel, "mqtt": settings.enable_mqtt_tunnel}
    gateways = [
        Program(
            name=f"{tunnel}-gateway",
            module=f"gateways.{tunnel}",
            environ={
                **extra,
                "CONTROL_PLANE": host_port(local_host(settings.grpc_host), settings.grpc_port),
                "CLIENT_ID": f"{settings.client_id}-{tunnel}",
            },
        )
        for tunnel, enabled in wanted.items()
        if enabled
    ]
    return [control_plane, *gateways]


def check(settings: SupervisorSettings) -> None:
    """Refuse what cannot be run; raises StartError."""
    if not (settings.enable_http_tunnel or settings.enable_mqtt_tunnel):
        raise StartError(
            "no tunnel is enabled, so no base could be reached: set ENABLE_HTTP_TUNNEL=true or ENABLE_MQTT_TUNNEL=true"
        )


async def supervise(
    settings: SupervisorSettings,
    stop: asyncio.Event,
    *,
    extra: Mapping[str, str] | None = None,
    before: Sequence[Program] = (),
    more: Sequence[Program] = (),
    ready: asyncio.Event | None = None,
) -> None:
    """Run everything until stop is set; raises StartError.

    before is what the others need, more what is started once all others are ready,
    when ready is set.
    """
    check(settings)
    with tempfile.TemporaryDirectory(prefix="module-controller-") as sockets:
        control_plane, *gateways = programs(settings, extra or {})
        for_orders = Patience(stop=settings.shutdown_timeout + AFTER_ORDERS)
        stages = [
            [Child(program, sockets) for program in before],
            [Child(control_plane, sockets)],
            [Child(program, sockets, for_orders) for program in gateways],
            [Child(program, sockets) for program in more],
        ]
        status = ChildrenStatus([child for stage in stages[:-1] for child in stage])
        server = StatusServer(
            status.trouble,
            health_port=settings.health_port,
            metrics_port=settings.metrics_port,
            notes=status.notes,
            registry=status.registry,
            dead=status.dead,
            host=settings.status_host,
        )
        await server.start()
        try:
            await _run(stages, status, stop, ready or asyncio.Event())
        finally:
            await server.stop()


async def _run(stages: Sequence[Stage], status: ChildrenStatus, stop: asyncio.Event, ready: asyncio.Event) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(status.run(), name="status"),
                group.create_task(_tell_ready(status, ready), name="ready"),
                group.create_task(_start(group, stages, ready), name="start"),
            ]
            await stop.wait()
            for task in tasks:
                task.cancel()
            # Those that depend on others end first: bases, then gateways, then the control plane.
            for stage in reversed(stages):
                await asyncio.gather(*(child.stop() for child in stage))
    except* ChildFailed as failed:
        first = _first(failed)
        raise StartError(str(first), exit_code=max(first.exit_code, 1)) from None


def _first(failed: BaseExceptionGroup[ChildFailed]) -> ChildFailed:
    first = failed.exceptions[0]
    return first if isinstance(first, ChildFailed) else _first(first)


async def _start(group: asyncio.TaskGroup, stages: Sequence[Stage], ready: asyncio.Event) -> None:
    """Start each child when those before it answer, those of the last stage when all before are ready."""
    *core, more = stages
    for child in (child for stage in core for child in stage):
        group.create_task(child.run(), name=child.program.name)
        await child.started.wait()
    if more:
        await ready.wait()
    for child in more:
        group.create_task(child.run(), name=child.program.name)


async def _tell_ready(status: ChildrenStatus, ready: asyncio.Event) -> None:
    """Set ready as soon as nothing is missing any more; what is missing for long is logged."""
    clock = asyncio.get_running_loop().time
    told_at = clock()
    while missing := status.trouble():
        if clock() - told_at >= TELL_EVERY:
            log.warning("not ready yet", missing=missing)
            told_at = clock()
        await asyncio.sleep(READY_LOOK)
    ready.set()
