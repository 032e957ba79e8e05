"""Who may act for a base: decisions about its Lease.

Expiry is judged by how long we have seen the record unchanged on our own monotonic clock, never by the times written in
it. ``transitions`` is the fence; it rises whenever a term of ownership begins, a restart of the same holder included,
so that orders of an earlier term can be recognised and refused:

    for all terms t1 before t2 of one base:  fence(t1) < fence(t2)
"""

from dataclasses import dataclass, replace

from controlplane.domain.contract import ANNOTATION_REPLICA_INSTANCE
from controlplane.domain.objects import Lease

OTHER_CLOCKS = 1.1
"""How many times as long as a holder may act one waits that has no word of it: clocks run at different rates."""
Mark = tuple[str, str, int, str]

DURATION = 40
"""Seconds that a lease lasts, as in the original."""
SELDOM_FROM = 60
"""Seconds that a lease lasts, from which on it is renewed less often."""


@dataclass(frozen=True, slots=True)
class Times:
    """How long a lease lasts and when it is renewed, in seconds. What counts for others stands in the lease itself."""

    duration: int = DURATION

    @property
    def renew_every(self) -> float:
        """Between renewals, before jitter: Kubernetes' node controller waits 40 s for one."""
        return 10.0 if self.duration < SELDOM_FROM else 20.0

    @property
    def self_fence_after(self) -> float:
        """Without a renewal, until the holder stops acting."""
        return self.duration * 2 / 3


TIMES = Times()


def wait(lease: Lease, *, me: str, unchanged_for: float, holder_gone: bool) -> float:
    """Return the seconds until the lease may be taken, 0 when it may be now.

    unchanged_for is how many seconds the record has been seen unchanged. holder_gone: its holder stopped acting for
    good: its member lease was released or expired. Our own lease is taken again at once, since no other process may use
    our name.
    """
    if lease.holder in ("", me) or holder_gone:
        return 0.0
    return max((lease.duration_seconds or DURATION) - unchanged_for, 0.0)


def wait_without(last: Lease | None, *, me: str, times: Times, absent_for: float, holder_gone: bool) -> float:
    """Return the seconds until a base with a Node whose lease somebody deleted may be taken, 0 when it may be now.

    Who held it may not know that it is gone, and acts until it has to renew it; or it is about to remove the Node as
    well. last is the lease as it was, None where it was never seen: then holder_gone says whether there is nobody who
    may have held it. absent_for is for how many seconds it has been seen to be gone.
    """
    if holder_gone or (last is not None and last.holder in ("", me)):
        return 0.0
    lasts = Times(last.duration_seconds or DURATION) if last is not None else times
    return max(lasts.self_fence_after * OTHER_CLOCKS - absent_for, 0.0)


def claim(lease: Lease | None, *, fresh: Lease) -> Lease:
    """Return the record with which fresh.holder begins a term over a base whose lease may be taken.

    fresh carries name, labels, holder, the times to write, and the fence with which a record that does not exist yet
    begins (see first_fence). Any other record has the resource version that is the precondition of its write.
    """
    if lease is None:
        return fresh
    return replace(
        lease,
        holder=fresh.holder,
        duration_seconds=fresh.duration_seconds,
        acquire_time=fresh.acquire_time,
        renew_time=fresh.renew_time,
        transitions=max(lease.transitions, 0) + 1,
    )


def mark(lease: Lease) -> Mark:
    """Return what changes with every renewal of any Lease, and only with the holder's word."""
    return lease.holder, lease.renew_time, lease.transitions, lease.annotations.get(ANNOTATION_REPLICA_INSTANCE, "")


def first_fence(wall: float, known: int) -> int:
    """Return the fence of a new record: above every fence known for the base, and above those that nobody remembers.

    A lease is deleted with its base; when the base returns, gateways may still know its old fence. Seconds since 2024
    outrun any number of takeovers, and fit the 32 bits that the API has for it.
    """
    return max(int(wall) - 1_704_067_200, known, 0) + 1


def may_act(times: Times, *, now: float, renewed_at: float) -> bool:
    """Return whether a holder that last renewed at renewed_at may still write and send orders."""
    return now - renewed_at < times.self_fence_after
