"""http-gateway: where its parts are put together."""

from __future__ import annotations

import asyncio
import resource
import sys
import uuid

import structlog

from gateways.http.arklet_client import ArkletClient
from gateways.http.listener import Listener
from gateways.http.offers import Offers
from gateways.http.questions import HttpQuestions
from gateways.http.requests import Requests
from gateways.http.settings import HttpGatewaySettings
from gateways.http.slots import Slots
from gateways.http.tunnel import HttpTunnel
from gateways.polling.prober import Prober
from gateways.session.messages import Hello, TunnelKind, TunnelState
from gateways.session.session import Session
from service import logs, process
from service.addresses import AddressPolicy
from service.settings import load
from service.status import StatusServer

log = structlog.get_logger(__name__)

PURPOSE = "Gateway between Koupleless bases that speak HTTP and the control plane."


def main() -> None:
    """Run the program."""
    process.arguments("http-gateway", PURPOSE, HttpGatewaySettings)
    settings = load(HttpGatewaySettings)
    logs.configure(settings.log_format, settings.log_level, program="http-gateway", gateway=settings.client_id)
    raise_open_files()
    sys.exit(process.run(lambda stop: serve(settings, stop)))


async def serve(settings: HttpGatewaySettings, stop: asyncio.Event) -> None:
    """Serve until stop is set, then end in order. Raises CannotListen."""
    session = Session(
        Hello(
            gateway=settings.client_id,
            instance=uuid.uuid4().hex,
            tunnel=TunnelKind.HTTP,
            env=settings.env,
            version=process.software_version(),
        ),
        settings.control_plane,
    )
    policy = AddressPolicy(settings.allowed_cidrs)
    client = ArkletClient(connect_timeout=settings.connect_timeout)
    questions = HttpQuestions(
        client,
        Slots(settings.poll_concurrency),
        policy,
        health_timeout=settings.health_timeout,
        query_timeout=settings.query_timeout,
    )
    offers = Offers(client, timeout=settings.query_timeout)
    prober = Prober(questions, session.report)
    listener = Listener(
        Requests(session, prober, policy, settings.env),
        host=settings.listen_host,
        port=settings.listen_port,
        token=settings.token.get_secret_value(),
    )

    def trouble() -> list[str]:
        found = []
        if not listener.listening:
            found.append(f"not listening on port {settings.listen_port}")
        if not session.connected:
            found.append(f"no control plane replica is connected (CONTROL_PLANE={','.join(settings.control_plane)})")
        return found

    status = StatusServer(
        trouble,
        health_port=settings.health_port,
        metrics_port=settings.metrics_port,
        host=settings.status_host,
        socket=settings.status_socket,
    )
    try:
        await status.start()
        await listener.start()
        session.report("", TunnelState(up=True))
        log.info("listening for bases", port=listener.port, control_plane=settings.control_plane)
        async with asyncio.TaskGroup() as group:
            tunnel = HttpTunnel(client, offers, prober, policy, session.report)
            running = group.create_task(session.run(tunnel), name="session")
            await stop.wait()
            await listener.stop()
            await prober.close()
            await session.close(settings.shutdown_timeout)
            running.cancel()
    finally:
        await listener.stop()
        await prober.close()
        await status.stop()
    log.info("ended")


def raise_open_files() -> None:
    """Let the process have as many sockets as it may: one for each connection, in and out."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    main()
