"""The MQTT tunnel as the session sees it: orders become messages, Watches become polling.

An order that was not handed to the broker had no effect. One that was, and whose
answer does not come, is unknown: the control plane then asks for the module list. So
it is when the connection ends in between, since answers are not kept for a gateway
that is away, and when this gateway is killed, since nobody else knows the order.
"""

from __future__ import annotations

import asyncio

from gateways.arklet import commands, topics
from gateways.arklet.facts import Reply, ReplyCode, Verb
from gateways.arklet.payloads import Negative
from gateways.mqtt.broker import Broker
from gateways.mqtt.metrics import PUBLISHED
from gateways.mqtt.outcomes import Outcomes
from gateways.mqtt.pending import Interrupted, Pending
from gateways.mqtt.questions import MqttQuestions
from gateways.polling.prober import Prober
from gateways.session.messages import Order, OrderResult, Outcome, OutcomeUnknown, Refusal, Refused, Report, Watch
from gateways.session.session import Session
from mqttclient.failures import Lost, NotSent

MARGIN = 0.2
"""Seconds before an order's deadline at which we give up ourselves, to say why."""


class MqttTunnel:
    """Implements ``messages.Tunnel``."""

    def __init__(
        self,
        env: str,
        broker: Broker,
        session: Session,
        prober: Prober,
        questions: MqttQuestions,
        pending: Pending,
        outcomes: Outcomes,
    ) -> None:
        self._env = env
        self._broker = broker
        self._session = session
        self._prober = prober
        self._questions = questions
        self._pending = pending
        self._outcomes = outcomes

    def watch(self, watch: Watch) -> None:
        """Poll a base from now on, or as this Watch says."""
        self._questions.watch(watch)
        self._prober.watch(watch)

    def unwatch(self, base: str) -> None:
        """Stop polling a base."""
        self._questions.unwatch(base)
        self._prober.unwatch(base)

    def settled(self, kept: OrderResult | Report) -> None:
        """The control plane has it: so may the broker know."""
        self._outcomes.settled(kept)

    async def execute(self, order: Order) -> Outcome:
        """Carry out an order."""
        if order.verb not in topics.COMMANDS:
            return Refused(Refusal.INVALID, f"bases know no {order.verb.value} over MQTT")
        timeout = max(order.timeout - MARGIN, order.timeout / 2)
        try:
            async with asyncio.timeout(timeout):
                if order.verb in (Verb.HEALTH, Verb.QUERY_MODULES):
                    return await self._ask(order, timeout)
                return await self._command(order)
        except NotSent as error:
            return Refused(Refusal.UNREACHABLE, str(error))
        except (Lost, Interrupted) as error:
            return OutcomeUnknown(str(error))
        except ValueError as error:
            return Refused(Refusal.INVALID, str(error))
        except TimeoutError:
            return OutcomeUnknown(f"no answer within {timeout:g} s")

    async def _command(self, order: Order) -> Outcome:
        body = commands.body(order.verb, order.modules)
        module = order.modules[0]
        topic = topics.command(self._env, order.base, order.verb)
        now = asyncio.get_running_loop().time()
        with self._pending.wait(order.base, order.verb, module.name, module.version, now=now) as waiting:
            PUBLISHED.labels(command=order.verb.value).inc()
            # The base may answer before the broker confirms.
            await self._broker.publish(topic, body)
            answered = await waiting.answer()
        if answered.receipt is not None:
            self._outcomes.order(order.order_id, answered.receipt)
        return answered.reply

    async def _ask(self, order: Order, timeout: float) -> Outcome:
        told = await self._questions.question(order.base, order.verb, timeout=timeout)
        if isinstance(told, Negative):
            return told.reply
        self._session.report(order.base, told)
        return Reply(ReplyCode.SUCCESS)
