"""An MQTT broker on loopback for the quick start, for trying out only: no passwords, no TLS, nothing kept.

It is amqtt in a process of its own.
"""

import asyncio
import sys

from amqtt.broker import Broker
from amqtt.session import Session
from pydantic import Field

from modulecontroller.quickstart import BROKER_HOST
from service import logs, process
from service.listening import Port, listen
from service.settings import Settings, load
from service.status import StatusServer

MOST_CONNECTIONS = 2000
FAILURE = 0x80
"""Return code of a subscription that is refused (MQTT 3.1.1, section 3.9.3)."""


class LocalBrokerSettings(Settings):
    """Variables of the embedded broker."""

    mqtt_port: Port = Field(1883, description="TCP port on the loopback address")
    status_socket: str = Field("", description="Unix socket of health and metrics")


class PlainBroker(Broker):  # type: ignore[misc]  # amqtt has no types
    """Refuses shared subscriptions, as the protocol has it, so that gateways subscribe plainly.

    amqtt grants them, takes the filter by its letters and delivers nothing. Not a topic plugin: with one amqtt awaits
    while it goes through its table of subscriptions, and loses the message when that changes meanwhile (0.12).
    """

    async def add_subscription(self, subscription: tuple[str, int], session: Session) -> int:
        """Return the granted QoS, or FAILURE."""
        if subscription[0].startswith("$share/"):
            return FAILURE
        granted: int = await super().add_subscription(subscription, session)
        return granted


async def serve(settings: LocalBrokerSettings, stop: asyncio.Event) -> None:
    """Run the broker until stop is set; raises CannotListen."""
    listener = {"type": "tcp", "bind": f"{BROKER_HOST}:{settings.mqtt_port}", "max_connections": MOST_CONNECTIONS}
    plugins = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
    broker = PlainBroker({"listeners": {"default": listener}, "plugins": plugins})
    # Tried before, for amqtt logs a trace when it cannot listen.
    for tried in await listen(BROKER_HOST, settings.mqtt_port, "MQTT_PORT"):
        tried.close()
    await broker.start()
    status = StatusServer(tuple, health_port=0, metrics_port=0, socket=settings.status_socket)
    try:
        if settings.status_socket:
            await status.start()
        await stop.wait()
    finally:
        await status.stop()
        await broker.shutdown()


def main() -> int:
    """Run the broker until a signal; returns the exit code."""
    process.arguments("modulecontroller.broker", __doc__ or "", LocalBrokerSettings)
    settings = load(LocalBrokerSettings)
    logs.configure(logs.LogFormat.CONSOLE, logs.LogLevel.ERROR, program="broker")
    return process.run(lambda stop: serve(settings, stop), loop="asyncio")


if __name__ == "__main__":
    sys.exit(main())
