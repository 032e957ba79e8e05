"""Orders that wait for the word of a base, and how that word finds them.

A base names command, module and version in its answer, and nothing else. The control
plane sends an order like an earlier one only after it gave that up, while the base may
still be at it: a long download, say. So the newest order gets the answer; but if the
base refused that one because it is busy, the answer that follows is the first one's,
which therefore goes on waiting. An answer that the base gave before an order was sent
belongs to an older one and is left alone.

A base that gets a command twice (QoS 1 may deliver so) answers the second one with a
conflict before it answers the first one with what really happened. So a conflict is
kept for ``CONFLICT_HOLD`` seconds, in which the real answer takes its place; where it
does not come, the conflict is the answer: something else holds this module's lock.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TypeAlias

from gateways.arklet.envelopes import Operation
from gateways.arklet.facts import ClientCode, Reply, ReplyCode, Verb
from gateways.mqtt.clocks import GUARD
from mqttclient.receipts import Receipt

CONFLICT_HOLD = 10.0
"""Seconds that a conflict waits for the real answer."""
_CONFLICT = "conflict, exist unfinished command("

Key: TypeAlias = tuple[str, Verb, str, str]


class Interrupted(Exception):
    """The answer can not arrive any more; the message says why."""


@dataclass(frozen=True, slots=True)
class Answered:
    """What a base said, and the message that stays unacknowledged until the control plane has it."""

    reply: Reply
    receipt: Receipt | None


class Waiting:
    """One order that waits; a context manager. Entering it ends the wait of orders like it but for the first."""

    def __init__(self, orders: dict[Key, list[Waiting]], key: Key, sent_at: float) -> None:
        self._orders = orders
        self._key = key
        self._answer: asyncio.Future[Answered] = asyncio.get_running_loop().create_future()
        self._hold: asyncio.TimerHandle | None = None
        self._given_away = False
        self.sent_at = sent_at

    def __enter__(self) -> Waiting:
        alike = self._orders.setdefault(self._key, [])
        for older in alike[1:]:
            older.interrupt("the order was given up for a newer one like it")
        alike.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        alike = self._orders[self._key]
        alike.remove(self)
        if not alike:
            del self._orders[self._key]
        if self._hold is not None:
            self._hold.cancel()
        if self._answer.cancel() or self._answer.exception() is not None or self._given_away:
            return
        receipt = self._answer.result().receipt
        if receipt is not None:
            receipt.settle()

    @property
    def open(self) -> bool:
        """Whether there is no answer yet."""
        return not self._answer.done()

    async def answer(self) -> Answered:
        """Wait for the answer, whose receipt is then the caller's; the caller bounds the wait. Raises Interrupted."""
        answered = await self._answer
        self._given_away = True
        return answered

    def take(self, reply: Reply, receipt: Receipt) -> None:
        """Take the answer, or keep it for a while if it is a conflict."""
        if not is_conflict(reply):
            self._settle(Answered(reply, receipt))
            return
        receipt.settle()
        if self._hold is None:
            loop = asyncio.get_running_loop()
            self._hold = loop.call_later(CONFLICT_HOLD, self._settle, Answered(reply, None))

    def interrupt(self, why: str) -> None:
        """End the wait without an answer."""
        if self.open:
            self._answer.set_exception(Interrupted(why))

    def _settle(self, answered: Answered) -> None:
        if self.open:
            self._answer.set_result(answered)


class Pending:
    """All orders that wait for an answer."""

    def __init__(self) -> None:
        self._orders: dict[Key, list[Waiting]] = {}

    def __len__(self) -> int:
        return sum(len(alike) for alike in self._orders.values())

    def wait(self, base: str, verb: Verb, name: str, version: str, *, now: float) -> Waiting:
        """Return a context within which the answer to an order that is sent now finds it."""
        return Waiting(self._orders, (base, verb, name, version), now)

    def answer(self, base: str, operation: Operation, made_at: float | None, receipt: Receipt) -> bool:
        """Give an order its answer; False when none waits for it. made_at is when the base said it, at the earliest."""
        for waiting in reversed(self._orders.get((base, operation.verb, operation.name, operation.version), ())):
            if waiting.open and (made_at is None or made_at + GUARD >= waiting.sent_at):
                waiting.take(operation.reply, receipt)
                return True
        return False

    def interrupt(self, why: str) -> None:
        """End all waits: what bases say from now on may not reach us."""
        for alike in self._orders.values():
            for waiting in alike:
                waiting.interrupt(why)


def is_conflict(reply: Reply) -> bool:
    """Tell whether another command holds the lock of the module."""
    plain = reply.code is ReplyCode.FAILED and reply.client_code is ClientCode.UNSPECIFIED
    return plain and _CONFLICT in reply.message
