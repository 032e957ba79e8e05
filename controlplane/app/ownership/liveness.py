"""Who else lives: the member leases of all replicas, as this one sees them.

Nobody is counted as gone on what was seen while this replica was itself cut off, and never without a look at the record
in the cluster itself. Who was gone may be back before this replica sees it: ``gone`` speaks only of what its holder did
not touch since that look.
"""

import asyncio
from collections.abc import Callable

import structlog

from controlplane.app.metrics import REPLICAS, WRITES
from controlplane.app.ports import Clock, Cluster, ClusterError
from controlplane.domain import contract
from controlplane.domain.objects import Lease
from controlplane.domain.ownership import replicas
from controlplane.domain.ownership.lease import Mark, mark
from controlplane.domain.ownership.member import Member
from controlplane.domain.ownership.replicas import Replica

log = structlog.get_logger(__name__)

READ_WITHIN = 4.0
"""Seconds that the look at a record in the cluster may take."""
FORGET_AFTER = 3600.0
"""Seconds after which the record of a replica that is gone is removed."""


class ReplicaLiveness:
    """Keeps count of the replicas. look_now is set when it is worth looking at once."""

    def __init__(self, cluster: Cluster, clock: Clock, member: Member) -> None:
        self._cluster = cluster
        self._clock = clock
        self._member = member
        self._seen: dict[str, tuple[Mark, float]] = {}
        self._gone: dict[str, float] = {}
        """When the look began that found a replica gone."""
        self._doubted: set[str] = set()
        self._changed_at = float("-inf")
        self._handlers: list[Callable[[], None]] = []
        self.known: tuple[Replica, ...] = ()
        """All that live, this one included once it joined, by name."""
        self.look_now = asyncio.Event()
        cluster.members.subscribe(self._observe)

    def gone(self, holder: str, unchanged_since: float = float("-inf")) -> bool:
        """Return whether a holder is a replica of ours that ended or stopped acting; unknown holders are not.

        unchanged_since is when what it holds was last seen to change. If that is later than our look at its member
        lease, it may have come back: it is looked at again.
        """
        found = self._gone.get(holder)
        if found is None:
            return False
        if unchanged_since > found:
            self._doubted.add(holder)
            self.look_now.set()
            return False
        return True

    def unchanged_for(self) -> float:
        """Return for how many seconds the same replicas have lived, drained and reached the same tunnels."""
        return self._clock.monotonic() - self._changed_at

    def subscribe(self, handler: Callable[[], None]) -> None:
        """Call handler whenever a replica came, went, or changed its record."""
        self._handlers.append(handler)

    async def look(self, since: float, mine: Callable[[str], bool]) -> float | None:
        """Look at all others; return when the next one of them can be gone without news.

        since is since when their silence counts. mine says whether a record that is of no use any more is this
        replica's to remove.
        """
        now = self._clock.monotonic()
        times: list[float] = []
        for replica, lease in self._records().items():
            if replica == self._member.replica:
                continue
            if replica in self._gone and replica not in self._doubted:
                if mine(lease.name):
                    await self._forget(replica, lease, now)
                continue
            seen = self._seen.get(self._member.key(replica))
            if seen is None:
                # Removed while we looked at another one.
                continue
            lasts = (lease.duration_seconds or replicas.DURATION) if lease.holder else 0.0
            expires_at = max(seen[1], since) + lasts
            if lease.holder and expires_at > now:
                times.append(expires_at)
            elif not await self._find_gone(replica, lease):
                times.append(now)
        return min(times, default=None)

    async def _find_gone(self, replica: str, lease: Lease) -> bool:
        """Count a replica as gone if the cluster itself says so; return whether it is."""
        began = self._clock.monotonic()
        self._doubted.discard(replica)
        if not await self._confirmed(lease):
            self._gone.pop(replica, None)
            self._changed()
            return False
        if mark(self._cluster.members.get(self._member.key(replica)) or lease) != mark(lease):
            return False
        if replica in self._gone:
            self._gone[replica] = began
            self.notify()
        else:
            log.warning("replica is gone", replica=replica)
            self._gone[replica] = began
            self._changed()
        return True

    async def _confirmed(self, lease: Lease) -> bool:
        """Look at the record in the cluster itself: the watch may lag behind."""
        try:
            async with asyncio.timeout(READ_WITHIN):
                current = await self._cluster.read_lease(lease)
        except (ClusterError, TimeoutError):
            return False
        return mark(current) == mark(lease)

    async def _forget(self, replica: str, lease: Lease, now: float) -> None:
        if now - self._gone[replica] < FORGET_AFTER:
            return
        if any(held.holder == replica for held in self._cluster.leases.all()):
            return
        try:
            WRITES.labels("member-forget").inc()
            await self._cluster.delete_lease(lease)
        except ClusterError as error:
            log.debug("member lease not removed", replica=replica, cause=str(error))
            self._gone[replica] = now

    def _records(self) -> dict[str, Lease]:
        """Return the member leases by replica; what merely has their label does not count."""
        return {
            replica: lease for lease in self._cluster.members.all() if (replica := _replica(lease.name)) is not None
        }

    def _observe(self, key: str) -> None:
        replica = _replica(key.partition("/")[2])
        if replica is None:
            return
        lease = self._cluster.members.get(key)
        if lease is None:
            # Nobody says any more when it stopped acting: the leases of its bases run out by themselves.
            self._seen.pop(key, None)
            self._gone.pop(replica, None)
            self._doubted.discard(replica)
        elif key not in self._seen or self._seen[key][0] != mark(lease):
            self._seen[key] = (mark(lease), self._clock.monotonic())
            self._gone.pop(replica, None)
            if not lease.holder:
                self.look_now.set()
        self._changed()

    def _changed(self) -> None:
        living = (replicas.replica_of(lease) for name, lease in self._records().items() if name not in self._gone)
        known = tuple(sorted(living, key=lambda replica: replica.id))
        if known != self.known:
            self.known = known
            self._changed_at = self._clock.monotonic()
            REPLICAS.set(len(known))
            self.notify()

    def notify(self) -> None:
        """Call all handlers."""
        for handler in self._handlers:
            handler()


def _replica(name: str) -> str | None:
    """Return whose member lease has that name, None if it is no such name."""
    replica = name.removeprefix(contract.MEMBER_LEASE_PREFIX)
    return replica if replica not in ("", name) else None
