"""mqtt-gateway: the program."""

from __future__ import annotations

import asyncio
import os

import structlog
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways import program
from gateways.mqtt.gateway import MqttGateway
from gateways.mqtt.settings import MqttGatewaySettings

log = structlog.get_logger(__name__)

PURPOSE = "Gateway between Koupleless bases that speak MQTT and the control plane."


def main() -> None:
    """Run the program."""
    program.main("mqtt-gateway", PURPOSE, MqttGatewaySettings, serve)


async def serve(settings: MqttGatewaySettings, stop: asyncio.Event) -> None:
    """Serve until stop is set, then end in order. Raises CannotListen."""
    written = os.environ.get("ENV", "")
    if written and written != settings.env:
        log.warning(
            "ENV is used in lower case, as bases have it in their topics; a controller that uses it as it is written "
            "never meets them",
            written=written,
            used=settings.env,
        )
    if settings.tls and settings.tls_insecure:
        log.warning("MQTT_TLS_INSECURE=true: the broker's certificate is not checked")
    await program.serve(settings, stop, pb.TUNNEL_KIND_MQTT, MqttGateway)


if __name__ == "__main__":
    main()
