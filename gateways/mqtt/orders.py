"""Orders under way at bases: which answer belongs to which, and how long the broker keeps the answer.

A base names command, module and version in its answer, and nothing else. The control plane sends an order like an
earlier one only after it gave that up, while the base may still be at it. So the newest order gets the answer; but if
the base refused that one because it is busy, the next answer is the first one's, which therefore goes on waiting. An
answer that the base gave before an order was sent belongs to an older one and is left alone.

A base that gets a command twice (QoS 1 may deliver so) answers the second one with a conflict before it answers the
first one. So a conflict is kept for ``CONFLICT_HOLD`` seconds, in which the real answer takes its place; where that
does not come, the conflict is the answer: something else holds this module's lock.
"""

import asyncio
import random
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NoReturn

from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.arklet.envelopes import Operation
from gateways.mqtt.clocks import GUARD
from mqttclient.failures import Lost
from mqttclient.receipts import Receipt

CONFLICT_HOLD = 10.0
"""Seconds that a conflict waits for the real answer."""
AGAIN = 1.0
"""Seconds between two attempts to report a batch, before jitter."""
MAX_RECEIPTS = 4_096
"""More are not under way from any broker; the oldest is let go beyond that."""

_CONFLICT = "conflict, exist unfinished command("


@dataclass(slots=True, eq=False)
class Waiting:
    """One order that waits for its answer."""

    order_id: str
    sent_at: float
    answer: asyncio.Future[pb.Reply]
    hold: asyncio.TimerHandle | None = None
    """While there is nothing but a conflict."""


class Pending:
    """All orders that wait for an answer, by base, verb, name and version of the module.

    answered is called with an order and the receipt of the message in which its answer came.
    """

    def __init__(self, answered: Callable[[str, Receipt], None]) -> None:
        self._answered = answered
        self._orders: dict[tuple[str, int, str, str], list[Waiting]] = {}

    @contextmanager
    def wait(self, order: pb.Order) -> Iterator[asyncio.Future[pb.Reply]]:
        """Within this context the answer to an order that is sent now finds it; the future may raise Lost.

        Ends the wait of orders like it but for the first.
        """
        loop, module = asyncio.get_running_loop(), order.modules[0]
        key = order.base_id, order.verb, module.name, module.version
        alike = self._orders.setdefault(key, [])
        interrupt((older.answer for older in alike[1:]), "the order was given up for a newer one like it")
        waiting = Waiting(order.order_id, loop.time(), loop.create_future())
        alike.append(waiting)
        try:
            yield waiting.answer
        finally:
            alike.remove(waiting)
            if not alike:
                del self._orders[key]
            if waiting.hold is not None:
                waiting.hold.cancel()

    def answer(self, base: str, operation: Operation, made_at: float | None, receipt: Receipt) -> bool:
        """Give an order its answer; False when none waits for it. made_at is when the base said it, at the earliest."""
        for waiting in reversed(self._orders.get((base, operation.verb, operation.name, operation.version), ())):
            if not waiting.answer.done() and (made_at is None or made_at + GUARD >= waiting.sent_at):
                self._give(waiting, operation.reply, receipt)
                return True
        return False

    def _give(self, waiting: Waiting, reply: pb.Reply, receipt: Receipt) -> None:
        if not is_conflict(reply):
            waiting.answer.set_result(reply)
            self._answered(waiting.order_id, receipt)
            return
        receipt.settle()
        if waiting.hold is None:
            waiting.hold = asyncio.get_running_loop().call_later(CONFLICT_HOLD, _settle, waiting.answer, reply)

    def interrupt(self, why: str) -> None:
        """End all waits: what bases say from now on may not reach us."""
        interrupt((waiting.answer for alike in self._orders.values() for waiting in alike), why)


def interrupt(answers: Iterable[asyncio.Future[Any]], why: str) -> None:
    """End waits without an answer: they raise Lost."""
    for answer in answers:
        if not answer.done():
            answer.set_exception(Lost(why))
            answer.exception()  # who waits may have ended already


def _settle(answer: asyncio.Future[pb.Reply], reply: pb.Reply) -> None:
    if not answer.done():
        answer.set_result(reply)


class Outcomes:
    """Receipts of order results and batches: they stay with the broker until the control plane has what they report."""

    def __init__(self, report: Callable[[pb.Report], bool]) -> None:
        self._report = report
        self._waiting: OrderedDict[str | tuple[str, bytes], Receipt] = OrderedDict()
        """By order_id, or base and batch result."""
        self._unreported: dict[tuple[str, bytes], tuple[pb.Report, Receipt]] = {}

    def wait(self, key: str | tuple[str, bytes], receipt: Receipt) -> None:
        """The answer to an order, or a batch result that was reported, came in a message."""
        self._waiting[key] = receipt
        if len(self._waiting) > MAX_RECEIPTS:
            self._waiting.popitem(last=False)[1].settle()

    def batch(self, report: pb.Report, receipt: Receipt) -> None:
        """Report how a batch went, now or as soon as a replica can be reached."""
        key = _key(report)
        if key in self._waiting or key in self._unreported:
            receipt.settle()
        elif self._report(report):
            self.wait(key, receipt)
        elif len(self._unreported) < MAX_RECEIPTS:
            self._unreported[key] = report, receipt
        else:
            receipt.settle()

    def settled(self, kept: pb.Report) -> None:
        """The control plane has it."""
        key = kept.order_result.order_id or _key(kept)
        if (receipt := self._waiting.pop(key, None)) is not None:
            receipt.settle()

    async def keep_reporting(self) -> NoReturn:
        """Report batches that could not be reported at once, until cancelled."""
        while True:
            await asyncio.sleep(AGAIN * (0.5 + random.random()))  # noqa: S311 - jitter
            for key, (report, receipt) in list(self._unreported.items()):
                if not self._report(report):
                    break
                del self._unreported[key]
                self.wait(key, receipt)

    def forget(self) -> None:
        """The connection that the receipts belong to is gone; what was not reported yet still is."""
        self._waiting.clear()


def is_conflict(reply: pb.Reply) -> bool:
    """Return whether another command holds the lock of the module."""
    plain = reply.code == pb.REPLY_CODE_FAILED and reply.client_code == pb.CLIENT_CODE_UNSPECIFIED
    return plain and _CONFLICT in reply.message


def _key(report: pb.Report) -> tuple[str, bytes]:
    return report.base_id, report.batch_install_result.SerializeToString(deterministic=True)
