"""This replica among the others: keeps its member lease, and may act while it could renew it.

Guarantee: ``may_act`` is true only while no correct replica can count this one as gone. ``liveness`` says who else
lives.
"""

import asyncio
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field, replace
from random import Random
from typing import NoReturn

import structlog

from controlplane.app.changes import synced, wait_at_most
from controlplane.app.events import Recorder
from controlplane.app.metrics import MEMBER_RENEWAL_DELAY, SELF_FENCED, WRITES
from controlplane.app.ownership.liveness import ReplicaLiveness
from controlplane.app.ports import AlreadyExists, Clock, Cluster, ClusterError, Conflict, NotFound
from controlplane.domain import contract
from controlplane.domain.objects import Lease
from controlplane.domain.ownership import replicas
from controlplane.domain.ownership.lease import mark
from controlplane.domain.ownership.member import Member
from controlplane.domain.ownership.replicas import Replica
from controlplane.domain.remarks import Remark
from controlplane.domain.times import micro_time

log = structlog.get_logger(__name__)

LOOK = 0.25
"""Seconds between looks at least."""
RENEW_WITHIN = 4.0
"""Seconds that one write of the member lease may take; then it is tried again."""
RETRY = 0.4
"""Seconds between tries to renew, before jitter: few fit into the time until this replica stops acting."""
LEAVE_TRIES = 3
"""Tries to release the member lease at the end; only somebody else who writes it makes more than one needed."""


class NameTaken(Exception):
    """Another process has this replica's name; the message says what to do."""


@dataclass
class Membership:
    """Keeps this replica's member lease.

    sole says that the cluster can have no other process, so that whoever holds the record is dead. joined is set once
    this replica is one of the members.
    """

    cluster: Cluster
    clock: Clock
    member: Member
    recorder: Recorder
    _: KW_ONLY
    random: Random
    sole: bool = False
    joined: asyncio.Event = field(default_factory=asyncio.Event)
    _lease: Lease | None = None
    _leaving: bool = False
    _renewed_at: float = float("-inf")
    _acting_since: float | None = None
    _failure: str = ""
    """Why the last renewal failed, empty if it did not."""
    _unbroken_since: float = float("-inf")
    _tunnels: frozenset[str] = frozenset()
    _renew_now: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._liveness = ReplicaLiveness(self.cluster, self.clock, self.member)
        self.cluster.members.subscribe(self._look_at_own)

    # What others read.

    @property
    def me(self) -> str:
        """The name of this replica."""
        return self.member.replica

    @property
    def self(self) -> Replica:
        """This replica, whether it has joined or not."""
        known = next((replica for replica in self._liveness.known if replica.id == self.me), None)
        return known or Replica(self.me, self.member.address, tunnels=self._tunnels)

    def may_act(self) -> bool:
        """Return whether this replica may write for its bases and send orders."""
        return self._lease is not None and replicas.may_act(now=self.clock.monotonic(), renewed_at=self._renewed_at)

    def heard_since(self) -> float | None:
        """Return since when silence of others counts, on the monotonic clock: None while this replica is cut off."""
        return self._acting_since if self.may_act() else None

    def unbroken_since(self) -> float:
        """Return since when nobody can have counted this replica as gone, on the monotonic clock."""
        return self._unbroken_since

    def replicas(self) -> tuple[Replica, ...]:
        """Return all that live, this one included, by name."""
        return self._liveness.known

    def takers(self, tunnel: str = "") -> tuple[str, ...]:
        """Return who takes bases of a tunnel."""
        return replicas.takers(self._liveness.known, tunnel)

    def gone(self, holder: str, unchanged_since: float = float("-inf")) -> bool:
        """Return whether a holder is a replica of ours that ended or stopped acting; see ReplicaLiveness.gone."""
        return self._liveness.gone(holder, unchanged_since)

    def unchanged_for(self) -> float:
        """Return for how many seconds the same replicas have lived, drained and reached the same tunnels.

        Time in which this replica was cut off does not count: it would not have seen a change.
        """
        since = self.heard_since()
        return 0.0 if since is None else min(self._liveness.unchanged_for(), self.clock.monotonic() - since)

    def mine(self, key: str) -> bool:
        """Return whether something that one replica does for all, named by key, is this one's to do."""
        takers = self.takers()
        return self.may_act() and self.me in takers and replicas.rank(self.me, key, takers) == 0

    def subscribe(self, handler: Callable[[], None]) -> None:
        """Call handler whenever a replica came, went or changed its record, and when this one acts again."""
        self._liveness.subscribe(handler)

    # What this replica says of itself.

    def tell_tunnels(self, tunnels: frozenset[str]) -> None:
        """Have the record say of which tunnels gateways are connected."""
        if tunnels != self._tunnels:
            self._tunnels = tunnels
            self._renew_now.set()

    async def drain(self, replica: str, *, draining: bool, user: str) -> None:
        """Have a replica give its bases away and take none, or take some again; raises ClusterError.

        user is who asked for it.
        """
        lease = self.cluster.members.get(self.member.key(replica))
        if lease is None:
            raise NotFound(f"there is no replica {replica}")
        WRITES.labels("member-drain").inc()
        word = {
            contract.ANNOTATION_REPLICA_DRAINING: str(draining).lower(),
            contract.ANNOTATION_REQUESTED_BY: user,
        }
        await self.cluster.annotate_lease(lease, word)

    # Life.

    async def run(self) -> NoReturn:
        """Join, then stay a member, until cancelled. Raises NameTaken, in a group once this has joined."""
        await synced(self.cluster.members)
        await self._join()
        self.joined.set()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._stay(), name="member-renewal")
            group.create_task(self._watch(), name="member-watch")
        raise AssertionError("members never return")

    async def leave(self) -> None:
        """Say that this replica stopped acting, so that others take over at once; failures leave that to the expiry."""
        if self._lease is None:
            return
        self._leaving = True
        self._renewed_at = float("-inf")
        cause = ""
        for _ in range(LEAVE_TRIES):
            current = self.cluster.members.get(self.member.key()) or self._lease
            if not self.member.wrote(current):
                # While this process stood still another one followed under its name.
                return
            try:
                WRITES.labels("member-release").inc()
                async with asyncio.timeout(RENEW_WITHIN):
                    await self.cluster.update_lease(replace(current, holder="", renew_time=self._stamp()))
            except NotFound:
                return
            except (ClusterError, TimeoutError) as error:
                cause = str(error) or "no answer in time"
                if not isinstance(error, Conflict):
                    break
            else:
                return
        log.warning("member lease not released: others wait until it expires", cause=cause)

    async def _join(self) -> None:
        key, first_seen, waiting = self.member.key(), None, False
        began = heard_since = self.clock.monotonic()
        while True:
            now = self.clock.monotonic()
            current = self.cluster.members.get(key)
            if current is None and waiting and now - began < replicas.DURATION:
                # Somebody removed the record; whoever lives under this name writes it again.
                await asyncio.sleep(LOOK)
                continue
            if current is not None and current.holder and not self.member.wrote(current) and not self.sole:
                first_seen = first_seen or mark(current)
                if mark(current) != first_seen:
                    raise NameTaken(self.member.why_taken(current))
                if now - began < (current.duration_seconds or replicas.DURATION):
                    if not waiting:
                        log.info("an earlier process of this name may still live: waiting", lease=key)
                    waiting = True
                    await asyncio.sleep(LOOK)
                    continue
            try:
                WRITES.labels("member-join").inc()
                await self._write(self.member.fresh(current, self._stamp(), self._tunnels))
            except (AlreadyExists, Conflict):
                await asyncio.sleep(LOOK * (0.5 + self.random.random()))
            except (ClusterError, TimeoutError) as error:
                log.warning("member lease not written", cause=str(error) or "no answer in time")
                await asyncio.sleep(RETRY * (1 + self.random.random()))
                heard_since = self.clock.monotonic()
            else:
                self._acting_since = heard_since
                log.info("replica joined", lease=key, replicas=[r.id for r in self._liveness.known])
                return

    async def _stay(self) -> NoReturn:
        due = self.clock.monotonic() + self._jittered()
        while True:
            await self._until(due, self._renew_now)
            self._renew_now.clear()
            if self._leaving:
                await asyncio.get_running_loop().create_future()
            MEMBER_RENEWAL_DELAY.observe(max(self.clock.monotonic() - due, 0.0))
            due = await self._renew()

    async def _renew(self) -> float:
        """Renew once; return when to do so again. Raises NameTaken."""
        began = self.clock.monotonic()
        current = self.cluster.members.get(self.member.key())
        if current is not None and not self.member.wrote(current):
            raise NameTaken(self.member.why_taken(current))
        if current is not None and current.holder != self.me:
            # Somebody else released it: the others may take our bases at once.
            self._renewed_at = float("-inf")
        self._notice_lapse()
        renewed_at = self._renewed_at
        try:
            WRITES.labels("member-renew").inc()
            await self._write(self.member.renewed(current, self._stamp(), self._tunnels))
        except (ClusterError, TimeoutError) as error:
            # A conflict is our own earlier write, or a drain; the next look has the record as it is.
            if not isinstance(error, AlreadyExists | Conflict):
                self._note_failure(str(error) or "no answer in time")
            return self.clock.monotonic() + RETRY * (0.5 + self.random.random())
        self._note_failure("")
        now = self.clock.monotonic()
        if not replicas.unbroken(now=now, renewed_at=renewed_at):
            self._notice_lapse(lapsed=True)
            self._unbroken_since = now
        if self._acting_since is None:
            self._acting_since = now
            self.recorder.replica(Remark(False, "ReplicaActs", "the member lease is renewed again"))
            self._liveness.notify()
        return began + self._jittered()

    def _note_failure(self, cause: str) -> None:
        """Log that renewals fail, once for each cause, and that they succeed again."""
        if cause == self._failure:
            return
        self._failure = cause
        if cause:
            log.warning("member lease not renewed", cause=cause)
        else:
            log.info("member lease renewed again")

    def _notice_lapse(self, *, lapsed: bool = False) -> None:
        """Take note that this replica stopped acting for a while, if it did."""
        if not self._leaving and self._acting_since is not None and (lapsed or not self.may_act()):
            self._acting_since = None
            SELF_FENCED.inc()
            message = "the member lease could not be renewed in time: nothing is done for bases until it is renewed"
            self.recorder.replica(Remark(True, "ReplicaCutOff", message))

    async def _write(self, lease: Lease) -> None:
        # Counted from before the write, so that we end before anyone else may begin.
        began = self.clock.monotonic()
        async with asyncio.timeout(RENEW_WITHIN):
            if lease.resource_version:
                self._lease = await self.cluster.update_lease(lease)
            else:
                self._lease = await self.cluster.create_lease(lease)
        self._renewed_at = began

    async def _watch(self) -> NoReturn:
        """Find out who is gone, and when this replica may act no more."""
        look_now = self._liveness.look_now
        while True:
            look_now.clear()
            self._notice_lapse()
            next_look, since = self.clock.monotonic() + LOOK, self.heard_since()
            if since is not None:
                lapse_at = self._renewed_at + replicas.SELF_FENCE_AFTER
                other_at = await self._liveness.look(since, self.mine)
                next_look = max(next_look, min(lapse_at, lapse_at if other_at is None else other_at))
            await self._until(next_look, look_now)

    def _look_at_own(self, key: str) -> None:
        """Another process that writes our record is found by the next renewal, which need not wait."""
        lease = self.cluster.members.get(key)
        if key != self.member.key() or lease is None or not self.joined.is_set():
            return
        if lease.holder != self.me or not self.member.wrote(lease):
            self._renew_now.set()

    def _jittered(self) -> float:
        return replicas.RENEW_INTERVAL * (0.9 + 0.2 * self.random.random())

    def _stamp(self) -> str:
        return micro_time(self.clock.wall())

    async def _until(self, at: float, or_at_once: asyncio.Event) -> None:
        await wait_at_most(max(at - self.clock.monotonic(), 0.0), or_at_once)
