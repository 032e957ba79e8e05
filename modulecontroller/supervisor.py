"""Runs the control plane and the gateways that are asked for, as one."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping, Sequence
from uuid import uuid4

import structlog

from modulecontroller.children import Child, ChildFailed, Program
from modulecontroller.settings import SupervisorSettings
from modulecontroller.status import ChildrenStatus
from service.listening import host_port, local_host
from service.process import StartError
from service.status import StatusServer

log = structlog.get_logger(__name__)

READY_LOOK = 0.1


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

    before is what the core needs, more what is started once the core is ready. ready
    is set when all children but more said that they are.
    """
    check(settings)
    with tempfile.TemporaryDirectory(prefix="module-controller-") as sockets:
        core = [Child(program, sockets) for program in (*before, *programs(settings, extra or {}))]
        status = ChildrenStatus(core)
        server = StatusServer(
            status.trouble,
            health_port=settings.health_port,
            metrics_port=settings.metrics_port,
            registry=status.registry,
            host=settings.status_host,
        )
        await server.start()
        try:
            await _run(core, [Child(program, sockets) for program in more], status, stop, ready or asyncio.Event())
        finally:
            await server.stop()


async def _run(
    core: Sequence[Child], more: Sequence[Child], status: ChildrenStatus, stop: asyncio.Event, ready: asyncio.Event
) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(status.run(), name="status"),
                group.create_task(_tell_ready(status, ready), name="ready"),
                group.create_task(_start(group, core, more, ready), name="start"),
            ]
            await stop.wait()
            for task in tasks:
                task.cancel()
            # Those that depend on others end first: bases and gateways before the control plane.
            for child in reversed([*core, *more]):
                await child.stop()
    except* ChildFailed as failed:
        first = _first(failed)
        raise StartError(str(first), exit_code=max(first.exit_code, 1)) from None


def _first(failed: BaseExceptionGroup[ChildFailed]) -> ChildFailed:
    first = failed.exceptions[0]
    return first if isinstance(first, ChildFailed) else _first(first)


async def _start(group: asyncio.TaskGroup, core: Sequence[Child], more: Sequence[Child], ready: asyncio.Event) -> None:
    """Start each child when those before it answer, the additional ones when the core is ready."""
    for child in core:
        group.create_task(child.run(), name=child.program.name)
        await child.started.wait()
    if more:
        await ready.wait()
    for child in more:
        group.create_task(child.run(), name=child.program.name)


async def _tell_ready(status: ChildrenStatus, ready: asyncio.Event) -> None:
    while True:
        await asyncio.sleep(READY_LOOK)
        if not status.trouble():
            ready.set()
            return
