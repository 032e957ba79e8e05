"""Carries orders out: each order_id at most once, each with exactly one outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from gateways.arklet.facts import BatchReply, Reply
from gateways.session.installs import Installs
from gateways.session.ledger import Done, Full, Ledger, UnderWay
from gateways.session.messages import Order, OrderResult, Outcome, OutcomeUnknown, Refusal, Refused, Tunnel
from gateways.session.metrics import DUPLICATE_ORDERS, ORDERS, ORDERS_OPEN

log = structlog.get_logger(__name__)

GRACE = 2.0
"""Seconds beyond an order's timeout after which the tunnel itself is cut short."""


class Orders:
    """Orders under way; send is called with the replica that asked last and the result."""

    def __init__(self, send: Callable[[str, OrderResult], None]) -> None:
        self._send = send
        self._ledger = Ledger()
        self.installs = Installs()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ending = False

    def take(self, replica: str, order: Order, tunnel: Tunnel) -> None:
        """Carry an order out; a duplicate only has its outcome sent again, once known."""
        if self._ending:
            self.refuse(replica, order, Refusal.BUSY, "the gateway ends")
            return
        match self._ledger.admit(order.order_id, replica):
            case Done(result):
                DUPLICATE_ORDERS.inc()
                self._send(replica, result)
            case UnderWay():
                DUPLICATE_ORDERS.inc()
            case Full():
                self.refuse(replica, order, Refusal.BUSY, "too many orders are under way")
            case _:
                ORDERS_OPEN.set(len(self._ledger))
                task = asyncio.get_running_loop().create_task(
                    self._carry_out(order, tunnel), name=f"order {order.order_id}"
                )
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    def refuse(self, replica: str, order: Order, reason: Refusal, message: str) -> None:
        """Answer an order that was not begun; it may be sent again under the same id."""
        ORDERS.labels(verb=order.verb.value, outcome=reason.name.lower()).inc()
        self._send(replica, OrderResult(order.order_id, order.base, Refused(reason, message)))

    async def close(self, timeout: float) -> None:
        """Begin no more orders; wait for those under way, then report the rest as unknown."""
        self._ending = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout)
        await self.cancel()

    async def cancel(self) -> None:
        """End all orders under way at once; their outcome is unknown."""
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    async def _carry_out(self, order: Order, tunnel: Tunnel) -> None:
        outcome: Outcome = OutcomeUnknown("the gateway ended before the base answered")
        try:
            async with asyncio.timeout(order.timeout + GRACE):
                outcome = await tunnel.execute(order)
        except TimeoutError:
            outcome = OutcomeUnknown(f"no outcome within {order.timeout:g} s")
        except Exception as error:  # supervisor: a defect met with one base must not take the others down
            log.exception("defect while carrying out an order", base=order.base, verb=order.verb.value)
            outcome = OutcomeUnknown(f"the gateway failed: {type(error).__name__}")
        finally:
            result = OrderResult(order.order_id, order.base, outcome)
            self.installs.note(order, result, asyncio.get_running_loop().time())
            self._send(self._ledger.finish(result), result)
            ORDERS_OPEN.set(len(self._ledger))
            ORDERS.labels(verb=order.verb.value, outcome=_kind(outcome)).inc()
            log.info(
                "order done", base=order.base, verb=order.verb.value, outcome=_kind(outcome), module=_modules(order)
            )


def _modules(order: Order) -> str:
    return ",".join(f"{module.name}:{module.version}" for module in order.modules[:5])


def _kind(outcome: Outcome) -> str:
    match outcome:
        case Reply(code=code) | BatchReply(reply=Reply(code=code)):
            return code.value.lower()
        case Refused(reason=reason):
            return reason.name.lower()
        case _:
            return "unknown"
