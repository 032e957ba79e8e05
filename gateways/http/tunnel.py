"""The HTTP tunnel as the session sees it: orders become calls of arklet, Watches become polling.

What a call shows decides the outcome of an order: no connection means that it had
no effect; anything that goes wrong after bytes were sent leaves it unknown; an
answer that can be read is the base's reply, whatever it says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from gateways.arklet import commands, payloads
from gateways.arklet.facts import Reply, ReplyCode, Verb
from gateways.http.addresses import with_port
from gateways.http.arklet_client import Lost, NotSent
from gateways.http.offers import Offers
from gateways.http.questions import Caller
from gateways.polling.prober import Prober
from gateways.session.messages import (
    Fact,
    ModuleList,
    Order,
    OrderResult,
    Outcome,
    OutcomeUnknown,
    Refusal,
    Refused,
    Report,
    Watch,
)
from service.addresses import AddressPolicy, AddressRefused


class HttpTunnel:
    """Implements ``messages.Tunnel``."""

    def __init__(
        self,
        client: Caller,
        offers: Offers,
        prober: Prober,
        policy: AddressPolicy,
        report: Callable[[str, Fact], object],
    ) -> None:
        self._client = client
        self._offers = offers
        self._prober = prober
        self._policy = policy
        self._report = report

    def watch(self, watch: Watch) -> None:
        """Poll a base from now on, or as this Watch says."""
        self._prober.watch(replace(watch, address=with_port(watch.address)))

    def unwatch(self, base: str) -> None:
        """Stop polling a base."""
        self._prober.unwatch(base)

    def settled(self, kept: OrderResult | Report) -> None:
        """Nothing of a base's waits for that."""

    async def execute(self, order: Order) -> Outcome:
        """Carry out an order."""
        epoch = self._prober.epoch(order.base)
        address = with_port(order.address)
        try:
            self._policy.check(address.ip, address.port)
            body = commands.body(order.verb, order.modules)
        except AddressRefused as error:
            return Refused(Refusal.ADDRESS_NOT_ALLOWED, str(error))
        except ValueError as error:
            return Refused(Refusal.INVALID, str(error))
        if order.verb is Verb.BATCH_INSTALL and not await self._offers.offers(address, order.verb):
            return Refused(Refusal.UNSUPPORTED, f"the base does not offer {order.verb.value}")
        try:
            answer = await self._client.call(address, order.verb, body, timeout=order.timeout)
            return self._read(order, answer, epoch)
        except NotSent as error:
            return Refused(Refusal.UNREACHABLE, str(error))
        except Lost as error:
            return OutcomeUnknown(str(error))
        except payloads.Malformed as error:
            return OutcomeUnknown(f"unreadable answer: {error}")
        except payloads.Negative as error:
            return error.reply

    def _read(self, order: Order, answer: bytes, epoch: int) -> Outcome:
        """Return the base's reply; what a question brought to light travels as a report of its own."""
        match order.verb:
            case Verb.BATCH_INSTALL:
                return payloads.batch_reply(answer)
            case Verb.QUERY_MODULES:
                self._report(order.base, ModuleList(payloads.modules(answer), epoch))
                return Reply(ReplyCode.SUCCESS)
            case Verb.HEALTH:
                self._report(order.base, payloads.health(answer))
                return Reply(ReplyCode.SUCCESS)
            case _:
                return payloads.reply(answer)
