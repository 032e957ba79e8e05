"""Begins, keeps and ends this replica's terms over bases, through their Leases.

Guarantee: a term is only reported as held while it was renewed recently enough that no correct replica can have taken
it. Non-guarantee: writes already on their way when a term is lost may still land; the fence and the preconditions on
them make them harmless.
"""

import asyncio
import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from random import Random
from typing import NoReturn

import structlog

from controlplane.app.changes import Subscription, wait_at_most
from controlplane.app.events import Recorder
from controlplane.app.metrics import LEASE_RENEWAL_DELAY, LEASES_LOST, OWNED, WRITES
from controlplane.app.ownership.membership import Membership
from controlplane.app.ownership.records import LeaseRecords, are_worth_keeping
from controlplane.app.ports import Clock, Cluster, ClusterError, Conflict, NotFound, Transient
from controlplane.app.roster import Roster
from controlplane.domain import contract
from controlplane.domain.backoff import Backoff
from controlplane.domain.identity import BaseId, base_of_node, node_name
from controlplane.domain.objects import Lease
from controlplane.domain.ownership import lease as rules
from controlplane.domain.remarks import Remark
from controlplane.domain.times import micro_time

log = structlog.get_logger(__name__)

RENEWERS = 32
GIVE_TRIES = 3
TICK = 0.1
"""Seconds that a renewal may be early, so that those that are due soon go together: to wake up costs as much as one."""
RETRY = Backoff(first=0.25, longest=2.0, jitter=2.0)
"""Between attempts to renew a lease."""


@dataclass(slots=True)
class Term:
    """One term of ownership; renewed_at is monotonic."""

    base: BaseId
    fence: int
    lease: Lease
    renewed_at: float
    due: float = 0.0
    """When it is renewed next; what else is in the queue for it is void."""
    failures: int = 0
    ending: bool = False
    records: dict[str, str] = field(default_factory=dict)
    """The records that the lease is to have, by annotation (contract.LEASE_RECORDS)."""
    urgent: bool = False
    """A record is to be written at once, not along with the next renewal."""

    def news(self) -> dict[str, str]:
        """Return the annotations that the next write of the lease brings along."""
        return {name: text for name, text in self.records.items() if text != self.lease.annotations.get(name)}


@dataclass
class LeaseKeeper:
    """Owns the VNode leases of one replica; lost has the bases whose lease somebody else took or deleted."""

    cluster: Cluster
    clock: Clock
    members: Membership
    roster: Roster
    recorder: Recorder
    env: str
    random: Random
    times: rules.Times = rules.TIMES
    lost: Subscription[BaseId] = field(default_factory=Subscription)
    _terms: dict[BaseId, Term] = field(default_factory=dict)
    _due: list[tuple[float, int, Term]] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=count)
    _due_changed: asyncio.Event = field(default_factory=asyncio.Event)
    _overdue: bool = False

    def __post_init__(self) -> None:
        self._records = LeaseRecords(self.clock.monotonic)
        OWNED.set_function(lambda: self.owned)
        self.cluster.leases.subscribe(self._observe)
        self.members.subscribe(self._confirm)

    def fence(self, base: BaseId) -> int | None:
        """Return the fence of our term over a base, or None while we may not act for it.

        After the others may have counted this replica as gone its terms count only once they were renewed: others may
        have taken the leases meanwhile.
        """
        term = self._terms.get(base)
        if term is None or not self.members.may_act() or term.renewed_at < self.members.unbroken_since():
            return None
        return term.fence if rules.may_act(self.times, now=self.clock.monotonic(), renewed_at=term.renewed_at) else None

    @property
    def owned(self) -> int:
        """How many terms are under way."""
        return len(self._terms)

    def get(self, base: BaseId) -> Lease | None:
        """Return the lease of a base as far as we know."""
        return self.cluster.leases.get(self._key(base))

    def elsewhere(self, base: BaseId) -> bool:
        """Return whether a base is another live replica's, so that reports of it are not for us."""
        return self.members.joined.is_set() and self.get(base) is not None and self.wait(base) > 0

    def wait(self, base: BaseId) -> float:
        """Return the seconds until a base may be taken as far as we know, 0 when it may be now."""
        lease, me = self.get(base), self.members.me
        if lease is not None:
            unchanged_for = self._heard_for(self._records.unchanged_since(lease))
            return rules.wait(lease, me=me, unchanged_for=unchanged_for, holder_gone=self.orphaned(lease))
        if self.cluster.nodes.get(node_name(base, self.env)) is None:
            return 0.0
        last, since = self._records.last(self._key(base)), self._records.absent_since(self._key(base))
        gone = self.members.gone(last.holder, since) if last is not None else len(self.members.replicas()) < 2
        absent_for = self._heard_for(since)
        return rules.wait_without(last, me=me, times=self.times, absent_for=absent_for, holder_gone=gone)

    def orphaned(self, lease: Lease) -> bool:
        """Return whether the holder of a lease is gone as far as we know."""
        return self.members.gone(lease.holder, self._records.unchanged_since(lease))

    def _confirm(self) -> None:
        """Renew at once the leases that others may have taken while this replica was cut off."""
        now = self.clock.monotonic()
        for term in self._terms.values():
            if term.renewed_at < self.members.unbroken_since():
                self._schedule(term, now)

    def recorded(self, base: BaseId, name: str) -> str | None:
        """Return a record as the lease has it, None where it has none; name is one of contract.LEASE_RECORDS.

        Before a term begins it is the one that the term begins with.
        """
        term = self._terms.get(base)
        lease = term.lease if term is not None else self._claim(base)
        return lease.annotations.get(name)

    def record(self, base: BaseId, name: str, text: str, *, soon: bool = False) -> None:
        """Have the lease keep a record: written along with its next renewal, soon: with one now."""
        term = self._terms.get(base)
        if term is not None:
            term.records[name] = text
            if soon:
                term.urgent = True
                self._schedule(term, self.clock.monotonic())

    async def acquire(self, base: BaseId, *, above: int = 0, records: Mapping[str, str] | None = None) -> int:
        """Begin a term with a fence above that one and return it; 0 when somebody else has the base.

        records are those that the lease is to have from the beginning, by annotation. Raises ClusterError. Whether the
        term may be acted for by now is another question: the write may have taken long.
        """
        now = self.clock.monotonic()
        current = self.get(base)
        if not self.members.may_act():
            raise Transient("this replica is cut off from the cluster or from its member lease")
        if self.wait(base) > 0:
            return 0
        lease = self._claim(base)
        annotations = {**lease.annotations, **(records or {})}
        lease = replace(lease, transitions=max(lease.transitions, above + 1), annotations=annotations)
        WRITES.labels("lease-create" if current is None else "lease-take").inc()
        held = await (self.cluster.create_lease(lease) if current is None else self.cluster.update_lease(lease))
        before = self._terms.get(base)
        # Counted from before the write, so that we end before anyone else may begin.
        term = Term(base, held.transitions, held, renewed_at=now, records=before.records if before else {})
        self._terms[base] = term
        self._schedule(term, now + self._jittered())
        return term.fence

    async def give(self, base: BaseId, to: str) -> bool:
        """End our term over a base that nobody here acts for any more, in favour of another replica.

        Returns False where the lease is gone or somebody else's already. Raises ClusterError if it is still ours; the
        term is over in any case.
        """
        term = self._terms.pop(base, None)
        if term is None:
            return False
        for _ in range(GIVE_TRIES):
            try:
                await self._write(term, "lease-give", to)
            except NotFound:
                return False
            except Conflict:
                if not self._still_ours(term):
                    return False
                # A renewal that was under way.
                term.lease = self.get(base) or term.lease
            else:
                return True
        raise Conflict(f"somebody else keeps writing the lease: tried {GIVE_TRIES} times")

    def abandon(self) -> None:
        """End all terms without a word: this replica ends, and its member lease says so for all of them."""
        self._terms.clear()

    async def flush(self, within: float) -> None:
        """Write the records that wait for a renewal, as far as so many seconds allow: this replica ends."""
        waiting = [term for term in self._terms.values() if term.news()]
        room = asyncio.Semaphore(RENEWERS)

        async def write(term: Term) -> None:
            async with room:
                try:
                    await self._write(term, "lease-record", self.members.me)
                except ClusterError as error:
                    log.info("records of a base not written", base=term.base, cause=str(error))

        try:
            async with asyncio.timeout(within), asyncio.TaskGroup() as group:
                for term in waiting:
                    group.create_task(write(term), name=f"record-{term.base}")
        except TimeoutError:
            log.warning("records of bases not written in time", bases=len(waiting))

    async def end(self, base: BaseId) -> None:
        """End our term because the base is gone: delete its lease. Raises ClusterError.

        Where its records say anything they are kept, in a lease that nobody holds: the base may come back.
        """
        term = self._terms.get(base)
        if term is None:
            return
        term.ending = True
        try:
            if are_worth_keeping({**term.lease.annotations, **term.records}):
                await self._write(term, "lease-release", "")
            else:
                WRITES.labels("lease-delete").inc()
                await self.cluster.delete_lease(term.lease)
        except NotFound:
            pass
        except Conflict:
            if self._still_ours(term):
                raise
        finally:
            term.ending = False
        self._terms.pop(base, None)

    async def run(self) -> NoReturn:
        """Renew the leases of all terms."""
        async with asyncio.TaskGroup() as group:
            queue: asyncio.Queue[Term] = asyncio.Queue(RENEWERS)
            for number in range(RENEWERS):
                group.create_task(self._renewer(queue), name=f"lease-renewer-{number}")
            while True:
                await queue.put(await self._next_due())

    async def _next_due(self) -> Term:
        while True:
            now = self.clock.monotonic()
            if self._due and self._due[0][0] <= now + TICK:
                due, _, term = heapq.heappop(self._due)
                if self._terms.get(term.base) is term and term.due == due:
                    LEASE_RENEWAL_DELAY.observe(max(now - due, 0.0))
                    return term
                continue
            self._due_changed.clear()
            await wait_at_most(self._due[0][0] - now if self._due else None, self._due_changed)

    async def _renewer(self, queue: asyncio.Queue[Term]) -> NoReturn:
        while True:
            await self._renew(await queue.get())

    async def _renew(self, term: Term) -> None:
        now = self.clock.monotonic()
        term.urgent = False
        try:
            term.lease = await self._write(term, "lease-renew", self.members.me)
        except Conflict:
            current = self.get(term.base)
            if current is not None and not self._still_ours(term):
                self._lose(term, current.holder)
                return
            # Our own earlier write, or one that did not change the holder.
            term.lease = current or term.lease
            self._retry(term)
        except NotFound:
            self._lose(term, "nobody")
        except ClusterError as error:
            log.warning("lease not renewed", base=term.base, cause=str(error))
            if not self._overdue and self.fence(term.base) is None:
                self._overdue = True
                message = f"leases are not renewed in time, nothing is done for their bases: {term.base}: {error}"
                self.recorder.replica(Remark(True, "LeasesNotRenewed", message))
            self._retry(term)
        else:
            if self._overdue:
                self._overdue = False
                self.recorder.replica(Remark(False, "LeasesRenewed", "leases are renewed again"))
            suspended = self.fence(term.base) is None
            term.renewed_at, term.failures = now, 0
            if suspended:
                self.roster.touch(now, (term.base,))
            lasts = now >= self.members.unbroken_since() and not term.urgent
            self._schedule(term, now + self._jittered() if lasts else now)

    async def _write(self, term: Term, what: str, holder: str) -> Lease:
        """Write the lease of a term for a holder, with what is new of its records."""
        WRITES.labels(what).inc()
        written = replace(term.lease, holder=holder, renew_time=self._stamp(), annotations=term.news())
        return await self.cluster.update_lease(written)

    def _retry(self, term: Term) -> None:
        term.failures += 1
        self._schedule(term, self.clock.monotonic() + RETRY.delay(term.failures, self.random.random()))

    def _lose(self, term: Term, holder: str) -> None:
        if self._terms.get(term.base) is not term:
            return
        log.warning("lease lost", base=term.base, holder=holder)
        LEASES_LOST.inc()
        del self._terms[term.base]
        self._records.note(self._key(term.base), term.records)
        vnode = node_name(term.base, self.env)
        message = f"the lease of base {term.base} was taken: it is held by {holder or 'nobody'} now"
        self.recorder.node(self.cluster.nodes.get(vnode), vnode, Remark(True, "LeaseLost", message))
        self.lost.note(term.base)

    def _still_ours(self, term: Term) -> bool:
        lease = self.get(term.base)
        return lease is not None and (lease.holder, lease.transitions) == (self.members.me, term.fence)

    def _schedule(self, term: Term, at: float) -> None:
        term.due = at
        heapq.heappush(self._due, (at, next(self._numbers), term))
        self._due_changed.set()

    def _jittered(self) -> float:
        return self.times.renew_every * (0.95 + 0.15 * self.random.random())

    def _claim(self, base: BaseId) -> Lease:
        """Return the lease with which a term would begin now."""
        return rules.claim(self.get(base), fresh=self._fresh(base))

    def _fresh(self, base: BaseId) -> Lease:
        stamp = self._stamp()
        last = self._records.last(self._key(base))
        kept = last.annotations if last is not None else {}
        return Lease(
            namespace=contract.LEASE_NAMESPACE,
            name=node_name(base, self.env),
            resource_version="",
            holder=self.members.me,
            duration_seconds=self.times.duration,
            renew_time=stamp,
            acquire_time=stamp,
            transitions=rules.first_fence(self.clock.wall(), last.transitions if last is not None else 0),
            labels={contract.COMPONENT: contract.COMPONENT_VNODE_LEASE, contract.ENV: self.env},
            annotations={name: kept[name] for name in contract.LEASE_RECORDS if name in kept},
        )

    def _heard_for(self, since: float) -> float:
        """Return the seconds since then in which we could have seen a lease change."""
        heard_since = self.members.heard_since()
        return 0.0 if heard_since is None else self.clock.monotonic() - max(since, heard_since)

    def _observe(self, key: str) -> None:
        lease = self.cluster.leases.get(key)
        self._records.observe(key, lease)
        base = base_of_node(key.partition("/")[2], self.env)
        term = self._terms.get(base) if base is not None else None
        if term is not None and not term.ending and (lease is None or lease.holder != self.members.me):
            self._lose(term, lease.holder if lease is not None else "nobody")

    def _stamp(self) -> str:
        return micro_time(self.clock.wall())

    def _key(self, base: BaseId) -> str:
        return f"{contract.LEASE_NAMESPACE}/{node_name(base, self.env)}"
