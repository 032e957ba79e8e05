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
import itertools
import random
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.arklet.envelopes import Operation
from gateways.mqtt.clocks import GUARD
from gateways.session.outbox import Kept
from mqttclient.failures import Lost
from mqttclient.receipts import Receipt

CONFLICT_HOLD = 10.0
"""Seconds that a conflict waits for the real answer."""
AGAIN = 1.0
"""Seconds between two attempts to report a batch, before jitter."""
MAX_RECEIPTS = 4_096
"""More are not under way from any broker; the oldest is let go beyond that."""

_CONFLICT = "conflict, exist unfinished command("


class Waiting:
    """One order that waits for its answer, and for the message in which that came."""

    def __init__(self, sent_at: float) -> None:
        self._answer: asyncio.Future[pb.Reply] = asyncio.get_running_loop().create_future()
        self._receipt = Receipt()
        """That of an answer that nobody took yet; without effect while there is none."""
        self._hold: asyncio.TimerHandle | None = None
        self.sent_at = sent_at

    @property
    def open(self) -> bool:
        """Whether there is no answer yet."""
        return not self._answer.done()

    async def answer(self) -> tuple[pb.Reply, Receipt]:
        """Wait for the answer, whose receipt is then the caller's; the caller bounds the wait. Raises Lost."""
        reply = await self._answer
        receipt, self._receipt = self._receipt, Receipt()
        return reply, receipt

    def take(self, reply: pb.Reply, receipt: Receipt) -> None:
        """Take the answer, or keep it for a while if it is a conflict."""
        if not is_conflict(reply):
            self._settle(reply, receipt)
            return
        receipt.settle()
        if self._hold is None:
            self._hold = asyncio.get_running_loop().call_later(CONFLICT_HOLD, self._settle, reply, receipt)

    def interrupt(self, why: str) -> None:
        """End the wait without an answer."""
        if self.open:
            self._answer.set_exception(Lost(why))

    def end(self) -> None:
        """Wait no more; the receipt of an answer that nobody took is settled."""
        if self._hold is not None:
            self._hold.cancel()
        self._receipt.settle()

    def _settle(self, reply: pb.Reply, receipt: Receipt) -> None:
        if self.open:
            self._answer.set_result(reply)
            self._receipt = receipt


class Pending:
    """All orders that wait for an answer, by base, verb, name and version of the module."""

    def __init__(self) -> None:
        self._orders: dict[tuple[str, int, str, str], list[Waiting]] = {}

    @contextmanager
    def wait(self, base: str, verb: pb.Verb.ValueType, name: str, version: str, *, now: float) -> Iterator[Waiting]:
        """Within this context the answer to an order that is sent now finds it.

        Ends the wait of orders like it but for the first.
        """
        key = base, verb, name, version
        alike = self._orders.setdefault(key, [])
        for older in alike[1:]:
            older.interrupt("the order was given up for a newer one like it")
        waiting = Waiting(now)
        alike.append(waiting)
        try:
            yield waiting
        finally:
            alike.remove(waiting)
            if not alike:
                del self._orders[key]
            waiting.end()

    def answer(self, base: str, operation: Operation, made_at: float | None, receipt: Receipt) -> bool:
        """Give an order its answer; False when none waits for it. made_at is when the base said it, at the earliest."""
        for waiting in reversed(self._orders.get((base, operation.verb, operation.name, operation.version), ())):
            if waiting.open and (made_at is None or made_at + GUARD >= waiting.sent_at):
                waiting.take(operation.reply, receipt)
                return True
        return False

    def interrupt(self, why: str) -> None:
        """End all waits: what bases say from now on may not reach us."""
        for waiting in itertools.chain(*self._orders.values()):
            waiting.interrupt(why)


class Outcomes:
    """Receipts of order results and batches: they stay with the broker until the control plane has what they report."""

    def __init__(self, report: Callable[[pb.Report], bool]) -> None:
        self._report = report
        self._waiting: OrderedDict[str | tuple[str, bytes], Receipt] = OrderedDict()
        """By order_id, or base and batch result."""
        self._unreported: dict[tuple[str, bytes], tuple[pb.Report, Receipt]] = {}

    def wait(self, key: str | tuple[str, bytes], receipt: Receipt) -> None:
        """The outcome of an order that is reported, or a batch result that was, came in a message."""
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

    def settled(self, kept: Kept) -> None:
        """The control plane has it."""
        key = kept.order_id if isinstance(kept, pb.OrderResult) else _key(kept)
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
