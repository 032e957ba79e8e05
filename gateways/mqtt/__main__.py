"""mqtt-gateway: where its parts are put together."""

import asyncio
import os
from collections.abc import Callable
from typing import NoReturn

import structlog
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways import program
from gateways.mqtt.baselines import Baselines
from gateways.mqtt.broker import Broker
from gateways.mqtt.inbound import Inbound
from gateways.mqtt.leftovers import Leftovers
from gateways.mqtt.settings import MqttGatewaySettings
from gateways.mqtt.strays import Strays
from gateways.mqtt.subscriptions import Subscriptions
from gateways.mqtt.tunnel import MqttTunnel
from gateways.session.links import ControlPlaneLinks
from mqttclient.connection import MqttConnection
from mqttclient.failures import Lost

log = structlog.get_logger(__name__)

PURPOSE = "Gateway between Koupleless bases that speak MQTT and the control plane."


class MqttGateway(program.Gateway):
    """Everything between one broker and the links to the control plane. Implements ``broker.Client``."""

    def __init__(self, settings: MqttGatewaySettings, links: ControlPlaneLinks) -> None:
        env, report = settings.env, links.outboxes.report
        self._settings = settings
        self._report = report
        self._broker = broker = Broker(settings, settings.client_id_of(settings.client_id))
        self._subscriptions = Subscriptions(env, settings.client_id)
        self._strays = Strays(env)
        self._leftovers = Leftovers(env)
        self.tunnel: MqttTunnel = MqttTunnel(
            env,
            broker.publish,
            report,
            health_timeout=settings.health_timeout,
            query_timeout=settings.query_timeout,
        )
        self._baselines = Baselines(
            env,
            links.baseline,
            broker.publish,
            shared=lambda: self._subscriptions.shared,
            everybody_receives=self._everybody_receives,
        )
        inbound = Inbound(env, report, self.tunnel, self._baselines, self._leftovers, self._subscriptions, self._strays)
        self.received = inbound.take

    # What the program asks for.

    def trouble(self) -> list[str]:
        """Return why the broker cannot be used."""
        return [self._broker.trouble] if self._broker.trouble else []

    def notes(self) -> list[str]:
        """Return what the broker does not give, and what follows."""
        leftovers = self._leftovers
        extras = (self._subscriptions.sharing, self._strays.extra, leftovers.looking, leftovers.removing)
        return [extra.note for extra in extras if extra.note]

    async def start(self) -> None:
        """Report that the broker is not connected yet."""
        settings, where = self._settings, f"{self._settings.broker}:{self._settings.port}"
        written = os.environ.get("ENV", "")
        if written and written != settings.env:
            log.warning(
                "ENV is used in lower case, as bases have it in their topics; a controller that uses it as it is "
                "written never meets them",
                written=written,
                used=settings.env,
            )
        if settings.tls and settings.tls_insecure:
            log.warning("MQTT_TLS_INSECURE=true: the broker's certificate is not checked")
        self._report_state(up=False, reason="not connected to the broker yet")
        log.info("starting", broker=where, tls=settings.tls, env=settings.env, control_plane=settings.control_plane)

    async def run(self) -> None:
        """Keep the connection to the broker, and report what could not be reported at once, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._broker.run(self), name="broker")
            group.create_task(self.tunnel.outcomes.keep_reporting(), name="report batches")

    async def drain(self) -> None:
        """Ask no more bases."""
        await self.tunnel.prober.close()

    async def close(self) -> None:
        """Answer no more baseline questions."""
        await self._baselines.close()

    # What the broker brings.

    async def serve(self, connection: MqttConnection, ready: Callable[[], None]) -> NoReturn:
        """Subscribe, call ready, and serve until cancelled. Raises ConnectFailed or Lost."""
        await self._subscriptions.make(connection)
        await self._strays.begin(connection, share=self._subscriptions.shared)
        await self._leftovers.begin(connection)
        ready()
        reason = ""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._leftovers.clear(connection), name="clear leftovers")
                group.create_task(self._strays.listen(connection), name="listen for strays")
        except* Lost as lost:
            reason = str(lost.exceptions[0])
        raise Lost(reason)

    def changed(self, up: bool, reason: str) -> None:
        """The broker can be used now, or cannot any more, and why."""
        if not up:
            self.tunnel.interrupt(reason)
        self._report_state(up=up, reason=reason or "; ".join(self.notes()))

    def _everybody_receives(self) -> None:
        if self._subscriptions.shared:
            self._subscriptions.everybody_receives()
            self.changed(True, "")

    def _report_state(self, *, up: bool, reason: str) -> None:
        self._report(pb.Report(tunnel_state=pb.TunnelState(up=up, reason=reason)))


def main() -> None:
    """Run the program."""
    program.main("mqtt-gateway", PURPOSE, MqttGatewaySettings, pb.TUNNEL_KIND_MQTT, MqttGateway)


if __name__ == "__main__":
    main()
