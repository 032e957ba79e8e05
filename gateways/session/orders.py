"""Carries orders out: each order_id at most once, each with exactly one outcome.

Bounded: at most ``MAX_OPEN`` orders are under way, and the outcomes of the ``MAX_DONE`` most recently finished ones are
remembered. A duplicate older than that is carried out again only if its fence still holds, which bounds the harm.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TypeAlias

import structlog
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.arklet.commands import COMMANDS
from gateways.session.metrics import DUPLICATE_ORDERS, ORDERS, ORDERS_OPEN
from gateways.session.observed import observed
from gateways.session.validation import seconds
from service.limits import Recent

log = structlog.get_logger(__name__)

GRACE = 2.0
"""Seconds beyond an order's timeout after which the tunnel itself is cut short."""
MAX_OPEN = 1_024
MAX_DONE = 4_096
KEPT = 60.0
"""Seconds for which installs are remembered: several times what the record of an install takes."""
MAX_BASES = 4_096
"""Bases whose installs are remembered."""

Execute: TypeAlias = Callable[[pb.Order], Awaitable[pb.OrderResult]]


def refused(reason: pb.RefusalReason.ValueType, message: str) -> pb.OrderResult:
    """Return the outcome of an order that had no effect, without the ids of the order."""
    return pb.OrderResult(refused=pb.Refused(reason=reason, message=message))


def unknown(message: str) -> pb.OrderResult:
    """Return the outcome of an order that may or may not have taken effect, without the ids of the order."""
    return pb.OrderResult(unknown=pb.Unknown(message=message))


def of_order(order: pb.Order, result: pb.OrderResult) -> pb.Report:
    """Return the report that this is the outcome of an order."""
    result.order_id = order.order_id
    return observed(pb.Report(base_id=order.base_id, order_result=result))


class Orders:
    """Orders under way and done; send is called with the replica that asked last and the report of the outcome."""

    def __init__(self, send: Callable[[str, pb.Report], None]) -> None:
        self._send = send
        self.installs = Installs()
        self._open: dict[str, str] = {}
        """By order under way: the replica that asked last."""
        self._done: Recent[str, pb.Report] = Recent(MAX_DONE)
        self._tasks: set[asyncio.Task[None]] = set()
        self._ending = False
        ORDERS_OPEN.set_function(lambda: len(self._open))

    def take(self, replica: str, order: pb.Order, execute: Execute) -> None:
        """Carry an order out; a duplicate only has its outcome sent again, once known."""
        if order.order_id in self._open:
            DUPLICATE_ORDERS.inc()
            self._open[order.order_id] = replica
        elif (done := self._done.get(order.order_id)) is not None:
            DUPLICATE_ORDERS.inc()
            self._send(replica, done)
        elif self._ending:
            self.refuse(replica, order, pb.REFUSAL_REASON_BUSY, "the gateway ends")
        elif len(self._open) >= MAX_OPEN:
            self.refuse(replica, order, pb.REFUSAL_REASON_BUSY, "too many orders are under way")
        else:
            self._open[order.order_id] = replica
            task = asyncio.create_task(self._carry_out(order, execute), name=f"order {order.order_id}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def refuse(self, replica: str, order: pb.Order, reason: pb.RefusalReason.ValueType, message: str) -> None:
        """Answer an order that was not begun; it may be sent again under the same id."""
        result = refused(reason, message)
        ORDERS.labels(verb=COMMANDS[order.verb], outcome=_label(result)).inc()
        self._send(replica, of_order(order, result))

    async def close(self, timeout: float) -> None:
        """Begin no more orders; wait for those under way, then report the rest as unknown."""
        self._ending = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout)
        await self.cancel()

    async def cancel(self) -> None:
        """End all orders under way at once; their outcome is unknown."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _carry_out(self, order: pb.Order, execute: Execute) -> None:
        timeout, verb = seconds(order.timeout), COMMANDS[order.verb]
        result = unknown("the gateway ended before the base answered")
        try:
            async with asyncio.timeout(timeout + GRACE):
                result = await execute(order)
        except TimeoutError:
            result = unknown(f"no outcome within {timeout:g} s")
        except Exception as error:  # supervisor: a defect met with one base must not take the others down
            log.exception("defect while carrying out an order", base=order.base_id, verb=verb)
            result = unknown(f"the gateway failed: {type(error).__name__}")
        finally:
            report = of_order(order, result)
            self.installs.note(order, report, asyncio.get_running_loop().time())
            self._done[order.order_id] = report
            self._send(self._open.pop(order.order_id), report)
            ORDERS.labels(verb=verb, outcome=_label(result)).inc()
            modules = ",".join(f"{module.name}:{module.version}" for module in order.modules[:5])
            log.info("order done", base=order.base_id, verb=verb, outcome=_label(result), module=modules)


class Installs:
    """What was installed on bases lately for the control plane, kept for whoever owns a base next.

    The owner of a base records what it installed, and what it gave the base to start with, along with the next renewal
    of a Lease, some seconds later. If it dies in between, its successor learns from the gateway that these modules are
    the control plane's, and not somebody else's. Bounded by time and by the number of bases; times are monotonic
    seconds.
    """

    def __init__(self) -> None:
        self._bases: Recent[str, dict[tuple[str, str], tuple[pb.Report, float]]] = Recent(MAX_BASES)

    def note(self, order: pb.Order, report: pb.Report, now: float) -> None:
        """Take the outcome of an order."""
        result = report.order_result
        if result.WhichOneof("outcome") not in ("reply", "batch"):
            return
        keys = [(module.name, module.version) for module in order.modules]
        if order.verb == pb.VERB_UNINSTALL:
            for key in keys:
                self._bases.get(order.base_id, {}).pop(key, None)
        elif order.verb == pb.VERB_BATCH_INSTALL or (
            order.verb == pb.VERB_INSTALL and result.reply.code == pb.REPLY_CODE_SUCCESS
        ):
            self._keep(keys, report, now)

    def note_baseline(self, base: str, query_id: str, given: Sequence[pb.ModuleRef], now: float) -> None:
        """Take what a starting base was given: it installs that by itself."""
        if given:
            modules = [pb.Module(name=m.name, version=m.version, state=pb.MODULE_STATE_RESOLVED) for m in given]
            reply = pb.Reply(code=pb.REPLY_CODE_SUCCESS, modules=modules)
            report = observed(pb.Report(base_id=base, order_result=pb.OrderResult(order_id=query_id, reply=reply)))
            self._keep([(module.name, module.version) for module in given], report, now)

    def of(self, base: str, now: float) -> list[pb.Report]:
        """Return the results that the next owner of a base should have."""
        reports = (report for report, at in self._bases.get(base, {}).values() if now - at <= KEPT)
        return [*{report.order_result.order_id: report for report in reports}.values()]

    def _keep(self, keys: Iterable[tuple[str, str]], report: pb.Report, now: float) -> None:
        before = self._bases.get(report.base_id, {})
        lately = {key: kept for key, kept in before.items() if now - kept[1] <= KEPT}
        self._bases[report.base_id] = lately | dict.fromkeys(keys, (report, now))


def _label(result: pb.OrderResult) -> str:
    kind = result.WhichOneof("outcome")
    if kind == "refused":
        return pb.RefusalReason.Name(result.refused.reason).removeprefix("REFUSAL_REASON_").lower()
    if kind not in ("reply", "batch"):
        return "unknown"
    code = result.reply.code if kind == "reply" else result.batch.reply.code
    return pb.ReplyCode.Name(code).removeprefix("REPLY_CODE_").lower()
