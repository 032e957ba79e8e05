"""Messages that stay with the broker until the control plane has what they told."""

from __future__ import annotations

import asyncio
import random
from collections import OrderedDict
from collections.abc import Callable
from typing import NoReturn

import structlog

from gateways.arklet.facts import BatchReply
from gateways.session.messages import Fact, OrderResult, Report
from mqttclient.receipts import Receipt

log = structlog.get_logger(__name__)

AGAIN = 1.0
"""Seconds between two attempts to tell of a batch, before jitter."""
MAX_RECEIPTS = 4_096
"""More are not under way from any broker; the oldest is let go beyond that."""


class Outcomes:
    """Receipts of results and batches by what they wait for."""

    def __init__(self, report: Callable[[str, Fact], bool]) -> None:
        self._report = report
        self._orders: OrderedDict[str, Receipt] = OrderedDict()
        self._batches: OrderedDict[tuple[str, BatchReply], Receipt] = OrderedDict()
        self._untold: OrderedDict[tuple[str, BatchReply], Receipt] = OrderedDict()

    def order(self, order_id: str, receipt: Receipt) -> None:
        """The outcome of an order came in a message."""
        self._orders[order_id] = receipt
        if len(self._orders) > MAX_RECEIPTS:
            self._orders.popitem(last=False)[1].settle()

    def batch(self, base: str, reply: BatchReply, receipt: Receipt) -> None:
        """Tell how a batch went, now or as soon as a replica can be told."""
        key = base, reply
        if key in self._batches or key in self._untold:
            receipt.settle()
        elif self._report(base, reply):
            self._batches[key] = receipt
            if len(self._batches) > MAX_RECEIPTS:
                self._batches.popitem(last=False)[1].settle()
        elif len(self._untold) < MAX_RECEIPTS:
            self._untold[key] = receipt
        else:
            receipt.settle()

    def settled(self, kept: OrderResult | Report) -> None:
        """The control plane has it."""
        receipt = None
        if isinstance(kept, OrderResult):
            receipt = self._orders.pop(kept.order_id, None)
        elif isinstance(kept.fact, BatchReply):
            receipt = self._batches.pop((kept.base, kept.fact), None)
        if receipt is not None:
            receipt.settle()

    async def tell(self) -> NoReturn:
        """Tell of batches that nobody could be told of, until cancelled."""
        while True:
            await asyncio.sleep(AGAIN * (0.5 + random.random()))  # noqa: S311 - jitter
            for key, receipt in list(self._untold.items()):
                if not self._report(*key):
                    break
                del self._untold[key]
                self._batches[key] = receipt

    def forget(self) -> None:
        """The connection that the receipts belong to is gone; what was not told yet is still told."""
        self._orders.clear()
        self._batches.clear()
