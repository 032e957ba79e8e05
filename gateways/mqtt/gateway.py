"""The parts of the MQTT gateway put together, as the broker link sees them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NoReturn

from gateways.mqtt.baselines import Baselines
from gateways.mqtt.broker import Broker
from gateways.mqtt.inbound import Inbound
from gateways.mqtt.leftovers import Leftovers
from gateways.mqtt.outcomes import Outcomes
from gateways.mqtt.pending import Pending
from gateways.mqtt.questions import MqttQuestions
from gateways.mqtt.settings import MqttGatewaySettings
from gateways.mqtt.sharing import Sharing
from gateways.mqtt.strays import Strays
from gateways.mqtt.subscriptions import Subscriptions
from gateways.mqtt.tunnel import MqttTunnel
from gateways.polling.prober import Prober
from gateways.session.messages import TunnelState
from gateways.session.session import Session
from mqttclient.connection import MqttConnection, MqttMessage
from mqttclient.failures import Lost


class Gateway:
    """Everything between one broker and one session. Implements ``broker.Client``."""

    def __init__(self, settings: MqttGatewaySettings, broker: Broker, session: Session) -> None:
        env = settings.env
        self._session = session
        self._sharing = Sharing(env, settings.client_id)
        self._subscriptions = Subscriptions(env, self._sharing)
        self._strays = Strays(env)
        self._leftovers = Leftovers(env, broker)
        self._outcomes = Outcomes(session.report)
        self._pending = Pending()
        self._questions = MqttQuestions(
            env,
            broker,
            session.report,
            health_timeout=settings.health_timeout,
            query_timeout=settings.query_timeout,
        )
        self._prober = Prober(self._questions, session.report)
        self._baselines = Baselines(
            env,
            session,
            broker,
            shared=lambda: self._subscriptions.shared,
            everybody_hears=self._everybody_hears,
        )
        self._inbound = Inbound(
            env,
            session,
            self._prober,
            self._questions,
            self._pending,
            self._baselines,
            self._leftovers,
            self._outcomes.batch,
        )
        self.tunnel = MqttTunnel(env, broker, session, self._prober, self._questions, self._pending, self._outcomes)

    def received(self, message: MqttMessage) -> None:
        """Take a message."""
        if self._sharing.is_probe(message) or self._strays.is_stray(message):
            message.receipt.settle()
        else:
            self._inbound.take(message)

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

    def notes(self) -> list[str]:
        """Return what the broker does not give, and what follows."""
        extras = (self._sharing.extra, self._strays.extra, self._leftovers.looking, self._leftovers.removing)
        return [extra.note for extra in extras if extra.note]

    def changed(self, up: bool, reason: str) -> None:
        """The broker can be used now, or cannot any more, and why."""
        if not up:
            self._pending.interrupt(reason)
            self._questions.interrupt(reason)
            self._outcomes.forget()
        self._session.report("", TunnelState(up, reason or "; ".join(self.notes())))

    def _everybody_hears(self) -> None:
        if self._subscriptions.shared:
            self._subscriptions.everybody_hears()
            self.changed(True, "")

    async def run(self) -> NoReturn:
        """Tell what could not be told at once, until cancelled."""
        await self._outcomes.tell()

    async def stop_polling(self) -> None:
        """Ask no more bases."""
        await self._prober.close()

    async def close(self) -> None:
        """End what still runs."""
        await self._prober.close()
        await self._baselines.close()
