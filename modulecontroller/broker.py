"""An MQTT broker on loopback for the quick start, for trying out only: no passwords, no TLS, nothing kept.

It is amqtt in a process of its own. amqtt grants shared subscriptions but never
delivers to them, so they are refused here, as the protocol has it, and gateways
subscribe plainly.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from importlib.util import find_spec

from pydantic import Field

from modulecontroller.settings import Port
from service import logs
from service.listening import cannot_listen
from service.process import StartError, arguments, run
from service.settings import Settings, load
from service.status import StatusServer

HOST = "127.0.0.1"
MOST_CONNECTIONS = 2000


class BrokerSettings(Settings):
    """Variables of the embedded broker."""

    port: Port = Field(1883, validation_alias="MQTT_PORT", description="TCP port on the loopback address")
    status_socket: str = Field("", validation_alias="STATUS_SOCKET", description="Unix socket of health and metrics")


def available() -> bool:
    """Tell whether the package that the broker is made of is installed."""
    return find_spec("amqtt") is not None


async def serve(settings: BrokerSettings, stop: asyncio.Event) -> None:
    """Run the broker until stop is set; raises StartError."""
    from modulecontroller.plainbroker import PlainBroker

    broker = PlainBroker(
        {
            "listeners": {
                "default": {"type": "tcp", "bind": f"{HOST}:{settings.port}", "max_connections": MOST_CONNECTIONS}
            },
            "plugins": {
                "amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True},
            },
        }
    )
    try:
        _try_port(settings.port)
        await broker.start()
    except OSError as error:
        raise StartError(cannot_listen("MQTT_PORT", settings.port, error)) from error
    status = StatusServer(list, health_port=0, metrics_port=0, socket=settings.status_socket)
    try:
        if settings.status_socket:
            await status.start()
        await stop.wait()
    finally:
        await status.stop()
        await broker.shutdown()


def _try_port(port: int) -> None:
    """Bind the port for a moment; raises OSError. amqtt itself would log a trace."""
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        tried.bind((HOST, port))


def main() -> int:
    """Run the broker until a signal; returns the exit code."""
    arguments("modulecontroller.broker", __doc__ or "", BrokerSettings)
    settings = load(BrokerSettings)
    logs.configure(logs.LogFormat.CONSOLE, logs.LogLevel.ERROR, program="broker")
    return run(lambda stop: serve(settings, stop), loop="asyncio")


if __name__ == "__main__":
    sys.exit(main())
