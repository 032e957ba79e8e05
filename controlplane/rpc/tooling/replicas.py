"""The other replicas, followed for what only they know: each holds live state for the VNodes that it owns.

There is one stream to each, opened when a tool asks and closed a while after the last one did. It begins with all that
the other one owns. What a broken one brought stays until its replica sent everything again: silence is no news.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

import structlog
from grpc import aio
from koupleless.modulecontroller.v1 import module_controller_pb2 as pb
from koupleless.replica.v1 import replica_pb2 as rpb
from koupleless.replica.v1.replica_pb2_grpc import ReplicaServiceStub

from controlplane.app.changes import wait_at_most
from controlplane.app.metrics import REPLICA_QUESTIONS
from controlplane.app.ownership.membership import Membership
from controlplane.app.tooling.vnodes import VNodes
from controlplane.domain.backoff import Backoff
from controlplane.domain.ownership.replicas import Replica
from controlplane.rpc.tooling.events import Events
from controlplane.rpc.tooling.index import Entry, Index
from grpcclient.access import ClientAccess, NoAccess, Options
from service.wording import plain

log = structlog.get_logger(__name__)

SYNC_WITHIN = 2.0
"""Seconds that the other replicas are given to answer."""

IDLE = 60.0
"""Seconds without a question after which streams are closed."""

MOST_MODULES = 200_000
"""Modules of one replica that are kept."""

REOPEN = Backoff(first=0.1, longest=2.5, jitter=1.0)

_OPTIONS: Options = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
)


class ReplicaLink:
    """One other replica; trouble says why it cannot be asked, empty when it can."""

    def __init__(
        self, replica: Replica, index: Index, events: Events, changed: asyncio.Event, access: ClientAccess
    ) -> None:
        self.replica = replica
        self._access = access
        self.trouble = "" if replica.address else "it has no address; set POD_IP or ADVERTISE_ADDRESS"
        self.gateways: Sequence[pb.Gateway] = ()
        self._index = index
        self._events = events
        self._changed = changed
        self._wanted = self._settled = 0
        """The last sync that was asked for, and up to which one all were answered or failed."""
        self._failures = 0
        self._asked = asyncio.Event()
        self.task: asyncio.Task[None]
        """Follows it."""

    def ask(self, sync: int) -> None:
        """Have the other replica answer when it has sent all that is so now."""
        self._wanted = sync
        self._asked.set()

    def settled(self, sync: int) -> bool:
        """Return whether this sync was answered, or cannot be."""
        return not self.replica.address or self._settled >= sync

    def fail(self, trouble: str) -> None:
        """Note why the other replica did not answer, and log it once."""
        REPLICA_QUESTIONS.labels("unreachable").inc()
        if not self.trouble:
            log.warning("replica cannot be asked for what it owns", replica=self.replica.id, cause=trouble)
        self._stands(trouble, self._wanted)

    async def follow(self) -> None:
        """Read the stream, and open it again when it breaks or somebody asks, until cancelled."""
        while self.replica.address:
            try:
                async with self._access.channel(self.replica.address, _OPTIONS) as channel:
                    broken = await self._read(channel)
            except NoAccess as error:
                broken = str(error)
            except Exception:
                # Whatever another replica sends must not end this one.
                log.exception("stream of a replica not followed", replica=self.replica.id)
                broken = "what it sends cannot be used; the log says why"
            self.fail(broken)
            self._failures += 1
            self._asked.clear()
            await wait_at_most(REOPEN.delay(self._failures, random.random()), self._asked)  # noqa: S311 - jitter

    async def _read(self, channel: aio.Channel) -> str:
        """Read one stream to its end; return why it broke."""
        name, fresh, modules = self.replica.id, dict[str, Entry](), 0
        complete = False
        call = ReplicaServiceStub(channel).Follow(
            self._questions(), metadata=self._access.metadata(self.replica.address)
        )
        try:
            async for message in call:
                match message.WhichOneof("message"):
                    case "vnode":
                        owned = message.vnode
                        entry = Entry(owned.vnode, tuple(owned.modules), tuple(owned.operations))
                        modules += len(entry.modules)
                        if complete:
                            self._index.put(name, owned.vnode.name, entry)
                        elif modules <= MOST_MODULES:
                            fresh[owned.vnode.name] = entry
                        else:
                            return f"it has more than {MOST_MODULES} modules"
                    case "gone":
                        self._index.put(name, message.gone, None)
                    case "event":
                        self._events.put(name, message.event)
                    case "synced":
                        if not complete:
                            complete = True
                            self._index.replace(name, fresh)
                        self._take(message.synced)
        except aio.AioRpcError as error:
            return f"{error.code().name}: {plain(error.details() or '')[:200]}"
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # gRPC raises this, too, where a channel was closed.
            return "its channel was closed"
        finally:
            call.cancel()
        return "its stream ended"

    async def _questions(self) -> AsyncIterator[rpb.FollowRequest]:
        while True:
            self._asked.clear()
            yield rpb.FollowRequest(sync=self._wanted)
            await self._asked.wait()

    def _take(self, synced: rpb.Synced) -> None:
        REPLICA_QUESTIONS.labels("answered").inc()
        self.gateways = tuple(synced.gateways)
        self._index.seen(self.replica.id, synced.last_seen, synced.usage)
        self._failures = 0
        if self.trouble:
            log.info("replica can be asked again", replica=self.replica.id)
        self._stands("", synced.number)

    def _stands(self, trouble: str, settled: int) -> None:
        self._settled = max(self._settled, min(settled, self._wanted))
        if bool(trouble) is not bool(self.trouble):
            self._index.changed.nudge()
        self.trouble = trouble
        self._changed.set()


class ReplicaLinks:
    """The streams to all other replicas that live."""

    def __init__(self, members: Membership, vnodes: VNodes, index: Index, events: Events, access: ClientAccess) -> None:
        self._access = access
        self._members = members
        self._vnodes = vnodes
        self._index = index
        self._events = events
        self._group: asyncio.TaskGroup | None = None
        self._links: dict[Replica, ReplicaLink] = {}
        self._sync = 0
        self._users = 0
        self._used_at = float("-inf")
        self._changed = asyncio.Event()
        """A link was answered or failed."""
        self._look = asyncio.Event()
        members.subscribe(self._look.set)

    @contextmanager
    def kept_open(self) -> Iterator[None]:
        """Keep the streams open for as long as the context lasts."""
        self._users += 1
        try:
            yield
        finally:
            self._users -= 1

    async def sync(self, within: float = SYNC_WITHIN) -> None:
        """Have all others send what is so now, or find out that they cannot be asked; takes so many seconds at most."""
        self._used_at = asyncio.get_running_loop().time()
        self._reconcile()
        self._sync += 1
        sync, links = self._sync, tuple(self._links.values())
        for link in links:
            link.ask(sync)
        try:
            async with asyncio.timeout(within):
                while not all(link.settled(sync) for link in links):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            for link in links:
                if not link.settled(sync):
                    link.fail("no answer in time")

    def unreachable(self, vnode: str = "") -> tuple[str, ...]:
        """Return who cannot be asked: others that live, and whoever holds the Leases of VNodes, or of one."""
        asked = {link.replica.id for link in self._links.values() if not link.trouble}
        if vnode:
            lease = self._vnodes.lease(vnode)
            holders = {lease.holder} - {""} if lease is not None else set()
        else:
            holders = set(self._vnodes.held.counts)
        return tuple(sorted({*self.silent()} | holders - asked - {self._members.me}))

    def silent(self) -> tuple[str, ...]:
        """Return which others that live cannot be asked."""
        return tuple(sorted(link.replica.id for link in self._links.values() if link.trouble))

    def gateways(self) -> Iterator[pb.Gateway]:
        """Iterate over the gateways of the others, as they were at the last sync."""
        return (gateway for link in self._links.values() if not link.trouble for gateway in link.gateways)

    async def run(self) -> NoReturn:
        """Open and close streams as replicas come and go, and as they are used."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            while True:
                self._look.clear()
                self._reconcile()
                await wait_at_most(IDLE / 4, self._look)
        raise AssertionError("links are followed until cancelled")

    def _reconcile(self) -> None:
        group = self._group
        if group is None:
            return
        living = {one.id: one.address for one in self._members.replicas() if one.id != self._members.me}
        used = self._users or asyncio.get_running_loop().time() - self._used_at < IDLE
        # As id and address: what else changes of a replica does not concern its stream.
        wanted = {Replica(name, address) for name, address in living.items()} if used else set()
        for replica in self._links.keys() - wanted:
            self._links.pop(replica).task.cancel()
            if not used:
                self._index.forget(replica.id)
            elif replica.id not in living:
                self._index.gone(replica.id)
        for replica in wanted - self._links.keys():
            link = self._links[replica] = ReplicaLink(replica, self._index, self._events, self._changed, self._access)
            link.task = group.create_task(link.follow(), name=f"follow-{replica.id}")
        self._index.changed.nudge()
