"""mqtt-gateway: where its parts are put together."""

from __future__ import annotations

import asyncio
import os
import sys
import uuid

import structlog

from gateways.mqtt.broker import Broker
from gateways.mqtt.gateway import Gateway
from gateways.mqtt.settings import MqttGatewaySettings
from gateways.session.messages import Hello, TunnelKind, TunnelState
from gateways.session.session import Session
from service import logs, process
from service.settings import load
from service.status import StatusServer

log = structlog.get_logger(__name__)

PURPOSE = "Gateway between Koupleless bases that speak MQTT and the control plane."


def main() -> None:
    """Run the program."""
    process.arguments("mqtt-gateway", PURPOSE, MqttGatewaySettings)
    settings = load(MqttGatewaySettings)
    logs.configure(settings.log_format, settings.log_level, program="mqtt-gateway", gateway=settings.client_id)
    written = os.environ.get("ENV", "")
    if written and written != settings.env:
        log.warning(
            "ENV is used in lower case, as bases have it in their topics; a controller that uses it as it is written "
            "never meets them",
            written=written,
            used=settings.env,
        )
    sys.exit(process.run(lambda stop: serve(settings, stop)))


async def serve(settings: MqttGatewaySettings, stop: asyncio.Event) -> None:
    """Serve until stop is set, then end in order. Raises CannotListen."""
    session = Session(
        Hello(
            gateway=settings.client_id,
            instance=uuid.uuid4().hex,
            tunnel=TunnelKind.MQTT,
            env=settings.env,
            version=process.software_version(),
        ),
        settings.control_plane,
    )
    broker = Broker(settings.target(settings.client_id))
    gateway = Gateway(settings, broker, session)

    def trouble() -> list[str]:
        found = [broker.trouble] if broker.trouble else []
        if not session.connected:
            found.append(f"no control plane replica is connected (CONTROL_PLANE={','.join(settings.control_plane)})")
        return found

    status = StatusServer(
        trouble,
        health_port=settings.health_port,
        metrics_port=settings.metrics_port,
        host=settings.status_host,
        notes=gateway.notes,
        socket=settings.status_socket,
    )
    if settings.tls and settings.tls_insecure:
        log.warning("MQTT_TLS_INSECURE=true: the broker's certificate is not checked")
    try:
        await status.start()
        session.report("", TunnelState(up=False, reason="not connected to the broker yet"))
        where = f"{settings.broker}:{settings.port}"
        log.info("starting", broker=where, tls=settings.tls, env=settings.env, control_plane=settings.control_plane)
        async with asyncio.TaskGroup() as group:
            running = [
                group.create_task(session.run(gateway.tunnel), name="session"),
                group.create_task(broker.run(gateway), name="broker"),
                group.create_task(gateway.run(), name="gateway"),
            ]
            await stop.wait()
            await gateway.stop_polling()
            await session.close(settings.shutdown_timeout)
            for task in running:
                task.cancel()
    finally:
        await gateway.close()
        await status.stop()
    log.info("ended")


if __name__ == "__main__":
    main()
