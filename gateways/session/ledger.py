"""Orders under way and done, so that one order_id is carried out at most once.

Bounded: at most ``max_open`` orders are under way, and the outcomes of the
``max_done`` most recently finished ones are remembered. A duplicate older than
that is carried out again only if its fence still holds, which bounds the harm.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from gateways.session.messages import OrderResult

MAX_OPEN = 1_024
MAX_DONE = 4_096


@dataclass(frozen=True, slots=True)
class New:
    """The order is to be carried out; it counts as under way."""


@dataclass(frozen=True, slots=True)
class UnderWay:
    """The order is being carried out; its result will go to who asked last."""


@dataclass(frozen=True, slots=True)
class Done:
    """The order was carried out: this is its outcome."""

    result: OrderResult


@dataclass(frozen=True, slots=True)
class Full:
    """There are too many orders under way."""


class Ledger:
    """Deduplicates orders by order_id."""

    def __init__(self, *, max_open: int = MAX_OPEN, max_done: int = MAX_DONE) -> None:
        self._max_open = max_open
        self._max_done = max_done
        self._open: dict[str, str] = {}
        self._done: OrderedDict[str, OrderResult] = OrderedDict()

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, order_id: str, replica: str) -> New | UnderWay | Done | Full:
        """Decide what to do with an order that arrived from a replica."""
        if order_id in self._open:
            self._open[order_id] = replica
            return UnderWay()
        done = self._done.get(order_id)
        if done is not None:
            return Done(done)
        if len(self._open) >= self._max_open:
            return Full()
        self._open[order_id] = replica
        return New()

    def finish(self, result: OrderResult) -> str:
        """Remember the outcome of an order under way; return the replica that is to have it."""
        replica = self._open.pop(result.order_id)
        self._done[result.order_id] = result
        if len(self._done) > self._max_done:
            self._done.popitem(last=False)
        return replica
