"""The links of a gateway with the control plane: streams to all replicas, and what comes down on them.

Guarantees: an order_id is carried out at most once and has exactly one outcome, which is kept until the replica that
ordered it acknowledged it; an Order, Watch or Claim with a lower fence than was seen for its base has no effect. Not
guaranteed: that a report arrives while no stream is up; ``Outboxes.report`` says so by returning False.
"""

import asyncio
import contextlib
import functools
import random
import time
import uuid
from collections.abc import Sequence
from typing import NoReturn, Protocol

import structlog
from koupleless.tunnel.v1 import tunnel_pb2 as pb

from gateways.session.directory import Directory
from gateways.session.endpoints import resolve
from gateways.session.metrics import MALFORMED, STALE, STREAMS, WATCHED
from gateways.session.observed import observed
from gateways.session.orders import Orders, of_order, refused
from gateways.session.outbox import Outbox
from gateways.session.outboxes import Outboxes
from gateways.session.routing import Routing
from gateways.session.stream import GOODBYE_TIMEOUT, ReplicaStream
from gateways.session.validation import InvalidMessage, check
from grpcclient.access import ClientAccess
from service.limits import LogLimit

log = structlog.get_logger(__name__)

RESOLVE_INTERVAL = 15.0
"""Seconds between two looks at the configured names, before jitter."""
TICK = 1.0
"""Seconds between two looks for Watches that were not renewed."""
STOOD_STILL = 5.0
"""Seconds without such a look after which bases may have said what was not heard."""
UNREACHABLE_AFTER = 3
"""Failures in a row after which other ways to a replica are tried."""
MAX_QUERIES = 1_024
LOG_EVERY = 60.0
"""Seconds between two log lines about messages of one replica that were not understood."""
ASK_AGAIN = 1.5
"""Seconds after which a baseline query that was not answered is sent again."""


class Unavailable(Exception):
    """No replica can be asked now; the message says why."""


class Tunnel(Protocol):
    """What a tunnel does for the control plane. Fences and duplicates were checked before."""

    async def execute(self, order: pb.Order) -> pb.OrderResult:
        """Carry out an order within its timeout; the result needs no ids.

        When cancelled the order may or may not have taken effect.
        """

    def watch(self, watch: pb.Watch) -> None:
        """Poll a base from now on, or as this Watch says if it is polled already."""

    def unwatch(self, base: str) -> None:
        """Stop polling a base."""

    def settled(self, kept: pb.Report) -> None:
        """Nobody else need keep this outcome: a replica has it, or it is kept here, or it was dropped. May repeat."""


class ControlPlaneLinks:
    """Streams to all replicas: what is in the outboxes goes up, orders and Watches come down to the tunnel."""

    def __init__(self, hello: pb.Hello, endpoints: Sequence[str], access: ClientAccess) -> None:
        self._hello = hello
        self._access = access
        self._endpoints = tuple(endpoints)
        self._tunnel: Tunnel
        """There as long as streams are: set by run, as is the group."""
        self._group: asyncio.TaskGroup
        self._directory = Directory()
        self._routing = Routing()
        self._acknowledged = asyncio.Event()
        self._ending = False
        self._streams: dict[str, tuple[ReplicaStream, asyncio.Task[None]]] = {}
        self._serving: dict[str, ReplicaStream] = {}
        self.outboxes = Outboxes(self._routing, lambda kept: self._tunnel.settled(kept))
        self._orders = Orders(self.outboxes.result)
        self._queries: dict[str, asyncio.Future[list[pb.ModuleRef]]] = {}
        self._lines = LogLimit(LOG_EVERY)
        STREAMS.set_function(lambda: len(self._serving))
        WATCHED.set_function(lambda: self._routing.watched)

    @property
    def connected(self) -> int:
        """How many replicas have a welcomed stream."""
        return len(self._serving)

    async def run(self, tunnel: Tunnel) -> NoReturn:
        """Keep streams to all replicas and serve them with the tunnel, until cancelled."""
        self._tunnel = tunnel
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                group.create_task(self._keep_resolving(), name="resolve endpoints")
                group.create_task(self._keep_sweeping(), name="expire watches")
        finally:
            await self._orders.cancel()
        raise AssertionError("its tasks never end by themselves")

    async def close(self, timeout: float) -> None:
        """Take no more orders, let those under way finish or report them as unknown, flush, say Goodbye."""
        deadline = asyncio.get_running_loop().time() + timeout
        await self._orders.close(timeout * 0.7)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                while any(not self.outboxes[replica].idle for replica in self._serving):
                    self._acknowledged.clear()
                    await self._acknowledged.wait()
        self._ending = True
        streams = list(self._streams.values())
        for stream, task in streams:
            if not stream.leave("the gateway ends"):
                task.cancel()
        if streams:
            await asyncio.wait([task for _, task in streams], timeout=GOODBYE_TIMEOUT)

    async def baseline(self, query: pb.Report) -> list[pb.ModuleRef]:
        """Ask which modules a base should start with; the caller bounds the wait. Raises Unavailable."""
        if len(self._queries) >= MAX_QUERIES:
            raise Unavailable("too many baseline questions wait for an answer")
        query_id = query.baseline_query.query_id = uuid.uuid4().hex
        answer: asyncio.Future[list[pb.ModuleRef]] = asyncio.get_running_loop().create_future()
        self._queries[query_id] = answer
        try:
            again = False
            while not answer.done():
                # The owner answers, or one of all; asked again, all that can: the owner may hang.
                self.outboxes.withdraw(query)
                if not self.outboxes.report(query, everybody=again):
                    raise Unavailable("no control plane replica is connected")
                again = True
                await asyncio.wait((answer,), timeout=ASK_AGAIN)
        finally:
            del self._queries[query_id]
            self.outboxes.withdraw(query)
        modules = answer.result()
        self._orders.installs.note_baseline(query.base_id, query_id, modules, asyncio.get_running_loop().time())
        return modules

    # Calls of streams.

    def welcomed(self, stream: ReplicaStream, welcome: pb.Welcome) -> Outbox | None:
        """Begin to serve a replica unless another stream does."""
        replica = welcome.replica_id
        self._directory.answered(stream.endpoint, replica)
        self._directory.members(replica, welcome.members)
        if replica in self._serving or stream.endpoint not in self._wanted():
            return None
        outbox = self.outboxes.open(welcome, stream.wake)
        self._serving[replica] = stream
        self._routing.welcomed(replica, time.monotonic())
        self._refresh()
        return outbox

    def received(self, stream: ReplicaStream, message: pb.ConnectResponse) -> None:
        """Act on a message of a replica; an order that cannot be acted on is refused."""
        order = message.order
        try:
            check(message)
        except InvalidMessage as error:
            MALFORMED.inc()
            held = self._lines.admit(stream.endpoint, time.monotonic())
            if held is not None:
                log.warning("message not understood", endpoint=stream.endpoint, reason=str(error), more=held)
            if order.order_id:
                result = refused(pb.REFUSAL_REASON_INVALID, str(error))
                self.outboxes.result(stream.replica, of_order(order, result))
        else:
            self._act(stream.replica, message)

    def _act(self, replica: str, message: pb.ConnectResponse) -> None:
        match message.WhichOneof("message"):
            case "reports_ack":
                self.outboxes.acknowledged(replica, message.reports_ack.seq)
                self._acknowledged.set()
            case "order":
                self._order(replica, message.order)
            case "watch":
                self._watch(replica, message.watch)
            case "unwatch":
                self._unwatch(replica, message.unwatch)
            case "claim":
                self._claim(replica, message.claim)
            case "release":
                if self._admit(replica, message.release):
                    self._routing.release(message.release.base_id, replica)
            case "baseline_answer":
                self._baseline(message.baseline_answer)
            case "members":
                self._directory.members(replica, message.members.members)
                self._refresh()
            case "mark":
                self.outboxes[replica].mark()
            case "drain":
                log.info("replica drains", replica=replica, reason=message.drain.reason)
                self._routing.disown(replica)

    def _baseline(self, answer: pb.BaselineAnswer) -> None:
        asked = self._queries.get(answer.query_id)
        if asked is not None and not asked.done():
            asked.set_result([*answer.modules])

    def ended(self, stream: ReplicaStream, failures: int) -> None:
        """Stop serving a replica."""
        replica = stream.replica
        if self._serving.get(replica) is stream:
            del self._serving[replica]
            self._routing.lost(replica, time.monotonic())
            self.outboxes.lost(replica, time.monotonic())
        if failures >= UNREACHABLE_AFTER:
            self._directory.unreachable(stream.endpoint)
        self._refresh()

    # Orders, Watches and Claims.

    def _order(self, replica: str, order: pb.Order) -> None:
        if not self._admit(replica, order):
            why = f"a higher fence than {order.fence} was seen for this base"
            self._orders.refuse(replica, order, pb.REFUSAL_REASON_STALE_FENCE, why)
        elif not self.outboxes[replica].has_room:
            self._orders.refuse(replica, order, pb.REFUSAL_REASON_BUSY, "too many results wait to be acknowledged")
        else:
            self._orders.take(replica, order, self._tunnel.execute)

    def _watch(self, replica: str, watch: pb.Watch) -> None:
        if self._admit(replica, watch):
            self._routing.watch(watch.base_id, replica)
            self.outboxes.send_in_full(watch.base_id)
            self._tunnel.watch(watch)

    def _unwatch(self, replica: str, unwatch: pb.Unwatch) -> None:
        if self._admit(replica, unwatch) and self._routing.unwatch(unwatch.base_id, replica):
            self._unwatched(unwatch.base_id)

    def _unwatched(self, base: str) -> None:
        self.outboxes.send_in_full(base)
        self._tunnel.unwatch(base)

    def _claim(self, replica: str, claim: pb.Claim) -> None:
        base, before = claim.base_id, self._routing.fence(claim.base_id)
        if not self._admit(replica, claim):
            return
        self._routing.claim(base, replica)
        if before and claim.fence > before:
            # The last owner may have had no time to record what it installed.
            for result in self._orders.installs.of(base, asyncio.get_running_loop().time()):
                self.outboxes.keep(replica, result)
        self.outboxes.hand_on(base, replica)

    def _admit(self, replica: str, message: pb.Order | pb.Watch | pb.Unwatch | pb.Claim | pb.Release) -> bool:
        base, kind = message.base_id, type(message).__name__
        if self._routing.admit(base, message.fence):
            return True
        STALE.labels(message=kind).inc()
        log.info("stale fence refused", base=base, message=kind, fence=message.fence)
        # It may be right all the same: a Lease that was recreated begins lower where its maker's clock is behind.
        seen = pb.Report(base_id=base, fence_seen=pb.FenceSeen(fence=self._routing.fence(base)))
        self.outboxes[replica].put(observed(seen), time.monotonic())
        return False

    # Streams.

    def _refresh(self) -> None:
        """Have streams to exactly the wanted endpoints; to no more of them once Goodbye was said."""
        if self._ending:
            return
        wanted = self._wanted()
        for endpoint in sorted(wanted - self._streams.keys()):
            stream = ReplicaStream(endpoint, self._hello, self._access, self)
            task = self._group.create_task(stream.run(), name=f"stream {endpoint}")
            self._streams[endpoint] = (stream, task)
            task.add_done_callback(functools.partial(self._forget, endpoint))
        for endpoint in sorted(self._streams.keys() - wanted):
            stream, task = self._streams[endpoint]
            if not stream.leave("the replica is reached elsewhere"):
                task.cancel()

    def _wanted(self) -> frozenset[str]:
        return self._directory.wanted({replica: stream.endpoint for replica, stream in self._serving.items()})

    def _forget(self, endpoint: str, _task: asyncio.Task[None]) -> None:
        del self._streams[endpoint]

    async def _keep_resolving(self) -> NoReturn:
        warned = False
        while True:
            found = await asyncio.gather(*(resolve(endpoint) for endpoint in self._endpoints))
            addresses = [address for addresses in found for address in addresses]
            if addresses:
                self._directory.configure(addresses)
            elif not warned:
                log.warning("no address for the control plane", endpoints=self._endpoints)
            warned = not addresses
            self._refresh()
            interval = RESOLVE_INTERVAL if self._serving else TICK
            await asyncio.sleep(interval * (0.75 + random.random() / 2))  # noqa: S311 - jitter

    async def _keep_sweeping(self) -> NoReturn:
        now = time.monotonic()
        while True:
            await asyncio.sleep(TICK)
            before, now = now, time.monotonic()
            if now - before >= STOOD_STILL:
                log.warning("the gateway stood still", seconds=round(now - before, 1))
                self.outboxes.gap()
            for base in self._routing.expire(now):
                log.info("no longer watched: its replica did not renew it", base=base)
                self._unwatched(base)
            self.outboxes.sweep(now)
