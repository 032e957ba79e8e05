"""The HTTP tunnel: orders and polls become calls of arklet.

What a call shows decides the outcome of an order: no connection means that it had no effect; anything that goes wrong
after bytes were sent leaves it unknown; an answer that can be read is the base's reply, whatever it says.

The epoch of a list is that of the Watch in force when the question waits for its slot, just before it is sent: a list
is never said to be newer than it is.
"""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.arklet import commands, payloads
from gateways.arklet.commands import COMMANDS, HELP
from gateways.arklet.fields import Json, Malformed, TooManyValues, first_object
from gateways.arklet.payloads import Negative
from gateways.http.allowances import Allowances
from gateways.http.arklet_client import Answer as Received
from gateways.http.arklet_client import with_port
from gateways.http.metrics import EXCESSES, POLLS_WAITING
from gateways.http.responses import Excessive, Lost, NotSent
from gateways.polling.prober import Answer, Prober, failed_poll
from gateways.session.orders import refused, unknown
from gateways.session.validation import seconds
from service.addresses import AddressPolicy, AddressRefused
from service.limits import Recent

PROMPT = 1.0
"""Seconds that a poll may hold a slot of the prompt lane while the slow lane has room."""
SLOW = 4
"""Slots of the slow lane for each slot of the prompt lane."""
FAILING = 4
"""Slots of the prompt lane for each slot of the failing lane."""
HOLDS = 600.0
"""Seconds for which the answer of a base to help counts."""
MOST_BASES = 20_000
"""Bases whose answers to help are kept; the one that was asked first is forgotten first."""

_FAILURES: Mapping[type[Exception], pb.PollFailure.ValueType] = {
    AddressRefused: pb.POLL_FAILURE_NOT_CONNECTED,
    NotSent: pb.POLL_FAILURE_NOT_CONNECTED,
    Lost: pb.POLL_FAILURE_NO_ANSWER,
    Negative: pb.POLL_FAILURE_NEGATIVE,
    Malformed: pb.POLL_FAILURE_NOT_A_BASE,
    TooManyValues: pb.POLL_FAILURE_NOT_A_BASE,
    Excessive: pb.POLL_FAILURE_NOT_A_BASE,
}


T = TypeVar("T")
Call: TypeAlias = Callable[[pb.Address, str, bytes, float], AbstractAsyncContextManager[Received]]
"""Sends a command and its body to a base, with a timeout: ``ArkletClient.answer``."""


class HttpTunnel:
    """Implements ``links.Tunnel``. polls: at the same time; timeouts are in seconds."""

    def __init__(
        self,
        call: Call,
        policy: AddressPolicy,
        report: Callable[[pb.Report], object],
        *,
        polls: int,
        health_timeout: float,
        query_timeout: float,
    ) -> None:
        self._send = call
        self._policy = policy
        self._report = report
        self._slots = Slots(polls)
        self._timeouts = {pb.VERB_HEALTH: health_timeout, pb.VERB_QUERY_MODULES: query_timeout}
        self._offers = Offers(call, query_timeout)
        self.allowances = Allowances()
        self.prober = Prober(self.ask, report)

    def watch(self, watch: pb.Watch) -> None:
        """Poll a base from now on, or as this Watch says."""
        with_port(watch.address)
        self.prober.watch(watch)

    def unwatch(self, base: str) -> None:
        """Stop polling a base."""
        self.prober.unwatch(base)

    def settled(self, kept: pb.Report) -> None:
        """Nothing of a base's waits for that."""

    async def ask(self, watch: pb.Watch, verb: pb.Verb.ValueType, failing: bool) -> Answer:
        """Return what a watched base said, or how asking it failed."""
        if resting := self._resting(watch, verb):
            return resting
        async with self._slots.slot(failing=failing):
            try:
                self._policy.check(watch.address.ip, watch.address.port)
                timeout = self._timeouts[verb]
                base, epoch = watch.base_id, watch.epoch
                report = await self._call(
                    base,
                    watch.address,
                    verb,
                    commands.EMPTY,
                    timeout,
                    lambda answer: _report(base, verb, answer, epoch),
                )
                return self._resting(watch, verb) or Answer(report)
            except (AddressRefused, NotSent, Lost, Negative, Malformed) as error:
                reason = f"unreadable answer: {error}" if isinstance(error, Malformed) else str(error)
                return self._resting(watch, verb) or Answer(
                    failed_poll(watch, verb, reason, _FAILURES[type(error)]),
                    type(error).__name__,
                    alive=isinstance(error, Negative),
                    # A base that starts sends heartbeats before its port is open.
                    soon=isinstance(error, NotSent),
                )

    def _resting(self, watch: pb.Watch, verb: pb.Verb.ValueType) -> Answer | None:
        """Return the answer for a base that is left alone for now, None for any other."""
        rest, why = self.allowances.rest(watch.base_id, _now())
        if not rest:
            return None
        reason = f"the base is not asked for {rest:.0f} s: {why}"
        report = failed_poll(watch, verb, reason, pb.POLL_FAILURE_NOT_A_BASE)
        return Answer(report, "excessive", alive=False, rest=rest)

    async def execute(self, order: pb.Order) -> pb.OrderResult:
        """Carry out an order."""
        epoch = self.prober.epoch(order.base_id)
        address = with_port(order.address)
        try:
            self._policy.check(address.ip, address.port)
            body = commands.body(order.verb, order.modules)
        except AddressRefused as error:
            return refused(pb.REFUSAL_REASON_ADDRESS_NOT_ALLOWED, str(error))
        except ValueError as error:
            return refused(pb.REFUSAL_REASON_INVALID, str(error))
        command = COMMANDS[order.verb]
        if order.verb == pb.VERB_BATCH_INSTALL and not await self._offers.has(address, command):
            return refused(pb.REFUSAL_REASON_UNSUPPORTED, f"the base does not offer {command}")
        try:
            timeout = seconds(order.timeout)
            return await self._call(
                order.base_id, address, order.verb, body, timeout, lambda answer: self._outcome(order, answer, epoch)
            )
        except NotSent as error:
            return refused(pb.REFUSAL_REASON_UNREACHABLE, str(error))
        except Lost as error:
            return unknown(str(error))
        except Malformed as error:
            return unknown(f"unreadable answer: {error}")
        except Negative as error:
            return pb.OrderResult(reply=error.reply)

    async def _call(
        self,
        base: str,
        address: pb.Address,
        verb: pb.Verb.ValueType,
        body: bytes,
        timeout: float,
        read: Callable[[Json], T],
    ) -> T:
        """Return what read makes of a base's answer to a command, and charge the base with the cost."""
        try:
            async with self._send(address, COMMANDS[verb], body, timeout) as answer:
                try:
                    return read(first_object(answer.body))
                finally:
                    if self.allowances.charge(base, answer.spent, len(answer.body), _now()):
                        EXCESSES.labels("allowance").inc()
        except (Excessive, TooManyValues) as error:
            EXCESSES.labels(error.reason if isinstance(error, Excessive) else "values").inc()
            self.allowances.exceeded(base, str(error), _now())
            raise

    def _outcome(self, order: pb.Order, answer: Json, epoch: int) -> pb.OrderResult:
        """Return the base's reply; what a question brought to light travels as a report of its own."""
        if order.verb == pb.VERB_BATCH_INSTALL:
            return pb.OrderResult(batch=payloads.batch_reply(answer))
        if order.verb in self._timeouts:
            self._report(_report(order.base_id, order.verb, answer, epoch))
            return pb.OrderResult(reply=pb.Reply(code=pb.REPLY_CODE_SUCCESS))
        return pb.OrderResult(reply=payloads.reply(answer))


class Slots:
    """Bounds the polls under way to prompt x (1 + SLOW + 1 / FAILING).

    A hanging base holds a slot until its timeout, so it must not hold one that others wait for. Polls of bases that
    answered last time share the prompt lane, where a poll that takes longer than ``PROMPT`` seconds moves on to the
    slow lane if there is room in it; polls of bases that failed last time have a lane of their own. Others thus wait at
    most about ``PROMPT`` seconds, until as many bases hang at once as the slow lane has slots.
    """

    def __init__(self, prompt: int) -> None:
        self.prompt = asyncio.Semaphore(prompt)
        self.slow_free = prompt * SLOW
        self.failing = asyncio.Semaphore(max(prompt // FAILING, 1))

    def slot(self, *, failing: bool) -> AbstractAsyncContextManager[None]:
        """Hold a slot for one poll; failing: the base failed to answer last time."""
        return _Slot(self, self.failing if failing else self.prompt)


@dataclass(slots=True)
class _Slot:
    """A slot of one poll, in the prompt lane or in that of bases that failed."""

    slots: Slots
    lane: asyncio.Semaphore
    _timer: asyncio.TimerHandle | None = None
    _slow: bool = False

    async def __aenter__(self) -> None:
        with POLLS_WAITING.track_inprogress() if self.lane.locked() else nullcontext():
            await self.lane.acquire()
        if self.lane is self.slots.prompt:
            self._timer = asyncio.get_running_loop().call_later(PROMPT, self._move)

    async def __aexit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._slow:
            self.slots.slow_free += 1
        else:
            self.lane.release()

    def _move(self) -> None:
        if self.slots.slow_free:
            self.slots.slow_free -= 1
            self._slow = True
            self.lane.release()


@dataclass(slots=True)
class Offers:
    """Which commands a base offers, found out by asking it for help. timeout is in seconds.

    Runtimes before 1.4.1 know no batchInstallBiz, and bases may register commands of their own. What a base said holds
    for ten minutes, in which it may be replaced by another version; bases that could not be asked are asked again the
    next time.
    """

    call: Call
    timeout: float
    _offered: Recent[tuple[str, int], tuple[frozenset[str], float]] = field(
        default_factory=lambda: Recent(MOST_BASES), init=False
    )

    async def has(self, address: pb.Address, command: str) -> bool:
        """Return whether the base at an address offers a command; False also when it cannot be asked."""
        key = address.ip, address.port
        offered, since = self._offered.get(key, (frozenset[str](), float("-inf")))
        now = asyncio.get_running_loop().time()
        if now - since >= HOLDS:
            try:
                async with self.call(address, HELP, commands.EMPTY, self.timeout) as answer:
                    offered = payloads.help_commands(first_object(answer.body))
            except (NotSent, Lost, Malformed, Negative):
                return False
            self._offered[key] = offered, now
        return command in offered


def _now() -> float:
    return asyncio.get_running_loop().time()


def _report(base: str, verb: pb.Verb.ValueType, answer: Json, epoch: int) -> pb.Report:
    """Read the answer to a question. Raises Malformed or Negative."""
    if verb == pb.VERB_HEALTH:
        return pb.Report(base_id=base, health=payloads.health(answer))
    report = pb.Report(base_id=base, modules=payloads.modules(answer))
    report.modules.epoch = epoch
    return report
