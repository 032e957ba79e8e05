"""How watched bases are asked over HTTP: by calls to arklet, as many at a time as there are slots.

The epoch of a list is that of the Watch in force when the question waits for its
slot, just before it is sent: a list is never said to be newer than it is.
"""

from __future__ import annotations

from typing import Protocol

from gateways.arklet import commands, payloads
from gateways.arklet.facts import Verb
from gateways.http.arklet_client import Lost, NotSent
from gateways.http.slots import Slots
from gateways.polling.prober import Answer
from gateways.session.messages import Address, ModuleList, PollFailed, PollFailure, Watch
from service.addresses import AddressPolicy, AddressRefused


class Caller(Protocol):
    """What calls a base: ``ArkletClient``."""

    async def call(self, address: Address, verb: Verb, body: bytes, *, timeout: float) -> bytes:
        """Return the body of the answer. Raises NotSent or Lost."""


class HttpQuestions:
    """Asks bases. Timeouts are in seconds."""

    def __init__(
        self, client: Caller, slots: Slots, policy: AddressPolicy, *, health_timeout: float, query_timeout: float
    ) -> None:
        self._client = client
        self._slots = slots
        self._policy = policy
        self._timeouts = {Verb.HEALTH: health_timeout, Verb.QUERY_MODULES: query_timeout}

    async def ask(self, watch: Watch, verb: Verb, *, failing: bool) -> Answer:
        """Return what the base said, or how asking it failed."""
        async with self._slots.slot(failing=failing):
            return await self._ask(watch, verb)

    async def _ask(self, watch: Watch, verb: Verb) -> Answer:
        try:
            self._policy.check(watch.address.ip, watch.address.port)
            body = await self._client.call(watch.address, verb, commands.body(verb, ()), timeout=self._timeouts[verb])
            if verb is Verb.HEALTH:
                return Answer(payloads.health(body))
            return Answer(ModuleList(payloads.modules(body), watch.epoch))
        except (AddressRefused, NotSent, Lost, payloads.Negative, payloads.Malformed) as error:
            failure = next(failure for kind, failure in _FAILURES.items() if isinstance(error, kind))
            reason = f"unreadable answer: {error}" if failure is PollFailure.NOT_A_BASE else str(error)
            return Answer(
                PollFailed(verb, reason, watch.epoch, failure),
                type(error).__name__,
                alive=failure is PollFailure.NEGATIVE,
                # A base that starts beats before its port is open.
                soon=isinstance(error, NotSent),
            )


_FAILURES = {
    AddressRefused: PollFailure.NOT_CONNECTED,
    NotSent: PollFailure.NOT_CONNECTED,
    Lost: PollFailure.NO_ANSWER,
    payloads.Negative: PollFailure.NEGATIVE,
    payloads.Malformed: PollFailure.NOT_A_BASE,
}
