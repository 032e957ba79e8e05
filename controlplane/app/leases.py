"""Begins, keeps and ends this replica's terms over bases, through their Leases.

Guarantee: a term is only reported as held while it was renewed recently enough
that no correct replica can have taken it. Non-guarantee: writes already on their
way when a term is lost may still land; the fence and the preconditions on them
make them harmless.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import NoReturn

import structlog

from controlplane.app.metrics import LEASE_RENEWAL_DELAY, LEASES_LOST, WRITES
from controlplane.app.ports import Clock, Cluster, ClusterError, Conflict, NotFound
from controlplane.domain import contract
from controlplane.domain import lease as rules
from controlplane.domain.identity import BaseId, node_name
from controlplane.domain.objects import Lease

log = structlog.get_logger(__name__)

RENEWERS = 32
RETRY_FIRST, RETRY_LONGEST = 0.5, 4.0


@dataclass(slots=True)
class Term:
    """One term of ownership; renewed_at is monotonic."""

    base: BaseId
    fence: int
    lease: Lease
    renewed_at: float
    failures: int = 0


class LeaseKeeper:
    """Owns the VNode leases of one replica.

    on_lost is called, synchronously, with each base whose lease somebody else took
    or deleted; on_overdue with the cause when the first of all leases could not be
    renewed in time, so that nothing is done for its base, and with None when one
    was renewed again.
    """

    def __init__(self, cluster: Cluster, clock: Clock, *, holder: str, env: str, random: Random) -> None:
        self._cluster = cluster
        self._clock = clock
        self._holder = holder
        self._env = env
        self._random = random
        self._terms: dict[BaseId, Term] = {}
        self._due: list[tuple[float, int, Term]] = []
        self._numbers = itertools.count()
        self._due_changed = asyncio.Event()
        self._seen: dict[str, tuple[tuple[str, int, str], float]] = {}
        self._fences: dict[BaseId, int] = {}
        self.on_lost: Callable[[BaseId], None] = lambda _base: None
        self.on_overdue: Callable[[str | None], None] = lambda _cause: None
        self._overdue = False
        cluster.leases.subscribe(self._observe)

    def fence(self, base: BaseId) -> int | None:
        """Return the fence of our term over a base, or None while we may not act for it."""
        term = self._terms.get(base)
        if term is None or not rules.may_act(now=self._clock.monotonic(), renewed_at=term.renewed_at):
            return None
        return term.fence

    def owner(self, base: BaseId) -> str:
        """Return who holds the lease of a base as far as we know."""
        lease = self._cluster.leases.get(self._key(base))
        return lease.holder if lease is not None else ""

    async def claim(self, base: BaseId) -> float:
        """Begin a term; return 0, or the seconds after which to try again. Raises ClusterError."""
        now = self._clock.monotonic()
        current = self._cluster.leases.get(self._key(base))
        self._observe(self._key(base))
        since = self._seen[self._key(base)][1] if current is not None else now
        decision = rules.claim(current, fresh=self._fresh(base), unchanged_for=now - since)
        if isinstance(decision, rules.Wait):
            return decision.seconds
        if isinstance(decision, rules.Create):
            WRITES.labels("lease-create").inc()
            held = await self._cluster.create_lease(decision.lease)
        else:
            WRITES.labels("lease-take").inc()
            held = await self._cluster.update_lease(decision.lease)
        # Counted from before the write, so that we end before anyone else may begin.
        term = Term(base, held.transitions, held, renewed_at=now)
        self._terms[base] = term
        self._fences[base] = held.transitions
        self._schedule(term, now + self._jittered())
        return 0.0

    async def end(self, base: BaseId) -> None:
        """End our term because the base is gone: delete its lease. Raises ClusterError."""
        term = self._terms.get(base)
        if term is None:
            return
        WRITES.labels("lease-delete").inc()
        try:
            await self._cluster.delete_lease(term.lease)
        except NotFound:
            pass
        except Conflict:
            if self._still_ours(term):
                raise
        self._terms.pop(base, None)
        self._fences.pop(base, None)

    async def run(self) -> NoReturn:
        """Renew the leases of all terms, each about every 10 s."""
        async with asyncio.TaskGroup() as group:
            queue: asyncio.Queue[Term] = asyncio.Queue(RENEWERS)
            for number in range(RENEWERS):
                group.create_task(self._renewer(queue), name=f"lease-renewer-{number}")
            while True:
                await queue.put(await self._next_due())
        raise AssertionError("lease renewers never return")

    async def _next_due(self) -> Term:
        while True:
            now = self._clock.monotonic()
            if self._due and self._due[0][0] <= now:
                due, _, term = heapq.heappop(self._due)
                if self._terms.get(term.base) is term:
                    LEASE_RENEWAL_DELAY.observe(now - due)
                    return term
                continue
            self._due_changed.clear()
            wait = self._due[0][0] - now if self._due else None
            try:
                async with asyncio.timeout(wait):
                    await self._due_changed.wait()
            except TimeoutError:
                pass

    async def _renewer(self, queue: asyncio.Queue[Term]) -> NoReturn:
        while True:
            await self._renew(await queue.get())

    async def _renew(self, term: Term) -> None:
        now = self._clock.monotonic()
        try:
            WRITES.labels("lease-renew").inc()
            term.lease = await self._cluster.update_lease(
                rules.renewed(term.lease, renew_time=micro_time(self._clock.wall()))
            )
        except Conflict:
            current = self._cluster.leases.get(self._key(term.base))
            if current is not None and self._still_ours(term):
                # Our own earlier write, or one that did not change the holder.
                term.lease = current
                self._retry(term)
            elif current is None:
                self._retry(term)
            else:
                self._lose(term, current.holder)
        except NotFound:
            self._lose(term, "nobody")
        except ClusterError as error:
            log.warning("lease not renewed", base=term.base, cause=str(error))
            if not self._overdue and self.fence(term.base) is None:
                self._overdue = True
                self.on_overdue(f"{term.base}: {error}")
            self._retry(term)
        else:
            if self._overdue:
                self._overdue = False
                self.on_overdue(None)
            term.renewed_at, term.failures = now, 0
            self._schedule(term, now + self._jittered())

    def _retry(self, term: Term) -> None:
        delay = min(RETRY_FIRST * 2**term.failures, RETRY_LONGEST) * (0.5 + self._random.random())
        term.failures = min(term.failures + 1, 16)
        self._schedule(term, self._clock.monotonic() + delay)

    def _lose(self, term: Term, holder: str) -> None:
        if self._terms.get(term.base) is not term:
            return
        log.warning("lease lost", base=term.base, holder=holder)
        LEASES_LOST.inc()
        del self._terms[term.base]
        self.on_lost(term.base)

    def _still_ours(self, term: Term) -> bool:
        return rules.held_by(self._cluster.leases.get(self._key(term.base)), self._holder, term.fence)

    def _schedule(self, term: Term, at: float) -> None:
        heapq.heappush(self._due, (at, next(self._numbers), term))
        self._due_changed.set()

    def _jittered(self) -> float:
        return rules.RENEW_INTERVAL * (0.9 + 0.2 * self._random.random())

    def _fresh(self, base: BaseId) -> Lease:
        wall = self._clock.wall()
        stamp = micro_time(wall)
        return Lease(
            namespace=contract.LEASE_NAMESPACE,
            name=node_name(base, self._env),
            resource_version="",
            holder=self._holder,
            duration_seconds=int(rules.DURATION),
            renew_time=stamp,
            acquire_time=stamp,
            transitions=rules.first_fence(wall, self._fences.get(base, 0)),
            labels={contract.COMPONENT: contract.COMPONENT_VNODE_LEASE, contract.ENV: self._env},
        )

    def _observe(self, key: str) -> None:
        lease = self._cluster.leases.get(key)
        if lease is None:
            self._seen.pop(key, None)
            return
        mark = (lease.holder, lease.transitions, lease.renew_time)
        if key not in self._seen or self._seen[key][0] != mark:
            self._seen[key] = (mark, self._clock.monotonic())

    def _key(self, base: BaseId) -> str:
        return f"{contract.LEASE_NAMESPACE}/{node_name(base, self._env)}"


def micro_time(seconds: float) -> str:
    """Return a time as Kubernetes writes MicroTime."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
