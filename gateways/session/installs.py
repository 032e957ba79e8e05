"""What was installed on bases lately by the control plane's word, kept for whoever owns a base next.

The owner of a base records what it installed, and what it gave the base to start with,
along with the next renewal of a Lease, some seconds later. If it dies in between, its
successor learns from the gateway that these modules are the control plane's, and not
somebody else's. Bounded: by time, and by the number of bases.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

from gateways.arklet.facts import BaselineModule, BatchReply, Module, ModuleState, Reply, ReplyCode, Verb
from gateways.session.messages import Order, OrderResult

KEPT = 60.0
"""Seconds: several times what the record of an install takes."""
MAX_BASES = 4_096


class Installs:
    """Results of installs by base and module; times are monotonic seconds."""

    def __init__(self, max_bases: int = MAX_BASES) -> None:
        self._max = max_bases
        self._bases: OrderedDict[str, dict[tuple[str, str], tuple[OrderResult, float]]] = OrderedDict()

    def note(self, order: Order, result: OrderResult, now: float) -> None:
        """Take the outcome of an order."""
        reply = result.outcome.reply if isinstance(result.outcome, BatchReply) else result.outcome
        if not isinstance(reply, Reply):
            return
        keys = [(module.name, module.version) for module in order.modules]
        if order.verb is Verb.UNINSTALL:
            for key in keys:
                self._bases.get(order.base, {}).pop(key, None)
        elif order.verb is Verb.BATCH_INSTALL or (order.verb is Verb.INSTALL and reply.code is ReplyCode.SUCCESS):
            self._keep(keys, result, now)

    def note_baseline(self, base: str, query_id: str, given: Sequence[BaselineModule], now: float) -> None:
        """Take what a starting base was given: it installs that by itself."""
        if given:
            modules = tuple(Module(module.name, module.version, ModuleState.RESOLVED) for module in given)
            result = OrderResult(query_id, base, Reply(ReplyCode.SUCCESS, modules=modules))
            self._keep([(module.name, module.version) for module in given], result, now)

    def _keep(self, keys: Iterable[tuple[str, str]], result: OrderResult, now: float) -> None:
        self._bases.setdefault(result.base, {}).update(dict.fromkeys(keys, (result, now)))
        self._bases.move_to_end(result.base)
        self._forget(now)

    def of(self, base: str, now: float) -> tuple[OrderResult, ...]:
        """Return the results that the next owner of a base should have."""
        results = (result for result, at in self._bases.get(base, {}).values() if now - at <= KEPT)
        return tuple({result.order_id: result for result in results}.values())

    def _forget(self, now: float) -> None:
        while self._bases:
            base, modules = next(iter(self._bases.items()))
            if len(self._bases) <= self._max and any(now - at <= KEPT for _, at in modules.values()):
                return
            del self._bases[base]
