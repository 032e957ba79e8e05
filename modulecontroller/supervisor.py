"""Runs the control plane and the gateways that are asked for, as one."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping, Sequence

import structlog

from modulecontroller.children import Child, ChildFailed, Program
from modulecontroller.settings import SupervisorSettings
from modulecontroller.status import ChildrenStatus
from service.process import StartError
from service.status import StatusServer

log = structlog.get_logger(__name__)

READY_LOOK = 0.1


def programs(settings: SupervisorSettings, sockets: str, extra: Mapping[str, str]) -> list[Program]:
    """Return what is to run; extra is set in the environment of all."""
    control_plane = Program(
        name="controlplane",
        module="controlplane",
        environ={
            **extra,
            "GRPC_HOST": settings.grpc_host,
            "CLIENT_ID": settings.client_id,
            "STATUS_SOCKET": f"{sockets}/controlplane.sock",
        },
        socket=f"{sockets}/controlplane.sock",
    )
    found = [control_plane]
    if settings.enable_http_tunnel:
        found.append(
            Program(
                name="http-gateway",
                module="gateways.http",
                environ={
                    **extra,
                    "CONTROL_PLANE": f"127.0.0.1:{settings.grpc_port}",
                    "CLIENT_ID": f"{settings.client_id}-http",
                    "STATUS_SOCKET": f"{sockets}/http.sock",
                },
                socket=f"{sockets}/http.sock",
            )
        )
    return found


def check(settings: SupervisorSettings) -> None:
    """Refuse what cannot be run; raises StartError."""
    if settings.enable_mqtt_tunnel:
        raise StartError(
            "ENABLE_MQTT_TUNNEL=true: this version has no MQTT gateway; unset it and set ENABLE_HTTP_TUNNEL=true"
        )
    if not settings.enable_http_tunnel:
        raise StartError("no tunnel is enabled, so no base could be reached: set ENABLE_HTTP_TUNNEL=true")


async def supervise(
    settings: SupervisorSettings,
    stop: asyncio.Event,
    *,
    extra: Mapping[str, str] | None = None,
    more: Sequence[Program] = (),
    ready: asyncio.Event | None = None,
) -> None:
    """Run everything until stop is set; raises StartError. ready is set when all children said that they are."""
    check(settings)
    with tempfile.TemporaryDirectory(prefix="module-controller-") as sockets:
        core = [Child(program) for program in programs(settings, sockets, extra or {})]
        children = [*core, *(Child(program) for program in more)]
        status = ChildrenStatus(core)
        server = StatusServer(
            status.trouble,
            health_port=settings.health_port,
            metrics_port=settings.metrics_port,
            registry=status.registry,
        )
        await server.start()
        try:
            await _run(children, status, stop, ready)
        finally:
            await server.stop()


async def _run(
    children: Sequence[Child], status: ChildrenStatus, stop: asyncio.Event, ready: asyncio.Event | None
) -> None:
    try:
        async with asyncio.TaskGroup() as group:
            runs = [group.create_task(child.run(), name=child.program.name) for child in children]
            helpers = [group.create_task(status.run(), name="status")]
            if ready is not None:
                helpers.append(group.create_task(_tell_ready(status, ready), name="ready"))
            await stop.wait()
            # Those that depend on others end first: bases and gateways before the control plane.
            for child in reversed(children):
                await child.stop()
            for task in (*helpers, *runs):
                task.cancel()
    except* ChildFailed as failed:
        raise StartError(str(failed.exceptions[0])) from None


async def _tell_ready(status: ChildrenStatus, ready: asyncio.Event) -> None:
    while True:
        await asyncio.sleep(READY_LOOK)
        if not status.trouble():
            ready.set()
            return
