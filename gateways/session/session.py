"""The session of a gateway with the control plane: all streams, and what goes where.

Guarantees: an order_id is carried out at most once and has exactly one outcome,
which is kept until the replica that ordered it acknowledged it; an Order, Watch or
Claim with a lower fence than was seen for its base has no effect. Not guaranteed:
that a report arrives while no stream is up; ``report`` says so by returning False.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
import time
import uuid
from collections.abc import Sequence
from typing import NoReturn, assert_never

import structlog

from gateways.arklet.facts import BaselineModule, Health, Metadata
from gateways.session import messages as m
from gateways.session.codec import MalformedOrder
from gateways.session.directory import Directory
from gateways.session.endpoints import resolve
from gateways.session.metrics import REPORTS, STALE, STREAMS, WATCHED
from gateways.session.orders import Orders
from gateways.session.outbox import Kept, Outbox
from gateways.session.outboxes import Outboxes
from gateways.session.routing import Claims, Fences, Watches
from gateways.session.stream import GOODBYE_TIMEOUT, Link

log = structlog.get_logger(__name__)

RESOLVE_INTERVAL = 15.0
"""Seconds between two looks at the configured names, before jitter."""
TICK = 1.0
"""Seconds between two looks for Watches that were not renewed."""
UNREACHABLE_AFTER = 3
"""Failures in a row after which other ways to a replica are tried."""
MAX_QUERIES = 1_024
ASK_AGAIN = 1.5
"""Seconds after which a baseline question that was not answered is asked again."""


class Unavailable(Exception):
    """No replica can be asked now; the message says why."""


class Session:
    """Streams to all replicas; report and baseline go up, orders and Watches come down to the tunnel."""

    def __init__(self, hello: m.Hello, endpoints: Sequence[str]) -> None:
        self._hello = hello
        self._endpoints = tuple(endpoints)
        self._tunnel: m.Tunnel | None = None
        self._directory = Directory()
        self._fences = Fences()
        self._claims = Claims()
        self._watches = Watches()
        self._orders = Orders(self._send)
        self._acknowledged = asyncio.Event()
        self._tunnel_state: m.TunnelState | None = None
        self._group: asyncio.TaskGroup | None = None
        self._links: dict[str, tuple[Link, asyncio.Task[None]]] = {}
        self._serving: dict[str, Link] = {}
        self._outboxes = Outboxes(self._settled)
        self._queries: dict[str, asyncio.Future[tuple[BaselineModule, ...]]] = {}

    @property
    def connected(self) -> int:
        """How many replicas have a welcomed stream."""
        return len(self._serving)

    async def run(self, tunnel: m.Tunnel) -> NoReturn:
        """Keep streams to all replicas and serve them with the tunnel, until cancelled."""
        self._tunnel = tunnel
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                group.create_task(self._resolve_for_ever(), name="resolve endpoints")
                group.create_task(self._expire_for_ever(), name="expire watches")
        finally:
            self._group = None
            await self._orders.cancel()
        raise AssertionError("its tasks never end by themselves")

    async def close(self, timeout: float) -> None:
        """Take no more orders, let those under way finish or report them as unknown, flush, say Goodbye."""
        deadline = asyncio.get_running_loop().time() + timeout
        await self._orders.close(timeout * 0.7)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(deadline):
                await self._all_acknowledged()
        links = list(self._links.values())
        for link, _ in links:
            link.say_goodbye("the gateway ends")
        if self._serving:
            await asyncio.wait([task for _, task in links], timeout=GOODBYE_TIMEOUT)

    async def _all_acknowledged(self) -> None:
        while any((outbox := self._outboxes.get(r)) is not None and not outbox.idle for r in self._serving):
            self._acknowledged.clear()
            await self._acknowledged.wait()

    def report(self, base: str, fact: m.Fact) -> bool:
        """Queue a fact for the replicas that it concerns; False when none can be told."""
        report = m.Report(base, fact, time.time())
        if isinstance(fact, m.TunnelState):
            self._tunnel_state = fact
        queued = False
        for replica in self._concerned(base, fact):
            outbox = self._outboxes.get(replica)
            if outbox is not None and outbox.put(report, time.monotonic()):
                self._serving[replica].wake()
                queued = True
        REPORTS.labels(kind=type(fact).__name__, queued=str(queued).lower()).inc()
        return queued

    async def baseline(self, metadata: Metadata) -> tuple[BaselineModule, ...]:
        """Ask which modules a base should start with; the caller bounds the wait. Raises Unavailable."""
        if len(self._queries) >= MAX_QUERIES:
            raise Unavailable("too many baseline questions wait for an answer")
        query_id = uuid.uuid4().hex
        answer: asyncio.Future[tuple[BaselineModule, ...]] = asyncio.get_running_loop().create_future()
        query = m.BaselineQuery(query_id, metadata.name, metadata.version, metadata.cluster_name)
        self._queries[query_id] = answer
        try:
            modules = await self._answered(metadata.identity, query, answer)
        finally:
            del self._queries[query_id]
            self._outboxes.withdraw(query_id)
        self._orders.installs.note_baseline(metadata.identity, query_id, modules, asyncio.get_running_loop().time())
        return modules

    async def _answered(
        self, base: str, query: m.BaselineQuery, answer: asyncio.Future[tuple[BaselineModule, ...]]
    ) -> tuple[BaselineModule, ...]:
        """Ask until there is an answer. Raises Unavailable."""
        while True:
            if not self.report(base, query):
                raise Unavailable("no control plane replica is connected")
            # Of replicas that are asked together one answers at first; asked again, all that can.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ASK_AGAIN):
                    return await asyncio.shield(answer)
            self._outboxes.withdraw(query.query_id)

    def _concerned(self, base: str, fact: m.Fact) -> list[str]:
        """Return who gets a fact: its watcher for answers to polls, else the base's owner, else everybody."""
        if isinstance(fact, m.ModuleList | Health | m.PollFailed):
            watcher = self._watches.replica(base)
            if watcher is not None:
                return [watcher] if watcher in self._serving else []
        owner = None if isinstance(fact, m.TunnelState) else self._claims.owner(base)
        return [owner] if owner in self._serving else list(self._serving)

    # Calls of streams.

    def welcomed(self, link: Link, welcome: m.Welcome) -> Outbox | None:
        """Begin to serve a replica unless another stream does."""
        self._directory.answered(link.endpoint, welcome.replica)
        self._directory.members(welcome.replica, welcome.members)
        if welcome.replica in self._serving or link.endpoint not in self._directory.wanted():
            return None
        outbox = self._outboxes.open(welcome)
        self._serving[welcome.replica] = link
        self._directory.serves(link.endpoint, welcome.replica)
        self._watches.welcomed(welcome.replica, time.monotonic())
        STREAMS.set(len(self._serving))
        if self._tunnel_state is not None:
            outbox.put(m.Report("", self._tunnel_state, time.time()), time.monotonic())
        self._refresh()
        return outbox

    def received(self, link: Link, message: m.Downward) -> None:
        """Act on a message of a replica."""
        match message:
            case m.ReportsAck(seq):
                self._outboxes.acknowledged(link.replica, seq)
                self._acknowledged.set()
                link.wake()
            case m.Order():
                self._order(link.replica, message)
            case m.Watch():
                self._watch(link.replica, message)
            case m.Unwatch() | m.Claim() | m.Release():
                self._own(link.replica, message)
            case m.BaselineAnswer():
                answer = self._queries.get(message.query_id)
                if answer is not None and not answer.done():
                    answer.set_result(message.modules)
            case m.Members(members):
                self._directory.members(link.replica, members)
                self._refresh()
            case m.Drain(reason):
                log.info("replica drains", replica=link.replica, reason=reason)
                self._claims.lost(link.replica)
            case _:
                log.warning("message out of place", replica=link.replica, message=type(message).__name__)

    def unreadable(self, link: Link, order: MalformedOrder) -> None:
        """Refuse an order that could not be read."""
        refused = m.Refused(m.Refusal.INVALID, str(order))
        self._send(link.replica, m.OrderResult(order.order_id, order.base, refused))

    def ended(self, link: Link, failures: int) -> None:
        """Stop serving a replica."""
        if self._serving.get(link.replica) is link:
            del self._serving[link.replica]
            self._directory.ended(link.replica)
            self._claims.lost(link.replica)
            self._watches.lost(link.replica, time.monotonic())
            for base in self._outboxes.lost(link.replica, time.monotonic()):
                if (owner := self._claims.owner(base)) is not None and owner in self._serving:
                    self._hand_on(base, owner)
            STREAMS.set(len(self._serving))
        if failures >= UNREACHABLE_AFTER:
            self._directory.unreachable(link.endpoint)
        self._refresh()

    # Orders and Watches.

    def _order(self, replica: str, order: m.Order) -> None:
        assert self._tunnel is not None  # noqa: S101 - streams exist only while run has set it
        if not self._admit(replica, order, order.base, order.fence):
            why = f"a higher fence than {order.fence} was seen for this base"
            self._orders.refuse(replica, order, m.Refusal.STALE_FENCE, why)
        elif (outbox := self._outboxes.get(replica)) is None or not outbox.has_room:
            why = "too many results wait to be acknowledged"
            self._orders.refuse(replica, order, m.Refusal.BUSY, why)
        else:
            self._orders.take(replica, order, self._tunnel)

    def _send(self, replica: str, result: m.OrderResult) -> None:
        """Queue a result for who owns the base by now, else for who ordered it."""
        owner = self._claims.owner(result.base)
        taker = owner if owner is not None and owner in self._serving else replica
        self._outboxes.keep(taker, result)
        if taker in self._serving:
            self._serving[taker].wake()

    def _hand_on(self, base: str, owner: str) -> None:
        self._outboxes.hand_on(base, owner)
        self._serving[owner].wake()

    def _settled(self, item: Kept) -> None:
        """Tell the tunnel that it need not keep what an outcome came from."""
        if self._tunnel is not None:
            self._tunnel.settled(item)

    def _watch(self, replica: str, watch: m.Watch) -> None:
        if not self._admit(replica, watch, watch.base, watch.fence):
            return
        self._watches.put(replica, watch)
        self._outboxes.watched_anew(watch.base)
        WATCHED.set(len(self._watches))
        if self._tunnel is not None:
            self._tunnel.watch(watch)

    def _own(self, replica: str, message: m.Unwatch | m.Claim | m.Release) -> None:
        base, before = message.base, self._fences.highest(message.base)
        if not self._admit(replica, message, base, message.fence):
            return
        match message:
            case m.Unwatch():
                if self._watches.remove(base, replica):
                    self._unwatched(base)
            case m.Claim():
                self._claims.claim(base, replica)
                if before and message.fence > before:
                    # The last owner may have had no time to record what it installed.
                    for result in self._orders.installs.of(base, asyncio.get_running_loop().time()):
                        self._outboxes.keep(replica, result)
                self._hand_on(base, replica)
            case m.Release():
                self._claims.release(base, replica)
            case _ as never:
                assert_never(never)

    def _unwatched(self, base: str) -> None:
        self._outboxes.watched_anew(base)
        WATCHED.set(len(self._watches))
        if self._tunnel is not None:
            self._tunnel.unwatch(base)

    def _admit(
        self, replica: str, message: m.Order | m.Watch | m.Unwatch | m.Claim | m.Release, base: str, fence: int
    ) -> bool:
        if self._fences.admit(base, fence):
            return True
        STALE.labels(message=type(message).__name__).inc()
        log.info("stale fence refused", base=base, message=type(message).__name__, fence=fence)
        # It may be right all the same: a Lease that was made anew begins lower where its maker's clock is behind.
        seen = m.Report(base, m.FenceSeen(self._fences.highest(base)), time.time())
        outbox = self._outboxes.get(replica)
        if replica in self._serving and outbox is not None and outbox.put(seen, time.monotonic()):
            self._serving[replica].wake()
        return False

    # Streams.

    def _refresh(self) -> None:
        """Have streams to exactly the wanted endpoints."""
        if self._group is None:
            return
        wanted = self._directory.wanted()
        for endpoint in sorted(wanted - self._links.keys()):
            link = Link(endpoint, self._hello, self)
            task = self._group.create_task(link.run(), name=f"stream {endpoint}")
            self._links[endpoint] = (link, task)
            task.add_done_callback(functools.partial(self._unlink, endpoint))
        for endpoint in sorted(self._links.keys() - wanted):
            link, task = self._links[endpoint]
            if link.connected:
                link.say_goodbye("the replica is reached elsewhere")
            elif not link.ending:
                task.cancel()

    def _unlink(self, endpoint: str, _task: asyncio.Task[None]) -> None:
        del self._links[endpoint]

    async def _resolve_for_ever(self) -> NoReturn:
        told = False
        while True:
            found = await asyncio.gather(*(resolve(endpoint) for endpoint in self._endpoints))
            addresses = [address for addresses in found for address in addresses]
            if addresses:
                self._directory.configure(addresses)
            elif not told:
                log.warning("no address for the control plane", endpoints=self._endpoints)
            told = not addresses
            self._refresh()
            interval = RESOLVE_INTERVAL if self._serving else TICK
            await asyncio.sleep(interval * (0.75 + random.random() / 2))  # noqa: S311 - jitter

    async def _expire_for_ever(self) -> NoReturn:
        while True:
            await asyncio.sleep(TICK)
            now = time.monotonic()
            for base in self._watches.expire(now):
                log.info("no longer watched: its replica did not renew it", base=base)
                self._unwatched(base)
            self._outboxes.sweep(now, serving=len(self._serving))
