"""The MQTT tunnel: orders and polls become messages to bases, which answer when they like.

An order that was not handed to the broker had no effect. One that was, and whose answer does not come, is unknown: the
control plane then asks for the module list. So it is when the connection ends in between, or this gateway.

The answer to a question is the next list, or health, of that base, whoever asked for it; ``clocks`` decides which epoch
a list counts for. A poll has QoS 0: one that is lost is made up for by the next. What nobody here asked for is reported
too if this gateway watches the base, and dropped if it does not.
"""

import asyncio
import itertools
from collections import defaultdict
from collections.abc import Callable
from typing import TypeAlias

from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.arklet import commands, topics
from gateways.arklet.commands import COMMANDS
from gateways.arklet.payloads import Negative
from gateways.mqtt.broker import Publish
from gateways.mqtt.clocks import GUARD, Epochs
from gateways.mqtt.metrics import FOREIGN, PUBLISHED
from gateways.mqtt.orders import Outcomes, Pending, interrupt
from gateways.polling.prober import Answer, Prober, failed_poll
from gateways.session.orders import refused, unknown
from gateways.session.validation import seconds
from mqttclient.failures import Lost, NotSent

MARGIN = 0.2
"""Seconds before an order's deadline at which we give up ourselves, to say why."""
CONFIRM = 1.25 * GUARD
"""Seconds after which a base is asked again whose list was too old for the epoch in force."""
REORDERED = 10.0
"""Seconds by which a list may be older than the last one and count as overtaken, not as a clock set back."""

Said: TypeAlias = pb.Report | Negative
"""The answer of a base: its health or modules, or that it cannot say."""


class MqttTunnel:
    """Implements ``links.Tunnel``. Timeouts are in seconds."""

    def __init__(
        self,
        env: str,
        publish: Publish,
        report: Callable[[pb.Report], bool],
        *,
        health_timeout: float,
        query_timeout: float,
    ) -> None:
        self._env = env
        self._send = publish
        self._report = report
        self._timeouts = {pb.VERB_HEALTH: health_timeout, pb.VERB_QUERY_MODULES: query_timeout}
        self._epochs: dict[str, Epochs] = {}
        """By watched base."""
        self._waiting: defaultdict[tuple[str, int], list[asyncio.Future[Said]]] = defaultdict(list)
        self.prober = Prober(self.ask, report)
        self.outcomes = Outcomes(report)
        self.pending = Pending(self.outcomes.wait)

    def watch(self, watch: pb.Watch) -> None:
        """Poll a base from now on, or as this Watch says."""
        epochs, now = self._epochs.get(watch.base_id), asyncio.get_running_loop().time()
        if epochs is None or epochs.fence != watch.fence:
            self._epochs[watch.base_id] = Epochs(watch.fence, watch.epoch, now)
        else:
            epochs.begin(watch.epoch, now)
        self.prober.watch(watch)

    def unwatch(self, base: str) -> None:
        """Stop polling a base, and report nothing of it any more that was not asked for."""
        self._epochs.pop(base, None)
        self.prober.unwatch(base)

    def settled(self, kept: pb.Report) -> None:
        """The control plane has it: so may the broker know."""
        self.outcomes.settled(kept)

    def interrupt(self, reason: str) -> None:
        """The connection to the broker ended: answers that were on their way do not come."""
        self.pending.interrupt(reason)
        self.outcomes.forget()
        interrupt(itertools.chain(*self._waiting.values()), reason)

    # What is asked of bases.

    async def execute(self, order: pb.Order) -> pb.OrderResult:
        """Carry out an order."""
        if order.verb not in topics.VERBS:
            return refused(pb.REFUSAL_REASON_INVALID, f"bases know no {COMMANDS[order.verb]} over MQTT")
        timeout = max(seconds(order.timeout) - MARGIN, seconds(order.timeout) / 2)
        try:
            async with asyncio.timeout(timeout):
                return await (self._question(order, timeout) if order.verb in self._timeouts else self._command(order))
        except NotSent as error:
            return refused(pb.REFUSAL_REASON_UNREACHABLE, str(error))
        except Lost as error:
            return unknown(str(error))
        except ValueError as error:
            return refused(pb.REFUSAL_REASON_INVALID, str(error))
        except TimeoutError:
            return unknown(f"no answer within {timeout:g} s")

    async def _command(self, order: pb.Order) -> pb.OrderResult:
        body = commands.body(order.verb, order.modules)
        with self.pending.wait(order) as answer:
            # The base may answer before the broker confirms.
            await self._publish(order.base_id, order.verb, body)
            return pb.OrderResult(reply=await answer)

    async def _question(self, order: pb.Order, timeout: float) -> pb.OrderResult:
        said = await self.question(order.base_id, order.verb, timeout=timeout, qos=1)
        if isinstance(said, Negative):
            return pb.OrderResult(reply=said.reply)
        self._report(said)
        return pb.OrderResult(reply=pb.Reply(code=pb.REPLY_CODE_SUCCESS))

    async def ask(self, watch: pb.Watch, verb: pb.Verb.ValueType, _failing: bool) -> Answer:
        """Return what a watched base said, or how asking it failed."""
        timeout = self._timeouts[verb]
        try:
            said = await self.question(watch.base_id, verb, timeout=timeout, qos=0)
        except (NotSent, Lost):
            # Tunnel state reports that; it says nothing of the base.
            return Answer(None, "tunnel", alive=False)
        except TimeoutError:
            reason = f"no answer within {timeout:g} s"
            return Answer(failed_poll(watch, verb, reason, pb.POLL_FAILURE_NO_ANSWER), "silent", alive=False)
        if isinstance(said, Negative):
            return Answer(failed_poll(watch, verb, str(said), pb.POLL_FAILURE_NEGATIVE), "negative")
        epochs = self._epochs.get(watch.base_id)
        behind = said.HasField("modules") and epochs is not None and said.modules.epoch != epochs.current
        return Answer(said, again_after=CONFIRM if behind else None)

    async def question(self, base: str, verb: pb.Verb.ValueType, *, timeout: float, qos: int) -> Said:
        """Ask a base. Raises NotSent, Lost, or TimeoutError when it does not answer."""
        key = base, verb
        answer: asyncio.Future[Said] = asyncio.get_running_loop().create_future()
        self._waiting[key].append(answer)
        try:
            self._publish(base, verb, commands.EMPTY, qos=qos)
            async with asyncio.timeout(timeout):
                return await answer
        finally:
            self._waiting[key].remove(answer)
            if not self._waiting[key]:
                del self._waiting[key]

    def _publish(self, base: str, verb: pb.Verb.ValueType, body: bytes, *, qos: int = 1) -> asyncio.Future[None]:
        PUBLISHED.labels(command=COMMANDS[verb]).inc()
        return self._send(topics.command(self._env, base, verb), body, qos=qos)

    # What bases answer.

    def concerns(self, base: str) -> bool:
        """Return whether the answers of a base to questions are of use here."""
        return base in self._epochs or any((base, verb) in self._waiting for verb in self._timeouts)

    def answered(self, base: str, verb: pb.Verb.ValueType, said: Said) -> None:
        """Take the answer of a base to a question."""
        waiting = [answer for answer in self._waiting.get((base, verb), ()) if not answer.done()]
        for answer in waiting:
            answer.set_result(said)
        if waiting:
            return
        if base in self._epochs and not isinstance(said, Negative):
            if said.health.state == pb.BASE_STATE_DEACTIVATED:
                # Nobody asked for it: the base itself is asked.
                self.prober.leaving(base)
            self._report(said)
        else:
            FOREIGN.labels(word=COMMANDS[verb]).inc()

    def listed(self, report: pb.Report, stamp: float, made_at: float | None) -> bool:
        """Take a module list; False when a newer one came before it. stamp is in seconds by the base's clock."""
        base = report.base_id
        if (epochs := self._epochs.get(base)) is not None:
            if 0 < epochs.last_stamp - stamp < REORDERED:
                return False
            epochs.last_stamp = stamp
            report.modules.epoch = epochs.of(made_at)
        self.answered(base, pb.VERB_QUERY_MODULES, report)
        return True
