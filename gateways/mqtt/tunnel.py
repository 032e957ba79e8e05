"""The MQTT tunnel: orders become messages, Watches become polling.

An order that was not handed to the broker had no effect. One that was, and whose
answer does not come, is unknown: the control plane then asks for the module list. So
it is when the connection ends in between, since answers are not kept for a gateway
that is away, and when this gateway is killed, since nobody else knows the order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.arklet import commands, topics
from gateways.arklet.commands import COMMANDS
from gateways.arklet.payloads import Negative
from gateways.mqtt.broker import Publisher
from gateways.mqtt.metrics import PUBLISHED
from gateways.mqtt.orders import Interrupted, Outcomes, Pending
from gateways.mqtt.questions import MqttQuestions
from gateways.polling.prober import Prober
from gateways.session.orders import refused, unknown
from gateways.session.outbox import Kept
from gateways.session.validation import seconds
from mqttclient.failures import Lost, NotSent

MARGIN = 0.2
"""Seconds before an order's deadline at which we give up ourselves, to say why."""


class MqttTunnel:
    """Implements ``links.Tunnel``. Timeouts are in seconds."""

    def __init__(
        self,
        env: str,
        broker: Publisher,
        report: Callable[[pb.Report], bool],
        *,
        health_timeout: float,
        query_timeout: float,
    ) -> None:
        self._env = env
        self._broker = broker
        self._report = report
        self.questions = MqttQuestions(env, broker, report, health_timeout=health_timeout, query_timeout=query_timeout)
        self.prober = Prober(self.questions, report)
        self.pending = Pending()
        self.outcomes = Outcomes(report)

    def watch(self, watch: pb.Watch) -> None:
        """Poll a base from now on, or as this Watch says."""
        self.questions.watch(watch)
        self.prober.watch(watch)

    def unwatch(self, base: str) -> None:
        """Stop polling a base."""
        self.questions.unwatch(base)
        self.prober.unwatch(base)

    def settled(self, kept: Kept) -> None:
        """The control plane has it: so may the broker know."""
        self.outcomes.settled(kept)

    def interrupt(self, reason: str) -> None:
        """The connection to the broker ended: answers that were on their way do not come."""
        self.pending.interrupt(reason)
        self.questions.interrupt(reason)
        self.outcomes.forget()

    async def execute(self, order: pb.Order) -> pb.OrderResult:
        """Carry out an order."""
        if order.verb not in topics.VERBS:
            return refused(pb.REFUSAL_REASON_INVALID, f"bases know no {COMMANDS[order.verb]} over MQTT")
        timeout = max(seconds(order.timeout) - MARGIN, seconds(order.timeout) / 2)
        question = order.verb in (pb.VERB_HEALTH, pb.VERB_QUERY_MODULES)
        try:
            async with asyncio.timeout(timeout):
                return await (self._ask(order, timeout) if question else self._command(order))
        except NotSent as error:
            return refused(pb.REFUSAL_REASON_UNREACHABLE, str(error))
        except (Lost, Interrupted) as error:
            return unknown(str(error))
        except ValueError as error:
            return refused(pb.REFUSAL_REASON_INVALID, str(error))
        except TimeoutError:
            return unknown(f"no answer within {timeout:g} s")

    async def _command(self, order: pb.Order) -> pb.OrderResult:
        body = commands.body(order.verb, order.modules)
        module = order.modules[0]
        topic = topics.command(self._env, order.base_id, order.verb)
        now = asyncio.get_running_loop().time()
        with self.pending.wait(order.base_id, order.verb, module.name, module.version, now=now) as waiting:
            PUBLISHED.labels(command=COMMANDS[order.verb]).inc()
            # The base may answer before the broker confirms.
            await self._broker.publish(topic, body)
            reply, receipt = await waiting.answer()
        self.outcomes.order(order.order_id, receipt)
        return pb.OrderResult(reply=reply)

    async def _ask(self, order: pb.Order, timeout: float) -> pb.OrderResult:
        said = await self.questions.question(order.base_id, order.verb, timeout=timeout)
        if isinstance(said, Negative):
            return pb.OrderResult(reply=said.reply)
        self._report(said)
        return pb.OrderResult(reply=pb.Reply(code=pb.REPLY_CODE_SUCCESS))
