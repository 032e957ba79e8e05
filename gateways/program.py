"""What every gateway program does: start, status, links to the control plane, an orderly end."""

import asyncio
import sys
import uuid
from collections.abc import Callable
from typing import NoReturn, TypeVar

import structlog
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.session.links import ControlPlaneLinks, Tunnel
from gateways.settings import GatewaySettings
from service import logs, process
from service.settings import load
from service.status import StatusServer

log = structlog.get_logger(__name__)

S = TypeVar("S", bound=GatewaySettings)


class Gateway:
    """What stands between bases and control plane in one program; each overrides what it has to do."""

    tunnel: Tunnel

    def trouble(self) -> list[str]:
        """Return what keeps the gateway from serving bases, a text each."""
        return []

    def notes(self) -> list[str]:
        """Return what is worth knowing while it serves them, a text each."""
        return []

    async def start(self) -> None:
        """Begin to serve bases. Raises CannotListen."""

    async def run(self) -> None:
        """Do what is to be done meanwhile, until cancelled."""

    async def drain(self) -> None:
        """Take nothing new from bases, and ask them nothing of our own; may repeat."""

    async def close(self) -> None:
        """End whatever still runs."""


def main(
    program: str,
    purpose: str,
    cls: type[S],
    tunnel: pb.TunnelKind.ValueType,
    gateway_of: Callable[[S, ControlPlaneLinks], Gateway],
) -> NoReturn:
    """Run a program: its command line, its settings, and serve until it is to end."""
    process.arguments(program, purpose, cls)
    settings = load(cls)
    logs.configure(settings.log_format, settings.log_level, program=program, gateway=settings.client_id)
    sys.exit(process.run(lambda stop: serve(settings, stop, tunnel, gateway_of)))


async def serve(
    settings: S,
    stop: asyncio.Event,
    tunnel: pb.TunnelKind.ValueType,
    gateway_of: Callable[[S, ControlPlaneLinks], Gateway],
) -> None:
    """Serve until stop is set, then end in order. Raises CannotListen."""
    hello = pb.Hello(
        gateway_id=settings.client_id,
        instance_id=uuid.uuid4().hex,
        tunnel=tunnel,
        env=settings.env,
        version=process.software_version(),
    )
    links = ControlPlaneLinks(hello, settings.control_plane, settings.access)
    gateway = gateway_of(settings, links)

    def trouble() -> list[str]:
        endpoints = ",".join(settings.control_plane)
        unlinked = [] if links.connected else [f"no control plane replica is connected (CONTROL_PLANE={endpoints})"]
        return gateway.trouble() + unlinked

    status = StatusServer(
        trouble,
        health_port=settings.health_port,
        metrics_port=settings.metrics_port,
        host=settings.status_host,
        notes=gateway.notes,
        socket=settings.status_socket,
    )
    try:
        await status.start()
        await gateway.start()
        async with asyncio.TaskGroup() as group:
            running = [
                group.create_task(links.run(gateway.tunnel), name="control plane"),
                group.create_task(gateway.run(), name="gateway"),
            ]
            await stop.wait()
            await gateway.drain()
            await links.close(settings.shutdown_timeout)
            for task in running:
                task.cancel()
    finally:
        await gateway.drain()
        await gateway.close()
        await status.stop()
    log.info("ended")
